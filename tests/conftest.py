"""What all tests share: the same start for the processes they launch, and the same end."""

import collections
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from support import blocks, leftovers

# A run under nohup or in the background of a script hands an ignored SIGHUP or SIGINT on to every
# child, and a daemon that was started so goes on ignoring it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Who ends a run in good order lets it clean up, as with Ctrl-C; the watcher sees to the rest.
signal.signal(signal.SIGTERM, signal.default_int_handler)
leftovers.watch()

# No test depends on how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=("file", "swift", "s3"),
        default="file",
        help="where the sites of the functional tests put their images (default: file)",
    )
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql", "mysql"),
        default="sqlite",
        help="where functional tests and those of the registry keep records (default: sqlite)",
    )


@pytest.fixture(scope="session", autouse=True)
def _database_of_the_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start what `--database` needs."""
    kind = request.config.getoption("--database")
    if kind == "sqlite":
        yield
        return
    # It loads SQLAlchemy, which most tests do without.
    from support import databases

    with getattr(databases, kind)() as url:
        databases.Run.kind, databases.Run.server = kind, url
        yield
    databases.Run.server = None


#: How many tests a function stands for, and how many of them have passed in this process.
_made: collections.Counter[tuple[str, str]] = collections.Counter()
_passed: collections.Counter[tuple[str, str]] = collections.Counter()


def _function(item: pytest.Item) -> tuple[str, str]:
    return str(item.path), getattr(item, "originalname", item.name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _made.update(map(_function, items))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.when == "call" and report.passed:
        _passed[_function(item)] += 1
    return report


@pytest.fixture(scope="module", autouse=True)
def _takes_what_it_claims(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a module says that it runs blocks of a page (`support.blocks`), and does not."""
    yield
    runs = getattr(request.module, "RUNS", {})
    path = str(request.path)
    passed = [name for (file, name), count in _passed.items() if file == path and count]
    whole = [name for name in passed if _passed[path, name] >= _made[path, name]]
    untaken = blocks.untaken(path, runs, whole) if runs else []
    assert not untaken, "claimed in RUNS, but not taken from the page"

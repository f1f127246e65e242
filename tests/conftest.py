"""What all tests share: the same start for the processes they launch, and the same end."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest

from support import leftovers

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

"""What all tests share: the same start for the processes they launch, and the same end."""

import signal

import pytest

from support import leftovers

# A run under nohup hands an ignored SIGHUP on to every child, and a daemon that was started so
# goes on ignoring it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Who ends a run in good order lets it clean up, as with Ctrl-C; the watcher sees to the rest.
signal.signal(signal.SIGTERM, signal.default_int_handler)
leftovers.watch()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=("file", "swift", "s3"),
        default="file",
        help="where the sites of the functional tests put their images (default: file)",
    )

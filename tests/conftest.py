"""What all tests share: the same start for the processes they launch, and the same end."""

import signal

import pytest

from support import leftovers

# A run under nohup or in the background of a script hands an ignored SIGHUP or SIGINT on to every
# child, and a daemon that was started so goes on ignoring it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

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

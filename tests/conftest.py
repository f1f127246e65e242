"""What all tests share: the same start for the processes they launch, whoever runs the tests."""

import signal

import pytest

# A run under nohup hands an ignored SIGHUP on to every child, and a daemon that was started so
# goes on ignoring it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=("file", "swift", "s3"),
        default="file",
        help="where the sites of the functional tests put their images (default: file)",
    )

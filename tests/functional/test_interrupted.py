"""A run of the tests that is interrupted, told to end or killed leaves no process behind."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from support import daemons, leftovers
from support.faults import until

pytestmark = pytest.mark.full

ENDLESS = pathlib.Path(__file__).with_name("endless.py")
#: xdist gives its workers ten seconds, and the slowest machine may need as many again.
SECONDS = 60


@contextlib.contextmanager
def run(directory, *options):
    """Run the test that never ends; yield the run, and what the test tells of its processes."""
    told = directory / "told"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, ENDLESS]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--basetemp={directory / 'temporary'}"],
            cwd=daemons.ROOT,
            env={**os.environ, "GLANCE_TEST_TOLD": str(told)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: told.exists() or process.poll() is not None, "the daemons run", 2 * SECONDS)
        assert process.poll() is None, (directory / "output").read_text()
        yield process, json.loads(told.read_text())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def nothing_is_left(told):
    return not any(daemons.is_running(pid) for pid in told["pids"]) and not (
        leftovers.bearing(told["mark"])
    )


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, []),
        (signal.SIGTERM, []),
        (signal.SIGINT, ["-n1"]),
        (signal.SIGTERM, ["-n1"]),
        (signal.SIGKILL, ["-n1"]),
    ],
    ids=str,
)
def test_the_run_is_ended(tmp_path, number, options):
    with run(tmp_path, *options) as (process, told):
        assert leftovers.bearing(told["mark"]) >= set(told["pids"])
        process.send_signal(number)
        process.wait(SECONDS)
        until(lambda: nothing_is_left(told), "everything has ended", SECONDS)


def test_a_worker_of_the_run_is_killed(tmp_path):
    with run(tmp_path, "-n1") as (process, told):
        assert told["tests"] != process.pid
        os.kill(told["tests"], signal.SIGKILL)
        until(lambda: nothing_is_left(told), "everything has ended", SECONDS)
        assert process.wait(SECONDS) == 1

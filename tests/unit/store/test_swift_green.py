"""The Swift store once more, in a process that eventlet has patched, as the API's is."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

HERE = pathlib.Path(__file__).parent
CONFIGURATIONS = ("TestSwift", "TestSwiftWithStaticManifests")
# Of the sizes those that take more than one read: sockets and threads see no difference in others.
CASES = (
    "(every_byte and 4194321) or (leaves_nothing and not reader_that_raises)"
    " or (reader_that_raises and 6291456) or concurrent or memory or closed_early or repeated"
)


def test_the_swift_store_passes_its_suite_under_eventlet():
    suites = [f"{HERE / 'test_swift.py'}::{name}" for name in CONFIGURATIONS]
    stream = f"{HERE / 'test_swift_layout.py'}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", f"{CASES} or streams or a_kill_at_the_end", *suites, stream),
        ],
        env={**os.environ, "GLANCE_TEST_GREEN": "1"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout

"""The Swift store once more, in a process that eventlet has patched, as the API's is."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

HERE = pathlib.Path(__file__).parent
CASES = "every_byte or leaves_nothing or concurrent or memory or closed_early or repeated"


def test_the_swift_store_passes_its_suite_under_eventlet():
    suite = f"{HERE / 'test_swift.py'}::TestSwiftWithStaticManifests"
    stream = f"{HERE / 'test_swift_layout.py'}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", f"{CASES} or streams or a_kill_at_the_end", suite, stream),
        ],
        env={**os.environ, "GLANCE_TEST_GREEN": "1"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout

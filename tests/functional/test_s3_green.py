"""The S3 store once more, in a process that eventlet has patched, as the API's is."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

HERE = pathlib.Path(__file__).parent
CASES = "every_byte or leaves_nothing or concurrent or memory or closed_early or repeated"


def test_the_s3_store_passes_its_suite_under_eventlet():
    suite = f"{HERE / 'test_s3_store.py'}::TestSwiftInParts"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CASES, suite],
        env={**os.environ, "GLANCE_TEST_GREEN": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout

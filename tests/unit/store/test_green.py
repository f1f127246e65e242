"""The file store once more, in a process whose sockets, threads and files eventlet has patched."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

HERE = pathlib.Path(__file__).parent


def test_the_file_store_passes_its_suite_under_eventlet():
    suite = f"{HERE / 'test_filesystem.py'}::TestFileStore"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite],
        env={**os.environ, "GLANCE_TEST_GREEN": "1"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout

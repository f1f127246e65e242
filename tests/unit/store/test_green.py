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


HANDED_OVER = """
import eventlet; eventlet.monkey_patch()
import io, os, sys
from glance.common import config
from glance.registry import unfinished
from glance.store import base, filesystem
from glance.streaming import threads

store = filesystem.FilesystemStore(config.Conf({"filesystem_store_datadir": sys.argv[1]}))
notes = unfinished.Unfinished(store.local_directory)
jobs = []
submit = threads._Pool.submit
threads._Pool.submit = lambda pool, job: (jobs.append(job), submit(pool, job))
kept = notes.keep(unfinished.Note("1" * 32))
with kept.replacing(unfinished.Note("1" * 32, 7)):
    staged = store.stage("7", 5)
assert base.transfer(io.BytesIO(b"bytes"), staged).size == 5
staged.commit()
with kept.striking():
    staged.abort()
kept.strike()
print(len(jobs), os.listdir(store.incoming), os.listdir(store.datadir))
"""


def test_a_small_upload_is_handed_to_native_threads_five_times(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", HANDED_OVER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "5 [] ['.incoming', '7']\n"

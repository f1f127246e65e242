"""Ctrl-C while the modules of a program are imported: one line, no traceback."""

import subprocess
import sys

import pytest

from glance.cli import start

#: Runs a program whose user presses Ctrl-C at the import of a module.
INTERRUPTED = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from glance.cli import start
sys.exit(getattr(start, sys.argv[1])(["--version"]))
"""


@pytest.mark.parametrize(
    ("function", "program", "module"),
    [
        ("glance", "glance", "glance.cli.user.command"),
        ("glance", "glance", "optparse"),
        ("upload", "glance-upload", "glance.cli.user.glance_upload"),
        ("inspect", "glance-inspect", "glance.inspect.vmdk"),
        ("upload", "glance-upload", "glance.cli.user.screen.progress"),
    ],
)
def test_ctrl_c_during_an_import_is_one_line(function, program, module):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, function, module],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"{program}: interrupted\n"


def test_ctrl_c_without_standard_error(monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", None)
    assert start.interruptible("glance", stop) == 130


@pytest.mark.parametrize("function", [start.glance, start.upload, start.inspect])
def test_otherwise_the_program_runs(function, capsys):
    try:
        code = function(["--version"])
    except SystemExit as leaving:
        code = leaving.code
    assert code == 0
    assert capsys.readouterr().out.startswith("glance")

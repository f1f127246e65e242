"""What happens before a program runs: --version, and Ctrl-C while its modules are imported."""

import pathlib
import subprocess
import sys

import pytest

from glance.cli import start

BIN = pathlib.Path(__file__).resolve().parents[3] / "bin"

#: Runs a program whose user presses Ctrl-C at the import of a module.
INTERRUPTED = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from glance.cli import start
sys.exit(getattr(start, sys.argv[1])(["--help"]))
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


def run(name, *args, **how):
    command = [sys.executable, *args[:-1], BIN / name, args[-1]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **how)


@pytest.mark.parametrize("name", start.HOMES)
def test_version_imports_nothing_of_the_program(name):
    done = run(name, "-X", "importtime", "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} 1.0.0\n")
    lines = done.stderr.splitlines()
    loaded = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")]
    # What comes before is the interpreter's and the environment's.
    loaded = set(loaded[loaded.index("site") :])
    ours = {module for module in loaded if module.partition(".")[0] == "glance"}
    assert ours == {
        "glance",
        "glance.cli",
        "glance.cli.start",
        "glance.cli.streams",
        "glance.version",
    }
    heavy = {"argparse", "asyncio", "dataclasses", "eventlet", "logging", "optparse", "paste"}
    assert not {*heavy, "importlib.metadata", "sqlalchemy", "ssl", "typing", "webob"} & loaded


@pytest.mark.parametrize("name", ["glance", "glance-manage"])
def test_the_program_itself_prints_the_same_version(name):
    # Not the whole command line, so the parser has to see to it.
    words = ("--version", "--debug")
    code = f"import sys; from glance.cli import start; sys.exit(start.{{}}({words}))"
    function = name.rpartition("glance-")[2].replace("-", "_")
    done = subprocess.run(
        [sys.executable, "-c", code.format(function)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, run(name, "--version").stdout)


def test_a_version_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, BIN / "glance", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "glance: output was lost: No space left on device\n"


@pytest.mark.parametrize("function", [start.glance, start.upload, start.inspect])
def test_otherwise_the_program_runs(function, capsys):
    try:
        code = function(["--version"])
    except SystemExit as leaving:
        code = leaving.code
    assert code == 0
    assert capsys.readouterr().out.startswith("glance")

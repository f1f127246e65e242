"""How tests/run.py finds a pip."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def run(tmp_path):
    """tests/run.py as a module, which keeps its tools in a directory of the test's own."""
    spec = importlib.util.spec_from_file_location("run_the_tests", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.TOOL = tmp_path / ".tool"
    return module


@pytest.fixture
def bare(tmp_path):
    """A Python without pip, which can make one: as Debian's with python3-venv alone."""
    home = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    return str(home / "bin" / "python")


def test_a_python_without_pip_makes_an_environment_for_it(run, bare, monkeypatch):
    monkeypatch.setattr(run.sys, "executable", bare)
    said = subprocess.run([*run.pip(), "--version"], capture_output=True, text=True, check=True)
    assert str(run.TOOL.with_name(".pip")) in said.stdout


def test_without_pip_and_venv_one_line_says_what_to_install(run, bare, monkeypatch, capfd):
    shim = pathlib.Path(bare).with_name("none")
    shim.write_text("#!/bin/sh\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setattr(run.sys, "executable", str(shim))
    assert run.main() == 1
    assert capfd.readouterr() == (
        "",
        "ERROR: pip is not installed; on Debian, install python3-venv.\n",
    )

"""`python setup.py install`, as old manuals say it: never programs without their libraries."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from support import checkout

#: Stands for pip: prints its arguments, which tell what would be installed where.
PIP = "import sys; print('PIP', *sys.argv[1:]); sys.exit(7)\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return checkout.copy_to(tmp_path_factory.mktemp("source"))


@pytest.fixture
def setup(source: pathlib.Path, tmp_path: pathlib.Path):
    (tmp_path / "pip.py").write_text(PIP)

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"}
        return subprocess.run(
            [sys.executable, str(source / "setup.py"), *words],
            cwd=source,
            env={**environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "words,arguments",
    [
        ("install", "install {}"),
        ("-q install", "install {}"),
        ("build install", "install {}"),
        ("install --user", "install --user {}"),
        ("install --prefix=/opt/x", "install --prefix=/opt/x {}"),
        ("develop", "install --editable {}"),
        ("develop --user", "install --user --editable {}"),
    ],
)
def test_pip_does_what_was_meant(setup, source, words, arguments):
    done = setup(*words.split())
    assert f"PIP {arguments.format(source)}\n" in done.stdout, done.stderr
    assert done.returncode == 7  # pip's own


@pytest.mark.parametrize(
    "words",
    [
        "install --force",
        "install --home=/opt/x",
        "install_lib",
        "install_scripts",
        "build install_lib",
    ],
)
def test_what_pip_cannot_do_is_refused_in_one_line(setup, words):
    done = setup(*words.split())
    assert done.returncode == 1
    assert "PIP" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith("ERROR: setup.py ")
    assert "run python -m pip install ." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["--version", "--help", "--help-commands", "install --help"])
def test_questions_are_answered(setup, words):
    done = setup(*words.split())
    assert done.returncode == 0, done.stderr
    assert "PIP" not in done.stdout


def test_makers_of_packages_install_into_a_root(setup, tmp_path):
    """They bring the libraries as packages of their own."""
    root = tmp_path / "root"
    done = setup("-q", "install", f"--root={root}", "--single-version-externally-managed")
    assert done.returncode == 0, done.stderr
    assert "PIP" not in done.stdout
    assert list(root.rglob("glance-api"))


@pytest.mark.parametrize("command", ["egg_info", "sdist", "bdist_wheel"])
def test_what_is_no_installation_is_as_before(setup, source, command):
    done = setup("-q", command)
    assert done.returncode == 0, done.stderr
    assert "PIP" not in done.stdout

"""The source tarball holds the whole project and installs."""

import subprocess
import sys
import tarfile

import pytest

from support import checkout, daemons

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return checkout.copy_to(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def tarball(source, tmp_path_factory):
    dist = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(dist)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = dist.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def installed(tarball, tmp_path_factory):
    """Return the bin directory of a fresh environment with nothing but the tarball in it."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--use-pep517", str(tarball)], check=True)
    return home / "bin"


def run(folder, *command):
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_tarball_holds_every_file(source, tarball):
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    built = {name for name in files if name.startswith("glance.egg-info/")}
    with tarfile.open(tarball) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert files - built <= held


PROGRAMS = sorted(path.name for path in daemons.BIN.iterdir() if path.name != "glance-quickstart")


@pytest.mark.parametrize("program", PROGRAMS)
def test_installed_programs_tell_their_version(installed, tmp_path, program):
    assert run(tmp_path, installed / program, "--version") == f"{program} 1.0.0"


def test_manual_pages_and_completion_lie_where_man_and_the_shells_look(installed):
    share = installed.parent / "share"
    assert sorted(path.name for path in installed.glob("glance*")) == PROGRAMS
    for program in PROGRAMS:
        assert (share / "man" / "man1" / f"{program}.1").exists()
        assert (share / "bash-completion" / "completions" / f"{program}.bash").exists()
        assert (share / "zsh" / "site-functions" / f"_{program}").exists()


def test_the_installed_schema_repository_is_complete(installed, tmp_path):
    url = f"--sql-connection=sqlite:///{tmp_path}/glance.sqlite"
    run(tmp_path, installed / "glance-manage", url, "db_sync")
    assert int(run(tmp_path, installed / "glance-manage", url, "db_version")) > 9


def test_the_tarball_holds_no_compiled_files(tarball):
    with tarfile.open(tarball) as archive:
        assert not [name for name in archive.getnames() if name.endswith(".pyc")]

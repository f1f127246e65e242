"""The tarball holds the whole project, the wheel made of it the programs; both install."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from support import checkout, daemons, images

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
def wheels(tarball, tmp_path_factory):
    """Return a directory with the wheel that pip makes of the tarball, in an environment of the
    build's own, and with those of all that it needs.
    """
    dist = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(dist)]
    subprocess.run([*pip, str(tarball), "setuptools", "wheel", "pip"], check=True)
    return dist


@pytest.fixture(scope="module")
def wheel(wheels):
    (made,) = wheels.glob("glance-*.whl")
    return made


#: pip need not compile what no test imports, which takes a third of its time.
QUICK = {**os.environ, "PIP_COMPILE": "0"}


@pytest.fixture
def fetched(wheels):
    """Return an environment of processes in which pip takes all packages from `wheels`."""
    return near(wheels)


def near(wheels):
    return {**QUICK, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


@pytest.fixture(scope="module")
def installed(wheels, wheel, tmp_path_factory):
    """Return the bin directory of a fresh environment with nothing but the wheel in it."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True, env=near(wheels))
    return home / "bin"


def run(folder, *command, env=QUICK):
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_tarball_holds_every_file_and_no_more(source, tarball):
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    built = {name for name in files if name.startswith("glance.egg-info/")}
    with tarfile.open(tarball) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {name for name in held if name == "PKG-INFO" or name.split("/")[0] == "glance.egg-info"}
    assert held - made == files - built


#: Directories of etc that hold files for the host: their places below its /etc.
HOST_FILES = {
    "logrotate.d": "logrotate.d",
    "systemd": "systemd/system",
    "sysusers.d": "sysusers.d",
    "tmpfiles.d": "tmpfiles.d",
}


def test_the_wheel_holds_the_package_and_what_lies_beside_programs_and_no_more(source, wheel):
    wanted = {
        str(path.relative_to(source))
        for path in (source / "glance").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"glance/py.typed", "glance/registry/db/migrate_repo/migrate.cfg"} <= wanted
    name = "-".join(wheel.name.split("-")[:2])
    share = f"{name}.data/data/share"
    pages = [path.name for path in (source / "doc" / "man").iterdir()]
    assert pages
    wanted |= {f"{share}/man/man1/{page}" for page in pages}
    for path in (source / "etc" / "completion").iterdir():
        home = "zsh/site-functions" if path.name.startswith("_") else HOMES[path.suffix]
        wanted.add(f"{share}/{home}/{path.name}")
    wanted.add(f"{share}/glance/nova-to-os-env.sh")
    for path in [*(source / "etc").glob("*.conf"), source / "etc" / "logging.cnf.sample"]:
        wanted.add(f"{share}/glance/etc/glance/{path.name}")
    for kind in ("deployment", "monitoring", "proxies"):
        for path in (source / "etc" / kind).iterdir():
            wanted.add(f"{share}/glance/{kind}/{path.name}")
    for kind, home in HOST_FILES.items():
        for path in (source / "etc" / kind).iterdir():
            wanted.add(f"{share}/glance/etc/{home}/{path.name}")
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt"}
    with zipfile.ZipFile(wheel) as archive:
        held = {entry for entry in archive.namelist() if not entry.endswith("/")}
        (licence,) = (entry for entry in held if entry.endswith("/LICENSE"))
        assert archive.read(licence) == (source / "LICENSE").read_bytes()
        told = archive.read(f"{name}.dist-info/METADATA").decode()
    # Releases of setuptools differ in where below dist-info they put the licence.
    assert licence.startswith(f"{name}.dist-info/")
    assert held - {licence} == wanted | {f"{name}.dist-info/{entry}" for entry in about}
    assert "\nLicense: Apache-2.0\n" in told or "\nLicense-Expression: Apache-2.0\n" in told


HOMES = {".bash": "bash-completion/completions", ".fish": "fish/vendor_completions.d"}
PROGRAMS = sorted(path.name for path in daemons.BIN.iterdir() if path.name != "glance-quickstart")


@pytest.mark.parametrize("program", PROGRAMS)
def test_installed_programs_tell_their_version(installed, tmp_path, program):
    assert run(tmp_path, installed / program, "--version") == f"{program} 1.0.0"
    # That imports the whole program, too.
    assert f"{program} " in run(tmp_path, installed / program, "--help")


#: The Python of a stock Debian, whose pip is older than every other that users have.
DEBIAN = pathlib.Path("/usr/bin/python3")


@pytest.fixture
def bare(tmp_path):
    """Return the bin directory of an environment as a user of Debian makes it."""
    images.need(DEBIAN)
    told = subprocess.run([DEBIAN, "--version"], capture_output=True, text=True).stdout
    if not told.startswith("Python 3.11."):
        images.without(f"{DEBIAN} is {told.strip()}")
    home = tmp_path / "venv"
    if subprocess.run([DEBIAN, "-m", "venv", home], capture_output=True).returncode:
        images.without("not installed: python3-venv")
    return home / "bin"


def copied(source, tmp_path):
    """Return a copy of the checkout: pip builds there, and other tests compare every file."""
    return shutil.copytree(source, tmp_path / "checkout")


def tell_their_version(folder, tmp_path):
    for program in PROGRAMS:
        assert run(tmp_path, folder / program, "--version") == f"{program} 1.0.0"


def test_the_programs_run_after_pip_install_with_the_pip_of_debian(bare, source, tmp_path):
    """It is older than every other that users have, and there is no wheel; nothing is near."""
    told = run(tmp_path, bare / "pip", "install", copied(source, tmp_path))
    assert "setup.py install" not in told
    tell_their_version(bare, tmp_path)


@pytest.mark.parametrize(
    ("is_newest", "form"), [(False, "tarball"), (True, "checkout"), (True, "tarball")]
)
def test_the_programs_run_after_pip_install_in_a_bare_environment(
    is_newest, form, bare, source, tarball, fetched, tmp_path
):
    if is_newest:
        run(tmp_path, bare / "pip", "install", "--quiet", "--upgrade", "pip", env=fetched)
    what = copied(source, tmp_path) if form == "checkout" else tarball
    told = run(tmp_path, bare / "pip", "install", what, env=fetched)
    assert "setup.py install" not in told
    tell_their_version(bare, tmp_path)


def test_the_programs_run_after_setup_py_install_with_the_setuptools_of_today(
    source, fetched, tmp_path
):
    """The manual of Diablo says it; tests/unit/test_setup.py has the other commands."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "pip", "install", "--quiet", "--upgrade"]
    run(tmp_path, *pip, "setuptools", "wheel", env=fetched)
    run(copied(source, tmp_path), home / "bin" / "python", "setup.py", "install", env=fetched)
    tell_their_version(home / "bin", tmp_path)


def test_manual_pages_and_completion_lie_where_man_and_the_shells_look(installed):
    share = installed.parent / "share"
    assert sorted(path.name for path in installed.glob("glance*")) == PROGRAMS
    for program in PROGRAMS:
        assert (share / "man" / "man1" / f"{program}.1").exists()
        assert (share / "bash-completion" / "completions" / f"{program}.bash").exists()
        assert (share / "zsh" / "site-functions" / f"_{program}").exists()
        assert (share / "fish" / "vendor_completions.d" / f"{program}.fish").exists()


def test_the_installed_schema_repository_is_complete(installed, tmp_path):
    url = f"--sql-connection=sqlite:///{tmp_path}/glance.sqlite"
    run(tmp_path, installed / "glance-manage", url, "db_sync")
    assert int(run(tmp_path, installed / "glance-manage", url, "db_version")) > 9

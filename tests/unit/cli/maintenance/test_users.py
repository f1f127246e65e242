"""As whom the maintenance programs work that root starts."""

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import subprocess
import sys

import pytest

from glance.cli.maintenance import cache_programs, manage_data, scrub

from support import operators
from support.operators import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
BIN = pathlib.Path(__file__).resolve().parents[4] / "bin"
CONF = """\
[DEFAULT]
{more}
sql_connection = sqlite:///{own}/glance.sqlite
filesystem_store_datadir = {own}/images
image_cache_dir = {own}/cache
enabled_stores = file
[app:glance-scrubber]
paste.app_factory = glance.scrubber:app_factory
"""


@pytest.fixture
def own():
    """Yield an empty directory of the service user, which others can reach."""
    with operators.directory_of_nobody("own") as path:
        yield path


def load_prefetcher(args):
    cache_programs.load(cache_programs.PREFETCHER, args)


def load_stores(args):
    manage_data.stores_of(argparse.Namespace(store_config_file=args.config_file))


def run(load, args):
    """Call `load` in a process of its own, which cannot become root again."""
    # The service user of a test may not read the interpreter's own modules.
    for module in ("glance.scrubber", "glance.image_cache.prefetcher", "glance.store.filesystem"):
        importlib.import_module(module)
    assert concurrent.futures.ThreadPoolExecutor
    pid = os.fork()
    if not pid:
        try:
            load(args)
            os._exit(os.getuid() != NOBODY)
        except BaseException as err:
            print(repr(err))
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("more", ["user = nobody", ""], ids=["named", "owner"])
@pytest.mark.parametrize("load", [load_prefetcher, scrub._load, load_stores])
def test_a_program_that_root_starts_leaves_no_directory_of_root(own, load, more):
    conf = own.parent / "glance-scrubber.conf"
    conf.write_text(CONF.format(own=own, more=more))
    args = argparse.Namespace(
        config_file=str(conf), confpath=None, daemon=False, list=False, restore=None
    )
    assert run(load, args) == 0
    found = [path for path in own.rglob("*") if path.name in ("images", ".incoming")]
    assert len(found) == 2
    assert {path.stat().st_uid for path in found} == {NOBODY}


@pytest.mark.parametrize("load", [load_prefetcher, scrub._load, load_stores])
def test_a_program_that_root_starts_makes_nothing_behind_a_link_of_the_user(own, load):
    secret = own.parent / "of root"
    secret.mkdir(0o700)
    os.symlink(secret, own / "images")
    conf = own.parent / "glance-scrubber.conf"
    conf.write_text(CONF.format(own=own, more="user = nobody"))
    args = argparse.Namespace(
        config_file=str(conf), confpath=None, daemon=False, list=False, restore=None
    )
    run(load, args)
    assert not list(secret.iterdir())


def manage(own, **options):
    lines = [f"{name} = {value}" for name, value in options.items()]
    conf = own.parent / "glance-registry.conf"
    app = ["[app:glance-registry]", "paste.app_factory = glance.registry.server:app_factory"]
    conf.write_text("\n".join(["[DEFAULT]", *lines, *app]))
    command = [sys.executable, "-W", "ignore", BIN / "glance-manage", f"--config-file={conf}"]
    return subprocess.run([*command, "db_sync"], capture_output=True, text=True)


def test_the_database_and_the_log_that_root_makes_belong_to_the_user_of_the_daemons(own):
    (own / "registry.log").touch(0o644)  # of root, from before
    database, log = own / "glance.sqlite", own / "registry.log"
    assert manage(own, sql_connection=f"sqlite:///{database}", log_file=log).returncode == 0
    assert {path.stat().st_uid for path in own.iterdir()} == {NOBODY}
    assert database.stat().st_mode & 0o777 == 0o640


def test_root_makes_no_database_behind_a_link_of_the_user(own):
    (own.parent / "of root").mkdir(0o700)
    os.symlink(own.parent / "of root", own / "here")
    done = manage(own, sql_connection=f"sqlite:///{own}/here/glance.sqlite")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "it is reached through a symbolic link in a directory of another user" in done.stderr
    assert not list((own.parent / "of root").iterdir())

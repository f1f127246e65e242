"""Who a daemon runs as."""

import os
import pathlib
import tempfile

import psutil
import pytest

from glance.common import config, exception, privileges

from support import operators
from support.operators import NOBODY

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def conf(**options):
    return config.Conf(options, source="x.conf")


def test_without_options_nobody_changes():
    assert privileges.identity(conf()) is None


@pytest.mark.parametrize("options", [{"user": "no-such-user"}, {"group": "no-such-group"}])
def test_unknown_names_are_told(options):
    with pytest.raises(exception.ConfigError, match=r"x\.conf: .*no-such-"):
        privileges.identity(conf(**options))


def test_only_root_can_change(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(exception.ConfigError, match="only root"):
        privileges.identity(conf(user="root"))


@needs_root
def test_who_it_is_already_is_no_change():
    assert privileges.identity(conf(user="root")) is None


@needs_root
@pytest.mark.parametrize("count", [0, 1])
def test_a_daemon_becomes_somebody_else_with_its_log(launch, count):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        log_file = pathlib.Path(name) / "log"
        server = launch(user="nobody", workers=count, log_file=str(log_file))
        assert server.get("/pid")
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        assert len(family) == count + 1
        for process in family:
            assert set(process.uids()) == {NOBODY}
            assert NOBODY in process.gids() and 0 not in process.gids()
            assert process.cwd() == "/"
        assert log_file.stat().st_uid == NOBODY
        assert server.stop() == 0
        assert "GET /pid" in log_file.read_text()


WARNED = "WARNING [glance.common.privileges] This daemon runs as root"


@needs_root
@pytest.mark.parametrize(
    ("options", "times"),
    [({}, 1), ({"group": "nogroup"}, 1), ({"user": "nobody"}, 0), ({"user": "root"}, 0)],
    ids=str,
)
@pytest.mark.parametrize("count", [0, 2])
def test_a_daemon_warns_once_if_it_stays_root_and_nobody_chose_that(launch, options, times, count):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        log_file = pathlib.Path(name) / "log"
        server = launch(workers=count, log_file=str(log_file), **options)
        assert server.get("/pid")
        assert server.stop() == 0
        assert log_file.read_text().count(WARNED) == times


def test_an_ordinary_user_is_not_warned(monkeypatch, caplog):
    for uid, told in ((1000, 0), (0, 1)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        caplog.clear()
        privileges.drop(conf())
        assert len(caplog.records) == told


@pytest.fixture
def theirs():
    """Yield a directory of the user that the daemon is to become."""
    with operators.directory_of_nobody("logs") as path:
        yield path


@needs_root
@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_daemon_does_not_give_away_what_its_log_leads_to(launch, theirs, make):
    precious = theirs.parent / "precious"
    precious.write_text("precious")
    make(precious, theirs / "log")
    server = launch(user="nobody", log_file=str(theirs / "log"), ready=False)
    assert server.wait() == 1
    assert precious.read_text() == "precious"
    assert (precious.stat().st_uid, precious.stat().st_gid) == (0, 0)


@needs_root
def test_a_log_of_another_user_is_not_given_away(launch, theirs):
    (theirs / "log").touch()
    os.chown(theirs / "log", 1, 1)
    server = launch(user="nobody", log_file=str(theirs / "log"), ready=False)
    assert server.wait() == 1
    assert (theirs / "log").stat().st_uid == 1


@needs_root
def test_a_log_that_is_the_users_already_stays_so(launch, theirs):
    for _ in range(2):
        server = launch(user="nobody", log_file=str(theirs / "log"))
        assert server.stop() == 0
        assert (theirs / "log").stat().st_uid == NOBODY


@needs_root
def test_a_device_keeps_its_owner(launch):
    server = launch(user="nobody", log_file="/dev/null")
    assert server.stop() == 0
    assert os.stat("/dev/null").st_uid == 0


@needs_root
def test_work_in_a_directory_is_done_as_its_owner(theirs):
    """In a process of its own, which cannot become root again."""
    pid = os.fork()
    if not pid:
        try:
            privileges.work_in(str(theirs), conf())
            (theirs / "new").touch()
            os._exit(os.getuid() != NOBODY or os.getgid() != NOBODY)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (theirs / "new").stat().st_uid == NOBODY


@needs_root
def test_root_stays_root_where_there_is_nobody_else_to_be(tmp_path):
    assert privileges.owner(str(tmp_path)) is None
    assert privileges.owner(str(tmp_path / "missing")) is None

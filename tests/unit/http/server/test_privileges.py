"""Who a daemon runs as."""

import os
import pathlib
import tempfile

import psutil
import pytest

from glance.common import config, exception
from glance.http.server import privileges

NOBODY = 65534
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

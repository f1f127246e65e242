"""Work that waits for an end, without a server."""

import os

import pytest

from glance.common import hooks


def test_work_at_the_end_is_done_once_last_come_first_served(caplog):
    done = []

    def fail():
        raise RuntimeError("broken")

    before = hooks.stop_timeout()
    hooks.at_stop(lambda: done.append(1), stop_timeout=2.0)
    hooks.at_stop(fail, stop_timeout=0.5)
    hooks.at_stop(lambda: done.append(2))
    assert hooks.stop_timeout() == before + 2.5
    hooks.stop()
    hooks.stop()
    assert done == [2, 1]
    assert "fail failed at shutdown" in caplog.text
    assert hooks.stop_timeout() == 0


@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")
def test_a_child_does_not_do_the_work_of_its_parent(tmp_path):
    hooks.at_stop((tmp_path / "done").touch)
    pid = os.fork()
    if not pid:
        hooks.stop()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not (tmp_path / "done").exists()
    hooks.stop()
    assert (tmp_path / "done").exists()


def test_a_server_without_the_means_never_calls_back():
    hooks.after_response({}, lambda sent, whole: 1 / 0)
    environ = {hooks.AFTER_RESPONSE: []}
    work = print
    hooks.after_response(environ, work)
    assert environ[hooks.AFTER_RESPONSE] == [work]

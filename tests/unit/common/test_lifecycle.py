"""Work that waits for an end, without a server."""

import os

import pytest

from glance.common import lifecycle


def test_work_at_the_end_is_done_once_last_come_first_served(caplog):
    done = []

    def fail():
        raise RuntimeError("broken")

    before = lifecycle.patience()
    lifecycle.at_stop(lambda: done.append(1), patience=2.0)
    lifecycle.at_stop(fail, patience=0.5)
    lifecycle.at_stop(lambda: done.append(2))
    assert lifecycle.patience() == before + 2.5
    lifecycle.stop()
    lifecycle.stop()
    assert done == [2, 1]
    assert "fail failed at the end" in caplog.text
    assert lifecycle.patience() == 0


@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")
def test_a_child_does_not_do_the_work_of_its_parent(tmp_path):
    lifecycle.at_stop((tmp_path / "done").touch)
    pid = os.fork()
    if not pid:
        lifecycle.stop()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not (tmp_path / "done").exists()
    lifecycle.stop()
    assert (tmp_path / "done").exists()


def test_a_server_without_the_means_never_calls_back():
    lifecycle.after_answer({}, lambda sent, whole: 1 / 0)
    environ = {lifecycle.AFTER_ANSWER: []}
    work = print
    lifecycle.after_answer(environ, work)
    assert environ[lifecycle.AFTER_ANSWER] == [work]

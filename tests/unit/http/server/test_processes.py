"""The life of the processes: start, readiness, replacement, and every way to stop."""

import collections
import os
import pathlib
import re
import signal
import socket
import time

import psutil
import pytest

from glance.common import config, exception
from glance.http.server import balance, options, prefork


def eventually(condition):
    """Wait until `condition()` gives something true, and return that."""
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


def workers(server):
    return {child.pid for child in psutil.Process(server.pid).children()}


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pids_that_answer(server, count):
    """Ask until `count` processes have answered; all of them accept on one socket."""
    seen = set()
    eventually(lambda: seen.add(int(server.get("/pid"))) or len(seen) >= count)
    return seen


# -- start ---------------------------------------------------------------------------------------


def test_ready_means_that_all_workers_serve(launch):
    server = launch(workers=3)
    assert len(workers(server)) == 3
    assert pids_that_answer(server, 2) <= workers(server)


def test_without_workers_there_is_one_process(launch):
    server = launch(workers=0)
    assert workers(server) == set()
    assert int(server.get("/pid")) == server.pid


@pytest.mark.parametrize("count", [0, 2])
def test_an_application_that_cannot_be_made_ends_the_start(launch, count):
    server = launch(workers=count, fail="Set sql_connection", ready=False)
    assert server.wait() == 1
    assert server.stderr.read_text() == "ERROR: Set sql_connection\n"


def test_a_port_in_use_ends_the_start(launch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = launch(bind_port=port, ready=False)
        assert server.wait() == 1
    message = f"ERROR: Cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert server.stderr.read_text() == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bind_port": None}, "bind_port"),
        ({"bind_host": "256.0.0.1"}, "Cannot listen on 256.0.0.1"),
        ({"bind_host": "192.0.2.1"}, "Cannot assign requested address"),
        ({"bind_port": "70000"}, "bind_port has the invalid value"),
        ({"cert_file": "/dev/null"}, "Set both cert_file and key_file"),
        ({"cert_file": "/nonexistent", "key_file": "/dev/null"}, "option cert_file"),
        ({"cert_file": "/dev/null", "key_file": "/dev/null"}, "cannot be used"),
    ],
)
def test_a_socket_that_cannot_be_opened_is_a_config_error(values, message):
    conf = config.Conf({"bind_host": "127.0.0.1", "bind_port": "0", **values})
    with pytest.raises(exception.ConfigError, match=message):
        prefork.serve(conf, lambda: pytest.fail("nothing to serve"), "test")


def test_one_worker_per_core_unless_there_are_many(monkeypatch):
    for cores, expected in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert options.worker_count(config.Conf()) == expected
    assert options.worker_count(config.Conf({"workers": "0"})) == 0
    assert options.worker_count(config.Conf({"workers": "12"})) == 12


# -- sharing -------------------------------------------------------------------------------------


def test_clients_that_come_together_are_shared_among_the_workers(launch):
    server = launch(workers=2)
    pids_that_answer(server, 2)
    clients = [server.client() for _ in range(16)]
    served = collections.Counter(client.get("/pid")[2] for client in clients)
    assert len(served) == 2
    assert min(served.values()) >= 4, "both have their share, give or take who left last"


def test_workers_that_are_gone_are_not_waited_for():
    shared = balance.WorkerLoads(2)
    first, second = shared.seat(0), shared.seat(1)
    first.note(3)
    assert first.is_ahead()
    assert not second.is_ahead()
    shared.leave(1)
    assert not first.is_ahead()


# -- replacement ---------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced(launch):
    server = launch(workers=2)
    before = workers(server)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    after = eventually(lambda: len(found := workers(server) - {victim}) == 2 and found)
    assert before < after
    assert pids_that_answer(server, 2) == after
    assert f"Worker {victim} exited with signal 9" in server.log()


def test_a_worker_that_dies_again_is_replaced_after_a_pause(launch):
    server = launch(workers=1)
    for _ in range(3):
        # One that answers: a worker that is killed before it is ready waits longer.
        victim = pids_that_answer(server, 1).pop()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda pid=victim: is_gone(pid))
    eventually(lambda: server.log().count("exited with signal 9") == 3)
    pauses = [line.rpartition("in ")[2] for line in server.log().splitlines() if "exited" in line]
    assert pauses == ["0.0 s", "0.5 s", "1.0 s"]


def starting(directory):
    """Return the process ids of the workers that have been held in their start."""
    return {int(path.name) for path in directory.iterdir() if path.name.isdigit()}


@pytest.mark.parametrize("which", ["one that serves", "one that starts", "both"])
def test_a_worker_that_ends_before_all_have_started_is_replaced(launch, tmp_path, which):
    server = launch(workers=2, hold=str(tmp_path), ready=False)
    late = eventually(lambda: starting(tmp_path))
    (serving,) = workers(server) - late
    victims = {"one that serves": {serving}, "one that starts": late}.get(which, late | {serving})
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    (tmp_path / "go").touch()
    server.wait_ready()
    # A worker that was killed may not have been waited for yet.
    eventually(lambda: len(workers(server)) == 2 and not workers(server) & victims)
    assert pids_that_answer(server, 2) == workers(server)
    lost = re.findall(r"Worker (\d+) exited with signal 9", server.log())
    assert sorted(map(int, lost)) == sorted(victims)


def test_a_worker_that_ends_before_any_has_served_ends_the_start(launch, tmp_path):
    (tmp_path / "first").touch()
    server = launch(workers=2, hold=str(tmp_path), ready=False)
    (victim,) = eventually(lambda: starting(tmp_path))
    os.kill(victim, signal.SIGKILL)
    assert server.wait() == 1
    assert server.stderr.read_text() == "ERROR: A worker exited at start with signal 9\n"


def test_workers_end_when_their_parent_is_killed(launch):
    server = launch(workers=2)
    pids = workers(server)
    server.tell(signal.SIGKILL)
    eventually(lambda: all(map(is_gone, pids)))
    assert server.is_closed()


# -- stop ----------------------------------------------------------------------------------------

EITHER = pytest.mark.parametrize("count", [0, 2], ids=["alone", "workers"])


@EITHER
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_idle_server_stops_at_once_and_in_good_order(launch, count, signum):
    server = launch(workers=count, stop_timeout=60, graceful_timeout=60)
    idle = server.client()
    idle.get("/pid")
    assert server.stop(signum) == 0
    assert idle.rest() == b""
    assert server.is_closed()
    assert server.notice() == {"STOPPING": "1"}


@EITHER
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_running_requests_finish(launch, count, signum):
    server = launch(workers=count)
    busy = server.client()
    busy.send("GET /slow?seconds=0.5 HTTP/1.1", "Host: x")
    running = server.client(receive_buffer=4096)
    running.send("GET /file?size=20000000 HTTP/1.1", "Host: x")
    running.file.read(1)
    server.tell(signum)
    eventually(server.is_closed)
    status, headers, body = busy.read()
    assert (status, body, headers["Connection"]) == (200, b"slept", "close")
    assert len(running.rest().partition(b"\r\n\r\n")[2]) == 20_000_000
    assert server.wait() == 0


@EITHER
def test_a_request_under_way_to_a_stopping_server_is_answered(launch, count):
    server = launch(workers=count)
    late = server.client()
    late.raw(b"GET /pid HTTP/1.1\r\n")
    busy = server.client()
    busy.send("GET /slow?seconds=0.3 HTTP/1.1", "Host: x")
    time.sleep(0.1)
    server.tell(signal.SIGTERM)
    eventually(server.is_closed)
    late.raw(b"Host: x\r\n\r\n")
    assert late.read()[1]["Connection"] == "close"
    assert server.wait() == 0


@EITHER
def test_requests_that_take_too_long_are_cut(launch, count):
    server = launch(workers=count, stop_timeout=0.3)
    busy = server.client()
    busy.send("GET /drip?seconds=60 HTTP/1.1", "Host: x")
    busy.file.readline()
    server.tell(signal.SIGTERM)
    assert server.wait() == 0
    assert not busy.rest().endswith(b"0\r\n\r\n")
    assert "Aborting 1 connections" in server.log()


@EITHER
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_drains_still_accepts_connections(launch, count, signum):
    server = launch(workers=count, drain_delay=60)
    idle = server.client()
    idle.get("/pid")
    server.tell(signum)
    # One worker after the other learns of it.
    eventually(lambda: server.client().get("/draining")[2] == b"True")
    eventually(lambda: server.client().get("/pid")[1]["Connection"] == "close")
    # A connection that was open, too, is told to end.
    eventually(lambda: idle.get("/draining")[1]["Connection"] == "close")
    server.tell(signal.SIGINT)
    assert server.wait() == (0 if signum == signal.SIGHUP else 1)


@EITHER
def test_a_server_stops_after_it_has_drained(launch, count):
    server = launch(workers=count, drain_delay=0.2, stop_timeout=0)
    assert server.client().get("/draining")[2] == b"False"
    assert server.stop() == 0
    assert server.is_closed()


def test_workers_without_a_parent_do_not_drain(launch):
    server = launch(workers=2, drain_delay=600)
    pids = workers(server)
    os.kill(server.pid, signal.SIGKILL)
    eventually(server.is_closed)
    eventually(lambda: all(map(is_gone, pids)))


@EITHER
def test_an_interrupt_does_not_wait_for_requests(launch, count):
    server = launch(workers=count)
    busy = server.client()
    busy.send("GET /drip?seconds=60 HTTP/1.1", "Host: x")
    busy.file.readline()
    assert server.stop(signal.SIGINT) == 0


@EITHER
def test_a_second_term_ends_at_once(launch, count):
    server = launch(workers=count, stop_timeout=60)
    pids = workers(server)
    busy = server.client()
    busy.send("GET /slow?seconds=60 HTTP/1.1", "Host: x")
    time.sleep(0.1)
    server.tell(signal.SIGTERM)
    eventually(server.is_closed)
    assert server.stop(signal.SIGTERM) == 1
    assert all(map(is_gone, pids))


@EITHER
def test_term_shortens_a_graceful_stop(launch, count):
    server = launch(workers=count, stop_timeout=0.2)
    busy = server.client()
    busy.send("GET /drip?seconds=60 HTTP/1.1", "Host: x")
    busy.file.readline()
    server.tell(signal.SIGHUP)
    eventually(server.is_closed)
    assert server.stop(signal.SIGTERM) == 0


@EITHER
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_application_has_the_last_word(launch, count, signum):
    server = launch(workers=count, stop_timeout=0.1, graceful_timeout=0.1, farewell=0.05)
    busy = server.client()
    busy.send("GET /drip?seconds=60 HTTP/1.1", "Host: x")
    busy.file.readline()
    assert server.stop(signum) == 0
    # The worker with the connection ends after the other.
    log = server.log()
    words = ("Aborting 1 connections", "the first word", "it fails", "the last word")
    places = [log.rfind(word) for word in words]
    assert places[0] > -1 and places == sorted(places)


def test_the_parent_allows_the_application_the_time_that_it_asked_for(launch):
    # Two works, together longer than the parent waits for a worker that has none.
    server = launch(workers=1, stop_timeout=0, farewell=2.2)
    assert server.stop() == 0
    assert "the last word" in server.log()


def test_term_to_the_whole_group_still_lets_requests_finish(launch):
    server = launch(workers=2)
    busy = server.client()
    busy.send("GET /slow?seconds=0.5 HTTP/1.1", "Host: x")
    time.sleep(0.1)
    os.killpg(server.pid, signal.SIGTERM)
    assert busy.read()[2] == b"slept"
    assert server.wait() == 0


def test_a_signal_that_meets_a_worker_before_it_has_begun_still_stops_everything_in_order(launch):
    server = launch(workers=2, fork=0.4, stop_timeout=60, ready=False)
    eventually(lambda: len(workers(server)) == 2)
    assert server.stop() == 0
    assert "Second signal" not in server.log()


def test_workers_hold_no_signal_back(launch):
    for pid in workers(launch(workers=2)):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert "SigBlk:\t0000000000000000\n" in status


def test_a_hung_worker_does_not_keep_the_server_from_stopping(launch):
    server = launch(workers=1, stop_timeout=0)
    (pid,) = workers(server)
    os.kill(pid, signal.SIGSTOP)
    assert server.stop() == 0
    assert is_gone(pid)


@EITHER
def test_logs_are_reopened_on_request(launch, count):
    server = launch(workers=count)
    moved = server.log_file.rename(server.log_file.with_suffix(".old"))
    server.tell(signal.SIGUSR1)
    eventually(server.log_file.exists)
    server.get("/boom")
    assert "GET /boom failed" in eventually(server.log)
    assert "GET /boom failed" not in moved.read_text()
    assert server.stop() == 0

"""Waits for sockets that are watched all the time, in a hub of the test's own."""

import contextlib
import socket
import threading

import eventlet
import pytest
from eventlet import greenio, hubs

from glance.http.client import pool
from glance.streaming import readiness

LONG = 20


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.settimeout(LONG)
    far.setblocking(False)
    with contextlib.closing(near), contextlib.closing(far):
        yield near, far


@pytest.fixture
def ready(pair):
    made = readiness.Readiness(pair[1].fileno())
    yield made
    made.leave()


def waiting(fd):
    return [kind for kind, found in hubs.get_hub().listeners.items() if fd in found]


def received(ready, sock, timeout=LONG):
    while True:
        try:
            return sock.recv(100)
        except BlockingIOError:
            ready.wait(timeout, TimeoutError)


def test_each_arrival_ends_a_wait(pair, ready):
    near, far = pair
    reader = eventlet.spawn(lambda: [received(ready, far) for _ in range(50)])
    for number in range(50):
        near.sendall(b"%d" % number)
        eventlet.sleep(0)
        eventlet.sleep(0)
    near.shutdown(socket.SHUT_WR)
    assert b"".join(reader.wait()).startswith(b"0123456789101112")


def test_what_arrives_between_two_tries_is_not_missed(pair, ready):
    near, far = pair
    with pytest.raises(TimeoutError):
        received(ready, far, 0.001)
    # The hub is told of it while nobody waits.
    near.sendall(b"early")
    eventlet.sleep(0.001)
    assert received(ready, far) == b"early"
    eventlet.spawn(near.sendall, b"late")
    assert received(ready, far) == b"late"
    eventlet.spawn(near.close)
    assert received(ready, far) == b""


def test_room_that_came_while_nobody_waited_ends_a_wait(pair, ready):
    near, far = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            far.send(bytes(100_000))
    with pytest.raises(TimeoutError):
        ready.wait(0.001, TimeoutError, write=True)
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while near.recv(100_000):
            pass
    # The hub is told of it; a native thread may have tried to write just before.
    eventlet.sleep(0.001)
    ready.wait(LONG, TimeoutError, write=True)


def test_the_socket_is_added_to_epoll_once(pair, ready, monkeypatch):
    near, far = pair
    asked = []
    hub = hubs.get_hub()
    changes = ("register", "modify", "unregister")

    class Poll:
        def __getattr__(self, name):
            if name in changes:
                asked.append(name)
            return getattr(poll, name)

    poll = hub.poll
    monkeypatch.setattr(hub, "poll", Poll())
    for _ in range(5):
        eventlet.spawn(near.sendall, b"x")
        assert received(ready, far) == b"x"
    ready.leave()
    ready.leave()
    assert asked == ["register", "unregister"]


def test_what_comes_while_nobody_waits_wakes_the_hub_once(pair, ready, monkeypatch):
    near, far = pair
    eventlet.spawn(near.sendall, b"x")
    assert received(ready, far) == b"x"
    woken = []
    wake = readiness.Readiness._look_away
    monkeypatch.setattr(
        readiness.Readiness, "_look_away", lambda self: [woken.append(self), wake(self)]
    )
    for number in range(20):
        near.sendall(b"%d" % number)
        eventlet.sleep(0.001)
    assert woken == [ready]
    # It is there for a wait all the same, and after that is watched again.
    ready.wait(LONG, TimeoutError)
    assert received(ready, far).startswith(b"01234")
    for _ in range(3):
        eventlet.spawn(near.sendall, b"y")
        assert received(ready, far) == b"y"


def test_a_wait_for_room_ends_when_there_is_some(pair, ready):
    near, far = pair
    size = 0
    with pytest.raises(BlockingIOError):
        while True:
            size += far.send(bytes(65536))
    with pytest.raises(TimeoutError):
        ready.wait(0.001, TimeoutError, write=True)

    def read():
        left = size
        while left:
            left -= len(near.recv(left))

    eventlet.spawn(read)
    ready.wait(LONG, TimeoutError, write=True)
    assert far.send(b"x")


def test_the_alarm_of_one_wait_does_not_end_the_next(pair, ready):
    near, far = pair
    eventlet.spawn(near.sendall, b"1")
    assert received(ready, far, 0.02) == b"1"
    # It rings in this wait, which has a longer limit, or none.
    for limit in (LONG, None):
        eventlet.spawn_after(0.05, near.sendall, b"2")
        assert received(ready, far, limit) == b"2"
        eventlet.spawn(near.sendall, b"1")
        assert received(ready, far, 0.02) == b"1"


def test_a_shorter_limit_counts_after_a_longer_one(pair, ready):
    near, far = pair
    eventlet.spawn(near.sendall, b"1")
    assert received(ready, far, 1000) == b"1"
    for _ in range(3):
        with pytest.raises(TimeoutError):
            received(ready, far, 0.001)


def test_the_error_is_the_one_of_this_wait(pair, ready):
    with pytest.raises(TimeoutError):
        ready.wait(0.001, TimeoutError)
    with pytest.raises(LookupError):
        ready.wait(0.001, LookupError, write=False)


def test_only_one_may_wait(pair, ready):
    first = eventlet.spawn(received, ready, pair[1])
    eventlet.sleep(0)
    with pytest.raises(RuntimeError, match="another greenthread"):
        ready.wait(LONG, TimeoutError)
    pair[0].sendall(b"x")
    assert first.wait() == b"x"


def test_who_is_killed_leaves_nothing(pair, ready):
    near, far = pair
    reader = eventlet.spawn(received, ready, far)
    eventlet.sleep(0)
    reader.kill()
    near.sendall(b"x")
    eventlet.sleep(0.001)
    assert received(ready, far) == b"x"
    other = eventlet.spawn(ready.wait, LONG, TimeoutError, write=True)
    other.kill()
    assert waiting(far.fileno()) == ["read"]
    ready.leave()
    assert not waiting(far.fileno())


def test_an_error_after_the_wait_does_not_end_the_watch(pair, ready, capsys):
    near, far = pair

    def fail():
        received(ready, far)
        raise LookupError("of the one who waited")

    eventlet.spawn(fail)
    eventlet.sleep(0)
    near.sendall(b"x")
    eventlet.sleep(0.001)
    assert "of the one who waited" in capsys.readouterr().err
    eventlet.spawn_after(0.001, near.sendall, b"y")
    assert received(ready, far) == b"y"


def test_others_can_wait_for_a_socket_that_was_left(pair, ready):
    near, far = pair
    for _ in range(2):
        eventlet.spawn(near.sendall, b"x")
        assert received(ready, far) == b"x"
        ready.leave()
        eventlet.spawn(near.sendall, b"y")
        hubs.trampoline(far.fileno(), read=True, timeout=LONG, timeout_exc=TimeoutError)
        assert far.recv(1) == b"y"


def test_any_other_hub_will_do(pair):
    near, far = pair
    found = []

    def run():
        hubs.use_hub("poll")
        one = readiness.Readiness(far.fileno())
        for _ in range(2):
            eventlet.spawn(near.sendall, b"x")
            found.append(received(one, far))
        with contextlib.suppress(TimeoutError):
            received(one, far, 0.001)
            found.append("too early")
        one.leave()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [b"x", b"x"]


def test_a_thread_with_a_hub_of_its_own_may_wait(pair, ready):
    near, far = pair
    eventlet.spawn(near.sendall, b"x")
    assert received(ready, far) == b"x"
    found = []

    def run():
        for _ in range(2):
            eventlet.spawn(near.sendall, b"y")
            found.append(received(ready, far))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [b"y", b"y"]
    eventlet.spawn(near.sendall, b"z")
    assert received(ready, far) == b"z"


# -- sockets -------------------------------------------------------------------------------------


@pytest.fixture
def connected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        green = greenio.GreenSocket()
        green.settimeout(LONG)
        green.connect(server.getsockname())
        near = server.accept()[0]
        near.settimeout(LONG)
        made = readiness.ReadySocket(green)
        with contextlib.closing(near), contextlib.closing(made):
            yield near, made


def test_a_ready_socket_sends_and_receives(connected):
    near, made = connected
    data = bytes(range(256)) * 40_000
    got = bytearray()

    def echo():
        while len(got) < len(data):
            got.extend(near.recv(65536))
            eventlet.sleep(0)
        near.sendall(b"end")

    other = eventlet.spawn(echo)
    made.sendall(data)
    assert made.recv(100) == b"end"
    other.wait()
    assert got == data


@pytest.mark.parametrize("pause", [0, 0.001])
def test_a_response_is_received_whenever_it_comes(connected, pause):
    near, made = connected
    for _ in range(3):
        made.sendall(b"request")
        assert near.recv(100) == b"request"
        near.sendall(b"response")
        # The hub may hear of it before somebody waits, or while somebody waits for another thing.
        eventlet.sleep(pause)
        assert made.recv(100) == b"response"
    made.sendall(b"request")
    with pytest.raises(TimeoutError):
        made.settimeout(0.001)
        made.recv(100)
    near.close()
    eventlet.sleep(pause)
    assert made.recv(100) == b""


def test_a_ready_socket_keeps_the_limits_of_its_waits(connected):
    near, made = connected
    assert made.gettimeout() == LONG
    made.settimeout(0)
    with pytest.raises(BlockingIOError):
        made.recv(1)
    made.settimeout(0.001)
    with pytest.raises(TimeoutError):
        made.recv(1)
    with pytest.raises(TimeoutError):
        made.sendall(bytes(64 * 1024 * 1024))
    made.settimeout(0)
    with pytest.raises(BlockingIOError):
        made.send(b"x")


def test_a_reset_reads_as_an_end(connected):
    near, made = connected
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    near.close()
    assert made.recv(1) == b""


def test_a_pool_takes_its_sockets_from_the_one_who_adapts_them():
    with socket.create_server(("127.0.0.1", 0)) as server:
        used = []

        def adapt(sock):
            used.append(sock)
            return sock

        port = server.getsockname()[1]
        connections = pool.ConnectionPool("127.0.0.1", port, adapt=adapt)
        connection = connections.new()
        connection.connect()
        assert used == [connection._sock]
        connection.close()

"""How many connections a worker has, and which one goes for another one."""

import contextlib
import dataclasses
import socket
import time

import eventlet
import pytest

from glance.common import config
from glance.http.server import crowd, worker

GET = b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /pid HTTP/1.1\r\nHost: x\r\n"


@dataclasses.dataclass(eq=False)
class Member:
    """A connection as the bookkeeping sees it; `since` and `waiting` in seconds before now."""

    address: str
    since: float = 1.0
    waiting: float = 0.0
    busy: bool = False
    idle: bool = True
    requests: int = 1

    def __post_init__(self):
        now = time.monotonic()
        self.since = now - self.since
        self.waiting = now - self.waiting if self.waiting else 0.0


def crowded(*members, limit=3, **limits):
    made = crowd.Crowd(limit, **limits)
    for member in members:
        made.add(member)
    return made


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2::9", 1, 0, 0), "20010db800010002"),
        (("2001:db8:1:2:ffff::", 1, 0, 0), "20010db800010002"),
        (("fe80::1%eth0", 1, 0, 2), "fe80000000000000"),
        (("127.0.0.1", 1), ""),
        (("127.9.9.9", 1), ""),
        (("::1", 1, 0, 0), ""),
        (("::ffff:127.0.0.1", 1, 0, 0), ""),
        ("", ""),
    ],
)
def test_whom_an_address_stands_for(peer, address):
    assert crowd.address_of(peer) == address


def test_who_waits_longest_goes_first():
    members = [Member("a", 1), Member("b", 5), Member("c", 3, idle=False)]
    assert crowded(*members).slowest() is members[1]


def test_of_clients_with_many_connections_one_goes_first():
    members = [Member("a", 9), Member("b", 5), Member("b", 7), Member("b", 1, busy=True)]
    assert crowded(*members).slowest() is members[2]


def test_this_host_is_not_taken_for_a_client_with_many_connections():
    members = [Member("", 8), Member("", 7), Member("", 6), Member("b", 1), Member("b", 2)]
    assert crowded(*members).slowest() is members[4]
    assert crowded(*members[:4]).slowest() is members[0]


def test_a_stalled_request_goes_only_if_nothing_rests():
    busy = Member("a", busy=True)
    slow = Member("b", busy=True, waiting=crowd.STALL - 2)
    stalled = Member("c", busy=True, waiting=crowd.STALL + 1)
    longer = Member("d", busy=True, waiting=crowd.STALL + 2)
    assert crowded(busy, slow).slowest() is None
    assert crowded(busy, slow, stalled, longer).slowest() is longer
    resting = Member("e", 0.1)
    assert crowded(busy, stalled, longer, resting).slowest() is resting


@pytest.mark.parametrize("idle", [True, False], ids=["connected", "in its head"])
def test_a_client_that_has_just_come_does_not_go_for_the_next_one(idle):
    new = Member("a", since=0.1, idle=idle, requests=0 if idle else 1)
    work = [Member("a", busy=True) for _ in range(2)]
    assert crowded(new, *work).slowest() is None
    old = Member("a", since=crowd.HEAD_GRACE + 1, idle=idle, requests=0 if idle else 1)
    assert crowded(new, old, *work).slowest() is old


def test_what_was_cut_no_longer_counts_but_has_to_end():
    members = [Member("a"), Member("a"), Member("a", busy=True)]
    made = crowded(*members, per_address=3)
    assert made.is_full and made.is_over("a")
    made.cut(members[0])
    assert not made.is_full and not made.is_over("a") and made.leaving == {members[0]}
    made.remove(members[0])
    made.remove(members[1])
    made.remove(members[1])
    assert made.members == {members[2]} and not made.leaving
    assert not made.is_over("a")


def test_no_more_are_cut_than_can_end():
    made = crowded(*(Member("a") for _ in range(6)), limit=3)
    for _ in range(3):
        made.cut(made.slowest())
    assert made.is_full and made.slowest() is None


def test_this_host_is_never_over():
    made = crowded(*(Member("") for _ in range(5)), per_address=2)
    assert not made.is_over("")
    assert not crowded(*(Member("a") for _ in range(5))).is_over("a")


def test_a_client_makes_room_for_itself():
    members = [Member("a", 9), Member("b", 1), Member("b", 2), Member("b", 3, busy=True)]
    assert crowded(*members).slowest_of("b") is members[2]
    assert crowded(members[0], members[3]).slowest_of("b") is None


def test_unfinished_heads_have_a_limit_of_their_own():
    begun, fresh = Member("a", 30, idle=False), Member("b", 20, requests=0)
    others = [Member("c", 9), Member("d", 9, busy=True, idle=False)]
    assert crowded(begun, fresh, *others, unfinished=2).surplus_head() is None
    assert crowded(begun, fresh, *others, unfinished=1).surplus_head() is begun
    assert crowded(begun, fresh, *others).surplus_head() is None
    sudden = [Member("e", 0.1, requests=0) for _ in range(9)]
    assert crowded(*sudden, *others, unfinished=2).surplus_head() is None
    assert crowded(*sudden, fresh, unfinished=2).surplus_head() is fresh


# -- in a server ---------------------------------------------------------------------------------


def test_a_full_worker_closes_the_slowest_head_for_a_new_client(launch):
    server = launch(max_connections=4)
    clients = [server.client() for _ in range(4)]
    for client in clients:
        client.raw(HALF)
    for old in clients[:2]:
        newcomer = server.client()
        newcomer.raw(HALF)
        assert old.rest() == b""
    clients[3].raw(b"\r\n")
    newcomer.raw(b"\r\n")
    assert newcomer.read()[0] == 200
    assert clients[3].read()[0] == 200


def test_a_full_worker_closes_the_longest_idle_connection(launch):
    server = launch(max_connections=3)
    clients = [server.client() for _ in range(3)]
    for client in (clients[1], clients[0], clients[2]):
        client.get("/pid")
    assert server.client().get("/pid")[0] == 200
    assert clients[1].rest() == b""
    assert clients[0].get("/pid")[0] == clients[2].get("/pid")[0] == 200


def test_several_full_workers_serve_new_clients(launch):
    server = launch(workers=2, max_connections=2)
    for _ in range(8):
        server.client().raw(HALF)
    for _ in range(4):
        assert server.get("/pid")


def test_a_worker_full_of_requests_lets_the_next_client_wait(launch):
    server = launch(max_connections=2)
    clients = [server.client() for _ in range(2)]
    for client in clients:
        client.send("GET /slow?seconds=0.3 HTTP/1.1", "Host: x", "Connection: close")
    assert server.get("/pid")
    assert [client.read()[2] for client in clients] == [b"slept"] * 2


# -- a worker in the hub of the test -------------------------------------------------------------


def application(environ, start_response):
    data = b"none"
    try:
        data = environ["wsgi.input"].read()
    except OSError:
        data = b"cut"
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]


@contextlib.contextmanager
def accepting(**options):
    """Accept connections in greenthreads; yield the worker and a function to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        listener.setblocking(False)
        served = worker.Worker(config.Conf(options), listener, application)
        thread = eventlet.spawn(served._accept_loop)

        def connect(data):
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            client.sendall(data)
            client.setblocking(False)
            until(lambda: any(one.stream.waiting for one in served.connections))
            return client

        try:
            yield served, connect
        finally:
            thread.kill()
            for client in served.connections:
                client.stream.cut()
            until(lambda: not served.connections)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        eventlet.sleep(0.002)


def received(client):
    """Return what a client gets until the server closes."""
    data = []

    def closed():
        try:
            data.append(client.recv(65536))
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return not data[-1]

    until(closed)
    return b"".join(data)


UPLOAD = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"


def test_a_stalled_request_makes_room_for_a_new_client(monkeypatch):
    monkeypatch.setattr(crowd, "STALL", 0.05)
    with accepting(max_connections=2) as (served, connect):
        clients = [connect(UPLOAD) for _ in range(2)]
        until(lambda: sum(one.busy and one.waiting > 0 for one in served.connections) == 2)
        assert received(connect(GET.replace(b"x\r\n", b"x\r\nConnection: close\r\n"))).endswith(
            b"\r\n\r\n"
        )
        assert received(clients[0]) == b""
        clients[1].sendall(b"world")
        until(lambda: sum(one.busy for one in served.connections) == 0)
        assert clients[1].recv(65536).endswith(b"helloworld")


def test_a_client_with_all_its_connections_at_work_is_refused(monkeypatch, caplog):
    monkeypatch.setattr(crowd, "address_of", lambda peer: "192.0.2.7")
    with accepting(max_connections_per_address=2) as (served, connect):
        working = [connect(UPLOAD) for _ in range(2)]
        until(lambda: sum(one.busy for one in served.connections) == 2)
        for _ in range(3):
            refused = received(connect(b""))
            assert refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in refused
        assert (
            len([one for one in caplog.records if "max_connections_per_address" in one.msg]) == 1
        )
        working[0].sendall(b"world")
        until(lambda: sum(one.busy for one in served.connections) == 1)
        half = connect(HALF)
        until(lambda: len(served.crowd.leaving) == 0 and len(served.connections) == 2)
        assert received(working[0]).endswith(b"helloworld")
        half.sendall(b"Connection: close\r\n\r\n")
        assert received(half).startswith(b"HTTP/1.1 200 ")


def test_unfinished_heads_go_before_the_worker_is_full(monkeypatch):
    monkeypatch.setattr(crowd, "HEAD_GRACE", 0.0)
    with accepting(max_unfinished_heads=2) as (served, connect):
        idle = connect(GET)
        until(lambda: any(one.requests and one.idle for one in served.connections))
        clients = [connect(HALF) for _ in range(4)]
        assert [received(client) for client in clients[:2]] == [b"", b""]
        for client in clients[2:]:
            client.sendall(b"Connection: close\r\n\r\n")
            assert received(client).startswith(b"HTTP/1.1 200 ")
        assert served.crowd.members and idle.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_drips_is_as_slow_as_one_that_stalls(monkeypatch):
    monkeypatch.setattr(crowd, "STALL", 0.2)
    with accepting(max_connections=2) as (served, connect):
        head = UPLOAD.replace(b": 10", b": 9000000")
        dripping, progressing = [connect(head) for _ in range(2)]
        newcomer = connect(GET)

        def is_served():
            with contextlib.suppress(OSError):
                dripping.send(b"x")
            progressing.send(b"x" * 4096)
            eventlet.sleep(0.02)
            with contextlib.suppress(BlockingIOError):
                return newcomer.recv(65536).startswith(b"HTTP/1.1 200 ")

        until(is_served)
        assert received(dripping) == b""
        with pytest.raises(BlockingIOError):
            progressing.recv(1)

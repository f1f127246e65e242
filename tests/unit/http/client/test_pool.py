"""Kept connections: what is reused, what is sent twice, what is given up."""

import os
import threading
import time

import pytest

from glance.common import exception
from glance.http.client import payload
from glance.http.client import pool as http_pool
from glance.http.client import response as http_response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def pool(server, **kw):
    kw.setdefault("connect_timeout", 5)
    kw.setdefault("read_timeout", 5)
    return http_pool.ConnectionPool("127.0.0.1", server.port, **kw)


def get(connections, method="GET", body=None, path="/x"):
    headers = {} if body is None else {"content-length": str(len(body))}
    data = None if body is None else payload.Payload(body)
    return connections.request(method, path, headers, data)


def test_two_requests_share_a_connection(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server)
    assert get(connections).read() == b"ok"
    assert get(connections).read() == b"ok"
    assert server.connections == 1


def test_connection_in_use_is_not_shared(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server)
    first = get(connections)
    get(connections).read()
    first.read()
    assert server.connections == 2


def test_connection_used_last_is_taken_first(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server)
    first, second = get(connections), get(connections)
    kept = second._connection
    first.read()
    second.read()
    assert get(connections)._connection is kept


def test_answer_closed_before_its_end_gives_its_connection_up(loopback):
    server = loopback.answering(lambda seen: b"x" * 10)
    connections = pool(server)
    get(connections).close()
    get(connections).read()
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok+surplus",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["close", "http-1.0", "bytes-nobody-asked-for", "two-lengths"],
)
def test_connection_is_not_kept_after(loopback, answer):
    def script(peer):
        while peer.request() is not None:
            peer.send(answer)

    server = loopback(script)
    connections = pool(server)
    assert get(connections).read() == b"ok"
    assert get(connections).read() == b"ok"
    assert server.connections == 2


def test_idle_connection_that_the_server_closed_is_not_used(loopback):
    closed = threading.Event()

    def once(peer):
        peer.request()
        peer.send(OK)
        peer.close()
        closed.set()

    server = loopback(once)
    connections = pool(server)
    get(connections, "POST", b"1").read()
    assert closed.wait(5)
    get(connections, "POST", b"2").read()
    assert [seen.body for seen in server.requests] == [b"1", b"2"]


def test_connection_idle_for_too_long_is_not_used(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server, idle_timeout=0)
    get(connections).read()
    get(connections).read()
    assert server.connections == 2


def test_no_more_than_max_idle_connections_are_kept(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server, max_idle=1)
    answers = [get(connections) for _ in range(3)]
    for answer in answers:
        answer.read()
    assert len(connections._idle) == 1


def dies_on_the_second(peer):
    """Answer one request, read the next, and break the connection without a word."""
    peer.request()
    peer.send(OK)
    peer.request()
    peer.reset()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_request_lost_on_a_kept_connection_is_sent_once_more(loopback, method):
    def healthy(peer):
        peer.request()
        peer.send(OK[:-2] if method == "HEAD" else OK)

    server = loopback(dies_on_the_second, healthy)
    connections = pool(server)
    first = get(connections)
    first.read()
    response = get(connections, method, b"body" if method == "PUT" else None)
    assert (first.is_repeated, response.status, response.is_repeated) == (False, 200, True)
    assert server.connections == 2


def test_post_lost_on_a_kept_connection_is_not_repeated(loopback):
    server = loopback(dies_on_the_second)
    connections = pool(server)
    get(connections).read()
    with pytest.raises(exception.ClientConnectionError):
        get(connections, "POST", b"body")
    assert server.connections == 1


def test_request_lost_on_a_new_connection_is_not_repeated(loopback):
    def dies(peer):
        peer.request()
        peer.reset()

    server = loopback(dies)
    with pytest.raises(exception.ClientConnectionError):
        get(pool(server))
    assert server.connections == 1


def test_request_whose_answer_broke_off_is_not_repeated(loopback):
    def script(peer):
        peer.request()
        peer.send(OK)
        peer.request()
        peer.send(b"HTTP/1.1 20")

    server = loopback(script)
    connections = pool(server)
    get(connections).read()
    with pytest.raises(exception.ClientConnectionError):
        get(connections)
    assert server.connections == 1


def test_silent_server_is_a_timeout_and_not_repeated(loopback):
    def script(peer):
        peer.request()
        peer.send(OK)
        peer.request()
        peer.wait_closed()

    server = loopback(script)
    connections = pool(server, read_timeout=0.1)
    get(connections).read()
    with pytest.raises(http_response.ConnectionTimedOut):
        get(connections)
    assert server.connections == 1


def test_stall_in_the_middle_of_a_body_is_a_timeout(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"half", length=8)
        peer.wait_closed()

    response = get(pool(loopback(script), read_timeout=0.1))
    with pytest.raises(http_response.ConnectionTimedOut):
        response.read()
    assert response.closed


def test_nobody_listening_is_a_connection_error(loopback):
    server = loopback.answering(lambda seen: b"")
    server.stop()
    with pytest.raises(
        exception.ClientConnectionError, match="Unable to connect to server"
    ) as err:
        get(pool(server))
    assert isinstance(err.value, http_response.NotConnected)


def test_forked_process_does_not_use_its_parents_connections(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server)
    get(connections).read()
    connections._pid = os.getpid() + 1  # as the parent's pool looks to a child
    get(connections).read()
    assert server.connections == 2


def test_pool_serves_many_threads_at_once(loopback):
    server = loopback.answering(lambda seen: seen.target.encode())
    connections = pool(server)
    wrong = []

    def work(number):
        for turn in range(20):
            path = f"/{number}/{turn}"
            if get(connections, path=path).read() != path.encode():
                wrong.append(path)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert server.connections <= 8


@pytest.mark.parametrize(
    ("host", "port", "context", "shown"),
    [
        ("example.com", 9292, None, "example.com:9292"),
        ("example.com", 80, None, "example.com"),
        ("example.com", 443, object(), "example.com"),
        ("::1", 9292, None, "[::1]:9292"),
    ],
)
def test_host_header_names_the_port_unless_it_is_the_usual_one(host, port, context, shown):
    assert http_pool.ConnectionPool(host, port, context=context).host_header == shown


def test_old_idle_connections_are_closed_as_others_come_back(loopback):
    server = loopback.answering(lambda seen: b"ok")
    connections = pool(server, idle_timeout=10)
    first, second = get(connections), get(connections)
    old = first._connection
    first.read()
    old.idle_since = time.monotonic() - 60
    second.read()
    assert old not in connections._idle
    assert not old.is_alive()

"""One connection in a hub of the test's own: what it does to the other greenthreads."""

import contextlib
import socket

import eventlet
import pytest

from glance.common import httperror
from glance.http import wsgi
from glance.http.server import connection, stream
from glance.streaming import body

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def noting(order):
    def app(environ, start_response):
        order.append("request")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return app


def serve(app, sock):
    settings = connection.ServerSettings(app)
    served = connection.ServerConnection(settings, sock, ("127.0.0.1", 1))
    return served, eventlet.spawn(served.serve)


def test_others_have_a_turn_after_each_request_sent_ahead(sockets):
    near, far = sockets
    order = []

    def other():
        while True:
            order.append("other")
            eventlet.sleep(0)

    near.sendall(GET * 100)
    near.shutdown(socket.SHUT_WR)
    thread = eventlet.spawn(other)
    serve(noting(order), far)[1].wait()
    thread.kill()
    first = order.index("request")
    between = "".join("r" if word == "request" else "o" for word in order[first:])
    assert between.count("r") == 100
    assert "rr" not in between


class Counting(bytearray):
    """Received bytes that count how many of them are looked at."""

    looked = 0

    def find(self, part, start=0):
        Counting.looked += len(self) - start
        return super().find(part, start)

    def rfind(self, part, start=0):
        Counting.looked += len(self) - start
        return super().rfind(part, start)


def test_a_head_byte_by_byte_costs_no_more_than_its_bytes(sockets, monkeypatch):
    order = []
    lines = b"".join(b"A%d: %s\r\n" % (number, b"x" * 60) for number in range(800))
    data = GET[:-2] + lines + b"\r\n"
    pieces = [data[at : at + 1] for at in range(len(data))]
    monkeypatch.setattr(connection, "bytearray", Counting, raising=False)
    monkeypatch.setattr(
        stream.SocketStream, "recv", lambda *args: pieces.pop(0) if pieces else b""
    )
    Counting.looked = 0
    serve(noting(order), sockets[1])[1].wait()
    assert order == ["request"]
    assert 0 < Counting.looked < 10 * len(data)


def take(request):
    reader = body.UploadReader(request.environ["wsgi.input"], length=request.content_length)
    while reader.read():
        pass
    return wsgi.Response()


@pytest.mark.parametrize("framing", ["Content-Length: 9", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("handler", [take, lambda request: request.read_json()])
def test_a_client_that_left_before_it_may_continue_is_no_error(sockets, caplog, framing, handler):
    near, far = sockets
    caplog.set_level("DEBUG")
    seen = []

    def noted(request):
        try:
            return handler(request)
        except Exception as err:
            seen.append(httperror.status_of(err))
            raise

    router = wsgi.Router(wsgi.Request)
    router.add("/", PUT=noted)
    lines = ("PUT / HTTP/1.1", "Host: x", "Expect: 100-continue", framing, "", "")
    near.sendall("\r\n".join(lines).encode())
    near.close()
    serve(router, far)[1].wait()
    assert seen == [400]
    assert {record.levelname for record in caplog.records} <= {"DEBUG", "INFO"}
    assert not any(record.exc_info for record in caplog.records)


@pytest.fixture
def streams_():
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(9):
            near, far = socket.socketpair()
            stack.enter_context(near)
            stack.enter_context(far)
            made.append(stream.SocketStream(far, 20))
        yield made


def bytes_before_a_rest(fast, monkeypatch, step=64 * 1024):
    """Let streams move bytes without a wait; return what each has moved between two rests."""
    found = {one: [] for one in fast}
    rest = stream.SocketStream.rest
    count = dict.fromkeys(fast, 0)

    def resting(self):
        found[self].append(count[self])
        count[self] = 0
        rest(self)

    monkeypatch.setattr(stream.SocketStream, "rest", resting)

    def move(one):
        for _ in range(8 * stream.TURN // step):
            count[one] += step
            one.moved(step)

    for thread in [eventlet.spawn(move, one) for one in fast]:
        thread.wait()
    return list(found.values())


@pytest.mark.parametrize("count", [1, 4])
def test_fast_clients_rest_after_each_turn(streams_, monkeypatch, count):
    turns = bytes_before_a_rest(streams_[:count], monkeypatch)
    assert all(set(own) == {stream.TURN} for own in turns)

"""One exchange over one connection: uploads, early answers, malformed and short answers."""

import gzip
import io
import socket
import threading
import time

import pytest

from glance.common import exception
from glance.http.client import connection as http_connection
from glance.http.client import payload
from glance.http.client import response as http_response


def exchange(server, method="GET", body=None, headers=None, progress=None, timeout=5):
    """Send a request as the base client would and return the answer."""
    data = None if body is None else payload.Payload(body)
    fields = dict(headers or {})
    if data is not None:
        if data.length:
            fields["content-length"] = str(data.length)
        else:
            fields["transfer-encoding"] = "chunked"
    connection = http_connection.ClientConnection("127.0.0.1", server.port, timeout, timeout)
    head = http_connection.request_head(method, "/x", "localhost", fields)
    return connection.exchange(method, head, data, progress)


def saying(data):
    def script(peer):
        peer.request()
        peer.send(data)

    return script


class Pipe:
    """A source that can only be read, as a pipe is."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size=-1):
        return self._file.read(size)


# -- answers -------------------------------------------------------------------------------------


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        CHUNKED + b"2   \r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\nX: y\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=[
        "length",
        "chunked",
        "blanks",
        "trailer",
        "until-close",
        "interim",
        "no-reason",
        "same-length-twice",
    ],
)
def test_body_is_read_whole(loopback, answer):
    response = exchange(loopback(saying(answer)))
    assert (response.status, response.read(), response.read()) == (200, b"hello", b"")
    assert response.closed


def test_read_gives_exactly_what_is_asked_for_until_the_end(loopback):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na")
        peer.send(b"bc")
        peer.send(b"def")

    response = exchange(loopback(script))
    assert [response.read(4), response.read(4), response.read(4)] == [b"abcd", b"ef", b""]


def test_head_answer_has_no_body_whatever_its_length_says(loopback):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5120\r\n\r\n"
    response = exchange(loopback(saying(answer)), "HEAD")
    assert response.closed
    assert response.getheader("content-length") == "5120"


def test_headers_keep_their_order_and_bytes(loopback):
    answer = "HTTP/1.1 204 No\r\nX-A: 1\r\nx-b_c:  é \r\nX-A: 2\r\nX-Empty:\r\n\r\n".encode()
    response = exchange(loopback(saying(answer)))
    wire = "é".encode().decode("latin-1")
    assert response.getheaders() == [("X-A", "1"), ("x-b_c", wire), ("X-A", "2"), ("X-Empty", "")]
    assert response.getheader("x-a") == "1, 2"
    assert response.getheader("x-none", "default") == "default"


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage that is not HTTP at all\r\n\r\n",
        b"\x16\x03\x01 looks like TLS",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 huh OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000,
        b"HTTP/1.1 102 Wait\r\n\r\n" * 101 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        "text", "tls", "http-2", "status", "colon", "folded", "name", "negative", "two-lengths",
        "coding", "endless-head", "endless-interim",
    ],
)  # fmt: skip
def test_malformed_head_is_a_connection_error(loopback, answer):
    with pytest.raises(http_response.BadResponse):
        exchange(loopback(saying(answer)))


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"5\r\nhelloXX",
        b"\r\n",
        b"1" * 9000,
        b" 5\r\nhello\r\n",
        b"5;\r\nhello\r\n",
        b"0\r\n" + b"a: b\r\n" * 300 + b"\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"1;a=0123456789\r\nx\r\n" * 6000,
    ],
    ids=[
        "not-hex",
        "negative",
        "no-end",
        "empty-size",
        "endless-line",
        "blank",
        "extension",
        "trailers",
        "trailer",
        "extensions",
    ],
)
def test_malformed_chunks_are_a_connection_error(loopback, body):
    response = exchange(loopback(saying(CHUNKED + body)))
    with pytest.raises(exception.ClientConnectionError):
        response.read()
    assert response.closed


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        CHUNKED + b"9\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
    ],
    ids=["length", "inside-a-chunk", "between-chunks"],
)
def test_short_body_is_noticed(loopback, answer):
    response = exchange(loopback(saying(answer)))
    with pytest.raises(http_response.BodyTruncated):
        response.read()


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("place", ["value", "name", "target"])
def test_line_breaks_never_reach_the_wire(text, place):
    target, headers = "/", {"x": "y"}
    if place == "target":
        target = text
    else:
        headers = {"x": text} if place == "value" else {text: "y"}
    with pytest.raises(exception.Invalid):
        http_connection.request_head("GET", target, "h", headers)


def test_header_that_latin_1_cannot_carry_is_invalid():
    with pytest.raises(exception.Invalid):
        http_connection.request_head("GET", "/", "h", {"x": "\u20ac"})


# -- uploads -------------------------------------------------------------------------------------

BIG = bytes(range(256)) * 4096 * 3


def accepting(peer):
    seen = peer.request()
    peer.answer(200, str(len(seen.body)).encode())


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, len(BIG)])
@pytest.mark.parametrize("kind", ["bytes", "file", "memory", "pipe"])
def test_body_arrives_whole(loopback, tmp_path, kind, size):
    data = BIG[:size]
    path = tmp_path / "image"
    path.write_bytes(data)
    server = loopback(accepting)
    with path.open("rb") as file:
        source = {
            "bytes": data,
            "file": file,
            "memory": io.BytesIO(data),
            "pipe": Pipe(data),
        }[kind]
        assert exchange(server, "PUT", source).status == 200
    assert server.requests[0].body == data


@pytest.mark.parametrize("real", [True, False], ids=["file", "memory"])
def test_upload_starts_at_the_current_position(loopback, tmp_path, real):
    path = tmp_path / "image"
    path.write_bytes(b"skipped" + BIG)
    server = loopback(accepting)
    with path.open("rb") if real else io.BytesIO(b"skipped" + BIG) as file:
        file.read(7)
        exchange(server, "PUT", file)
        assert file.read() == b""
    assert server.requests[0].body == BIG


def test_progress_is_told_of_every_byte(loopback):
    calls = []
    exchange(loopback(accepting), "PUT", io.BytesIO(BIG), progress=lambda *a: calls.append(a))
    assert calls[-1] == (len(BIG), len(BIG))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_progress_of_a_pipe_has_no_total(loopback):
    calls = []
    exchange(loopback(accepting), "PUT", Pipe(b"data"), progress=lambda *a: calls.append(a))
    assert calls == [(4, None)]


def answers_early(peer):
    """Refuse at once, read nothing, close: the client's pipe breaks."""
    peer.head()
    peer.answer(413, b"too large")


def answers_early_and_stops_reading(peer):
    peer.head()
    peer.answer(413, b"too large")
    peer.server.stopped.wait(10)


@pytest.mark.parametrize("kind", ["bytes", "file", "pipe"])
@pytest.mark.parametrize(
    "script", [answers_early, answers_early_and_stops_reading], ids=["closes", "stops-reading"]
)
def test_early_answer_reaches_the_caller(loopback, tmp_path, script, kind):
    path = tmp_path / "image"
    path.write_bytes(BIG * 8)
    with path.open("rb") as file:
        source = {"bytes": BIG * 8, "file": file, "pipe": Pipe(BIG * 8)}[kind]
        response = exchange(loopback(script), "POST", source)
    assert (response.status, response.read()) == (413, b"too large")


def test_early_answer_on_a_broken_pipe_reaches_the_caller(loopback):
    refused = threading.Event()

    def script(peer):
        peer.head()
        peer.answer(401, b"who?")
        peer.close()
        refused.set()

    class Slow(Pipe):
        def read(self, size=-1):
            refused.wait(5)
            return super().read(size)

    response = exchange(loopback(script), "POST", Slow(BIG))
    assert response.status == 401


def test_interim_answer_does_not_stop_an_upload(loopback):
    def script(peer):
        head = peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = peer.file.read(int(head.headers["content-length"]))
        peer.answer(200, str(len(body)).encode())

    response = exchange(loopback(script), "PUT", io.BytesIO(BIG))
    assert response.read() == str(len(BIG)).encode()


def test_upload_to_a_server_that_reads_nothing_times_out(loopback):
    def script(peer):
        peer.head()
        peer.server.stopped.wait(10)

    with pytest.raises(http_response.ConnectionTimedOut):
        exchange(loopback(script), "PUT", Pipe(BIG * 8), timeout=0.2)


def test_upload_to_a_server_that_hangs_up_is_a_connection_error(loopback):
    def script(peer):
        peer.head()
        peer.reset()

    with pytest.raises(exception.ClientConnectionError):
        exchange(loopback(script), "PUT", Pipe(BIG * 8))


def test_error_of_the_local_file_reaches_the_caller_as_it_is(loopback):
    class Failing(Pipe):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        exchange(loopback(accepting), "PUT", Failing(b""))


def test_file_that_shrinks_while_it_is_sent_is_an_error(loopback):
    class Shrinking(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) if not self.tell() else b""

    with pytest.raises(exception.BadInputError):
        exchange(loopback(accepting), "PUT", Shrinking(BIG))


def test_text_file_is_refused_with_advice(loopback):
    with pytest.raises(TypeError, match="binary"):
        exchange(loopback(accepting), "PUT", io.StringIO("text"))


def test_compressed_file_object_is_sent_as_it_reads(loopback, tmp_path):
    path = tmp_path / "image.gz"
    path.write_bytes(gzip.compress(BIG))
    server = loopback(accepting)
    with gzip.open(path, "rb") as file:
        exchange(server, "PUT", file)
    assert server.requests[0].body == BIG


# -- where to connect, and until when ------------------------------------------------------------


HEAD = http_connection.request_head("GET", "/x", "glance.test", {})


def test_given_addresses_are_tried_in_turn_and_the_name_is_never_looked_up(loopback, monkeypatch):
    server = loopback(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    looked_up = []
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args: looked_up.append(host) or real(host, *args)
    )
    addresses = [("127.0.0.2", server.port), ("127.0.0.1", server.port)]
    connection = http_connection.new_connection(
        "glance.test", server.port, 5, 5, addresses=addresses
    )
    assert connection.exchange("GET", HEAD).read() == b"hello"
    assert looked_up == ["127.0.0.2", "127.0.0.1"]
    assert server.requests[0].headers["host"] == "glance.test"


def test_tls_at_a_given_address_verifies_the_name(tls):
    server = tls.serve(lambda seen: b"hello")
    context = http_connection.TLS(ca_file=tls.root).context()
    addresses = [("127.0.0.1", server.port)]

    def fetch(name):
        connection = http_connection.new_connection(
            name, server.port, 5, 5, context=context, addresses=addresses
        )
        with connection.exchange("GET", HEAD) as response:
            return response.read()

    assert fetch("glance.test") == b"hello"
    with pytest.raises(http_response.ConnectionBroken, match="mismatch"):
        fetch("other.test")
    # OpenSSL has no such names; the error of a name is one of the connection.
    with pytest.raises(http_response.ConnectionBroken):
        fetch(".test")


def test_no_address_is_tried_behind_the_deadline(loopback):
    server = loopback(accepting)
    addresses = [("127.0.0.1", server.port)]
    connection = http_connection.new_connection("x", 1, None, None, addresses=addresses)
    with pytest.raises(http_response.ConnectionBroken, match="timed out"):
        connection.exchange("GET", HEAD, deadline=time.monotonic() - 1)
    assert server.connections == 0


@pytest.mark.parametrize("read_timeout", [None, 5])
def test_a_head_that_trickles_past_the_deadline_is_given_up(loopback, read_timeout):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while not peer.server.stopped.wait(0.01):
            peer.send(b"X: y\r\n")

    server = loopback(script)
    connection = http_connection.ClientConnection("127.0.0.1", server.port, 5, read_timeout)
    with pytest.raises(http_response.ConnectionTimedOut):
        connection.exchange("GET", HEAD, deadline=time.monotonic() + 0.2)
    assert not connection.reusable


def test_the_deadline_is_that_of_the_head_and_not_of_the_body(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"he", length=5)
        deadline_over.wait(10)
        peer.send(b"llo")

    deadline_over = threading.Event()
    server = loopback(script)
    connection = http_connection.ClientConnection("127.0.0.1", server.port, 5, 10)
    deadline = time.monotonic() + 2
    response = connection.exchange("GET", HEAD, deadline=deadline)
    assert response.read1() == b"he"
    time.sleep(max(0.0, deadline - time.monotonic()))
    deadline_over.set()
    assert response.read() == b"llo"


def test_read1_gives_what_is_there_and_tells_of_a_short_body(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"he", length=5)
        taken.wait(10)
        peer.send(b"l")

    taken = threading.Event()
    response = exchange(loopback(script))
    assert (response.read1(1), response.read1()) == (b"h", b"e")
    taken.set()
    assert response.read1() == b"l"
    with pytest.raises(http_response.BodyTruncated):
        response.read1()
    assert response.closed


def test_read1_raises_what_read_held_back(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"he", length=5)

    response = exchange(loopback(script))
    assert response.read(4) == b"he"
    with pytest.raises(http_response.BodyTruncated):
        response.read1()


@pytest.mark.parametrize(
    ("method", "headers", "length"),
    [
        ("HEAD", "Content-Length: 5120", 5120),
        ("HEAD", "Content-Length: 5, 5", 5),
        ("HEAD", "Content-Length: 5, 6", None),
        ("HEAD", "Content-Length: +5", None),
        ("HEAD", "Content-Length: \xb2", None),
        ("HEAD", "Content-Length: 5\r\nTransfer-Encoding: chunked", None),
        ("HEAD", "X: y", None),
        ("GET", "Content-Length: 2", 2),
        ("GET", "X: y", None),
    ],
)
def test_the_declared_length_is_what_the_headers_say(loopback, method, headers, length):
    answer = f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhi".encode("latin-1")
    with exchange(loopback(saying(answer)), method) as response:
        assert response.declared_length == length


@pytest.mark.parametrize(
    ("host", "port", "default", "text"),
    [
        ("mirror.test", 80, 80, "mirror.test"),
        ("mirror.test", 80, 443, "mirror.test:80"),
        ("mirror.test", 80, None, "mirror.test:80"),
        ("::1", 80, 80, "[::1]"),
        ("::1", 9292, 80, "[::1]:9292"),
        ("fe80::1%eth0", 9292, 80, "[fe80::1]:9292"),
    ],
)
def test_a_server_is_named_as_headers_need_it(host, port, default, text):
    assert http_connection.authority(host, port, default) == text


# -- a body that this side stops sending ----------------------------------------------------------


class Failing:
    """A source that fails after its first piece."""

    def __init__(self, error):
        self._pieces = [b"x" * 10]
        self._error = error

    def read(self, size=-1):
        if self._pieces:
            return self._pieces.pop()
        raise self._error


def stopping(server, error, heard):
    body = payload.Payload(Failing(error))
    body.parting = heard
    connection = http_connection.ClientConnection("127.0.0.1", server.port, 5, 5)
    fields = {"transfer-encoding": "chunked"}
    head = http_connection.request_head("POST", "/x", "localhost", fields)
    with pytest.raises(type(error)) as caught:
        connection.exchange("POST", head, body)
    assert caught.value is error
    assert not connection.reusable


def reading_on(peer):
    """Read the body until it ends, in whatever way, and say how much has come."""
    peer.head()
    rest = peer.file.read()
    peer.answer(400, b"too short", {"X-Seen": len(rest)})


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_the_server_is_heard_when_the_source_fails(loopback, error):
    heard = []
    stopping(loopback(reading_on), error, lambda got: heard.append((got.status, got.getheaders())))
    assert heard == [(400, [("X-Seen", "15"), ("Content-Length", "9")])]


@pytest.mark.parametrize(
    "script",
    [
        # It has read the one chunk: closing before would fail the client's sending.
        lambda peer: (peer.head(), peer.file.read(15), peer.close()),
        lambda peer: (peer.head(), peer.file.read(), peer.send(b"nonsense\r\n\r\n")),
        lambda peer: (peer.head(), peer.wait_closed()),
    ],
    ids=["hangs-up", "nonsense", "silent"],
)
def test_a_server_that_says_nothing_of_it_does_not_hide_the_cause(loopback, monkeypatch, script):
    monkeypatch.setattr(http_connection, "PARTING", 0.1)
    heard = []
    stopping(loopback(script), KeyboardInterrupt(), heard.append)
    assert heard == []


def test_the_server_is_heard_inside_tls_too(tls):
    server = tls.serve(None)
    server.scripts[:] = [lambda peer: (peer.head(), peer.file.readline(), peer.answer(400, b"no"))]
    body = payload.Payload(Failing(KeyboardInterrupt()))
    heard = []
    body.parting = lambda got: heard.append(got.status)
    context = http_connection.TLS(ca_file=tls.root).context()
    connection = http_connection.TLSConnection("127.0.0.1", server.port, 5, 5, context)
    fields = {"transfer-encoding": "chunked"}
    head = http_connection.request_head("POST", "/x", "localhost", fields)
    with pytest.raises(KeyboardInterrupt):
        connection.exchange("POST", head, body)
    assert heard == [400]

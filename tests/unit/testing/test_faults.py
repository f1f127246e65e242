"""The proxy that makes things go wrong for the tests of drivers."""

import http.client
import http.server
import threading

import pytest

from glance.testing.faults import Fault, FaultProxy

DATA = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.send_header("ETag", "right")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(DATA)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.send_response(201)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"4\r\ndone\r\n0\r\n\r\n")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Say nothing: broken connections are the subject here."""


@pytest.fixture
def backend():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.bodies = []
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(backend):
    with FaultProxy(backend.server_port) as running:
        yield running


@pytest.fixture
def client(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    yield connection
    connection.close()


def ask(client, method, path="/x", body=None):
    client.request(method, path, body)
    reply = client.getresponse()
    return reply, reply.read()


BROKEN = (ConnectionError, http.client.HTTPException)


def test_without_orders_everything_passes_on_one_connection(backend, proxy, client):
    assert ask(client, "GET")[1] == DATA
    assert ask(client, "HEAD")[1] == b""
    assert ask(client, "PUT", body=DATA)[1] == b"done"
    assert ask(client, "GET")[1] == DATA
    assert backend.bodies == [DATA]
    assert proxy.seen == ["GET /x", "HEAD /x", "PUT /x", "GET /x"]
    assert (proxy.count("GET"), proxy.count("GET", "y")) == (2, 0)


def test_a_fault_strikes_the_requests_that_it_names_as_often_as_ordered(backend, proxy, client):
    proxy.order(Fault("PUT", "b$", skip=1, times=2, status=503, headers={"retry-after": "1"}))
    statuses = [ask(client, "PUT", path, b"x")[0].status for path in ("/a", *["/b"] * 4)]
    assert statuses == [201, 201, 503, 503, 201]
    assert len(backend.bodies) == 3
    proxy.order(Fault(times=None, status=500))
    assert [ask(client, "GET")[0].status for _ in range(3)] == [500] * 3
    proxy.clear()
    assert ask(client, "GET")[0].status == 200


def test_a_cut_request_never_reaches_its_end(backend, proxy, client):
    proxy.order(Fault("PUT", cut_request=1000))
    with pytest.raises(BROKEN):
        ask(client, "PUT", body=DATA)
    assert DATA not in backend.bodies


def test_a_lost_answer_leaves_the_work_done(backend, proxy, client):
    proxy.order(Fault("PUT", cut_response=-1))
    with pytest.raises(BROKEN):
        ask(client, "PUT", body=DATA)
    assert backend.bodies == [DATA]


def test_a_cut_answer_has_its_head_and_so_many_bytes(proxy, client):
    proxy.order(Fault("GET", cut_response=1000))
    client.request("GET", "/x")
    reply = client.getresponse()
    assert reply.read(1000) == DATA[:1000]
    with pytest.raises(BROKEN):
        assert not reply.read(1)
        raise ConnectionError


@pytest.mark.parametrize("field", ["stall_request", "stall_response"])
def test_a_stall_is_silence(proxy, field):
    proxy.order(Fault("PUT", **{field: 0}))
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.3)
    with pytest.raises(TimeoutError):
        ask(client, "PUT", body=b"x" * 10)
    client.close()


def test_headers_and_bytes_of_answers_can_be_changed(proxy, client):
    proxy.order(Fault("GET", change={"etag": "wrong"}, flip=300))
    reply, data = ask(client, "GET")
    assert reply.headers.get_all("etag") == ["wrong"]
    assert [at for at, byte in enumerate(data) if byte != DATA[at]] == [300]


def test_a_trickle_arrives_whole(proxy, client):
    proxy.order(Fault("GET", trickle=200_000))
    assert ask(client, "GET")[1] == DATA


def test_it_refuses_connections_while_it_is_down(proxy, client):
    assert ask(client, "GET")[1] == DATA
    proxy.down()
    with pytest.raises(BROKEN):
        ask(client, "GET")
    client.close()
    with pytest.raises(ConnectionRefusedError):
        ask(client, "GET")
    client.close()
    proxy.up()
    assert ask(client, "GET")[1] == DATA

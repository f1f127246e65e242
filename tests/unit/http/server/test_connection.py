"""What goes over the wire, byte for byte, between clients and one serving process."""

import json
import ssl
import subprocess
import time
import urllib.parse

import pytest

CLOSE = "Connection: close"
BLOCK = bytes(range(256)) * 4096


def pattern(start, stop):
    """Return a part of what the test application's files hold."""
    whole = BLOCK * (stop // len(BLOCK) + 1)
    return whole[start:stop]


# -- requests ------------------------------------------------------------------------------------


def test_raw_headers_stand_beside_the_environ(client):
    _, _, body = client.get("/a%20b?c=%20", "x-image-meta-disk_format: raw", "X-A: 1", "x-a: 2")
    seen = json.loads(body)
    assert ["x-image-meta-disk_format", "raw"] in seen["raw"]
    assert seen["http"] == {"HTTP_HOST": "x", "HTTP_X_A": "1,2"}
    assert (seen["PATH_INFO"], seen["RAW_PATH_INFO"]) == ("/a b", "/a%20b")
    assert (seen["QUERY_STRING"], seen["type"], seen["scheme"]) == ("c=%20", None, "http")


def test_utf_8_comes_and_goes_unchanged(client):
    name = "größe: 東京"
    _, _, body = client.get("/", "x-image-meta-name: " + name.encode().decode("latin-1"))
    assert json.loads(body)["http"]["HTTP_X_IMAGE_META_NAME"].encode("latin-1").decode() == name
    _, headers, _ = client.get("/headers?value=gr%C3%B6%C3%9Fe")
    assert headers["X-Image-Meta-Name"].encode("latin-1").decode() == "größe"


def test_stored_line_breaks_make_no_header(client):
    _, headers, _ = client.get("/headers?value=a%0D%0ASet-Cookie:%20b")
    assert headers["X-Image-Meta-Name"] == "a  Set-Cookie: b"
    assert "Set-Cookie" not in headers


def test_both_framings_are_decoded_as_chunked_and_the_connection_closed(client):
    body = b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"
    lines = ("Transfer-Encoding: chunked", "Content-Length: 9", "X-Read: 1")
    status, headers, answer = client.ask("PUT / HTTP/1.1", "Host: x", *lines, body=body)
    seen = json.loads(answer)
    assert (status, seen["body"], seen["length"]) == (200, "Wikipedia", None)
    assert headers["Connection"] == "close"
    assert client.rest() == b""


def test_both_framings_smuggle_no_second_request(client):
    smuggled = b"0\r\n\r\nGET /pid HTTP/1.1\r\nHost: x\r\n\r\n"
    lines = ("Transfer-Encoding: chunked", f"Content-Length: {len(smuggled)}", "X-Read: 1")
    client.send("PUT / HTTP/1.1", "Host: x", *lines, body=smuggled)
    client.read()
    assert client.rest() == b""


@pytest.mark.parametrize("size", [1, 1000, 65536, 10_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive_whole(client, size, chunked):
    data = (b"%x\r\n" % size + b"x" * size + b"\r\n") * 3
    line = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {3 * size}"
    body = data + b"0\r\n\r\n" if chunked else b"x" * 3 * size
    target = "/count?size=1048576"
    _, headers, answer = client.ask(f"PUT {target} HTTP/1.1", "Host: x", line, body=body)
    assert int(answer) == 3 * size
    assert headers["Connection"] is None
    assert client.get("/pid")[0] == 200


def test_requests_sent_ahead_are_answered_in_order(client):
    one = b"PUT /take?size=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%b"
    client.raw(one % (3, b"abc") + b"\r\n" + one % (3, b"def") + one % (3, b"ghi"))
    assert [client.read()[2] for _ in range(3)] == [b"abc", b"def", b"ghi"]


def test_a_head_may_come_byte_by_byte(client):
    for byte in b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n":
        client.raw(bytes([byte]))
    assert client.read()[0] == 200


@pytest.mark.parametrize("count", [1, 2, 16])
def test_empty_lines_before_a_request_are_skipped(client, count):
    for _ in range(2):
        client.raw(b"\r\n" * count + b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read()[0] == 200


def test_an_empty_line_begins_no_request(launch):
    server = launch(keepalive_timeout=0.2)
    client = server.client()
    client.get("/pid")
    client.raw(b"\r\n")
    assert client.rest() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n" * 17, 400),
        (b"\r\n" * 100_000 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\r\n GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\r\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", 431),
    ],
)
def test_a_bad_request_gets_a_sentence_and_a_close(client, data, status):
    client.raw(data)
    got, headers, body = client.read()
    assert got == status
    assert headers["Connection"] == "close"
    lines = body.decode().splitlines()
    assert lines[0].startswith(str(status)) and lines[1] == "" and len(lines) == 3
    assert client.rest() == b""


def test_a_long_line_within_the_limit_is_taken(client):
    assert client.get("/", "A: " + "x" * 16_000)[0] == 200


# -- 100 Continue, bodies that nobody reads ------------------------------------------------------


def test_the_client_continues_when_the_application_reads(client):
    client.send("PUT /count HTTP/1.1", "Host: x", "Content-Length: 3", "Expect: 100-continue")
    assert client.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client.file.readline() == b"\r\n"
    client.raw(b"abc")
    assert client.read()[2] == b"3"
    assert client.get("/pid")[0] == 200


def test_an_answer_instead_of_continue_closes(client):
    client.send("PUT /ignore HTTP/1.1", "Host: x", "Content-Length: 3", "Expect: 100-continue")
    status, headers, _ = client.read()
    assert (status, headers["Connection"]) == (413, "close")
    assert client.rest() == b""


def test_http_1_0_is_never_told_to_continue(client):
    lines = ("Content-Length: 3", "Expect: 100-continue")
    assert client.ask("PUT /count HTTP/1.0", *lines, body=b"abc")[0] == 200


def test_a_small_unread_body_keeps_the_connection(client):
    lines = ("Host: x", "Content-Length: 30000")
    status, headers, _ = client.ask("PUT /ignore HTTP/1.1", *lines, body=b"x" * 30_000)
    assert (status, headers["Connection"]) == (413, None)
    assert client.get("/pid")[0] == 200


@pytest.mark.parametrize("framing", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
def test_a_client_that_sends_all_before_it_reads_sees_the_early_answer(client, framing):
    body = b"x" * 20_000_000
    if "chunked" in framing:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    status, headers, text = client.ask("PUT /ignore HTTP/1.1", "Host: x", framing, body=body)
    assert (status, text) == (413, b"not taken\n")
    assert headers["Connection"] == "close"
    assert client.rest() == b""


def test_a_bad_chunk_closes_the_connection(client):
    lines = ("Host: x", "Transfer-Encoding: chunked")
    status, headers, body = client.ask("PUT /count HTTP/1.1", *lines, body=b"nonsense\r\n")
    assert (status, headers["Connection"]) == (500, "close")
    assert client.rest() == b""


# -- answers -------------------------------------------------------------------------------------


def test_an_answer_of_unknown_length_is_chunked(client):
    _, headers, body = client.get("/pieces")
    assert headers["Transfer-Encoding"] == "chunked"
    assert body == b"onetwo" + b"3" * 100_000
    assert client.get("/pid")[0] == 200


def test_http_1_0_reads_to_the_end_of_the_connection(client):
    client.send("GET /pieces HTTP/1.0", "Connection: keep-alive")
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"Connection: close" in head and b"chunked" not in head
    assert body == b"onetwo" + b"3" * 100_000


def test_http_1_0_keeps_the_connection_when_it_asks_to(client):
    _, headers, _ = client.ask("GET /pid HTTP/1.0", "Connection: keep-alive")
    assert headers["Connection"] == "keep-alive"
    assert client.ask("GET /pid HTTP/1.0")[1]["Connection"] == "close"
    assert client.rest() == b""


def test_the_write_callable(client):
    assert client.get("/written")[2] == b"written and returned"


@pytest.mark.parametrize(
    "target", ["/pieces", "/file?size=1000", "/pid", "/watched?size=1&promise=9"]
)
def test_head_gets_no_body(client, target):
    client.send(f"HEAD {target} HTTP/1.1", "Host: x")
    client.send("GET /pid HTTP/1.1", "Host: x", "Connection: close")
    answers = client.rest()
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1")


@pytest.mark.parametrize("status", ["204", "304"])
def test_statuses_without_a_body_have_no_length(client, status):
    _, headers, _ = client.get(f"/nothing?status={status}")
    assert headers["Content-Length"] is None and headers["Transfer-Encoding"] is None
    assert client.get("/pid")[0] == 200


def test_an_empty_answer_has_length_zero(client):
    assert client.get("/nothing?status=200")[1]["Content-Length"] == "0"


@pytest.mark.parametrize("header", ["", "&header=1"])
@pytest.mark.parametrize("size", [99_000, 101_000])
def test_an_answer_of_another_length_than_promised_is_cut(shared, size, header):
    client = shared.client()
    client.send(f"GET /watched?size={size}&promise=100000{header} HTTP/1.1", "Host: x")
    head, _, body = client.rest().partition(b"\r\n\r\n")
    if size > 100_000 and not header:
        # The body object itself finds out, before anything is sent.
        assert b" 500 " in head
        return
    assert b"Content-Length: 100000" in head
    assert len(body) == min(size, 100_000)


def test_bodies_are_closed_whatever_happens(shared):
    before = len(json.loads(shared.get("/closed")))
    for target in ("size=5&promise=5", "size=4&promise=5", "size=6&promise=5"):
        client = shared.client()
        client.send(f"GET /watched?{target} HTTP/1.1", "Host: x", "Connection: close")
        client.rest()
        client = shared.client()
        client.send(f"HEAD /watched?{target} HTTP/1.1", "Host: x", "Connection: close")
        client.rest()
    assert len(json.loads(shared.get("/closed"))) == before + 6


def test_a_failure_of_the_application_is_a_500_without_its_reason(client):
    status, headers, body = client.get("/boom")
    assert (status, headers["Connection"]) == (500, "close")
    assert body == b"500 Internal Server Error\n\nThe server failed.\n"


def test_a_failure_midway_leaves_the_answer_unfinished(client):
    client.send("GET /break HTTP/1.1", "Host: x")
    answer = client.rest()
    assert answer.endswith(b"4\r\nsome\r\n")
    assert b"secret" not in answer


def test_a_failure_midway_resets_where_the_end_is_the_end_of_the_connection(client):
    client.send("GET /break HTTP/1.0")
    with pytest.raises(ConnectionResetError):
        client.rest()


@pytest.mark.parametrize(("failure", "status"), [("store", 503), ("corrupt", 500), ("disk", 500)])
def test_data_that_fails_at_once_has_the_status_of_its_error(client, failure, status):
    found, headers, body = client.get(f"/fails?failure={failure}")
    assert (found, headers["Connection"]) == (status, "close")
    assert (headers["Retry-After"] is not None) == (status == 503)
    assert headers["X-Openstack-Request-Id"].startswith("req-")
    assert b"canary" not in body and b"cause" not in body


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/fails?failure=store", "0 bytes: BackendUnavailable: "),
        ("/fails?failure=store&first=some", "4 bytes: BackendUnavailable: "),
        ("/fails?failure=corrupt&first=some", "BackendCorrupt: "),
        ("/fails?failure=disk&first=some", "OSError: Input/output error"),
        ("/file?size=3000000&cut=1000", "1000 bytes: "),
        ("/watched?size=4&promise=5&header=1", "4 of 5 announced bytes"),
        ("/watched?size=6&promise=5&header=1", "longer than its Content-Length"),
    ],
)
def test_data_that_fails_is_one_line_in_the_log(launch, target, said):
    server = launch()
    client = server.client()
    client.send(f"GET {target} HTTP/1.1", "Host: x", "Connection: close")
    client.rest()
    assert server.stop() == 0
    # That root should not run it is said at start.
    usual = (" INFO ", "[glance.common.privileges]")
    (line,) = [line for line in server.log().splitlines() if not any(u in line for u in usual)]
    assert f"The response to GET {target.partition('?')[0]} ended after " in line
    assert said in line and "canary" not in line


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 4_194_304, 9_000_001])
def test_a_file_is_sent_and_the_connection_kept(client, size):
    for _ in range(2):
        _, headers, body = client.get(f"/file?size={size}")
        assert headers["Content-Length"] == str(size) and headers["Transfer-Encoding"] is None
        assert body == pattern(0, size)


def test_a_part_of_a_file(client):
    assert client.get("/file?size=9000000&start=123&stop=5000123")[2] == pattern(123, 5_000_123)


def test_a_file_that_got_shorter_cuts_the_connection(client):
    client.send("GET /file?size=3000000&cut=1000 HTTP/1.1", "Host: x")
    assert len(client.rest().partition(b"\r\n\r\n")[2]) == 1000


def test_a_slow_reader_gets_its_file(shared):
    client = shared.client(receive_buffer=4096)
    client.send("GET /file?size=3000000 HTTP/1.1", "Host: x")
    assert client.read()[2] == pattern(0, 3_000_000)


# -- the end of an answer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "sent", "whole"),
    [
        ("/file?size=70000", 70_000, True),
        ("/file?size=70000&start=5&stop=25", 20, True),
        ("/pieces?", 100_006, True),
        ("/pid?", None, True),
        ("/written?", 20, True),
        ("/nothing?status=304", 0, True),
        ("/file?size=70000&cut=30000", 30_000, False),
        ("/break?", 4, False),
        ("/boom?", None, False),
    ],
)
def test_the_application_is_told_how_an_answer_ended(shared, target, sent, whole):
    note = f"{target} {time.monotonic_ns()}"
    client = shared.client()
    client.send(f"GET {target}&note={urllib.parse.quote(note)} HTTP/1.1", "Host: x", CLOSE)
    body = client.rest().partition(b"\r\n\r\n")[2]
    ends = [end for end in json.loads(shared.get("/ended")) if end[0] == note]
    assert ends == [[note, len(body) if sent is None else sent, whole]]


@pytest.mark.parametrize("kind", ["file", "watched"])
def test_the_application_is_told_when_a_client_leaves_in_the_middle(shared, kind):
    note = f"{kind} {time.monotonic_ns()}"
    size = 50_000_000
    query = urllib.parse.urlencode({"note": note, "size": size, "promise": size})
    client = shared.client(receive_buffer=4096)
    client.send(f"GET /{kind}?{query} HTTP/1.1", "Host: x")
    client.file.read(1000)
    client.close()
    deadline = time.monotonic() + 20
    while not (ends := [end for end in json.loads(shared.get("/ended")) if end[0] == note]):
        assert time.monotonic() < deadline
    ((_, sent, whole),) = ends
    assert not whole and 500 < sent < size


def test_an_answer_without_body_to_head_is_whole(shared):
    note = f"head {time.monotonic_ns()}"
    client = shared.client()
    query = urllib.parse.urlencode({"note": note, "size": 9, "promise": 9})
    client.send(f"HEAD /watched?{query} HTTP/1.1", "Host: x", CLOSE)
    client.rest()
    assert [note, 0, True] in json.loads(shared.get("/ended"))


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/file?size=100000000", "/watched?size=100000000&promise=100000000"]
)
def test_a_reader_that_takes_nothing_is_cut(launch, target):
    server = launch(client_socket_timeout=0.2)
    client = server.client(receive_buffer=4096)
    client.send(f"GET {target} HTTP/1.1", "Host: x")
    client.file.read(1000)
    assert json.loads(server.get("/closed")) is not None
    # The server is free again: it stops without waiting for the stalled client.
    assert server.stop() == 0


def test_a_silent_uploader_is_given_up(launch):
    client = launch(client_socket_timeout=0.2).client()
    client.send("PUT /count HTTP/1.1", "Host: x", "Content-Length: 10", body=b"only")
    status, headers, _ = client.read()
    assert (status, headers["Connection"]) == (500, "close")


def test_an_idle_connection_is_closed(launch):
    client = launch(keepalive_timeout=0.2).client()
    assert client.get("/pid")[0] == 200
    assert client.rest() == b""


def test_keep_alive_can_be_switched_off(launch):
    client = launch(keepalive_timeout=0).client()
    assert client.get("/pid")[1]["Connection"] == "close"
    assert client.rest() == b""


def test_requests_are_logged_at_level_debug(launch):
    server = launch(debug="true")
    server.client().get("/pid?x=1", "X-Forwarded-For: 9.9.9.9, 8.8.8.8", "Connection: close")
    server.stop()
    assert "9.9.9.9,8.8.8.8,127.0.0.1 - - [" in server.log()
    assert '"GET /pid?x=1 HTTP/1.1" 200 ' in server.log()


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
        )
    except OSError:
        pytest.skip("openssl is not installed")
    return cert, key


def test_tls_serves_files_and_takes_uploads(launch, certificate):
    cert, key = certificate
    server = launch(cert_file=str(cert), key_file=str(key))
    client = server.client()
    context = ssl.create_default_context(cafile=str(cert))
    client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
    client.file = client.sock.makefile("rb")
    assert json.loads(client.get("/")[2])["scheme"] == "https"
    assert client.get("/file?size=3000001")[2] == pattern(0, 3_000_001)
    lines = ("Host: x", "Content-Length: 5000000")
    assert client.ask("PUT /count HTTP/1.1", *lines, body=b"x" * 5_000_000)[2] == b"5000000"


def test_plain_text_to_a_tls_port_disturbs_nobody(launch, certificate):
    cert, key = certificate
    server = launch(cert_file=str(cert), key_file=str(key))
    client = server.client()
    client.send("GET / HTTP/1.1", "Host: x")
    try:
        assert b"HTTP" not in client.rest()
    except ConnectionResetError:
        # A handshake that failed needs no good end.
        pass
    assert server.stop() == 0

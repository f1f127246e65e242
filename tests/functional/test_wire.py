"""What goes over the wire, byte by byte: framing, header sets, error bodies, odd requests."""

import contextlib
import http.client
import re
import socket
import subprocess
import time

import pytest

from support import daemons, images
from support.rawhttp import ADMIN, TIMEOUT, identity, read_reply

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = b"0123456789"
CHECKSUM = "781e5e245d69b566979b86e28d23f2c7"
CAP = 32 << 20
REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with daemons.Site(tmp_path_factory.mktemp("wire"), api={"image_size_cap": CAP}) as running:
        yield running


@pytest.fixture(scope="module")
def image(site):
    """The URL of an active image with the bytes of DATA."""
    reply = site.http.add(DATA, name="digits", is_public="true")
    assert reply.status == 201
    return f"/v1/images/{reply.json()['image']['id']}"


@pytest.fixture
def queued(site):
    """The URL of an image that waits for its data."""
    return f"/v1/images/{site.http.post('/v1/images').json()['image']['id']}"


class Wire:
    """A connection on which a test says every byte itself."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)

    def send(self, *lines, body=b""):
        head = "".join(f"{line}\r\n" for line in (*lines, "Host: h", ""))
        self.socket.sendall(head.encode("latin-1") + body)

    def reply(self, method="GET"):
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return read_reply(response)

    def ask(self, *lines, body=b""):
        self.send(*lines, body=body)
        return self.reply(lines[0].split()[0])

    def receive(self, size=65536):
        return self.socket.recv(size)

    def close(self):
        self.socket.close()

    def rest(self):
        """Return what else comes until the server closes."""
        return b"".join(iter(self.receive, b""))


@pytest.fixture
def wire(site):
    made = Wire(site.port)
    with contextlib.closing(made.socket):
        yield made


def names_of(reply):
    return sorted(name.lower() for name, _ in reply.headers)


# -- framing of requests -------------------------------------------------------------------------

CHUNKED = b"5\r\n01234\r\n5;ext=1\r\n56789\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("length", [0, 5, 10, 1000])
def test_chunked_with_a_length_is_decoded_as_chunked_and_the_connection_closed(wire, site, length):
    smuggled = b"DELETE /v1/images/1 HTTP/1.1\r\nHost: h\r\n\r\n"
    wire.send(
        "POST /v1/images HTTP/1.1",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        "Transfer-Encoding: chunked",
        body=CHUNKED + smuggled,
    )
    answer = wire.rest()
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert CHECKSUM.encode() in answer


def test_a_chunked_body_alone_keeps_the_connection(wire, image):
    lines = ("Content-Type: application/octet-stream", "Transfer-Encoding: Chunked")
    made = wire.ask("POST /v1/images HTTP/1.1", *lines, body=CHUNKED)
    assert (made.status, made.json()["image"]["checksum"]) == (201, CHECKSUM)
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5, 6"],
        ["Content-Length: 0x5"],
        ["Content-Length: -5"],
        ["Content-Length : 5"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        [" folded: line"],
        ["Name"],
        [": value"],
        ["Na me: value"],
        ["Host: a", "Host: b"],
    ],
)
def test_a_head_that_two_readers_could_understand_differently_is_400(wire, lines):
    wire.send("POST /v1/images HTTP/1.1", *lines, body=b"hello")
    assert wire.rest().startswith(b"HTTP/1.1 400 ")


def test_a_length_by_another_name_frames_nothing(wire, image):
    assert wire.ask("POST /v1/images HTTP/1.1", "Content_Length: 5").status == 201
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


def test_pipelined_requests_are_answered_in_order(wire, image):
    first = (
        f"HEAD {image} HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/images/none HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    wire.send(f"GET {image} HTTP/1.1", "Connection: close", body=b"")
    assert wire.reply().body == DATA
    with contextlib.closing(Wire(wire.socket.getpeername()[1]).socket) as connection:
        last = f"GET {image} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        connection.sendall((first + last).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    statuses = re.findall(rb"^HTTP/1.1 (\d+)", answer, re.MULTILINE)
    assert statuses == [b"200", b"404", b"200"]
    assert answer.endswith(b"\r\n\r\n" + DATA)


def test_http_1_0_gets_its_answer_and_the_end(wire, image):
    wire.socket.sendall(f"GET {image} HTTP/1.0\r\n\r\n".encode())
    head, _, body = wire.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == DATA


# -- Expect: 100-continue ------------------------------------------------------------------------

UPLOAD = ("Content-Type: application/octet-stream", "Expect: 100-continue")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_instead_of_continuing_is_no_error_of_the_server(site, framing):
    name = f"left-{framing[:1]}"
    before = site.api.output.read_text()
    with contextlib.closing(Wire(site.port)) as leaving:
        leaving.send("POST /v1/images HTTP/1.1", *UPLOAD, framing, f"x-image-meta-name: {name}")
    listed = f"/v1/images/detail?name={name}&is_public=none&changes-since=2000-01-01T00:00:00"
    deadline = time.monotonic() + 60
    while [image["status"] for image in site.http.get(listed).json()["images"]] != ["killed"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    logged = site.api.output.read_text().removeprefix(before)
    assert "Traceback" not in logged and "ERROR" not in logged


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_good_upload_is_asked_for(wire, framing):
    wire.send("POST /v1/images HTTP/1.1", *UPLOAD, framing)
    assert wire.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.socket.sendall(CHUNKED if "chunked" in framing else DATA)
    reply = wire.reply("POST")
    assert (reply.status, reply.json()["image"]["checksum"]) == (201, CHECKSUM)


def test_who_does_not_wait_to_be_asked_is_served_too(wire):
    reply = wire.ask("POST /v1/images HTTP/1.1", *UPLOAD, "Content-Length: 10", body=DATA)
    assert reply.status == 201


@pytest.mark.parametrize(
    ("request_line", "lines", "status"),
    [
        ("POST /v1/images", ["Content-Type: text/plain"], 400),
        ("POST /v1/images", ["x-image-meta-disk-format: floppy"], 400),
        ("POST /v1/images", ["x-image-meta-min-ram: lots"], 400),
        ("POST /v1/images", ["x-image-meta-store: nowhere"], 400),
        ("POST /v1/images", ["x-image-meta-size: -1"], 400),
        ("POST /v1/images", ["x-image-meta-location: http://h/x"], 400),
        ("POST /v1/images", ["x-image-meta-disk-format: ami", "x-image-meta-name: \xff"], 400),
        ("POST /v1/images", [f"x-image-meta-size: {CAP + 1}"], 413),
        ("PUT /v1/images/999999", [], 404),
        ("PUT {image}", [], 409),
        ("PUT {queued}", ["x-image-meta-status: active"], 403),
        ("PUT /v1/images/detail", [], 405),
        ("POST /v1/nowhere", [], 404),
    ],
)
def test_a_bad_upload_is_refused_and_not_asked_for(
    wire, image, queued, request_line, lines, status
):
    request_line = request_line.format(image=image, queued=queued)
    defaults = [line for line in UPLOAD if not any(line[:12] == given[:12] for given in lines)]
    wire.send(f"{request_line} HTTP/1.1", "Content-Length: 10", *defaults, *lines)
    answer = wire.rest()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"100 Continue" not in answer


def test_a_taken_id_is_refused_before_the_data_is_asked_for(wire, image):
    taken = f"x-image-meta-id: {image.rpartition('/')[2]}"
    wire.send("POST /v1/images HTTP/1.1", *UPLOAD, "Content-Length: 10", taken)
    assert wire.rest().startswith(b"HTTP/1.1 409 ")


def test_another_expectation_is_417(wire):
    wire.send("POST /v1/images HTTP/1.1", "Expect: miracles")
    assert wire.rest().startswith(b"HTTP/1.1 417 ")


# -- early answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_an_early_refusal_can_be_read_in_the_middle_of_a_large_upload(site, chunked):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=TIMEOUT)
    data = (b"x" * (1 << 20) for _ in range(24)) if chunked else b"x" * (24 << 20)
    headers = {"Content-Type": "text/plain"}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    with contextlib.closing(connection):
        connection.request("POST", "/v1/images", data, headers, encode_chunked=chunked)
        reply = read_reply(connection.getresponse())
    assert reply.status == 400
    assert "Content-Type" in reply.text


@pytest.mark.peers
@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_reads_an_early_refusal(site, tmp_path, expect):
    images.need("curl")
    path = tmp_path / "large"
    path.write_bytes(b"x" * (CAP + 1))
    command = ["curl", "-sS", "-X", "POST", "-T", path, "-w", "%{http_code}", "-H", expect]
    url = f"{site.url}/v1/images"
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/octet-stream", url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("413 Request Entity Too Large\n")
    assert done.stdout.endswith("413")


# -- answers: header sets ------------------------------------------------------------------------

META = {
    *("id", "name", "size", "status", "is_public", "protected", "disk_format", "min_disk"),
    *("container_format", "min_ram", "owner", "created_at", "updated_at", "deleted_at", "deleted"),
}
ALWAYS = {"x-openstack-request-id", "date", "cache-control"}
#: What caches are told about an image, besides, and its id in version 2.
CACHED = {"etag", "last-modified", "accept-ranges", "x-image-id", "surrogate-key"}
CACHED |= {"x-openstack-image-uuid"}


def shown(names):
    return {f"x-image-meta-{name}" for name in names}


def test_head_and_get_have_exactly_the_documented_headers(trusted_site):
    owner, reader = identity("tenant1"), identity("tenant2")
    extra = {"x-image-meta-property-Distro": "Debian 6", "x-image-meta-property-Null": ""}
    made = trusted_site.http.add(
        DATA, {**owner, **extra}, name="web-node", is_public="true", min_ram="256", min_disk="5"
    )
    url = f"/v1/images/{made.json()['image']['id']}"
    record = made.json()["image"]
    fixed = {
        **dict.fromkeys(("disk_format", "container_format", "deleted_at", "property_null"), ""),
        **dict.fromkeys(("protected", "deleted"), "False"),
        **{name: record[name] for name in ("created_at", "updated_at")},
    }
    values = {
        "id": str(record["id"]),
        "name": "web-node",
        "size": "10",
        "status": "active",
        "is_public": "True",
        "checksum": CHECKSUM,
        "owner": "tenant1",
        "min_ram": "256",
        "min_disk": "5",
        "property_distro": "Debian 6",
        **fixed,
    }
    expected = shown(META | {"checksum", "property-distro", "property-null"})
    expected |= {"content-type", "content-length", "content-disposition", *CACHED, *ALWAYS}
    for method in ("HEAD", "GET"):
        reply = trusted_site.http.request(method, url, reader)
        assert set(names_of(reply)) == expected | {"connection"}
        assert len(names_of(reply)) == len(set(names_of(reply)))
        assert reply.meta() == values
        assert (reply.header("ETag"), reply.header("Content-Length")) == (f'"{CHECKSUM}"', "10")
        assert reply.header("Content-Type") == "application/octet-stream"
        admins = trusted_site.http.request(method, url, ADMIN)
        assert set(names_of(admins)) == expected | {"connection", "x-image-meta-location"}


def test_header_names_on_the_wire_keep_their_underscores(wire, image):
    wire.send(f"HEAD {image} HTTP/1.1", "Connection: close")
    answer = wire.rest()
    for name in (b"is_public", b"disk_format", b"container_format", b"created_at", b"min_ram"):
        assert re.search(rb"\r\nx-image-meta-%s: " % name, answer, re.IGNORECASE)


def test_an_image_without_checksum_has_no_etag_and_no_false_length(site, wire, queued):
    reply = wire.ask(f"HEAD {queued} HTTP/1.1")
    told = {"content-type", "content-length", *CACHED} - {"etag", "last-modified"}
    assert set(names_of(reply)) == shown(META) | told | ALWAYS
    assert reply.header("Content-Length") == "0"
    assert (reply.meta()["name"], reply.meta()["size"]) == ("", "0")
    made = site.http.post("/v1/images")
    assert made.header("ETag") is None
    assert "None" not in str(made.headers)


def test_only_a_201_has_a_location(site, image, queued):
    requests = [
        ("HEAD", image, {}, None),
        ("GET", image, {}, None),
        ("PUT", image, {}, None),
        ("PUT", queued, OCTETS, DATA),
        ("GET", "/v1/images", {}, None),
        ("GET", "/", {}, None),
    ]
    for method, path, headers, body in requests:
        assert site.http.request(method, path, headers, body).header("Location") is None
    made = site.http.add(DATA)
    assert made.header("Location") == f"{site.url}/v1/images/{made.json()['image']['id']}"
    assert made.header("ETag") is None


REQUESTS = [
    ("GET", "/", 300, "application/json"),
    ("HEAD", "/versions", 300, "application/json"),
    ("GET", "/v1/images", 200, "application/json"),
    ("GET", "/v1/images/detail", 200, "application/json"),
    ("POST", "/v1/images", 201, "application/json"),
    ("PUT", "{queued}", 200, "application/json"),
    ("HEAD", "{image}", 200, "application/octet-stream"),
    ("GET", "{image}", 200, "application/octet-stream"),
    ("GET", "{image}/members", 200, "application/json"),
    ("PUT", "{queued}/members/m", 204, None),
    ("DELETE", "{queued}/members/m", 204, None),
    ("GET", "/v1/shared-images/m", 200, "application/json"),
    ("GET", "/v1/images/none", 404, "text/plain; charset=UTF-8"),
    ("HEAD", "/v1/images/none", 404, "text/plain; charset=UTF-8"),
    ("GET", "{queued}", 404, "text/plain; charset=UTF-8"),
    ("GET", "/v1/nowhere", 404, "text/plain; charset=UTF-8"),
    ("POST", "{image}", 405, "text/plain; charset=UTF-8"),
    ("HEAD", "/v1/images", 405, "text/plain; charset=UTF-8"),
    ("BREW", "{image}", 501, "text/plain; charset=UTF-8"),
    ("GET", "/v1/images?limit=x", 400, "text/plain; charset=UTF-8"),
    ("PUT", "{queued}/members", 400, "text/plain; charset=UTF-8"),
]


@pytest.mark.parametrize(("method", "path", "status", "content_type"), REQUESTS)
def test_every_answer_has_one_content_type_one_id_and_keeps_the_connection(
    wire, image, queued, method, path, status, content_type
):
    reply = wire.ask(f"{method} {path.format(image=image, queued=queued)} HTTP/1.1")
    assert reply.status == status
    types = [value for name, value in reply.headers if name.lower() == "content-type"]
    assert types == ([content_type] if content_type else [])
    ids = [value for name, value in reply.headers if name.lower() == "x-openstack-request-id"]
    assert len(ids) == 1
    assert REQUEST_ID.fullmatch(ids[0])
    if method == "HEAD" or status == 204:
        assert reply.body == b""
    if status == 204:
        assert reply.header("Content-Length") is None
    # The next request on the same connection is understood.
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


def test_deleting_answers_with_an_empty_body(wire, queued):
    reply = wire.ask(f"DELETE {queued} HTTP/1.1")
    assert (reply.status, reply.body, reply.header("Content-Length")) == (200, b"", "0")
    assert reply.header("Content-Type") is None


# -- answers: request ids ------------------------------------------------------------------------


def test_a_callers_request_id_is_kept_if_it_is_one(wire):
    def id_of(sent):
        reply = wire.ask("GET / HTTP/1.1", f"X-Openstack-Request-Id: {sent}")
        assert reply.status == 300
        return reply.header("X-Openstack-Request-Id")

    assert id_of("req-mine") == "req-mine"
    assert id_of("a" * 64) == "a" * 64
    for odd in ("", "two words", "<b>", "\xe9"):
        assert REQUEST_ID.fullmatch(id_of(odd))
    refused = wire.ask("GET / HTTP/1.1", "X-Openstack-Request-Id: " + "a" * 65)
    assert refused.status == 431
    assert REQUEST_ID.fullmatch(refused.header("X-Openstack-Request-Id"))


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nbad\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n" % (b"a" * 20_000),
        b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 20_000),
        b"GET / HTTP/2.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=["line", "header", "nul", "long-header", "long-path", "version", "expect", "coding"],
)
def test_what_no_application_sees_is_refused_in_the_same_form(site, request_text):
    answer = site.http.exchange(request_text)
    head, _, body = answer.decode().partition("\r\n\r\n")
    status = head.partition("\r\n")[0].removeprefix("HTTP/1.1 ")
    assert body.splitlines()[0] == status
    assert "\r\nContent-Type: text/plain; charset=UTF-8\r\n" in head
    assert re.search(rf"\r\nX-Openstack-Request-Id: {REQUEST_ID.pattern}(\r|$)", head)


# -- answers: error bodies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/images/none", "404 Not Found"),
        ("GET", "/v1/images?sort_dir=up", "400 Bad Request"),
        ("DELETE", "/v1/images", "405 Method Not Allowed"),
        ("BREW", "/v1/images", "501 Not Implemented"),
    ],
)
def test_an_error_is_plain_text_with_its_status_and_a_sentence(site, method, path, status):
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        reply = site.http.request(method, path, accept)
        first, blank, sentence, *rest = reply.text.split("\n")
        assert (first, blank, rest) == (status, "", [""])
        assert len(sentence.split()) > 2
        assert reply.header("Content-Type") == "text/plain; charset=UTF-8"


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=0.5, text/plain", False),
        ("text/html;q=0", False),
        ("text/plain", False),
        ("nonsense", False),
    ],
)
def test_html_is_for_those_who_prefer_it_and_escaped(site, accept, is_html):
    headers = {"Accept": accept, "x-image-meta-store": "<script>&"}
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 400
    assert reply.header("Content-Type").startswith("text/html" if is_html else "text/plain")
    assert ("<script>" in reply.text) == (not is_html)
    assert ("&lt;script&gt;&amp;" in reply.text) == is_html


# -- downloads -----------------------------------------------------------------------------------


def test_the_connection_is_kept_after_a_download(site, wire):
    large = bytes(range(256)) * 8192
    url = f"/v1/images/{site.http.add(large).json()['image']['id']}"
    for _ in range(2):
        reply = wire.ask(f"GET {url} HTTP/1.1")
        assert (reply.status, reply.body == large) == (200, True)
        assert reply.header("Connection") != "close"
    assert wire.ask(f"HEAD {url} HTTP/1.1").header("Content-Length") == str(len(large))
    assert wire.ask(f"GET {url} HTTP/1.1", "Range: bytes=-256").body == bytes(range(256))
    assert wire.ask(f"GET {url} HTTP/1.1").body == large


@pytest.mark.parametrize(
    ("wanted", "status", "content_range", "body"),
    [
        ("bytes=0-4", 206, "bytes 0-4/10", b"01234"),
        ("bytes=5-", 206, "bytes 5-9/10", b"56789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=0-0", 206, "bytes 0-0/10", b"0"),
        ("bytes=8-1000", 206, "bytes 8-9/10", b"89"),
        ("bytes=-1000", 206, "bytes 0-9/10", DATA),
        ("BYTES=1-2", 206, "bytes 1-2/10", b"12"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=1000-2000", 416, "bytes */10", None),
        ("bytes=-0", 416, "bytes */10", None),
        ("bytes=0-1,3-4", 206, "bytes 0-4/10", b"01234"),
        ("bytes=0-1,3-4,x", 200, None, DATA),
        ("bytes=5-2", 200, None, DATA),
        ("bytes=a-b", 200, None, DATA),
        ("bytes=-", 200, None, DATA),
        ("bytes", 200, None, DATA),
        ("items=0-1", 200, None, DATA),
        ("", 200, None, DATA),
    ],
)
def test_a_range_of_bytes(wire, image, wanted, status, content_range, body):
    reply = wire.ask(f"GET {image} HTTP/1.1", f"Range: {wanted}")
    assert (reply.status, reply.header("Content-Range")) == (status, content_range)
    if body is not None:
        assert (reply.body, reply.header("Content-Length")) == (body, str(len(body)))
        assert reply.header("Accept-Ranges") == "bytes"
        assert reply.meta()["size"] == "10"
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


def test_a_range_means_nothing_to_head(wire, image):
    reply = wire.ask(f"HEAD {image} HTTP/1.1", "Range: bytes=0-1")
    assert (reply.status, reply.header("Content-Length")) == (200, "10")
    assert reply.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        *((f'"{CHECKSUM}"', 206), (CHECKSUM, 206), ('"x"', 200), (f'W/"{CHECKSUM}"', 200)),
        *(("*", 200), (f'"{CHECKSUM}", "{CHECKSUM}"', 200)),
        (f'"{CHECKSUM}"\r\nIf-Range: "{CHECKSUM}"', 200),
    ],
)
def test_if_range_decides_about_the_range(wire, image, tag, status):
    reply = wire.ask(f"GET {image} HTTP/1.1", "Range: bytes=0-1", f"If-Range: {tag}")
    assert reply.status == status


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (CHECKSUM, 304),
        (f'"{CHECKSUM}"', 304),
        (f'W/"{CHECKSUM}"', 304),
        (f'"other", "{CHECKSUM}"', 304),
        ("*", 304),
        ('"other"', 200),
        (CHECKSUM[:-1], 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match(wire, image, method, condition, status):
    reply = wire.ask(f"{method} {image} HTTP/1.1", f"If-None-Match: {condition}")
    assert reply.status == status
    if status == 304:
        assert reply.body == b""
        fields = {name for name in names_of(reply) if not name.startswith("x-image-meta-")}
        assert fields == {"content-disposition", *CACHED, *ALWAYS}
        assert reply.header("ETag") == f'"{CHECKSUM}"'
        assert reply.meta()["name"] == "digits"
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


# -- odd requests --------------------------------------------------------------------------------


def test_headers_up_to_64_kib_are_read_and_longer_ones_431(site):
    headers = {f"x-image-meta-property-p{number}": "v" * 8000 for number in range(7)}
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 201
    assert len(reply.json()["image"]["properties"]) == 7
    # And they fit into the answer.
    url = f"/v1/images/{reply.json()['image']['id']}"
    assert len([name for name in site.http.head(url).meta() if name.startswith("property_p")]) == 7
    headers = {f"x-image-meta-property-p{number}": "v" * 8000 for number in range(9)}
    assert site.http.post("/v1/images", headers).status == 431


def test_a_header_line_above_16_kib_is_431_and_a_request_line_414(site):
    assert site.http.post("/v1/images", {"x-image-meta-name": "n" * 17_000}).status == 431
    assert site.http.get("/v1/images?name=" + "n" * 17_000).status == 414


@pytest.mark.parametrize(
    "lines",
    [
        ["x-image-meta-name: a", "x-image-meta-name: b"],
        ["x-image-meta-name: a", "X-Image-Meta-Name: A"],
        ["x-image-meta-name: a", "x-image-meta-name:"],
        ["x-image-meta-min-ram: 1", "x-image-meta-min_ram: 2"],
        ["x-image-meta-disk-format: raw", "x-image-meta-disk_format: iso"],
        ["x-image-meta-is-public: true", "x_image_meta_is_public: false"],
        ["x-image-meta-property-a-b: 1", "x-image-meta-property-a_b: 1x"],
        ["x-image-meta-property-a-b: 1", "x-image-meta-property-a_b:"],
        ["x-image-meta-property-Arch: 1", "x-image-meta-property-arch: 2"],
        ["x-image-meta-location: http://h/1", "x_image_meta_location: http://h/2"],
        ["x-glance-api-copy-from: http://h/1", "x_glance_api_copy_from: http://h/2"],
        ["x-glance-registry-purge-props: true", "X-Glance-Registry-Purge_Props: false"],
    ],
)
def test_a_field_that_is_given_twice_with_different_values_is_400(wire, lines):
    assert wire.ask("POST /v1/images HTTP/1.1", *lines).status == 400


def test_a_field_that_is_given_twice_with_one_value_is_taken(wire):
    lines = [
        *("x-image-meta-name: a", "x-image-meta-name: a", "X-IMAGE_META-Name: a"),
        *("x-image-meta-disk-format: raw", "x-image-meta-disk_format: raw"),
        *("x-image-meta-min-ram: 1", "x-image-meta-min_ram: 01"),
        *("x-image-meta-is-public: true", "x_image_meta_is_public: True"),
        *("x-image-meta-property-os-type: linux", "x-image-meta-property-os_type: linux"),
        *("x-image-meta-property-none:", "x-image-meta-property-none:"),
        *("x-glance-registry-purge-props: false", "x_glance_registry_purge_props: false"),
    ]
    reply = wire.ask("POST /v1/images HTTP/1.1", *lines)
    assert reply.status == 201
    image = reply.json()["image"]
    assert (image["name"], image["disk_format"], image["min_ram"]) == ("a", "raw", 1)
    assert image["is_public"] is True
    assert image["properties"] == {"os_type": "linux", "none": None}


@pytest.mark.parametrize(
    "line",
    [
        *("x-image-meta-size: 1e3", "x-image-meta-size: -1", "x-image-meta-size: 1.0"),
        *("x-image-meta-size: 9223372036854775808", "x-image-meta-min-ram: 2147483648"),
        *("x-image-meta-min-disk: -1", "x-image-meta-min-disk: \xb2", "x-image-meta-min-ram: 0x1"),
        *("x-image-meta-checksum: 123", "x-image-meta-checksum: " + "g" * 32),
        *("x-image-meta-disk-format: floppy", "x-image-meta-container-format: box"),
        *("x-image-meta-disk-format: RAW", "x-image-meta-name: " + "n" * 256),
        *("x-image-meta-owner: " + "o" * 256, "x-image-meta-property-" + "p" * 256 + ": v"),
        *("x-image-meta-property-: v", "x-image-meta-name: \xff", "x-image-meta-property-\xff: v"),
        *("x-glance-api-copy-from: \xff", "x-image-meta-location: http://h/\x7f"),
    ],
    ids=lambda line: line[:40].encode("unicode_escape").decode(),
)
def test_a_value_that_cannot_be_stored_is_400_with_a_sentence(wire, line):
    reply = wire.ask("POST /v1/images HTTP/1.1", line)
    assert reply.status == 400
    assert len(reply.text.split("\n")[2].split()) > 2


def test_amazon_formats_have_to_agree_and_one_is_enough(site):
    def post(**formats):
        return site.http.post(
            "/v1/images", {f"x-image-meta-{k}-format": v for k, v in formats.items()}
        )

    one = post(disk="ami").json()["image"]
    assert (one["disk_format"], one["container_format"]) == ("ami", "ami")
    assert post(container="aki").json()["image"]["disk_format"] == "aki"
    for wrong in ({"disk": "ami", "container": "ovf"}, {"disk": "raw", "container": "ari"}):
        reply = post(**wrong)
        assert reply.status == 400
        assert "format" in reply.text


@pytest.mark.parametrize("name", ["status", "created_at", "deleted", "type", "members", "uri"])
def test_what_only_the_service_sets_is_ignored_when_an_image_is_made(site, name):
    reply = site.http.post("/v1/images", {f"x-image-meta-{name}": "true"})
    assert reply.status == 201
    image = reply.json()["image"]
    assert (image["status"], image["deleted"], image["properties"]) == ("queued", False, {})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-image-meta-status": "killed"}, 403),
        ({"x-image-meta-status": "active"}, 200),
        ({"x-image-meta-id": "424242"}, 403),
        ({"x-image-meta-location": "http://127.0.0.1/other"}, 400),
        ({"x-image-meta-size": "10"}, 200),
        ({"x-image-meta-checksum": CHECKSUM.upper()}, 200),
        ({"x-image-meta-deleted": "true"}, 200),
    ],
)
def test_what_only_the_service_sets_cannot_be_changed(site, headers, status):
    url = f"/v1/images/{site.http.add(DATA).json()['image']['id']}"
    assert site.http.put(url, headers).status == status
    reply = site.http.get(url)
    assert (reply.body, reply.meta()["status"]) == (DATA, "active")


@pytest.mark.parametrize("name", ["size", "checksum"])
def test_who_is_no_admin_cannot_change_what_describes_the_data(trusted_site, name):
    owner = identity("tenant1")
    url = f"/v1/images/{trusted_site.http.add(DATA, owner).json()['image']['id']}"
    value = {"size": "11", "checksum": "0" * 32}[name]
    assert trusted_site.http.put(url, {**owner, f"x-image-meta-{name}": value}).status == 403


@pytest.mark.parametrize("value", ["false", "0", "no", "OFF"])
def test_the_purge_header_keeps_properties(site, value):
    made = site.http.post("/v1/images", {"x-image-meta-property-a": "1"}).json()["image"]
    url = f"/v1/images/{made['id']}"
    kept = {"x-glance-registry-purge-props": value, "x-image-meta-property-b": "2"}
    assert site.http.put(url, kept).json()["image"]["properties"] == {"a": "1", "b": "2"}
    purged = site.http.put(url)
    assert purged.json()["image"]["properties"] == {}
    assert purged.json()["image"]["updated_at"] > made["updated_at"]


@pytest.mark.parametrize("letter", ["n", "(", "\xc3\xa9", "%C3%A9", "%25"])
@pytest.mark.parametrize(
    "path", ["/v1/images?name=", "/v1/images/detail?property-p=", "/v1/images?x="]
)
def test_a_very_long_query_finds_nothing_or_is_too_long(wire, path, letter):
    query = letter * (15_000 // len(letter))
    assert wire.ask(f"GET {path}{query} HTTP/1.1").status in (200, 400, 414)


@pytest.mark.parametrize("letter", ["n", "(", "%C3%A9"])
def test_a_very_long_member_is_refused(wire, image, letter):
    member = letter * (15_000 // len(letter))
    assert wire.ask(f"PUT {image}/members/{member} HTTP/1.1").status in (400, 404, 414)
    assert wire.ask(f"DELETE {image}/members/{member} HTTP/1.1").status in (204, 400, 404, 414)
    assert wire.ask(f"GET /v1/shared-images/{member} HTTP/1.1").status in (200, 400, 404, 414)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images/%00", "/v1/images/1%00", "/v1/images/%2e%2e", "/v1/images/.."),
        *("/v1/images/../../etc/passwd", "/v1/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        *(
            "/v1/images/1%2F..%2F2",
            "/v1/images/1%2Fmembers",
            "/v1/images/1%3Fx",
            "/v1/images/1%23",
            "/v1/images/1%0d%0a",
        ),
        *("/v1/images/%zz", "/v1/images/%", "/v1/images/\xff", "/v1/images/%ff", "/v1/%00"),
        *("/v1/images/1%0a", "/v1/images/1%0a/", "/v1/images%0a", "/v1/images/detail%0a"),
        *("/v1/images/1/members%0a", "/v1/shared-images%0a", "/v1/%0a", "/images/1%0a"),
        *("/v1/images/01", "/v1/images/%31%0a", "/v1/images/%D9%A1", "/v1/images/%EF%BC%91"),
        *("/v1/images/%2B1", "/v1/images/1_", "/v1/images/1.0", "/v1/images/0x1"),
        *("/v1/images/01/members", "/v1%2Fimages/1", "/v1/images%2F1", "/v1%2fimages"),
        *("/v1/images/00000000000000000000001", "/v1/images/99999999999999999999"),
        *("/v1/images/99999999999999999999/members", "/v1/images/9223372036854775807"),
    ],
)
def test_odd_paths_are_404(wire, image, path):
    assert wire.ask(f"GET {path} HTTP/1.1").status == 404
    assert wire.ask(f"GET {image} HTTP/1.1").body == DATA


@pytest.mark.parametrize("odd", ["0{}", "{}%0a", "%0a{}", "+{}", "{}%20", "{}%2e", "{}/%0a"])
def test_the_registry_knows_no_other_spelling_of_an_id(site, image, odd):
    number = image.rpartition("/")[2]
    found = site.registry.http.get(f"/images/{number}", ADMIN)
    assert (found.status, found.json()["image"]["name"]) == (200, "digits")
    assert site.registry.http.get(f"/images/{odd.format(number)}", ADMIN).status == 404


@pytest.mark.parametrize("host", ["a/b", "a?b", "a#b", "a@b", "a b", "[::1", "a:b", "a%zz"])
def test_a_host_that_is_none_is_400_and_in_no_link(site, host):
    for line in ("POST /v1/images HTTP/1.1", "GET / HTTP/1.1", "POST /v1/images HTTP/1.0"):
        with contextlib.closing(Wire(site.port)) as odd:
            odd.socket.sendall(f"{line}\r\nHost: {host}\r\n\r\n".encode())
            answer = odd.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Location" not in answer and host.encode() not in answer


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(
            ("a%20b", "a b"),
            ("%C3%A9", "é"),
            ("a%3Fb%23c", "a?b#c"),
            ("%252F", "%2F"),
            ("a%2Fb", "a/b"),
            ("%2e%2e%2f..%2F7", "../../7"),
            ("%2F", "/"),
            ("..", ".."),
        ),
        *((".", "."), ("a;b", "a;b"), ("a+b", "a+b"), ("%2e%2e", ".."), ("a%26b=c", "a&b=c")),
    ],
)
def test_a_member_has_the_name_that_was_meant(site, queued, path, name):
    assert site.http.put(f"{queued}/members/{path}").status == 204
    listed = site.http.get(f"{queued}/members").json()["members"]
    assert [entry["member_id"] for entry in listed] == [name]
    number = int(queued.rpartition("/")[2])
    shared = site.http.get(f"/v1/shared-images/{path}").json()["shared_images"]
    assert {"image_id": number, "can_share": False} in shared
    assert site.http.delete(f"{queued}/members/{path}").status == 204
    assert site.http.get(f"{queued}/members").json()["members"] == []


@pytest.mark.parametrize("member", ["%00", "a%0d%0ab", "%ff", "%1b", "a" * 256])
def test_a_member_that_cannot_be_one_is_400(site, queued, member):
    reply = site.http.put(f"{queued}/members/{member}")
    assert reply.status == 400
    assert site.http.get(f"{queued}/members").json() == {"members": []}

"""The http store: the suite against two kinds of servers, and the faults that servers have."""

import hashlib
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import host_rules, http
from glance.store.location import get_location_from_uri
from glance.streaming import threads
from glance.testing.store_suite import ReadOnlyStoreSuite, make_data

CANARY = "s3cr3t-canary"


def make_store(**options):
    options.setdefault("http_store_allowed_hosts", "127.0.0.1")
    options.setdefault("http_store_read_timeout", "5")
    return http.HttpStore(Conf(options))


def locate(uri):
    return get_location_from_uri(uri)


def url(server, path="/disk"):
    return f"http://127.0.0.1:{server.port}{path}"


def read(store, uri, *part):
    with store.get(locate(uri), *part) as body:
        return b"".join(body)


def web_server(pages, *, ranges=True, head=True):
    """Return a script that serves `pages` like a real web server does."""

    def script(peer):
        seen = peer.request()
        data = pages.get(seen.target)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
        if data is None:
            peer.answer(404, b"<h1>Not here</h1>")
        elif seen.method == "HEAD":
            peer.answer(200 if head else 405, b"", length=len(data) if head else 0)
        elif wanted and ranges:
            start, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            headers = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
            if start >= len(data):
                headers = {"Content-Range": f"bytes */{len(data)}"}
                peer.answer(416, b"", headers)
            else:
                peer.answer(206, data[start : last + 1], headers)
        else:
            peer.answer(200, data)

    return script


class HttpSuite(ReadOnlyStoreSuite):
    canary = CANARY
    kind: dict[str, bool] = {}

    @pytest.fixture
    def store(self, loopback):
        self.pages: dict[str, bytes] = {}
        self.server = loopback(web_server(self.pages, **self.kind))
        return make_store(http_store_allow_insecure_auth="True")

    def contents(self, store):
        return list(self.pages)

    def put(self, store, image_id, data):
        self.pages[f"/{image_id}"] = data
        return f"http://ann:{CANARY}@127.0.0.1:{self.server.port}/{image_id}"

    def remove(self, store, uri):
        self.pages.pop(locate(uri).store_location.path, None)


class TestHttpStore(HttpSuite):
    pass


class TestHttpStoreBeforeAServerWithoutRangesAndHead(HttpSuite):
    kind = {"ranges": False, "head": False}

    def test_a_part_behind_the_end_is_refused(self, store):
        with pytest.raises(exception.RangeNotSatisfiable):
            store.get(self.keep(store, "1", b"x"), 2)


# -- the request --


def test_the_request_asks_for_the_bytes_as_they_are(loopback):
    server = loopback.answering(lambda seen: b"data")
    read(make_store(), url(server, "/a%20b?sig=1&x=%2F#top"))
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("GET", "/a%20b?sig=1&x=%2F")
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["user-agent"]
    assert "range" not in seen.headers
    assert "authorization" not in seen.headers


@pytest.mark.parametrize(
    ("part", "header"),
    [((5,), "bytes=5-"), ((5, 10), "bytes=5-14"), ((0, 1), "bytes=0-0")],
)
def test_a_part_is_asked_for_with_a_range(loopback, part, header):
    server = loopback(web_server({"/disk": make_data(100)}))
    read(make_store(), url(server), *part)
    assert server.requests[0].headers["range"] == header


def test_a_ca_file_that_cannot_be_read_is_no_fault_of_the_caller(tmp_path):
    store = make_store(http_store_ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(exception.BackendUnavailable):
        store.get(locate("https://127.0.0.1:1/disk"))


def test_a_path_beyond_ascii_is_encoded(loopback):
    server = loopback.answering(lambda seen: b"data")
    read(make_store(), url(server, "/ä b"))
    assert server.requests[0].target == "/%C3%A4%20b"


def test_credentials_go_out_over_plain_http_only_when_that_is_allowed(loopback):
    server = loopback.answering(lambda seen: b"data")
    uri = f"http://ann:p%40ss@127.0.0.1:{server.port}/disk"
    read(make_store(), uri)
    read(make_store(http_store_allow_insecure_auth="True"), uri)
    first, second = server.requests
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Basic YW5uOnBAc3M="


# -- answers that are no image --


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, exception.BackendUnavailable),
        (206, exception.BackendUnavailable),
        (301, exception.BackendUnavailable),
        (304, exception.BackendUnavailable),
        (400, exception.BackendUnavailable),
        (401, exception.StoreForbidden),
        (403, exception.StoreForbidden),
        (404, exception.StoreObjectNotFound),
        (410, exception.StoreObjectNotFound),
        (416, exception.BackendUnavailable),
        (429, exception.BackendUnavailable),
        (500, exception.BackendUnavailable),
        (503, exception.BackendUnavailable),
    ],
)
def test_an_error_page_is_never_taken_for_an_image(loopback, status, expected):
    server = loopback.answering(lambda seen: (status, b"<h1>Sorry</h1>"))
    with pytest.raises(expected):
        make_store().get(locate(url(server)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Range": "bytes 0-9/100"},
        {"Content-Range": "bytes 5-99/100"},
        {"Content-Range": "bytes 5-13/100"},
        {"Content-Range": "bytes 14-5/100"},
        {"Content-Range": "lines 5-14/100"},
        {"Content-Range": "bytes 5-14"},
    ],
    ids=lambda headers: headers.get("Content-Range", "none"),
)
def test_a_part_that_is_not_the_one_asked_for_is_refused(loopback, headers):
    server = loopback.answering(lambda seen: (206, make_data(10), headers))
    with pytest.raises(exception.BackendUnavailable):
        make_store().get(locate(url(server)), 5, 10)


def test_a_total_size_that_the_server_keeps_to_itself_is_unknown(loopback):
    headers = {"Content-Range": "bytes 5-14/*"}
    server = loopback.answering(lambda seen: (206, make_data(10), headers))
    with make_store().get(locate(url(server)), 5, 10) as body:
        assert (body.size, body.length) == (None, 10)
        assert b"".join(body) == make_data(10)


# -- bodies that break --


def without_length(data):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + data)

    return script


def test_a_body_without_a_length_ends_with_the_connection(loopback):
    data = make_data(300_000)
    with make_store().get(locate(url(loopback(without_length(data))))) as body:
        assert (body.size, body.length) == (None, None)
        assert b"".join(body) == data


@pytest.mark.parametrize("part", [(10,), (10, 20), (0, 20), (299_990, 20), (400_000,)])
def test_a_part_of_a_body_without_a_length_is_cut_out(loopback, part):
    data = make_data(300_000)
    offset, length = (*part, None)[:2]
    stop = None if length is None else offset + length
    assert read(make_store(), url(loopback(without_length(data))), *part) == data[offset:stop]


def test_a_body_shorter_than_promised_is_an_error(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, make_data(1000), length=2000)

    with make_store().get(locate(url(loopback(script)))) as body:
        with pytest.raises(exception.BackendCorrupt):
            b"".join(body)


def test_a_body_longer_than_promised_is_cut_at_its_length(loopback):
    server = loopback.answering(lambda seen: (200, make_data(1000), (), 500))
    assert read(make_store(), url(server)) == make_data(1000)[:500]


@pytest.mark.parametrize(
    "tail",
    [b"5\r\nhel", b"5\r\nhello\r\n", b"nonsense\r\n", b""],
    ids=["cut", "open", "bad", "no"],
)
def test_a_chunked_body_that_breaks_off_is_an_error(loopback, tail):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + tail)

    with make_store().get(locate(url(loopback(script)))) as body:
        with pytest.raises(exception.BackendException):
            b"".join(body)


def test_a_chunked_body_is_read_to_its_end(loopback):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    assert read(make_store(), url(loopback(script))) == b"abcde"


def test_a_connection_that_is_reset_is_an_error(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"abc", length=1000)
        peer.reset()

    with make_store().get(locate(url(loopback(script)))) as body:
        with pytest.raises(exception.BackendException):
            b"".join(body)


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff" * 100, b"HTTP/1.1 ", b"HTTP/1.1 abc OK\r\n\r\n", b"A" * 70_000]
)
def test_nonsense_instead_of_an_answer_is_an_error(loopback, answer):
    def script(peer):
        peer.request()
        peer.send(answer)

    with pytest.raises(exception.BackendUnavailable):
        make_store().get(locate(url(loopback(script))))


def test_a_refused_connection_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(exception.BackendUnavailable):
        make_store().get(locate(f"http://127.0.0.1:{port}/disk"))


# -- servers that are slow --


def test_a_server_that_says_nothing_is_given_up(loopback):
    server = loopback(lambda peer: peer.wait_closed())
    store = make_store(http_store_read_timeout="0.2")
    with pytest.raises(exception.BackendUnavailable):
        store.get(locate(url(server)))


def test_headers_that_trickle_are_given_up_however_steady_they_are(loopback):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        number = 0
        while not peer.server.stopped.wait(0.02):
            number += 1
            peer.send(b"X-%d: y\r\n" % number)

    store = make_store(http_store_read_timeout="0.2", http_store_connect_timeout="0.2")
    with pytest.raises(exception.BackendUnavailable):
        store.get(locate(url(loopback(script))))


def test_a_body_that_stops_is_given_up(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"abc", length=1000)
        peer.wait_closed()

    store = make_store(http_store_read_timeout="0.2")
    with store.get(locate(url(loopback(script)))) as body:
        chunks = iter(body)
        assert next(chunks) == b"abc"
        with pytest.raises(exception.BackendUnavailable):
            next(chunks)


def test_a_body_that_trickles_is_handed_on_as_it_comes(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, b"a", length=5)
        for _ in range(4):
            peer.server.stopped.wait(0.1)
            peer.send(b"b")

    store = make_store(http_store_read_timeout="0.3", http_store_connect_timeout="0.1")
    assert read(store, url(loopback(script))) == b"abbbb"


def test_closing_early_closes_the_connection(loopback):
    closed = threading.Event()

    def script(peer):
        peer.request()
        peer.answer(200, b"abc", length=1000)
        peer.wait_closed()
        closed.set()

    make_store().get(locate(url(loopback(script)))).close()
    assert closed.wait(5)


# -- sizes --


@pytest.mark.parametrize(
    ("head", "get", "size"),
    [
        ((200, b"", {}, 1234), None, 1234),
        ((405, b"no"), (206, b"x", {"Content-Range": "bytes 0-0/77"}), 77),
        ((501, b"no"), (206, b"x", {"Content-Range": "bytes 0-0/77"}), 77),
        ((403, b"no"), (206, b"x", {"Content-Range": "bytes 0-0/77"}), 77),
        ((405, b"no"), (206, b"x", {"Content-Range": "bytes 0-0/*"}), None),
        ((405, b"no"), (200, b"whole"), 5),
        ((405, b"no"), (416, b"", {"Content-Range": "bytes */0"}), 0),
        ((200, b"", {}, "junk"), (200, b"whole"), 5),
    ],
)
def test_the_size_comes_from_head_or_else_from_the_first_byte(loopback, head, get, size):
    server = loopback(
        lambda peer: peer.answer(*head) if peer.request().method == "HEAD" else peer.answer(*get)
    )
    assert make_store().get_size(locate(url(server))) == size
    assert [seen.method for seen in server.requests] == ["HEAD", "GET"][: 2 if get else 1]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, exception.StoreObjectNotFound),
        (403, exception.StoreForbidden),
        (405, exception.BackendUnavailable),
        (500, exception.BackendUnavailable),
    ],
)
def test_a_size_that_cannot_be_found_out_is_an_error(loopback, status, expected):
    server = loopback(lambda peer: peer.request() and peer.answer(status))
    with pytest.raises(expected):
        make_store().get_size(locate(url(server)))


def test_the_size_of_a_body_without_length_is_unknown(loopback):
    assert make_store().get_size(locate(url(loopback(without_length(b""))))) is None


# -- redirects --


def redirecting(pages):
    """Return a script: pages map paths to bytes, or to (status, Location)."""

    def script(peer):
        page = pages[peer.request().target]
        if isinstance(page, bytes):
            peer.answer(200, page)
        else:
            peer.answer(page[0], b"moved", {"Location": page[1]})

    return script


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["/end", "end", "?x=1", "//127.0.0.1:{port}/end"])
def test_a_redirect_is_followed(loopback, status, target):
    pages = {"/end": b"data", "/disk?x=1": b"data"}
    server = loopback(redirecting(pages))
    pages["/disk"] = (status, target.format(port=server.port))
    assert read(make_store(), url(server)) == b"data"


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/ü/中", "/%C3%BC/%E4%B8%AD"),
        ("/%C3%BC/%c3%bc", "/%C3%BC/%c3%bc"),
        ("/ü/%C3%BC?q=ü&x=%C3%BC%20+#ü", "/%C3%BC/%C3%BC?q=%C3%BC&x=%C3%BC%20+"),
        ("?q=ü", "/disk?q=%C3%BC"),
        ("ü b/100%", "/%C3%BC%20b/100%"),
        ("/%2F%252F", "/%2F%252F"),
        ("http://127.0.0.1:{port}/\U0001f4bf", "/%F0%9F%92%BF"),
    ],
)
def test_a_redirect_is_encoded_once(loopback, target, asked):
    pages = {asked: b"data"}
    server = loopback(redirecting(pages))
    pages["/disk"] = (302, target.format(port=server.port))
    assert read(make_store(), url(server)) == b"data"
    assert server.requests[-1].target == asked


def test_bytes_of_another_encoding_come_back_as_they_are(loopback):
    def script(peer):
        if peer.request().target == "/disk":
            peer.send(b"HTTP/1.1 302 Found\r\nLocation: /\xfc\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.answer(200, b"data")

    server = loopback(script)
    assert read(make_store(), url(server)) == b"data"
    assert server.requests[-1].target == "/%FC"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/ü?q=ü", "/%C3%BC?q=%C3%BC"),
        ("/%C3%BC?q=%c3%bc", "/%C3%BC?q=%c3%bc"),
        ("/a b%20c", "/a%20b%20c"),
    ],
)
def test_a_location_is_encoded_once(loopback, path, asked):
    server = loopback.answering(lambda seen: b"data")
    assert read(make_store(), url(server, path)) == b"data"
    assert server.requests[-1].target == asked


def test_five_redirects_are_followed_and_no_more(loopback):
    pages = {f"/{number}": (302, f"/{number + 1}") for number in range(7)}
    server = loopback(redirecting({**pages, "/6": b"data"}))
    assert read(make_store(), url(server, "/1")) == b"data"
    with pytest.raises(exception.BackendUnavailable):
        make_store().get(locate(url(server, "/0")))


@pytest.mark.parametrize(
    "target", ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[bad/", "//"]
)
def test_a_redirect_to_nowhere_is_an_error(loopback, target):
    server = loopback(redirecting({"/disk": (302, target)}))
    with pytest.raises(exception.BackendUnavailable):
        make_store().get(locate(url(server)))


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:{port}/end",
        "http://[::1]:{port}/end",
        "http://127.0.0.1:1/end",
        "http://0.0.0.0:{port}/end",
    ],
)
@pytest.mark.parametrize("how", ["a list of hosts", "the address rules"])
def test_every_hop_is_judged_anew(loopback, monkeypatch, target, how):
    pages = {"/end": b"internal"}
    server = loopback(redirecting(pages))
    pages["/disk"] = (302, target.format(port=server.port))
    listed = f"127.0.0.1:{server.port}"
    store = make_store(http_store_allowed_hosts=listed if how == "a list of hosts" else "")
    if how == "the address rules":
        real, first = host_rules.HostRules.permits, iter([True])
        monkeypatch.setattr(
            host_rules.HostRules,
            "permits",
            lambda self, text, port: next(first, False) or real(self, text, port),
        )
    with pytest.raises(exception.StoreForbidden):
        store.get(locate(url(server)))
    assert [seen.target for seen in server.requests] == ["/disk"]


def test_credentials_follow_within_a_server_and_not_to_another(loopback):
    other = loopback.answering(lambda seen: b"data")
    pages = {"/same": b"data", "/a": (302, "/same"), "/b": (302, url(other))}
    server = loopback(redirecting(pages))
    store = make_store(http_store_allow_insecure_auth="True")
    for path in ("/a", "/b"):
        read(store, f"http://ann:pw@127.0.0.1:{server.port}{path}")
    assert ["authorization" in seen.headers for seen in server.requests] == [True] * 3
    assert "authorization" not in other.requests[0].headers


# -- addresses --


def answers(*texts):
    def getaddrinfo(host, port, **kwargs):
        return [(None, None, None, "", (text, port)) for text in texts]

    return getaddrinfo


REFUSED = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
]
PRIVATE = ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fc00::1", "fec0::1"]
PRIVATE += ["::ffff:10.1.2.3", "2002:a01:203::", "64:ff9b::10.1.2.3"]
PUBLIC = ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_never_read_from(address):
    assert not host_rules.HostRules().permits(address, 80)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_depend_on_the_option(address):
    assert host_rules.HostRules(allow_private=True).permits(address, 80)
    assert not host_rules.HostRules(allow_private=False).permits(address, 80)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_read_from(address):
    assert host_rules.HostRules(allow_private=False).permits(address, 80)


@pytest.mark.parametrize(
    ("options", "refused"),
    [({}, [9292, 9191]), ({"bind_port": "8000", "registry_port": "8001"}, [8000, 8001])],
    ids=["unset", "set"],
)
def test_the_services_own_ports_are_refused_on_addresses_of_this_host(
    monkeypatch, options, refused
):
    monkeypatch.setattr(host_rules, "_is_local", lambda text: text == "192.0.2.1")
    rules = host_rules.HostRules.from_conf(Conf(options))
    for port in refused:
        assert not rules.permits("192.0.2.1", port)
        assert rules.permits("192.0.2.2", port)
    assert rules.permits("192.0.2.1", 80)


def test_an_address_of_this_host_is_known_as_such():
    assert host_rules._is_local("127.0.0.1")
    assert not host_rules._is_local("192.0.2.1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001"]
)
def test_loopback_is_refused_however_it_is_written(host):
    store = make_store(http_store_allowed_hosts="")
    for operation in (store.get, store.get_size):
        with pytest.raises(exception.StoreForbidden):
            operation(locate(f"http://{host}:1/x"))
    with pytest.raises(exception.BadStoreUri):
        store.check_registerable(locate(f"http://{host}:1/x"), is_admin=True)


@pytest.mark.parametrize(
    ("listed", "host", "allowed"),
    [
        ("mirror.test", "mirror.test", True),
        ("MIRROR.test", "Mirror.TEST", True),
        ("mirror.test:8080", "mirror.test:8080", True),
        ("mirror.test:8080", "mirror.test", False),
        ("mirror.test:80", "mirror.test", True),
        ("other.test, mirror.test", "mirror.test", True),
        ("other.test", "mirror.test", False),
        ("mirror.test", "evil-mirror.test", False),
        ("[::1]:80", "[::1]", True),
        ("::1", "[::1]:8080", True),
    ],
)
def test_a_list_of_hosts_decides_alone(monkeypatch, listed, host, allowed):
    monkeypatch.setattr(threads, "getaddrinfo", answers("127.0.0.1"))
    store = make_store(http_store_allowed_hosts=listed)
    location = locate(f"http://{host}/x")
    if allowed:
        store.check_registerable(location, is_admin=False)
    else:
        with pytest.raises(exception.BadStoreUri):
            store.check_registerable(location, is_admin=False)


def test_the_connection_goes_to_the_address_that_was_judged(loopback, monkeypatch):
    server = loopback.answering(lambda seen: b"data")
    lookups = []

    def getaddrinfo(host, port, **kwargs):
        lookups.append(host)
        return answers("127.0.0.1")(host, port)

    monkeypatch.setattr(threads, "getaddrinfo", getaddrinfo)
    store = make_store(http_store_allowed_hosts="mirror.test")
    assert read(store, f"http://mirror.test:{server.port}/disk") == b"data"
    assert lookups == ["mirror.test"]
    assert server.requests[0].headers["host"] == f"mirror.test:{server.port}"


def test_a_forbidden_address_among_others_is_left_out(monkeypatch):
    monkeypatch.setattr(threads, "getaddrinfo", answers("127.0.0.1", "8.8.8.8", "8.8.8.8"))
    location = locate("http://mirror.test/x").store_location
    assert host_rules.HostRules().addresses(location.host, location.effective_port) == [
        ("8.8.8.8", 80)
    ]


def test_the_next_address_is_tried_when_one_refuses(loopback, monkeypatch):
    server = loopback.answering(lambda seen: b"data")
    monkeypatch.setattr(threads, "getaddrinfo", answers("127.0.0.2", "127.0.0.1"))
    store = make_store(http_store_allowed_hosts="mirror.test")
    assert read(store, f"http://mirror.test:{server.port}/disk") == b"data"


def test_an_unknown_name_can_be_registered_but_not_read(monkeypatch):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(threads, "getaddrinfo", getaddrinfo)
    store = make_store(http_store_allowed_hosts="")
    store.check_registerable(locate("http://nowhere.test/x"), is_admin=False)
    with pytest.raises(exception.BackendUnavailable):
        store.get(locate("http://nowhere.test/x"))


def test_only_administrators_register_credentials(monkeypatch):
    monkeypatch.setattr(threads, "getaddrinfo", answers("8.8.8.8"))
    store = make_store(http_store_allowed_hosts="")
    location = locate("https://ann:pw@mirror.test/x")
    store.check_registerable(location, is_admin=True)
    with pytest.raises(exception.Forbidden):
        store.check_registerable(location, is_admin=False)


# -- TLS --


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for mirror.test with its key, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [
            *command.split(),
            *("-subj", "/CN=mirror.test", "-addext", "subjectAltName=DNS:mirror.test"),
            *("-keyout", str(path), "-out", str(path) + ".crt"),
        ],
        check=True,
        capture_output=True,
    )
    with open(path, "a", encoding="ascii") as file:
        file.write((path.parent / (path.name + ".crt")).read_text(encoding="ascii"))
    return str(path)


@pytest.fixture
def tls_server(loopback, certificate, monkeypatch):
    """An https server on loopback, whose name resolves to it."""

    def start(*scripts):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server = loopback(*scripts)
        server.names = []
        context.sni_callback = lambda sock, name, context: server.names.append(name)
        server.wrap = lambda sock: context.wrap_socket(sock, server_side=True)
        return server

    monkeypatch.setattr(threads, "getaddrinfo", answers("127.0.0.1"))
    return start


def tls_store(**options):
    return make_store(http_store_allowed_hosts="mirror.test other.test 127.0.0.1", **options)


class TestTls:
    def test_a_server_with_a_known_certificate_is_read_and_gets_the_credentials(
        self, tls_server, certificate
    ):
        server = tls_server(web_server({"/disk": make_data(200_000)}))
        store = tls_store(http_store_ca_file=certificate)
        uri = f"https://ann:pw@mirror.test:{server.port}/disk"
        assert read(store, uri) == make_data(200_000)
        assert read(store, uri, 10, 20) == make_data(200_000)[10:30]
        assert store.get_size(locate(uri)) == 200_000
        assert set(server.names) == {"mirror.test"}
        assert all("authorization" in seen.headers for seen in server.requests)

    @pytest.mark.parametrize("host", ["mirror.test", "other.test"])
    def test_an_unknown_certificate_or_name_is_refused(self, tls_server, certificate, host):
        server = tls_server(web_server({"/disk": b"data"}))
        options = {} if host == "mirror.test" else {"http_store_ca_file": certificate}
        with pytest.raises(exception.BackendUnavailable):
            tls_store(**options).get(locate(f"https://{host}:{server.port}/disk"))
        assert server.requests == []

    def test_verification_can_be_switched_off(self, tls_server):
        server = tls_server(web_server({"/disk": b"data"}))
        store = tls_store(http_store_insecure="True")
        assert read(store, f"https://mirror.test:{server.port}/disk") == b"data"

    def test_a_redirect_from_https_to_http_is_not_followed(self, loopback, tls_server):
        plain = loopback.answering(lambda seen: b"data")
        server = tls_server(redirecting({"/disk": (302, url(plain))}))
        store = tls_store(http_store_insecure="True")
        with pytest.raises(exception.BackendUnavailable):
            store.get(locate(f"https://mirror.test:{server.port}/disk"))
        assert plain.requests == []

    def test_it_works_on_eventlets_hub_which_goes_on_meanwhile(self, tls_server, certificate):
        data = make_data(3_000_000)
        release = threading.Event()
        pages = web_server({"/disk": data})

        def script(peer):
            release.wait(10)
            pages(peer)

        script_text = """
            import eventlet; eventlet.monkey_patch()
            import hashlib, sys
            from glance.streaming import threads
            from glance.common.config import Conf
            from glance.store import http
            from glance.store.location import get_location_from_uri
            port, ca_file = sys.argv[1:]
            threads.getaddrinfo = lambda host, port, **kw: [(2, 1, 6, "", ("127.0.0.1", port))]
            store = http.HttpStore(Conf({
                "http_store_allowed_hosts": "mirror.test", "http_store_ca_file": ca_file,
            }))
            where = get_location_from_uri(f"https://mirror.test:{port}/disk")

            def fetch(*part):
                with store.get(where, *part) as body:
                    return hashlib.md5(b"".join(body)).hexdigest()

            readers = [eventlet.spawn(fetch, *part) for part in [(), (10, 20)]]
            eventlet.sleep(0.05)
            print("waiting", flush=True)
            print(*[reader.wait() for reader in readers], store.get_size(where))
        """
        server = tls_server(script)
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-c", textwrap.dedent(script_text)),
                *(str(server.port), certificate),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "waiting\n"
            release.set()
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
        sums = [hashlib.md5(part).hexdigest() for part in (data, data[10:30])]
        assert out.split() == [*sums, "3000000"]

    @pytest.mark.parametrize("patch", ["", "import eventlet; eventlet.monkey_patch()"])
    def test_a_handshake_that_trickles_is_given_up(self, loopback, patch):
        def script(peer):
            # The head of a record of 16 KiB, whose content never ends.
            peer.send(b"\x16\x03\x03\x40\x00")
            while not peer.server.stopped.wait(0.02):
                peer.send(b"\x02")

        program = f"""{patch}
import sys
from glance.common import exception
from glance.common.config import Conf
from glance.store import http
from glance.store.location import get_location_from_uri
store = http.HttpStore(Conf({{
    "http_store_allowed_hosts": "127.0.0.1",
    "http_store_connect_timeout": "0.3",
    "http_store_read_timeout": "0.3",
}}))
try:
    store.get(get_location_from_uri(f"https://127.0.0.1:{{sys.argv[1]}}/disk"))
except exception.BackendUnavailable as err:
    print(type(err.__cause__.__cause__).__name__)
"""
        server = loopback(script)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, str(server.port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "TimeoutError\n", done.stderr


# -- secrets --


def test_no_log_line_holds_credentials_or_the_query(loopback, caplog):
    caplog.set_level(logging.DEBUG, "glance")
    pages = {"/a?sig=" + CANARY: (302, "/b?sig=" + CANARY), "/b?sig=" + CANARY: (500, "/")}
    server = loopback(redirecting(pages))
    uri = f"http://ann:{CANARY}@127.0.0.1:{server.port}/a?sig={CANARY}"
    with pytest.raises(exception.BackendUnavailable) as caught:
        make_store().get(locate(uri))
    assert caplog.records
    assert CANARY not in caplog.text + str(caught.value) + repr(caught.value.__cause__)

"""The base client: requests, retries after a sign-in, errors, the image iterator."""

import hashlib
import io
import json
import ssl
import subprocess

import pytest

from glance.client import base as base_client
from glance.common import exception


class Renewing(base_client.strategies.BaseStrategy):
    """Hands out t1, t2, ..., or what `creds` says."""

    renews = True
    count = 0

    @property
    def is_authenticated(self):
        return self.auth_token is not None

    def authenticate(self):
        self.count += 1
        if self.creds.get("broken"):
            raise exception.AuthorizationFailure("no")
        self.auth_token = self.creds.get("fixed") or f"t{self.count}"
        self.management_url = self.creds.get("url")
        self.missing = self.creds.get("missing")


@pytest.fixture(autouse=True)
def strategy(monkeypatch):
    monkeypatch.setitem(base_client.strategies.STRATEGIES, "renewing", Renewing)


class Read:
    """A response that was received."""

    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data


DOCUMENTS = [
    '{"a": [1, "\\u00e9", null]}',
    '{"a": {"b": "}"}}',
    ' {"a": 1}\r\n',
    '{"a": "\u20ac"}',
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_json_is_read_in_whatever_form_it_comes(text, encoding):
    wanted = json.loads(text)
    assert base_client.read_json(Read(text.encode(encoding))) == wanted
    assert base_client.read_json(Read(text.encode(encoding)), "a") == wanted["a"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"{}}", b"{} {}", b"{'a': 1}", b'{"a"}', b"{\xff}", b"[1]", b'{"b": 1}', b"7"],
)
def test_what_is_not_the_json_that_is_needed_is_an_error(data):
    with pytest.raises(exception.ClientConnectionError, match="is it glance-api"):
        base_client.read_json(Read(data), "a")


def base(server, **kw):
    return base_client.BaseClient("127.0.0.1", server.port, timeout=5, **kw)


def tokens(server):
    return [seen.headers.get("x-auth-token") for seen in server.requests]


# -- building requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "action", "params", "target"),
    [
        (None, "/images", None, "/images"),
        ("/v1", "/images", None, "/v1/images"),
        ("/v1/", "images", None, "/v1/images"),
        ("", "/images", {}, "/images"),
        ("/v1", "/images", {"limit": 2, "marker": None}, "/v1/images?limit=2"),
        ("/v1", "/images", {"marker": None}, "/v1/images"),
        ("/v1", "/images", {"name": "ä b&c"}, "/v1/images?name=%C3%A4+b%26c"),
        ("/v1", "/images", [("limit", 2)], "/v1/images"),
        ("/v1", "/images/ä b#c", None, "/v1/images/%C3%A4%20b%23c"),
        ("/v1", "/images/%2F", None, "/v1/images/%2F"),
    ],
)
def test_target(loopback, root, action, params, target):
    server = loopback.answering(lambda seen: b"")
    base(server, doc_root=root).do_request("get", action, params=params)
    assert (server.requests[0].method, server.requests[0].target) == ("GET", target)


@pytest.mark.parametrize(
    ("method", "body", "length", "coding"),
    [
        ("GET", None, None, None),
        ("DELETE", None, None, None),
        ("PUT", None, "0", None),
        ("POST", b"", "0", None),
        ("POST", "ä", "2", None),
        ("POST", io.BytesIO(b"abc"), "3", None),
        ("POST", io.BytesIO(b""), None, "chunked"),
        ("put", io.BufferedReader(io.BytesIO(b"x" * 70000)), "70000", None),
    ],
)
def test_exactly_one_kind_of_length_is_sent(loopback, method, body, length, coding):
    server = loopback.answering(lambda seen: b"")
    headers = {"Content-Length": "99", "Transfer-Encoding": "identity"} if body else None
    base(server).do_request(method, "/x", body, headers)
    seen = server.requests[0].headers
    assert (seen.get("content-length"), seen.get("transfer-encoding")) == (length, coding)


def test_without_the_address_that_was_meant_nothing_is_sent(loopback):
    server = loopback.answering(lambda seen: b"")
    creds = {"strategy": "renewing", "missing": "no region x"}
    made = base(server, creds=creds)
    for _ in range(2):
        with pytest.raises(exception.AuthorizationFailure, match="no region x"):
            made.do_request("GET", "/x")
    assert not server.requests
    base(server, creds=creds, configure_via_auth=False).do_request("GET", "/x")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(7, "7"), ("a b/c", "a%20b%2Fc"), ("ä", "%C3%A4"), ("..", "%2E%2E"), ("a.b", "a.b")],
)
def test_path_segments_are_percent_encoded(value, encoded):
    assert base_client.segment(value) == encoded


def test_segment_that_is_no_utf_8_is_refused():
    with pytest.raises(exception.Invalid, match="This is not UTF-8 text: .*udcff"):
        base_client.segment("x\udcff")


@pytest.mark.parametrize(
    ("reference", "image_id"),
    [
        (1, "1"),
        ("abc-1", "abc-1"),
        ("http://glance.example.com/images/1", "1"),
        ("https://host:9292/v1/images/a%20b/", "a b"),
    ],
)
def test_image_reference_is_an_id_or_a_uri(reference, image_id):
    assert base_client.image_reference(reference) == image_id


@pytest.mark.parametrize(
    "reference",
    [
        "",
        ".",
        "..",
        "5/members/zz",
        "/",
        "5/",
        "http://h/images/..",
        "http://h/images/5%2Fmembers",
    ],
)
def test_what_would_lead_to_another_resource_is_no_image_id(reference):
    with pytest.raises(exception.Invalid, match="An image ID must not"):
        base_client.image_reference(reference)


@pytest.mark.parametrize(
    "reference", ["http://h/", "http://h/images/1/members", "http://h/1", "http://h/images/1\n2"]
)
def test_uri_of_no_image_is_invalid(reference):
    with pytest.raises(exception.Invalid):
        base_client.image_reference(reference)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://h:9292/v1", (False, "h", 9292, "/v1")),
        ("https://h/x/y", (True, "h", 443, "/x/y")),
        ("http://h", (False, "h", 80, "")),
        ("https://[::1]:1/", (True, "::1", 1, "/")),
    ],
)
def test_configure_from_url(url, place):
    made = base_client.BaseClient("other")
    made.configure_from_url(url)
    assert (made.use_ssl, made.host, made.port, made.doc_root) == place


def test_unknown_strategy_is_an_error_of_the_constructor():
    with pytest.raises(exception.Error, match="Unknown auth strategy 'foo'"):
        base_client.BaseClient("h", creds={"strategy": "foo"})


# -- tokens --------------------------------------------------------------------------------------


def refusing(*good):
    def handler(seen):
        return (200, b"ok") if seen.headers.get("x-auth-token") in good else (401, b"no")

    return handler


def test_callers_token_is_sent_without_a_sign_in(loopback):
    server = loopback.answering(refusing("mine"))
    base(server, auth_tok="mine", creds={"strategy": "renewing"}).do_request("GET", "/x")
    assert tokens(server) == ["mine"]


def test_token_in_the_headers_wins(loopback):
    server = loopback.answering(refusing("theirs"))
    base(server, auth_tok="mine").do_request("GET", "/x", headers={"X-Auth-Token": "theirs"})
    assert tokens(server) == ["theirs"]


def test_client_signs_in_before_the_first_request(loopback):
    server = loopback.answering(refusing("t1"))
    made = base(server, creds={"strategy": "renewing"})
    made.do_request("GET", "/x")
    made.do_request("GET", "/x")
    assert tokens(server) == ["t1", "t1"]


def test_expired_token_is_renewed_once(loopback):
    server = loopback.answering(refusing("t1"))
    made = base(server, auth_tok="old", creds={"strategy": "renewing"})
    assert made.do_request("GET", "/x").status == 200
    assert (tokens(server), made.auth_tok) == (["old", "t1"], "t1")


def test_second_refusal_is_raised_and_the_token_kept(loopback):
    server = loopback.answering(refusing())
    made = base(server, auth_tok="mine", creds={"strategy": "renewing"})
    with pytest.raises(exception.NotAuthorized):
        made.do_request("GET", "/x")
    assert (tokens(server), made.auth_tok) == (["mine", "t1"], "mine")


@pytest.mark.parametrize(
    "creds",
    [
        {},
        {"strategy": "noauth"},
        {"strategy": "renewing", "broken": True},
        {"strategy": "renewing", "fixed": "mine"},
    ],
    ids=["no-creds", "noauth", "sign-in-fails", "same-token-again"],
)
def test_no_second_try_without_a_fresh_token(loopback, creds):
    server = loopback.answering(refusing())
    made = base(server, auth_tok="mine", creds=creds)
    with pytest.raises(exception.NotAuthorized) as caught:
        made.do_request("GET", "/x")
    assert (tokens(server), made.auth_tok, caught.value.status) == (["mine"], "mine", 401)


def test_403_is_not_met_with_a_second_try(loopback):
    server = loopback.answering(lambda seen: (403, b"no"))
    with pytest.raises(exception.Forbidden):
        base(server, auth_tok="mine", creds={"strategy": "renewing"}).do_request("GET", "/x")
    assert tokens(server) == ["mine"]


def test_second_try_sends_a_file_from_where_it_began(loopback):
    server = loopback.answering(refusing("t1"))
    source = io.BytesIO(b"..." + b"x" * 100000)
    source.seek(3)
    base(server, auth_tok="old", creds={"strategy": "renewing"}).do_request("PUT", "/x", source)
    assert [len(seen.body) for seen in server.requests] == [100000, 100000]


def test_consumed_pipe_is_not_sent_again(loopback):
    class Pipe:
        def __init__(self):
            self.parts = [b"data"]

        def read(self, size):
            return self.parts.pop() if self.parts else b""

    server = loopback.answering(refusing("t1"))
    with pytest.raises(exception.NotAuthorized):
        base(server, auth_tok="old", creds={"strategy": "renewing"}).do_request(
            "PUT", "/x", Pipe()
        )
    assert tokens(server) == ["old"]


@pytest.mark.parametrize("follow", [True, False])
def test_catalogue_overrides_the_address_only_if_it_may(loopback, follow):
    here, there = (loopback.answering(lambda seen: b"ok") for _ in range(2))
    creds = {"strategy": "renewing", "url": f"http://127.0.0.1:{there.port}/v1"}
    base(here, creds=creds, configure_via_auth=follow).do_request("GET", "/x")
    assert (len(here.requests), len(there.requests)) == ((0, 1) if follow else (1, 0))
    if follow:
        assert there.requests[0].target == "/v1/x"


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (300, exception.MultipleChoices),
        (302, exception.UnexpectedStatus),
        (400, exception.BadRequest),
        (401, exception.NotAuthorized),
        (403, exception.Forbidden),
        (404, exception.NotFound),
        (409, exception.Duplicate),
        (413, exception.LimitExceeded),
        (500, exception.ServerError),
        (503, exception.ServiceUnavailable),
        (418, exception.UnexpectedStatus),
    ],
)
def test_status_becomes_an_exception_with_status_and_body(loopback, status, cls):
    body = f"{status} Reason\n\nThe sentence.\n".encode()
    server = loopback.answering(lambda seen: (status, body))
    with pytest.raises(cls, match=r"The sentence\.") as caught:
        base(server).do_request("GET", "/x")
    assert type(caught.value) is cls
    assert (caught.value.status, caught.value.body) == (status, body.decode())


def test_html_error_page_is_reduced_to_its_text(loopback):
    page = b"<html><head><title>404</title></head><body><h1>Gone</h1><p>No image</p></body></html>"
    server = loopback.answering(lambda seen: (404, page, {"Content-Type": "text/html"}))
    with pytest.raises(exception.NotFound) as caught:
        base(server).do_request("GET", "/x")
    assert str(caught.value) == "Gone No image"


def test_huge_error_page_is_not_read_whole(loopback):
    def script(peer):
        peer.request()
        peer.answer(500, b"x" * 100000, length=10**12)
        peer.wait_closed()

    with pytest.raises(exception.ServerError) as caught:
        base(loopback(script)).do_request("GET", "/x")
    assert len(caught.value.body) == base_client.MAX_ERROR_BODY


def test_connection_is_reused_after_an_error(loopback):
    server = loopback.answering(lambda seen: (404, b"no"))
    made = base(server)
    for _ in range(2):
        with pytest.raises(exception.NotFound):
            made.do_request("GET", "/x")
    assert server.connections == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"other": 1}', b"[" * 100000])
def test_answer_that_is_not_the_expected_json_is_a_connection_error(loopback, body):
    server = loopback.answering(lambda seen: body)
    response = base(server).do_request("GET", "/x")
    with pytest.raises(exception.ClientConnectionError):
        base_client.read_json(response, "image")


def test_status_of_a_real_and_of_a_test_response():
    class Real:
        status = 200

    class Fake:
        status = "201 Created"
        status_int = 201

    assert base_client.BaseClient.get_status_code(Real()) == 200
    assert base_client.BaseClient.get_status_code(Fake()) == 201


# -- the iterator --------------------------------------------------------------------------------

DATA = bytes(range(256)) * 600


def iterate(loopback, length=None, **kw):
    server = loopback.answering(lambda seen: (200, DATA, {}, length))
    return base_client.ImageBodyIterator(base(server).do_request("GET", "/x"), **kw)


def test_iterator_gives_64k_chunks_once(loopback):
    chunks = iterate(loopback)
    assert chunks.length == len(DATA)
    assert [len(chunk) for chunk in chunks] == [65536, 65536, len(DATA) - 131072]
    assert list(chunks) == []


def test_iterator_raises_on_a_short_body(loopback):
    def script(peer):
        peer.request()
        peer.answer(200, DATA, length=len(DATA) + 1)

    chunks = base_client.ImageBodyIterator(base(loopback(script)).do_request("GET", "/x"))
    with pytest.raises(exception.ClientConnectionError, match="1 bytes early"):
        list(chunks)


def test_iterator_accepts_the_right_checksum_and_reports_progress(loopback):
    calls = []
    md5 = hashlib.md5(DATA).hexdigest().upper()
    data = b"".join(iterate(loopback, checksum=md5, progress=lambda *a: calls.append(a)))
    assert data == DATA
    assert calls[-1] == (len(DATA), len(DATA))


def test_iterator_raises_on_a_wrong_checksum_after_the_last_chunk(loopback):
    chunks = iterate(loopback, checksum="0" * 32)
    received = []
    with pytest.raises(exception.ChecksumMismatch):
        for chunk in chunks:
            received.append(chunk)
    assert b"".join(received) == DATA


def test_iterator_closes_what_is_not_read(loopback):
    with iterate(loopback, checksum="0" * 32) as chunks:
        next(chunks)
    assert list(chunks) == []
    assert chunks._response.closed


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture
def tls_server(loopback, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = loopback.answering(lambda seen: seen.body or b"ok")
    monkeypatch.setattr(server, "wrap", lambda s: context.wrap_socket(s, server_side=True))
    return server


def test_tls_server_with_a_known_certificate_is_trusted(tls_server, certificate):
    made = base(tls_server, use_ssl=True, ca_file=certificate[0])
    assert made.do_request("GET", "/x").read() == b"ok"
    assert made.do_request("PUT", "/x", io.BytesIO(DATA * 8)).read() == DATA * 8
    assert made.do_request("GET", "/x").read() == b"ok"
    assert tls_server.connections == 2  # the upload has one of its own


def test_tls_server_with_an_unknown_certificate_is_refused(tls_server):
    with pytest.raises(exception.ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        base(tls_server, use_ssl=True).do_request("GET", "/x")


def test_verification_can_be_switched_off(tls_server):
    made = base(tls_server, use_ssl=True, insecure=True)
    assert made.do_request("GET", "/x").read() == b"ok"


def test_missing_tls_file_is_named_by_its_option():
    made = base_client.BaseClient("127.0.0.1", 1, use_ssl=True, ca_file="/does/not/exist")
    with pytest.raises(exception.BadInputError, match="ca_file"):
        made.do_request("GET", "/x")


def test_https_client_has_tls_connections():
    assert (
        base_client.BaseClient("h").get_connection_type()
        is base_client.connection.ClientConnection
    )
    assert base_client.BaseClient("h", use_ssl=True).get_connection_type() is (
        base_client.connection.TLSConnection
    )

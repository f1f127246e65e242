import hypothesis
import pytest
from hypothesis import strategies as st

from glance.http.server import parser


def head(*lines):
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def parse(*lines, first="GET /v1/images?limit=2 HTTP/1.1", **options):
    return parser.parse_head(head(first, "Host: x", *lines), **options)


def refusal(*lines, **options):
    with pytest.raises(parser.RequestRefused) as caught:
        parser.framing(parse(*lines, **options))
    return caught.value.status


def test_a_request_line_is_taken_apart():
    found = parse()
    assert (found.method, found.path, found.query) == ("GET", "/v1/images", "limit=2")


def test_a_path_is_decoded_once_into_bytes():
    found = parse(first="GET /a%20b%252F%C3%A4?x=%20 HTTP/1.1")
    assert found.path == "/a b%2F\xc3\xa4"
    assert found.raw_path == "/a%20b%252F%C3%A4"
    assert found.query == "x=%20"


def test_a_proxys_target_replaces_the_host():
    found = parse(first="GET http://glance:9292/v1/images HTTP/1.1")
    assert (found.path, found.cgi["HTTP_HOST"]) == ("/v1/images", "glance:9292")


def test_names_with_an_underscore_stay_out_of_the_environ():
    found = parse("x-image-meta-disk_format: raw", "X-Identity_Status: Confirmed")
    assert ("x-image-meta-disk_format", "raw") in found.headers
    assert list(found.cgi) == ["HTTP_HOST"]


def test_utf_8_survives_in_names_and_values():
    found = parse("x-image-meta-property-größe: schön".encode().decode("latin-1"))
    name, value = found.headers[1]
    assert name.encode("latin-1").decode() == "x-image-meta-property-größe"
    assert value.encode("latin-1").decode() == "schön"


def test_repeated_headers_are_joined_in_the_environ_and_kept_apart_beside_it():
    found = parse("A: 1", "a: 2")
    assert found.cgi["HTTP_A"] == "1,2"
    assert found.headers[1:] == [("A", "1"), ("a", "2")]


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        ": no name",
        " folded: value",
        "\tfolded",
        "blank : before colon",
        "con\x00trol: x",
        "nul: a\x00b",
        "bell: a\x07b",
        "delete: a\x7fb",
        "name\n: a",
        "n\xb2ame\x85: a\x00",
        "bare: a\nb: c",
        "return: a\rb",
        "Host: y",
    ],
)
def test_a_header_line_out_of_order_is_refused(line):
    assert refusal(line) == 400


@pytest.mark.parametrize(
    "line",
    [
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET /a b HTTP/1.1",
        "GET images HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT x:443 HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET / HTTP/11.1",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.\xb9",
        "GET /#part HTTP/1.1",
        'GET /" HTTP/1.1',
        "GET /<a> HTTP/1.1",
        "GET /{a} HTTP/1.1",
        "GET /a|b HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET /?[] HTTP/1.1",
        "GET http://:80/ HTTP/1.1",
        "GET http://user:pass@x/ HTTP/1.1",
        "GET http://x#y/ HTTP/1.1",
        "GET http://x:99999/ HTTP/1.1",
        "GET http://x:8x/ HTTP/1.1",
        "GET http:///images HTTP/1.1",
        "GET http:/x/ HTTP/1.1",
        "GET //x/?a b HTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_refused(line):
    assert refusal(first=line) == 400


HOSTS = [
    *("", "x", "X.example.", "x:80", "x:", "x:0080", ":80", "10.0.0.1:9292", "a-b_c~d", "a%41"),
    *("[::1]", "[::1]:9292", "[2001:db8::1.2.3.4]", "[v1.a:b]", "a!$&'()*+;=b"),
]
NO_HOSTS = [
    *(
        "a/b",
        "a/",
        "a?b",
        "a#b",
        "a@b",
        "u:p@b",
        "a\\b",
        "a b",
        "a\tb",
        "a,b",
        "a|b",
        '"a"',
        "<a>",
    ),
    *("a%4", "a%", "a%zz", "\xe9", "a\x7f", "a:b", "a:80:80", "a:+80", "a:-1", "a:8_0", "a: 80"),
    *("a:\xb2", "a:65536", "a:99999999999", "[]", "[::1", "::1", "[::1]x", "[::1]:x", "x[::1]"),
    *(
        "[10.0.0.1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.]",
        "[1::2::3]",
        "[x]",
        "{a}",
        "a^",
    ),
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_of_the_grammar_is_taken(host):
    found = parser.parse_head(head("GET /a HTTP/1.1", f"Host: {host}"))
    assert found.cgi["HTTP_HOST"] == host


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("host", NO_HOSTS)
def test_any_other_host_is_refused(host, minor):
    with pytest.raises(parser.RequestRefused) as caught:
        parser.parse_head(head(f"GET /a HTTP/1.{minor}", f"Host: {host}"))
    assert caught.value.status == 400


@pytest.mark.parametrize("host", ["", *(host for host in NO_HOSTS if not set(host) & set("/?,"))])
def test_a_proxys_target_has_a_host_too(host):
    with pytest.raises(parser.RequestRefused) as caught:
        parser.parse_head(head(f"GET http://{host}/a HTTP/1.1", "Host: x"))
    assert caught.value.status == 400


def test_a_proxys_target_needs_one_host_header_beside_it():
    for lines in ((), ("Host: x", "Host: x"), ("Host: x/y",)):
        with pytest.raises(parser.RequestRefused) as caught:
            parser.parse_head(head("GET http://x/ HTTP/1.1", *lines))
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://x", "/", ""),
        ("HTTPS://x:443?a=/b", "/", "a=/b"),
        ("http://x/a?b?c", "/a", "b?c"),
        ("/a//b/./c;d=e", "/a//b/./c;d=e", ""),
        ("//x/a", "//x/a", ""),
    ],
)
def test_targets_of_the_grammar(target, path, query):
    found = parse(first=f"GET {target} HTTP/1.1")
    assert (found.path, found.query) == (path, query)


def test_another_major_version_is_refused():
    assert refusal(first="GET / HTTP/2.0") == 505


def test_a_host_is_needed_since_http_1_1():
    assert parser.parse_head(head("GET / HTTP/1.0")).path == "/"
    with pytest.raises(parser.RequestRefused):
        parser.parse_head(head("GET / HTTP/1.1"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), (False, 0, False)),
        (("Content-Length: 12",), (False, 12, False)),
        (("Transfer-Encoding: Chunked",), (True, 0, False)),
        (("Transfer-Encoding: chunked", "Content-Length: 12"), (True, 0, True)),
    ],
)
def test_the_framing_of_a_body(lines, expected):
    assert parser.framing(parse(*lines)) == expected


def test_a_length_beside_the_chunked_coding_is_dropped():
    found = parse("Transfer-Encoding: chunked", "Content-Length: 12")
    parser.framing(found)
    assert "CONTENT_LENGTH" not in found.cgi


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Content-Length: 1", "Content-Length: 1"), 400),
        (("Content-Length: 1, 1",), 400),
        (("Content-Length: +1",), 400),
        (("Content-Length: -1",), 400),
        (("Content-Length: 1_0",), 400),
        (("Content-Length: 0x1",), 400),
        (("Content-Length: \xb2",), 400),
        (("Content-Length: 1\xa0",), 400),
        (("Content-Length: 1 1",), 400),
        (("Content-Length: 1.0",), 400),
        (("Content-Length: 1;a=b",), 400),
        (("Content-Length:",), 400),
        (("Content-Length: " + "9" * 30,), 400),
        (("Transfer-Encoding: chunked, chunked",), 400),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (("Transfer-Encoding: chunked, identity",), 400),
        (("Transfer-Encoding: gzip, chunked",), 501),
        (("Transfer-Encoding: xchunked",), 501),
        (("Transfer-Encoding:",), 501),
    ],
)
def test_a_doubtful_length_is_refused(lines, status):
    assert refusal(*lines) == status


def test_http_1_0_knows_no_chunks():
    assert refusal("Transfer-Encoding: chunked", first="GET / HTTP/1.0") == 400


def test_lines_up_to_the_limit_are_taken():
    assert parse("a: " + "x" * 2045, max_line=2048)
    assert refusal("a: " + "x" * 2046, max_line=2048) == 431
    assert refusal(first=f"GET /{'x' * 2048} HTTP/1.1", max_line=2048) == 414


def test_an_overlong_line_is_refused_before_its_end():
    parser.check_partial_line(b"GET / HTTP/1.1\r\na: " + b"x" * 100, 200)
    with pytest.raises(parser.RequestRefused, match="header line"):
        parser.check_partial_line(b"GET / HTTP/1.1\r\na: " + b"x" * 200, 200)


def test_the_end_of_a_head_is_found():
    data = head("GET / HTTP/1.1", "Host: x")
    assert parser.find_end(data + b"body") == len(data)
    assert parser.find_end(data[:-1]) == -1


def test_a_head_is_limited_as_a_whole():
    with pytest.raises(parser.RequestRefused) as caught:
        parser.find_end(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
    assert caught.value.status == 431


def test_bare_line_feeds_are_refused_at_once():
    with pytest.raises(parser.RequestRefused):
        parser.find_end(b"GET / HTTP/1.1\nHost: x\n\n")


@pytest.mark.parametrize(
    ("minor", "option", "keeps"),
    [
        (1, None, True),
        (1, "close", False),
        (1, "Keep-Alive, Close", False),
        (0, None, False),
        (0, "Keep-Alive", True),
        (0, "TE", False),
        (1, "close\xa0", True),
        (1, "a ,\tclose", False),
    ],
)
def test_who_keeps_the_connection(minor, option, keeps):
    lines = [f"Connection: {option}"] if option else []
    assert parse(*lines, first=f"GET / HTTP/1.{minor}").wants_keep_alive() is keeps


def test_an_answers_head():
    rendered = parser.render_head("200 OK", [("x-image-meta-disk_format", "raw")], "A: b\r\n")
    assert rendered == b"HTTP/1.1 200 OK\r\nX-Image-Meta-Disk_format: raw\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("evil", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\x00b"])
def test_no_value_starts_a_new_line(evil):
    rendered = parser.render_head("200 OK", [("Name", evil)])
    assert rendered.count(b"\n") == 3 and rendered.count(b"\r") == 3 and b"\x00" not in rendered


def test_no_name_starts_a_new_line():
    with pytest.raises(ValueError):
        parser.render_head("200 OK", [("A\r\nB", "c")])


@hypothesis.given(st.binary(max_size=300))
def test_any_head_is_parsed_or_refused(junk):
    for data in (junk, b"GET / HTTP/1.1\r\nHost: x\r\n" + junk + b"\r\n\r\n"):
        try:
            end = parser.find_end(data)
            if end > 0:
                found = parser.parse_head(data[:end])
                parser.framing(found)
                assert not set("\r\n\0") & set("".join(map("".join, found.headers)))
        except parser.RequestRefused:
            pass


@pytest.mark.parametrize("evil", ["x\r\ny", "x\ry", "x\ny", "x\0y", "\r\n\r\n"])
def test_one_broken_value_leaves_the_other_headers_alone(evil):
    pairs = [("A", "1\t2"), ("B", evil), ("C", "\xe4"), ("D", "")]
    rendered = parser.render_head("200 OK", pairs, "E: e\r\n")
    lines = rendered.decode("latin-1").split("\r\n")
    assert lines[0:2] == ["HTTP/1.1 200 OK", "A: 1\t2"]
    assert lines[2].replace(" ", "") in ("B:xy", "B:")
    assert lines[3:] == ["C: \xe4", "D: ", "E: e", "", ""]

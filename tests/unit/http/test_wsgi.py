"""Routing, answers and errors of the two applications."""

import io
import json
import urllib.parse

import pytest
import webob

from glance.common import exception
from glance.http import request_id, wsgi


class Closing:
    """A body that notes whether it was closed."""

    def __init__(self):
        self.closed = False

    def __iter__(self):
        yield b"data"

    def close(self):
        self.closed = True


@pytest.fixture
def router():
    router = wsgi.Router(wsgi.Request)
    router.add("/", GET=lambda request: wsgi.json_response({"root": True}))
    router.add(
        "/things/{name}",
        GET=lambda request, name: wsgi.json_response({"name": wsgi.segment(name)}),
        HEAD=lambda request, name: wsgi.Response(200, [("X-Thing", "1")]),
        PUT=lambda request, name: wsgi.json_response(request.read_json(maximum=100)),
        DELETE=lambda request, name: 1 / 0,
    )
    return router


def ask(app, path, method="GET", **kwargs):
    return webob.Request.blank(path, method=method, **kwargs).get_response(app)


def test_known_path(router):
    assert ask(router, "/things/a").json == {"name": "a"}


def test_one_trailing_slash_is_tolerated(router):
    assert ask(router, "/things/a/").status_int == 200
    assert ask(router, "/things/a//").status_int == 404


def test_a_path_without_variables_may_have_a_trailing_slash(router):
    router.add("/things", GET=lambda request: wsgi.Response())
    assert ask(router, "/things/").status_int == 200


@pytest.mark.parametrize(
    "path",
    ["/things/a%0a", "/things/a%0a/", "/things/a/%0a", "/%0a", "/things%0a", "/things/a/b"],
)
def test_a_path_is_matched_to_its_last_character(router, path):
    router.add("/things", GET=lambda request: wsgi.Response())
    assert ask(router, path).status_int == 404


@pytest.mark.parametrize(
    "raw",
    ["/things%2Fa", "/things%2fa", "/%2Fthings/a", "/things/a%zz", "/x%2Fthings/a"],
)
def test_a_path_that_names_no_resource_is_404(router, raw):
    environ = {"RAW_PATH_INFO": raw, "PATH_INFO": "/things/a"}
    assert ask(router, "/", environ=environ).status_int == 404
    environ["RAW_PATH_INFO"] = "/th%69ngs/%61"
    assert ask(router, "/", environ=environ).json == {"name": "a"}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("/things/a%2Fb", "a/b"),
        ("/things/a%2fb/", "a/b"),
        ("/things/%2F", "/"),
        ("/things/all%2F", "all/"),
        ("/things/5%2Fparts%2F7", "5/parts/7"),
        ("/v1/things/%2e%2e%2f..", "../.."),
        ("/th%69ngs/caf%C3%A9%2F%252F", "café/%2F"),
    ],
)
def test_a_slash_in_a_segment_does_not_end_it(router, raw, name):
    router.add("/things/all", GET=lambda request: wsgi.json_response("all"))
    router.add("/things/{name}/parts/{part}", GET=lambda request, **names: 1 / 0)
    path = urllib.parse.unquote(raw, "latin-1").removeprefix("/v1")
    environ = {"RAW_PATH_INFO": raw, "PATH_INFO": path}
    assert ask(router, "/", environ=environ).json == {"name": name}


def test_a_path_without_variables_comes_first(router):
    router.add("/things/all", GET=lambda request: wsgi.json_response("all"))
    assert ask(router, "/things/all").json == "all"
    assert ask(router, "/things/all", "PUT").headers["Allow"] == "GET"
    assert ask(router, "/things/%7Bname%7D").json == {"name": "{name}"}


def test_path_variables_are_utf8(router):
    assert ask(router, "/things/caf%C3%A9").json == {"name": "café"}
    assert ask(router, "/things/%FF").status_int == 400


def test_wrong_method_is_405_with_allow(router):
    response = ask(router, "/things/a", "POST")
    assert response.status_int == 405
    assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"


def test_unknown_path_is_404_and_unknown_method_501(router):
    assert ask(router, "/nothing").status_int == 404
    assert ask(router, "/things/a", "FROBNICATE").status_int == 501


def test_json_is_read_whole_and_uncoded(router):
    for header, status in (
        ({"Content-Range": "bytes 0-1/2"}, 400),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "identity"}, 200),
    ):
        assert ask(router, "/things/a", "PUT", body=b"{}", headers=header).status_int == status


def test_one_content_type(router):
    types = [v for k, v in ask(router, "/").headerlist if k.lower() == "content-type"]
    assert types == ["application/json"]


def test_an_unexpected_error_shows_nothing_of_the_inside(router):
    response = ask(router, "/things/a", "DELETE")
    assert response.status_int == 500
    assert "Zero" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 5000, 413),
        (b"[" * 90, 400),
        (b'{"a": 1}', 200),
    ],
)
def test_json_bodies(router, body, status):
    assert ask(router, "/things/a", "PUT", body=body).status_int == status


def test_a_deep_json_body_is_the_callers_mistake():
    router = wsgi.Router(wsgi.Request)
    router.add("/", PUT=lambda request: wsgi.json_response(request.read_json()))
    assert ask(router, "/", "PUT", body=b"[" * 200000).status_int == 400


def test_a_json_body_cut_short_is_the_callers_mistake(router):
    request = webob.Request.blank("/things/a", method="PUT", body=b'{"a": 1}')
    request.content_length = 20
    assert request.get_response(router).status_int == 400


def test_a_head_answer_closes_its_body_and_invents_no_length():
    body = Closing()
    response = wsgi.Response(200, [], body)
    seen = []
    environ = webob.Request.blank("/", method="HEAD").environ
    assert list(response(environ, lambda status, headers: seen.append(headers))) == []
    assert body.closed
    assert seen == [[]]


def test_204_has_neither_type_nor_length():
    response = ask(wsgi.Response(204), "/")
    assert "Content-Type" not in response.headers
    assert "Content-Length" not in response.headers


@pytest.mark.parametrize("accept", ["text/html", "text/html, text/plain;q=0.5"])
def test_errors_are_html_for_those_who_prefer_it(router, accept):
    response = ask(router, "/nothing", headers={"Accept": accept})
    assert response.content_type == "text/html"


@pytest.mark.parametrize("accept", ["*/*", "", "application/json", "text/plain, text/html"])
def test_errors_are_plain_text_otherwise(router, accept):
    response = ask(router, "/nothing", headers={"Accept": accept})
    assert response.content_type == "text/plain"
    assert response.text.splitlines()[0] == "404 Not Found"


def test_html_errors_are_escaped():
    def app(environ, start_response):
        return wsgi.fail(exception.Invalid("<script>"), environ, start_response)

    assert "<script>" not in ask(app, "/", headers={"Accept": "text/html"}).text


def test_names_with_underscores_come_from_the_raw_headers():
    environ = webob.Request.blank("/").environ
    environ["headers_raw"] = (("x-image-meta-disk_format", "raw"),)
    assert wsgi.Request(environ).raw_headers == [("x-image-meta-disk_format", "raw")]


def test_the_last_of_a_repeated_parameter_wins():
    assert wsgi.Request.blank("/?a=1&a=2&b=%C3%A9").query() == {"a": "2", "b": "é"}


def test_a_semicolon_is_part_of_a_parameters_value():
    assert wsgi.Request.blank("/?name=a;name=b&c=").query() == {"name": "a;name=b", "c": ""}


def test_a_query_has_a_limited_number_of_parameters():
    for count in (1, wsgi.MAX_PARAMETERS):
        request = wsgi.Request.blank("/?" + "&".join(["a=1"] * count))
        assert request.query() == {"a": "1"}
    for text in ("a=1", "", "a;b"):
        request = wsgi.Request.blank("/?" + "&".join([text] * (wsgi.MAX_PARAMETERS + 1)))
        with pytest.raises(exception.Invalid, match="too many parameters; at most 256"):
            request.query()


def test_a_query_that_is_not_utf8_is_the_callers_mistake():
    with pytest.raises(exception.Invalid):
        wsgi.Request.blank("/?a=%FF").query()


def test_request_ids_are_made_kept_and_bounded(router):
    app = request_id.RequestId(router)
    made = ask(app, "/").headers[request_id.HEADER]
    assert made.startswith("req-")
    kept = ask(app, "/", headers={request_id.HEADER: "req-1"}).headers[request_id.HEADER]
    assert kept == "req-1"
    odd = ask(app, "/", headers={request_id.HEADER: "a b"}).headers[request_id.HEADER]
    assert odd.startswith("req-")
    assert ask(app, "/", headers={request_id.HEADER: "x" * 65}).status_int == 431


def test_errors_carry_the_request_id(router):
    response = ask(request_id.RequestId(router), "/nothing")
    assert response.headers[request_id.HEADER].startswith("req-")


def test_json_is_json(router):
    assert json.loads(ask(router, "/things/a", "PUT", body=b'{"a": [1]}').body) == {"a": [1]}


# -- a strict router -----------------------------------------------------------------------------


@pytest.fixture
def strict():
    router = wsgi.Router(wsgi.Request, strict=True)

    def bare(request):
        request.require_no_body()
        return wsgi.Response(204)

    router.add("/things", GET=bare, POST=bare)
    return router


def test_a_strict_router_takes_no_other_slash(strict):
    assert ask(strict, "/things").status_int == 204
    assert ask(strict, "/things/").status_int == 404


def test_a_strict_router_says_what_a_resource_can_do(strict):
    options = ask(strict, "/things", "OPTIONS")
    assert (options.status_int, options.body) == (200, b"")
    assert options.headers["Allow"] == "GET, OPTIONS, POST"
    refused = ask(strict, "/things", "DELETE")
    assert (refused.status_int, refused.headers["Allow"]) == (405, "GET, OPTIONS, POST")
    assert ask(strict, "/nothing", "OPTIONS").status_int == 404
    assert ask(strict, "/things", "BREW").status_int == 501


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"", 204),
        ({"Content-Length": "0", "Content-Type": "application/octet-stream"}, b"", 204),
        ({"Content-Length": "1"}, b"x", 400),
        ({"Transfer-Encoding": "chunked"}, b"", 204),
        ({"Transfer-Encoding": "chunked"}, b"x", 400),
    ],
)
def test_a_body_where_none_belongs_is_refused(strict, headers, body, status):
    environ = {"wsgi.input": io.BytesIO(body)}
    response = ask(strict, "/things", "POST", environ=environ, headers=headers)
    assert response.status_int == status


def test_a_remembered_route_is_found_again_with_variables_of_its_own():
    router = wsgi.Router(wsgi.Request)
    router.add("/x/{b}", GET=lambda request, b: b)
    long = "b" * 1000

    def found(path):
        try:
            return router._match(webob.Request.blank(path).environ)[1]
        except exception.NotFound:
            return None

    for _ in range(2):
        variables = found("/x/1")
        assert variables == {"b": "1"}
        variables["b"] = "2"
        assert found(f"/x/{long}") == {"b": long}
        assert found("/y") is None

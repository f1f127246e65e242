"""The version table, line by line."""

import pytest
import webob

from glance.api import versions
from glance.api.middleware import version_negotiation
from glance.common import config

VENDOR = "application/vnd.openstack.images-"


def ask(path, accept=None, method="GET", **conf):
    """Return the answer; the application behind the stage answers 200 and its path."""

    def app(environ, start_response):
        start_response("200 OK", [("X-Path", environ["PATH_INFO"])])
        return []

    stage = version_negotiation.VersionNegotiation(app, config.Conf(conf))
    request = webob.Request.blank(path, method=method)
    if accept is not None:
        request.headers["Accept"] = accept
    return request.get_response(stage)


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/", None, 300),
        ("/images", None, 200),
        ("/images", "*/*", 200),
        ("/images", "application/json", 200),
        ("/images", "text/html, */*;q=0.1", 200),
        ("/images/1", "application/octet-stream", 200),
        ("/shared-images/t", None, 200),
        ("/versions", None, 300),
        ("/versions", VENDOR + "v1", 300),
        ("/v1/images", None, 200),
        ("/v1.0/images", None, 200),
        ("/v1.1/images", None, 200),
        ("/v1.a/images", None, 200),
        ("/v1.%0a/images", None, 300),
        ("/v1%0a/images", None, 300),
        ("/%0av1/images", None, 300),
        ("/images%0a", None, 300),
        ("/v1.%E9/images", None, 300),
        ("/v1foo/images", None, 300),
        ("/v1.0foo/images", None, 300),
        ("/v1.2/images", None, 300),
        ("/v2/images", None, 300),
        ("/v10/images", None, 300),
        ("/va.1/images", None, 300),
        ("/v1", None, 300),
        ("/v1.0", None, 300),
        ("/v1.1", None, 300),
        ("/v1/", None, 200),
        ("/v1.0/", None, 200),
        ("//v1/images", None, 200),
        ("/images", VENDOR + "v1", 200),
        ("/images", VENDOR + "v1.0", 200),
        ("/images", VENDOR + "v1.1", 200),
        ("/images", VENDOR + "v2", 300),
        ("/images", VENDOR + "v10", 300),
        ("/images", VENDOR + "v1.2", 300),
        ("/images", VENDOR + "foo", 300),
        ("/images", "application/vnd.openstack.compute-v1", 300),
        ("/images", "unknown/unknown", 300),
        ("/", VENDOR + "v1", 200),
        ("/v1/images", VENDOR + "v2", 200),
        ("/v2/versions", None, 300),
        ("/v1/versions", None, 200),
        ("/nothing", None, 300),
        ("/imagesfoo", None, 300),
    ],
)
def test_decision(path, accept, status):
    assert ask(path, accept).status_int == status


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/v1/images/5", "/images/5"),
        ("/v1/", "/"),
        ("/v1.0/images", "/images"),
        ("/images", "/images"),
    ],
)
def test_the_version_segment_is_taken_off(path, rest):
    assert ask(path).headers["X-Path"] == rest


def test_unversioned_paths_can_be_switched_off():
    assert ask("/images", serve_unversioned="False").status_int == 300
    assert ask("/v1/images", serve_unversioned="False").status_int == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_the_document_answers_every_method(method):
    document = ask("http://img.example:9292/", method=method).json
    assert document == {
        "versions": [
            {
                "id": name,
                "status": status,
                "links": [{"rel": "self", "href": "http://img.example:9292/v1/"}],
            }
            for name, status in (("v1.1", "CURRENT"), ("v1.0", "SUPPORTED"))
        ]
    }


def test_the_document_has_no_body_for_head():
    response = ask("/", method="HEAD")
    assert response.status_int == 300
    assert response.body == b""
    assert response.content_type == "application/json"


def test_the_document_names_the_public_endpoint():
    link = ask("/", public_endpoint="https://images.example/").json["versions"][0]["links"][0]
    assert link["href"] == "https://images.example/v1/"


@pytest.mark.parametrize(
    ("script", "path"),
    [("/image", ""), ("/image", "/"), ("/image", "/v2/images"), ("/image/", "/versions")],
)
def test_the_document_names_the_path_that_the_service_is_mounted_at(script, path):
    stage = version_negotiation.VersionNegotiation(None, config.Conf({}))
    request = webob.Request.blank("/", base_url=f"http://img.example:9292{script}")
    request.path_info = path
    (link,) = request.get_response(stage).json["versions"][0]["links"]
    assert link["href"] == "http://img.example:9292/image/v1/"


@pytest.mark.parametrize("script", ["/image", "/image/versions"])
def test_the_document_alone_names_the_path_too(script):
    request = webob.Request.blank("/", base_url=f"https://img.example{script}")
    (link,) = request.get_response(versions.Versions(config.Conf({}))).json["versions"][0]["links"]
    assert link["href"] == "https://img.example/image/v1/"


@pytest.mark.parametrize(
    ("path", "accept", "message"),
    [
        ("/v2/images", None, "Unknown version in the path: 'v2'"),
        ("/v1.2/images", "*/*", "Unknown version in the path: 'v1.2'"),
        ("/v2", None, "Unknown version in the path: 'v2'"),
        ("/V1/images", None, "Unknown version in the path: 'V1'"),
        ("/v9%0aERROR/x", None, "Unknown version in the path: 'v9\\nERROR'"),
        ("/images", VENDOR + "v2", f"Unknown version in the Accept header: '{VENDOR}v2'"),
        ("/", VENDOR + "foo", f"Unknown version in the Accept header: '{VENDOR}foo'"),
        ("/images", "application/x-odd", "Unknown Accept header: 'application/x-odd'"),
        ("/", "application/x-odd", "Unknown Accept header: 'application/x-odd'"),
        ("/images", "x/" + "y" * 9000, f"Unknown Accept header: 'x/{'y' * 98}'"),
    ],
)
def test_what_is_unknown_is_logged(caplog, path, accept, message):
    caplog.set_level("INFO")
    assert ask(path, accept).status_int == 300
    (line,) = caplog.messages
    assert line == f"{message}; the response is the list of versions"


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/", None), ("/", "*/*"), ("/v1", None), ("/versions", None), ("/images", "text/html")],
)
def test_nothing_is_unknown_in_an_ordinary_request(caplog, path, accept):
    caplog.set_level("INFO")
    ask(path, accept)
    assert caplog.messages == []

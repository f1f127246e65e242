"""The version table, line by line."""

import pytest
import webob

from glance.api import mounting, versions
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


# -- with version 2 ------------------------------------------------------------------------------

BOTH = ("v1", "v2")


def ask_both(path, accept=None, method="GET", mounted=BOTH, **conf):
    """Return the response; the application behind the filter returns version and path."""

    def app(environ, start_response):
        found = [("X-Path", environ["PATH_INFO"]), ("X-Version", environ[mounting.VERSION])]
        start_response("200 OK", found)
        return []

    stage = version_negotiation.VersionNegotiation(app, config.Conf(conf), mounted)
    request = webob.Request.blank(path, method=method)
    if accept is not None:
        request.headers["Accept"] = accept
    return request.get_response(stage)


@pytest.mark.parametrize(
    ("path", "accept", "version", "rest"),
    [
        ("/v2/images", None, "v2", "/images"),
        ("/v2.0/images", None, "v2", "/images"),
        ("/v2.6/images", None, "v2", "/images"),
        ("/v2.7/images", None, "v2", "/images"),
        ("//v2/images", None, "v2", "/images"),
        ("/v2/versions", None, "v2", "/versions"),
        ("/images", VENDOR + "v2", "v2", "/images"),
        ("/images", VENDOR + "v2.3", "v2", "/images"),
        ("/v2/images", VENDOR + "v1", "v2", "/images"),
        ("/v1/images", VENDOR + "v2", "v1", "/images"),
        ("/v1.1/images", None, "v1", "/images"),
        ("/v1.a/images", None, "v1", "/images"),
        ("/images", None, "v1", "/images"),
        ("/images", "application/json", "v1", "/images"),
        ("/images", VENDOR + "v1", "v1", "/images"),
        ("/", VENDOR + "v1", "v1", "/"),
    ],
)
def test_the_request_says_which_version_it_means(path, accept, version, rest):
    response = ask_both(path, accept)
    assert response.status_int == 200
    assert (response.headers["X-Version"], response.headers["X-Path"]) == (version, rest)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/", None),
        ("/v1", None),
        ("/v2", None),
        ("/v2.3", None),
        ("/v2/", None),
        ("/v2.7/", None),
        ("/", VENDOR + "v2"),
        ("/v2.8/images", None),
        ("/v2.99/images", None),
        ("/v2.07/images", None),
        ("/v2.%D9%A3/images", None),
        ("/v3/images", None),
        ("/v2x/images", None),
        ("/v2./images", None),
        ("/v2.5x/images", None),
        ("/V2/images", None),
        ("/images", VENDOR + "v2.8"),
        ("/images", VENDOR + "v2.7.1"),
        ("/images", VENDOR + "v20"),
        ("/images", VENDOR + "v3"),
        ("/nothing", None),
    ],
)
def test_what_no_version_serves_gets_the_document(path, accept):
    response = ask_both(path, accept)
    assert response.status_int == 300
    assert response.json == ask_both("/").json


def test_the_document_lists_version_2_first_and_one_current_version():
    entries = ask_both("http://img.example:9292/").json["versions"]
    assert [entry["id"] for entry in entries] == [
        *("v2.7", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"),
        *("v1.1", "v1.0"),
    ]
    assert [entry["status"] for entry in entries] == ["CURRENT", *["SUPPORTED"] * 8]
    hrefs = [entry["links"] for entry in entries]
    assert hrefs[0] == [{"rel": "self", "href": "http://img.example:9292/v2/"}]
    assert hrefs[-1] == [{"rel": "self", "href": "http://img.example:9292/v1/"}]


def test_the_list_of_versions_has_status_200_beside_version_2_only():
    assert ask_both("/versions").status_int == 200
    assert ask_both("/versions/").status_int == 200
    assert ask_both("/versions", mounted=("v1",)).status_int == 300
    assert ask_both("/versions", mounted=("v2",)).status_int == 200


@pytest.mark.parametrize("path", ["/v2/", "/v2.5/"])
def test_the_root_of_version_2_is_only_read(path):
    head = ask_both(path, method="HEAD")
    assert (head.status_int, head.body) == (300, b"")
    refused = ask_both(path, "application/json", method="POST")
    assert refused.status_int == 405
    assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert refused.json["error"]["code"] == 405
    options = ask_both(path, method="OPTIONS")
    assert (options.status_int, options.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")


def test_version_2_alone():
    assert [entry["id"][:2] for entry in ask_both("/", mounted=("v2",)).json["versions"]] == [
        "v2"
    ] * 7
    for path, accept in (("/v1/images", None), ("/images", None), ("/images", VENDOR + "v1")):
        assert ask_both(path, accept, mounted=("v2",)).status_int == 300
    assert ask_both("/v2/images", mounted=("v2",)).headers["X-Version"] == "v2"


def test_the_document_of_both_names_the_public_endpoint():
    entries = ask_both("/", public_endpoint="https://images.example/").json["versions"]
    assert {entry["links"][0]["href"] for entry in entries} == {
        "https://images.example/v1/",
        "https://images.example/v2/",
    }

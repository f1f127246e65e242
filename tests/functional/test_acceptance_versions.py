"""The acceptance list of the REST API: which version a request means (line 3), and the routes."""

import pytest

LIST, DOCUMENT, MISSING, NO_METHOD = 200, 300, 404, 405
VENDOR = "application/vnd.openstack.images-"

TABLE = [
    ("/", None, DOCUMENT),
    ("/", "*/*", DOCUMENT),
    ("/", "application/json", DOCUMENT),
    ("/images", None, LIST),
    ("/images", "*/*", LIST),
    ("/images", "", LIST),
    ("/images", "application/json", LIST),
    ("/images", "text/html,application/xhtml+xml,*/*;q=0.8", LIST),
    ("/versions", None, DOCUMENT),
    ("/versions", VENDOR + "v1", DOCUMENT),
    ("/versions", VENDOR + "v2", DOCUMENT),
    ("/versions/", None, DOCUMENT),
    ("/v1/images", None, LIST),
    ("/v1.0/images", None, LIST),
    ("/v1.1/images", None, LIST),
    ("/v1.a/images", None, LIST),
    ("/v1foo/images", None, DOCUMENT),
    ("/v1.2/images", None, DOCUMENT),
    ("/v1.10/images", None, DOCUMENT),
    ("/v2/images", None, DOCUMENT),
    ("/v10/images", None, DOCUMENT),
    ("/va.1/images", None, DOCUMENT),
    ("/v1", None, DOCUMENT),
    ("/v1.0", None, DOCUMENT),
    ("/v1.1", None, DOCUMENT),
    ("/v1/", None, LIST),
    ("/v1.0/", None, LIST),
    ("/v1.1/", None, LIST),
    ("//v1/images", None, LIST),
    ("/images", VENDOR + "v1", LIST),
    ("/images", VENDOR + "v1.0", LIST),
    ("/images", VENDOR + "v1.1", LIST),
    ("/images", VENDOR + "v2", DOCUMENT),
    ("/images", VENDOR + "v1.2", DOCUMENT),
    ("/images", VENDOR + "foo", DOCUMENT),
    ("/images", "application/vnd.openstack.compute-v1", DOCUMENT),
    ("/images", "application/unheard-of", DOCUMENT),
    ("/", VENDOR + "v1", LIST),
    ("/v1/images", VENDOR + "v2", LIST),
    ("/v2/images", VENDOR + "v1", DOCUMENT),
    ("/v2/versions", None, DOCUMENT),
    ("/v1/versions", None, MISSING),
    ("/unknown", None, DOCUMENT),
]


@pytest.mark.parametrize(("path", "accept", "status"), TABLE)
def test_line_3_path_and_accept_decide_about_the_version(site, path, accept, status):
    reply = site.http.get(path, {} if accept is None else {"Accept": accept})
    assert reply.status == status
    if status == LIST:
        assert list(reply.json()) == ["images"]
    if status == DOCUMENT:
        assert reply.json() == document(f"http://127.0.0.1:{site.port}")


def document(base):
    links = [{"rel": "self", "href": f"{base}/v1/"}]
    return {
        "versions": [
            {"id": "v1.1", "status": "CURRENT", "links": links},
            {"id": "v1.0", "status": "SUPPORTED", "links": links},
        ]
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/versions", "/v2/images", "/v1"])
def test_line_3_every_method_reaches_the_version_document(site, method, path):
    reply = site.http.request(method, path)
    assert reply.status == 300
    assert reply.header("Content-Type") == "application/json"
    assert (reply.body == b"") == (method == "HEAD")


def test_line_3_the_links_name_the_host_that_the_client_asked_for(site):
    reply = site.http.get("/", {"Host": "images.example.org:8080"})
    assert reply.json() == document("http://images.example.org:8080")


def test_line_3_the_links_name_the_public_endpoint_when_it_is_set(make_site):
    options = {"public_endpoint": "https://glance.example.org/", "serve_unversioned": False}
    http = make_site(api=options).http
    assert http.get("/").json() == document("https://glance.example.org")
    location = http.post("/v1/images").header("Location")
    assert location == "https://glance.example.org/v1/images/1"
    # Diablo's answer to paths without a version, on demand.
    assert http.get("/images").status == 300
    assert http.get("/images", {"Accept": VENDOR + "v1"}).status == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/", "/v1.0/"])
def test_line_3_the_list_below_the_version_can_only_be_read(site, method, path):
    reply = site.http.request(method, path)
    assert (reply.status, reply.header("Allow")) == (405, "GET")


# -- the routes ----------------------------------------------------------------------------------

ROUTES = {
    "/images": {"GET", "POST"},
    "/images/detail": {"GET"},
    "/images/1": {"DELETE", "GET", "HEAD", "PUT"},
    "/images/1/members": {"GET", "PUT"},
    "/images/1/members/tenant": {"DELETE", "PUT"},
    "/shared-images/tenant": {"GET"},
}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, known in ROUTES.items() for method in sorted(METHODS - known)],
)
def test_a_method_that_a_path_does_not_know_is_405_with_allow(site, path, method):
    reply = site.http.request(method, f"/v1{path}")
    assert reply.status == 405
    assert set(reply.header("Allow").split(", ")) == ROUTES[path]


@pytest.mark.parametrize("method", ["TRACE", "BREW", "get", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/images", "/v1/images/1"])
def test_a_method_that_http_services_do_not_have_is_501(site, method, path):
    assert site.http.request(method, path).status == 501


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images.json", "/v1/images/detail.json", "/v1/images/new", "/v1/images/1/edit"),
        *("/v1/images/1.5", "/v1/images/1.json", "/v1/images/1/x", "/v1/images//", "/v1/image"),
        *("/v1/shared-images", "/v1/shared-images/a/b", "/v1/images/1/members/a/b"),
        *("/v1/cached_images", "/v1/queued_images", "/v1/v1/images"),
    ],
)
def test_paths_that_routing_helpers_made_up_do_not_exist(site, path):
    assert site.http.get(path).status == 404


@pytest.mark.parametrize("image_id", ["2a", "+1", "%201", "1%20", "1_0", "%EF%BC%91", "0x1", "-1"])
def test_an_image_id_is_plain_decimal_digits(site, image_id):
    site.http.add(b"x", id="1")
    for method in ("HEAD", "GET", "PUT", "DELETE"):
        assert site.http.request(method, f"/v1/images/{image_id}").status == 404
    assert site.http.head("/v1/images/1").status == 200

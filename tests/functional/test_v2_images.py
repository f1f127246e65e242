"""Images by version 2 of the API, over the wire, by real daemons."""

import json
import threading

import pytest

from support import daemons

BOTH = "versionnegotiation context rootapp"
V21 = "application/openstack-images-v2.1-json-patch"
JSON = {"Accept": "application/json"}
#: An id that no image has.
NOBODYS = "7e9ce754-c29f-46c0-9c0e-0eb6ae5b1aab"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both daemons with both versions of the API."""
    directory = tmp_path_factory.mktemp("site")
    with daemons.Site(directory, workers=2, api_pipeline=BOTH) as running:
        yield running


def create(site, **attributes):
    reply = site.http.request("POST", "/v2/images", JSON, json.dumps(attributes).encode())
    assert reply.status == 201, reply.text
    return reply.json()


def patch(site, image, *operations):
    entries = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    headers = {**JSON, "Content-Type": V21}
    body = json.dumps(entries).encode()
    return site.http.request("PATCH", f"/v2/images/{image['id']}", headers, body)


def test_an_image_from_its_creation_to_its_end(site):
    image = create(site, name="wéb", disk_format="raw", container_format="bare", tags=["b", "a"])
    path = f"/v2/images/{image['id']}"
    headers = {"Content-Type": "application/octet-stream"}
    assert site.http.request("PUT", f"{path}/file", headers, b"data" * 1000).status == 204
    shown = site.http.get(path)
    assert shown.header("content-type") == "application/json"
    assert (shown.json()["status"], shown.json()["size"]) == ("active", 4000)
    assert site.http.get(f"{path}/file").body == b"data" * 1000
    number = shown.header("x-openstack-image-v1-id")
    old = site.http.head(f"/v1/images/{number}")
    assert old.header("x-openstack-image-uuid") == image["id"]
    assert old.meta()["name"].encode("latin-1").decode() == "wéb"
    changed = patch(site, image, ("replace", "/name", None), ("add", "/Trait:X y", ""))
    assert (changed.json()["name"], changed.json()["Trait:X y"]) == (None, "")
    deleted = site.http.request("DELETE", path, {"Content-Length": "0", **headers})
    assert (deleted.status, deleted.body) == (204, b"")
    assert deleted.header("content-type") is None
    assert site.http.get(path, JSON).json()["error"]["title"] == "Not Found"


def test_the_head_of_an_image_has_the_length_of_its_json(site):
    image = create(site)
    path = f"/v2/images/{image['id']}"
    head, got = site.http.head(path), site.http.get(path)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == got.header("content-length") == str(len(got.body))


@pytest.mark.parametrize(
    "text",
    [
        NOBODYS,
        "7",
        "detail",
        "a%2Fb",
        "x" * 300,
        "%00",
        "..",
        "../x",
        "%ff",
        "",
        ".",
    ],
)
def test_any_text_that_is_no_image_is_not_found(site, text):
    for method in ("GET", "DELETE"):
        assert site.http.request(method, f"/v2/images/{text}").status == 404, method


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[1]", 400),
        (b'{"name": ', 400),
        (b"[" * 200000, 400),
        (b'{"x": "' + b"y" * (1 << 20) + b'"}', 413),
        ([b'{"x": "', b"y" * (1 << 20), b'"}'], 413),
        ([b'{"name": ', b'"x"}'], 201),
    ],
)
def test_bodies(site, body, status):
    reply = site.http.request("POST", "/v2/images", JSON, body)
    assert reply.status == status
    assert ("error" in reply.json()) == (status != 201)


def test_the_id_of_a_request_comes_back(site):
    headers = {"X-Openstack-Request-Id": "req-of-mine"}
    for method, path in (
        ("GET", "/v2/images/x"),
        ("PUT", "/v2/images"),
        ("OPTIONS", "/v2/images"),
    ):
        reply = site.http.request(method, path, headers)
        assert reply.header("x-openstack-request-id") == "req-of-mine"


@pytest.mark.full
def test_two_clients_that_change_different_properties_lose_nothing(site):
    image = create(site)
    refused = []

    def add(name):
        for number in range(100):
            reply = patch(site, image, ("add", f"/{name}", str(number)))
            if reply.status != 200 or reply.json()[name] != str(number):
                refused.append(reply.text)

    threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    found = site.http.get(f"/v2/images/{image['id']}").json()
    assert (found["a"], found["b"]) == ("99", "99")

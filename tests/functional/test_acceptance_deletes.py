"""The acceptance list of the REST API: deletes (line 14), and data that lies elsewhere."""

import contextlib
import http.server
import os
import pathlib
import threading

import pytest

from support import daemons
from support.records import eventually, files_of, reserve, row, status_of

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    options = {"http_store_allowed_hosts": "127.0.0.1"}
    with daemons.Site(tmp_path_factory.mktemp("deletes"), workers=2, api=options) as running:
        yield running


@contextlib.contextmanager
def replaced(directory, other):
    """Put a symbolic link to `other` in the place of a directory."""
    away = directory.with_name(directory.name + ".away")
    directory.rename(away)
    directory.symlink_to(other)
    try:
        yield
    finally:
        directory.unlink()
        away.rename(directory)


# -- line 14 -------------------------------------------------------------------------------------


class Origin(http.server.BaseHTTPRequestHandler):
    """A web server with one image; it notes the methods that it was asked with."""

    content = b"from elsewhere"

    def do_GET(self):
        self.server.methods.append(self.command)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_DELETE = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def origin():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        server.methods = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def location_of(origin):
    return {"x-image-meta-location": f"http://127.0.0.1:{origin.server_port}/image"}


def test_line_14_deleting_frees_the_data_at_once(site):
    image_id = site.http.add(b"data").json()["image"]["id"]
    url = f"/v1/images/{image_id}"
    deleted = site.http.delete(url)
    assert (deleted.status, deleted.body) == (200, b"")
    assert files_of(site, image_id) == []
    assert row(site, image_id) == ("deleted", 1)
    for method in ("HEAD", "GET", "PUT", "DELETE"):
        assert site.http.request(method, url).status == 404


def test_line_14_an_image_without_data_is_deleted_too(site):
    image_id = reserve(site)
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert row(site, image_id) == ("deleted", 1)


def test_line_14_delayed_delete_keeps_the_data_for_the_scrubber(make_site):
    site = make_site(api={"delayed_delete": True})
    image_id = site.http.add(b"data", is_public="true").json()["image"]["id"]
    url = f"/v1/images/{image_id}"
    assert site.http.delete(url).status == 200
    (held,) = site.data_files()
    assert site.store.read(held.name) == b"data"
    assert row(site, image_id) == ("pending_delete", 1)
    assert site.http.get("/v1/images").json() == {"images": []}
    for method in ("HEAD", "GET", "PUT", "DELETE"):
        assert site.http.request(method, url).status == 404


@pytest.mark.files
def test_line_14_a_store_that_refuses_leaves_the_data_to_the_scrubber(make_site):
    site = make_site()
    assert site.http.add(b"data", id="1").status == 201
    # The kernel's notes on this process's descriptors are files that not even root can remove.
    notes = pathlib.Path(f"/proc/{os.getpid()}/fdinfo")
    assert (notes / "1").is_file()
    with replaced(site.data_dir, notes):
        assert site.http.delete("/v1/images/1").status == 200
    assert row(site, 1) == ("pending_delete", 1)
    assert site.http.head("/v1/images/1").status == 404


def test_line_14_data_that_is_not_ours_outlives_its_image(site, origin):
    image = site.http.post("/v1/images", location_of(origin)).json()["image"]
    assert (image["status"], image["size"]) == ("active", len(Origin.content))
    url = f"/v1/images/{image['id']}"
    assert site.http.get(url).body == Origin.content
    assert site.http.delete(url).status == 200
    assert row(site, image["id"]) == ("deleted", 1)
    assert site.http.head(url).status == 404
    assert "DELETE" not in origin.methods


def test_line_14_a_location_of_another_size_than_declared_is_409(site, origin):
    headers = {**location_of(origin), "x-image-meta-size": "5"}
    assert site.http.post("/v1/images", headers).status == 409


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "filesystem:///etc/passwd", "FILE:///etc/passwd"),
        *("ftp://h/x", "nonsense", "http://", "http:///x", "unknown+http://h/x"),
    ],
)
@pytest.mark.parametrize("header", ["x-image-meta-location", "x-glance-api-copy-from"])
def test_line_14_a_location_that_is_no_one_elses_image_is_400(site, header, location):
    reply = site.http.post("/v1/images", {header: location, "x-image-meta-name": "trap"})
    assert reply.status == 400
    listed = site.http.get("/v1/images/detail?is_public=none&limit=1000").json()["images"]
    assert "trap" not in [image["name"] for image in listed]


@pytest.mark.parametrize(
    "sources",
    [
        {"x-image-meta-location": "http://127.0.0.1/a", "x-glance-api-copy-from": "http://h/b"},
        {"x-image-meta-location": "http://127.0.0.1/a", "body": "x"},
        {"x-glance-api-copy-from": "http://127.0.0.1/a", "body": "x"},
    ],
)
def test_two_sources_of_data_are_400(site, sources):
    headers = dict(sources)
    body = headers.pop("body", "").encode()
    assert site.http.post("/v1/images", {**OCTETS, **headers}, body).status == 400


def test_copy_from_fills_an_image_in_the_background(site, origin):
    source = {"x-glance-api-copy-from": location_of(origin)["x-image-meta-location"]}
    reply = site.http.post("/v1/images", source)
    assert (reply.status, reply.json()["image"]["status"]) == (201, "queued")
    image_id = reply.json()["image"]["id"]
    eventually("active", status_of, site, image_id)
    assert site.http.get(f"/v1/images/{image_id}").body == Origin.content
    # The copy is ours: it goes with its image.
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert files_of(site, image_id) == []


def test_copy_from_a_source_that_fails_leaves_a_killed_image(site):
    source = f"http://127.0.0.1:{daemons.free_port()}/nothing-here"
    reply = site.http.post("/v1/images", {"x-glance-api-copy-from": source})
    assert reply.status == 201
    eventually("killed", status_of, site, reply.json()["image"]["id"])

"""The data of images by version 2, over the wire, by real daemons."""

import hashlib
import json
import os
import signal
import socket
import threading
import uuid

import pytest

from support import daemons
from support.faults import until

BOTH = "versionnegotiation context cache rootapp"
OCTETS = {"Content-Type": "application/octet-stream"}
DATA = os.urandom(1 << 20) * 16
JSON = {"Accept": "application/json"}


def caching(directory):
    return {
        "image_cache_enabled": True,
        "image_cache_dir": directory / "cache",
        "image_cache_min_free_disk": 0,
        "image_cache_debug_header": True,
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both daemons with both versions of the API and a cache."""
    directory = tmp_path_factory.mktemp("site")
    options = caching(directory)
    with daemons.Site(directory, workers=2, api=options, api_pipeline=BOTH) as running:
        yield running


def create(site, **attributes):
    values = {"disk_format": "raw", "container_format": "bare", **attributes}
    reply = site.http.request("POST", "/v2/images", JSON, json.dumps(values).encode())
    assert reply.status == 201, reply.text
    return reply.json()


def show(site, image):
    return site.http.get(image["self"]).json()


def files_of(site, image):
    number = site.http.get(image["self"]).header("x-openstack-image-v1-id")
    return [path for path in site.data_files() if path.name.split(".")[0] == number]


class Connection:
    """One connection of a client, for what no library does."""

    def __init__(self, site, method, path, *headers):
        self.socket = socket.create_connection(("127.0.0.1", site.port), timeout=30)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, data):
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def reply(self):
        found = b""
        while part := self.socket.recv(65536):
            found += part
        self.socket.close()
        return found

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.socket.close()


def sending(site, image, *headers):
    """Begin a chunked upload; the image is saving when this returns."""
    one = Connection(
        site,
        "PUT",
        image["file"],
        "Content-Type: application/octet-stream",
        "Transfer-Encoding: chunked",
        *headers,
    )
    one.chunk(DATA[: 4 << 20])
    until(lambda: show(site, image)["status"] == "saving", "the upload has begun")
    return one


def is_queued_again(site, image):
    until(lambda: show(site, image)["status"] == "queued", "the image is queued again")
    until(lambda: not files_of(site, image), "nothing is left")
    assert site.http.put(image["file"], OCTETS, b"whole").status == 204
    assert site.http.get(image["file"]).body == b"whole"


# -- there and back ------------------------------------------------------------------------------


def _hit(site, path):
    reply = site.http.get(path)
    return reply if reply.header("cache-status") == "glance; hit" else None


def test_data_goes_there_and_back_through_the_cache_and_by_both_versions(site):
    image = create(site)
    assert site.http.put(image["file"], OCTETS, DATA).status == 204
    found = show(site, image)
    assert (found["status"], found["size"]) == ("active", len(DATA))
    assert found["checksum"] == hashlib.md5(DATA).hexdigest()
    assert found["os_hash_value"] == hashlib.sha256(DATA).hexdigest()
    first = site.http.get(image["file"])
    assert first.body == DATA
    assert first.header("cache-status").startswith("glance; fwd=miss")
    for path in (image["file"], f"/v1/images/{image['id']}"):
        # The copy is complete a moment after the first download.
        hit = until(lambda path=path: _hit(site, path), "a hit")
        assert hit.body == DATA
    assert site.http.get(f"/v1/images/{image['id']}/file").body == DATA
    part = site.http.get(image["file"], {"Range": "bytes=100-199"})
    assert (part.status, part.body, part.header("content-md5")) == (206, DATA[100:200], None)


def test_an_image_of_version_1_is_filled_and_read_by_version_2(site):
    reply = site.http.post("/v1/images", {"x-image-meta-name": "old"})
    number, name = reply.json()["image"]["id"], reply.header("x-openstack-image-uuid")
    path = f"/v2/images/{name}/file"
    assert site.http.get(path).status == 204
    assert site.http.put(path, OCTETS, b"data").status == 400
    formats = {"x-image-meta-disk-format": "raw", "x-image-meta-container-format": "bare"}
    assert site.http.put(f"/v1/images/{name}", formats).status == 200
    assert site.http.put(path, OCTETS, b"data").status == 204
    assert site.http.get(f"/v1/images/{number}").body == b"data"


def test_version_1_takes_a_uuid_wherever_it_takes_a_number(site):
    chosen = str(uuid.uuid4())
    reply = site.http.add(b"data", name="chosen", id=chosen.upper())
    assert reply.status == 201
    number = reply.json()["image"]["id"]
    assert isinstance(number, int)
    assert reply.header("x-openstack-image-uuid") == chosen
    assert site.http.add(b"data", name="again", id=chosen).status == 409
    path = f"/v1/images/{chosen}"
    assert site.http.get(path).body == b"data"
    head = site.http.head(path)
    assert (head.meta()["id"], head.header("x-openstack-image-uuid")) == (str(number), chosen)
    assert site.http.put(path, {"x-image-meta-name": "new"}).json()["image"]["id"] == number
    assert site.http.put(path, {"x-image-meta-id": chosen}).status == 200
    assert site.http.put(path, {"x-image-meta-id": str(uuid.uuid4())}).status == 403
    assert site.http.put(f"{path}/members/m").status == 204
    members = site.http.get(f"{path}/members").json()["members"]
    assert members == [{"member_id": "m", "can_share": False}]
    later = site.http.add(b"x", name="later").json()["image"]["id"]
    page = f"/v1/images?is_public=none&sort_key=id&sort_dir=asc&marker={chosen}"
    assert site.http.get(page).json()["images"][0]["id"] == later
    assert site.http.get(f"/v1/images?marker={uuid.uuid4()}").status == 400
    assert site.http.delete(f"{path}/members/m").status == 204
    assert site.http.delete(path).status == 200
    assert site.http.get(path).status == 404
    assert site.http.delete(path).status == 404


def test_tags_and_members_may_have_a_slash_in_their_names(site):
    image = create(site)
    for name in ("a%2Fb", "%C3%BC%20x"):
        assert site.http.put(f"{image['self']}/tags/{name}").status == 204
    assert show(site, image)["tags"] == ["a/b", "ü x"]
    body = json.dumps({"member": "a/b"}).encode()
    assert site.http.post(f"{image['self']}/members", {}, body).json()["member_id"] == "a/b"
    assert site.http.get(f"{image['self']}/members/a%2Fb").json()["status"] == "pending"
    for path in ("tags/a%2Fb", "members/a%2Fb"):
        assert site.http.delete(f"{image['self']}/{path}").status == 204
        assert site.http.delete(f"{image['self']}/{path}").status == 404


# -- refusals before the data --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Type: text/plain"], 415),
        ([], 415),
        (["Content-Type: application/octet-stream", "x-openstack-image-size: 9"], 400),
    ],
)
def test_a_client_that_waits_is_refused_before_it_sends_anything(site, headers, status):
    image = create(site)
    waiting = ("Content-Length: 10", "Expect: 100-continue")
    with Connection(site, "PUT", image["file"], *headers, *waiting) as one:
        reply = one.reply()
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert show(site, image)["status"] == "queued"


# -- uploads that end badly ----------------------------------------------------------------------


def test_a_client_that_goes_away_in_the_middle_leaves_the_image_queued(site):
    image = create(site)
    with sending(site, image):
        assert files_of(site, image)
    is_queued_again(site, image)


def test_a_second_upload_is_refused_while_the_first_goes_on(site):
    image = create(site)
    with sending(site, image) as first:
        assert site.http.put(image["file"], OCTETS, b"other").status == 409
        first.chunk(b"the end")
        first.chunk(b"")
        assert first.reply().startswith(b"HTTP/1.1 204 ")
    assert site.http.get(image["file"]).body == DATA[: 4 << 20] + b"the end"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_image_that_is_deleted_during_the_upload_is_gone(site, version):
    image = create(site)
    with sending(site, image) as one:
        number = site.http.get(image["self"]).header("x-openstack-image-v1-id")
        assert site.http.delete(f"/{version}/images/{image['id']}").status in (200, 204)
        one.chunk(b"the end")
        one.chunk(b"")
        assert one.reply().startswith(b"HTTP/1.1 410 ")
    assert site.http.get(image["self"]).status == 404
    until(
        lambda: not [p for p in site.data_files() if p.name.split(".")[0] == number],
        "nothing is left",
    )


@pytest.mark.full
@pytest.mark.parametrize("ending", ["a worker is killed", "all is killed", "all is stopped"])
def test_an_upload_whose_process_ends_leaves_the_image_queued(make_site, ending):
    site = make_site(api={"stop_timeout": 1}, api_pipeline="versionnegotiation context rootapp")
    image, old = create(site), create(site)
    path = f"/v1/images/{old['id']}"
    with sending(site, image), sending(site, {**old, "file": path}):
        if ending == "a worker is killed":
            for pid in daemons.children(site.api.pid):
                os.kill(pid, signal.SIGKILL)
        elif ending == "all is killed":
            site.api.kill()
            site.api.start()
        else:
            site.api.stop()
            site.api.start()
        until(lambda: site.http.get("/v2/schemas/image").status == 200, "the API is back")
        is_queued_again(site, image)
    until(lambda: show(site, old)["status"] == "killed", "what version 1 began is killed")


@pytest.mark.full
def test_of_many_uploads_at_once_one_wins(site):
    image = create(site)
    datas = [bytes([number]) * (3 << 20) for number in range(6)]
    statuses = [0] * len(datas)

    def upload(number):
        statuses[number] = site.http.put(image["file"], OCTETS, datas[number]).status

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(len(datas))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [204, *[409] * 5]
    assert site.http.get(image["file"]).body == datas[statuses.index(204)]


@pytest.mark.full
def test_a_registry_that_goes_away_during_the_upload_leaves_the_image_queued(make_site):
    site = make_site(api_pipeline="versionnegotiation context rootapp")
    image = create(site)
    with sending(site, image) as one:
        site.registry.kill()
        one.chunk(b"")
        assert one.reply().startswith(b"HTTP/1.1 503 ")
    site.registry.start()
    is_queued_again(site, image)

"""Both daemons with the S3 store: real uploads and downloads, and what happens when things break.

Between the API and a real Swift with its S3 gateway stands a proxy that fails on demand.
"""

import contextlib
import hashlib
import http.client
import os
import random
import sqlite3
import subprocess
import sys

import pytest

from glance.testing.faults import Fault, FaultProxy

from support import daemons, faults
from support.faults import Upload, new_id
from support.swift_node import KEY, USER, SwiftNode

pytestmark = pytest.mark.full

MIB = 1024 * 1024
DATA = random.Random(5).randbytes(12 * MIB)
SMALL = DATA[:100_000]
PART = r"/glance/\d+\?.*partNumber="


class Site(daemons.Site):
    """A site whose images lie in S3; `swift` and `proxy` are what it leads to."""

    def __init__(self, directory, swift, proxy, **options):
        self.swift, self.proxy = swift, proxy
        self.traces = directory / "traces"
        api = {
            "debug": True,
            "default_store": "s3",
            "s3_store_host": f"127.0.0.1:{proxy.port}",
            "s3_store_access_key": USER,
            "s3_store_secret_key": KEY,
            "s3_store_bucket": "glance",
            "s3_store_create_bucket_on_put": True,
            "s3_store_object_buffer_dir": self.traces,
            "s3_store_large_object_chunk_size": 5,
            "s3_store_retries": 1,
            "s3_store_timeout": 4,
        }
        super().__init__(directory, api=api, **options)
        self.traces.mkdir(parents=True)

    def left(self):
        """Return what uploads left: objects, parts, open uploads, traces."""
        return self.swift.names() + os.listdir(self.traces)


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    settings = {"slo.allow_async_delete": "false"}
    with SwiftNode(tmp_path_factory.mktemp("swift"), settings=settings) as node:
        yield node


@pytest.fixture(scope="module")
def shared(tmp_path_factory, swift):
    directory = tmp_path_factory.mktemp("s3-site")
    with FaultProxy(swift.port) as proxy, Site(directory, swift, proxy) as running:
        yield running


@pytest.fixture
def site(shared):
    shared.proxy.clear()
    yield shared
    shared.proxy.clear()
    faults.revive(shared)
    with contextlib.closing(sqlite3.connect(shared.database)) as database:
        active = database.execute("SELECT id FROM images WHERE status = 'active'").fetchall()
    for (image_id,) in active:
        assert shared.http.delete(f"/v1/images/{image_id}").status == 200
    faults.until(lambda: shared.left() == [], "nothing is left in S3")


@pytest.fixture(autouse=True)
def _no_secret_in_logs(shared):
    """The daemons log everything they have to say; the key must not be in it."""
    yield
    for _, text in shared.logs():
        assert KEY not in text
        assert "Authorization" not in text
        assert "StringToSign" not in text


def killed_and_gone(site, image_id):
    faults.until_status(site, image_id, "killed")
    faults.until(lambda: site.left() == [], "nothing is left in S3")
    assert site.http.get(f"/v1/images/{image_id}").status == 404


# -- when nothing breaks --


@pytest.mark.parametrize(
    ("data", "chunked"),
    [(b"", True), (SMALL, False), (SMALL, True), (DATA, False), (DATA, True)],
    ids=["empty", "small", "small of unknown size", "large", "large of unknown size"],
)
def test_an_image_goes_to_s3_and_comes_back(site, data, chunked):
    body = iter([data]) if chunked else data
    reply = site.http.add(body, id=new_id(), store="s3")
    assert reply.status == 201
    image = reply.json()["image"]
    assert (image["size"], image["status"]) == (len(data), "active")
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    assert f"glance/{image['id']}" in site.swift.names()
    got = site.http.get(f"/v1/images/{image['id']}")
    assert (got.status, got.body) == (200, data)
    if data:
        part = site.http.get(f"/v1/images/{image['id']}", {"Range": "bytes=100-5242999"})
        assert (part.status, part.body) == (206, data[100:5243000])
    assert site.http.delete(f"/v1/images/{image['id']}").status == 200
    assert site.left() == []


def test_the_location_holds_no_credentials_anywhere(site):
    image = site.http.add(SMALL, id=new_id()).json()["image"]
    shown = site.http.head(f"/v1/images/{image['id']}").meta().get("location", "")
    with contextlib.closing(sqlite3.connect(site.database)) as database:
        query = "SELECT location FROM images WHERE id = ?"
        (stored,) = database.execute(query, (image["id"],)).fetchone()
    address = f"127.0.0.1:{site.proxy.port}"
    for location in (shown, stored):
        assert location == f"s3+http://{address}/glance/{image['id']}"


def test_a_location_of_diablo_is_read_and_deleted_by_the_configured_keys(site):
    """Its keys were changed long ago; nobody but the service sees them."""
    image_id = site.http.add(SMALL, id=new_id()).json()["image"]["id"]
    old = f"s3://OLDKEY:old/canary@127.0.0.1:{site.proxy.port}/glance/{image_id}"
    with contextlib.closing(sqlite3.connect(site.database)) as database, database:
        database.execute("UPDATE images SET location = ? WHERE id = ?", (old, image_id))
    got = site.http.get(f"/v1/images/{image_id}")
    assert (got.status, got.body) == (200, SMALL)
    assert "canary" not in f"{got.headers} {site.http.head(f'/v1/images/{image_id}').headers}"
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert site.left() == []
    assert "canary" not in site.api.log()


def test_what_lies_in_the_bucket_can_be_registered_and_is_not_deleted_then(site):
    site.swift.request("PUT", "/glance")
    assert site.swift.request("PUT", "/glance/disk7", body=SMALL)[0] == 201
    location = f"s3://127.0.0.1:{site.proxy.port}/glance/disk7"
    reply = site.http.post(
        "/v1/images", {"x-image-meta-id": str(new_id()), "x-image-meta-location": location}
    )
    assert reply.status == 201, reply
    image = reply.json()["image"]
    assert image["size"] == len(SMALL)
    assert site.http.get(f"/v1/images/{image['id']}").body == SMALL
    assert site.http.delete(f"/v1/images/{image['id']}").status == 200
    assert site.swift.names() == ["glance/disk7"]
    site.swift.request("DELETE", "/glance/disk7")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "169.254.169.254"])
def test_another_service_cannot_be_registered(site, host):
    location = f"s3://a:canary@{host}/glance/1"
    reply = site.http.post(
        "/v1/images", {"x-image-meta-id": str(new_id()), "x-image-meta-location": location}
    )
    assert reply.status == 400
    assert "canary" not in reply.text


def test_of_two_uploads_of_one_image_one_wins(site):
    image_id = faults.reserve(site)
    with Upload(site, image_id, method="PUT") as first:
        first.send(DATA[: 6 * MIB])
        faults.until_status(site, image_id, "saving")
        with Upload(site, image_id, method="PUT") as second:
            assert second.send(SMALL).end().reply().status == 409
        assert first.send(DATA[6 * MIB :]).end().reply().status == 200
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    assert os.listdir(site.traces) == []


def test_an_object_that_lies_under_the_id_already_is_left_alone(site):
    image_id = new_id()
    site.swift.request("PUT", "/glance")
    assert site.swift.request("PUT", f"/glance/{image_id}", body=b"other")[0] == 201
    assert site.http.add(SMALL, id=image_id).status == 409
    assert faults.status_of(site, image_id) == "killed"
    assert site.swift.request("GET", f"/glance/{image_id}")[2] == b"other"
    site.swift.request("DELETE", f"/glance/{image_id}")


# -- when things break --


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("PUT", PART, skip=1, times=None, status=500), 503),
        (Fault("PUT", PART, skip=1, times=None, status=403), 503),
        (Fault("PUT", PART, skip=1, times=None, cut_request=MIB), 503),
        (Fault("PUT", PART, skip=1, times=None, stall_request=MIB), 503),
        (Fault("PUT", PART, skip=1, times=None, status=507), 413),
        (Fault("PUT", PART, change={"etag": '"0"'}), 500),
        (Fault("POST", "uploadId", times=None, status=500), 503),
    ],
    ids=["500", "403", "cut", "stall", "full", "wrong etag", "complete"],
)
def test_an_upload_that_fails_is_killed_and_gone(site, fault, status):
    site.proxy.order(fault)
    image_id = new_id()
    reply = site.http.add(iter([DATA]), id=image_id)
    assert reply.status == status
    assert KEY not in reply.text
    site.proxy.clear()
    killed_and_gone(site, image_id)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", PART, skip=1, status=503),
        Fault("PUT", PART, skip=1, cut_request=MIB),
        Fault("PUT", PART, skip=1, cut_response=-1),
        Fault("POST", "uploadId", cut_response=-1),
        Fault("POST", "uploads", cut_response=-1),
    ],
    ids=["503", "cut", "part's answer lost", "last answer lost", "first answer lost"],
)
def test_an_upload_survives_what_passes(site, fault):
    site.proxy.order(fault)
    reply = site.http.add(iter([DATA]), id=new_id())
    assert reply.status == 201
    assert site.http.get(f"/v1/images/{reply.json()['image']['id']}").body == DATA


def test_a_client_that_vanishes_leaves_nothing(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA[: 8 * MIB])
        faults.until(lambda: site.proxy.count("PUT", PART), "a part is on its way")
        upload.vanish()
    killed_and_gone(site, image_id)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", r"/glance/\d+", times=None, cut_response=MIB),
        Fault("GET", r"/glance/\d+", times=None, stall_response=MIB),
    ],
    ids=["cut", "stall"],
)
def test_a_download_that_breaks_never_looks_whole(site, fault):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    site.proxy.order(fault)
    with pytest.raises(http.client.IncompleteRead) as caught:
        site.http.get(f"/v1/images/{image_id}")
    assert len(caught.value.partial) < len(DATA)
    assert DATA.startswith(caught.value.partial)


def test_a_download_with_a_wrong_byte_never_looks_whole(site):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    site.proxy.order(Fault("GET", r"/glance/\d+", flip=5 * MIB))
    with pytest.raises(http.client.IncompleteRead):
        site.http.get(f"/v1/images/{image_id}")
    assert site.http.get(f"/v1/images/{image_id}").body == DATA


def test_a_service_that_is_away_is_told_at_once(site):
    image_id = site.http.add(SMALL, id=new_id()).json()["image"]["id"]
    site.proxy.down()
    try:
        assert site.http.get(f"/v1/images/{image_id}").status == 503
        failed = site.http.add(SMALL, id=new_id())
        assert failed.status == 503
    finally:
        site.proxy.up()
    assert site.http.get(f"/v1/images/{image_id}").body == SMALL


# -- when the API dies --


def test_an_upload_in_parts_whose_api_is_killed_is_settled_at_the_next_start(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA[: 8 * MIB])
        faults.until(lambda: site.proxy.count("PUT", PART), "a part is on its way")
        site.api.kill()
    (trace,) = site.traces.glob("glance-s3-upload.*")
    assert f'"{image_id}"' in trace.read_text()
    assert KEY not in trace.read_text()
    assert trace.stat().st_mode & 0o077 == 0
    site.api.start()
    killed_and_gone(site, image_id)


def test_an_object_that_no_record_points_to_yet_goes_with_its_upload(site):
    """The API dies between the last answer of S3 and that of the registry."""
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA)
        faults.until(lambda: site.proxy.count("PUT", PART) > 1, "parts are on their way")
        site.registry.kill()
        upload.end()
        faults.until(lambda: f"glance/{image_id}" in site.swift.names(), "the object is there")
        site.api.kill()
    site.registry.start()
    site.api.start()
    killed_and_gone(site, image_id)


def test_an_image_is_whole_after_the_api_was_killed_right_behind_the_answer(site):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    site.api.kill()
    site.api.start()
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    faults.until(lambda: os.listdir(site.traces) == [], "no trace is left")


def test_what_s3_could_not_remove_at_one_start_goes_at_another(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA[: 8 * MIB])
        faults.until(lambda: site.proxy.count("PUT", PART), "a part is on its way")
        site.api.kill()
    site.proxy.order(Fault("DELETE", times=None, status=503))
    site.api.start()
    faults.until_status(site, image_id, "killed")
    faults.until(lambda: site.proxy.count("DELETE") > 1, "it was tried")
    site.api.kill()
    assert site.left() != []
    site.proxy.clear()
    site.api.start()
    killed_and_gone(site, image_id)


def scrub(site):
    """Run one pass of glance-scrubber beside the daemons."""
    conf = site.directory / "glance-scrubber.conf"
    names = [name for name in site.api_options if name.startswith("s3_store_")]
    lines = "".join(f"{name} = {site.api_options[name]}\n" for name in names)
    conf.write_text(
        f"[DEFAULT]\nsql_connection = sqlite:///{site.database}\nenabled_stores = s3\n{lines}"
        "[app:glance-scrubber]\npaste.app_factory = glance.store.scrubber:app_factory\n"
    )
    return subprocess.run(
        [sys.executable, str(daemons.BIN / "glance-scrubber"), str(conf)],
        capture_output=True,
        text=True,
        timeout=60,
        env=daemons.environment(),
    )


def test_the_scrubber_settles_what_a_dead_api_left(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA[: 8 * MIB])
        faults.until(lambda: site.proxy.count("PUT", PART), "a part is on its way")
        site.api.kill()
    done = scrub(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.left() == []
    site.api.start()
    assert faults.status_of(site, image_id) == "killed"


def test_the_registry_may_forget_its_answer(site):
    """The activation was carried out, but nobody heard of it: the image stays."""
    with Upload(site, image_id := new_id()) as upload:
        upload.send(SMALL)
        faults.until_status(site, image_id, "saving")
        site.registry.kill()
        upload.end()
        site.registry.start()
        assert upload.reply().status == 201
    assert site.http.get(f"/v1/images/{image_id}").body == SMALL

"""Both daemons with the Swift store: real uploads and downloads, and what breaks them.

Between the API and a real Swift stands a proxy that fails on demand. An upload ends active and
whole, or killed and gone; a download never looks whole when it is not.
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

from support import daemons, faults, places
from support.faults import Upload, new_id
from support.swift_node import KEY, USER, SwiftNode

pytestmark = pytest.mark.full

MIB = 1024 * 1024
DATA = random.Random(7).randbytes(3 * MIB + MIB // 2)
SMALL = DATA[:100_000]
OBJECT = r"/site-\w+/\d+$"
SECOND = r"/site-\w+/\d+-00002$"
MANIFEST = r"/site-\w+/\d+\?multipart-manifest=put$"


class Site(daemons.Site):
    """A site whose images lie in Swift behind a proxy."""

    def __init__(self, directory, node, proxy):
        self.proxy = proxy
        place = places.Container(node, directory / "spool", proxy.port)
        api = {"debug": True, "swift_store_timeout": 2}
        super().__init__(directory, store=place, api=api)

    def left(self):
        """Return what uploads left: objects, segments, traces."""
        return [*self.store.held(), *os.listdir(self.store.spool_dir)]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with SwiftNode(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory, node):
    directory = tmp_path_factory.mktemp("swift-site")
    with FaultProxy(node.port) as proxy, Site(directory, node, proxy) as running:
        # So that the container is there: faults strike what comes later.
        image_id = running.http.add(b"first", id=new_id()).json()["image"]["id"]
        running.http.delete(f"/v1/images/{image_id}")
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
    faults.until(lambda: shared.left() == [], "nothing is left in Swift")


@pytest.fixture(autouse=True)
def _no_secret_in_logs(shared):
    """The daemons log everything they have to say; neither key nor token may be in it."""
    yield
    for _, text in shared.logs():
        assert KEY not in text
        assert "AUTH_tk" not in text


def killed_and_gone(site, image_id):
    faults.until_status(site, image_id, "killed")
    faults.until(lambda: site.left() == [], "nothing is left in Swift")
    assert site.http.get(f"/v1/images/{image_id}").status == 404


# -- when nothing breaks --


@pytest.mark.parametrize(
    ("data", "chunked"),
    [(b"", True), (SMALL, False), (SMALL, True), (DATA, False), (DATA, True)],
    ids=["empty", "small", "small of unknown size", "large", "large of unknown size"],
)
def test_an_image_goes_to_swift_and_comes_back(site, data, chunked):
    reply = site.http.add(iter([data]) if chunked else data, id=new_id())
    assert reply.status == 201, reply
    image = reply.json()["image"]
    assert (image["size"], image["status"]) == (len(data), "active")
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    url = f"/v1/images/{image['id']}"
    assert site.http.get(url).body == data
    segments = 4 if len(data) > 2 * MIB else 0
    assert len(site.store.held()) == 1 + segments
    if data:
        part = site.http.get(url, {"Range": f"bytes=10-{len(data) - 11}"})
        assert (part.status, part.body) == (206, data[10:-10])
    assert site.http.delete(url).status == 200
    assert site.left() == []


def test_no_answer_and_no_record_holds_a_credential(site):
    reply = site.http.add(SMALL, id=new_id())
    image_id = reply.json()["image"]["id"]
    shown = [reply, site.http.head(f"/v1/images/{image_id}"), site.http.get("/v1/images/detail")]
    assert all(KEY not in f"{answer.headers} {answer.text}" for answer in shown)
    with contextlib.closing(sqlite3.connect(site.database)) as database:
        (location,) = database.execute(
            "SELECT location FROM images WHERE id = ?", (image_id,)
        ).fetchone()
    assert location.startswith(f"swift+http://127.0.0.1:{site.proxy.port}/auth/v1.0/")
    assert KEY not in location
    assert USER.partition(":")[2] not in location


def test_a_location_of_diablo_is_read_and_deleted(site):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    with contextlib.closing(sqlite3.connect(site.database)) as database, database:
        database.execute(
            "UPDATE images SET location = replace(location, '://', ?) WHERE id = ?",
            (f"://{USER}:{KEY}@", image_id),
        )
    url = f"/v1/images/{image_id}"
    reply = site.http.get(url)
    assert reply.body == DATA
    assert KEY not in str(reply.headers)
    assert KEY not in str(site.http.head(url).headers)
    assert site.http.delete(url).status == 200
    assert site.left() == []


@pytest.mark.parametrize("scheme", ["swift", "swift+http", "swift+https"])
@pytest.mark.parametrize("credentials", ["", "a:b@"])
def test_locations_elsewhere_cannot_be_registered_for_this_host(site, scheme, credentials):
    uri = f"{scheme}://{credentials}localhost:{site.proxy.port}/auth/v1.0/glance/1"
    reply = site.http.post("/v1/images", {"x-image-meta-location": uri})
    assert reply.status == 400
    assert "localhost" not in reply.text
    assert site.proxy.seen == []


def test_an_administrator_registers_what_the_account_opens(site):
    stored, registered = faults.store(site, SMALL), new_id()
    uri = site.http.head(f"/v1/images/{stored}").meta()["location"]
    headers = {"x-image-meta-location": uri, "x-image-meta-id": str(registered)}
    reply = site.http.post("/v1/images", headers)
    image = reply.json()["image"]
    assert (reply.status, image["status"], image["size"]) == (201, "active", len(SMALL))
    assert site.http.get(f"/v1/images/{image['id']}").body == SMALL
    # Deleting the record leaves the object, which belongs to another.
    assert site.http.delete(f"/v1/images/{image['id']}").status == 200
    assert site.http.get(f"/v1/images/{stored}").body == SMALL


# -- when Swift breaks --

LASTING = {
    "a 503 for a small image": (SMALL, Fault("PUT", OBJECT, None, status=503), 503),
    "a 503 for a segment": (DATA, Fault("PUT", SECOND, None, status=503), 503),
    "a 503 for the manifest": (DATA, Fault("PUT", MANIFEST, None, status=503), 503),
    "a full cluster": (DATA, Fault("PUT", SECOND, None, status=507), 413),
    "a quota": (SMALL, Fault("PUT", OBJECT, None, status=413), 413),
    "no permission to write": (SMALL, Fault("PUT", OBJECT, None, status=403), 503),
    "a container that vanished": (DATA, Fault("PUT", SECOND, None, status=404), 503),
    "credentials that are refused": (DATA, Fault("PUT", SECOND, None, status=401), 503),
    "resets in a segment": (DATA, Fault("PUT", SECOND, None, cut_request=1000), 503),
    "silence in a segment": (DATA, Fault("PUT", SECOND, None, stall_request=0), 503),
    "answers that are lost and nothing to find": (
        SMALL,
        Fault(None, OBJECT, None, skip=1, cut_response=-1),
        503,
    ),
    "wrong digests": (DATA, Fault("PUT", SECOND, None, change={"etag": "0" * 32}), 500),
    "a manifest of another length": (
        DATA,
        Fault("HEAD", OBJECT, 1, skip=1, change={"content-length": "9", "etag": "9"}),
        201,
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_an_upload_that_fails_is_killed_and_gone(site, name):
    data, fault, status = LASTING[name]
    site.proxy.order(fault)
    image_id = new_id()
    reply = site.http.add(data, id=image_id)
    assert reply.status == status, reply
    assert (reply.header("Retry-After") is not None) == (status == 503)
    site.proxy.clear()
    if status == 201:
        assert site.http.get(f"/v1/images/{image_id}").body == data
        return
    if name == "answers that are lost and nothing to find":
        # Not even cleaning up worked: the next start does it.
        site.api.stop()
        site.api.start()
    killed_and_gone(site, image_id)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", SECOND, status=503),
        Fault("PUT", SECOND, status=401),
        Fault("PUT", SECOND, status=422),
        Fault("PUT", SECOND, cut_request=1000),
        Fault("PUT", SECOND, stall_request=1000),
        Fault("PUT", SECOND, cut_response=-1),
        Fault("PUT", SECOND, change={"etag": "0" * 32}),
        Fault("PUT", MANIFEST, cut_response=-1),
        Fault("PUT", MANIFEST, status=500),
    ],
    ids=["503", "401", "422", "reset", "silence", "lost", "digest", "lost manifest", "500"],
)
def test_an_upload_survives_what_passes(site, fault):
    site.proxy.order(fault)
    image_id = new_id()
    reply = site.http.add(DATA, id=image_id)
    assert reply.status == 201, reply
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    assert site.proxy.count("PUT", r"-00001$") == site.proxy.count("PUT", r"-00003$") == 1


def test_a_client_that_vanishes_leaves_nothing(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA[: 2 * MIB])
        faults.until(lambda: site.proxy.count("PUT", r"-00001$"), "a segment is on its way")
    killed_and_gone(site, image_id)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (DATA, Fault("GET", OBJECT, None, cut_response=1000)),
        (DATA, Fault("GET", OBJECT, None, stall_response=1000)),
        (DATA, Fault("GET", OBJECT, None, flip=2 * MIB)),
        (SMALL, Fault("GET", OBJECT, None, flip=0)),
        (SMALL, Fault("GET", OBJECT, None, flip=len(SMALL) - 1)),
    ],
    ids=["cut", "stall", "wrong byte", "wrong first byte", "wrong last byte"],
)
def test_a_download_that_is_not_whole_and_right_never_looks_so(site, data, fault):
    image_id = site.http.add(data, id=new_id()).json()["image"]["id"]
    site.proxy.order(fault)
    try:
        reply = site.http.get(f"/v1/images/{image_id}")
    except (http.client.IncompleteRead, ConnectionError):
        return
    # Nothing had been sent yet, so that an error could still be told.
    assert reply.status in (500, 503)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", OBJECT, cut_response=MIB),
        Fault("GET", OBJECT, stall_response=MIB),
        Fault("GET", OBJECT, status=503),
        Fault("GET", OBJECT, status=401),
        Fault("GET", OBJECT, cut_response=-1),
        Fault("GET", OBJECT, trickle=8 * MIB),
    ],
    ids=["cut", "stall", "503", "401", "lost", "trickle"],
)
def test_a_download_survives_what_passes(site, fault):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    site.proxy.order(fault)
    assert site.http.get(f"/v1/images/{image_id}").body == DATA


def test_a_swift_that_is_away_is_told_at_once(site):
    image_id = site.http.add(SMALL, id=new_id()).json()["image"]["id"]
    site.proxy.down()
    try:
        assert site.http.get(f"/v1/images/{image_id}").status == 503
        failed = site.http.add(SMALL, id=new_id())
        assert failed.status == 503
    finally:
        site.proxy.up()
    assert site.http.get(f"/v1/images/{image_id}").body == SMALL


def test_swift_away_is_no_reason_not_to_start(site):
    site.proxy.down()
    try:
        site.api.stop()
        site.api.start()
        assert site.http.get("/v1/images").status == 200
    finally:
        site.proxy.up()


# -- when the API dies --


def test_segments_of_an_api_that_is_killed_are_settled_at_the_next_start(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA + DATA)
        faults.until(lambda: len(site.store.held()) >= 2, "segments are there")
        site.api.kill()
    assert site.left() != []
    site.api.start()
    killed_and_gone(site, image_id)


def test_an_object_that_no_record_points_to_yet_goes_with_its_upload(site):
    """The API dies between the last answer of Swift and that of the registry."""
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA)
        faults.until_status(site, image_id, "saving")
        site.registry.kill()
        upload.end()
        faults.until(
            lambda: str(image_id) in [path.name for path in site.store.held()], "it is there"
        )
        site.api.kill()
    site.registry.start()
    site.api.start()
    killed_and_gone(site, image_id)


def test_an_image_is_whole_after_the_api_was_killed_right_behind_the_answer(site):
    image_id = site.http.add(DATA, id=new_id()).json()["image"]["id"]
    site.api.kill()
    site.api.start()
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    faults.until(lambda: os.listdir(site.store.spool_dir) == [], "no trace is left")


def test_what_swift_could_not_remove_at_one_start_goes_at_another(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA + DATA)
        faults.until(lambda: len(site.store.held()) >= 2, "segments are there")
        site.api.kill()
    site.proxy.order(Fault("DELETE", times=None, status=503))
    site.api.start()
    faults.until_status(site, image_id, "killed")
    assert site.left() != []
    site.api.stop()
    site.proxy.clear()
    site.api.start()
    killed_and_gone(site, image_id)


def test_the_scrubber_settles_what_a_dead_api_left(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(DATA + DATA)
        faults.until(lambda: len(site.store.held()) >= 2, "segments are there")
        site.api.kill()
    conf = site.directory / "glance-scrubber.conf"
    options = {
        **site.store.options(),
        "sql_connection": site.registry_options["sql_connection"],
        "registry_host": "127.0.0.1",
        "registry_port": site.registry.port,
        "filesystem_store_datadir": site.data_dir,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    conf.write_text(
        f"[DEFAULT]\n{lines}[app:glance-scrubber]\n"
        "paste.app_factory = glance.store.scrubber:app_factory\n"
    )
    done = subprocess.run(
        [sys.executable, str(daemons.BIN / "glance-scrubber"), str(conf)],
        capture_output=True,
        text=True,
        env=daemons.environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.left() == []
    site.api.start()
    assert faults.status_of(site, image_id) == "killed"

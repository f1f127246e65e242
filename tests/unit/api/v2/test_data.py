"""The data of an image by version 2: upload, its failures, and download."""

import hashlib
import io
import itertools
import threading

import pytest
import webob

import glance.api
from glance import store
from glance.api import recovery, upload
from glance.api.v2 import patch
from glance.common import config, exception
from glance.store import base, filesystem, staging
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import CHECKSUM, PAYLOAD
from tests.unit.api.test_upload import until
from tests.unit.api.v2.both import OCTETS, SHA256, UNKNOWN

from support import disks

BIG = PAYLOAD * 1024


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upload, "ACTIVATION_BACKOFF", Backoff.steady(0, retries=2))
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0.01, retries=500))
    monkeypatch.setattr(recovery, "LATE_CALLS", Backoff.steady(0.01, retries=3))


@pytest.fixture
def callers():
    """Nobody is known, so everybody may do everything."""
    return {}


class Chunked(io.BytesIO):
    """A body of unknown length, which may end with an error."""

    def __init__(self, data, error=None):
        super().__init__(data)
        self._error = error

    def read(self, size=-1):
        data = super().read(min(size, 2**20) if size > 0 else size)
        if not data and self._error is not None:
            raise self._error
        return data


def put(api, image, stream, headers=OCTETS, length=None, **identity):
    """Upload a stream, chunked unless it has a length."""
    request = webob.Request.blank(image["file"], method="PUT", headers=headers)
    for name, value in identity.items():
        request.headers["X-" + name.title()] = value
    if identity:
        request.headers["X-Identity-Status"] = "Confirmed"
    request.environ["wsgi.input"] = stream
    if length is None:
        request.headers["Transfer-Encoding"] = "chunked"
    else:
        request.content_length = length
    return request.get_response(api.app)


class Unreadable:
    """A body that nobody may touch."""

    def read(self, size=-1):
        raise AssertionError("the body was read")


def is_queued_again(api, image):
    """The record is as before, nothing is left, and the next upload succeeds."""
    found = api("GET", image["self"]).json
    assert (found["status"], found["size"], found["checksum"]) == ("queued", None, None)
    assert api.files() == []
    assert api("GET", image["file"]).status_int == 204
    assert api("PUT", image["file"], OCTETS, PAYLOAD).status_int == 204
    assert api("GET", image["file"]).body == PAYLOAD


# -- uploads that succeed ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", PAYLOAD, BIG], ids=len)
def test_an_upload_makes_the_image_active(api, data):
    for length, size in itertools.product((None, len(data)), repeat=2):
        image = api.make()
        headers = OCTETS if size is None else {**OCTETS, "X-OpenStack-Image-Size": str(size)}
        response = put(api, image, Chunked(data), headers, length)
        assert (response.status_int, response.body) == (204, b"")
        assert "Content-Type" not in response.headers
        found = api("GET", image["self"]).json
        assert found["status"] == "active"
        assert found["size"] == len(data)
        assert found["checksum"] == hashlib.md5(data).hexdigest()
        assert found["os_hash_algo"] == "sha256"
        assert found["os_hash_value"] == hashlib.sha256(data).hexdigest()
        assert api("GET", image["file"]).body == data


def test_a_request_without_any_body_is_an_empty_image(api):
    image = api.make()
    assert api("PUT", image["file"], OCTETS).status_int == 204
    assert api("GET", image["self"]).json["size"] == 0


def test_parameters_of_the_media_type_are_accepted(api):
    image = api.make()
    headers = {"Content-Type": "Application/Octet-Stream; charset=binary"}
    assert api("PUT", image["file"], headers, PAYLOAD).status_int == 204


@pytest.mark.parametrize("name", ["sha256", "sha512", "blake2b", "sha3_256"])
def test_the_second_digest_follows_the_option(make_api, name):
    image = make_api(hashing_algorithm=name).make(PAYLOAD)
    assert image["os_hash_algo"] == name
    assert image["os_hash_value"] == hashlib.new(name, PAYLOAD).hexdigest()


def test_without_an_algorithm_there_is_no_second_digest(make_api):
    image = make_api(hashing_algorithm="").make(PAYLOAD)
    assert (image["os_hash_algo"], image["os_hash_value"]) == (None, None)
    assert image["checksum"] == CHECKSUM


def test_an_image_of_version_1_is_filled_by_version_2_and_the_reverse(api):
    old = api.add(disk_format="raw", container_format="bare", size="99")
    uuid = api("HEAD", f"/v1/images/{old['id']}").headers["X-Openstack-Image-Uuid"]
    assert api("PUT", f"/v2/images/{uuid}/file", OCTETS, PAYLOAD).status_int == 204
    assert api("GET", f"/v1/images/{old['id']}").body == PAYLOAD
    assert api("HEAD", f"/v1/images/{old['id']}").headers["x-image-meta-size"] == "5120"
    new = api.make()
    assert api("PUT", f"/v1/images/{new['id']}", OCTETS, PAYLOAD).status_int == 200
    assert api("GET", new["file"]).body == PAYLOAD
    assert api("GET", new["self"]).json["os_hash_value"] is None


# -- what is refused before the body is read -----------------------------------------------------


REFUSED = [
    ({}, 10, 415),
    ({"Content-Type": ""}, 10, 415),
    ({"Content-Type": "text/plain"}, 10, 415),
    ({"Content-Type": "application/json"}, 10, 415),
    ({**OCTETS, "Content-Encoding": "gzip"}, 10, 415),
    ({**OCTETS, "Content-Range": "bytes 0-9/20"}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": "-1"}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": "ten"}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": ""}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": "1_0"}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": "9" * 30}, None, 400),
    ({**OCTETS, "x-openstack-image-size": "9"}, 10, 400),
    ({**OCTETS, "x-openstack-image-size": "11"}, 10, 400),
    ({**OCTETS, "x-image-meta-store": "nowhere"}, 10, 400),
    ({**OCTETS, "x-image-meta-store": "http"}, 10, 410),
    ({**OCTETS, "x-openstack-image-size": "5001"}, None, 413),
    (OCTETS, 5001, 413),
]


def test_a_request_is_refused_before_its_data_is_read(make_api):
    api = make_api(image_size_cap="5000")
    for headers, length, status in REFUSED:
        image = api.make()
        response = put(api, image, Unreadable(), headers, length)
        assert response.status_int == status, (headers, length, response.text)
        assert api("GET", image["self"]).json["status"] == "queued"
    assert api.files() == []


def test_an_image_without_formats_takes_no_data(api):
    for formats in ({"disk_format": None}, {"container_format": None}):
        image = api.make(**formats)
        assert put(api, image, Unreadable(), length=1).status_int == 400
        assert api("GET", image["self"]).json["status"] == "queued"


def test_an_image_with_data_takes_no_other(api):
    image = api.make(PAYLOAD)
    response = put(api, image, Unreadable(), length=1)
    assert response.status_int == 409
    assert "active" in response.text
    assert api("GET", image["file"]).body == PAYLOAD


def test_a_default_store_that_is_read_only_is_gone(api, monkeypatch):
    image = api.make()
    monkeypatch.setattr(
        filesystem.FilesystemStore, "require_add", fail_with(exception.StoreAddDisabled())
    )
    assert put(api, image, Unreadable(), length=1).status_int == 410
    monkeypatch.undo()
    is_queued_again(api, image)


def test_no_other_text_than_the_uuid_of_an_image_names_one(api):
    names = ("7", "x", "%00", "0" * 36, "a%2Fb", UNKNOWN.rpartition("/")[2])
    for method, name in itertools.product(("GET", "HEAD", "PUT"), names):
        path = f"/v2/images/{name}/file"
        response = api(method, path, OCTETS if method == "PUT" else None)
        assert response.status_int == 404, (method, name)


def test_other_methods_are_refused(api):
    for method in ("POST", "DELETE", "PATCH"):
        response = api(method, f"{UNKNOWN}/file")
        assert response.status_int == 405
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, PUT"


# -- uploads that fail ---------------------------------------------------------------------------


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    ("data", "headers", "length"),
    [
        (BIG, {**OCTETS, "x-openstack-image-size": str(len(BIG) - 1)}, None),
        (BIG, {**OCTETS, "x-openstack-image-size": str(len(BIG) + 1)}, None),
        (b"x", {**OCTETS, "x-openstack-image-size": "0"}, None),
        (BIG[:-1], OCTETS, len(BIG)),
        (b"", OCTETS, 1),
    ],
    ids=["more than declared", "less than declared", "more than none", "cut", "cut at once"],
)
def test_a_body_of_another_size_leaves_the_image_queued(api, data, headers, length):
    image = api.make()
    assert put(api, image, Chunked(data), headers, length).status_int == 400
    is_queued_again(api, image)


def test_data_that_is_refused_leaves_the_image_queued(make_api):
    api = make_api(inspect_on_upload="enforce")
    image = api.make()
    response = put(api, image, Chunked(disks.qcow2()))
    assert response.status_int == 400
    assert "format_mismatch: the data is qcow2, raw was declared" in response.text
    is_queued_again(api, image)


def test_data_of_another_format_is_recorded(api):
    image = api.make()
    assert put(api, image, Chunked(disks.qcow2())).status_int == 204
    found = api("GET", image["self"]).json
    assert (found["status"], found["os_glance_inspection_result"]) == ("active", "format_mismatch")
    # Programs that keep properties as they were declared would take it for somebody's property.
    assert "inspection_result" not in found
    for name in ("inspection_result", "os_glance_inspection_result"):
        for op in ("add", "replace", "remove"):
            body = [{"op": op, "path": f"/{name}", "value": "x"}]
            headers = {"Content-Type": patch.V21}
            assert api.json("PATCH", image["self"], body, headers).status_int == 403
    assert api("GET", image["self"]).json == found
    path = f"/v1/images/{image['id']}"
    old = api("HEAD", path).headers
    assert old["x-image-meta-property-inspection_result"] == "format_mismatch"


def test_more_than_declared_is_refused_as_soon_as_it_is_seen(api):
    image = api.make()
    stream = Chunked(BIG)
    headers = {**OCTETS, "x-openstack-image-size": "100000"}
    assert put(api, image, stream, headers).status_int == 400
    assert stream.tell() <= 200000
    is_queued_again(api, image)


def test_a_connection_that_breaks_leaves_the_image_queued(api):
    image = api.make()
    assert put(api, image, Chunked(BIG, OSError("reset"))).status_int == 400
    is_queued_again(api, image)


def test_data_beyond_the_cap_leaves_the_image_queued(make_api):
    api = make_api(image_size_cap="5120")
    image = api.make()
    assert put(api, image, Chunked(PAYLOAD + b"x")).status_int == 413
    is_queued_again(api, image)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exception.StorageFull(), 413),
        (exception.StorageWriteDenied(), 403),
        (exception.StoreForbidden(), 403),
        (exception.BackendUnavailable(), 503),
        (exception.StoreObjectExists(), 409),
        (ValueError("inside"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_store_that_fails_midway_leaves_the_image_queued(api, monkeypatch, step, error, status):
    image = api.make()
    monkeypatch.setattr(staging.StagedFile, step, fail_with(error))
    response = put(api, image, Chunked(BIG))
    assert response.status_int == status
    assert "inside" not in response.text
    assert str(api.datadir) not in response.text
    monkeypatch.undo()
    is_queued_again(api, image)


def test_a_digest_that_fails_leaves_the_image_queued(api, monkeypatch):
    image = api.make()
    monkeypatch.setattr(base.digest.Digester, "update", fail_with(MemoryError()))
    assert put(api, image, Chunked(BIG)).status_int == 500
    monkeypatch.undo()
    is_queued_again(api, image)


class Meddling(Chunked):
    """Does something in the middle of the upload."""

    def __init__(self, action):
        super().__init__(BIG)
        self._action = action

    def read(self, size=-1):
        if self.tell() >= 2**20 and self._action is not None:
            action, self._action = self._action, None
            action()
        return super().read(size)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_image_that_is_deleted_meanwhile_is_gone(api, version):
    image = api.make()
    response = put(api, image, Meddling(lambda: api("DELETE", f"/{version}/images/{image['id']}")))
    assert response.status_int == 410
    assert api.files() == []
    assert api("GET", image["self"]).status_int == 404


def test_of_two_uploads_one_wins(api):
    image = api.make()
    other = []
    response = put(api, image, Meddling(lambda: other.append(put(api, image, Chunked(PAYLOAD)))))
    assert (response.status_int, other[0].status_int) == (204, 409)
    assert api("GET", image["file"]).body == BIG


def test_a_registry_that_is_away_at_the_end_leaves_the_image_queued_when_it_is_back(api):
    image = api.make()
    real, refusing = api.registry.app, threading.Event()

    def away(environ, start_response):
        if refusing.is_set():
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        return real(environ, start_response)

    api.registry.app = away
    response = put(api, image, Meddling(refusing.set))
    assert response.status_int == 503
    refusing.clear()
    until(lambda: api("GET", image["self"]).json["status"] == "queued")
    is_queued_again(api, image)


def test_a_failure_whose_record_may_be_changed_spares_the_next_upload(api, service, monkeypatch):
    image = api.make()
    kill, later = recovery.kill, []

    def lost(*args):
        kill(*args)
        raise exception.ServiceUnavailable

    monkeypatch.setattr(recovery, "kill", lost)
    monkeypatch.setattr(recovery, "kill_later", lambda *args: later.append(args))
    put(api, image, Chunked(BIG, OSError("cut")))
    assert api("GET", image["self"]).json["status"] == "queued"
    begin = {"status": "saving", "upload_via": "v2"}
    admin = recovery.RequestContext(is_admin=True)
    service.registry.update_image_metadata(
        admin, v1_id(api, image), begin, from_state="queued", attempt="b" * 32
    )
    (args,) = later
    kill(*args)
    assert api("GET", image["self"]).json["status"] == "saving"


# -- what a dead process leaves ------------------------------------------------------------------


@pytest.mark.parametrize(("version", "status"), [("v1", "killed"), ("v2", "queued")])
def test_the_upload_of_a_dead_process(api, service, monkeypatch, version, status):
    """It is cut in the middle of writing, as by a kill: nobody settles the record."""
    image = api.make()
    spawned = []
    with monkeypatch.context() as dying:
        dying.setattr(upload.Upload, "kill", lambda self, reason: False)
        dying.setattr(staging.StagedFile, "abort", lambda self: spawned.append(self))
        path = image["file"] if version == "v2" else f"/v1/images/{image['id']}"
        put(api, {"file": path}, Chunked(BIG, OSError("killed")))
    assert api("GET", image["self"]).json["status"] == "saving"
    left = Left(image_id=v1_id(api, image))
    recovery.settle(service, [left])
    assert left.ended == ["discard"]
    assert api("GET", image["self"]).json["status"] == status


@pytest.fixture
def service(api):
    conf = config.Conf(
        {
            "registry_host": "127.0.0.1",
            "registry_port": str(api.registry.port),
            "filesystem_store_datadir": str(api.datadir),
        }
    )
    return glance.api.ImageService(conf, store.create_stores(conf))


class Left(base.AbandonedWrite):
    committed = False

    def __init__(self, image_id):
        self.image_id = image_id
        self.ended = []

    def discard(self):
        self.ended.append("discard")


def v1_id(api, image):
    return api("GET", image["self"]).headers["X-Openstack-Image-V1-Id"]


# -- downloads -----------------------------------------------------------------------------------


def test_the_data_comes_whatever_the_client_accepts(api):
    image = api.make(PAYLOAD)
    for accept in (None, "*/*", "", "application/json", "text/html"):
        response = api("GET", image["file"], {} if accept is None else {"Accept": accept})
        assert (response.status_int, response.body) == (200, PAYLOAD)
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Length"] == "5120"
        assert response.headers["Content-MD5"] == CHECKSUM
        assert response.headers["ETag"].strip('"') == CHECKSUM
        assert response.headers["Accept-Ranges"] == "bytes"
        names = [name.lower() for name in response.headers]
        assert not [name for name in names if name.startswith("x-image-meta")]


def test_head_has_the_headers_of_get(api):
    image = api.make(PAYLOAD)
    got, headed = api("GET", image["file"]), api("HEAD", image["file"])
    assert headed.status_int == 200
    assert headed.body == b""
    changing = {"x-openstack-request-id", "date"}
    assert {k.lower(): v for k, v in headed.headers.items() if k.lower() not in changing} == {
        k.lower(): v for k, v in got.headers.items() if k.lower() not in changing
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_image_without_data_has_no_content(api, method):
    image = api.make()
    response = api(method, image["file"])
    assert (response.status_int, response.body) == (204, b"")
    assert "Content-Type" not in response.headers
    assert "Content-Length" not in response.headers


@pytest.mark.parametrize(
    ("sent", "first", "last"),
    [("bytes=10-19", 10, 19), ("bytes=-5", 5115, 5119), ("bytes=5000-", 5000, 5119)],
)
def test_a_range_has_no_digest_of_the_whole(api, sent, first, last):
    data = bytes(range(256)) * 20
    image = api.make(data)
    response = api("GET", image["file"], {"Range": sent})
    assert (response.status_int, response.body) == (206, data[first : last + 1])
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/5120"
    assert "Content-MD5" not in response.headers


def test_a_range_outside_of_the_data(api):
    response = api("GET", api.make(PAYLOAD)["file"], {"Range": "bytes=5120-"})
    assert response.status_int == 416
    assert response.headers["Content-Range"] == "bytes */5120"


def test_junk_in_place_of_a_range_is_ignored(api):
    image = api.make(PAYLOAD)
    for sent in ("lines=1-2", "bytes=b-a"):
        assert api("GET", image["file"], {"Range": sent}).status_int == 200


def test_a_copy_that_the_client_has_is_not_sent_again(api):
    image = api.make(PAYLOAD)
    tag = api("GET", image["file"]).headers["ETag"]
    for method in ("GET", "HEAD"):
        response = api(method, image["file"], {"If-None-Match": tag})
        assert (response.status_int, response.body) == (304, b"")


def test_a_preferred_store_is_ignored(api):
    assert api("GET", api.make(PAYLOAD)["file"] + "?prefer=file,s3").body == PAYLOAD


def test_data_that_the_store_has_lost(api):
    image = api.make(PAYLOAD)
    for name in api.files():
        (api.datadir / name).unlink()
    response = api("GET", image["file"])
    assert response.status_int == 404
    assert str(api.datadir) not in response.text


def test_the_digest_is_that_of_the_data(api):
    image = api.make(PAYLOAD)
    assert image["os_hash_value"] == SHA256

"""The storage quota of an owner and the size cap: while data comes, and for data elsewhere."""

import threading
import time

import pytest
import webob

from glance.api import upload
from glance.common import exception
from glance.registry.link import RegistryLink
from tests.unit.api.conftest import Api, Registry, _Handler, _Server

URL = "/v1/images"
MIB = 1 << 20
QUOTA = 8 * MIB
TRUSTED = {"policy_choose_id": "anyone", "auth_mode": "trusted-headers"}
OWNER = {"tenant": "owner", "roles": "admin"}
OTHER = {"tenant": "other", "roles": "member"}
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def registry(tmp_path, template):
    server = Registry(tmp_path, template, user_storage_quota=str(QUOTA), **TRUSTED)
    yield server
    server.stop()


@pytest.fixture
def api(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "REPORT_BYTES", 1)
    return Api(registry, tmp_path, **TRUSTED)


class Stream:
    """A body of `size` bytes; calls the actions at their positions on the way."""

    def __init__(self, size, **actions):
        self.size, self.count = size, 0
        self.actions = {int(place[2:]) * MIB: action for place, action in actions.items()}

    def read(self, size):
        for place in sorted(self.actions):
            if self.count >= place:
                self.actions.pop(place)()
        data = b"x" * min(size, self.size - self.count)
        self.count += len(data)
        return data


def send(api, stream, length=None, image_id=5, headers=(), **who):
    sent = {**OCTETS, "x-image-meta-id": str(image_id), **dict(headers)}
    for name, value in (who or OWNER).items():
        sent[f"X-{name.title()}"] = value
    request = webob.Request.blank(URL, method="POST", headers=sent)
    request.headers["X-Identity-Status"] = "Confirmed"
    request.environ["wsgi.input"] = stream
    if length is None:
        request.environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        request.content_length = None
    else:
        request.content_length = length
    return request.get_response(api.app).status_int


def status_of(api, image_id=5, **who):
    return api("HEAD", f"{URL}/{image_id}", **(who or OWNER)).headers.get("x-image-meta-status")


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- the quota -----------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"x-image-meta-size": str(QUOTA + 1)}])
@pytest.mark.parametrize("length", [None, QUOTA + 1])
def test_an_announced_size_is_refused_before_a_byte_is_read(api, length, headers):
    if length is None and not headers:
        headers = {"x-image-meta-size": str(QUOTA * 2)}
    stream = Stream(QUOTA + 1)
    assert (send(api, stream, length, headers=headers), stream.count) == (413, 0)
    assert status_of(api) == "killed"
    assert api.files() == []


def test_data_without_a_size_is_refused_when_it_passes_the_quota(api):
    stream = Stream(100 * QUOTA)
    assert (send(api, stream), stream.count) == (413, QUOTA + 1)
    assert status_of(api) == "killed"
    assert api.files() == []


@pytest.mark.parametrize("length", [None, QUOTA])
def test_the_whole_quota_can_be_used(api, length):
    assert send(api, Stream(QUOTA), length) == 201
    stream = Stream(1)
    assert (send(api, stream, image_id=6), stream.count) == (413, 1)
    assert send(api, Stream(QUOTA), length, image_id=7, **OTHER) == 201


@pytest.mark.parametrize("announced", [True, False])
def test_uploads_in_progress_count(api, announced):
    """What the first has announced or sent is not there for the second."""
    second = []

    def interfere():
        stream = Stream(5 * MIB)
        second.append((send(api, stream, 5 * MIB, image_id=6), stream.count))

    stream = Stream(5 * MIB, at3=interfere)
    assert send(api, stream, 5 * MIB if announced else None) == 201
    assert second == [(413, 0)]


def test_a_later_upload_takes_room_from_one_without_a_size(api):
    second = []
    stream = Stream(20 * MIB, at3=lambda: second.append(send(api, Stream(3 * MIB), image_id=6)))
    assert send(api, stream) == 413
    assert second == [201]
    # At most one chunk of the store more than there is room for, which is 5 MiB.
    assert stream.count <= 7 * MIB
    assert (status_of(api), status_of(api, 6)) == ("killed", "active")


def test_an_upload_that_failed_does_not_count(api):
    assert send(api, Stream(5 * MIB), 6 * MIB) == 400
    assert send(api, Stream(QUOTA), QUOTA, image_id=6) == 201


def test_an_upload_whose_image_was_deleted_stops(api):
    stream = Stream(7 * MIB, at2=lambda: api("DELETE", URL + "/5", **OWNER))
    assert send(api, stream, 7 * MIB) == 412
    assert stream.count < 7 * MIB
    assert api.files() == []


def test_a_report_that_fails_does_no_harm(api, monkeypatch):
    real = RegistryLink.report_upload
    failed = []

    def fail(link, context, image_id, values, from_state, attempt=None):
        if from_state == "saving":
            failed.append(values["size"])
            raise exception.RegistryUnavailable("away")
        return real(link, context, image_id, values, from_state, attempt)

    monkeypatch.setattr(RegistryLink, "report_upload", fail)
    assert send(api, Stream(QUOTA)) == 201
    assert failed
    stream = Stream(QUOTA)
    assert (send(api, stream, image_id=6), stream.count) == (413, 1)


def test_without_a_quota_nothing_is_reported(tmp_path, template, monkeypatch):
    monkeypatch.setattr(upload, "REPORT_BYTES", 1)
    server = Registry(tmp_path, template, **TRUSTED)
    try:
        api = Api(server, tmp_path, **TRUSTED)
        assert send(api, Stream(5 * MIB)) == 201
        assert [method for method, _ in server.calls] == ["POST", "PUT", "PUT"]
    finally:
        server.stop()


# -- data elsewhere ------------------------------------------------------------------------------


class Elsewhere:
    """A web server with one file; `tells` is how it tells its size, if it does."""

    def __init__(self):
        self.size, self.tells, self.sent = 0, "length", 0
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.set_app(self.serve)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, environ, start_response):
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        tells = self.tells == "length" or (self.tells == "by HEAD" and is_head)
        start_response("200 OK", [("Content-Length", str(self.size))] if tells else [])
        # NOTE: a body in one piece would get a Content-Length from this server.
        return [] if is_head else iter(self.pieces())

    def pieces(self):
        for start in range(0, self.size, 65536):
            piece = b"x" * min(65536, self.size - start)
            self.sent += len(piece)
            yield piece

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def elsewhere():
    server = Elsewhere()
    yield server
    server.stop()


@pytest.mark.parametrize("tells", ["length", "never"])
def test_a_copy_is_refused_when_it_passes_the_quota(api, elsewhere, tells):
    elsewhere.size, elsewhere.tells = 30 * QUOTA, tells
    headers = {"x-glance-api-copy-from": elsewhere.url, "x-image-meta-id": "5"}
    assert api("POST", URL, headers, **OWNER).status_int == 201
    until(lambda: status_of(api) == "killed")
    until(lambda: api.files() == [])
    assert elsewhere.sent < (10 if tells == "length" else 20) * QUOTA


CAP = MIB


@pytest.fixture
def capped(registry, tmp_path):
    return Api(registry, tmp_path, image_size_cap=str(CAP), **TRUSTED)


def register(api, elsewhere, **meta):
    headers = {f"x-image-meta-{name}": str(value) for name, value in meta.items()}
    headers["x-image-meta-location"] = elsewhere.url
    return api("POST", URL, headers, **OWNER)


@pytest.mark.parametrize("tells", ["length", "by HEAD"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_location_above_the_cap_cannot_be_registered(capped, elsewhere, tells, method):
    elsewhere.size, elsewhere.tells = CAP + 1, tells
    headers = {"x-image-meta-location": elsewhere.url}
    path = URL
    if method == "PUT":
        path += f"/{capped('POST', URL, **OWNER).json['image']['id']}"
    assert capped(method, path, headers, **OWNER).status_int == 413
    elsewhere.size = CAP
    assert capped(method, path, headers, **OWNER).status_int == (201 if method == "POST" else 200)


def test_a_declared_size_above_the_cap_cannot_be_registered(capped, elsewhere):
    elsewhere.size, elsewhere.tells = 5, "never"
    assert register(capped, elsewhere, size=CAP + 1).status_int == 413


@pytest.mark.parametrize("tells", ["length", "never"])
def test_a_location_that_has_grown_above_the_cap_is_not_delivered(capped, elsewhere, tells):
    elsewhere.size, elsewhere.tells = 0, "never"
    assert register(capped, elsewhere, id=5).json["image"]["size"] == 0
    elsewhere.size, elsewhere.tells = 9 * CAP, tells
    if tells == "length":
        assert capped("GET", URL + "/5", **OWNER).status_int == 500
    else:
        with pytest.raises(exception.BackendCorrupt):
            assert len(capped("GET", URL + "/5", **OWNER).body) <= CAP
    ranged = capped("GET", URL + "/5", {"Range": "bytes=0-4"}, **OWNER)
    assert ranged.status_int == 500 if tells == "length" else ranged.status_int in (200, 206)
    elsewhere.size = CAP
    assert len(capped("GET", URL + "/5", **OWNER).body) == CAP


@pytest.mark.parametrize("grown", [1, 65536, 100_000])
@pytest.mark.parametrize("tells", ["length", "never"])
def test_a_location_that_is_not_as_registered_is_no_success(capped, elsewhere, tells, grown):
    for size in (200_000, 3 * 65536):
        elsewhere.size, elsewhere.tells = size, "length"
        image_id = register(capped, elsewhere).json["image"]["id"]
        path = f"{URL}/{image_id}"
        for changed in (size + grown, size - grown):
            elsewhere.size, elsewhere.tells = changed, tells
            if tells == "length":
                assert capped("GET", path, **OWNER).status_int == 500
                continue
            received = 0
            with pytest.raises(exception.BackendCorrupt):
                for piece in capped("GET", path, **OWNER).app_iter:
                    received += len(piece)
            assert received < size
        elsewhere.size = size
        assert len(capped("GET", path, **OWNER).body) == size

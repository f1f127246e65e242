"""The upload transaction under injected failures: status, image state, nothing left over."""

import errno
import hashlib
import io
import json
import threading
import time
import wsgiref.simple_server

import pytest
import webob

from glance import registry as registry_calls
from glance.api import deletion, recovery, upload
from glance.common import config, exception, hooks
from glance.identity import context as identity_context
from glance.registry.link import RegistryLink
from glance.store import base, filesystem, staging
from glance.streaming import tasks
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import CHECKSUM, PAYLOAD, Api, _Handler, _Server

URL = "/v1/images"
OCTETS = {"Content-Type": "application/octet-stream"}
BIG = PAYLOAD * 1024


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upload, "ACTIVATION_BACKOFF", Backoff.steady(0, retries=2))
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0.01, retries=500))
    monkeypatch.setattr(recovery, "LATE_CALLS", Backoff.steady(0.01, retries=3))
    monkeypatch.setattr(deletion, "RECORD_BACKOFF", Backoff.steady(0, retries=2))


def until(condition):
    """Wait until background work has made `condition` true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Meddling:
    """A body that does something after its first megabyte was read."""

    def __init__(self, action, data=BIG):
        self._data = io.BytesIO(data)
        self._action = action

    def read(self, size=-1):
        if self._data.tell() >= 2**20 and self._action is not None:
            action, self._action = self._action, None
            action()
        return self._data.read(min(size, 2**20))


def post(api, stream, image_id=5):
    headers = {**OCTETS, "x-image-meta-id": str(image_id)}
    request = webob.Request.blank(URL, method="POST", headers=headers)
    request.environ["wsgi.input"] = stream
    request.content_length = len(BIG)
    return request.get_response(api.app)


def status_of(api, image_id=5):
    return api("HEAD", f"{URL}/{image_id}").headers.get("x-image-meta-status")


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (exception.StorageFull(), 413, "killed"),
        (exception.StorageWriteDenied(), 503, "killed"),
        (exception.BackendUnavailable(), 503, "killed"),
        (exception.StoreObjectExists(), 409, "killed"),
        (exception.StoreForbidden(), 503, "killed"),
        (ValueError("inside"), 500, "killed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_store_that_fails_midway(api, monkeypatch, step, error, status, state):
    monkeypatch.setattr(staging.StagedFile, step, fail_with(error))
    response = post(api, io.BytesIO(BIG))
    assert (response.status_int, response.headers["X-Image-Meta-Id"]) == (status, "5")
    assert "inside" not in response.text
    assert status_of(api) == state
    assert api.files() == []


def test_a_store_that_permits_no_writing_leaves_the_image_queued(api, monkeypatch):
    monkeypatch.setattr(
        filesystem.FilesystemStore, "stage", fail_with(exception.StorageWriteDenied())
    )
    assert post(api, io.BytesIO(BIG)).status_int == 503
    assert status_of(api) == "queued"
    monkeypatch.undo()
    assert api("PUT", URL + "/5", {}, PAYLOAD).status_int == 200


def test_a_store_that_is_full_from_the_start_kills_the_image(api, monkeypatch):
    monkeypatch.setattr(filesystem.FilesystemStore, "stage", fail_with(exception.StorageFull()))
    assert post(api, io.BytesIO(BIG)).status_int == 413
    assert status_of(api) == "killed"


def test_data_left_under_the_id_is_not_touched(api):
    api.datadir.mkdir(exist_ok=True)
    (api.datadir / "5").write_bytes(b"old")
    assert post(api, io.BytesIO(BIG)).status_int == 409
    assert status_of(api) == "killed"
    assert (api.datadir / "5").read_bytes() == b"old"


def test_an_image_deleted_during_its_upload(api):
    response = post(api, Meddling(lambda: api("DELETE", URL + "/5")))
    assert response.status_int == 412
    assert "X-Image-Meta-Id" not in response.headers
    assert status_of(api) is None
    assert api.files() == []


def test_an_image_killed_during_its_upload_is_not_revived(api):
    def kill():
        conf = config.Conf({"registry_port": str(api.registry.port)})
        ctx = identity_context.RequestContext(is_admin=True)
        registry_calls.update_image_metadata(conf, ctx, 5, {"status": "killed"})

    assert post(api, Meddling(kill)).status_int == 409
    assert status_of(api) == "killed"
    assert api.files() == []


class Flaky:
    """The registry application, failing the calls that `fails` picks.

    Before that it carries them out, if `carry_out` is true or names their method.
    """

    def __init__(self, registry, fails, carry_out=False):
        self.registry, self.fails, self.carry_out = registry, fails, carry_out
        self.count = 0

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if self.fails(environ["REQUEST_METHOD"], body):
            self.count += 1
            if self.carry_out is True or self.carry_out == environ["REQUEST_METHOD"]:
                list(self.registry.real(environ, lambda *args: None))
            start_response("503 Away", [("Content-Length", "0")])
            return []
        return self.registry.real(environ, start_response)


def activates(method, body):
    return method == "PUT" and b'"active"' in body


def test_a_registry_that_comes_back_in_time_loses_nothing(api, registry):
    flaky = Flaky(registry, lambda method, body: activates(method, body) and flaky.count < 2)
    registry.app = flaky
    assert post(api, io.BytesIO(BIG)).status_int == 201
    assert status_of(api) == "active"
    assert api("GET", URL + "/5").body == BIG


def test_an_activation_whose_answer_was_lost_counts(api, registry):
    flaky = Flaky(
        registry, lambda method, body: activates(method, body) and flaky.count < 1, carry_out=True
    )
    registry.app = flaky
    assert post(api, io.BytesIO(BIG)).status_int == 201
    assert api("GET", URL + "/5").body == BIG


def test_a_registry_that_stays_away_for_the_activation(api, registry):
    registry.app = Flaky(registry, activates)
    assert post(api, io.BytesIO(BIG)).status_int == 503
    until(lambda: status_of(api) == "killed")
    until(lambda: api.files() == [])


def test_data_waits_for_a_registry_that_may_have_activated_it(api, registry):
    flaky = Flaky(registry, lambda method, body: method == "PUT" and flaky.count < 9, True)
    flaky.fails = lambda method, body: activates(method, body) or flaky.count > 0
    registry.app = flaky
    assert post(api, io.BytesIO(BIG)).status_int == 503
    assert "5" in api.files()
    registry.app = registry.real
    until(lambda: api.files() == ["5"])
    assert api("GET", URL + "/5").body == BIG


# -- calls whose response is lost -----------------------------------------------------------------


def begins(method, body):
    return method == "PUT" and b'"saving"' in body


def creates(method, body):
    return method == "POST"


def ids(api):
    return sorted(image["id"] for image in api("GET", f"{URL}?is_public=none").json["images"])


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("step", [creates, begins], ids=["creation", "begin"])
@pytest.mark.parametrize("headers", [{}, {"x-image-meta-id": "77"}], ids=["any-id", "own-id"])
def test_a_call_whose_response_was_lost_counts_once(api, registry, step, carried_out, headers):
    flaky = Flaky(registry, lambda method, body: step(method, body) and flaky.count < 2)
    flaky.carry_out = carried_out
    registry.app = flaky
    response = api("POST", URL, headers, PAYLOAD)
    assert (response.status_int, flaky.count) == (201, 2)
    assert ids(api) == [response.json["image"]["id"]]
    assert api("GET", f"{URL}/{ids(api)[0]}").body == PAYLOAD


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_that_may_have_begun_ends_killed(api, registry, method, carried_out):
    if method == "PUT":
        api.add(id=5)
    # Nothing of the registry is to be had from the beginning call on.
    flaky = Flaky(registry, None, carried_out)
    flaky.fails = lambda verb, body: begins(verb, body) or flaky.count > 0
    registry.app = flaky
    path = URL if method == "POST" else URL + "/5"
    assert api(method, path, {"x-image-meta-id": "5"}, PAYLOAD).status_int == 503
    registry.app = registry.real
    until(lambda: status_of(api) == "killed")
    assert api.files() == []


def test_an_upload_that_may_have_begun_does_not_end_that_of_another_caller(api, registry):
    api.add(id=5)
    denied = set()

    def is_of_the_first(method, body):
        attempt = json.loads(body).get("attempt") if body else None
        if not denied:
            denied.add(attempt)
        return attempt in denied

    registry.app = Flaky(registry, lambda *call: call[0] == "PUT" and is_of_the_first(*call))
    assert api("PUT", URL + "/5", {}, PAYLOAD).status_int == 503

    def let_the_first_be_settled():
        count = len(registry.calls)
        registry.app = registry.real
        until(lambda: ("PUT", "/images/5") in registry.calls[count:])
        assert status_of(api) == "saving"

    request = webob.Request.blank(URL + "/5", method="PUT", headers=OCTETS)
    request.environ["wsgi.input"] = Meddling(let_the_first_be_settled)
    request.content_length = len(BIG)
    assert request.get_response(api.app).status_int == 200
    assert api("GET", URL + "/5").body == BIG


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_upload_that_cannot_have_begun(api, registry, monkeypatch, method):
    if method == "PUT":
        api.add(id=5)
    real = RegistryLink.report_upload
    refused = []

    def refuse(link, context, image_id, values, *args):
        if not refused:
            refused.append(values["status"])
            raise exception.RegistryUnavailable("away") from ConnectionRefusedError()
        return real(link, context, image_id, values, *args)

    monkeypatch.setattr(RegistryLink, "report_upload", refuse)
    path = URL if method == "POST" else URL + "/5"
    assert api(method, path, {"x-image-meta-id": "5"}, PAYLOAD).status_int == 503
    assert refused == ["saving"]
    # Nobody can know of a record that the failed request itself has made.
    assert status_of(api) == (None if method == "POST" else "queued")
    assert api.files() == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, None), ({}, PAYLOAD), ({"x-image-meta-location": "http://127.0.0.1:9/x"}, None)],
    ids=["reserve", "upload", "register"],
)
@pytest.mark.parametrize("carried_out", [True, False])
def test_a_creation_that_never_gets_a_response_leaves_no_record(
    api, registry, headers, carried_out, body
):
    registry.app = Flaky(
        registry, lambda method, body: method in ("POST", "DELETE"), "POST" if carried_out else ""
    )
    assert api("POST", URL, {**headers, "x-image-meta-id": "5"}, body).status_int == 503
    assert status_of(api) == ((carried_out or None) and ("active" if headers else "queued"))
    count = len(registry.calls)
    registry.app = registry.real
    # Where there is no record, it looks again: the call may yet arrive.
    looks = 1 if carried_out else 4
    until(lambda: [method for method, _ in registry.calls[count:]].count("DELETE") >= looks)
    until(lambda: not ids(api))
    assert status_of(api) is None
    assert api.files() == []


@pytest.mark.parametrize("use", ["PUT", "share", "fill"])
def test_a_record_that_somebody_uses_is_not_withdrawn(api, registry, use):
    registry.app = Flaky(registry, lambda method, body: method in ("POST", "DELETE"), "POST")
    assert api("POST", URL, {"x-image-meta-id": "5"}).status_int == 503
    if use == "PUT":
        assert api("PUT", URL + "/5", {"x-image-meta-name": "mine"}).status_int == 200
    elif use == "share":
        assert api("PUT", URL + "/5/members/friend").status_int == 204
    else:
        assert api("PUT", URL + "/5", {}, PAYLOAD).status_int == 200
    count = len(registry.calls)
    registry.app = registry.real
    until(lambda: [method for method, _ in registry.calls[count:]].count("DELETE") >= 4)
    assert status_of(api) == ("active" if use == "fill" else "queued")


def test_a_registration_whose_response_was_lost_counts(api, registry):
    api.add(id=5)
    flaky = Flaky(
        registry, lambda method, body: activates(method, body) and flaky.count < 1, carry_out=True
    )
    registry.app = flaky
    headers = {"x-image-meta-location": "http://127.0.0.1:9/x"}
    assert api("PUT", URL + "/5", headers).status_int == 200
    assert (status_of(api), flaky.count) == ("active", 1)


def test_no_more_uploads_are_settled_than_the_limit(api, registry, monkeypatch):
    monkeypatch.setattr(recovery, "_TASKS", tasks.Limited(1))
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0.05, retries=100))
    registry.app = Flaky(registry, lambda method, body: method != "GET", "POST")
    for _ in range(2):
        assert api("POST", URL).status_int == 503
    assert len(ids(api)) == 2
    registry.app = registry.real
    until(lambda: len(ids(api)) == 1)


def test_data_that_no_record_can_know_of_goes_at_once(api, registry, monkeypatch):
    real = RegistryLink.update_image_metadata

    def refuse(link, context, image_id, values, **kwargs):
        if values.get("status") == "active":
            raise exception.RegistryUnavailable("away") from ConnectionRefusedError()
        return real(link, context, image_id, values, **kwargs)

    monkeypatch.setattr(RegistryLink, "update_image_metadata", refuse)
    assert post(api, io.BytesIO(BIG)).status_int == 503
    assert api.files() == []
    assert status_of(api) == "killed"


def test_a_registry_lost_during_the_upload(api, registry):
    def lose():
        registry.app = Flaky(registry, lambda method, body: True)

    assert post(api, Meddling(lose)).status_int == 503
    registry.app = registry.real
    until(lambda: status_of(api) == "killed")
    until(lambda: api.files() == [])


def test_a_registry_away_before_the_upload_reads_nothing(api, registry):
    registry.app = Flaky(registry, lambda method, body: True)
    stream = io.BytesIO(BIG)
    assert post(api, stream).status_int == 503
    assert stream.tell() == 0
    assert api.files() == []
    count = len(registry.calls)
    registry.app = registry.real
    until(lambda: [method for method, _ in registry.calls[count:]].count("DELETE") >= 4)
    assert status_of(api) is None


def test_of_two_uploads_to_one_image_the_first_wins(api):
    api.add(id=5)
    second = []

    def interfere():
        second.append(api("PUT", URL + "/5", {}, b"loser"))

    request = webob.Request.blank(URL + "/5", method="PUT", headers=OCTETS)
    request.environ["wsgi.input"] = Meddling(interfere)
    request.content_length = len(BIG)
    assert request.get_response(api.app).status_int == 200
    assert second[0].status_int == 409
    assert api("GET", URL + "/5").body == BIG


def test_bad_attributes_beside_data_change_nothing(api):
    api.add(id=5)
    response = api("PUT", URL + "/5", {"x-image-meta-disk_format": "floppy"}, PAYLOAD)
    assert response.status_int == 400
    assert status_of(api) == "queued"
    assert api.files() == []
    assert api("PUT", URL + "/5", {}, PAYLOAD).status_int == 200


# -- the record of a failed upload ----------------------------------------------------------------


def test_an_error_before_the_record_names_none(api):
    api.add(id=5)
    for headers in ({"x-image-meta-id": "5"}, {"x-image-meta-disk-format": "floppy"}):
        response = api("POST", URL, headers, PAYLOAD)
        assert response.status_int in (400, 409)
        assert "X-Image-Meta-Id" not in response.headers


def test_an_error_after_the_record_names_it_on_html_too(api):
    headers = {"x-image-meta-checksum": "0" * 32, "Accept": "text/html"}
    response = api("POST", URL, headers, PAYLOAD)
    image_id = response.headers["X-Image-Meta-Id"]
    assert (response.status_int, response.content_type) == (400, "text/html")
    assert status_of(api, image_id) == "killed"


# -- out of descriptors ---------------------------------------------------------------------------

EMFILE = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_without_a_descriptor_for_the_file_nothing_is_left(api, monkeypatch, method):
    if method == "PUT":
        api.add(id=5)
    monkeypatch.setattr(staging.LocalFile, "create", fail_with(EMFILE))
    path = URL if method == "POST" else URL + "/5"
    response = api(method, path, {"x-image-meta-id": "5"}, PAYLOAD)
    assert (response.status_int, "Retry-After" in response.headers) == (503, True)
    assert "X-Image-Meta-Id" not in response.headers
    assert status_of(api) == (None if method == "POST" else "queued")
    assert api.files() == []
    monkeypatch.undo()
    assert api("PUT", URL + "/5", {}, PAYLOAD).status_int == (404 if method == "POST" else 200)


@pytest.mark.parametrize("step", ["write", "sync", "publish"])
def test_without_descriptors_in_the_middle_of_an_upload_it_is_killed(api, monkeypatch, step):
    monkeypatch.setattr(staging.LocalFile, step, fail_with(EMFILE))
    response = post(api, io.BytesIO(BIG))
    assert (response.status_int, "Retry-After" in response.headers) == (503, True)
    assert status_of(api) == "killed"
    assert api.files() == []


def test_an_error_of_descriptors_elsewhere_is_a_503(api, monkeypatch):
    monkeypatch.setattr(RegistryLink, "get_image_metadata", fail_with(EMFILE))
    response = api("GET", URL + "/5")
    assert (response.status_int, "Retry-After" in response.headers) == (503, True)


# -- copy-from ------------------------------------------------------------------------------------


@pytest.fixture
def inline(monkeypatch):
    """Run background tasks before the call that starts them returns."""

    def at_once(function, *args):
        function(*args)
        return tasks.Task(lambda seconds: True)

    monkeypatch.setattr(tasks, "spawn", at_once)


@pytest.fixture
def origin():
    """A web server with one image."""

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/image":
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        start_response("200 OK", [("Content-Length", str(len(PAYLOAD)))])
        return [PAYLOAD] if environ["REQUEST_METHOD"] == "GET" else []

    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app)
    server.RequestHandlerClass.log_message = lambda *args: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("inline")
class TestCopyFrom:
    def test_a_copy_answers_queued_and_ends_active(self, api, origin):
        response = api("POST", URL, {"x-glance-api-copy-from": f"{origin}/image"})
        assert response.status_int == 201
        assert response.json["image"]["status"] == "queued"
        got = api("GET", f"{URL}/{response.json['image']['id']}")
        assert got.body == PAYLOAD
        assert got.headers["ETag"] == f'"{CHECKSUM}"'

    def test_a_copy_into_a_queued_image(self, api, origin):
        api.add(id=5, name="n")
        response = api("PUT", URL + "/5", {"x-glance-api-copy-from": f"{origin}/image"})
        assert response.status_int == 200
        assert status_of(api) == "active"

    @pytest.mark.parametrize("path", ["/missing", "/image"])
    def test_a_copy_that_fails_ends_killed(self, api, origin, path):
        headers = {"x-glance-api-copy-from": origin + path, "x-image-meta-checksum": "0" * 32}
        image = api("POST", URL, headers).json["image"]
        assert status_of(api, image["id"]) == "killed"
        assert api.files() == []

    def test_the_true_size_of_a_location_is_recorded(self, api, origin):
        image = api("POST", URL, {"x-image-meta-location": f"{origin}/image"}).json["image"]
        assert (image["status"], image["size"]) == ("active", len(PAYLOAD))
        assert api("GET", f"{URL}/{image['id']}").body == PAYLOAD

    def test_a_declared_size_that_the_location_does_not_have(self, api, origin):
        headers = {"x-image-meta-location": f"{origin}/image", "x-image-meta-size": "1"}
        assert api("POST", URL, headers).status_int == 409

    def test_a_registered_image_that_is_gone(self, api, origin):
        image = api("POST", URL, {"x-image-meta-location": f"{origin}/missing"}).json["image"]
        assert api("GET", f"{URL}/{image['id']}").status_int == 404


def notes(api):
    """Return the lists of what processes have begun."""
    return list(api.datadir.rglob("glance-unfinished.*"))


class TestManyCopies:
    """Copies that wait for their turn, from an origin that sends nothing before it is told to."""

    @pytest.fixture
    def slow(self):
        class Slow:
            def __init__(self):
                self.open = threading.Event()
                self.at_once = self.most = 0
                self.lock = threading.Lock()

            def __call__(self, environ, start_response):
                if environ["REQUEST_METHOD"] == "GET":
                    with self.lock:
                        self.at_once += 1
                        self.most = max(self.most, self.at_once)
                    self.open.wait(10)
                    with self.lock:
                        self.at_once -= 1
                start_response("200 OK", [("Content-Length", str(len(PAYLOAD)))])
                return [PAYLOAD] if environ["REQUEST_METHOD"] == "GET" else []

        app = Slow()
        server = _Server(("127.0.0.1", 0), _Handler)
        server.set_app(app)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        app.headers = {"x-glance-api-copy-from": f"http://127.0.0.1:{server.server_port}/"}
        yield app
        app.open.set()
        server.shutdown()
        server.server_close()

    def test_no_more_run_than_the_limits_and_all_end(self, make_api, slow):
        api = make_api(copies_at_once="3", copies_per_owner="2", auth_mode="trusted-headers")
        names = [{"tenant": f"t{number}", "roles": "admin"} for number in range(2)]

        def statuses():
            path = URL + "/detail?is_public=none&sort_key=id&sort_dir=asc"
            return [image["status"] for image in api("GET", path, **names[0]).json["images"]]

        for number in range(8):
            image = api("POST", URL, slow.headers, **names[number % 2])
            assert (image.status_int, image.json["image"]["status"]) == (201, "queued")
        until(lambda: slow.at_once == 3)
        slow.open.set()
        until(lambda: statuses() == ["active"] * 8)
        assert slow.most == 3

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_one_too_many_is_refused_and_leaves_nothing(self, make_api, slow, method):
        api = make_api(copies_at_once="1", copies_waiting="1")
        reserved = api.add(name="before")["id"]
        for _ in range(2):
            assert api("POST", URL, slow.headers).status_int == 201
        headers = {**slow.headers, "x-image-meta-name": "after"}
        path = URL if method == "POST" else f"{URL}/{reserved}"
        response = api(method, path, headers)
        assert (response.status_int, response.headers["Retry-After"]) == (503, "30")
        assert ids(api) == [reserved, reserved + 1, reserved + 2]
        assert api("HEAD", f"{URL}/{reserved}").headers["x-image-meta-name"] == "before"
        slow.open.set()
        until(lambda: status_of(api, reserved + 2) == "active")
        until(lambda: api(method, path, headers).status_int in (200, 201))
        last = max(ids(api)) if method == "POST" else reserved
        until(lambda: status_of(api, last) == "active")

    def test_a_request_that_fails_gives_its_place_back(self, make_api, slow):
        api = make_api(copies_at_once="1", copies_waiting="0")
        for _ in range(3):
            bad = {**slow.headers, "x-image-meta-disk_format": "floppy"}
            assert api("POST", URL, bad).status_int == 400
        slow.open.set()
        assert api("POST", URL, slow.headers).status_int == 201
        until(lambda: status_of(api, ids(api)[0]) == "active")

    def test_copies_that_wait_or_run_end_killed_when_the_process_stops(self, make_api, slow):
        hooks.stop()
        api = make_api(copies_at_once="1")
        for _ in range(3):
            assert api("POST", URL, slow.headers).status_int == 201
        until(lambda: slow.at_once == 1)
        hooks.stop()
        assert [status_of(api, number) for number in (1, 2, 3)] == ["killed"] * 3
        assert api("POST", URL, slow.headers).status_int == 503
        slow.open.set()
        until(lambda: slow.at_once == 0)
        until(lambda: api.files() == [])

    def test_copies_of_a_process_that_died_end_killed(self, make_api, slow):
        hooks.stop()
        api = make_api(copies_at_once="1")
        reserved = api.add()["id"]
        for _ in range(3):
            assert api("POST", URL, slow.headers).status_int == 201
        until(lambda: slow.at_once == 1)
        # Somebody else fills one of those that wait.
        assert api("PUT", f"{URL}/{reserved + 3}", {}, PAYLOAD).status_int == 200
        [journal] = notes(api)
        listed = journal.read_bytes()
        left = journal.with_name(journal.name + "0")
        left.write_bytes(listed + b"[9, {")
        make_api()
        # NOTE: that of the process which lives is locked, and stays.
        until(lambda: not left.exists())
        assert journal.read_bytes() == listed
        statuses = [status_of(api, number) for number in range(reserved, reserved + 4)]
        assert statuses == ["queued", "killed", "killed", "active"]
        slow.open.set()
        until(lambda: not journal.exists())
        assert slow.most == 1

    def test_copies_that_cannot_be_killed_at_the_end_are_left_to_the_next_process(
        self, make_api, slow, registry
    ):
        hooks.stop()
        api = make_api(copies_at_once="1")
        for _ in range(2):
            assert api("POST", URL, slow.headers).status_int == 201
        until(lambda: slow.at_once == 1)
        registry.app = Flaky(registry, lambda method, body: True)
        hooks.stop()
        registry.app = registry.real
        make_api()
        until(lambda: [status_of(api, number) for number in (1, 2)] == ["killed"] * 2)
        until(lambda: notes(api) == [])

    def test_a_copy_without_a_descriptor_ends_killed(self, make_api, slow, monkeypatch):
        api = make_api()
        monkeypatch.setattr(staging.LocalFile, "create", fail_with(EMFILE))
        slow.open.set()
        assert api("POST", URL, slow.headers).status_int == 201
        until(lambda: status_of(api, 1) == "killed")
        assert api.files() == []


# -- the second digest ---------------------------------------------------------------------------


@pytest.fixture
def received(monkeypatch):
    """What each upload of the test received, in order."""
    results = []
    transfer = base.transfer

    def noted(*args):
        results.append(transfer(*args))
        return results[-1]

    monkeypatch.setattr(base, "transfer", noted)
    return results


def digests_of(registry, tmp_path, received, **conf):
    api = Api(registry, tmp_path, **conf)
    api.add(PAYLOAD)
    return received[-1].digests


def test_an_upload_by_version_1_has_no_second_digest(registry, tmp_path, received):
    assert set(digests_of(registry, tmp_path, received)) == {"md5"}


@pytest.mark.parametrize("name", ["sha256", "sha512", "blake2b", "sha3_256"])
def test_the_second_digest_follows_the_option(registry, tmp_path, received, name):
    conf = {"hash_v1_uploads": "True", "hashing_algorithm": name}
    digests = digests_of(registry, tmp_path, received, **conf)
    assert digests == {"md5": CHECKSUM, name: hashlib.new(name, PAYLOAD).hexdigest()}


def test_an_empty_algorithm_is_none(registry, tmp_path, received):
    conf = {"hash_v1_uploads": "True", "hashing_algorithm": ""}
    assert set(digests_of(registry, tmp_path, received, **conf)) == {"md5"}

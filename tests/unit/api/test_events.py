"""What is told of images and members: each change once, failures too, and never a secret."""

import dataclasses
import json
import re
import time

import pytest
import webob

from glance import notifier
from glance.api import recovery, upload
from glance.common import config, exception, hooks
from glance.image import fields
from glance.store import filesystem
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import CHECKSUM, PAYLOAD

URL = "/v1/images"
CANARY = "canary-in-a-secret"
IMAGE_KEYS = {
    *("id", "name", "status", "size", "disk_format", "container_format", "min_disk", "min_ram"),
    *("is_public", "checksum", "owner", "created_at", "updated_at", "deleted_at", "deleted"),
    *("uuid", "visibility", "properties"),
}


@pytest.fixture(autouse=True)
def _ends(monkeypatch):
    monkeypatch.setattr(upload, "ACTIVATION_BACKOFF", Backoff.steady(0, retries=2))
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0.01, retries=500))
    yield
    hooks.stop()


@dataclasses.dataclass
class Told:
    """An API and what it has told."""

    api: object
    messages: list

    def take(self):
        """Return (type, priority, payload) of what was told since the last time."""
        taken = [(one["event_type"], one["priority"], one["payload"]) for one in self.messages]
        self.messages.clear()
        return taken

    def kinds(self):
        return [(kind, priority) for kind, priority, _ in self.take()]

    def only(self):
        (one,) = self.take()
        return one

    def until(self, count):
        deadline = time.monotonic() + 10
        while len(self.messages) < count:
            assert time.monotonic() < deadline, self.messages
            time.sleep(0.01)
        return self.take()

    def add(self, *args, **kwargs):
        image = self.api.add(*args, **kwargs)
        self.messages.clear()
        return image


@pytest.fixture
def tell(make_api):
    """Make an API that tells into memory, with options of the test's own."""

    def start(**conf):
        conf = {"notifier_strategy": "memory", **conf}
        api = make_api(**conf)
        names = {option.name for option in notifier.OPTIONS}
        own = {name: value for name, value in conf.items() if name in names}
        return Told(api, notifier.create(config.Conf(own)).strategy.messages)

    return start


@pytest.fixture
def told(tell):
    return tell()


@pytest.fixture
def everything(tell):
    return tell(notification_extended_events="True")


def download(api, path, **headers):
    """Fetch as a client of the real server does; return the response once it has ended."""
    request = webob.Request.blank(path, headers=headers, remote_addr="192.0.2.7")
    waiting = request.environ[hooks.AFTER_RESPONSE] = []
    response = request.get_response(api.app)
    return response, waiting


# -- uploads -------------------------------------------------------------------------------------


def test_an_upload_is_told_once_and_as_it_is_afterwards(told):
    image = told.api.add(PAYLOAD, name="a", disk_format="raw", container_format="bare")
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.upload", "INFO")
    assert set(payload) == IMAGE_KEYS
    assert (payload["status"], payload["size"], payload["checksum"]) == (
        "active",
        len(PAYLOAD),
        CHECKSUM,
    )
    shown = {name: value for name, value in image.items() if name in IMAGE_KEYS}
    named = {"uuid": payload["uuid"], "visibility": "shared"}
    assert {**shown, **named, "updated_at": 0} == {**payload, "updated_at": 0}
    assert fields.parse_uuid(payload["uuid"]) == payload["uuid"]


def test_an_upload_to_a_reserved_image_is_told_as_upload_and_update(told):
    image = told.api.add(name="a")
    response = told.api("PUT", f"{URL}/{image['id']}", {"x-image-meta-name": "b"}, PAYLOAD)
    assert response.status_int == 200
    (upload_kind, _, uploaded), (update_kind, _, updated) = told.take()
    assert (upload_kind, update_kind) == ("image.upload", "image.update")
    assert uploaded["name"] == "b" and uploaded["status"] == "active"
    assert {*updated["changed"]} == {"name", "status", "size", "checksum"}


def test_the_id_of_the_request_and_of_the_messages_is_the_same(told):
    told.api("POST", URL, {"x-openstack-request-id": "req-77", "x-image-meta-name": "a"}, PAYLOAD)
    assert [one["request_id"] for one in told.messages] == ["req-77"]


@pytest.mark.parametrize(
    ("headers", "error", "status"),
    [
        ({"x-image-meta-checksum": "0" * 32}, "ChecksumMismatch", 400),
        ({"x-image-meta-size": "7"}, "ImageSizeMismatch", 400),
    ],
)
def test_a_failed_upload_is_told_as_an_error(told, headers, error, status):
    response = told.api("POST", URL, {**headers, "x-image-meta-id": "7"}, PAYLOAD)
    assert response.status_int == status
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.upload", "ERROR")
    assert payload == {
        "image_id": 7,
        "error_class": error,
        "message": "The request is not valid.",
        "http_status": status,
        "request_id": payload["request_id"],
    }
    assert payload["request_id"].startswith("req-")


@pytest.mark.parametrize(
    ("store", "text"),
    [
        (None, "The image store's backend failed."),
        ("file", "The backend of the file store failed."),
    ],
)
def test_a_failing_backend_tells_no_secret(told, monkeypatch, store, text):
    def fail(*args, **kwargs):
        raise exception.BackendException(f"swift://user:{CANARY}@host/{CANARY}").of(store)

    monkeypatch.setattr(filesystem.FilesystemStore, "stage", fail)
    assert told.api("POST", URL, {}, PAYLOAD).status_int == 500
    assert told.messages[0]["payload"]["message"] == text
    assert CANARY not in json.dumps(told.messages)


def test_an_unexpected_error_tells_only_its_class(told, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError(CANARY)

    monkeypatch.setattr(filesystem.FilesystemStore, "stage", fail)
    assert told.api("POST", URL, {}, PAYLOAD).status_int == 500
    _, _, payload = told.only()
    assert payload["error_class"] == "ValueError" and payload["http_status"] == 500
    assert CANARY not in json.dumps(payload)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", URL, {"Content-Type": "text/plain"}, 400),
        ("POST", URL, {"x-image-meta-store": "nowhere"}, 400),
        ("PUT", f"{URL}/999", {}, 404),
        ("PUT", f"{URL}/nonsense", {}, 404),
        ("DELETE", f"{URL}/999", {}, 404),
    ],
)
def test_what_is_refused_before_anything_is_begun_is_no_event(told, method, path, headers, status):
    body = None if method == "DELETE" else PAYLOAD
    assert told.api(method, path, headers, body).status_int == status
    assert told.take() == []


def test_an_upload_to_an_image_that_has_data_is_refused_without_an_upload_event(told):
    image = told.add(PAYLOAD)
    assert told.api("PUT", f"{URL}/{image['id']}", {}, PAYLOAD).status_int == 409
    assert told.take() == []


def test_an_activation_without_an_answer_is_told_when_it_is_decided(told, registry):
    real = registry.app
    seen = []

    def lose_the_answer(environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and len(seen) < 5:
            seen.append(environ["PATH_INFO"])
            if len(seen) > 1:
                if len(seen) == 2:
                    b"".join(real(environ, lambda *args: None))
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return []
        if environ["REQUEST_METHOD"] == "GET" and len(seen) < 5:
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        return real(environ, start_response)

    registry.app = lose_the_answer
    response = told.api("POST", URL, {"x-image-meta-id": "9"}, PAYLOAD)
    assert response.status_int == 503
    ((kind, priority, payload),) = told.until(1)
    assert (kind, priority, payload["status"]) == ("image.upload", "INFO", "active")


# -- updates -------------------------------------------------------------------------------------


def test_an_update_tells_what_is_different_now(told):
    image = told.add(name="a", property_x="1")
    told.api(
        "PUT", f"{URL}/{image['id']}", {"x-image-meta-name": "b", "x-image-meta-min_ram": "0"}
    )
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.update", "INFO")
    assert set(payload) == {*IMAGE_KEYS, "changed"}
    assert payload["name"] == "b"
    # The other properties are purged by a PUT.
    assert payload["changed"] == ["name", "properties"]


def test_an_update_refused_as_invalid_is_told_as_an_error(told):
    image = told.add(name="a")
    path = f"{URL}/{image['id']}"
    assert told.api("PUT", path, {"x-image-meta-disk_format": "floppy"}).status_int == 400
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.update", "ERROR")
    assert (payload["image_id"], payload["error_class"]) == (image["id"], "BadRequest")


def test_an_update_of_somebody_elses_image_is_no_event(tell):
    told = tell(auth_mode="trusted-headers")
    owner = {"user": "o", "tenant": "owners", "roles": "member"}
    response = told.api("POST", URL, {"x-image-meta-is_public": "True"}, PAYLOAD, **owner)
    told.take()
    path = f"{URL}/{response.json['image']['id']}"
    stranger = {"user": "s", "tenant": "strangers", "roles": "member"}
    assert told.api("PUT", path, {"x-image-meta-name": "b"}, **stranger).status_int == 404
    assert told.api("DELETE", path, **stranger).status_int == 404
    assert told.take() == []


# -- deletion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", ["True", "False"])
def test_a_deletion_tells_the_image_as_it_was(tell, delayed):
    told = tell(delayed_delete=delayed)
    image = told.add(PAYLOAD, name="a")
    assert told.api("DELETE", f"{URL}/{image['id']}").status_int == 200
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.delete", "INFO")
    assert set(payload) == IMAGE_KEYS
    assert (payload["name"], payload["size"], payload["status"]) == ("a", len(PAYLOAD), "active")
    assert re.match(r"\d{4}-\d\d-\d\dT", payload["deleted_at"])


def test_a_deletion_that_fails_is_told_as_an_error(told, registry):
    image = told.add(PAYLOAD)
    real = registry.app

    def fail(environ, start_response):
        if environ["REQUEST_METHOD"] == "DELETE":
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return []
        return real(environ, start_response)

    registry.app = fail
    assert told.api("DELETE", f"{URL}/{image['id']}").status_int == 503
    kind, priority, payload = told.only()
    assert (kind, priority, payload["http_status"]) == ("image.delete", "ERROR", 503)


def test_a_protected_image_is_no_event(told):
    image = told.add(PAYLOAD, protected=True)
    assert told.api("DELETE", f"{URL}/{image['id']}").status_int == 403
    assert told.take() == []


# -- downloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/file"])
def test_a_whole_download_is_told_when_it_has_ended(tell, suffix):
    told = tell(auth_mode="trusted-headers")
    me = {"X-Identity-Status": "Confirmed", "X-User": "u", "X-Tenant": "t", "X-Roles": "member"}
    owned = {"x-image-meta-owner": "owners", "x-image-meta-is_public": "True"}
    admin = {"user": "a", "tenant": "admins", "roles": "admin"}
    image = told.api("POST", URL, owned, PAYLOAD, **admin).json["image"]
    told.take()
    _, waiting = download(told.api, f"{URL}/{image['id']}{suffix}", **me)
    assert told.take() == []
    (end,) = waiting
    end(len(PAYLOAD), True)
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.send", "INFO")
    assert payload == {
        "image_id": image["id"],
        "owner_id": "owners",
        "receiver_tenant_id": "t",
        "receiver_user_id": "u",
        "destination_ip": "192.0.2.7",
        "bytes_sent": len(PAYLOAD),
        "expected_bytes": len(PAYLOAD),
        "range": None,
        "from_cache": False,
    }


def test_a_range_is_told_with_its_own_measure(told):
    image = told.add(PAYLOAD)
    response, (end,) = download(told.api, f"{URL}/{image['id']}", Range="bytes=10-29")
    assert response.status_int == 206
    end(20, True)
    _, priority, payload = told.only()
    assert (priority, payload["bytes_sent"], payload["expected_bytes"]) == ("INFO", 20, 20)
    assert payload["range"] == f"bytes 10-29/{len(PAYLOAD)}"


@pytest.mark.parametrize(("sent", "whole"), [(0, False), (17, False), (17, True)])
def test_a_download_cut_short_is_told_as_an_error(told, sent, whole):
    image = told.add(PAYLOAD)
    _, (end,) = download(told.api, f"{URL}/{image['id']}")
    end(sent, whole)
    kind, priority, payload = told.only()
    assert (kind, priority, payload["bytes_sent"]) == ("image.send", "ERROR", sent)


def test_nothing_is_sent_by_head_or_to_a_cache_that_is_up_to_date(told):
    image = told.add(PAYLOAD)
    request = webob.Request.blank(f"{URL}/{image['id']}", method="HEAD")
    waiting = request.environ[hooks.AFTER_RESPONSE] = []
    assert request.get_response(told.api.app).status_int == 200
    assert waiting == []
    response, waiting = download(told.api, f"{URL}/{image['id']}", If_None_Match=CHECKSUM)
    assert (response.status_int, waiting) == (304, [])
    response, waiting = download(told.api, f"{URL}/{image['id']}", Range="bytes=99999-")
    assert (response.status_int, waiting) == (416, [])


def test_downloads_have_a_switch_of_their_own(tell):
    told = tell(notification_image_send="False")
    image = told.add(PAYLOAD)
    assert download(told.api, f"{URL}/{image['id']}")[1] == []


# -- the other events ----------------------------------------------------------------------------


def test_without_the_switch_there_are_only_the_events_of_old(told, loopback):
    source = loopback.answering(lambda seen: PAYLOAD)
    reserved = told.api.add(name="a")
    told.api.add(headers={"x-image-meta-location": f"http://127.0.0.1:{source.port}/x"})
    told.api("PUT", f"{URL}/{reserved['id']}/members/t")
    assert told.take() == []


def test_a_reservation_and_a_registration_are_told(everything, loopback):
    source = loopback.answering(lambda seen: PAYLOAD)
    everything.api.add(name="a")
    assert everything.kinds() == [("image.create", "INFO")]
    location = {"x-image-meta-location": f"http://127.0.0.1:{source.port}/{CANARY}"}
    everything.api.add(headers=location)
    assert CANARY not in json.dumps(everything.messages)
    assert everything.kinds() == [("image.create", "INFO"), ("image.activate", "INFO")]
    image = everything.add(name="b")
    assert everything.api("PUT", f"{URL}/{image['id']}", location).status_int == 200
    assert CANARY not in json.dumps(everything.messages)
    assert everything.kinds() == [("image.activate", "INFO"), ("image.update", "INFO")]


def test_an_upload_is_told_as_creation_and_upload(everything):
    everything.api.add(PAYLOAD)
    assert everything.kinds() == [("image.create", "INFO"), ("image.upload", "INFO")]


def test_a_copy_is_told_as_an_activation(everything, loopback):
    source = loopback.answering(lambda seen: PAYLOAD)
    url = {"x-glance-api-copy-from": f"http://127.0.0.1:{source.port}/{CANARY}"}
    everything.api.add(headers=url)
    messages = everything.until(2)
    assert [one[:2] for one in messages] == [("image.create", "INFO"), ("image.activate", "INFO")]
    assert messages[1][2]["checksum"] == CHECKSUM
    assert CANARY not in json.dumps(messages)


@pytest.mark.parametrize("answer", [(404,), (200, PAYLOAD, {}, 9_000_000)])
def test_a_copy_that_fails_is_told_as_a_failed_upload(told, loopback, answer):
    def serve(peer):
        while peer.request() is not None:
            peer.answer(*answer)
            peer.close()
            return

    source = loopback(serve)
    url = {"x-glance-api-copy-from": f"http://127.0.0.1:{source.port}/{CANARY}"}
    response = told.api("POST", URL, {**url, "x-image-meta-size": "9000000"})
    assert response.status_int == 201
    ((kind, priority, payload),) = told.until(1)
    assert (kind, priority) == ("image.upload", "ERROR")
    assert payload["image_id"] == response.json["image"]["id"]
    assert CANARY not in json.dumps(payload)


def test_changes_of_members_are_told_one_by_one(everything):
    image = everything.add(PAYLOAD)
    path = f"{URL}/{image['id']}/members"

    def put(where, document=None):
        body = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        assert everything.api("PUT", where, headers, body).status_int == 204
        return [
            (kind, payload["member_id"], payload["can_share"])
            for kind, _, payload in everything.take()
        ]

    share, plain = {"member": {"can_share": True}}, {"member": {"can_share": False}}
    assert put(f"{path}/a") == [("image.member.create", "a", False)]
    assert put(f"{path}/a", plain) == []
    assert put(f"{path}/a", share) == [("image.member.update", "a", True)]
    assert put(f"{path}/b", share) == [("image.member.create", "b", True)]
    both = [{"member_id": "b", "can_share": False}, {"member_id": "c", "can_share": False}]
    assert put(path, {"memberships": both}) == [
        ("image.member.delete", "a", True),
        ("image.member.update", "b", False),
        ("image.member.create", "c", False),
    ]
    assert everything.api("DELETE", f"{path}/c").status_int == 204
    assert everything.only() == (
        "image.member.delete",
        "INFO",
        {"image_id": image["id"], "member_id": "c", "can_share": False},
    )
    assert everything.api("DELETE", f"{path}/c").status_int == 204
    assert everything.take() == []


def test_a_refused_change_of_members_is_no_event(everything):
    assert everything.api("PUT", f"{URL}/99/members/a").status_int == 404
    assert everything.take() == []


def test_what_a_dead_process_left_is_told_by_the_next(told):
    image = told.add(name="a")
    service = make_service(told)
    context = recovery.RequestContext(is_admin=True)
    service.registry.update_image_metadata(
        context, image["id"], {"status": "saving"}, from_state="queued"
    )
    recovery.settle(service, [Abandoned(str(image["id"]), committed=False)])
    kind, priority, payload = told.only()
    assert (kind, priority) == ("image.upload", "ERROR")
    assert (payload["image_id"], payload["error_class"]) == (image["id"], "ServerError")
    # An image that became active just before the end of the process was not told of yet.
    active = told.add(PAYLOAD)
    recovery.settle(service, [Abandoned(str(active["id"]), committed=True)])
    kind, priority, payload = told.only()
    assert (kind, priority, payload["id"]) == ("image.upload", "INFO", active["id"])


@dataclasses.dataclass
class Abandoned:
    image_id: str
    committed: bool

    def keep(self):
        pass

    leave = discard = keep


def make_service(told):
    """Return the service behind an API."""
    stage = told.api.app
    while not hasattr(stage, "_tables"):
        stage = stage.app
    return stage._tables["/images/{id}"]["GET"].__self__.service


# -- what never leaves, and what consumers of old expect -----------------------------------------


def test_properties_that_sound_like_secrets_are_redacted(told):
    properties = {"admin_password": CANARY, "api_key": CANARY, "os": "linux", "Token": CANARY}
    headers = {f"x-image-meta-property-{name}": value for name, value in properties.items()}
    told.api("POST", URL, {**headers, "Content-Type": "application/octet-stream"}, PAYLOAD)
    payload = told.only()[2]
    assert payload["properties"] == {
        "admin_password": "***",
        "api_key": "***",
        "token": "***",
        "os": "linux",
    }


def test_passwords_inside_of_urls_are_redacted(told):
    url = f"https://user:{CANARY}@mirror.example/disk?x=1"
    told.api("POST", URL, {"x-image-meta-property-source": url}, PAYLOAD)
    shown = told.only()[2]["properties"]["source"]
    assert shown == "https://user:***@mirror.example/disk?x=1"


def test_which_properties_are_redacted_can_be_chosen(tell):
    told = tell(notification_redact_properties="^os$")
    told.api("POST", URL, {"x-image-meta-property-os": "linux"}, PAYLOAD)
    assert told.only()[2]["properties"] == {"os": "***"}


def test_a_pattern_that_is_none_is_a_config_error():
    conf = config.Conf({"notification_redact_properties": "("})
    with pytest.raises(exception.ConfigError, match="use a regular expression"):
        conf.check()


def test_the_fields_that_are_told_are_fields_of_an_image_and_not_its_location():
    from glance.notifier import events

    assert set(events.IMAGE_FIELDS) < set(fields.RECORD_KEYS)
    assert "location" not in events.IMAGE_FIELDS


def test_consumers_of_old_get_ids_and_texts(tell):
    told = tell(notification_payload_format="diablo")
    image = told.api.add(PAYLOAD, name="a")
    told.api("DELETE", f"{URL}/{image['id']}")
    told.api("POST", URL, {"x-image-meta-checksum": "0" * 32, "x-image-meta-id": "9"}, PAYLOAD)
    for one in told.messages:
        assert len(one) == 6
    (_, _, uploaded), (_, _, deleted), (_, priority, failed) = told.take()
    assert uploaded["status"] == "active" and "location" not in uploaded
    assert deleted == str(image["id"])
    assert (priority, failed) == ("ERROR", "Image 9: ChecksumMismatch: The request is not valid.")


def test_nothing_is_told_by_default(make_api, monkeypatch):
    monkeypatch.setattr(notifier.message.Composer, "compose", None)
    api = make_api(notification_extended_events="True")
    image = api.add(PAYLOAD)
    assert download(api, f"{URL}/{image['id']}")[1] == []
    assert api("DELETE", f"{URL}/{image['id']}").status_int == 200

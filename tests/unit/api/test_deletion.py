"""Deleting with a real registry: who removes the data, and what waits for the scrubber."""

import threading
import time

import pytest

from glance.api import deletion
from glance.api.v1 import images as images_resource
from glance.common import exception
from glance.registry.db import engine, scrub_queue
from glance.registry.link import RegistryLink
from glance.store import filesystem, staging
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import PAYLOAD

URL = "/v1/images"


@pytest.fixture
def queue(tmp_path):
    """Return what waits in the scrub queue."""
    db = engine.Database(f"sqlite:///{tmp_path}/registry.sqlite")
    yield lambda: scrub_queue.entries(db)
    db.dispose()


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status_of(api, image_id=5):
    listed = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    return {image["id"]: image["status"] for image in listed}.get(image_id)


def refusing(monkeypatch, error):
    def fail(self, location):
        raise error

    monkeypatch.setattr(filesystem.FilesystemStore, "delete", fail)


def test_nothing_waits_when_the_data_could_be_removed(api, queue):
    api.add(PAYLOAD, id=5)
    assert api("DELETE", URL + "/5").status_int == 200
    assert (status_of(api), api.files(), queue()) == ("deleted", [], [])


def test_the_deletion_is_one_call_before_any_byte_is_touched(api, monkeypatch):
    api.add(PAYLOAD, id=5)
    seen = []
    real = filesystem.FilesystemStore.delete

    def delete(self, location):
        seen.append((status_of(api), api("HEAD", URL + "/5").status_int))
        real(self, location)

    monkeypatch.setattr(filesystem.FilesystemStore, "delete", delete)
    api("DELETE", URL + "/5")
    assert seen == [("pending_delete", 404)]


@pytest.mark.parametrize(
    "error", [exception.StoreForbidden(), exception.BackendUnavailable(), RuntimeError("canary")]
)
def test_what_the_store_does_not_remove_waits_for_the_scrubber(
    api, queue, monkeypatch, caplog, error
):
    api.add(PAYLOAD, id=5)
    refusing(monkeypatch, error)
    assert api("DELETE", URL + "/5").status_int == 200
    (entry,) = queue()
    assert (entry.attempts, entry.last_error) == (1, type(error).__name__)
    assert not entry.dead and not entry.leased
    assert (entry.due_at - entry.created_at).total_seconds() >= 60
    assert (status_of(api), api.files()) == ("pending_delete", ["5"])
    assert str(api.datadir) not in caplog.text and "canary" not in caplog.text


def test_data_that_no_store_can_find_is_given_up(make_api, queue):
    make_api().add(PAYLOAD, id=5)
    api = make_api(enabled_stores="http", allow_readonly_default_store="True")
    assert api("DELETE", URL + "/5").status_int == 200
    (entry,) = queue()
    assert (entry.dead, entry.last_error) == (True, "UnknownScheme")
    assert status_of(api) == "pending_delete"


@pytest.mark.parametrize("error", [exception.StoreObjectNotFound, None], ids=["gone", "removed"])
def test_a_store_that_takes_long_holds_nobody_up_and_is_settled_later(
    make_api, queue, monkeypatch, error
):
    api = make_api(delete_timeout="0.1")
    api.add(PAYLOAD, id=5)
    release = threading.Event()

    def hang(self, location):
        assert release.wait(20)
        if error:
            raise error

    monkeypatch.setattr(filesystem.FilesystemStore, "delete", hang)
    assert api("DELETE", URL + "/5").status_int == 200
    (entry,) = queue()
    assert entry.leased and status_of(api) == "pending_delete"
    release.set()
    until(lambda: queue() == [])
    assert status_of(api) == "deleted"


def test_delayed_data_is_due_after_the_scrub_time(make_api, queue):
    api = make_api(delayed_delete="True", scrub_time="3600")
    api.add(PAYLOAD, id=5)
    assert api("DELETE", URL + "/5").status_int == 200
    (entry,) = queue()
    assert (entry.due_at - entry.created_at).total_seconds() == 3600
    assert not entry.leased and api.files() == ["5"]


@pytest.mark.parametrize("delete_registered", ["True", "False"])
@pytest.mark.parametrize("delayed", ["True", "False"])
def test_a_registered_file_is_never_removed(make_api, queue, tmp_path, delayed, delete_registered):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "image").write_bytes(PAYLOAD)
    api = make_api(
        delayed_delete=delayed,
        delete_registered_images=delete_registered,
        allow_file_locations="True",
        file_locations_dir=str(theirs),
    )
    api.add(headers={"x-image-meta-location": f"file://{theirs}/image"}, id=5)
    assert api("DELETE", URL + "/5").status_int == 200
    assert (theirs / "image").read_bytes() == PAYLOAD
    if delayed == delete_registered == "True":
        # The scrubber will find out that the store does not delete it.
        assert [entry.attempts for entry in queue()] == [0]
    else:
        assert (status_of(api), queue()) == ("deleted", [])


def test_data_that_arrived_since_the_image_was_looked_at_goes_too(api, queue, monkeypatch):
    image = api.add(id=5)
    stale = {**image, "location": None}
    api("PUT", URL + "/5", {"Content-Type": "application/octet-stream"}, PAYLOAD)
    assert api.files() == ["5"]
    monkeypatch.setattr(images_resource.ImagesController, "_image", lambda *_: stale)
    assert api("DELETE", URL + "/5").status_int == 200
    assert (api.files(), queue()) == ([], [])


def test_a_registry_lost_after_the_deletion_leaves_the_rest_to_the_scrubber(
    api, queue, monkeypatch
):
    api.add(PAYLOAD, id=5)
    real = RegistryLink.delete_image_metadata

    def once(link, context, image_id, status=None, **waiting):
        if status == "deleted":
            raise exception.RegistryUnavailable("away")
        return real(link, context, image_id, status, **waiting)

    monkeypatch.setattr(RegistryLink, "delete_image_metadata", once)
    assert api("DELETE", URL + "/5").status_int == 200
    assert api.files() == []
    (entry,) = queue()
    assert entry.leased


# -- failed uploads --


def test_what_an_upload_could_not_take_away_is_queued(api, queue, monkeypatch):
    parts = ["file:///parts/5-1", "file:///parts/5-2"]
    monkeypatch.setattr(staging.StagedFile, "leftovers", lambda self: parts)
    assert api("POST", URL, {"x-image-meta-id": "5", "x-image-meta-checksum": "0" * 32}, PAYLOAD)
    until(lambda: len(queue()) == 2)
    assert {(entry.image_id, entry.attempts, entry.last_error) for entry in queue()} == {
        (5, 1, "FailedUpload")
    }
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"


def test_committed_data_that_cannot_be_removed_again_is_queued(api, queue, monkeypatch):
    api.add(id=5)
    real = staging.StagedFile.commit

    def commit(self):
        location = real(self)
        # The image is deleted at the worst moment.
        assert api("DELETE", URL + "/5").status_int == 200
        return location

    monkeypatch.setattr(staging.StagedFile, "commit", commit)
    refusing(monkeypatch, exception.BackendUnavailable())
    octets = {"Content-Type": "application/octet-stream"}
    assert api("PUT", URL + "/5", octets, PAYLOAD).status_int == 412
    until(lambda: len(queue()) == 1)
    assert queue()[0].item != scrub_queue.DATA


def test_what_is_left_is_handed_over_when_the_registry_is_back(api, queue, monkeypatch):
    monkeypatch.setattr(deletion, "BACKOFF", Backoff.steady(0.01, retries=500))
    monkeypatch.setattr(staging.StagedFile, "leftovers", lambda self: ["file:///parts/5"])
    real, away = RegistryLink.postpone_scrub, threading.Event()
    away.set()

    def postpone(*args, **options):
        if away.is_set():
            raise exception.RegistryUnavailable("away")
        return real(*args, **options)

    monkeypatch.setattr(RegistryLink, "postpone_scrub", postpone)
    api("POST", URL, {"x-image-meta-id": "5", "x-image-meta-checksum": "0" * 32}, PAYLOAD)
    assert queue() == []
    away.clear()
    until(lambda: len(queue()) == 1)

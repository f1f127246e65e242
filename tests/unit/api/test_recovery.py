"""Abandoned uploads at the start of an API."""

import pytest

from glance import registry as registry_calls
from glance.api import recovery
from glance.common import config, exception
from glance.identity import context
from glance.notifier import events
from glance.registry import unfinished
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import PAYLOAD

URL = "/v1/images"
ADMIN = context.RequestContext(is_admin=True)


class Left:
    """An abandoned write that notes how it was settled."""

    def __init__(self, image_id, committed):
        self.image_id, self.committed, self.settled = str(image_id), committed, []

    def discard(self):
        self.settled.append("discard")

    def keep(self):
        self.settled.append("keep")

    def leave(self):
        self.settled.append("leave")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0, retries=2))


@pytest.fixture
def service(api):
    from glance import api as api_package
    from glance import store

    conf = config.Conf(
        {"registry_port": str(api.registry.port), "filesystem_store_datadir": str(api.datadir)}
    )
    return api_package.ImageService(conf, store.create_stores(conf))


def settle(service, image_id, committed):
    left = Left(image_id, committed)
    recovery.settle(service, [left])
    return left.settled


@pytest.mark.parametrize("committed", [True, False])
def test_a_record_that_waits_for_its_data_is_killed(api, service, committed):
    api.add(id=5)
    registry_calls.update_image_metadata(service.conf, ADMIN, 5, {"status": "saving"})
    assert settle(service, 5, committed) == ["discard"]
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"


def test_an_image_that_is_deleted_before_it_is_killed_needs_nothing(api, service, monkeypatch):
    api.add(PAYLOAD, id=5)
    real = service.registry.get_image_metadata

    def get(*args):
        api("DELETE", URL + "/5")
        return real(*args)

    monkeypatch.setattr(service.registry, "get_image_metadata", get)
    recovery.kill(service, ADMIN, 5, "saving")
    assert api("HEAD", URL + "/5").status_int == 404


def test_data_of_an_active_image_is_kept(api, service):
    api.add(PAYLOAD, id=5)
    assert settle(service, 5, True) == ["keep"]
    assert api("GET", URL + "/5").body == PAYLOAD


@pytest.mark.parametrize("committed", [True, False])
def test_data_of_a_queued_image_goes_and_the_image_stays(api, service, committed):
    api.add(id=5)
    assert settle(service, 5, committed) == ["discard"]
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"


def test_data_without_a_record_goes(service):
    assert settle(service, 99, True) == ["discard"]


@pytest.mark.parametrize(("committed", "settled"), [(True, ["leave"]), (False, ["discard"])])
def test_without_the_registry_only_half_images_go(registry, service, committed, settled):
    registry.stop()
    assert settle(service, 5, committed) == settled


# -- what a dead process has noted ---------------------------------------------------------------

ATTEMPT = "a" * 32


def noted(service, *notes):
    """Leave notes as a killed process does, and let the next one settle them."""
    directory = service.stores.local_directories()[0]
    process = unfinished.Unfinished(directory)
    for note in notes:
        process.keep(note)
    process._file.close()
    (left,) = unfinished.take(directory, 0)
    recovery._settle_notes(service, left)
    return unfinished.take(directory, 0)


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr(recovery, "LATE_CALLS", Backoff.steady(0, retries=3))


def create(service, **values):
    return service.registry.add_image_metadata(
        ADMIN, {"status": "queued", "name": "n", **values}, ATTEMPT
    )


@pytest.mark.usefixtures("_at_once")
def test_a_record_of_which_no_caller_knows_goes(api, service):
    record = create(service)
    assert noted(service, unfinished.Note(ATTEMPT)) == []
    assert api("HEAD", f"{URL}/{record['id']}").status_int == 404


@pytest.mark.usefixtures("_at_once")
def test_a_creation_that_arrives_late_is_undone(api, service, monkeypatch):
    made = []
    withdraw = recovery.withdraw

    def late(*args):
        found = withdraw(*args)
        if not made:
            made.append(create(service)["id"])
        return found

    monkeypatch.setattr(recovery, "withdraw", late)
    assert noted(service, unfinished.Note(ATTEMPT)) == []
    assert api("HEAD", f"{URL}/{made[0]}").status_int == 404


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("began", [True, False])
def test_a_record_whose_data_never_comes_is_killed(api, service, began):
    api.add(id=5)
    if began:
        service.registry.update_image_metadata(
            ADMIN, 5, {"status": "saving"}, from_state="queued", attempt=ATTEMPT
        )
    assert noted(service, unfinished.Note(ATTEMPT, 5)) == []
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"
    # The call that would have begun the upload comes late.
    with pytest.raises(exception.Duplicate):
        service.registry.update_image_metadata(
            ADMIN, 5, {"status": "saving"}, from_state="queued", attempt=ATTEMPT
        )


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("began", [True, False])
def test_a_record_whose_data_never_comes_by_version_2_is_queued_again(api, service, began):
    api.add(id=5, size=99)
    begin = {"status": "saving", "size": 7, "upload_via": "v2"}
    if began:
        service.registry.update_image_metadata(
            ADMIN, 5, begin, from_state="queued", attempt=ATTEMPT
        )
    assert noted(service, unfinished.Note(ATTEMPT, 5, 99)) == []
    found = service.registry.get_image_metadata(ADMIN, 5)
    assert (found["status"], found["size"], found["upload_via"]) == ("queued", 99, None)
    # The call that would have begun the upload comes late.
    with pytest.raises(exception.Duplicate):
        service.registry.update_image_metadata(
            ADMIN, 5, begin, from_state="queued", attempt=ATTEMPT
        )
    assert service.registry.get_image_metadata(ADMIN, 5)["status"] == "queued"
    assert api("PUT", f"{URL}/5", {}, b"x" * 99).status_int == 200


@pytest.mark.usefixtures("_at_once")
def test_a_queued_image_that_is_to_be_queued_stays_queued(api, service, monkeypatch):
    """Meanwhile nobody would be able to upload its data."""
    api.add(id=5, size=99)
    seen, told = [], []
    update = service.registry.update_image_metadata

    def spy(*args, **keywords):
        update(*args, **keywords)
        seen.append(service.registry.get_image_metadata(ADMIN, 5)["status"])

    monkeypatch.setattr(service.registry, "update_image_metadata", spy)
    monkeypatch.setattr(events.Events, "failed", lambda self, *what: told.append(what))
    assert noted(service, unfinished.Note(ATTEMPT, 5, 99)) == []
    assert (seen, told) == (["queued"], [])


def test_staged_data_is_settled_before_the_notes(service, monkeypatch):
    """Data does not know its attempt: later it would end an upload that began in between."""
    order = []
    monkeypatch.setattr(recovery, "settle", lambda *args: order.append(args[1:]))
    monkeypatch.setattr(recovery, "_settle_notes", lambda *args: order.append(args[1:]))
    monkeypatch.setattr(recovery.tasks, "spawn", lambda act, *args: act(*args))
    left = Left(5, committed=False)
    monkeypatch.setattr(service.stores, "sweep", lambda: [left])
    directory = service.stores.local_directories()[0]
    process = unfinished.Unfinished(directory)
    process.keep(unfinished.Note(ATTEMPT, 5, 99))
    process._file.close()
    recovery.start(service)
    (found,), (noted,) = order
    assert found == [left]
    assert noted.notes == [unfinished.Note(ATTEMPT, 5, 99)]
    noted.remove()


@pytest.mark.usefixtures("_at_once")
def test_a_failure_that_only_a_note_tells_of_is_an_event(api, service, monkeypatch):
    api.add(id=5)
    told = []
    monkeypatch.setattr(
        events.Events, "failed", lambda self, *what: told.append((what[0], what[2]))
    )
    noted(service, unfinished.Note(ATTEMPT, 5))
    assert told == [("image.upload", 5)]
    noted(service, unfinished.Note(ATTEMPT, 5))
    assert len(told) == 1


@pytest.mark.usefixtures("_at_once")
def test_a_note_of_long_ago_is_looked_at_once(service, monkeypatch):
    monkeypatch.setattr(unfinished, "LATE_CALL", -1)
    looks = []
    monkeypatch.setattr(recovery, "withdraw", lambda *args: looks.append(args) and False)
    assert noted(service, unfinished.Note(ATTEMPT)) == []
    assert len(looks) == 1


@pytest.mark.usefixtures("_at_once")
def test_the_upload_of_another_caller_goes_on(api, service):
    api.add(id=5)
    service.registry.update_image_metadata(
        ADMIN, 5, {"status": "saving"}, from_state="queued", attempt="b" * 32
    )
    assert noted(service, unfinished.Note(ATTEMPT, 5)) == []
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "saving"


@pytest.mark.usefixtures("_at_once")
def test_an_image_that_is_complete_stays(api, service):
    api.add(PAYLOAD, id=5)
    assert noted(service, unfinished.Note(ATTEMPT, 5), unfinished.Note(ATTEMPT)) == []
    assert api("GET", URL + "/5").body == PAYLOAD


@pytest.mark.usefixtures("_at_once")
def test_without_the_registry_the_notes_stay(registry, service):
    registry.stop()
    (left,) = noted(service, unfinished.Note(ATTEMPT, 5))
    assert left.notes == [unfinished.Note(ATTEMPT, 5)]
    left.remove()

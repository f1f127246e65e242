"""Restoring a deleted image through both services: what is restored, for whom, and what is not."""

import pytest

from glance.common import exception
from glance.registry.db import engine, scrub_queue
from glance.store import filesystem
from tests.unit.api.conftest import PAYLOAD, Api, Registry

URL = "/v1/images"
OWNER = {"tenant": "owner", "user": "u", "roles": "member"}
OTHER = {"tenant": "other", "user": "u", "roles": "member"}
JANITOR = {"tenant": "cleaners", "user": "u", "roles": "Janitor"}
ADMIN = {"tenant": "root", "user": "u", "roles": "admin"}


@pytest.fixture
def make(tmp_path, template):
    made = []

    def start(**options):
        options = {"delayed_delete": "True", "scrub_time": "3600", **options}
        made.append(Registry(tmp_path, template, **options))
        return Api(made[-1], tmp_path, **options)

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def keeping(make):
    """An API that leaves the data of deleted images to the scrubber."""
    return make()


@pytest.fixture
def db(tmp_path):
    opened = engine.Database(f"sqlite:///{tmp_path}/registry.sqlite")
    yield opened
    opened.dispose()


def statuses(api):
    listed = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    return {image["id"]: image["status"] for image in listed}


def test_an_image_is_back_with_data_and_properties(keeping, db):
    headers = {"x-image-meta-property-distro": "Debian"}
    before = keeping.add(PAYLOAD, headers, id=5, name="web")
    keeping("DELETE", URL + "/5")
    assert statuses(keeping) == {5: "pending_delete"}
    restored = keeping("POST", URL + "/5/restore")
    assert restored.status_int == 200
    image = restored.json["image"]
    same = before.keys() - {"updated_at", "location"}
    assert {name: image[name] for name in same} == {name: before[name] for name in same}
    assert "ETag" not in restored.headers
    assert keeping("GET", URL + "/5").body == PAYLOAD
    assert (statuses(keeping), scrub_queue.entries(db)) == ({}, [])


def test_an_image_is_restored_by_its_uuid_too(keeping):
    number = keeping.add(PAYLOAD)["id"]
    name = keeping("HEAD", f"{URL}/{number}").headers["X-Openstack-Image-Uuid"]
    assert keeping("POST", f"{URL}/{name}/restore").status_int == 409
    assert keeping("DELETE", f"{URL}/{name}").status_int == 200
    restored = keeping("POST", f"{URL}/{name}/restore")
    assert restored.json["image"]["id"] == number
    assert not {"uuid", "tags"} & set(restored.json["image"])
    assert keeping("GET", f"{URL}/{name}").body == PAYLOAD
    assert keeping("POST", f"{URL}/{name[:-1]}x/restore").status_int == 404


def test_who_restores_again_is_told_that_the_image_is_there(keeping):
    keeping.add(PAYLOAD, id=5)
    refused = keeping("POST", URL + "/5/restore")
    assert (refused.status_int, "is active, and not deleted" in refused.text) == (409, True)
    keeping("DELETE", URL + "/5")
    assert keeping("POST", URL + "/5/restore").status_int == 200
    assert keeping("POST", URL + "/5/restore").status_int == 409


@pytest.mark.parametrize("image_id", ["9", "x", "99999999999999999999", "%20"])
def test_what_never_was_cannot_be_restored(keeping, image_id):
    assert keeping("POST", f"{URL}/{image_id}/restore").status_int == 404


def test_data_that_was_removed_is_gone(api):
    api.add(PAYLOAD, id=5)
    api("DELETE", URL + "/5")
    refused = api("POST", URL + "/5/restore")
    assert (refused.status_int, statuses(api)) == (410, {5: "deleted"})
    assert "has been removed" in refused.text


def test_data_that_the_store_has_lost_is_gone(keeping):
    keeping.add(PAYLOAD, id=5)
    keeping("DELETE", URL + "/5")
    (keeping.datadir / "5").unlink()
    refused = keeping("POST", URL + "/5/restore")
    assert (refused.status_int, statuses(keeping)) == (410, {5: "pending_delete"})
    assert str(keeping.datadir) not in refused.text


def test_incomplete_data_is_not_restored(keeping):
    keeping.add(PAYLOAD, id=5)
    keeping("DELETE", URL + "/5")
    (keeping.datadir / "5").write_bytes(PAYLOAD[:-1])
    refused = keeping("POST", URL + "/5/restore")
    assert (refused.status_int, statuses(keeping)) == (409, {5: "pending_delete"})
    assert f"{len(PAYLOAD) - 1} of them are left" in refused.text


def test_data_that_a_scrubber_is_removing_is_not_restored(keeping, db):
    keeping.add(PAYLOAD, id=5)
    keeping("DELETE", URL + "/5")
    until = scrub_queue.records.utcnow() + scrub_queue.LEASE
    db.transaction(lambda conn: conn.execute(scrub_queue.queue.update().values(lease_until=until)))
    refused = keeping("POST", URL + "/5/restore")
    assert (refused.status_int, "being removed now" in refused.text) == (409, True)


def test_a_store_that_cannot_tell_is_no_reason_to_restore(keeping, monkeypatch):
    def fail(self, location):
        raise exception.BackendUnavailable()

    keeping.add(PAYLOAD, id=5)
    keeping("DELETE", URL + "/5")
    with monkeypatch.context() as patched:
        patched.setattr(filesystem.FilesystemStore, "get_size", fail)
        assert keeping("POST", URL + "/5/restore").status_int == 503
    assert statuses(keeping) == {5: "pending_delete"}
    assert keeping("POST", URL + "/5/restore").status_int == 200


def test_a_store_that_is_not_enabled_is_a_conflict(keeping, db):
    keeping.add(PAYLOAD, id=5)
    keeping("DELETE", URL + "/5")
    elsewhere = scrub_queue.images.update().values(location="nowhere://u:secret@h/5")
    db.transaction(lambda conn: conn.execute(elsewhere))
    refused = keeping("POST", URL + "/5/restore")
    assert (refused.status_int, "secret" in refused.text) == (409, False)


@pytest.mark.parametrize(
    ("caller", "options", "status"),
    [
        (OWNER, {}, 403),
        (OTHER, {}, 403),
        (JANITOR, {}, 403),
        (ADMIN, {}, 200),
        (JANITOR, {"policy_restore_image": "janitor"}, 200),
        (ADMIN, {"policy_restore_image": "nobody"}, 403),
    ],
)
def test_who_may_restore(make, caller, options, status):
    api = make(auth_mode="trusted-headers", **options)
    image_id = api("POST", URL, None, PAYLOAD, **OWNER).json["image"]["id"]
    assert api("DELETE", f"{URL}/{image_id}", **OWNER).status_int == 200
    done = api("POST", f"{URL}/{image_id}/restore", **caller)
    assert done.status_int == status
    assert api("GET", f"{URL}/{image_id}", **OWNER).status_int == (200 if status == 200 else 404)
    if status == 403:
        assert "restore deleted images" in done.text
        # Nor does it tell whether there is, or was, such an image.
        assert api("POST", f"{URL}/999/restore", **caller).status_int == 403


def test_only_administrators_see_deleted_images(make):
    api = make(auth_mode="trusted-headers")
    image_id = api("POST", URL, None, PAYLOAD, **OWNER).json["image"]["id"]
    api("DELETE", f"{URL}/{image_id}", **OWNER)
    query = "?deleted=true&is_public=none"
    for caller, found in ((OWNER, []), (OTHER, []), (ADMIN, [image_id])):
        for path in (URL, f"{URL}/detail"):
            listed = api("GET", path + query, **caller).json["images"]
            assert [image["id"] for image in listed] == found


def test_a_registry_restores_for_its_api_only(make, tmp_path):
    api = make(registry_shared_secret="s3cret")
    api.add(PAYLOAD, id=5)
    api("DELETE", URL + "/5")
    stranger = Api(api.registry, tmp_path)
    assert stranger("POST", URL + "/5/restore").status_int == 401
    assert api("POST", URL + "/5/restore").status_int == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_restoring_is_a_post(keeping, method):
    assert keeping(method, URL + "/5/restore").status_int == 405

"""Full records below `/v2`: creating, showing, deltas, steps of the status, tags, deleting."""

from __future__ import annotations

import concurrent.futures
import datetime
from collections.abc import Callable
from typing import Any

import pytest

from glance.client import base
from glance.registry.db import full_records, visibility
from glance.registry.db.upkeep import maintenance
from tests.unit.registry.conftest import ADMIN, Registry
from tests.unit.registry.v2.conftest import ANONYMOUS, OWNER, STRANGER, V2

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
LATER = datetime.datetime(2999, 1, 1)


def test_a_new_record_has_all_that_version_2_shows(v2: V2) -> None:
    given = {"name": "n", "min_ram": 5, "properties": {"Trait:X y/ü": ""}, "tags": ["b", "a", "b"]}
    image = v2.create(**given)
    assert image["status"] == "queued" and image["owner"] == "owner"
    assert image["visibility"] == "shared" and image["is_public"] is False
    assert image["tags"] == ["a", "b"]
    assert image["properties"] == {"Trait:X y/ü": ""}
    assert image["os_hidden"] is False and image["virtual_size"] is None
    assert len(image["uuid"]) == 36 and isinstance(image["id"], int)
    assert v2.show(image) == image


def test_old_paths_name_the_uuid_of_a_record(v2: V2, registry: Registry) -> None:
    image = registry.create(name="by version 1")
    assert image["visibility"] == "shared" and v2.show(image)["id"] == image["id"]
    chosen = registry.create(uuid=UUID.upper())
    assert chosen["uuid"] == UUID
    # It is for the creation alone.
    assert registry.update(chosen["id"], uuid=image["uuid"], name="n")["uuid"] == UUID


def test_lists_of_version_1_have_no_new_keys(v2: V2, registry: Registry) -> None:
    v2.create(visibility="public")
    brief = registry.get("/images")["images"][0]
    assert brief.keys() == {
        "id",
        "name",
        "size",
        "disk_format",
        "container_format",
        "checksum",
    }
    detailed = registry.get("/images/detail")["images"][0]
    assert not {"uuid", "visibility", "tags"} & detailed.keys()


def test_a_uuid_is_never_used_twice(v2: V2, registry: Registry) -> None:
    def refused(**values: Any) -> bool:
        response = v2.call("POST", "", {"image": {**values}})
        older = registry.call("POST", "/images", {"image": {**values}})
        return response.status_int == older.status_int == 409

    image = v2.create(uuid=UUID.upper())
    assert image["uuid"] == UUID
    assert refused(uuid=UUID) and refused(uuid=UUID.upper())
    assert v2.call("DELETE", f"/{UUID}").status_int == 200
    assert refused(uuid=UUID)
    # The highest id stays, whatever its age.
    v2.create()
    assert maintenance.purge(registry.db, LATER) == 1
    assert refused(uuid=UUID)
    assert v2.call("GET", f"/{UUID}", context=ADMIN).status_int == 404


@pytest.mark.parametrize("uuid", ["7", "x", "", UUID[:-1], UUID + "0", UUID[:-1] + "g", 7, None])
def test_what_is_no_uuid_is_refused(v2: V2, uuid: Any) -> None:
    assert v2.call("POST", "", {"image": {"uuid": uuid}}).status_int == 400


@pytest.mark.parametrize("path", ["/7", "/x", "/%00", f"/{UUID}", f"/{UUID}0", "/a%2Fb"])
def test_a_path_without_an_image_is_not_found(v2: V2, path: str) -> None:
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert v2.call(method, path, body, ADMIN).status_int == 404


# -- deltas --------------------------------------------------------------------------------------


def test_a_delta_changes_fields_properties_and_tags(v2: V2) -> None:
    image = v2.create(properties={"keep": "1", "go": "2", "Foo": "3"}, tags=["old", "both"])
    response = v2.patch(
        image,
        set={"name": "new", "visibility": "private", "os_hidden": True, "protected": True},
        properties={"foo": "lower", "go2": ""},
        remove=["go"],
        must_exist=["keep", "go"],
        tags=["both", "fresh"],
    )
    assert response.status_int == 200, response.text
    changed = response.json["image"]
    assert changed["name"] == "new" and changed["visibility"] == "private"
    assert changed["os_hidden"] and changed["protected"] and not changed["is_public"]
    assert changed["properties"] == {"keep": "1", "Foo": "3", "foo": "lower", "go2": ""}
    assert changed["tags"] == ["both", "fresh"]
    assert changed["updated_at"] > image["updated_at"]
    assert v2.show(image) == changed


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"set": {"name": "n", "visibility": "shared"}, "tags": ["t", "t"]},
        {"properties": {"p": "1"}, "must_exist": ["p"]},
    ],
)
def test_a_delta_without_effect_leaves_the_time(v2: V2, change: dict[str, Any]) -> None:
    image = v2.create(name="n", properties={"p": "1"}, tags=["t"])
    response = v2.patch(image, **change)
    assert response.status_int == 200 and response.json["image"] == image


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"remove": ["absent"]}, 409),
        ({"must_exist": ["P"]}, 409),
        ({"from_state": ["active"]}, 409),
        ({"set": {"owner": "other"}}, 403),
        ({"set": {"visibility": "secret"}}, 400),
        ({"set": {"min_ram": -1}}, 400),
        ({"set": {"disk_format": "ami", "container_format": "bare"}}, 400),
        ({"set": []}, 400),
        ({"properties": {"p": None}}, 400),
        ({"properties": {"p": 5}}, 400),
        ({"properties": {"": "x"}}, 400),
        ({"properties": {"metadata": "x"}}, 400),
        ({"properties": {"size": "x"}}, 403),
        ({"properties": {f"q{number}": "x" for number in range(128)}}, 413),
        ({"tags": [f"t{number}" for number in range(129)]}, 413),
        ({"tags": [""]}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"tags": "text"}, 400),
    ],
)
def test_of_a_delta_with_a_fault_nothing_is_kept(
    v2: V2, change: dict[str, Any], status: int
) -> None:
    image = v2.create(name="n", properties={"p": "1"}, tags=["t"])
    good = {
        "set": {"name": "x"},
        "properties": {"q": "x"},
        "tags": ["x"],
    }
    merged = {
        name: {**good[name], **value} if isinstance(value, dict) and name in good else value
        for name, value in {**good, **change}.items()
    }
    assert v2.patch(image, **merged).status_int == status
    assert v2.show(image) == image


def test_formats_stay_once_there_is_data(v2: V2) -> None:
    image = v2.create(disk_format="raw", container_format="bare")
    assert v2.patch(image, set={"disk_format": "qcow2"}).status_int == 200
    v2.activate(image)
    assert v2.patch(image, set={"disk_format": "raw"}).status_int == 403
    assert v2.patch(image, set={"disk_format": "qcow2", "name": "n"}).status_int == 200


def test_an_administrator_gives_an_image_to_another(v2: V2) -> None:
    image = v2.create()
    assert v2.patch(image, set={"owner": "owner"}).status_int == 200
    assert v2.patch(image, ADMIN, set={"owner": "other"}).json["image"]["owner"] == "other"
    assert v2.patch(image, set={"name": "n"}).status_int == 404


def test_deltas_at_once_lose_nothing(v2: V2, registry: Registry) -> None:
    image = v2.create()

    def change(number: int) -> Any:
        delta: Any = {"properties": {f"p{number}": str(number)}}
        return full_records.record_patch(registry.db, OWNER, image["uuid"], delta)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(24)))
    assert v2.show(image)["properties"] == {f"p{number}": str(number) for number in range(24)}


# -- who may do what -----------------------------------------------------------------------------

WRITES: dict[str, Callable[[V2, dict[str, Any], Any], int]] = {
    "patch": lambda v2, image, who: v2.patch(image, who, set={"name": "x"}).status_int,
    "state": lambda v2, image, who: v2.step(image, "saving", "queued", context=who).status_int,
    "tag": lambda v2, image, who: (
        v2.call("PUT", f"/{image['uuid']}/tags/t", context=who).status_int
    ),
    "untag": lambda v2, image, who: (
        v2.call("DELETE", f"/{image['uuid']}/tags/t", context=who).status_int
    ),
    "delete": lambda v2, image, who: (
        v2.call("DELETE", f"/{image['uuid']}", context=who).status_int
    ),
    "share": lambda v2, image, who: v2.share(image, "m", who).status_int,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("word", "status"), [("public", 403), ("community", 403), ("private", 404), ("shared", 404)]
)
def test_a_stranger_is_told_apart_by_what_it_sees(
    v2: V2, write: str, word: str, status: int
) -> None:
    image = v2.create(visibility=word)
    assert WRITES[write](v2, image, STRANGER) == status
    assert WRITES[write](v2, image, ANONYMOUS) == 403
    assert v2.show(image) == image


def test_a_protected_image_is_not_deleted(v2: V2) -> None:
    image = v2.create(protected=True, properties={"A": "1"}, tags=["t"])
    path = f"/{image['uuid']}"
    assert v2.call("DELETE", path).status_int == 403
    v2.patch(image, set={"protected": False})
    deleted = v2.call("DELETE", path).json["image"]
    assert deleted["status"] == "deleted" and deleted["properties"] == {"A": "1"}
    assert v2.call("DELETE", path).status_int == 404


def test_a_registry_does_not_show_its_paths_to_clients_of_the_api(registry: Registry) -> None:
    response = registry.call("GET", "/v2/images")
    assert response.status_int == 404 and "This is the glance registry" in response.text


# -- steps of the status -------------------------------------------------------------------------


def test_one_of_two_steps_wins(v2: V2) -> None:
    image = v2.create()
    first = v2.step(image, "saving", "queued", upload_via="v2")
    assert first.json["image"]["upload_via"] == "v2"
    assert v2.step(image, "saving", "queued").status_int == 409
    done = v2.step(
        image,
        "active",
        "saving",
        size=7,
        checksum="0" * 32,
        location="file:///x",
        os_hash_algo="sha256",
        os_hash_value="ab",
        virtual_size=9,
    ).json["image"]
    assert done["size"] == 7 and done["virtual_size"] == 9 and done["os_hash_value"] == "ab"
    assert done["activated_at"] and v2.show(image) == done


@pytest.mark.parametrize("to", ["deleted", "pending_delete", "killed", "zz", None, 5])
def test_a_step_leads_to_a_status_that_it_may_lead_to(v2: V2, to: Any) -> None:
    image = v2.create()
    assert v2.step(image, to, "queued").status_int == 400
    assert v2.step(image, "deactivated", "queued").status_int == 409


def test_who_has_deactivated_an_image_may_activate_it_again(v2: V2) -> None:
    image = v2.activate(v2.create())
    both = ("active", "deactivated")
    for _ in range(2):
        assert v2.step(image, "deactivated", *both).json["image"]["status"] == "deactivated"
    for _ in range(2):
        assert v2.step(image, "active", *both).json["image"]["status"] == "active"
    assert v2.show(image)["activated_at"] == image["activated_at"]


def test_a_quarantine_is_not_ended_by_the_owner(v2: V2) -> None:
    image = v2.activate(v2.create())
    both = ("active", "deactivated")
    # The owner's own is turned into one.
    assert v2.step(image, "deactivated", *both).status_int == 200
    assert v2.step(image, "deactivated", *both, context=ADMIN).status_int == 200
    assert v2.step(image, "active", *both).status_int == 403
    assert v2.step(image, "deactivated", *both).status_int == 200
    assert v2.step(image, "active", *both).status_int == 403
    assert v2.step(image, "active", *both, context=ADMIN).status_int == 200
    assert v2.step(image, "deactivated", *both).status_int == 200
    assert v2.step(image, "active", *both).status_int == 200


def test_a_restored_image_is_in_quarantine_as_before(v2: V2, registry: Registry) -> None:
    image = v2.activate(v2.create())
    v2.step(image, "deactivated", "active", context=ADMIN)
    v2.call("DELETE", f"/{image['uuid']}?status=pending_delete&due_in=99")
    restored = registry.call("POST", f"/images/{image['id']}/restore").json["image"]
    assert restored["status"] == "deactivated" == v2.show(image)["status"]


# -- tags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["a", "Größe", "a b", "x" * 255, "%", "A"])
def test_a_tag_is_added_and_removed_once(v2: V2, tag: str) -> None:
    image = v2.create(tags=["z"])
    path = f"/{image['uuid']}/tags/{base.segment(tag)}"
    assert v2.call("PUT", path).status_int == 204
    tagged = v2.show(image)
    assert tagged["tags"] == sorted([tag, "z"]) and tagged["updated_at"] > image["updated_at"]
    assert v2.call("PUT", path).status_int == 204
    assert v2.show(image) == tagged
    assert v2.call("DELETE", path).status_int == 204
    assert v2.call("DELETE", path).status_int == 404
    assert v2.show(image)["tags"] == ["z"]


def test_tags_have_a_quota(new_registry: Callable[..., Registry]) -> None:
    v2 = V2(new_registry(image_tag_quota="2"))
    assert v2.call("POST", "", {"image": {"tags": ["a", "b", "c"]}}).status_int == 413
    image = v2.create(tags=["a", "b"])
    assert v2.call("PUT", f"/{image['uuid']}/tags/c").status_int == 413
    assert v2.call("PUT", f"/{image['uuid']}/tags/a").status_int == 204
    assert v2.show(image) == image


def test_tags_stay_with_a_deleted_image_until_its_purge(v2: V2, registry: Registry) -> None:
    image = v2.create(tags=["a"])
    v2.create()
    v2.call("DELETE", f"/{image['uuid']}")
    assert maintenance.purge(registry.db, LATER) == 1
    with registry.db.read() as conn:
        assert conn.execute(full_records.tags.select()).all() == []


def test_the_columns_of_visibility_always_agree() -> None:
    for is_public in (True, False):
        for word in ("public", "community", "shared", "private"):
            assert (visibility.effective(is_public, word) == "public") == is_public

"""Image records: create, show, change, delete."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.image import fields
from glance.registry.context import RequestContext
from glance.registry.db import deletion, models, scrub_queue

ADMIN = RequestContext(is_admin=True)
TENANT = RequestContext(tenant="t1", user="u1")
OTHER = RequestContext(tenant="t2", user="u2")
ANONYMOUS = RequestContext(read_only=True)
FULL = {
    *("id", "name", "status", "size", "disk_format", "container_format", "min_disk", "min_ram"),
    *("is_public", "location", "checksum", "owner", "created_at", "updated_at", "deleted_at"),
    *("deleted", "protected", "properties", "activated_at"),
    *("uuid", "visibility", "os_hidden", "os_hash_algo", "os_hash_value", "virtual_size"),
    *("deactivated_by_admin", "upload_via"),
}


# -- create --------------------------------------------------------------------------------------


def test_a_new_record_has_the_documented_defaults(registry: Any) -> None:
    image = registry.create()
    assert set(image) == FULL
    created = datetime.datetime.fromisoformat(image.pop("created_at"))
    assert abs(created - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)) < (
        datetime.timedelta(minutes=1)
    )
    assert image.pop("updated_at") == created.isoformat(timespec="microseconds")
    assert image.pop("activated_at") == created.isoformat(timespec="microseconds")
    assert fields.parse_uuid(image.pop("uuid"))
    assert image == {
        **dict.fromkeys(("name", "size", "disk_format", "container_format", "location")),
        **dict.fromkeys(("checksum", "owner", "deleted_at")),
        "id": 1,
        "status": "active",
        "min_disk": 0,
        "min_ram": 0,
        "is_public": False,
        "deleted": False,
        "protected": False,
        "properties": {},
        **dict.fromkeys(("os_hash_algo", "os_hash_value", "virtual_size", "upload_via")),
        "visibility": "shared",
        "os_hidden": False,
        "deactivated_by_admin": False,
    }


def test_a_record_is_stored_as_sent(registry: Any) -> None:
    sent = {
        "id": 12,
        "name": "caf\u00e9 \U0001f600",
        "status": "queued",
        "size": 5 * 2**30,
        "disk_format": "qcow2",
        "container_format": "bare",
        "min_ram": 256,
        "min_disk": 5,
        "is_public": True,
        "protected": True,
        "checksum": "c2e5db72bd7fd153f53ede5da5a06de3",
        "owner": "tenant1",
        "location": "swift://u:p@h/c/o",
        "properties": {"arch": "x86_64", "note": None},
    }
    registry.create(**sent)
    image = registry.get("/images/12")["image"]
    assert {name: image[name] for name in sent} == sent


def test_property_names_are_lowered_and_values_become_text(registry: Any) -> None:
    image = registry.create(properties={"Arch": "x", "n": 5, "b": True, "f": 1.5})
    assert image["properties"] == {"arch": "x", "n": "5", "b": "True", "f": "1.5"}


def test_what_cannot_be_written_is_ignored(registry: Any) -> None:
    image = registry.create(
        deleted=True, deleted_at="x", created_at="2001-01-01", members=[], store="s3", zzz=1
    )
    assert image["deleted"] is False and image["deleted_at"] is None
    assert image["created_at"] > "2001-01-02"


@pytest.mark.parametrize(
    "values,words",
    [
        ({"status": "bogus"}, ["status", "bogus"]),
        ({"status": None}, ["status"]),
        ({"status": ""}, ["status"]),
        ({"disk_format": "bogus"}, ["disk format", "bogus"]),
        ({"container_format": "bogus"}, ["container format", "bogus"]),
        ({"disk_format": "aki", "container_format": "ari"}, ["aki", "ari"]),
        ({"disk_format": "vhd", "container_format": "ami"}, ["vhd", "ami"]),
        ({"size": "x"}, ["size"]),
        ({"size": -1}, ["size"]),
        ({"size": 2**63}, ["size"]),
        ({"size": 1.5}, ["size"]),
        ({"size": True}, ["size"]),
        ({"min_ram": 2**31}, ["min_ram"]),
        ({"min_disk": [1]}, ["min_disk"]),
        ({"is_public": "maybe"}, ["is_public"]),
        ({"is_public": {}}, ["is_public"]),
        ({"protected": "maybe"}, ["protected"]),
        ({"checksum": "123"}, ["checksum"]),
        ({"name": "n" * 256}, ["name"]),
        ({"name": "a\r\nb"}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"name": "\ud800"}, ["name"]),
        ({"owner": "o" * 256}, ["owner"]),
        ({"owner": "a\x00b"}, ["owner"]),
        ({"location": "file:///\n"}, ["location"]),
        ({"id": 0}, ["id"]),
        ({"id": -5}, ["id"]),
        ({"id": 2**31}, ["id"]),
        ({"id": "abc"}, ["id"]),
        ({"properties": [1]}, ["properties"]),
        ({"properties": {"a": {}}}, ["property a"]),
        ({"properties": {"a": [1]}}, ["property a"]),
        ({"properties": {"a": "x\ny"}}, ["property a"]),
        ({"properties": {"a": "v" * 65536}}, ["property a"]),
        ({"properties": {"": "v"}}, ["name"]),
        ({"properties": {"n" * 256: "v"}}, ["property name"]),
        ({"properties": {"a\n": "v"}}, ["property name"]),
        ({"properties": {"A": "1", "a": "2"}}, ["twice"]),
    ],
    ids=str,
)
def test_bad_values_are_refused_with_their_cause(
    registry: Any, values: dict[str, Any], words: list[str]
) -> None:
    response = registry.call("POST", "/images", {"image": {"status": "queued", **values}})
    assert response.status_int == 400
    assert response.content_type == "text/plain"
    for word in words:
        assert word in response.text
    assert registry.listed("is_public=none") == []


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b'"image"',
        b"null",
        b"{}",
        b'{"image": null}',
        b'{"image": []}',
        b'{"image": {"size": 1e999}}',
        b'{"image": {"size": NaN}}',
        b'{"image": {"properties": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}}",
        b"[" * 100000,
    ],
)
@pytest.mark.parametrize("method,path", [("POST", "/images"), ("PUT", "/images/1")])
def test_a_body_that_is_no_image_is_refused(
    registry: Any, method: str, path: str, body: bytes | None
) -> None:
    registry.create()
    assert registry.call(method, path, body).status_int == 400


def test_a_body_above_one_mebibyte_is_refused(registry: Any) -> None:
    body = {"image": {"name": "x", "junk": "j" * 2**20}}
    assert registry.call("POST", "/images", body).status_int == 413


@pytest.mark.parametrize("kind", ["ami", "ari", "aki"])
def test_a_lone_amazon_format_fills_in_the_other(registry: Any, kind: str) -> None:
    assert registry.create(disk_format=kind)["container_format"] == kind
    assert registry.create(container_format=kind)["disk_format"] == kind


@pytest.mark.parametrize("word", ["false", "0", "no", "False"])
def test_a_word_for_false_is_false(registry: Any, word: str) -> None:
    assert registry.create(is_public=word)["is_public"] is False


def test_a_taken_id_is_a_conflict_that_names_it(registry: Any) -> None:
    registry.create(id=7)
    response = registry.call("POST", "/images", {"image": {"id": 7}})
    assert response.status_int == 409 and "7" in response.text


def test_the_id_of_a_deleted_image_stays_taken(registry: Any) -> None:
    registry.create(id=7)
    assert registry.call("DELETE", "/images/7").status_int == 200
    assert registry.call("POST", "/images", {"image": {"id": 7}}).status_int == 409
    assert registry.create()["id"] == 8


def test_a_failed_create_leaves_no_properties(registry: Any) -> None:
    registry.create(id=7)
    registry.call("POST", "/images", {"image": {"id": 7, "properties": {"a": "b"}}})
    assert registry.get("/images/7")["image"]["properties"] == {}


@pytest.mark.parametrize(
    "context,sent,stored",
    [
        (TENANT, {}, "t1"),
        (TENANT, {"owner": "t2"}, "t1"),
        (TENANT, {"owner": None}, "t1"),
        (ADMIN, {}, None),
        (ADMIN, {"owner": "t2"}, "t2"),
        (ADMIN, {"owner": ""}, None),
        (RequestContext(is_admin=True, tenant="boss"), {}, "boss"),
        (RequestContext(is_admin=True, tenant="boss"), {"owner": None}, None),
        (RequestContext(tenant="t1", user="u1", owner_is_tenant=False), {}, "u1"),
    ],
)
def test_the_owner_is_the_caller_unless_an_administrator_says_otherwise(
    registry: Any, context: RequestContext, sent: dict[str, Any], stored: str | None
) -> None:
    assert registry.create(context, **sent)["owner"] == stored


def test_property_quota_refuses_growth_only(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(image_property_quota="2")
    many = {"a": "1", "b": "2", "c": "3"}
    body = {"image": {"properties": many}}
    assert registry.call("POST", "/images", body).status_int == 413
    registry.create(properties={"a": "1", "b": "2"})
    response = registry.call("PUT", "/images/1", {"image": {"properties": {"c": "3"}}})
    assert response.status_int == 413
    purge = {"X_Glance_Registry_Purge_Props": "true"}
    response = registry.call("PUT", "/images/1", {"image": {"properties": {"c": "3"}}}, **purge)
    assert response.status_int == 200


@pytest.mark.parametrize("quota", ["0", "-1"])
def test_a_quota_that_is_not_positive_is_none(
    new_registry: Callable[..., Any], quota: str
) -> None:
    registry = new_registry(image_property_quota=quota)
    properties = {f"p{number}": "v" for number in range(200)}
    assert registry.create(properties=properties)["properties"] == properties


# -- show ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_id", ["2", "abc", " 1", "+1", "1_0", "1.5", "9" * 19, "9" * 40, "new"]
)
def test_no_such_image(registry: Any, image_id: str) -> None:
    registry.create()
    assert registry.call("GET", f"/images/{image_id}").status_int == 404


def test_a_killed_image_is_there_by_its_id(registry: Any) -> None:
    registry.create(status="killed")
    assert registry.get("/images/1")["image"]["status"] == "killed"


def test_what_the_caller_may_not_see_is_not_there(registry: Any) -> None:
    registry.create(TENANT)
    assert registry.get("/images/1", TENANT)["image"]["owner"] == "t1"
    for method, body in (("GET", None), ("PUT", {"image": {}}), ("DELETE", None)):
        assert registry.call(method, "/images/1", body, OTHER).status_int == 404
    assert registry.call("GET", "/images/1", context=ANONYMOUS).status_int == 404


# -- update --------------------------------------------------------------------------------------


def test_an_update_changes_what_it_names_and_the_time(registry: Any) -> None:
    before = registry.create(name="a", min_ram=1, properties={"x": "1"})
    after = registry.update(1, name="b")
    assert after["updated_at"] > before["updated_at"]
    assert {**after, "updated_at": None} == {**before, "updated_at": None, "name": "b"}
    assert registry.get("/images/1")["image"] == after


def test_a_change_of_properties_alone_changes_the_time(registry: Any) -> None:
    before = registry.create()
    after = registry.update(1, properties={"x": "1"})
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    "header,kept",
    [("true", False), ("false", True), (None, True), ("True", True), ("1", True)],
)
def test_properties_are_purged_only_when_the_header_is_true(
    registry: Any, header: str | None, kept: bool
) -> None:
    registry.create(properties={"a": "1", "b": "2"})
    headers = {} if header is None else {"X_Glance_Registry_Purge_Props": header}
    response = registry.call("PUT", "/images/1", {"image": {"properties": {"a": "9"}}}, **headers)
    expected = {"a": "9", "b": "2"} if kept else {"a": "9"}
    assert response.json["image"]["properties"] == expected
    assert registry.get("/images/1")["image"]["properties"] == expected


def test_a_purged_property_comes_back_with_its_new_value(registry: Any) -> None:
    registry.create(properties={"a": "1"})
    assert registry.update(1, purge=True)["properties"] == {}
    row = _property_row(registry)
    assert row.deleted and row.deleted_at is not None
    assert registry.update(1, properties={"a": "2"})["properties"] == {"a": "2"}
    row = _property_row(registry)
    assert (row.value, row.deleted, row.deleted_at) == ("2", False, None)


def _property_row(registry: Any) -> Any:
    with registry.db.read() as conn:
        return conn.execute(sa.select(models.image_properties)).one()


def test_a_property_can_be_null_and_stays(registry: Any) -> None:
    registry.create(properties={"a": "1"})
    registry.update(1, properties={"a": None})
    assert registry.get("/images/1")["image"]["properties"] == {"a": None}


@pytest.mark.parametrize(
    "values",
    [
        {"status": "bogus"},
        {"status": None},
        {"disk_format": "bogus"},
        {"container_format": "ari"},
        {"size": "x"},
        {"min_ram": "x"},
        {"id": 5},
        {"id": "x"},
        {"is_public": None},
    ],
    ids=str,
)
def test_a_bad_update_changes_nothing(registry: Any, values: dict[str, Any]) -> None:
    before = registry.create(disk_format="vhd", container_format="ovf", properties={"a": "1"})
    body = {"image": {"name": "new", "properties": {"b": "2"}, **values}}
    assert registry.call("PUT", "/images/1", body).status_int == 400
    assert registry.get("/images/1")["image"] == before


def test_the_own_id_in_an_update_is_no_change(registry: Any) -> None:
    registry.create()
    assert registry.update(1, id=1, name="x")["name"] == "x"


def test_a_tenant_cannot_give_its_image_away(registry: Any) -> None:
    registry.create(TENANT)
    assert registry.update(1, TENANT, owner="t2", name="x")["owner"] == "t1"
    assert registry.update(1, ADMIN, owner="t2")["owner"] == "t2"
    assert registry.update(1, ADMIN, owner=None)["owner"] is None


def test_a_public_image_of_others_cannot_be_changed_and_looks_absent(registry: Any) -> None:
    registry.create(TENANT, is_public=True)
    assert registry.get("/images/1", OTHER)["image"]["id"] == 1
    for method, body in (("PUT", {"image": {"name": "x"}}), ("DELETE", None)):
        response = registry.call(method, "/images/1", body, OTHER)
        assert response.status_int == 404
        assert response.text == registry.call(method, "/images/99", body, OTHER).text.replace(
            "99", "1"
        )


@pytest.mark.parametrize(
    "old,new,status",
    [
        ("queued", "saving", 200),
        ("saving", "active", 200),
        ("queued", "active", 200),
        ("saving", "killed", 200),
        ("active", "active", 200),
        ("active", "queued", 409),
        ("active", "saving", 409),
        ("killed", "active", 409),
        ("deleted", "active", 409),
    ],
)
def test_the_status_moves_along_the_machine_only(
    registry: Any, old: str, new: str, status: int
) -> None:
    registry.create(status=old)
    response = registry.call("PUT", "/images/1", {"image": {"status": new}})
    assert response.status_int == status


def test_from_state_makes_an_update_a_compare_and_set(registry: Any) -> None:
    registry.create(status="queued")
    body = {"image": {"status": "saving"}, "from_state": "queued"}
    assert registry.call("PUT", "/images/1", body).status_int == 200
    assert registry.call("PUT", "/images/1", body).status_int == 409


def test_an_unknown_from_state_is_refused(registry: Any) -> None:
    registry.create(status="queued")
    for state in ("bogus", 5, [], {}):
        body = {"image": {}, "from_state": state}
        assert registry.call("PUT", "/images/1", body).status_int == 400


def test_a_change_of_an_attempt_may_arrive_twice(registry: Any) -> None:
    body = {"image": {"status": "queued"}, "attempt": "a" * 32, "repeated": True}
    made = [registry.call("POST", "/images", body).json["image"] for _ in range(2)]
    assert made[0] == made[1]
    body = {"image": {"status": "saving"}, "attempt": "a" * 32, "from_state": "queued"}
    for expected in (200, 200):
        assert registry.call("PUT", "/images/1", body).status_int == expected
    assert registry.call("PUT", "/images/1", {**body, "attempt": "b" * 32}).status_int == 409


def test_what_an_attempt_created_can_be_withdrawn_once(registry: Any) -> None:
    registry.call("POST", "/images", {"image": {"status": "queued"}, "attempt": "a" * 32})
    path = f"/attempts/{'a' * 32}"
    assert registry.call("DELETE", path, context=ANONYMOUS).status_int == 403
    assert registry.call("DELETE", path).json["image"]["id"] == 1
    for gone in (path, "/attempts/x"):
        assert registry.call("DELETE", gone).status_int == 404
    assert registry.call("GET", "/images/1").status_int == 404


@pytest.mark.parametrize("attempt", ["", "a", "A" * 32, "a" * 33, 5, [], {}])
@pytest.mark.parametrize("method, path", [("POST", "/images"), ("PUT", "/images/1")])
def test_an_attempt_without_a_proper_name_is_refused(
    registry: Any, method: str, path: str, attempt: Any
) -> None:
    registry.create(status="queued")
    body = {"image": {"status": "queued"}, "attempt": attempt}
    assert registry.call(method, path, body).status_int == 400


def test_of_many_claims_at_once_exactly_one_wins(registry: Any) -> None:
    registry.create(status="queued")
    statuses: list[int] = []

    def claim() -> None:
        body = {"image": {"status": "saving"}, "from_state": "queued"}
        statuses.append(registry.call("PUT", "/images/1", body).status_int)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


# -- delete --------------------------------------------------------------------------------------


def test_a_deleted_image_and_all_it_has_are_flagged_and_gone(registry: Any) -> None:
    registry.create(name="x", is_public=True, properties={"a": "1"})
    registry.create(is_public=True, properties={"a": "1"})
    registry.share(1, "t2")
    response = registry.call("DELETE", "/images/1")
    image = response.json["image"]
    assert set(image) == FULL
    assert (image["status"], image["deleted"], image["name"]) == ("deleted", True, "x")
    assert image["deleted_at"] == image["updated_at"]
    assert registry.listed() == [2]
    for method, body in (("GET", None), ("PUT", {"image": {}}), ("DELETE", None)):
        assert registry.call(method, "/images/1", body).status_int == 404
    with registry.db.read() as conn:
        for table in (models.image_properties, models.image_members):
            for row in conn.execute(sa.select(table).where(table.c.image_id == 1)):
                assert row.deleted and row.deleted_at is not None
    assert registry.get("/images/2")["image"]["properties"] == {"a": "1"}


@pytest.mark.parametrize(
    "old,query,new",
    [
        ("active", "", "deleted"),
        ("queued", "", "deleted"),
        ("pending_delete", "", "pending_delete"),
        ("active", "?status=pending_delete", "pending_delete"),
        ("active", "?status=deleted", "deleted"),
        ("pending_delete", "?status=deleted", "deleted"),
    ],
)
def test_the_status_of_a_deleted_image(registry: Any, old: str, query: str, new: str) -> None:
    registry.create(status=old, location="file:///1")
    assert registry.call("DELETE", f"/images/1{query}").json["image"]["status"] == new


def test_an_image_without_data_has_nothing_to_wait_for(registry: Any) -> None:
    registry.create(status="queued")
    answer = registry.call("DELETE", "/images/1?status=pending_delete")
    assert answer.json["image"]["status"] == "deleted"
    assert scrub_queue.entries(registry.db) == []


def test_data_that_must_go_is_queued_in_the_same_step(registry: Any) -> None:
    registry.create(location="file:///1")
    registry.call("DELETE", "/images/1?status=pending_delete&due_in=3600")
    (entry,) = scrub_queue.entries(registry.db)
    assert (entry.image_id, entry.item, entry.attempts, entry.leased) == (1, "data", 0, False)
    assert entry.due_at - entry.created_at == datetime.timedelta(hours=1)
    registry.call("DELETE", "/images/1?status=deleted")
    assert scrub_queue.entries(registry.db) == []


def test_data_can_be_left_to_the_api_for_a_while(registry: Any) -> None:
    registry.create(location="file:///1")
    registry.call("DELETE", "/images/1?status=pending_delete&lease=60")
    assert scrub_queue.entries(registry.db)[0].leased
    assert scrub_queue.lease(registry.db, "me", 10, kept_for=datetime.timedelta(0)) == []
    answer = registry.call("POST", "/images/1/scrub", {"scrub": {"error": "StoreForbidden"}})
    assert answer.status_int == 204
    (entry,) = scrub_queue.entries(registry.db)
    assert (entry.leased, entry.attempts, entry.last_error) == (False, 1, "StoreForbidden")


def test_a_failure_of_the_api_leaves_a_scrubbers_claim_alone(registry: Any) -> None:
    registry.create(location="file:///1")
    registry.call("DELETE", "/images/1?status=pending_delete")
    scrub_queue.lease(registry.db, "me", 10, kept_for=datetime.timedelta(0))
    registry.call("POST", "/images/1/scrub", {"scrub": {"error": "X"}})
    (entry,) = scrub_queue.entries(registry.db)
    assert (entry.leased, entry.attempts) == (True, 0)


def test_what_a_failed_upload_left_is_queued_once(registry: Any) -> None:
    registry.create(status="killed")
    left = {"scrub": {"error": "FailedUpload", "location": "file:///parts/1"}}
    for _ in range(2):
        assert registry.call("POST", "/images/1/scrub", left).status_int == 204
    (entry,) = scrub_queue.entries(registry.db)
    assert (entry.image_id, entry.attempts) == (1, 1)
    assert entry.item != scrub_queue.DATA
    assert registry.get("/images/1")["image"]["status"] == "killed"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scrub": []},
        {"scrub": {}},
        {"scrub": {"error": "two words"}},
        {"scrub": {"error": "X" * 65}},
        {"scrub": {"error": 5}},
        {"scrub": {"error": "X", "dead": "yes"}},
        {"scrub": {"error": "X", "location": 5}},
        {"scrub": {"error": "X", "location": "file:///" + "x" * 65535}},
    ],
)
def test_a_postponement_that_makes_no_sense_is_refused(registry: Any, body: Any) -> None:
    registry.create()
    assert registry.call("POST", "/images/1/scrub", body).status_int == 400
    assert scrub_queue.entries(registry.db) == []


def test_only_who_may_delete_an_image_may_postpone_its_scrubbing(registry: Any) -> None:
    registry.create(location="file:///1", owner="t1", is_public=True)
    left = {"scrub": {"error": "X", "location": "file:///parts/1"}}
    other = RequestContext(tenant="t2", user="u2")
    assert registry.call("POST", "/images/1/scrub", left, other).status_int == 404
    assert registry.call("POST", "/images/9/scrub", left).status_int == 404
    owner = RequestContext(tenant="t1", user="u1")
    assert registry.call("POST", "/images/1/scrub", left, owner).status_int == 204
    registry.call("DELETE", "/images/1", context=owner)
    assert registry.call("POST", "/images/1/scrub", left, owner).status_int == 204


@pytest.mark.parametrize("query", ["due_in=-1", "lease=x", "due_in=99999999999", "lease=1.5"])
def test_odd_times_of_a_deletion_are_refused(registry: Any, query: str) -> None:
    registry.create(location="file:///1")
    answer = registry.call("DELETE", f"/images/1?status=pending_delete&{query}")
    assert answer.status_int == 400
    assert registry.listed("is_public=none") == [1]


def test_a_restored_image_is_as_it_was(registry: Any) -> None:
    registry.create(location="file:///1", size=4, properties={"a": "1", "b": "2"}, owner="t1")
    registry.update(1, purge=True, properties={"a": "1"})
    registry.share(1, "t2")
    registry.share(1, "t3")
    registry.call("DELETE", "/images/1/members/t3")
    before = registry.get("/images/1")["image"]
    registry.call("DELETE", "/images/1?status=pending_delete")
    deletion.image_restore(registry.db, 1)
    after = registry.get("/images/1")["image"]
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
    members = registry.get("/images/1/members")["members"]
    assert [member["member_id"] for member in members] == ["t2"]
    assert scrub_queue.entries(registry.db) == []


def test_delete_takes_two_statuses_only(registry: Any) -> None:
    registry.create()
    assert registry.call("DELETE", "/images/1?status=active").status_int == 400
    assert registry.listed("is_public=none") == [1]


def test_a_protected_image_cannot_be_deleted(registry: Any) -> None:
    registry.create(protected=True)
    assert registry.call("DELETE", "/images/1").status_int == 403
    registry.update(1, protected=False)
    assert registry.call("DELETE", "/images/1").status_int == 200


# -- who may write -------------------------------------------------------------------------------


@pytest.mark.parametrize("image_id", ["1", "99", "x"])
def test_a_read_only_caller_is_refused_before_anything_else(registry: Any, image_id: str) -> None:
    registry.create()
    for method, path, body in (
        ("POST", "/images", b"junk"),
        ("PUT", f"/images/{image_id}", b"junk"),
        ("DELETE", f"/images/{image_id}?status=junk", None),
        ("POST", f"/images/{image_id}/scrub", b"junk"),
        ("PUT", f"/images/{image_id}/members", b"junk"),
        ("PUT", f"/images/{image_id}/members/t", b"junk"),
        ("DELETE", f"/images/{image_id}/members/t", None),
    ):
        assert registry.call(method, path, body, ANONYMOUS).status_int == 403

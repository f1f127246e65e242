"""What the functions over the database do alike on every kind of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from glance.common import exception
from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models

ADMIN = RequestContext(is_admin=True)
TENANT = RequestContext(tenant="t1", user="u")


def create(database: engine.Database, **values: Any) -> dict[str, Any]:
    return api.image_create(database, ADMIN, {"status": "active", "is_public": True, **values})


def test_a_record_comes_back_as_it_was_returned(any_database: engine.Database) -> None:
    made = create(
        any_database,
        name="caf\u00e9 \U0001f600",
        size=2**62,
        owner="t1",
        properties={"a": "1", "b": None},
    )
    assert api.image_get(any_database, ADMIN, made["id"]) == made
    changed = api.image_update(
        any_database, ADMIN, made["id"], {"name": "x", "properties": {"a": "2"}}, purge_props=True
    )
    assert changed["properties"] == {"a": "2"}
    assert api.image_get(any_database, ADMIN, made["id"]) == changed
    gone = api.image_delete(any_database, ADMIN, made["id"], "pending_delete")
    seeing = RequestContext(is_admin=True, show_deleted=True)
    assert api.image_get(any_database, seeing, made["id"]) == {**gone, "properties": {}}


def test_the_moment_at_which_the_data_is_complete_is_kept(any_database: engine.Database) -> None:
    """Only new data moves it, not a new name, nor a deletion that is undone."""
    made = create(any_database, status="queued")
    assert made["activated_at"] is None
    for status in ("saving", "active"):
        changed = api.image_update(any_database, ADMIN, made["id"], {"status": status})
        assert (changed["activated_at"] == changed["updated_at"]) == (status == "active")
    moment = changed["activated_at"]
    renamed = api.image_update(any_database, ADMIN, made["id"], {"name": "x", "location": "file:"})
    assert renamed["updated_at"] > moment
    api.image_delete(any_database, ADMIN, made["id"], "pending_delete")
    restored = api.image_restore(any_database, made["id"])
    assert renamed["activated_at"] == restored["activated_at"] == moment
    other = api.image_update(any_database, ADMIN, made["id"], {"checksum": "0" * 32})
    assert other["activated_at"] == other["updated_at"] > moment
    assert api.image_get(any_database, ADMIN, made["id"])["activated_at"] == other["activated_at"]


def test_an_image_that_is_registered_active_has_its_data(any_database: engine.Database) -> None:
    made = create(any_database)
    assert made["activated_at"] == made["created_at"]
    assert api.image_get(any_database, ADMIN, made["id"]) == made


def test_maintenance_may_finish_a_deleted_image(any_database: engine.Database) -> None:
    image_id = create(any_database)["id"]
    api.image_delete(any_database, ADMIN, image_id, "pending_delete")
    with pytest.raises(exception.ImageNotFound):
        api.image_update(any_database, ADMIN, image_id, {"status": "deleted"})
    seeing = RequestContext(is_admin=True, show_deleted=True)
    image = api.image_update(any_database, seeing, image_id, {"status": "deleted"})
    assert (image["status"], image["deleted"]) == ("deleted", True)


def test_proposed_ids_do_not_stop_the_counting(any_database: engine.Database) -> None:
    first = create(any_database)["id"]
    for step in (1, 2, 3, 10):
        create(any_database, id=first + step)
    with pytest.raises(exception.Duplicate, match=str(first + 2)):
        create(any_database, id=first + 2)
    numbers = {create(any_database)["id"] for _ in range(12)}
    assert len(numbers) == 12 and not numbers & {first + step for step in (0, 1, 2, 3, 10)}


@pytest.mark.parametrize("key", ["name", "size", "updated_at", "disk_format"])
def test_nulls_are_smaller_than_any_value(any_database: engine.Database, key: str) -> None:
    values = [None, "a", None, "b"] if key in ("name", "disk_format") else [None, 1, None, 2]
    for number, value in enumerate(values, 1):
        create(any_database, id=number)
        if key != "updated_at":
            with any_database.write() as conn:
                conn.execute(
                    models.images.update().where(models.images.c.id == number).values({key: value})
                )
        elif value is None:
            with any_database.write() as conn:
                conn.execute(
                    models.images.update().where(models.images.c.id == number).values({key: None})
                )
    for direction, expected in (("asc", [1, 3, 2, 4]), ("desc", [4, 2, 3, 1])):
        walk: list[int] = []
        while True:
            query = listing.ListQuery(
                sort_key=key, sort_dir=direction, limit=1, marker=walk[-1] if walk else None
            )
            page = api.image_list(any_database, ADMIN, query)
            if not page:
                break
            walk.append(page[0]["id"])
        assert walk == expected


def test_every_filter_is_a_statement_that_runs(any_database: engine.Database) -> None:
    image = create(any_database, name="n", size=5, properties={"a": "1", "b": "2"})
    query = listing.ListQuery(
        filters={"name": "n", "status": "active", "min_ram": 0, "protected": False},
        properties={"a": "1", "b": "2"},
        size_min=5,
        size_max=5,
        changes_since=image["created_at"].replace(year=2000),
        deleted=None,
        include_killed=True,
    )
    for context in (ADMIN, TENANT, RequestContext(), RequestContext(is_admin=True, tenant="t1")):
        for is_public in (True, False, None):
            shown = {**{f: getattr(query, f) for f in query.__slots__}, "is_public": is_public}
            page = api.image_list(any_database, context, listing.ListQuery(**shown))
            assert [found["id"] for found in page] == ([] if is_public is False else [image["id"]])


def test_of_many_updates_at_once_none_is_lost(any_database: engine.Database) -> None:
    image_id = create(any_database)["id"]
    names = [f"p{number}" for number in range(6)]
    threads = [
        threading.Thread(
            target=api.image_update,
            args=(any_database, ADMIN, image_id, {"properties": {name: "v"}}),
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    properties = api.image_get(any_database, ADMIN, image_id)["properties"]
    assert sorted(properties) == names


def test_of_many_claims_of_a_queued_image_one_wins(any_database: engine.Database) -> None:
    image_id = create(any_database, status="queued")["id"]
    won: list[int] = []

    def claim(number: int) -> None:
        try:
            api.image_update(
                any_database, ADMIN, image_id, {"status": "saving"}, from_state="queued"
            )
            won.append(number)
        except exception.Conflict:
            pass

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_members_are_added_changed_and_revived(any_database: engine.Database) -> None:
    image_id = create(any_database, is_public=False, owner="t1")["id"]
    api.member_replace(any_database, TENANT, image_id, [("a", True), ("b", None)])
    api.member_replace(any_database, TENANT, image_id, [("b", True), ("c", None)])
    api.member_add(any_database, TENANT, image_id, "a")
    api.member_delete(any_database, TENANT, image_id, "c")
    found = {
        row["member"]: row["can_share"] for row in api.member_list(any_database, TENANT, image_id)
    }
    assert found == {"a": False, "b": True}
    assert api.member_images(any_database, ADMIN, "b") == [
        {"image_id": image_id, "can_share": True}
    ]


def test_properties_of_old_databases_are_found_whatever_their_case(
    database: engine.Database,
) -> None:
    create(database, properties={"arch": "x"})
    with database.write() as conn:
        conn.execute(models.image_properties.update().values(name="Arch"))
    image = api.image_update(database, ADMIN, 1, {"properties": {"arch": "y"}})
    assert image["properties"] == {"arch": "y"}
    assert api.image_get(database, ADMIN, 1)["properties"] == {"arch": "y"}


# -- the storage of an owner ---------------------------------------------------------------------


def test_uploads_that_begin_at_once_share_the_quota(any_database: engine.Database) -> None:
    ids = [api.image_create(any_database, TENANT, RESERVED)["id"] for _ in range(6)]
    begun, refused = [], []

    def begin(image_id: int) -> None:
        values = {"status": "saving", "size": 40}
        try:
            api.image_update(
                any_database, TENANT, image_id, values, from_state="queued", storage_quota=100
            )
            begun.append(image_id)
        except exception.QuotaExceeded:
            refused.append(image_id)

    threads = [threading.Thread(target=begin, args=(image_id,)) for image_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(begun), len(refused)) == (2, 4)
    first, second = (api.image_get(any_database, TENANT, image_id) for image_id in begun)
    assert api.image_room(any_database, first, 100) == 60
    assert api.image_room(any_database, first, 0) is None
    assert api.image_room(any_database, {**first, "owner": None}, 100) is None
    with pytest.raises(exception.QuotaExceeded):
        api.image_update(any_database, TENANT, second["id"], {"size": 61}, storage_quota=100)
    api.image_update(any_database, TENANT, first["id"], {"status": "killed"}, storage_quota=100)
    api.image_update(any_database, TENANT, second["id"], {"size": 61}, storage_quota=100)


# -- changes that take effect once ---------------------------------------------------------------

MINE, OTHERS = "a" * 32, "b" * 32
RESERVED = {"status": "queued", "owner": "t1", "name": "n", "properties": {"a": "1"}}


def test_a_repeated_creation_returns_the_record(any_database: engine.Database) -> None:
    made = api.image_create(any_database, TENANT, RESERVED, attempt=MINE)
    for _ in range(2):
        again = api.image_create(any_database, TENANT, RESERVED, attempt=MINE, is_repeated=True)
        assert again == made
    assert made["properties"] == {"a": "1"}
    other = api.image_create(any_database, TENANT, RESERVED, attempt=OTHERS, is_repeated=True)
    assert other["id"] != made["id"]


def test_a_change_of_the_status_counts_once(any_database: engine.Database) -> None:
    image_id = api.image_create(any_database, TENANT, RESERVED, attempt=OTHERS)["id"]

    def begin(attempt: str | None) -> dict[str, Any]:
        values = {"status": "saving", "name": "changed", "properties": {"b": "2"}}
        return dict(
            api.image_update(
                any_database, TENANT, image_id, values, from_state="queued", attempt=attempt
            )
        )

    begun = begin(MINE)
    assert begin(MINE) == begun == api.image_get(any_database, TENANT, image_id)
    assert begun["properties"] == {"a": "1", "b": "2"}
    for attempt in (OTHERS, None):
        with pytest.raises(exception.Conflict):
            begin(attempt)
    api.image_update(any_database, TENANT, image_id, {"status": "killed"}, from_state="saving")
    with pytest.raises(exception.Conflict):
        begin(MINE)


def test_an_attempt_counts_as_long_as_its_status(any_database: engine.Database) -> None:
    image_id = api.image_create(any_database, TENANT, RESERVED, attempt=MINE)["id"]
    begin = {"status": "saving"}
    api.image_update(any_database, TENANT, image_id, begin, from_state="queued", attempt=MINE)
    api.image_update(any_database, TENANT, image_id, {"name": "other"}, attempt=OTHERS)
    api.image_update(any_database, TENANT, image_id, begin, from_state="queued", attempt=MINE)
    with pytest.raises(exception.Conflict):
        api.image_update(
            any_database, TENANT, image_id, begin, from_state="queued", attempt=OTHERS
        )
    shown = api.image_get(any_database, TENANT, image_id)
    assert "attempt" not in shown
    assert shown["properties"] == {"a": "1"}


@pytest.mark.parametrize("status", ["queued", "active"])
def test_an_unused_record_can_be_withdrawn(any_database: engine.Database, status: str) -> None:
    values = {**RESERVED, "status": status, "protected": True}
    image_id = api.image_create(any_database, TENANT, values, attempt=MINE)["id"]
    with pytest.raises(exception.NotFound):
        api.image_withdraw(any_database, TENANT, OTHERS)
    with pytest.raises(exception.NotFound):
        api.image_withdraw(any_database, RequestContext(tenant="t2", user="u"), MINE)
    gone = api.image_withdraw(any_database, TENANT, MINE)
    assert (gone["id"], gone["status"], gone["deleted"]) == (image_id, "deleted", True)
    for call in (api.image_get, api.image_withdraw):
        with pytest.raises(exception.NotFound):
            call(any_database, TENANT, image_id if call is api.image_get else MINE)


@pytest.mark.parametrize("use", ["change", "share", "begin"])
def test_a_record_in_use_cannot_be_withdrawn(any_database: engine.Database, use: str) -> None:
    image_id = api.image_create(any_database, TENANT, RESERVED, attempt=MINE)["id"]
    if use == "share":
        api.member_add(any_database, TENANT, image_id, "friend", None)
    else:
        values = {"name": "x"} if use == "change" else {"status": "saving"}
        api.image_update(any_database, TENANT, image_id, values)
    with pytest.raises(exception.NotFound):
        api.image_withdraw(any_database, TENANT, MINE)
    assert api.image_get(any_database, TENANT, image_id)["deleted"] is False

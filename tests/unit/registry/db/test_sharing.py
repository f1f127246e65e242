"""Memberships that are changed by several at once, on every kind of database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models, records

ADMIN = RequestContext(is_admin=True)
OWNER = RequestContext(tenant="owner", user="u")


def create(database: engine.Database) -> int:
    image = api.image_create(database, OWNER, {"status": "active", "owner": "owner"})
    return int(image["id"])


def members(database: engine.Database, image_id: int) -> list[str]:
    return sorted(row["member"] for row in api.member_list(database, OWNER, image_id))


def at_once(*calls: Callable[[], Any]) -> list[BaseException]:
    """Run the calls in threads that start together; return what they raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> None:
        gate.wait()
        try:
            call()
        except exception.Error as err:
            raised.append(err)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_of_two_replacements_at_once_one_is_there_in_the_end(
    any_database: engine.Database,
) -> None:
    image_id = create(any_database)
    lists = [[f"{name}{number}" for number in range(5)] for name in "ab"]

    def replacing(names: list[str]) -> Callable[[], None]:
        wanted = [(name, None) for name in names]
        return lambda: api.member_replace(any_database, OWNER, image_id, wanted)

    for _ in range(5):
        assert not at_once(*map(replacing, lists))
        assert members(any_database, image_id) in lists


def test_a_quota_holds_against_many_at_once(any_database: engine.Database) -> None:
    image_id = create(any_database)

    def adding(number: int) -> Callable[[], None]:
        return lambda: api.member_add(any_database, OWNER, image_id, f"m{number}", member_quota=3)

    raised = at_once(*map(adding, range(6)))
    assert len(members(any_database, image_id)) == 3
    assert [type(err) for err in raised] == [exception.QuotaExceeded] * 3


def test_the_same_member_can_be_added_by_many_at_once(any_database: engine.Database) -> None:
    image_id = create(any_database)
    add = lambda: api.member_add(any_database, OWNER, image_id, "m")  # noqa: E731
    assert not at_once(*[add] * 5)
    assert members(any_database, image_id) == ["m"]


def test_a_replacement_that_fails_changes_nothing(any_database: engine.Database) -> None:
    image_id = create(any_database)
    api.member_replace(any_database, OWNER, image_id, [("a", True), ("b", False)])
    for wanted in ([("c", None), ("c", None)], [(name, None) for name in "cdef"]):
        try:
            api.member_replace(any_database, OWNER, image_id, wanted, member_quota=3)
        except (exception.Invalid, exception.QuotaExceeded):
            continue
        raise AssertionError("the replacement was made")
    assert members(any_database, image_id) == ["a", "b"]


def rows(database: engine.Database, table: sa.Table) -> int:
    with database.read() as conn:
        count: int = conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        return count


def test_removed_members_and_properties_do_not_pile_up(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT_DELETED", 3)
    image_id, other_id = create(any_database), create(any_database)
    for member in "abcde":
        api.member_add(any_database, OWNER, other_id, member)
        api.member_delete(any_database, OWNER, other_id, member)
    assert rows(any_database, models.image_members) <= 4
    api.member_add(any_database, OWNER, image_id, "keep", True)
    for number in range(12):
        api.member_add(any_database, OWNER, image_id, f"m{number}")
        api.member_delete(any_database, OWNER, image_id, f"m{number}")
        given = {"properties": {f"p{number}": "v", "keep": "v"}}
        changed = api.image_update(any_database, OWNER, image_id, given, purge_props=True)
        assert changed["properties"] == {f"p{number}": "v", "keep": "v"}
        api.member_replace(any_database, OWNER, image_id, [("keep", None), (f"r{number}", None)])
    assert api.member_list(any_database, OWNER, image_id) == [
        {"member": "keep", "can_share": True},
        {"member": "r11", "can_share": False},
    ]
    # Those that stay, those in use and the last removed ones.
    assert rows(any_database, models.image_members) <= 4 + 3 + 2 + 2
    assert rows(any_database, models.image_properties) <= 3 + 2 + 2


def test_a_deleted_image_keeps_what_a_restore_needs(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "KEPT_DELETED", 1)
    values = {"status": "active", "owner": "owner", "location": "file:///x"}
    given = {"a": "1", "b": "2", "c": "3"}
    image = api.image_create(any_database, OWNER, {**values, "properties": given})
    api.image_delete(any_database, OWNER, image["id"], "pending_delete")
    seeing = RequestContext(is_admin=True, show_deleted=True)
    api.image_update(any_database, seeing, image["id"], {"name": "x"})
    assert api.image_restore(any_database, image["id"])["properties"] == given

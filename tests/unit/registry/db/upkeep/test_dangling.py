"""Rows without their image, on every kind of database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from glance.registry.context import RequestContext
from glance.registry.db import api, engine, paging
from glance.registry.db.upkeep import dangling

ADMIN = RequestContext(is_admin=True)
#: What lets a connection break foreign keys.
FREE = {
    "sqlite": "PRAGMA foreign_keys = OFF",
    "postgresql": "SET session_replication_role = replica",
    "mysql": "SET SESSION foreign_key_checks = 0",
}


def test_rows_without_their_image_are_found_and_removed(
    any_database: engine.Database,
    connect: Callable[[str], sa.engine.Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paging, "BATCH", 2)
    kept = api.image_create(any_database, ADMIN, {"status": "active", "properties": {"a": "1"}})
    conn = connect(any_database.url)
    conn.execute(sa.text(FREE[any_database.dialect]))
    for image_id in (901, 902, 903):
        for table, more, values in (
            ("image_properties", "name", "'n'"),
            ("image_members", "member", "'m'"),
            ("scrub_queue", "item, due_at", "'data', '2011-09-22'"),
            ("scrub_queue", "item, due_at", "'part', '2011-09-22'"),
        ):
            conn.execute(
                sa.text(
                    f"INSERT INTO {table} (image_id, created_at, {more})"
                    f" VALUES ({image_id}, '2011-09-22', {values})"
                )
            )
    found = list(dangling.rows(any_database))
    assert sorted((row.table, row.image_id) for row in found) == sorted(
        (table, image_id)
        for image_id in (901, 902, 903)
        for table in ("image_properties", "image_members", "scrub_queue", "scrub_queue")
    )
    assert dangling.remove(any_database, found) == 12
    assert dangling.remove(any_database, found) == 0
    assert list(dangling.rows(any_database)) == []
    assert api.image_get(any_database, ADMIN, kept["id"])["properties"] == {"a": "1"}


def test_a_row_whose_image_has_come_meanwhile_stays(any_database: engine.Database) -> None:
    image = api.image_create(any_database, ADMIN, {"status": "active", "properties": {"a": "1"}})
    with any_database.read() as conn:
        key = conn.execute(sa.text("SELECT id FROM image_properties")).scalar_one()
    row = dangling.DanglingRow("image_properties", image["id"], (key,))
    assert dangling.remove(any_database, [row]) == 0
    assert api.image_get(any_database, ADMIN, image["id"])["properties"] == {"a": "1"}


def test_active_images_that_name_no_data_are_found(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "BATCH", 2)
    for values in (
        {"status": "active"},
        {"status": "active", "location": "file:///x"},
        {"status": "queued"},
        {"status": "active"},
        {"status": "active", "location": ""},
    ):
        api.image_create(any_database, ADMIN, values)
    assert list(dangling.images_without_location(any_database)) == [1, 4, 5]

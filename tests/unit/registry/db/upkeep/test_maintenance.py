"""What the scrubber and glance-manage ask of the database."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models, scrub_queue
from glance.registry.db.upkeep import maintenance

ADMIN = RequestContext(is_admin=True)
DAY = datetime.datetime(2011, 9, 22)
HOUR = datetime.timedelta(hours=1)


def store(database: engine.Database, **values: Any) -> None:
    row = {"status": "active", "created_at": DAY, "updated_at": DAY, **values}
    with database.write() as conn:
        conn.execute(models.images.insert().values(row))
        for table, name in ((models.image_properties, "name"), (models.image_members, "member")):
            child = {"image_id": values["id"], name: "x", "created_at": DAY}
            conn.execute(table.insert().values(child))


def test_abandoned_uploads_are_found(any_database: engine.Database) -> None:
    store(any_database, id=1, status="saving", updated_at=DAY + HOUR)
    store(any_database, id=2, status="saving", updated_at=DAY)
    store(any_database, id=3, status="saving", updated_at=DAY + 2 * HOUR)
    store(any_database, id=4, status="queued", updated_at=DAY)
    store(any_database, id=5, status="saving", updated_at=DAY, deleted=True)
    found = maintenance.images_stalled(any_database, DAY + 2 * HOUR)
    assert [image["id"] for image in found] == [2, 1]


def test_purge_removes_old_deleted_images_whole(any_database: engine.Database) -> None:
    old = {"deleted": True, "status": "deleted", "deleted_at": DAY}
    for number in (1, 2, 3):
        store(any_database, id=number, **old)
    store(any_database, id=4, **{**old, "deleted_at": DAY + HOUR})
    store(any_database, id=5, **{**old, "status": "pending_delete"})
    store(any_database, id=6)
    store(any_database, id=7, **old)
    scrub_queue.enter_leftover(any_database, 7, "file:///parts/7", "X")
    store(any_database, id=9, **old)
    assert maintenance.purge(any_database, DAY + HOUR, 2) == 2
    assert maintenance.purge(any_database, DAY + HOUR, 2) == 1
    assert maintenance.purge(any_database, DAY + HOUR, 2) == 0
    with any_database.read() as conn:
        for column in (
            models.images.c.id,
            models.image_properties.c.image_id,
            models.image_members.c.image_id,
        ):
            assert sorted(conn.execute(sa.select(column)).scalars()) == [4, 5, 6, 7, 9]


def test_no_id_is_given_out_twice_after_a_purge(database: engine.Database) -> None:
    api.image_create(database, ADMIN, {"status": "active"})
    api.image_delete(database, ADMIN, 1)
    maintenance.purge(database, datetime.datetime.max)
    assert api.image_create(database, ADMIN, {"status": "active"})["id"] == 2
    with pytest.raises(exception.ImageNotFound):
        api.image_get(database, ADMIN, 1)


OLD = {"deleted": True, "status": "deleted", "deleted_at": DAY}


def test_one_purge_removes_a_bounded_number_of_rows(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each has one property and one member.
    monkeypatch.setattr(maintenance, "MAX_ROWS", 6)
    for number in range(1, 7):
        store(any_database, id=number, **OLD)
    assert [maintenance.purge(any_database, DAY + HOUR) for _ in range(4)] == [2, 2, 1, 0]
    # One image that has more goes alone.
    monkeypatch.setattr(maintenance, "MAX_ROWS", 2)
    store(any_database, id=7)
    assert maintenance.purge(any_database, DAY + HOUR) == 1


CHANGES: list[tuple[Any, int]] = [
    (models.images.update().values(deleted=False, status="active"), 0),
    (models.images.update().values(status="pending_delete"), 0),
    (models.images.update().values(deleted_at=DAY + 2 * HOUR), 0),
    (models.images.update().values(name="x"), 1),
]


@pytest.mark.parametrize(
    "change", [*CHANGES, "queue"], ids=["restored", "pending", "later", "renamed", "queue"]
)
def test_what_changes_while_it_is_purged_stays(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """The change happens between the search and the lock, on another connection.

    SQLite has one writer, so that there the change cannot begin before the purge has ended.
    """
    if any_database.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    for number in (1, 2, 3):
        store(any_database, id=number, **OLD)
    other = engine.Database(any_database.url)
    whose_rows_fit = maintenance._whose_rows_fit
    pending = [change]

    def meanwhile(conn: Any, found: list[int]) -> list[int]:
        if pending:
            pending.clear()
            if change == "queue":
                scrub_queue.enter_leftover(other, 1, "file:///parts/1", "X")
            else:
                with other.write() as apart:
                    apart.execute(change[0].where(models.images.c.id == 1))
        return whose_rows_fit(conn, found)

    monkeypatch.setattr(maintenance, "_whose_rows_fit", meanwhile)
    gone = 0 if change == "queue" else change[1]
    try:
        assert maintenance.purge(any_database, DAY + HOUR) == 1 + gone
    finally:
        other.dispose()
    with any_database.read() as conn:
        left = conn.execute(sa.select(models.images.c.id).order_by(models.images.c.id)).scalars()
        assert list(left) == ([3] if gone else [1, 3])
        rows = conn.execute(sa.select(models.image_properties.c.image_id)).scalars()
        assert sorted(rows) == ([3] if gone else [1, 3])

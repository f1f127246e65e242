"""What the scrubber and glance-manage ask of the database."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, maintenance, models, scrub_queue

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

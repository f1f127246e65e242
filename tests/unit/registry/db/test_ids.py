"""Ids of images: none is used twice, and a chosen one harms nobody."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.image import fields
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, ids, migration, models
from glance.registry.db.migrate_repo import schema
from glance.registry.db.upkeep import maintenance

ADMIN = RequestContext(is_admin=True)
DAY = datetime.datetime(2011, 9, 22, 10, 11, 12)
Connect = Callable[[str], sa.engine.Connection]


def create(database: engine.Database, image_id: int | None = None, **limits: Any) -> int:
    values = {"status": "active", "owner": "t1", "id": image_id}
    return api.image_create(database, ADMIN, values, **limits)["id"]


def purge(database: engine.Database, *image_ids: int, batch: int = 100) -> None:
    """Delete images and remove their records."""
    for image_id in image_ids:
        api.image_delete(database, ADMIN, image_id)
    purged = 0
    while found := maintenance.purge(database, datetime.datetime.max, batch):
        purged += found
    assert purged == len(image_ids)


def ranges(database: engine.Database) -> list[tuple[int, int]]:
    with database.read() as conn:
        table = models.purged_image_ids
        return [tuple(row) for row in conn.execute(sa.select(table).order_by(table.c.first_id))]


@pytest.mark.parametrize("limits", [{}, {"storage_quota": 100}], ids=str)
def test_the_id_of_a_purged_image_is_not_given_out_again(
    any_database: engine.Database, limits: dict[str, int]
) -> None:
    made = [create(any_database) for _ in range(5)]
    purge(any_database, *made[:4])
    for image_id in made:
        with pytest.raises(exception.Duplicate, match=f"ID {image_id} already exists"):
            create(any_database, image_id, **limits)
    assert create(any_database, **limits) == made[-1] + 1
    with any_database.read() as conn:
        found = conn.execute(sa.select(models.images.c.id).order_by(models.images.c.id))
        assert found.scalars().all() == [made[-1], made[-1] + 1]


def test_the_counter_keeps_few_rows(
    any_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "TRIM_EVERY", 10)
    assert [create(any_database) for _ in range(35)] == list(range(1, 36))
    with any_database.read() as conn:
        rows = conn.execute(sa.select(sa.func.count()).select_from(models.image_id_counter))
        assert rows.scalar_one() <= 20 + 5
    assert create(any_database) == 36


def test_the_counter_goes_on_behind_a_chosen_id_that_is_near(
    any_database: engine.Database,
) -> None:
    for near in (77, 77 + ids.NEAR):
        assert create(any_database, near) == near
        assert create(any_database, near - 1) == near - 1
        assert create(any_database) == near + 1
    first = near + 1
    assert create(any_database, first + ids.NEAR + 1)
    assert create(any_database) == first + 1


def test_a_counter_that_cannot_be_moved_fails_no_request(
    database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(conn: Any, number: int) -> None:
        raise sa.exc.IntegrityError("INSERT", {}, Exception())

    monkeypatch.setattr(ids, "_move_to", fail)
    assert create(database, 5) == 5
    monkeypatch.undo()
    assert create(database) == 6


def near_the_counter(database: engine.Database, *steps: int) -> int:
    """Choose ids so that the counter meets them; return the one it stands at."""
    last = create(database) + ids.NEAR
    for step in steps:
        create(database, last + step)
    create(database, last)
    return last


def test_chosen_ids_that_were_purged_are_stepped_over(any_database: engine.Database) -> None:
    last = near_the_counter(any_database, 1, 2, 4, 5, 100)
    chosen = [last + step for step in (1, 2, 4, 5)]
    purge(any_database, *chosen)
    for image_id in chosen:
        with pytest.raises(exception.Duplicate):
            create(any_database, image_id)
    assert [create(any_database) - last for _ in range(3)] == [3, 6, 7]


def test_many_ids_chosen_ahead_do_not_stop_the_counting(any_database: engine.Database) -> None:
    last = near_the_counter(any_database, *range(1, 40))
    assert [create(any_database) - last for _ in range(2)] == [40, 41]


@pytest.mark.parametrize("huge", [fields.MAX_INT, fields.MAX_INT - 1, 2**30])
def test_a_huge_chosen_id_leaves_all_others_to_the_counter(
    any_database: engine.Database, huge: int
) -> None:
    first = create(any_database)
    assert create(any_database, huge) == huge
    assert create(any_database) == first + 1
    purge(any_database, first)
    assert create(any_database) == first + 2


def test_a_counter_begins_behind_the_images_that_exist(any_database: engine.Database) -> None:
    with any_database.write() as conn:
        fill(conn, 7, ids.CHOSEN)
    assert [create(any_database) for _ in range(2)] == [8, 9]


def test_the_last_id_is_not_passed(any_database: engine.Database) -> None:
    create(any_database, fields.MAX_INT)
    with any_database.write() as conn:
        with pytest.raises(exception.ServiceUnavailable, match="no more image ids"):
            ids._first_free(conn, fields.MAX_INT)
        assert ids._first_free(conn, fields.MAX_INT - 1) == fields.MAX_INT - 1


def test_counted_and_chosen_ids_meet_at_the_same_time(any_database: engine.Database) -> None:
    first = create(any_database)
    counted: list[int] = []
    chosen: list[int] = []
    failed: list[Exception] = []

    def count() -> None:
        for _ in range(6):
            try:
                counted.append(create(any_database))
            except Exception as err:
                failed.append(err)

    def choose(start: int) -> None:
        for image_id in range(start, start + 30, 2):
            try:
                chosen.append(create(any_database, image_id))
            except exception.Duplicate:
                pass
            except Exception as err:
                failed.append(err)

    threads = [threading.Thread(target=count) for _ in range(3)]
    threads += [threading.Thread(target=choose, args=(first + step,)) for step in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(counted) == 18
    assert len({first, *counted, *chosen}) == 1 + len(counted) + len(chosen)


def test_an_id_that_is_purged_meanwhile_is_not_given_out(kind: Any) -> None:
    """A purge that is not committed holds back who chooses one of its ids."""
    database = engine.Database(kind.emptied())
    made = [create(database) for _ in range(3)]
    for image_id in made[:2]:
        api.image_delete(database, ADMIN, image_id)
    results: list[Any] = []

    def choose(image_id: int) -> None:
        try:
            results.append(create(database, image_id, storage_quota=10**6))
        except exception.Duplicate as err:
            results.append(err)

    threads = [threading.Thread(target=choose, args=(image_id,)) for image_id in made[:2]]
    keep = ids.keep_purged

    def keep_while_others_wait(conn: Any, image_ids: Any) -> None:
        keep(conn, image_ids)
        for thread in threads:
            thread.start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "keep_purged", keep_while_others_wait)
        assert maintenance.purge(database, datetime.datetime.max) == 2
    for thread in threads:
        thread.join()
    assert [type(result) for result in results] == [exception.Duplicate] * 2
    database.dispose()


def test_two_purges_at_the_same_time_count_each_image_once(any_database: engine.Database) -> None:
    made = [create(any_database) for _ in range(9)]
    for image_id in made[:8]:
        api.image_delete(any_database, ADMIN, image_id)
    purged: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: purged.append(maintenance.purge(any_database, datetime.datetime.max))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(purged) == [0, 0, 8]
    assert ranges(any_database) == [(made[0], made[7])]


def test_ranges_of_purged_ids_are_merged(any_database: engine.Database) -> None:
    batches = ([5], [3], [7, 8], [4], [10], [1], [9, 6], [2, 11, 20])
    expected = [
        [(5, 5)],
        [(3, 3), (5, 5)],
        [(3, 3), (5, 5), (7, 8)],
        [(3, 5), (7, 8)],
        [(3, 5), (7, 8), (10, 10)],
        [(1, 1), (3, 5), (7, 8), (10, 10)],
        [(1, 1), (3, 10)],
        [(1, 11), (20, 20)],
    ]
    seen: set[int] = set()
    for batch, found in zip(batches, expected, strict=True):
        with any_database.write() as conn:
            ids.keep_purged(conn, batch)
        seen.update(batch)
        assert ranges(any_database) == found
        with any_database.read() as conn:
            assert {number for number in range(23) if ids.is_purged(conn, number)} == seen


def test_what_is_kept_of_purged_images_stays_small(any_database: engine.Database) -> None:
    made = [create(any_database) for _ in range(30)]
    purge(any_database, *made[:10], *made[11:29], batch=3)
    assert ranges(any_database) == [(made[0], made[9]), (made[11], made[28])]
    with any_database.read() as conn:
        count = sa.select(sa.func.count()).select_from(models.image_id_counter)
        assert conn.execute(count).scalar() == 1
    assert create(any_database) == made[-1] + 1


def test_a_counter_that_was_lost_begins_behind_what_is_taken(
    any_database: engine.Database,
) -> None:
    made = [create(any_database) for _ in range(6)]
    purge(any_database, *made[1:3])
    with any_database.write() as conn:
        conn.execute(models.image_id_counter.delete())
    assert create(any_database) == made[-1] + 1


# -- databases of older versions ------------------------------------------------------------------


def fill(conn: sa.engine.Connection, *image_ids: int) -> None:
    table = schema.images(16)
    for image_id in image_ids:
        conn.execute(table.insert().values(id=image_id, status="active", created_at=DAY))


def test_an_upgrade_gives_out_no_id_that_may_have_been_purged(kind: Any, connect: Connect) -> None:
    url = kind.at(16)
    fill(connect(url), 3, 4, 8, 2**31 - 1)
    migration.upgrade(url)
    database = engine.Database(url)
    assert ranges(database) == [(1, 2), (5, 7)]
    for image_id in (1, 3, 5, 2**31 - 1):
        with pytest.raises(exception.Duplicate):
            create(database, image_id)
    assert create(database) == 9
    database.dispose()


def test_an_upgrade_of_a_database_without_images_counts_from_one(kind: Any) -> None:
    url = kind.at(16)
    migration.upgrade(url)
    database = engine.Database(url)
    assert ranges(database) == []
    assert create(database) == 1
    database.dispose()


def test_an_upgrade_goes_on_where_the_sequence_was(kind: Any, connect: Connect) -> None:
    if kind.name != "postgresql":
        pytest.skip("speaks PostgreSQL")
    url = kind.at(16)
    conn = connect(url)
    fill(conn, 2)
    conn.execute(sa.text("SELECT setval('images_id_seq', 7)"))
    migration.upgrade(url)
    database = engine.Database(url)
    assert create(database) == 8
    with pytest.raises(exception.Duplicate):
        create(database, 1)
    database.dispose()


def test_a_downgrade_and_an_upgrade_give_out_no_id_again(kind: Any, connect: Connect) -> None:
    url = kind.at(models.SCHEMA_VERSION)
    database = engine.Database(url)
    made = [create(database) for _ in range(5)]
    purge(database, *made[:3])
    database.dispose()
    migration.downgrade(url, 16)
    conn = connect(url)
    row = {"status": "active", "created_at": DAY}
    assert conn.execute(schema.images(16).insert().values(row)).inserted_primary_key[0] == 6
    migration.upgrade(url)
    database = engine.Database(url)
    assert ranges(database) == [(1, 3)]
    assert create(database) == 7
    database.dispose()

"""Copies of a database from each kind to each, with what is hard to copy."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from glance.registry.context import RequestContext
from glance.registry.db import api, engine, ids, migration, models, scrub_queue, sharing
from glance.registry.db.upkeep import copying, maintenance

ADMIN = RequestContext(is_admin=True)
MOMENT = datetime.datetime(2011, 9, 22, 1, 2, 3, 456789)
NAME = "Ünïcødé 雪 \U0001f4be 'q\" \\ % :x "
LONG = "雪" * 20_000

PAIRS = [
    pytest.param(
        (source, target), id=f"{source}-{target}", marks=[] if local else [pytest.mark.peers]
    )
    for source in ("sqlite", "postgresql", "mysql")
    for target in ("sqlite", "postgresql", "mysql")
    for local in [source == target == "sqlite"]
]


@pytest.fixture
def opened() -> Iterator[Callable[[str], engine.Database]]:
    made: list[engine.Database] = []

    def open_it(url: str) -> engine.Database:
        made.append(engine.Database(url))
        return made[-1]

    yield open_it
    for database in made:
        database.dispose()


def fill(database: engine.Database) -> None:
    """Store five images; the last one that was counted is purged, and one id is chosen."""
    location = "swift+https://acct:us%C3%A9r:s3cret@host/v1/c/1"
    for values in (
        {"name": NAME, "status": "active", "location": location, "size": 2**62},
        {"name": None, "status": "queued", "properties": {"a": LONG, "b": "", "c": None}},
        {"name": "", "status": "active", "is_public": True, "owner": "é", "protected": True},
        {"name": "gone", "status": "active", "location": "file:///x"},
        {"name": "purged", "status": "active"},
        {"name": "last", "status": "active", "min_disk": 7},
    ):
        api.image_create(database, ADMIN, values)
    api.image_create(database, ADMIN, {"id": 2**31 - 1, "name": "chosen", "status": "active"})
    sharing.member_add(database, ADMIN, 2, "tenant", True)
    api.image_delete(database, ADMIN, 4, "pending_delete")
    scrub_queue.enter_leftover(database, 1, "file:///parts/1", "X")
    api.image_delete(database, ADMIN, 5, "deleted")
    maintenance.purge(database, datetime.datetime.max)
    with database.write() as conn:
        conn.execute(
            models.images.update().where(models.images.c.id == 1).values(created_at=MOMENT)
        )
        job = {"uuid": "j", "source_image_id": 1, "image_id": 2, "created_at": MOMENT}
        formats = {"source_format": "raw", "disk_format": "vdi", "status": "queued"}
        conn.execute(models.conversion_jobs.insert().values({**job, **formats}))
        conn.execute(models.conversion_workers.insert().values(name="w", seen_at=MOMENT))
        conn.execute(models.images.update().where(models.images.c.id == 2).values(updated_at=None))


def content(database: engine.Database) -> dict[str, list[Any]]:
    with database.read() as conn:
        return {
            table.name: sorted(map(tuple, conn.execute(sa.select(table))), key=repr)
            for table in models.metadata.sorted_tables
        }


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    kind_named: Callable[[str], Any],
    opened: Callable[[str], engine.Database],
) -> tuple[engine.Database, engine.Database]:
    """A source with images, and a target without rows."""
    source, target = (opened(kind_named(name).at(models.SCHEMA_VERSION)) for name in request.param)
    fill(source)
    return source, target


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_everything_arrives(
    pair: tuple[engine.Database, engine.Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    monkeypatch.setattr(copying, "BATCH", 2)
    told: dict[str, int] = {}
    before = content(source)
    assert copying.copy(source, target, done=told.__setitem__) == sum(map(len, before.values()))
    assert content(target) == content(source) == before
    assert told == {name: len(rows) for name, rows in before.items()}
    image = api.image_get(target, ADMIN, 1)
    assert (image["name"], image["created_at"], image["size"]) == (NAME, MOMENT, 2**62)
    found = api.image_get(target, ADMIN, 2)
    assert (found["updated_at"], found["properties"]) == (None, {"a": LONG, "b": "", "c": None})
    # The next ids are those that the source would have given.
    for database in (source, target):
        assert (
            api.image_create(database, ADMIN, {"status": "queued", "properties": {"x": "1"}})["id"]
            == 7
        )
        sharing.member_add(database, ADMIN, 7, "tenant", True)
        with database.read() as conn:
            assert ids.is_purged(conn, 5)
        assert [entry.image_id for entry in scrub_queue.entries(database)] == [4, 1]


@pytest.mark.parametrize("pair", PAIRS[::4], indirect=True)
def test_a_target_with_rows_is_overwritten_on_demand_only(
    pair: tuple[engine.Database, engine.Database],
) -> None:
    source, target = pair
    for _ in range(20):
        api.image_create(
            target, ADMIN, {"name": "old", "status": "queued", "properties": {"x": "1"}}
        )
    before = content(target)
    with pytest.raises(copying.CopyFailed, match="the target is not empty: .* --overwrite"):
        copying.copy(source, target)
    assert content(target) == before
    copying.copy(source, target, overwrite=True)
    assert content(target) == content(source)
    assert (
        api.image_create(target, ADMIN, {"status": "queued", "properties": {"x": "1"}})["id"] == 7
    )


@pytest.mark.parametrize("moment", ["insert", "verify", "end"])
@pytest.mark.parametrize("pair", PAIRS[::4], indirect=True)
def test_a_copy_that_fails_leaves_the_target_as_it_was(
    pair: tuple[engine.Database, engine.Database], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source, target = pair
    before = content(target)
    monkeypatch.setattr(copying, "BATCH", 2)
    with monkeypatch.context() as failing:
        if moment == "insert":
            insert, done = copying._insert, []

            def interrupted(*args: Any) -> None:
                done.append(args)
                if len(done) == 3:
                    raise KeyboardInterrupt
                insert(*args)

            failing.setattr(copying, "_insert", interrupted)
            expected: Any = pytest.raises(KeyboardInterrupt)
        elif moment == "verify":
            # The target takes something else than it was given.
            insert = copying._insert

            def cut(conn: Any, table: Any, rows: list[Any]) -> None:
                insert(conn, table, rows)
                if table.name == "images":
                    conn.execute(table.update().where(table.c.id == 3).values(name="cut"))

            failing.setattr(copying, "_insert", cut)
            expected = pytest.raises(copying.CopyFailed, match="table images differs: 6 rows")
        else:
            insert = copying._insert

            def traffic(conn: Any, table: Any, rows: list[Any]) -> None:
                insert(conn, table, rows)
                if table.name == "image_members":
                    api.image_update(source, ADMIN, 2, {"name": "changed"})

            failing.setattr(copying, "_insert", traffic)
            expected = pytest.raises(copying.CopyFailed, match="images of the source has changed")
        with expected:
            copying.copy(source, target)
    assert content(target) == before
    copying.copy(source, target)
    assert content(target) == content(source)


@pytest.mark.parametrize(
    ("target", "statement", "said"),
    [
        ("sqlite", "UPDATE images SET created_at = 'soon' WHERE id = 3", "its created_at cannot"),
        ("sqlite", "UPDATE images SET min_disk = 'x' WHERE id = 3", "its min_disk cannot be read"),
        pytest.param(
            "postgresql",
            "UPDATE images SET name = 'nul' || char(0) WHERE id = 3",
            "A string literal cannot contain NUL",
            marks=pytest.mark.peers,
        ),
        pytest.param(
            "postgresql",
            "UPDATE images SET checksum = 's3cret' || hex(zeroblob(99)) WHERE id = 3",
            "value too long for type character varying",
            marks=pytest.mark.peers,
        ),
        pytest.param(
            "mysql",
            "UPDATE images SET checksum = 's3cret' || hex(zeroblob(99)) WHERE id = 3",
            "Data too long for column 'checksum'",
            marks=pytest.mark.peers,
        ),
    ],
)
def test_a_row_that_cannot_be_copied_is_named(
    kind_named: Callable[[str], Any],
    opened: Callable[[str], engine.Database],
    target: str,
    statement: str,
    said: str,
) -> None:
    source, to = (
        opened(kind_named(name).emptied(slot)) for slot, name in enumerate(("sqlite", target))
    )
    fill(source)
    with source.write() as conn:
        conn.execute(sa.text(statement.replace(":", "\\:")))
    with pytest.raises(copying.CopyFailed) as caught:
        copying.copy(source, to)
    assert str(caught.value).startswith("the row of images with id 3")
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None or "cannot" in said


def test_values_of_other_programs_are_copied_as_the_registry_reads_them(
    sqlite: Any, opened: Callable[[str], engine.Database]
) -> None:
    source, target = (opened(sqlite.at(models.SCHEMA_VERSION)) for _ in range(2))
    fill(source)
    with source.write() as conn:
        conn.execute(
            sa.text(
                "UPDATE images SET name = x'ff41', owner = 77, created_at = '2011-09-22T01\\:02Z',"
                " updated_at = 1316653323, is_public = 1 WHERE id = 3"
            )
        )
    seen = api.image_get(source, ADMIN, 3)
    copying.copy(source, target)
    found = api.image_get(target, ADMIN, 3)
    assert found["name"] == "\ufffdA" and found["owner"] == "77"
    assert found["created_at"] == seen["created_at"] == datetime.datetime(2011, 9, 22, 1, 2)
    assert found["updated_at"] == seen["updated_at"]


def test_a_source_with_rows_that_belong_nowhere_is_refused(
    sqlite: Any, opened: Callable[[str], engine.Database], connect: Any
) -> None:
    source, target = (opened(sqlite.at(models.SCHEMA_VERSION)) for _ in range(2))
    connect(source.url).execute(
        sa.text(
            "INSERT INTO image_members (image_id, member, created_at)"
            " VALUES (9, 'm', '2011-01-01')"
        )
    )
    with pytest.raises(copying.CopyFailed, match="rows of image 9, which .* check .*--repair"):
        copying.copy(source, target)


@pytest.mark.parametrize("pair", PAIRS[::4], indirect=True)
def test_a_database_is_not_copied_to_itself(
    pair: tuple[engine.Database, engine.Database],
) -> None:
    source, _ = pair
    before = content(source)
    with pytest.raises(copying.CopyFailed, match="the same database"):
        copying.copy(source, source, overwrite=True)
    assert content(source) == before


def test_tables_are_made_where_there_are_none(sqlite: Any) -> None:
    url = sqlite.empty()
    migration.create_missing(url)
    assert migration.db_version(url) == models.SCHEMA_VERSION

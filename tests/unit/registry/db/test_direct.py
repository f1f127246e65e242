"""What is written without SQLAlchemy is equal to what is written with it."""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import sqlite

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import (
    api,
    direct,
    engine,
    full_records,
    lenient,
    lookups,
    models,
    records,
    writing,
)

from support import statements

ADMIN = RequestContext(is_admin=True)
NOW = datetime.datetime(2026, 11, 28, 5, 0, 0, 123456)
ATTEMPT = "0123456789abcdef" * 2
VALUES: dict[str, Any] = {
    "name": "ünïcode \U0001f4bf",
    "owner": "one",
    "status": "queued",
    "is_public": True,
    "disk_format": "raw",
    "container_format": "bare",
    "size": 2**53,
    "min_ram": 7,
    "uuid": "6e6b9e1d-5d2d-4b0f-9d3a-0d6a9a3f4b11",
    "properties": {"os": "linux", "ä": "ü", "empty": "", "none": None},
}


def _tables(database: engine.Database) -> list[list[tuple[Any, ...]]]:
    """Return all rows that requests write: each value with the type that SQLite has stored."""
    found = []
    with database.read() as conn:
        for table in (models.images, models.image_properties, models.image_tags):
            named = ", ".join(f"{column.name}, typeof({column.name})" for column in table.c)
            rows = conn.exec_driver_sql(f"SELECT {named} FROM {table.name}")
            found.append(sorted(map(tuple, rows), key=repr))
    return found


def _write(database: engine.Database) -> None:
    """Do once what requests do most."""
    made = api.image_create(database, ADMIN, VALUES, attempt=ATTEMPT, tags=("t", "ä"))
    other = {**VALUES, "uuid": VALUES["uuid"].replace("6", "7"), "properties": {}}
    api.image_create(database, ADMIN, other)
    number = made["id"]
    begun = {"status": "saving", "upload_via": "v1", "size": 10}
    api.image_update(database, ADMIN, number, begun, from_state="queued", attempt=ATTEMPT)
    done = {"status": "active", "checksum": "d" * 32, "location": "file:///x/1", "size": 10}
    api.image_update(database, ADMIN, number, done, from_state="saving")
    change: Any = {"set": {"name": None, "visibility": "private"}, "properties": {"os": "bsd"}}
    full_records.record_patch(database, ADMIN, VALUES["uuid"], change)
    api.image_update(database, ADMIN, number, {"properties": {"new": "1"}}, purge_props=True)


@pytest.fixture
def clock() -> Any:
    with mock.patch.object(records, "utcnow", lambda: NOW):
        yield


@pytest.mark.usefixtures("clock")
def test_rows_are_the_same_both_ways(kind_named: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kind_named("sqlite")
    ours, theirs = engine.Database(made.emptied()), engine.Database(made.emptied(1))
    plans = mock.Mock(side_effect=direct._plan)
    monkeypatch.setattr(direct, "_plan", plans)
    _write(ours)
    assert plans.call_count >= 20
    monkeypatch.setattr(direct, "_plan", lambda *_: None)
    _write(theirs)
    assert _tables(ours) == _tables(theirs)


def test_errors_are_those_of_sqlalchemy(sqlite_database: engine.Database) -> None:
    row = {"id": 1, "status": "queued", "created_at": NOW, "location": "file://secret"}
    for text in ("directly", "by SQLAlchemy"):
        with (
            mock.patch.object(direct, "_plan", direct._plan if text == "directly" else _none),
            pytest.raises(exc.IntegrityError, match="UNIQUE constraint failed: images.id") as told,
            sqlite_database.write() as conn,
        ):
            direct.insert(conn, writing.INSERT, row)
            direct.insert(conn, writing.INSERT, row)
        assert told.value.orig.sqlite_errorname == "SQLITE_CONSTRAINT_PRIMARYKEY"
        assert "secret" not in str(told.value)
    with sqlite_database.write() as conn:
        conn.exec_driver_sql("DROP TABLE image_properties")
    with pytest.raises(exception.ServiceUnavailable):
        api.image_create(sqlite_database, ADMIN, VALUES)
    with sqlite_database.read() as conn:
        assert not conn.execute(sa.select(models.images.c.id)).all()


def _none(*_: object) -> None:
    return None


def test_numbers_of_rows_and_new_keys_are_returned(sqlite_database: engine.Database) -> None:
    everything = models.images.update().where(models.images.c.status == sa.bindparam("old"))
    rename = everything.values(name=sa.bindparam("new_name"))
    with sqlite_database.write() as conn:
        row = {"status": "queued", "created_at": NOW}
        assert [direct.insert(conn, writing.INSERT, {**row, "id": n}) for n in (7, 9)] == [7, 9]
        assert direct.insert(conn, writing.INSERT, row) == 10
        assert direct.change(conn, rename, {"old": "queued", "new_name": "n"}) == 3
        assert direct.change(conn, rename, {"old": "saving", "new_name": "n"}) == 0


def test_rows_have_the_names_of_their_columns(sqlite_database: engine.Database) -> None:
    made = api.image_create(sqlite_database, ADMIN, VALUES)
    with sqlite_database.write() as conn:
        found = direct.fetch(conn, writing.ALL_PROPERTIES, {"image": made["id"]})
        expected = conn.execute(writing.ALL_PROPERTIES, {"image": made["id"]}).all()
    assert [tuple(row) for row in found] == [tuple(row) for row in expected]
    assert [row.name for row in found] == [row.name for row in expected]
    assert [row.deleted is False for row in found] == [True] * 4


def test_text_that_is_not_utf8_is_read_the_other_way(sqlite_database: engine.Database) -> None:
    made = api.image_create(sqlite_database, ADMIN, VALUES)
    with sqlite_database.write() as conn:
        conn.exec_driver_sql("UPDATE images SET name = CAST(x'ff' AS TEXT)")
    assert api.image_update(sqlite_database, ADMIN, made["id"], {})["name"] == "\ufffd"


def test_what_sqlalchemy_works_out_for_each_run_is_left_to_it(
    sqlite_database: engine.Database,
) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, default=lambda: 5))
    with sqlite_database.write() as conn:
        assert lookups.plan(table.insert(), conn.dialect, ()) is None


def test_a_log_of_all_statements_has_these_too(
    sqlite_database: engine.Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sqlalchemy.engine.Engine")
    sqlite_database.dispose()
    api.image_create(sqlite_database, ADMIN, VALUES)
    assert "INSERT INTO images" in caplog.text


def test_a_change_writes_the_columns_that_differ(sqlite_database: engine.Database) -> None:
    made = api.image_create(sqlite_database, ADMIN, VALUES)
    with statements.noted(sqlite_database) as seen:
        api.image_update(sqlite_database, ADMIN, made["id"], {"name": "x", "min_ram": 7})
    (text,) = [text for text, _ in seen if text.startswith("UPDATE images")]
    assert set(re.findall(r"(\w+)=\?", text.partition("WHERE")[0])) == {
        "name",
        "updated_at",
        "is_public",
        "visibility",
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        NOW,
        NOW.replace(microsecond=0),
        NOW.replace(microsecond=100, year=1),
        NOW.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        NOW.date(),
    ],
)
def test_times_are_written_as_sqlalchemy_writes_them(value: Any) -> None:
    dialect = sqlite.dialect()
    usual = sa.DateTime().dialect_impl(dialect).bind_processor(dialect)
    ours = lenient.Timestamp().dialect_impl(dialect).bind_processor(dialect)
    assert ours(value) == usual(value)

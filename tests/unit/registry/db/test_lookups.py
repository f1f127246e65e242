"""What is read without SQLAlchemy is equal to what is read with it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.image import listing, search
from glance.registry.context import RequestContext
from glance.registry.db import (
    api,
    engine,
    full_records,
    image_list,
    image_search,
    lookups,
    models,
)

ADMIN = RequestContext(is_admin=True)
CALLERS = [ADMIN, RequestContext(tenant="one"), RequestContext()]
LISTS = [
    listing.ListQuery(),
    listing.ListQuery(is_public=None),
    listing.ListQuery(is_public=False),
    listing.ListQuery(deleted=None, is_public=None, include_killed=True),
    listing.ListQuery(sort_key="name", sort_dir="asc"),
    listing.ListQuery(filters={"status": "saving"}),
    listing.ListQuery(filters={"disk_format": "raw", "container_format": None}),
    listing.ListQuery(properties={"os": "linux"}, size_min=1),
    listing.ListQuery(changes_since=datetime.datetime(2011, 1, 1), limit=2),
    listing.ListQuery(marker=2),
]
SEARCHES = [
    search.SearchQuery(),
    search.SearchQuery(visibility="all", size_max=10, tags=("t",)),
    search.SearchQuery(equal={"name": "odd"}, properties={"os": "linux"}),
]
ODD = {
    "name": b"bytes",
    "created_at": "2011-09-22T14:00:00+02:00",
    "updated_at": "yesterday",
    "size": "many",
    "min_ram": 7.5,
    "protected": 1,
}


class Compared:
    """Counts what ran without SQLAlchemy, and compares each result with that of SQLAlchemy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.count = self.others = 0
        fetch = lookups.Looker.fetch

        def both(looker: Any, statement: Any, params: Mapping[str, Any]) -> list[Any] | None:
            found = fetch(looker, statement, params)
            if found is None:
                self.others += 1
                return None
            self.count += 1
            with looker._engine.connect() as conn:
                expected = conn.execute(statement, params).all()
            assert [tuple(row) for row in found] == [tuple(row) for row in expected]
            assert [[type(value) for value in row] for row in found] == [
                [type(value) for value in row] for row in expected
            ]
            return found

        monkeypatch.setattr(lookups.Looker, "fetch", both)


@pytest.fixture
def filled(sqlite_database: engine.Database) -> engine.Database:
    for number in range(4):
        values = {
            "name": f"image {number}",
            "owner": "one",
            "status": "active",
            "is_public": number % 2 == 0,
            "disk_format": "raw",
            "container_format": "bare",
            "size": number,
            "properties": {"os": "linux", "Ä": "ü"} if number else {},
        }
        api.image_create(sqlite_database, ADMIN, values, tags=("t", "ä") if number > 1 else ())
    with sqlite_database.write() as conn:
        conn.exec_driver_sql(
            f"UPDATE images SET {', '.join(f'{name} = ?' for name in ODD)} WHERE id = 3",
            tuple(ODD.values()),
        )
    return sqlite_database


@pytest.mark.parametrize("caller", CALLERS, ids=["admin", "tenant", "nobody"])
def test_lists_are_the_same_both_ways(
    filled: engine.Database, caller: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = Compared(monkeypatch)
    for query in LISTS:
        for detail in (True, False):
            try:
                image_list.image_list(filled, caller, query, detail=detail)
            except exception.Invalid:
                assert query.marker is not None
    for wanted in SEARCHES:
        image_search.find(filled, caller, wanted)
        image_search.find_shown(filled, caller, wanted)
    assert compared.count >= len(LISTS) + len(SEARCHES)


def test_images_are_the_same_both_ways(
    filled: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = Compared(monkeypatch)
    for number in (1, 2, 3, 4):
        found = api.image_get(filled, ADMIN, number)
        full = full_records.record_get(filled, ADMIN, found["uuid"] or "")
        assert full["id"] == number
    with pytest.raises(exception.ImageNotFound):
        api.image_get(filled, RequestContext(tenant="two"), 2)
    assert (compared.count, compared.others) == (9, 0)


def test_what_is_committed_is_seen_at_once(filled: engine.Database) -> None:
    for number in range(3):
        api.image_update(filled, ADMIN, 1, {"name": f"new {number}"})
        assert api.image_get(filled, ADMIN, 1)["name"] == f"new {number}"


def test_text_that_is_not_utf8_is_read_the_other_way(
    filled: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled.write() as conn:
        conn.exec_driver_sql("UPDATE images SET name = CAST(x'ff' AS TEXT) WHERE id = 1")
    compared = Compared(monkeypatch)
    assert api.image_get(filled, ADMIN, 1)["name"] == "\ufffd"
    assert (compared.count, compared.others) == (0, 1)


def test_a_list_of_values_is_left_to_sqlalchemy(sqlite_database: engine.Database) -> None:
    several = sa.select(models.images.c.id).where(
        models.images.c.id.in_(sa.bindparam("ids", expanding=True))
    )
    with sqlite_database.read() as conn:
        assert lookups.plan(several, conn.dialect) is None


def test_a_database_that_fails_is_reported_as_ever(sqlite_database: engine.Database) -> None:
    with sqlite_database.write() as conn:
        conn.exec_driver_sql("DROP TABLE image_properties")
    with pytest.raises(exception.ServiceUnavailable):
        api.image_get(sqlite_database, ADMIN, 1)
    with pytest.raises(exception.ImageNotFound), sqlite_database.look_up():
        raise exception.ImageNotFound(1)


def test_a_new_connection_is_opened_after_the_old_ones_were_closed(
    filled: engine.Database,
) -> None:
    assert api.image_get(filled, ADMIN, 1)["id"] == 1
    filled.dispose()
    assert api.image_get(filled, ADMIN, 1)["id"] == 1

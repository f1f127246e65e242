"""Odd rows: lists show what can be read of them, and an upgrade repairs them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import config, exception
from glance.image import fields, listing
from glance.registry import server
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, image_list, lenient, migration, models, sharing
from glance.registry.db.migrate_repo import schema

ADMIN = RequestContext(is_admin=True)
NOON = datetime.datetime(2011, 9, 22, 12)
HALF = datetime.timedelta(microseconds=500_000)
Connect = Callable[[str], sa.engine.Connection]

READABLE = [
    ("2011-09-22 12:00:00.5", NOON + HALF),
    ("2011-09-22 12:00:00.500", NOON + HALF),
    ("2011-09-22 12:00:00,5", NOON + HALF),
    ("2011-09-22 12:00:00.500000999", NOON + HALF),
    ("2011-09-22T12:00:00", NOON),
    ("2011-09-22T12:00:00Z", NOON),
    ("2011-09-22t12:00:00z", NOON),
    ("2011-09-22T12:00:00.5Z", NOON + HALF),
    ("2011-09-22T14:00:00+02:00", NOON),
    ("2011-09-22 14:00:00+0200", NOON),
    ("2011-09-22 14:00:00 +02", NOON),
    ("2011-09-22T06:30:00-05:30", NOON),
    ("2011-09-22 12:00:00 UTC", NOON),
    ("2011-09-22 12:00", NOON),
    ("2011-09-22T12:00Z", NOON),
    ("20110922T120000Z", NOON),
    ("2011-9-22 12:0:0", NOON),
    (" 2011-09-22 12:00:00 ", NOON),
    ("2011-09-21 36:00:00", None),
    ("2011-09-21 24:00:00", NOON - datetime.timedelta(hours=12)),
    ("2011-09-22 11:59:60", NOON),
    ("2011-09-22", NOON - datetime.timedelta(hours=12)),
    (20110922, NOON - datetime.timedelta(hours=12)),
    (20110922120000, NOON),
    (1316692800, NOON),
    (1316692800.5, NOON + HALF),
    (2455827.0, NOON),
    (b"2011-09-22 12:00:00", NOON),
    ("", None),
    ("yesterday", None),
    ("0000-00-00 00:00:00", None),
    ("2011-00-22 12:00:00", None),
    ("2011-02-30 12:00:00.000000", None),
    ("12011-09-22 12:00:00", None),
    ("0001-01-01 00:00:00+01:00", None),
    (10**18, None),
    (9e999, None),
    (b"\xff", None),
]


def seen(stored: Any) -> str:
    return ascii(stored)


@pytest.mark.parametrize(("stored", "meant"), READABLE, ids=seen)
def test_a_time_is_read_in_any_form(stored: Any, meant: datetime.datetime | None) -> None:
    assert lenient.time(stored) == meant


class Odd:
    """A database with rows that glance would not write."""

    def __init__(self, conn: sa.engine.Connection, url: str, version: int):
        self.url = url
        self.conn = conn
        self.tables = schema.tables(version)
        if conn.dialect.name == "mysql":
            conn.execute(sa.text("SET sql_mode = ''"))

    def image(self, image_id: int, **raw: Any) -> None:
        """Insert an image, with the values in `raw` as they are."""
        row = {"status": "active", "is_public": True, "created_at": NOON, "updated_at": NOON}
        self.conn.execute(self.tables["images"].insert().values(id=image_id, **row))
        self.change("images", image_id, **raw)

    def child(self, table: str, image_id: int, **raw: Any) -> int:
        row = {"image_id": image_id, "created_at": NOON, **raw}
        made = self.conn.execute(self.tables[table].insert().values(row))
        return made.inserted_primary_key[0]

    def change(self, table: str, row_id: int, **raw: Any) -> None:
        for name, value in raw.items():
            statement = sa.text(f"UPDATE {table} SET {name} = :value WHERE id = :id")
            self.conn.execute(statement, {"value": value, "id": row_id})

    def raw(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        query = sa.text(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
        return [tuple(row) for row in self.conn.execute(query)]


@pytest.fixture
def odd(kind: Any, connect: Connect) -> Odd:
    """A database at the target version."""
    url = kind.emptied()
    return Odd(connect(url), url, models.SCHEMA_VERSION)


@pytest.fixture
def old(kind: Any, connect: Connect) -> Odd:
    """A database at the version before the repair."""
    url = kind.at(17)
    return Odd(connect(url), url, 17)


def odd_times(kind: str) -> list[tuple[Any, datetime.datetime | None]]:
    """Return times that this kind of database stores, and what they mean."""
    if kind == "sqlite":
        return READABLE
    if kind == "mysql":
        return [("0000-00-00 00:00:00", None), ("2011-00-00 12:00:00", None)]
    return [
        ("infinity", None),
        ("-infinity", None),
        ("0044-03-15 BC", None),
        ("12011-01-01", None),
    ]


def pages(database: engine.Database, **query: Any) -> list[dict[str, Any]]:
    """Walk through a list, one image on each page; stop if it does not end."""
    walk: list[dict[str, Any]] = []
    for _ in range(60):
        marker = walk[-1]["id"] if walk else None
        page = api.image_list(database, ADMIN, listing.ListQuery(limit=1, marker=marker, **query))
        if not page:
            return walk
        walk += page
    pytest.fail("the list has no end")


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", ["created_at", "updated_at"])
def test_a_time_that_is_odd_is_shown_once_in_its_place(
    odd: Odd, kind: Any, key: str, direction: str
) -> None:
    stored = odd_times(kind.name)
    for image_id, (value, _) in enumerate(stored, 1):
        odd.image(image_id, **{key: value})
    odd.image(len(stored) + 1)
    database = engine.Database(odd.url)
    order = {"sort_key": key, "sort_dir": direction}
    walk = pages(database, **order)
    whole = api.image_list(database, ADMIN, listing.ListQuery(limit=100, **order))
    assert walk == whole
    found = {image["id"]: image[key] for image in walk}
    assert found == dict(enumerate([*(meant for _, meant in stored), NOON], 1))
    for image in whole:
        single = api.image_get(database, ADMIN, image["id"])
        assert single.items() >= image.items()
    database.dispose()


class Started:
    """A `start_response` that keeps the statuses."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    def __call__(self, status: str, headers: Any) -> None:
        self.statuses.append(status)


def test_the_registry_responds_for_odd_rows(odd: Odd, kind: Any) -> None:
    for image_id, (value, _) in enumerate(odd_times(kind.name), 1):
        odd.image(image_id, created_at=value, status="weird", disk_format="floppy")
    database = engine.Database(odd.url)
    app = server.RegistryAPI(config.Conf({"sql_connection": odd.url}), database)
    started = Started()
    for path in ("/images", "/images/detail", "/images/1"):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "limit=100",
            "glance.context": ADMIN,
        }
        assert json.loads(b"".join(app(environ, started)))
    assert started.statuses == ["200 OK"] * 3
    for image_id in range(1, len(odd_times(kind.name)) + 1):
        assert api.image_delete(database, ADMIN, image_id)["deleted"]
    database.dispose()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ({"size": "big"}, {"size": None}),
        ({"size": 12.5, "min_ram": "plenty"}, {"size": 12, "min_ram": 0}),
        ({"size": "12 "}, {"size": 12}),
        ({"size": b"12"}, {"size": 12}),
        ({"min_disk": "7 GB"}, {"min_disk": 0}),
        ({"size": 9e999}, {"size": None}),
        ({"size": 1e30}, {"size": None}),
        ({"name": b"caf\xc3\xa9"}, {"name": "caf\u00e9"}),
        ({"name": b"caf\xe9", "owner": b"\xff"}, {"name": "caf\ufffd", "owner": "\ufffd"}),
        ({"checksum": 5}, {"checksum": "5"}),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "broken text"])
def test_sqlite_may_hold_anything(
    sqlite: Any, connect: Connect, raw: dict[str, Any], shown: dict[str, Any], as_text: bool
) -> None:
    url = sqlite.at(models.SCHEMA_VERSION)
    odd = Odd(connect(url), url, models.SCHEMA_VERSION)
    for image_id in (1, 2, 3):
        odd.image(image_id)
    odd.change("images", 2, **raw)
    odd.child("image_properties", 2, name="a", value="x")
    odd.conn.execute(sa.text("UPDATE image_properties SET value = :v"), {"v": b"\xffx"})
    if as_text:
        for name, value in raw.items():
            if isinstance(value, bytes):
                odd.conn.execute(sa.text(f"UPDATE images SET {name} = CAST({name} AS TEXT)"))
    database = engine.Database(url)
    app = server.RegistryAPI(config.Conf({"sql_connection": url}), database)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/images/detail", "glance.context": ADMIN}
    images = json.loads(b"".join(app(environ, lambda status, headers: None)))["images"]
    assert [image["id"] for image in images] == [3, 2, 1]
    assert {name: images[1][name] for name in shown} == shown
    assert images[1]["properties"] == {"a": "\ufffdx"}
    for key in {*raw, "created_at"} & set(listing.SORT_KEYS):
        walk = pages(database, sort_key=key)
        assert sorted(image["id"] for image in walk) == [1, 2, 3]
    assert api.image_delete(database, ADMIN, 2)["deleted"]
    database.dispose()


@pytest.mark.parametrize("upgraded", [False, True], ids=["as it is", "upgraded"])
@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "broken text"])
def test_names_of_properties_and_members_in_sqlite_may_be_anything(
    sqlite: Any, connect: Connect, as_text: bool, upgraded: bool
) -> None:
    version = 17 if upgraded else models.SCHEMA_VERSION
    url = sqlite.at(version)
    odd = Odd(connect(url), url, version)
    odd.image(1)
    for number, name in enumerate((b"ARCH", b"\xffx")):
        row = odd.child("image_properties", 1, name=f"a{number}", value="v")
        odd.change("image_properties", row, name=name)
        member = odd.child("image_members", 1, member=f"m{number}", can_share=False)
        odd.change("image_members", member, member=name)
    if as_text:
        for table, name in (("image_properties", "name"), ("image_members", "member")):
            odd.conn.execute(sa.text(f"UPDATE {table} SET {name} = CAST({name} AS TEXT)"))
    if upgraded:
        migration.upgrade(url)
    database = engine.Database(url)
    assert shown(database, 1) == {"arch": "v", "\ufffdx": "v"}
    changes = {"properties": {"arch": "new"}}
    changed = api.image_update(database, ADMIN, 1, changes)
    assert changed["properties"] == shown(database, 1) == {"arch": "new", "\ufffdx": "v"}
    members = [row["member"] for row in sharing.member_list(database, ADMIN, 1)]
    assert members == ["ARCH", "\ufffdx"]
    sharing.member_add(database, ADMIN, 1, "c")
    sharing.member_delete(database, ADMIN, 1, "ARCH")
    members = [row["member"] for row in sharing.member_list(database, ADMIN, 1)]
    assert members == ["\ufffdx", "c"]
    changed = api.image_update(database, ADMIN, 1, {}, purge_props=True)
    # NOTE: only version 2 can remove a name with capitals.
    left = {} if upgraded else {"arch": "new"}
    assert changed["properties"] == shown(database, 1) == left
    assert api.image_delete(database, ADMIN, 1)["deleted"]
    database.dispose()


# -- names with capitals --------------------------------------------------------------------------


def named(database: engine.Database, **properties: str) -> list[int]:
    page = api.image_list(database, ADMIN, listing.ListQuery(properties=properties))
    return sorted(image["id"] for image in page)


def shown(database: engine.Database, image_id: int) -> dict[str, str | None]:
    """Return the properties of an image, which lists and single requests must agree on."""
    single: dict[str, str | None] = api.image_get(database, ADMIN, image_id)["properties"]
    page = api.image_list(database, ADMIN, listing.ListQuery())
    assert [image["properties"] for image in page if image["id"] == image_id] == [single]
    public = [fields.to_public_json(image) for image in page]
    document = json.dumps({"images": public}, default=lenient.text).encode()
    assert api.public_page(database, ADMIN, listing.ListQuery(), detail=True) == document
    return single


def fill_names(odd: Odd) -> None:
    """Image 1 has OS_Type, 2 that and os_type, 3 two others, 4 a deleted os_type."""
    for image_id in (1, 2, 3, 4):
        odd.image(image_id)
        odd.child("image_properties", image_id, name="OS_Type", value="linux")
    odd.child("image_properties", 2, name="os_type", value="windows")
    odd.child("image_properties", 3, name="Os_Type", value="plan9")
    odd.child("image_properties", 4, name="os_type", value="dos", deleted=True)
    odd.child("image_properties", 1, name="ARCH", value="x", deleted=True)


def check_names(url: str, *, kept: bool) -> None:
    """Read and change the properties of `fill_names`; `kept`: they still have capitals.

    Version 1 cannot show such a name as it is, and so does not purge it.
    """
    database = engine.Database(url)
    expected = {1: "linux", 2: "windows", 3: "plan9", 4: "linux"}
    for image_id, value in expected.items():
        assert shown(database, image_id) == {"os_type": value}
    assert named(database, os_type="linux") == [1, 4]
    assert named(database, os_type="windows") == [2]
    assert named(database, os_type="plan9") == [3]
    assert named(database, os_type="dos") == []
    assert named(database, arch="x") == []
    for image_id in expected:
        changed = api.image_update(database, ADMIN, image_id, {"properties": {"os_type": "bsd"}})
        assert changed["properties"] == shown(database, image_id) == {"os_type": "bsd"}
    assert named(database, os_type="bsd") == [1, 2, 3, 4]
    assert named(database, os_type="linux") == []
    left = {1: "bsd", 2: "linux", 3: "bsd", 4: "bsd"} if kept else {}
    for image_id in expected:
        changed = api.image_update(
            database, ADMIN, image_id, {"properties": {"arch": "y"}}, purge_props=True
        )
        wanted = {"arch": "y"} | ({"os_type": left[image_id]} if kept else {})
        assert changed["properties"] == shown(database, image_id) == wanted
    database.dispose()


def test_names_with_capitals_are_found_and_shown_once(odd: Odd) -> None:
    fill_names(odd)
    check_names(odd.url, kept=True)


def test_one_of_very_many_names_with_capitals_is_found(odd: Odd) -> None:
    odd.image(1)
    row = {"image_id": 1, "value": "x", "created_at": NOON, "deleted": True}
    names = [f"A{number}" for number in range(image_list._MOST_NAMES)]
    table = odd.tables["image_properties"]
    odd.conn.execute(table.insert(), [{**row, "name": name} for name in names])
    odd.child("image_properties", 1, name="OS_Type", value="linux")
    database = engine.Database(odd.url)
    assert named(database, os_type="linux") == [1]
    assert named(database, a1="x") == []
    database.dispose()


def test_a_quota_counts_a_name_once(odd: Odd) -> None:
    fill_names(odd)
    database = engine.Database(odd.url)
    changes = {"properties": {"os_type": "bsd"}}
    api.image_update(database, ADMIN, 2, changes, property_quota=1)
    with pytest.raises(exception.QuotaExceeded):
        api.image_update(database, ADMIN, 2, {"properties": {"arch": "y"}}, property_quota=1)
    assert shown(database, 2) == {"os_type": "bsd"}
    database.dispose()


def test_an_upgrade_gives_properties_names_in_lower_case(
    old: Odd, caplog: pytest.LogCaptureFixture
) -> None:
    fill_names(old)
    old.image(5)
    old.child("image_properties", 5, name="\u00c4rch", value="z")
    migration.upgrade(old.url)
    found = old.raw("image_properties", "image_id", "name", "value", "deleted")
    live = sorted(row[:3] for row in found if not row[3])
    assert live == [
        (1, "os_type", "linux"),
        (2, "os_type", "windows"),
        (3, "os_type", "plan9"),
        (4, "os_type", "linux"),
        (5, "\u00e4rch", "z"),
    ]
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        f"Image {image_id}: property 'OS_Type' was removed, because 'os_type' is the same name"
        for image_id in (2, 3)
    ]
    check_names(old.url, kept=False)


def test_an_upgrade_gives_very_many_properties_names_in_lower_case(old: Odd) -> None:
    images, names = (old.tables[name] for name in ("images", "image_properties"))
    row = {"created_at": NOON, "deleted": False}
    ids = range(1, 2302)  # three pages
    image = {**row, "name": "x", "status": "active", "is_public": True, "size": 1}
    old.conn.execute(images.insert(), [{**image, "id": number} for number in ids])
    for name in ("OS_Type", "Os_Type"):
        rows = [{**row, "image_id": number, "name": name, "value": name} for number in ids]
        old.conn.execute(names.insert(), rows)
    migration.upgrade(old.url)
    live = [found[:2] for found in old.raw("image_properties", "image_id", "name", "deleted")]
    expected = {(number, name) for number in ids for name in ("os_type", "OS_Type")}
    assert set(live) == expected
    database = engine.Database(old.url)
    assert shown(database, ids[-1]) == {"os_type": "Os_Type"}
    database.dispose()


# -- repair ---------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert not any("\n" in record.getMessage() for record in caplog.records)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_an_upgrade_repairs_times_and_reports_the_rest(
    old: Odd, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stored = odd_times(kind.name)
    unreadable = next(value for value, meant in stored if meant is None)
    for image_id, (value, _) in enumerate(stored, 1):
        old.image(image_id, created_at=value)
        old.child("image_members", image_id, member="m")
    count = len(stored)
    old.image(count + 1, updated_at=unreadable)
    old.image(count + 2, deleted_at=unreadable)
    old.image(count + 3, deleted_at=unreadable, deleted=True)
    old.image(count + 4, created_at=unreadable, updated_at=unreadable)
    old.image(count + 5, created_at=unreadable, updated_at=None)
    for image_id in (1, 2):
        row = old.child("image_properties", image_id, name="a")
        old.change("image_properties", row, created_at=unreadable, updated_at=None)
    migration.upgrade(old.url)
    database = engine.Database(old.url)
    seeing = RequestContext(is_admin=True, show_deleted=True)
    for image_id, (_, meant) in enumerate(stored, 1):
        assert api.image_get(database, ADMIN, image_id)["created_at"] == (meant or NOON)
    assert api.image_get(database, ADMIN, count + 1)["updated_at"] == NOON
    assert api.image_get(database, ADMIN, count + 2)["deleted_at"] is None
    assert api.image_get(database, seeing, count + 3)["deleted_at"] == NOON
    lost = api.image_get(database, ADMIN, count + 4)
    assert (lost["created_at"], lost["updated_at"]) == (None, None)
    assert warnings(caplog) == [
        f"Image {count + 4}: correct created_at and updated_at, which cannot be read",
        f"Image {count + 5}: correct created_at, which cannot be read",
        "Image 1: correct created_at of image_properties, which cannot be read",
        "Image 2: correct created_at of image_properties, which cannot be read",
    ]
    # Everything else has the one form that sorts as text.
    if kind.name == "sqlite":
        for (value,) in old.raw("images", "created_at")[:count]:
            assert value == datetime.datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M:%S.%f")
    database.dispose()


def test_an_upgrade_repairs_the_scrub_queue(old: Odd, kind: Any) -> None:
    unreadable = next(value for value, meant in odd_times(kind.name) if meant is None)
    old.image(1, status="pending_delete", deleted=True)
    queue = old.tables["scrub_queue"]
    old.conn.execute(queue.insert().values(image_id=1, item="data", created_at=NOON, due_at=NOON))
    for name in ("created_at", "due_at", "lease_until"):
        old.conn.execute(sa.text(f"UPDATE scrub_queue SET {name} = :v"), {"v": unreadable})
    migration.upgrade(old.url)
    row = old.conn.execute(sa.select(queue)).one()
    assert row.created_at and row.due_at and row.lease_until is None


def test_an_upgrade_repairs_numbers_and_statuses(
    old: Odd, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old.image(1, size=-1)
    old.image(2, status="Active")
    old.image(3, status="weird")
    if kind.name == "sqlite":
        old.image(4, size="big", min_ram="plenty", min_disk=1e30)
        old.image(5, size=12.0, min_disk=b"7")
        old.image(6, name=b"caf\xc3\xa9")
    migration.upgrade(old.url)
    found = old.raw("images", "size", "status", "min_disk", "min_ram", "name")
    assert found[:3] == [
        (None, "active", 0, 0, None),
        (None, "active", 0, 0, None),
        (None, "weird", 0, 0, None),
    ]
    lines = ["Image 1: size was no number; now it is not set"]
    if kind.name == "sqlite":
        assert found[3:] == [
            (None, "active", 0, 0, None),
            (12, "active", 7, 0, None),
            (None, "active", 0, 0, "caf\u00e9"),
        ]
        lines += [
            "Image 4: size was no number; now it is not set",
            "Image 4: min_disk was no number; now it is 0",
            "Image 4: min_ram was no number; now it is 0",
        ]
    assert warnings(caplog) == [*lines, "Image 3: correct its status, which is unknown"]


@pytest.mark.parametrize("version", [9, 15])
def test_an_upgrade_from_before_copies_dates_that_do_not_exist(
    kind: Any, connect: Connect, version: int
) -> None:
    """MariaDB and MySQL refuse to copy such rows when a table changes, if they are strict."""
    if kind.name != "mysql":
        pytest.skip("about MySQL and MariaDB")
    url = kind.at(version)
    old = Odd(connect(url), url, version)
    old.image(1, created_at="0000-00-00 00:00:00", updated_at="0000-00-00 00:00:00")
    old.image(2, updated_at="0000-00-00 00:00:00", name="x")
    old.child("image_properties", 2, name="OS_Type", value="linux")
    strict = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE"
    before = old.conn.execute(sa.text("SELECT @@GLOBAL.sql_mode")).scalar()
    old.conn.execute(sa.text(f"SET GLOBAL sql_mode = '{strict}'"))
    try:
        migration.upgrade(url)
        database = engine.Database(url)
        walk = pages(database)
        changed = api.image_update(database, ADMIN, 1, {"name": "y"})
        database.dispose()
    finally:
        old.conn.execute(sa.text("SET GLOBAL sql_mode = :mode"), {"mode": before})
    assert [(image["id"], image["created_at"]) for image in walk] == [(2, NOON), (1, None)]
    assert [image["properties"] for image in walk] == [{"os_type": "linux"}, {}]
    assert changed["name"] == "y"

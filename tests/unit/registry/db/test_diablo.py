"""Databases as the Diablo release left them (`support.diablo`) are upgraded with their data."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models

from support.diablo import BIG, DDL, FROM_MODELS, MEMBERS, build, insert

Connect = Callable[[str], sa.engine.Connection]


def fill(conn: sa.engine.Connection, version: int) -> None:
    """Store rows as Diablo did: nulls, text among numbers, bare dates, a deleted image."""
    live = {"created_at": "2011-09-22 10:11:12.000123", "deleted": 0}
    gone = {**live, "deleted": 1}
    extra: dict[str, Any] = {}
    if version < 3:
        extra["type"] = "kernel"
    else:
        extra.update(disk_format="aki", container_format="aki")
    if version >= 4:
        extra["checksum"] = "d41d8cd98f00b204e9800998ecf8427e"
    if version >= 7:
        extra["owner"] = "tenant1"
    if version >= 9:
        extra.update(min_disk=None, min_ram="512")
    common = {"status": "active", "is_public": 1, "location": "swift://u:p@h/c/1"}
    insert(conn, "images", id=1, name="caf\u00e9", size=BIG, **common, **live, **extra)
    if version >= 9:
        extra["min_ram"] = "plenty"
    insert(conn, "images", id=2, name=None, size=None, **common, **live, **extra)
    deleted_at = "2011-09-23 00:00:00.000000"
    insert(
        conn, "images", id=7, name="x", size=0, **common, **gone, deleted_at=deleted_at, **extra
    )
    if version >= 2:
        key = "name" if version >= 6 else "key"
        conn.exec_driver_sql("PRAGMA foreign_keys = OFF")
        bare = {"created_at": "2011-09-22", "deleted": 0}
        insert(conn, "image_properties", image_id=1, **{key: "Distro"}, value="Debian", **bare)
        insert(conn, "image_properties", image_id=1, **{key: "old"}, value="1", **gone)
        insert(conn, "image_properties", image_id=7, **{key: "arch"}, value="x", **gone)
    if version >= 8:
        insert(conn, "image_members", image_id=1, member="tenant2", can_share=1, **live)
        insert(conn, "image_members", image_id=1, member="tenant3", can_share=1, **gone)


def age(conn: sa.engine.Connection, version: int) -> None:
    """Make tables of MySQL what Diablo's tools made there: whole seconds, the server's text."""
    if conn.dialect.name != "mysql":
        return
    for table in sa.inspect(conn).get_table_names():
        conn.execute(sa.text(f"ALTER TABLE {table} CONVERT TO CHARACTER SET latin1"))
        if table != "migrate_version":
            conn.execute(
                sa.text(
                    f"ALTER TABLE {table} MODIFY created_at DATETIME NOT NULL,"
                    " MODIFY updated_at DATETIME, MODIFY deleted_at DATETIME"
                )
            )


def fill_with_types(conn: sa.engine.Connection, version: int) -> None:
    """Store the rows of `fill` where columns take values of their type only."""
    metadata = sa.MetaData()
    metadata.reflect(conn)

    def store(table: str, /, **values: Any) -> None:
        conn.execute(metadata.tables[table].insert().values(**values))

    live = {"created_at": datetime.datetime(2011, 9, 22, 10, 11, 12, 123), "deleted": False}
    gone = {**live, "deleted": True}
    extra: dict[str, Any] = {}
    if version < 3:
        extra["type"] = "kernel"
    else:
        extra.update(disk_format="aki", container_format="aki")
    if version >= 4:
        extra["checksum"] = "d41d8cd98f00b204e9800998ecf8427e"
    if version >= 7:
        extra["owner"] = "tenant1"
    if version >= 9:
        extra.update(min_disk=None, min_ram=512)
    big = BIG if version >= 5 else 2**31 - 1
    common = {"status": "active", "is_public": True, "location": "swift://u:p@h/c/1"}
    store("images", id=1, name="caf\u00e9", size=big, **common, **live, **extra)
    if version >= 9:
        extra["min_ram"] = None
    store("images", id=2, name=None, size=None, **common, **live, **extra)
    deleted_at = datetime.datetime(2011, 9, 23)
    store("images", id=7, name="x", size=0, deleted_at=deleted_at, **common, **gone, **extra)
    if version >= 2:
        key = "name" if version >= 6 else "key"
        for image_id, name, value, row in (
            (1, "Distro", "Debian", live),
            (1, "old", "1", gone),
            (7, "arch", "x", gone),
        ):
            store("image_properties", image_id=image_id, value=value, **{key: name}, **row)
    if version >= 8:
        store("image_members", image_id=1, member="tenant2", can_share=True, **live)
        store("image_members", image_id=1, member="tenant3", can_share=True, **gone)
    if conn.dialect.name == "postgresql":
        # The sequence has counted the images, which have explicit ids here only.
        conn.execute(sa.text("SELECT setval('images_id_seq', 7)"))


@pytest.mark.parametrize("version", sorted(DDL))
def test_data_of_every_version_is_upgraded_on_every_database(
    kind: Any, connect: Connect, version: int
) -> None:
    url = kind.at(version)
    conn = connect(url)
    age(conn, version)
    fill_with_types(conn, version)
    migration.upgrade(url)
    size = BIG if version >= 5 else 2**31 - 1
    check(url, version, size=size, microseconds=123 if kind.name != "mysql" else 0)
    # What is written now has its microseconds, whatever the old columns had.
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    conn.execute(models.images.update().where(models.images.c.id == 1).values(updated_at=moment))
    query = sa.select(models.images.c.updated_at).where(models.images.c.id == 1)
    assert conn.execute(query).scalar() == moment


def check(url: str, version: int, *, size: int = BIG, microseconds: int = 123) -> None:
    """Look at the upgraded database through the functions that the registry uses."""
    database = engine.Database(url)
    admin = RequestContext(is_admin=True, tenant="admins")
    image = api.image_get(database, admin, 1)
    assert image["name"] == "caf\u00e9" and image["size"] == size
    assert image["location"] == "swift://u:p@h/c/1"
    assert image["created_at"] == datetime.datetime(2011, 9, 22, 10, 11, 12, microseconds)
    assert image["updated_at"] == image["created_at"]
    assert (image["min_disk"], image["protected"], image["is_public"]) == (0, False, True)
    assert image["min_ram"] == (512 if version >= 9 else 0)
    assert image["owner"] == ("tenant1" if version >= 7 else None)
    expected = {"distro": "Debian"} if version >= 2 else {}
    if version < 3:
        expected["type"] = "kernel"
    else:
        assert image["disk_format"] == "aki"
    assert image["properties"] == expected
    second = api.image_get(database, admin, 2)
    assert (second["name"], second["size"], second["min_ram"]) == (None, None, 0)
    with pytest.raises(exception.ImageNotFound):
        api.image_get(database, admin, 7)
    seeing = RequestContext(is_admin=True, show_deleted=True)
    assert api.image_get(database, seeing, 7)["deleted_at"] == datetime.datetime(2011, 9, 23)
    members = api.member_list(database, admin, 1)
    assert members == ([{"member": "tenant2", "can_share": True}] if version >= 8 else [])
    # Foreign keys point at images again, and everything can be written.
    changed = api.image_update(database, admin, 1, {"properties": {"distro": "Ubuntu"}})
    assert changed["properties"]["distro"] == "Ubuntu"
    api.member_add(database, admin, 2, "tenant9", True)
    assert api.image_create(database, admin, {"status": "queued"})["id"] == 8
    database.dispose()


@pytest.mark.parametrize("version", sorted(DDL))
def test_a_diablo_database_upgrades_with_its_data(
    sqlite_url: str, connect: Connect, version: int
) -> None:
    conn = connect(sqlite_url)
    build(conn, DDL[version], version)
    fill(conn, version)
    migration.upgrade(sqlite_url)
    inspector = sa.inspect(conn)
    for name, table in models.metadata.tables.items():
        assert {index["name"] for index in inspector.get_indexes(name)} == {
            index.name for index in table.indexes
        }
        assert all(key["referred_table"] == "images" for key in inspector.get_foreign_keys(name))
    check(sqlite_url, version)


@pytest.mark.parametrize("version", [None, 0], ids=["unversioned", "stopped at 0"])
def test_tables_made_by_a_starting_diablo_registry_are_adopted(
    sqlite_url: str, connect: Connect, version: int | None
) -> None:
    conn = connect(sqlite_url)
    build(conn, FROM_MODELS, version)
    fill(conn, 9)
    migration.db_sync(sqlite_url)
    assert migration.db_version(sqlite_url) == models.SCHEMA_VERSION
    check(sqlite_url, 9)


def test_adoption_can_stop_at_diablos_version(sqlite_url: str, connect: Connect) -> None:
    build(connect(sqlite_url), FROM_MODELS, None)
    migration.db_sync(sqlite_url, 9)
    assert migration.db_version(sqlite_url) == 9


def test_tables_made_from_our_own_definitions_are_adopted(
    sqlite_url: str, connect: Connect
) -> None:
    models.metadata.create_all(connect(sqlite_url))
    migration.db_sync(sqlite_url)
    assert migration.db_version(sqlite_url) == models.SCHEMA_VERSION


def test_tables_of_an_unknown_schema_are_not_adopted(sqlite_url: str, connect: Connect) -> None:
    conn = connect(sqlite_url)
    build(conn, DDL[7], None)
    with pytest.raises(exception.DatabaseMigrationError, match="unknown schema"):
        migration.db_sync(sqlite_url)
    assert not sa.inspect(conn).has_table("migrate_version")


def test_a_table_that_a_newer_registry_made_ahead_of_its_step_is_taken_over(
    sqlite_url: str, connect: Connect
) -> None:
    """A Diablo registry that starts on version 7 makes the members' table of version 8."""
    conn = connect(sqlite_url)
    build(conn, [*DDL[7], MEMBERS], 7)
    fill(conn, 7)
    insert(
        conn,
        "image_members",
        image_id=1,
        member="tenant2",
        can_share=1,
        created_at="2011-09-22 10:11:12.000123",
        deleted=0,
    )
    migration.upgrade(sqlite_url)
    assert conn.exec_driver_sql("SELECT member FROM image_members").scalars().all() == ["tenant2"]


def test_a_table_in_the_way_of_a_step_is_not_taken_over(sqlite_url: str, connect: Connect) -> None:
    conn = connect(sqlite_url)
    build(conn, [*DDL[7], "CREATE TABLE image_members (id INTEGER, who TEXT)"], 7)
    with pytest.raises(exception.DatabaseMigrationError, match="image_members exists already"):
        migration.upgrade(sqlite_url)
    assert migration.db_version(sqlite_url) == 7

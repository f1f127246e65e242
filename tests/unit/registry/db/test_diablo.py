"""Databases as the Diablo release left them on SQLite, at every version, upgraded with their data.

The statements are written out by hand, not taken from our own definitions: they hold what that
release's tools produced, with the oddities that its table rebuilds and its start-up left behind.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models

Connect = Callable[[str], sa.engine.Connection]
BIG = 6 * 2**30

BOOKKEEPING = """created_at DATETIME NOT NULL, updated_at DATETIME, deleted_at DATETIME,
    deleted BOOLEAN NOT NULL, PRIMARY KEY (id), CHECK (deleted IN (0, 1))"""


def images(*columns: str) -> str:
    return f"""CREATE TABLE images (
    id INTEGER NOT NULL, name VARCHAR(255), {", ".join(columns)}, status VARCHAR(30) NOT NULL,
    is_public BOOLEAN NOT NULL, location TEXT, {BOOKKEEPING}, CHECK (is_public IN (0, 1)))"""


def properties(key: str, target: str = "images") -> str:
    return f"""CREATE TABLE image_properties (
    id INTEGER NOT NULL, image_id INTEGER NOT NULL, {key} VARCHAR(255) NOT NULL, value TEXT,
    {BOOKKEEPING}, UNIQUE (image_id, {key}), FOREIGN KEY(image_id) REFERENCES {target} (id))"""


MEMBERS = f"""CREATE TABLE image_members (
    id INTEGER NOT NULL, image_id INTEGER NOT NULL, member VARCHAR(255) NOT NULL,
    can_share BOOLEAN NOT NULL, {BOOKKEEPING}, CHECK (can_share IN (0, 1)),
    UNIQUE (image_id, member), FOREIGN KEY(image_id) REFERENCES images (id))"""

FORMATS = ("disk_format VARCHAR(20)", "container_format VARCHAR(20)")
CHECKSUM, OWNER = "checksum VARCHAR(32)", "owner VARCHAR(255)"
MINIMA = ("min_disk INTEGER", "min_ram INTEGER")
IMAGES_INDEXES = (
    "CREATE INDEX ix_images_is_public ON images (is_public)",
    "CREATE INDEX ix_images_deleted ON images (deleted)",
)
KEY_INDEXES = (
    "CREATE INDEX ix_image_properties_image_id ON image_properties (image_id)",
    "CREATE INDEX ix_image_properties_deleted ON image_properties (deleted)",
    "CREATE INDEX ix_image_properties_image_id_key ON image_properties (image_id, key)",
)
#: All that Diablo's rebuild of step 006 left.
NAME_INDEXES = ("CREATE INDEX ix_image_properties_name ON image_properties (name)",)
MEMBER_INDEXES = (
    "CREATE INDEX ix_image_members_image_id ON image_members (image_id)",
    "CREATE INDEX ix_image_members_deleted ON image_members (deleted)",
    "CREATE INDEX ix_image_members_image_id_member ON image_members (image_id, member)",
)

#: The tables at each version. Dropping `type` in step 003 rebuilt `images` without its indexes,
#: and on a SQLite that renames references too it left the foreign key at the temporary name.
DDL: dict[int, list[str]] = {
    1: [images("type VARCHAR(30)", "size INTEGER"), *IMAGES_INDEXES],
    2: [
        images("type VARCHAR(30)", "size INTEGER"),
        *IMAGES_INDEXES,
        properties("key"),
        *KEY_INDEXES,
    ],
    3: [images("size INTEGER", *FORMATS), properties("key", "migration_tmp"), *KEY_INDEXES],
    4: [images("size INTEGER", *FORMATS, CHECKSUM), properties("key"), *KEY_INDEXES],
    5: [images("size INTEGER", *FORMATS, CHECKSUM), properties("key"), *KEY_INDEXES],
    6: [images("size INTEGER", *FORMATS, CHECKSUM), properties("name"), *NAME_INDEXES],
    7: [images("size INTEGER", *FORMATS, CHECKSUM, OWNER), properties("name"), *NAME_INDEXES],
    8: [
        images("size INTEGER", *FORMATS, CHECKSUM, OWNER),
        properties("name", "migration_tmp"),
        *NAME_INDEXES,
        MEMBERS,
        *MEMBER_INDEXES,
    ],
    9: [
        images("size INTEGER", *FORMATS, CHECKSUM, OWNER, *MINIMA),
        properties("name"),
        *NAME_INDEXES,
        MEMBERS,
        *MEMBER_INDEXES,
    ],
}
#: What a Diablo registry creates when it starts on an empty database: no migration's indexes.
FROM_MODELS = [
    images("size BIGINT", *FORMATS, CHECKSUM, OWNER, *MINIMA),
    properties("name"),
    *NAME_INDEXES,
    MEMBERS,
]

VERSION_TABLE = """CREATE TABLE migrate_version (repository_id VARCHAR(250) NOT NULL,
    repository_path TEXT, version INTEGER, PRIMARY KEY (repository_id))"""


def build(conn: sa.engine.Connection, ddl: list[str], version: int | None) -> None:
    """Make the tables and, unless None, the record of their version."""
    for statement in ddl:
        conn.exec_driver_sql(statement)
    if version is not None:
        conn.exec_driver_sql(VERSION_TABLE)
        conn.exec_driver_sql(
            "INSERT INTO migrate_version VALUES (?, ?, ?)",
            ("Glance Migrations", "/usr/share/pyshared/glance/registry/db/migrate_repo", version),
        )


def insert(conn: sa.engine.Connection, table: str, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    conn.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


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

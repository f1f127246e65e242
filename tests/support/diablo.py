"""Databases as the Diablo release left them on SQLite, at every version.

The statements are written out by hand, not taken from our own definitions: they hold what that
release's tools produced, with the oddities that its table rebuilds and its start-up left behind.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

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


def insert_image(
    conn: sa.engine.Connection, number: int, name: str | None, where: str, **values: Any
) -> None:
    """Store the row of a private image of acme as version 9 did, with its data below `where`.

    `values` replace those of the row; `data` are its bytes, None for an image without.
    """
    data = values.pop("data", None)
    row: dict[str, Any] = {
        "status": "active",
        "size": len(data or b""),
        "checksum": hashlib.md5(data).hexdigest() if data else None,
        "location": f"file://{where}/{number}" if data else None,
        "disk_format": "raw",
        "container_format": "bare",
        "owner": "acme",
        "is_public": 0,
        "created_at": "2011-09-22 10:11:12.000123",
        "deleted": 0,
        **values,
    }
    insert(conn, "images", id=number, name=name, **row)

"""The tables of the registry: the target schema, at version `SCHEMA_VERSION`.

Queries are built from these definitions. A database gets its tables from the migrations, never
from here; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext import compiler
from sqlalchemy.sql import elements
from sqlalchemy.sql.elements import ColumnElement

from glance.registry.db.lenient import Timestamp, WholeNumber

#: The version of `migrate_repo` whose result these tables describe.
SCHEMA_VERSION = 25

ODD_NAME_INDEX = "ix_image_properties_odd_name"
VALUE_INDEX = "ix_image_properties_name_value_image_id"
#: How many characters of a value are in that index; values can be longer than a key of an index.
INDEXED_VALUE = 64

metadata = sa.MetaData()


class _BytewiseText(sa.Text):  # type: ignore[misc]  # no stubs, see setup.cfg
    """Text of MySQL and MariaDB that is compared byte by byte; `length` counts characters.

    SECURITY: by default these databases ignore case, accents and blanks at the end, so that tenant
    `ACME` would see the images of `acme`. Other databases compare bytes already.
    """


@compiler.compiles(_BytewiseText, "mysql")  # type: ignore[untyped-decorator]  # no stubs
def _of_mysql(text: Any, compiling: Any, **kw: Any) -> str:
    # NOTE: TEXT holds 65535 bytes, which are fewer characters outside ASCII.
    name = "MEDIUMTEXT" if text.length is None else f"VARCHAR({text.length})"
    return f"{name} CHARACTER SET utf8mb4 COLLATE {bytewise_collation(compiling.dialect)}"


def bytewise_collation(dialect: sa.engine.Dialect) -> str:
    """Return the collation of a connected MySQL or MariaDB that compares bytes.

    NOTE: not `utf8mb4_bin`, which ignores blanks at the end.
    """
    return "utf8mb4_nopad_bin" if dialect.is_mariadb else "utf8mb4_0900_bin"


def bytewise_text(length: int | None = None) -> sa.types.TypeEngine:
    """Return the type of text that every database compares byte by byte.

    `length` is the maximum in characters; without one there is no practical limit.
    """
    plain = sa.Text() if length is None else sa.String(length)
    return plain.with_variant(_BytewiseText(length), "mysql")


class new_uuid(sa.sql.functions.GenericFunction):  # type: ignore[misc]  # no stubs, see setup.cfg
    """A random UUID in lower case that the database makes, as the default of a column.

    For rows of registries of an earlier schema version, and for those that a step finds. It has
    the form of version 4 (RFC 9562 §5.4), but for MySQL, which makes its own.
    """

    type = sa.String()
    inherit_cache = True


@compiler.compiles(new_uuid, "sqlite")  # type: ignore[untyped-decorator]  # no stubs
def _uuid_of_sqlite(element: Any, compiling: Any, **kw: Any) -> str:
    return (
        "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||"
        " substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' ||"
        " hex(randomblob(6)))"
    )


@compiler.compiles(new_uuid, "postgresql")  # type: ignore[untyped-decorator]  # no stubs
def _uuid_of_postgresql(element: Any, compiling: Any, **kw: Any) -> str:
    # NOTE: gen_random_uuid came with version 13.
    source = "md5(random()::text || random()::text || clock_timestamp()::text)"
    return f"(overlay(overlay({source} placing '4' from 13) placing '8' from 17)::uuid::text)"


@compiler.compiles(new_uuid, "mysql")  # type: ignore[untyped-decorator]  # no stubs
def _uuid_of_mysql(element: Any, compiling: Any, **kw: Any) -> str:
    return "(uuid())"


def _flag(name: str) -> sa.Column:
    return sa.Column(
        name, sa.Boolean(create_constraint=True), nullable=False, server_default=sa.false()
    )


def _bookkeeping() -> list[sa.Column]:
    return [
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
        sa.Column("deleted_at", Timestamp()),
        _flag("deleted"),
    ]


def order_index(name: str, *columns: sa.Column) -> sa.Index:
    """Return an index in the order of lists, where nulls are smaller than all values."""
    # NOTE: for PostgreSQL they are greater by default.
    nulls = {column.key: "NULLS FIRST" for column in columns if column.nullable}
    return sa.Index(name, *columns, postgresql_ops=nulls)


def odd_name_index(properties: sa.Table) -> sa.Index:
    """Return the index that finds names with capitals, which only other programs write.

    It is empty in SQLite and PostgreSQL. MySQL has no such indexes; it finds the different names.
    """
    is_odd = is_odd_name(properties)
    return sa.Index(
        ODD_NAME_INDEX, properties.c.name, sqlite_where=is_odd, postgresql_where=is_odd
    )


class _Start(elements.Grouping):  # type: ignore[misc]  # no stubs, see setup.cfg
    """The beginning of a text column, as a part of an index."""

    inherit_cache = True


@compiler.compiles(_Start)  # type: ignore[untyped-decorator]  # no stubs
def _whole(start: Any, compiling: Any, **kw: Any) -> str:
    return str(compiling.process(start.element, **kw))


@compiler.compiles(_Start, "mysql")  # type: ignore[untyped-decorator]  # no stubs
def _prefix(start: Any, compiling: Any, **kw: Any) -> str:
    return f"{compiling.process(start.element, **kw)}({INDEXED_VALUE})"


@compiler.compiles(_Start, "postgresql")  # type: ignore[untyped-decorator]  # no stubs
def _left(start: Any, compiling: Any, **kw: Any) -> str:
    return f"left({compiling.process(start.element, **kw)}, {INDEXED_VALUE})"


def value_index(properties: sa.Table) -> sa.Index:
    """Return the index that finds the images with a property of a name and a value."""
    columns = properties.c
    return sa.Index(VALUE_INDEX, columns.name, _Start(columns.value), columns.image_id)


def is_odd_name(properties: sa.Table) -> ColumnElement[bool]:
    """Return the clause for properties whose names have capitals."""
    return properties.c.name != sa.func.lower(properties.c.name)


images = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", bytewise_text(255)),
    sa.Column("disk_format", bytewise_text(20)),
    sa.Column("container_format", bytewise_text(20)),
    sa.Column("size", WholeNumber(sa.BigInteger, None)),
    sa.Column("status", bytewise_text(30), nullable=False),
    _flag("is_public"),
    sa.Column("location", bytewise_text()),
    *_bookkeeping(),
    sa.Column("checksum", bytewise_text(32)),
    sa.Column("owner", bytewise_text(255), index=True),
    sa.Column("min_disk", WholeNumber(sa.Integer, 0), nullable=False, server_default="0"),
    sa.Column("min_ram", WholeNumber(sa.Integer, 0), nullable=False, server_default="0"),
    _flag("protected"),
    # The attempt that gave the record its status, if it has one; no part of what is shown.
    sa.Column("attempt", bytewise_text(32)),
    # When its data became complete. Null before that, and in records that a registry of an earlier
    # schema version activated: then `created_at` counts.
    sa.Column("activated_at", Timestamp()),
    # The id of version 2 of the Images API, in lower case.
    sa.Column("uuid", bytewise_text(36), nullable=False, server_default=new_uuid()),
    # NOTE: with `is_public`; see `glance.registry.db.visibility`.
    sa.Column("visibility", bytewise_text(16), nullable=False, server_default="shared"),
    _flag("os_hidden"),
    sa.Column("os_hash_algo", bytewise_text(64)),
    sa.Column("os_hash_value", bytewise_text(128)),
    sa.Column("virtual_size", WholeNumber(sa.BigInteger, None)),
    # Whether an administrator who is not the owner has deactivated it.
    _flag("deactivated_by_admin"),
    # The API by which the data came or comes: v1, v2, import.
    sa.Column("upload_via", bytewise_text(8)),
    sa.UniqueConstraint("uuid"),
    mysql_engine="InnoDB",
)

# PERF: `image_list` explains them. They begin with `deleted`, of which a list almost always wants
# one value: sites keep the records of deleted images, which may be most of the table.
for _columns in (
    ("deleted", "id"),
    ("deleted", "created_at", "id"),
    ("deleted", "updated_at", "id"),
    ("deleted", "name", "id"),
    ("deleted", "size", "id"),
    ("deleted", "status", "id"),
    ("deleted", "disk_format", "id"),
    ("deleted", "container_format", "id"),
    # In the default order: filters by status and formats, public images, images of an owner.
    ("deleted", "status", "created_at", "id"),
    ("deleted", "disk_format", "created_at", "id"),
    ("deleted", "container_format", "created_at", "id"),
    ("deleted", "is_public", "created_at", "id"),
    ("deleted", "owner", "created_at", "id"),
    ("deleted", "visibility", "created_at", "id"),
):
    order_index(f"ix_images_{'_'.join(_columns)}", *(images.c[name] for name in _columns))

image_properties = sa.Table(
    "image_properties",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), nullable=False),
    sa.Column("name", bytewise_text(255), nullable=False),
    sa.Column("value", bytewise_text()),
    *_bookkeeping(),
    sa.UniqueConstraint("image_id", "name"),
    mysql_engine="InnoDB",
)

odd_name_index(image_properties)
value_index(image_properties)

image_members = sa.Table(
    "image_members",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), nullable=False),
    sa.Column("member", bytewise_text(255), nullable=False, index=True),
    _flag("can_share"),
    *_bookkeeping(),
    # What the member says to it: pending, accepted or rejected.
    sa.Column("status", bytewise_text(20), nullable=False, server_default="pending"),
    sa.UniqueConstraint("image_id", "member"),
    mysql_engine="InnoDB",
)

#: Data that waits for its removal; `glance.registry.db.scrub_queue` explains the columns.
scrub_queue = sa.Table(
    "scrub_queue",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("item", bytewise_text(64), primary_key=True),
    sa.Column("location", bytewise_text()),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("due_at", Timestamp(), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", bytewise_text(64)),
    sa.Column("lease_owner", bytewise_text(255)),
    sa.Column("lease_until", Timestamp()),
    _flag("dead"),
    mysql_engine="InnoDB",
)

#: Ids that were counted; only the last one matters. See `glance.registry.db.ids`.
image_id_counter = sa.Table(
    "image_id_counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    mysql_engine="InnoDB",
)

#: Ids of purged images, in ranges that include both ends and do not overlap.
purged_image_ids = sa.Table(
    "purged_image_ids",
    metadata,
    sa.Column("first_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_id", sa.Integer, nullable=False),
    mysql_engine="InnoDB",
)

#: Uuids of purged images: none is ever given to another image.
purged_uuids = sa.Table(
    "purged_uuids",
    metadata,
    sa.Column("uuid", bytewise_text(36), primary_key=True),
    mysql_engine="InnoDB",
)

#: Tags of images, those of deleted ones too.
image_tags = sa.Table(
    "image_tags",
    metadata,
    sa.Column(
        "image_id",
        sa.Integer,
        sa.ForeignKey("images.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("value", bytewise_text(255), primary_key=True),
    sa.Index("ix_image_tags_value_image_id", "value", "image_id"),
    mysql_engine="InnoDB",
)

#: Conversions; `glance.registry.db.conversion_jobs` explains the columns.
#:
#: NOTE: without foreign keys: a job outlives its images, which may be purged meanwhile.
conversion_jobs = sa.Table(
    "conversion_jobs",
    metadata,
    sa.Column("uuid", bytewise_text(36), primary_key=True),
    sa.Column("source_image_id", sa.Integer, nullable=False, index=True),
    sa.Column("image_id", sa.Integer, nullable=False, index=True),
    sa.Column("owner", bytewise_text(255)),
    _flag("by_admin"),
    sa.Column("source_format", bytewise_text(20), nullable=False),
    sa.Column("disk_format", bytewise_text(20), nullable=False),
    _flag("compress"),
    sa.Column("store", bytewise_text(255)),
    sa.Column("status", bytewise_text(16), nullable=False, index=True),
    sa.Column("phase", bytewise_text(16)),
    sa.Column("progress", sa.Integer),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("started_at", Timestamp()),
    sa.Column("finished_at", Timestamp(), index=True),
    sa.Column("bytes_in", sa.BigInteger),
    sa.Column("bytes_out", sa.BigInteger),
    sa.Column("virtual_size", sa.BigInteger),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", bytewise_text(64)),
    sa.Column("not_before", Timestamp()),
    sa.Column("worker", bytewise_text(255)),
    sa.Column("leased_until", Timestamp()),
    sa.Column("request_key", bytewise_text(64), index=True),
    sa.Column("request_digest", bytewise_text(64)),
    mysql_engine="InnoDB",
)
for _columns in (("created_at", "uuid"), ("owner", "created_at", "uuid")):
    order_index(
        f"ix_conversion_jobs_{'_'.join(_columns)}", *(conversion_jobs.c[name] for name in _columns)
    )

#: Converters, and when each was last heard of.
conversion_workers = sa.Table(
    "conversion_workers",
    metadata,
    sa.Column("name", bytewise_text(255), primary_key=True),
    sa.Column("seen_at", Timestamp(), nullable=False),
    mysql_engine="InnoDB",
)

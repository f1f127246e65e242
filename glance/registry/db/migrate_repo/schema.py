"""The tables at each version of the schema.

Steps build and rebuild tables from these definitions, so that a version is the same however a
database reached it. Versions 1 to 9 are those of Diablo. `glance.registry.db.models` is the
target.
"""

from __future__ import annotations

import sqlalchemy as sa

from glance.registry.db import models
from glance.registry.db.lenient import Timestamp
from glance.registry.db.models import bytewise_text

#: The last version that Diablo has.
DIABLO = 9

#: The versions at which registries of all earlier versions stop working. The step to any other
#: version only adds what they do not need: indexes, columns that may be left out, tables. So they
#: go on beside registries of the new version while nodes are upgraded one after the other.
BREAKING = tuple(range(20))

Indexes = dict[str, tuple[str, ...]]


def oldest_registry(version: int) -> int:
    """Return the lowest schema version whose registries work with the tables of `version`."""
    return max(breaking for breaking in BREAKING if breaking <= version)


def images(version: int) -> sa.Table:
    """Return the table `images` of a version."""
    integer = sa.BigInteger if version >= 5 else sa.Integer
    columns = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", _text(version, 255)),
        sa.Column("size", integer),
        sa.Column("status", _text(version, 30), nullable=False),
        _flag("is_public", version),
        sa.Column("location", _text(version)),
        *_bookkeeping(version),
    ]
    if version < 3:
        columns.append(sa.Column("type", _text(version, 30)))
    else:
        columns.append(sa.Column("disk_format", _text(version, 20)))
        columns.append(sa.Column("container_format", _text(version, 20)))
    if version >= 4:
        columns.append(sa.Column("checksum", _text(version, 32)))
    if version >= 7:
        columns.append(sa.Column("owner", _text(version, 255)))
    if version >= 9:
        columns.append(_count("min_disk", version))
        columns.append(_count("min_ram", version))
    if version >= 12:
        columns.append(_flag("protected", version, default=True))
    if version >= 19:
        columns.append(sa.Column("attempt", _text(version, 32)))
    if version >= 21:
        columns.append(sa.Column("activated_at", Timestamp()))
    parts: list[sa.schema.SchemaItem] = [*columns]
    if version >= 22:
        uuid = sa.Column(
            "uuid", _text(version, 36), nullable=False, server_default=models.new_uuid()
        )
        visibility = sa.Column(
            "visibility", _text(version, 16), nullable=False, server_default="shared"
        )
        parts += [
            uuid,
            visibility,
            _flag("os_hidden", version),
            sa.Column("os_hash_algo", _text(version, 64)),
            sa.Column("os_hash_value", _text(version, 128)),
            sa.Column("virtual_size", sa.BigInteger),
            _flag("deactivated_by_admin", version),
            sa.Column("upload_via", _text(version, 8)),
            sa.UniqueConstraint("uuid"),
        ]
    return _table("images", parts)


def image_properties(version: int) -> sa.Table:
    """Return the table `image_properties` of a version (2 or later)."""
    key = "name" if version >= 6 else "key"
    return _table(
        "image_properties",
        [
            sa.Column("id", sa.Integer, primary_key=True),
            _image_id(),
            sa.Column(key, _text(version, 255), nullable=False),
            sa.Column("value", _text(version)),
            *_bookkeeping(version),
            sa.UniqueConstraint("image_id", key),
        ],
    )


def image_members(version: int) -> sa.Table:
    """Return the table `image_members` of a version (8 or later)."""
    parts = [
        sa.Column("id", sa.Integer, primary_key=True),
        _image_id(),
        sa.Column("member", _text(version, 255), nullable=False),
        _flag("can_share", version),
        *_bookkeeping(version),
        sa.UniqueConstraint("image_id", "member"),
    ]
    if version >= 23:
        status = sa.Column("status", _text(version, 20), nullable=False, server_default="pending")
        parts.append(status)
    return _table("image_members", parts)


def scrub_queue(version: int) -> sa.Table:
    """Return the table `scrub_queue` of a version (14 or later)."""
    return _table(
        "scrub_queue",
        [
            sa.Column(
                "image_id",
                sa.Integer,
                sa.ForeignKey("images.id"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("item", _text(version, 64), primary_key=True),
            sa.Column("location", _text(version)),
            sa.Column("created_at", Timestamp(), nullable=False),
            sa.Column("due_at", Timestamp(), nullable=False),
            _count("attempts", version),
            sa.Column("last_error", _text(version, 64)),
            sa.Column("lease_owner", _text(version, 255)),
            sa.Column("lease_until", Timestamp()),
            _flag("dead", version),
        ],
    )


def image_id_counter(version: int) -> sa.Table:
    """Return the table `image_id_counter` of a version (17 or later)."""
    return _table("image_id_counter", [sa.Column("id", sa.Integer, primary_key=True)])


def purged_image_ids(version: int) -> sa.Table:
    """Return the table `purged_image_ids` of a version (17 or later)."""
    return _table(
        "purged_image_ids",
        [
            sa.Column("first_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("last_id", sa.Integer, nullable=False),
        ],
    )


def purged_uuids(version: int) -> sa.Table:
    """Return the table `purged_uuids` of a version (22 or later)."""
    return _table("purged_uuids", [sa.Column("uuid", _text(version, 36), primary_key=True)])


def image_tags(version: int) -> sa.Table:
    """Return the table `image_tags` of a version (24 or later)."""
    return _table(
        "image_tags",
        [
            sa.Column(
                "image_id",
                sa.Integer,
                sa.ForeignKey("images.id"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("value", _text(version, 255), primary_key=True),
        ],
    )


def conversion_jobs(version: int) -> sa.Table:
    """Return the table `conversion_jobs` of a version (25 or later)."""
    return _table(
        "conversion_jobs",
        [
            sa.Column("uuid", _text(version, 36), primary_key=True),
            sa.Column("source_image_id", sa.Integer, nullable=False),
            sa.Column("image_id", sa.Integer, nullable=False),
            sa.Column("owner", _text(version, 255)),
            _flag("by_admin", version),
            sa.Column("source_format", _text(version, 20), nullable=False),
            sa.Column("disk_format", _text(version, 20), nullable=False),
            _flag("compress", version),
            sa.Column("store", _text(version, 255)),
            sa.Column("status", _text(version, 16), nullable=False),
            sa.Column("phase", _text(version, 16)),
            sa.Column("progress", sa.Integer),
            sa.Column("created_at", Timestamp(), nullable=False),
            sa.Column("started_at", Timestamp()),
            sa.Column("finished_at", Timestamp()),
            sa.Column("bytes_in", sa.BigInteger),
            sa.Column("bytes_out", sa.BigInteger),
            sa.Column("virtual_size", sa.BigInteger),
            _count("attempts", version),
            _count("losses", version),
            _count("failures", version),
            sa.Column("error", _text(version, 64)),
            sa.Column("not_before", Timestamp()),
            sa.Column("worker", _text(version, 255)),
            sa.Column("leased_until", Timestamp()),
            sa.Column("request_key", _text(version, 64)),
            sa.Column("request_digest", _text(version, 64)),
        ],
    )


def conversion_workers(version: int) -> sa.Table:
    """Return the table `conversion_workers` of a version (25 or later)."""
    return _table(
        "conversion_workers",
        [
            sa.Column("name", _text(version, 255), primary_key=True),
            sa.Column("seen_at", Timestamp(), nullable=False),
        ],
    )


def tables(version: int) -> dict[str, sa.Table]:
    """Return all tables of a version by name."""
    found = [images(version)] if version >= 1 else []
    if version >= 2:
        found.append(image_properties(version))
    if version >= 8:
        found.append(image_members(version))
    if version >= 14:
        found.append(scrub_queue(version))
    if version >= 17:
        found += [image_id_counter(version), purged_image_ids(version)]
    if version >= 22:
        found.append(purged_uuids(version))
    if version >= 24:
        found.append(image_tags(version))
    if version >= 25:
        found += [conversion_jobs(version), conversion_workers(version)]
    return {table.name: table for table in found}


#: Columns of the indexes of images from version 20.
_LIST_ORDERS: tuple[tuple[str, ...], ...] = (
    ("deleted", "id"),
    ("deleted", "created_at", "id"),
    ("deleted", "updated_at", "id"),
    ("deleted", "name", "id"),
    ("deleted", "size", "id"),
    ("deleted", "status", "id"),
    ("deleted", "disk_format", "id"),
    ("deleted", "container_format", "id"),
    ("deleted", "status", "created_at", "id"),
    ("deleted", "disk_format", "created_at", "id"),
    ("deleted", "container_format", "created_at", "id"),
    ("deleted", "is_public", "created_at", "id"),
    ("deleted", "owner", "created_at", "id"),
)
#: From version 22.
_VISIBILITY_ORDER = ("deleted", "visibility", "created_at", "id")


def indexes(table: str, version: int) -> Indexes:
    """Return the non-unique indexes (name to columns) of a table at a version."""
    found: Indexes
    if table == "images" and version >= 20:
        found = _single(table, "owner")
        orders = _LIST_ORDERS if version < 22 else (*_LIST_ORDERS, _VISIBILITY_ORDER)
        for columns in orders:
            found[f"ix_images_{'_'.join(columns)}"] = columns
        return found
    if table == "images":
        names = ["is_public", "deleted"]
        if version >= 13:
            names += ["owner"]
        if version in (13, 14):
            names += ["created_at", "updated_at", "status"]
        found = _single(table, *names)
        if version >= 15:
            found["ix_images_status_created_at"] = ("status", "created_at")
            for name in ("created_at", "updated_at", "name", "size", "status"):
                found[f"ix_images_{name}_id"] = (name, "id")
        return found
    if table == "image_properties" and version >= 20:
        return {
            models.ODD_NAME_INDEX: ("name",),
            models.VALUE_INDEX: ("name", "value", "image_id"),
        }
    if table == "image_properties":
        found = _single(table, "image_id", "deleted")
        if version < 13:
            key = "name" if version >= 6 else "key"
            found[f"ix_image_properties_image_id_{key}"] = ("image_id", key)
        if version >= 18:
            found[models.ODD_NAME_INDEX] = ("name",)
        return found
    if table == "scrub_queue":
        return _single(table, "due_at")
    if table in ("image_id_counter", "purged_image_ids", "purged_uuids", "conversion_workers"):
        return {}
    if table == "conversion_jobs":
        names = ["source_image_id", "image_id", "status", "finished_at", "request_key"]
        found = _single(table, *names)
        for columns in (("created_at", "uuid"), ("owner", "created_at", "uuid")):
            found[f"ix_conversion_jobs_{'_'.join(columns)}"] = columns
        return found
    if table == "image_tags":
        return {"ix_image_tags_value_image_id": ("value", "image_id")}
    if version >= 20:
        return _single(table, "member")
    found = _single(table, "image_id", "deleted")
    if version >= 13:
        found.update(_single(table, "member"))
    else:
        found["ix_image_members_image_id_member"] = ("image_id", "member")
    return found


def _single(table: str, *columns: str) -> Indexes:
    return {f"ix_{table}_{column}": (column,) for column in columns}


def _table(name: str, parts: list[sa.schema.SchemaItem]) -> sa.Table:
    metadata = sa.MetaData()
    if name != "images":
        # The target of the foreign key, so that its type is known.
        sa.Table("images", metadata, sa.Column("id", sa.Integer, primary_key=True))
    return sa.Table(name, metadata, *parts, mysql_engine="InnoDB")


def _image_id() -> sa.Column:
    return sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), nullable=False)


def _bookkeeping(version: int) -> list[sa.Column]:
    return [
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp()),
        sa.Column("deleted_at", Timestamp()),
        _flag("deleted", version),
    ]


def _text(version: int, length: int | None = None) -> sa.types.TypeEngine:
    if version >= 16:
        return bytewise_text(length)
    return sa.Text() if length is None else sa.String(length)


def _flag(name: str, version: int, default: bool = False) -> sa.Column:
    return sa.Column(
        name,
        sa.Boolean(create_constraint=True),
        nullable=False,
        server_default=sa.false() if default or version >= 13 else None,
    )


def _count(name: str, version: int) -> sa.Column:
    if version < 11:
        return sa.Column(name, sa.Integer)
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")

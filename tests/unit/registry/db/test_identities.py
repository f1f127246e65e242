"""Owners, members, names and unique keys are equal only if all their bytes are."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models
from glance.registry.db.migrate_repo import schema

ADMIN = RequestContext(is_admin=True)
NAME = "acm\u00e9"
#: What databases take for NAME when they compare by language.
ALIKE = [
    "ACM\u00c9",
    "acme",
    "Acm\u00e9",
    "\u00c4cm\u00e9",
    "acm\u00e9 ",
    " acm\u00e9",
    "acm\u00e9\u200d",
    "\uff41cm\u00e9",
    unicodedata.normalize("NFD", NAME),
    "acm?",
    "acm\u00e9\U0001f600",
]
DAY = datetime.datetime(2011, 9, 22, 10, 11, 12)


def tenant(name: str) -> RequestContext:
    return RequestContext(tenant=name, user="u")


def create(database: engine.Database, **values: Any) -> int:
    return api.image_create(database, ADMIN, {"status": "active", **values})["id"]


def listed(database: engine.Database, name: str, **query: Any) -> list[int]:
    page = api.image_list(database, tenant(name), listing.ListQuery(**query))
    return [image["id"] for image in page]


def sees(database: engine.Database, name: str, image_id: int) -> bool:
    """Return whether a tenant can read an image, which lists and single requests must agree on."""
    in_list = listed(database, name) == [image_id]
    try:
        api.image_get(database, tenant(name), image_id)
    except exception.ImageNotFound:
        assert not in_list
        return False
    assert in_list
    return True


@pytest.mark.parametrize("other", ALIKE, ids=ascii)
def test_only_the_owner_itself_sees_a_private_image(
    any_database: engine.Database, other: str
) -> None:
    image_id = create(any_database, owner=NAME)
    assert sees(any_database, NAME, image_id)
    assert not sees(any_database, other, image_id)
    with pytest.raises(exception.ImageNotFound):
        api.image_update(any_database, tenant(other), image_id, {"name": "mine"})
    with pytest.raises(exception.ImageNotFound):
        api.image_delete(any_database, tenant(other), image_id)


@pytest.mark.parametrize("other", ALIKE, ids=ascii)
def test_only_the_member_itself_sees_a_shared_image(
    any_database: engine.Database, other: str
) -> None:
    image_id = create(any_database, owner="t1")
    api.member_add(any_database, ADMIN, image_id, NAME, True)
    assert sees(any_database, NAME, image_id)
    assert not sees(any_database, other, image_id)
    assert api.member_images(any_database, ADMIN, other) == []
    api.member_delete(any_database, ADMIN, image_id, other)
    assert sees(any_database, NAME, image_id)
    # Both may be members, each with rights of its own.
    api.member_replace(any_database, ADMIN, image_id, [(NAME, True), (other, False)])
    api.member_add(any_database, ADMIN, image_id, other)
    found = api.member_list(any_database, tenant(other), image_id)
    assert found == [{"member": other, "can_share": False}]


def test_properties_are_different_when_their_names_are(any_database: engine.Database) -> None:
    names = [name for name in (NAME, *ALIKE) if name == name.lower()]
    given = {name: str(number) for number, name in enumerate(names)}
    image_id = create(any_database, is_public=True, properties=given)
    assert api.image_get(any_database, ADMIN, image_id)["properties"] == given
    for name in names:
        mine = {name: given[name]}
        assert listed(any_database, "t", properties=mine) == [image_id]
        assert listed(any_database, "t", properties={name: "x"}) == []
    assert listed(any_database, "t", properties={names[0]: "1"}) == []


@pytest.mark.parametrize("other", ALIKE, ids=ascii)
def test_filters_find_the_exact_value(any_database: engine.Database, other: str) -> None:
    image_id = create(any_database, is_public=True, name=NAME, properties={"tag": NAME})
    for exact, found in ((NAME, [image_id]), (other, [])):
        assert listed(any_database, "t", filters={"name": exact}) == found
        assert listed(any_database, "t", properties={"tag": exact}) == found
    assert listed(any_database, "t", filters={"status": "ACTIVE"}) == []


def test_a_quota_counts_what_its_owner_has(any_database: engine.Database) -> None:
    create(any_database, owner=NAME, size=10)
    for other in ALIKE:
        values = {"status": "active", "owner": other, "size": 10}
        api.image_create(any_database, ADMIN, values, storage_quota=10)
    with pytest.raises(exception.QuotaExceeded):
        api.image_create(
            any_database, ADMIN, {"status": "active", "owner": NAME, "size": 1}, storage_quota=10
        )


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_by_name_show_each_image_once(any_database: engine.Database, direction: str) -> None:
    names = [NAME, *ALIKE] * 2
    for name in names:
        create(any_database, is_public=True, name=name)
    order = {"sort_key": "name", "sort_dir": direction}
    walk = listed(any_database, "t", limit=1, **order)
    for _ in names[1:]:
        walk += listed(any_database, "t", limit=1, marker=walk[-1], **order)
    assert sorted(walk) == list(range(1, len(names) + 1))
    assert walk == listed(any_database, "t", limit=100, **order)


# -- databases of older versions ------------------------------------------------------------------


def fill(conn: sa.engine.Connection) -> None:
    """Put two images into a database of version 15: one of acme, one shared with bob."""
    tables = schema.tables(15)
    for number, owner in ((1, "acme"), (2, "t1")):
        conn.execute(
            tables["images"]
            .insert()
            .values(id=number, name="caf\u00e9", owner=owner, status="active", created_at=DAY)
        )
    conn.execute(tables["image_members"].insert().values(image_id=2, member="bob", created_at=DAY))
    conn.execute(
        tables["image_properties"]
        .insert()
        .values(image_id=1, name="arch", value="x\u00e9", created_at=DAY)
    )


def check(url: str) -> None:
    """Look at an upgraded database for the identities that `fill` used."""
    database = engine.Database(url)
    for name, own in (("acme", [1]), ("bob", [2]), ("ACME", []), ("BOB", []), ("acme ", [])):
        assert listed(database, name) == own
    image = api.image_get(database, ADMIN, 1)
    assert (image["name"], image["properties"]) == ("caf\u00e9", {"arch": "x\u00e9"})
    api.member_add(database, ADMIN, 2, "BOB")
    api.image_update(database, ADMIN, 1, {"name": "\U0001f600", "properties": {"\u00e4rch": "y"}})
    assert api.image_get(database, ADMIN, 1)["name"] == "\U0001f600"
    database.dispose()


def test_an_upgrade_makes_an_existing_database_compare_bytes(
    kind: Any, connect: Callable[[str], sa.engine.Connection]
) -> None:
    url = kind.at(15)
    fill(connect(url))
    migration.upgrade(url)
    check(url)
    # Older versions work with it, and rows that only bytes distinguish are kept.
    migration.downgrade(url, 15)
    migration.upgrade(url)
    database = engine.Database(url)
    assert listed(database, "BOB") == [2]
    database.dispose()


@pytest.mark.parametrize("charset", ["latin1", "utf8mb3"])
def test_an_upgrade_changes_whatever_character_set_the_tables_have(
    kind: Any, connect: Callable[[str], sa.engine.Connection], charset: str
) -> None:
    if kind.name != "mysql":
        pytest.skip("about MySQL and MariaDB")
    url = kind.empty()
    name = url.partition("?")[0].rpartition("/")[2]
    connect(url).execute(sa.text(f"ALTER DATABASE {name} CHARACTER SET {charset}"))
    migration.db_sync(url, 15)
    conn = connect(url)
    fill(conn)
    # NOTE: the row format of old servers, which limits keys to 767 bytes.
    conn.execute(sa.text("ALTER TABLE image_members ROW_FORMAT = COMPACT"))
    migration.upgrade(url)
    check(url)


@pytest.mark.parametrize("asked", ["charset=latin1", "charset=utf8", "charset=utf8mb4", ""])
def test_a_connection_transfers_all_of_unicode(kind: Any, asked: str) -> None:
    if kind.name != "mysql":
        pytest.skip("about MySQL and MariaDB")
    url = kind.emptied()
    database = engine.Database(f"{url}&{asked}" if asked else url)
    image_id = create(database, owner="\U0001f600")
    assert sees(database, "\U0001f600", image_id)
    for other in ("?", "\U0001f601", "\ufffd"):
        assert not sees(database, other, image_id)
    database.dispose()


def test_mariadb_has_two_names(kind: Any) -> None:
    if kind.name != "mysql":
        pytest.skip("about MySQL and MariaDB")
    url = kind.empty().replace("mysql+", "mariadb+", 1)
    migration.db_sync(url)
    database = engine.Database(url)
    image = api.image_create(database, ADMIN, {"status": "active", "owner": "t1"})
    assert api.image_get(database, ADMIN, image["id"]) == image
    database.dispose()


def test_columns_that_an_operator_made_lax_compare_bytes_again(
    kind: Any, connect: Callable[[str], sa.engine.Connection]
) -> None:
    url = kind.at(15)
    conn = connect(url)
    if kind.name == "postgresql":
        conn.execute(
            sa.text(
                "CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level1',"
                " deterministic = false)"
            )
        )
        for table, column in (("images", "owner"), ("image_members", "member")):
            change = f"ALTER COLUMN {column} TYPE VARCHAR(255) COLLATE lax"
            conn.execute(sa.text(f"ALTER TABLE {table} {change}"))
    elif kind.name == "sqlite":
        conn.execute(sa.text("PRAGMA writable_schema = ON"))
        for table, column in (("images", "owner"), ("image_members", "member")):
            old = f"{column} VARCHAR(255)"
            conn.execute(
                sa.text("UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE name = :t"),
                {"t": table, "old": old, "new": f"{old} COLLATE NOCASE"},
            )
        conn.execute(sa.text("PRAGMA writable_schema = RESET"))
    else:
        pytest.skip("MySQL and MariaDB are lax by default")
    fill(conn)
    assert conn.execute(sa.text("SELECT id FROM images WHERE owner = 'ACME'")).scalar() == 1
    migration.upgrade(url)
    check(url)


def test_a_server_that_cannot_compare_bytes_is_refused(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.name != "mysql":
        pytest.skip("about MySQL and MariaDB")
    url = kind.at(15)
    monkeypatch.setattr(models, "bytewise_collation", lambda dialect: "utf8mb4_0900_bin")
    with pytest.raises(exception.DatabaseMigrationError, match=r"needs MySQL 8\.0\.17"):
        migration.upgrade(url)
    assert migration.db_version(url) == 15

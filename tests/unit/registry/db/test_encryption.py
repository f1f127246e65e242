"""Encrypted locations in the database: written, read, queued, moved to another key."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from glance.image import cipher, listing
from glance.registry.context import RequestContext
from glance.registry.db import api, deletion, engine, models, scrub_queue
from glance.registry.db.upkeep import maintenance

ADMIN = RequestContext(is_admin=True)
URI = "swift+https://account:user:canary@h/v1/c/5"
KEY = cipher.Cipher(b"k" * 32)
NOW = datetime.timedelta(0)


@pytest.fixture
def sealed(any_database: engine.Database) -> engine.Database:
    any_database.cipher = KEY
    return any_database


def stored(database: engine.Database, table: sa.Table = models.images) -> list[str]:
    """Return the locations as they lie in the database."""
    with database.read() as conn:
        order = table.primary_key.columns
        return conn.execute(sa.select(table.c.location).order_by(*order)).scalars().all()


def create(database: engine.Database, **values: Any) -> int:
    values = {"status": "active", "location": URI, **values}
    return int(api.image_create(database, ADMIN, values)["id"])


def test_locations_lie_sealed_and_are_read_in_clear(sealed: engine.Database) -> None:
    one = api.image_create(sealed, ADMIN, {"status": "active", "location": URI})
    two = api.image_create(sealed, ADMIN, {"status": "queued"})
    assert one["location"] == URI
    changed = api.image_update(
        sealed, ADMIN, two["id"], {"status": "active", "location": URI + "2", "size": 4}
    )
    assert changed["location"] == URI + "2"
    assert all("canary" not in text and text.startswith(cipher.PREFIX) for text in stored(sealed))
    assert api.image_get(sealed, ADMIN, one["id"])["location"] == URI
    query = listing.parse({"is_public": "none"}, is_admin=True)
    assert {image["location"] for image in api.image_list(sealed, ADMIN, query)} == {
        URI,
        URI + "2",
    }


def test_a_list_for_everybody_has_no_location_and_deciphers_none(
    sealed: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(sealed)
    monkeypatch.setattr(sealed, "cipher", None)
    query = listing.parse({"is_public": "none"}, is_admin=True)
    page = api.public_page(sealed, ADMIN, query, detail=True)
    assert b"active" in page and b"location" not in page


def test_a_change_of_something_else_leaves_the_seal_alone(sealed: engine.Database) -> None:
    image_id = create(sealed)
    before = stored(sealed)
    assert api.image_update(sealed, ADMIN, image_id, {"name": "x"})["location"] == URI
    assert stored(sealed) == before


def test_the_queue_holds_no_secret_and_scrubbers_get_it_in_clear(
    sealed: engine.Database,
) -> None:
    image_id = create(sealed)
    assert api.image_delete(sealed, ADMIN, image_id, "pending_delete")["location"] == URI
    scrub_queue.enter_leftover(sealed, image_id, URI + "-part", "X")
    assert all(text.startswith(cipher.PREFIX) for text in stored(sealed, models.scrub_queue))
    scrub_queue.retry(sealed)
    claims = scrub_queue.lease(sealed, "me", 9, kept_for=NOW)
    assert {claim.location for claim in claims} == {URI, URI + "-part"}
    scrub_queue.release(sealed, "me")
    assert deletion.image_restore(sealed, image_id)["location"] == URI


def test_a_location_that_no_key_opens_hides_nothing_else(sealed: engine.Database) -> None:
    image_id = create(sealed)
    before = stored(sealed)
    sealed.cipher = cipher.Cipher(b"w" * 32)
    image = api.image_get(sealed, ADMIN, image_id)
    assert [image["location"]] == before
    assert api.image_update(sealed, ADMIN, image_id, {"name": "x"})["name"] == "x"
    assert stored(sealed) == before


def test_all_locations_come_to_the_present_key(sealed: engine.Database) -> None:
    sealed.cipher = cipher.Cipher()
    ids = [create(sealed) for _ in range(5)]
    create(sealed, location=None, status="queued")
    api.image_delete(sealed, ADMIN, ids[0], "pending_delete")
    scrub_queue.enter_leftover(sealed, ids[0], URI + "-part", "X")
    sealed.cipher = KEY
    assert maintenance.reseal(sealed, batch=2) == (7, 0)
    assert maintenance.reseal(sealed, batch=2) == (0, 0)
    assert "canary" not in str(stored(sealed) + stored(sealed, models.scrub_queue))
    sealed.cipher = cipher.Cipher(b"n" * 16, [b"k" * 32])
    assert maintenance.reseal(sealed, batch=2) == (7, 0)
    sealed.cipher = cipher.Cipher(b"n" * 16)
    assert api.image_get(sealed, ADMIN, ids[1])["location"] == URI
    sealed.cipher = cipher.Cipher(None, [b"n" * 16])
    assert maintenance.reseal(sealed) == (7, 0)
    assert stored(sealed).count(URI) == 5


def test_what_cannot_be_opened_is_counted_and_left(sealed: engine.Database) -> None:
    create(sealed)
    before = stored(sealed)
    sealed.cipher = cipher.Cipher(b"w" * 32)
    assert maintenance.reseal(sealed) == (0, 1)
    assert stored(sealed) == before


@pytest.mark.parametrize("raw", [b"file:///x", b"file:///\xff"])
def test_a_location_in_bytes_is_read_and_written_as_text(
    sqlite_database: engine.Database, raw: bytes
) -> None:
    db = sqlite_database
    image = api.image_create(db, ADMIN, {"status": "active", "location": "file:///y", "size": 4})
    with db.write() as conn:
        conn.execute(sa.text("UPDATE images SET location = :raw"), {"raw": raw})
    text = raw.decode("utf-8", "replace")
    assert [found["location"] for found in maintenance.images_with_data(db)] == [text]
    assert api.image_get(db, ADMIN, image["id"])["location"] == text
    assert maintenance.reseal(db) == (1, 0)
    assert maintenance.reseal(db) == (0, 0)
    with db.read() as conn:
        assert conn.execute(sa.text("SELECT location FROM images")).scalar() == text

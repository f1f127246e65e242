"""The types of image mappings: the same fields as in the table, and what a user's checker sees."""

import datetime
import subprocess
import sys
import typing

import pytest

from glance.api import cached_images
from glance.image import fields, types
from glance.image_cache import CacheEntry, QueueItem
from glance.registry.db import models

FIELDS = {field.name: field.kind for field in fields.FIELDS if field.stored}
FORMS = {
    types.BriefImage: str,
    types.DetailedImage: str,
    types.ImageRecord: str,
    types.FullRecord: str,
    types.StoredImage: datetime.datetime,
}


def test_full_records_have_the_fields_of_the_table():
    for form in (types.ImageRecord, types.StoredImage):
        assert form.__required_keys__ == set(fields.DETAIL_KEYS)
    assert types.StoredImage.__optional_keys__ == set(fields.INTERNAL_KEYS)
    # NOTE: of those that `FullRecord` requires, it can name none that may be missing.
    assert types.ImageRecord.__optional_keys__ == {"activated_at"}
    assert types.FullRecord.__optional_keys__ == {"activated_at"}
    full = types.FullRecord.__required_keys__ | {"activated_at"}
    assert full == types.StoredRecord.__annotations__.keys() == {*fields.RECORD_KEYS, "tags"}
    assert types.ImageRow.__required_keys__ == set(fields.DETAIL_KEYS) - {"properties"}


def test_public_images_have_the_fields_of_the_table_and_a_uri():
    detailed = types.DetailedImage
    assert detailed.__required_keys__ == set(fields.DETAIL_KEYS) - {"location"}
    assert detailed.__optional_keys__ == {"location", "uri", "uuid"}
    assert types.BriefImage.__required_keys__ == set(fields.BRIEF_KEYS)
    assert types.BriefImage.__optional_keys__ == {"uri"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_field_has_the_type_of_the_table(form):
    hints = typing.get_type_hints(form)
    for name in hints.keys() & FIELDS.keys():
        kind = FORMS[form] if FIELDS[name] is datetime.datetime else FIELDS[name]
        assert hints[name] in (kind, kind | None), name


def test_what_the_table_never_leaves_empty_is_never_none():
    hints = typing.get_type_hints(types.StoredImage)
    optional = {name for name in FIELDS if hints[name] == hints[name] | None}
    never = FIELDS.keys() - optional - set(fields.INTERNAL_KEYS)
    # NOTE: a time that an old database holds in another form cannot always be read.
    required = {name for name in FIELDS if not models.images.c[name].nullable}
    assert never == required - {"created_at", *fields.INTERNAL_KEYS}
    hints = typing.get_type_hints(types.FullRecord)
    for name in required & set(fields.INTERNAL_KEYS):
        assert hints[name] == FIELDS[name]


def test_cache_entries_have_the_keys_of_their_type():
    entry = cached_images.entry_json(CacheEntry("5", "complete", "5", 3))
    assert entry.keys() == types.CachedImage.__required_keys__
    item = cached_images.queue_json(QueueItem("5", None, 0.0))
    assert item.keys() == types.QueuedImage.__required_keys__


PROGRAM = """
from typing import assert_type

from glance.client import Client
from glance.image.types import BriefImage, CachedImage, Member

client = Client("127.0.0.1", 9292)
image = client.get_image_meta(1)
assert_type(image["id"], int)
assert_type(image["size"], int | None)
assert_type(image["properties"], dict[str, str | None])
assert_type(client.add_image({"name": "web"}, b"data")["status"], str)
assert_type(client.get_images(limit=5), list[BriefImage])
assert_type(client.get_images_detailed()[0]["is_public"], bool)
assert_type(client.get_image_members(image["id"]), list[Member])
assert_type(client.get_cached_images(), list[CachedImage])
meta, chunks = client.get_image(1, verify=True)
assert_type(meta["checksum"], str | None)
for chunk in chunks:
    assert_type(chunk, bytes)
print(image["sise"])  # the one mistake
"""


@pytest.mark.full
def test_a_checker_of_other_programs_knows_what_the_client_returns(tmp_path):
    """It reads the installed package, which its `py.typed` lets it do."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(found) == 1 and 'has no key "sise"' in found[0], done.stdout + done.stderr

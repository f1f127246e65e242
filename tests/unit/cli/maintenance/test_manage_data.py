"""glance-manage on image data: orphans both ways, restoring, encryption, an Essex queue."""

import contextlib
import datetime
import json
import os
import sqlite3
import time

import pytest

from glance.cli.maintenance import manage
from glance.common import exception
from glance.image import cipher
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models, paging, scrub_queue
from glance.scrubber import orphans

ADMIN = RequestContext(is_admin=True)
SEEING = RequestContext(is_admin=True, show_deleted=True)
KEY = "canary-key-16byt"
REGISTRY = """\
[DEFAULT]
sql_connection = {url}
{more}
[app:glance-registry]
paste.app_factory = glance.registry.server:app_factory
"""
SCRUBBER = """\
[DEFAULT]
sql_connection = {url}
filesystem_store_datadir = {images}
[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


class Place:
    """A registry's database and an image directory, and what glance-manage printed."""

    def __init__(self, directory, capfd):
        self.directory = directory
        self.capfd = capfd
        self.images = directory / "images"
        self.images.mkdir()
        self.url = f"sqlite:///{directory}/my.sqlite"
        migration.db_sync(self.url)
        self.db = engine.Database(self.url)
        self.configure()
        (directory / "glance-scrubber.conf").write_text(
            SCRUBBER.format(url=self.url, images=self.images)
        )
        self.out = self.err = ""

    def configure(self, **options):
        more = "".join(f"{name} = {value}\n" for name, value in options.items())
        text = REGISTRY.format(url=self.url, more=more)
        (self.directory / "glance-registry.conf").write_text(text)

    def __call__(self, *words):
        code = manage.main([str(word) for word in words])
        self.out, self.err = self.capfd.readouterr()
        return code

    def survey(self, *words):
        """Return the exit code of `orphans` and its document."""
        code = self("orphans", "--format", "json", *words)
        return code, json.loads(self.out)

    def put(self, image_id, data=b"data", age=2 * 86400):
        path = self.images / str(image_id)
        path.write_bytes(data)
        os.utime(path, (time.time() - age,) * 2)
        return f"file://{path}"

    def add(self, data=b"data", **values):
        """Make an active image with its data; return its id."""
        values = {"status": "active", "size": len(data), **values}
        image_id = api.image_create(self.db, ADMIN, {**values, "status": "queued"})["id"]
        location = self.put(image_id, data)
        api.image_update(
            self.db, ADMIN, image_id, {"status": values["status"], "location": location}
        )
        return image_id

    def status(self, image_id):
        return api.image_get(self.db, SEEING, image_id)["status"]


@pytest.fixture
def place(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = Place(tmp_path, capfd)
    yield made
    made.db.dispose()


# -- orphans --


def test_a_store_in_order_has_no_orphans(place):
    place.add()
    waiting = place.add()
    api.image_delete(place.db, ADMIN, waiting, "pending_delete")
    code, found = place.survey()
    assert (code, found["data_without_record"], found["records_without_data"]) == (0, [], [])
    assert place("orphans") == 0
    assert "0 left, 0 bytes reclaimable" in place.out


def test_data_that_no_record_points_to_is_found_and_left_alone(place):
    kept = place.add()
    place.put(77, b"x" * 1000)
    place.put("other-name", b"x" * 24)
    deleted = place.add(b"y" * 100)
    api.image_delete(place.db, ADMIN, deleted, "deleted")
    killed = api.image_create(place.db, ADMIN, {"status": "killed"})["id"]
    place.put(killed, b"half")
    code, found = place.survey()
    assert code == 3
    assert {entry["image_id"]: entry["size"] for entry in found["data_without_record"]} == {
        "77": 1000,
        "other-name": 24,
        str(deleted): 100,
        str(killed): 4,
    }
    assert found["reclaimable_bytes"] == 1128
    assert all(entry["store"] == "file" for entry in found["data_without_record"])
    assert len(list(place.images.glob("[!.]*"))) == 5
    assert place.status(kept) == "active"
    assert str(place.images) not in place.out + place.err
    assert place("orphans") == 3
    assert "4 left, 1128 bytes reclaimable" in place.out
    assert str(place.images) not in place.out + place.err


def test_orphans_are_removed_on_demand_and_only_they(place):
    kept = place.add()
    place.put(77, b"x" * 1000)
    code, found = place.survey("--delete")
    assert (code, found["reclaimable_bytes"]) == (0, 0)
    assert [entry["removed"] for entry in found["data_without_record"]] == [True]
    assert [path.name for path in place.images.glob("[!.]*")] == [str(kept)]
    assert place.survey()[0] == 0


def test_young_data_is_spared(place):
    place.put(77, age=60)
    code, found = place.survey("--delete")
    assert (code, found["too_young"], found["data_without_record"]) == (0, 1, [])
    assert place.survey("--older-than", "30")[0] == 3
    assert place.survey("--older-than", "30", "--delete")[0] == 0
    assert list(place.images.glob("[!.]*")) == []


@pytest.mark.parametrize("status", ["queued", "saving"])
def test_data_that_a_record_is_about_to_name_is_spared(place, status):
    image_id = api.image_create(place.db, ADMIN, {"status": status})["id"]
    place.put(image_id)
    code, found = place.survey("--older-than", "0", "--delete")
    assert (code, found["data_without_record"]) == (0, [])
    assert (place.images / str(image_id)).exists()


def test_data_that_another_image_points_to_is_spared(place):
    location = place.put("renamed-by-hand")
    api.image_create(place.db, ADMIN, {"status": "active", "location": location, "size": 4})
    assert place.survey()[0] == 0


def test_data_in_the_queue_is_spared(place):
    image_id = api.image_create(place.db, ADMIN, {"status": "killed"})["id"]
    scrub_queue.enter_leftover(place.db, image_id, place.put(f"{image_id}-part"), "X")
    assert place.survey()[0] == 0


def test_records_whose_data_is_missing_or_cut_are_found(place):
    missing, cut, fine = place.add(), place.add(b"complete"), place.add()
    (place.images / str(missing)).unlink()
    (place.images / str(cut)).write_bytes(b"comp")
    code, found = place.survey("--delete")
    assert code == 3
    assert {entry["image_id"]: entry["problem"] for entry in found["records_without_data"]} == {
        missing: "missing",
        cut: "has 4 bytes",
    }
    assert place.status(missing) == place.status(fine) == "active"
    assert place("orphans") == 3
    assert f"image {missing} in file, 4 bytes: missing" in place.out


def test_a_registered_image_is_nobodys_orphan(place):
    values = {"status": "active", "location": "http://127.0.0.1:1/x", "size": 4}
    api.image_create(place.db, ADMIN, values)
    assert place.survey()[0] == 0


def test_a_store_that_is_away_accuses_nobody(place):
    place.add()
    place.images.rename(place.directory / "away")
    place.images.write_bytes(b"")
    code, found = place.survey("--delete")
    assert (code, found["stores_that_failed"]) == (1, ["file"])
    assert found["records_without_data"] == []
    assert place("orphans") == 1
    assert "Store file could not be checked" in place.out


def test_locations_that_cannot_be_read_make_nothing_an_orphan(place):
    place.db.cipher = cipher.Cipher(KEY.encode())
    image_id = place.add()
    assert place("orphans", "--delete", "--older-than", "0") == 1
    assert "cannot be decrypted" in place.err
    assert (place.images / str(image_id)).exists()
    place.configure(metadata_encryption_key=KEY)
    assert place("orphans") == 0


@pytest.mark.parametrize("text", ["-1", "x", "1.5", ""])
def test_an_age_is_a_number_of_seconds(place, text):
    assert place("orphans", f"--older-than={text}") == 1
    assert place.err.startswith("ERROR: --older-than takes a whole number")


def test_the_stores_may_be_those_of_the_api(place):
    (place.directory / "glance-scrubber.conf").unlink()
    assert place("orphans") == 1
    assert place.err.startswith("ERROR: ")
    conf = place.directory / "elsewhere.conf"
    conf.write_text(
        f"[DEFAULT]\nfilesystem_store_datadir = {place.images}\n"
        "[app:glance-api]\npaste.app_factory = glance.api.v1:app_factory\n"
    )
    place.put(77)
    assert place("orphans", "--store-config-file", conf) == 3
    conf.write_text(f"[DEFAULT]\nfilesystem_store_datadir = {place.images}\n")
    assert place("orphans", "--store-config-file", conf) == 3


# -- check --


def violate(place, *statements):
    """Change the database as a program without foreign keys can."""
    with contextlib.closing(sqlite3.connect(place.directory / "my.sqlite")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_a_service_in_order_passes_the_check(place):
    place.add()
    waiting = place.add()
    api.image_delete(place.db, ADMIN, waiting, "pending_delete")
    place.put(77, age=60)
    assert place("check") == 0
    assert place.out == ("No mismatch was found\nobjects without a record, too young to tell: 1\n")
    assert place("check", "--records-only") == 0
    assert place.out == "No mismatch was found\n"
    assert place("check", "--format=json") == 0
    found = json.loads(place.out)
    assert (found["complete"], found["findings"], found["too_young"]) == (True, [], 1)
    assert set(found["counts"].values()) == {0}


def test_the_check_reports_what_does_not_fit_and_changes_nothing(place):
    missing, cut, unnamed, kept = place.add(), place.add(b"complete"), place.add(), place.add()
    (place.images / str(missing)).unlink()
    (place.images / str(cut)).write_bytes(b"comp")
    os.utime(place.images / str(unnamed), (time.time() - 2 * 86400,) * 2)
    place.put(77, b"x" * 1000)
    violate(
        place,
        f"UPDATE images SET location = NULL WHERE id = {unnamed}",
        "INSERT INTO image_members (id, image_id, member, created_at)"
        " VALUES (5, 99, 'm', '2011-01-01')",
        "INSERT INTO image_properties (id, image_id, name, created_at)"
        " VALUES (6, 98, 'n', '2011-01-01')",
        "INSERT INTO scrub_queue (image_id, item, created_at, due_at)"
        " VALUES (97, 'data', '2011-01-01', '2011-01-01')",
    )
    for _ in range(2):
        assert place("check", "--format", "json") == 3
        found = json.loads(place.out)
        assert found["counts"] == {
            "property_without_image": 1,
            "member_without_image": 1,
            "queue_entry_without_image": 1,
            "data_without_record": 1,
            "record_without_data": 2,
            "size_differs": 1,
            "not_checked": 0,
        }
        kinds = {(entry["kind"], str(entry["image_id"])) for entry in found["findings"]}
        assert kinds == {
            ("property_without_image", "98"),
            ("member_without_image", "99"),
            ("queue_entry_without_image", "97"),
            ("data_without_record", "77"),
            ("record_without_data", str(missing)),
            ("record_without_data", str(unnamed)),
            ("size_differs", str(cut)),
        }
    assert place("check") == 3
    assert "member 5 belongs to image 99, which does not exist\n" in place.out
    assert "object 77 in file has no record: 1000 bytes, written 2" in place.out
    assert f"image {cut} in file, 8 bytes: has 4 bytes\n" in place.out
    assert place.out.endswith(
        "Nothing was changed: check --repair removes rows and objects without a record\n"
    )
    assert str(place.images) not in place.out + place.err
    assert place("check", "--records-only") == 3
    assert "object" not in place.out.replace("objects without", "")

    assert place("check", "--repair") == 3
    assert "removed: 4\n" in place.out
    assert place("check", "--format=json") == 3
    left = json.loads(place.out)
    assert {entry["image_id"] for entry in left["findings"]} == {missing, cut, unnamed}
    # What a live image has lost sight of may be all that there is of it.
    assert (place.images / str(unnamed)).exists() and (place.images / str(kept)).exists()
    for image_id in (missing, cut, unnamed):
        assert place.status(image_id) == "active"
        api.image_delete(place.db, ADMIN, image_id, "deleted")
    assert place("check", "--repair") == 0


def test_a_check_that_cannot_look_everywhere_says_so(place):
    place.add()
    place.images.rename(place.directory / "away")
    place.images.write_bytes(b"")
    assert place("check") == 1
    assert place.out == "Store file could not be checked; the log says why\n"
    api.image_create(place.db, ADMIN, {"status": "active", "location": "odd://x", "size": 4})
    assert place("check", "--format=json") == 1
    assert [entry["kind"] for entry in json.loads(place.out)["findings"]] == ["not_checked"]


def test_a_check_that_breaks_off_ends_its_document(place, monkeypatch):
    violate(
        place,
        "INSERT INTO image_members (image_id, member, created_at) VALUES (9, 'm', '2011-01-01')",
    )

    def fail(*_):
        raise exception.ServiceUnavailable("The database is busy; try again later")

    monkeypatch.setattr(orphans.maintenance, "images_with_data", fail)
    assert place("check", "--format=json") == 1
    found = json.loads(place.out)
    assert (found["complete"], len(found["findings"])) == (False, 1)
    assert place.err == "ERROR: The database is busy; try again later\n"


def test_a_scan_whose_temporary_file_cannot_grow_is_one_line(place, monkeypatch):
    for _ in range(3):
        place.add()
    connect = sqlite3.connect

    def small(*args, **options):
        made = connect(*args, **options)
        made.execute("PRAGMA max_page_count = 1")
        return made

    monkeypatch.setattr(orphans.sqlite3, "connect", small)
    assert place("check") == 1
    assert place.err.splitlines()[-1] == (
        "ERROR: The disk of temporary files is full or cannot be written; TMPDIR names another"
    )


def test_many_images_are_compared_in_pages(place, monkeypatch):
    monkeypatch.setattr(paging, "BATCH", 2)
    for number in range(5):
        violate(
            place,
            "INSERT INTO image_members (image_id, member, created_at)"
            f" VALUES (9, 'm{number}', '2011-01-01')",
        )
    assert place("check", "--repair", "--records-only") == 0
    assert place.out.endswith("members without their image: 5\nremoved: 5\n")
    assert place("check") == 0


def test_the_options_of_check_and_orphans_are_not_mixed_up(place):
    place.put(77)
    assert place("check", "--delete") == 1
    assert place.err == "ERROR: --delete belongs to orphans: use check --repair\n"
    assert place("orphans", "--repair") == 1
    assert place.err == "ERROR: --repair belongs to check: use orphans --delete\n"
    assert (place.images / "77").exists()


def test_a_check_without_a_file_of_the_stores_says_how_to_go_on(place):
    (place.directory / "glance-scrubber.conf").unlink()
    assert place("check") == 1
    assert place.err.endswith(
        "ERROR: --store-config-file names the file of the stores, --records-only does without\n"
    )
    assert place("check", "--records-only") == 0


def test_commands_may_be_written_with_hyphens(place):
    assert place("db-version") == 0
    assert place.out == f"{models.SCHEMA_VERSION}\n"


# -- restoring --


def test_a_deletion_is_taken_back(place):
    image_id = place.add()
    api.image_delete(place.db, ADMIN, image_id, "pending_delete")
    assert place("restore", image_id) == 0
    assert place.out == f"Image {image_id} is active again\n"
    assert place.status(image_id) == "active"
    assert place("restore", image_id) == 3
    assert f"Image {image_id} is active, not pending_delete" in place.err


@pytest.mark.parametrize("wanted", ["99", "x"])
def test_what_is_not_there_cannot_be_restored(place, wanted):
    assert place("restore", wanted) == 3
    assert place.err.startswith("ERROR: No image with")


def test_an_image_without_its_data_is_not_restored(place):
    image_id = place.add()
    api.image_delete(place.db, ADMIN, image_id, "pending_delete")
    (place.images / str(image_id)).unlink()
    assert place("restore", image_id) == 3
    assert place.status(image_id) == "pending_delete"


def test_restore_needs_an_id_and_an_import_a_directory(place):
    assert place("restore") == 1
    assert place.err == "ERROR: restore requires an image id\n"
    assert place("import_scrubber_datadir") == 1
    assert place.err == "ERROR: import_scrubber_datadir requires a directory\n"


def test_an_older_schema_is_refused(place):
    migration.downgrade(place.url, 13)
    for command in ("orphans", "encrypt_locations", "restore"):
        assert place(command, "1") == 1
        assert "schema version 13" in place.err


# -- encryption --


def test_locations_are_encrypted_and_decrypted(place):
    image_id = place.add()
    location = api.image_get(place.db, ADMIN, image_id)["location"]
    place.configure(metadata_encryption_key=KEY)
    assert place("encrypt_locations") == 0
    assert place.out == "Encrypted 1 location\n"
    assert not cipher.is_clear(api.image_get(place.db, ADMIN, image_id)["location"])
    assert place("encrypt_locations") == 0
    assert place.out == "Encrypted 0 locations\n"
    place.configure()
    assert place("encrypt_locations") == 1
    assert "1 locations could not be decrypted" in place.err
    place.configure(metadata_encryption_old_keys=KEY)
    assert place("encrypt_locations") == 0
    assert place.out == "Decrypted 1 location\n"
    assert api.image_get(place.db, ADMIN, image_id)["location"] == location
    assert KEY not in place.out + place.err


def test_raw_credentials_of_diablo_are_percent_encoded(place):
    raw = "swift+https://account:user:a/b#c@h/v1/c/5"
    written = "swift+https://account:user:a%2Fb%23c@h/v1/c/5"
    others = [written, "file:///images/a b%", "http://h/x?sig=1", "odd://u:p/w@h", "nonsense"]
    ids = [
        api.image_create(place.db, ADMIN, {"status": "active", "location": text})["id"]
        for text in [raw, *others]
    ]
    place.configure(metadata_encryption_key=KEY)
    assert place("rewrite_locations") == 0
    assert place.out == "Rewrote 6 locations\n"
    assert place("rewrite_locations") == 0
    assert place.out == "Rewrote 0 locations\n"
    place.db.cipher = cipher.Cipher(KEY.encode())
    found = [api.image_get(place.db, ADMIN, image_id)["location"] for image_id in ids]
    assert found == [written, *others]
    assert "a/b" not in place.out + place.err


# -- the queue of Essex --


def essex(place, name, *lines):
    directory = place.directory / "scrubber"
    directory.mkdir(exist_ok=True)
    (directory / str(name)).write_text("\n".join(lines) + "\n")
    return directory


def test_the_queue_of_essex_is_taken_over_once(place):
    waiting, gone = place.add(), place.add()
    location = api.image_get(place.db, ADMIN, waiting)["location"]
    api.image_delete(place.db, ADMIN, waiting, "pending_delete")
    api.image_delete(place.db, ADMIN, gone, "deleted")
    essex(place, waiting, location, "1334000000")
    directory = essex(place, gone, location, "1334000000.25")
    essex(place, ".cleanup", "x", "1334000000")
    place.configure(metadata_encryption_key=KEY)
    assert place("import_scrubber_datadir", directory) == 0
    assert place.out == "Imported 2 files\n"
    assert os.listdir(directory) == [".cleanup"]
    (entry,) = scrub_queue.entries(place.db)
    assert (entry.image_id, entry.due_at) == (waiting, datetime.datetime(2012, 4, 9, 19, 33, 20))
    place.db.cipher = cipher.Cipher(KEY.encode())
    (claim,) = scrub_queue.lease(place.db, "me", 9, kept_for=datetime.timedelta(0))
    assert claim.location == location
    place.db.cipher = cipher.Cipher()


def test_files_that_fit_no_deleted_image_are_left_with_a_reason(place):
    active = place.add()
    essex(place, active, "file:///canary", "1334000000")
    essex(place, 99, "file:///canary", "1334000000")
    essex(place, "readme", "file:///canary", "1334000000")
    for number, lines in enumerate(
        [["file:///canary"], ["file:///canary", "soon"], ["canary", "1334000000"], []]
    ):
        image_id = place.add()
        api.image_delete(place.db, ADMIN, image_id, "pending_delete")
        directory = essex(place, image_id, *lines)
        assert number >= 0
    assert place("import_scrubber_datadir", directory) == 1
    assert place.out.startswith("Imported 0 files\n")
    assert place.out.count("\nSkipped ") == 7
    assert f"Skipped {active}: its image is active" in place.out
    assert "canary" not in place.out + place.err
    assert len(os.listdir(directory)) == 7


def test_a_directory_that_is_not_there_is_one_line(place):
    assert place("import_scrubber_datadir", place.directory / "none") == 1
    assert place.err.count("\n") == 1 and "No such file" in place.err

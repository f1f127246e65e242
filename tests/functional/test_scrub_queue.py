"""glance-scrubber and its queue: several at once, one that dies, stores and databases in trouble.

No daemons here: the records are written straight into a database, and a store that does what the
location says (`support.stores`) stands for the backend.
"""

import collections
import contextlib
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from glance.identity.context import RequestContext
from glance.image import cipher
from glance.registry.db import api, engine, migration, records, scrub_queue

from support import daemons, faults, stores

pytestmark = pytest.mark.full

ADMIN = RequestContext(is_admin=True)
CONF = """
[DEFAULT]
verbose = True
sql_connection = sqlite:///{database}
enabled_stores = file
known_stores = support.stores.Scripted
filesystem_store_datadir = {directory}/images
{options}

[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


class Place:
    """A database with deleted images, and scrubbers that work on it."""

    def __init__(self, directory):
        self.directory = directory
        self.database = directory / "glance.sqlite"
        self.journal = directory / "journal"
        migration.db_sync(f"sqlite:///{self.database}")
        self.db = engine.Database(f"sqlite:///{self.database}")
        self._running = []

    def delete(self, *behaviours):
        """Make an image for each behaviour of its store, deleted; return their ids."""
        ids = []
        for behaviour in behaviours:
            record = api.image_create(self.db, ADMIN, {"status": "active", "size": 4})
            location = f"script://{behaviour}/{record['id']}"
            api.image_update(self.db, ADMIN, record["id"], {"location": location})
            api.image_delete(self.db, ADMIN, record["id"], "pending_delete")
            ids.append(record["id"])
        return ids

    def start(self, *arguments, **options):
        conf = self.directory / f"glance-scrubber-{len(self._running)}.conf"
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        conf.write_text(
            CONF.format(database=self.database, directory=self.directory, options=lines)
        )
        environment = daemons.environment()
        support = str(daemons.ROOT / "tests")
        process = subprocess.Popen(
            [sys.executable, str(daemons.BIN / "glance-scrubber"), *arguments, str(conf)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": support, stores.JOURNAL: str(self.journal)},
        )
        self._running.append(process)
        return process

    def scrub(self, *arguments, **options):
        """Run a scrubber to its end; return exit status, output and errors."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def stop(self):
        for process in self._running:
            process.kill()
            process.communicate()
        self.db.dispose()

    def notes(self, word):
        """Return the ids of the images whose removal began, or was done, in order."""
        if not self.journal.exists():
            return []
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return [int(image_id) for found, image_id in lines if found == word]

    def until_begun(self, count):
        faults.until(lambda: len(self.notes("begin")) >= count, f"{count} removals have begun")

    def go_on(self):
        """Let everything that waits be done."""
        self.journal.with_suffix(".go").touch()

    def change(self, statement):
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection:
            with connection:
                connection.execute(statement)

    def rows(self, columns):
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return connection.execute(
                f"SELECT {columns} FROM scrub_queue ORDER BY image_id"
            ).fetchall()

    def statuses(self):
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return dict(connection.execute("SELECT id, status FROM images").fetchall())


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.stop()


def counted(output):
    """Return what the line about a pass says: word -> number."""
    (line,) = re.findall(r"Pass done: (.*)", output)
    return {words: int(number) for number, words in re.findall(r"(\d+) ([a-z ]+),", line)}


def test_two_scrubbers_at_once_remove_each_image_once(place):
    ids = place.delete(*["slow"] * 300)
    both = [place.start(scrub_batch=20) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert collections.Counter(place.notes("begin")) == dict.fromkeys(ids, 1)
    figures = [counted(output) for output in outputs]
    assert sum(found["deleted"] for found in figures) == 300
    assert sum(found["already gone"] + found["postponed"] for found in figures) == 0
    assert set(place.statuses().values()) == {"deleted"}
    assert place.rows("*") == []


def test_what_a_killed_scrubber_held_is_free_when_its_leases_run_out(place):
    ids = place.delete(*["wait"] * 12)
    killed = place.start("--daemon", scrub_workers=4, scrub_batch=8)
    place.until_begun(4)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    place.go_on()
    # The four that it had not leased are free at once, the others are not.
    code, output, _ = place.scrub()
    assert (code, counted(output)["deleted"]) == (0, 4)
    assert len(place.rows("*")) == 8
    place.change("UPDATE scrub_queue SET lease_until = '2020-01-01 00:00:00.0'")
    code, output, _ = place.scrub()
    assert (code, counted(output)["deleted"]) == (0, 8)
    assert place.statuses() == dict.fromkeys(ids, "deleted")


def test_stores_in_trouble_hold_up_nobody_else(place):
    refused, away, hung, fine = place.delete("refuse", "away", "hang", "slow")
    code, output, errors = place.scrub(scrub_timeout=1)
    assert code == 1
    assert counted(output) == {
        "leased": 4,
        "deleted": 1,
        "already gone": 0,
        "not ours": 0,
        "postponed": 3,
        "dead": 0,
        "interrupted uploads killed": 0,
    }
    assert place.rows("image_id, attempts, last_error, lease_until") == [
        (refused, 1, "StoreForbidden", None),
        (away, 1, "BackendUnavailable", None),
        (hung, 1, "ScrubTimeout", None),
    ]
    assert place.statuses()[fine] == "deleted"
    assert "script://" not in output + errors
    # They are not due yet: nothing is left for this pass.
    assert place.scrub()[0] == 0
    assert place.scrub("--retry", scrub_max_attempts=2, scrub_timeout=1)[0] == 1
    assert place.rows("attempts, dead") == [(2, 1)] * 3


def test_a_store_that_hangs_for_good_ends_the_pass(place):
    first, second, third = place.delete("hang", "slow", "slow")
    code, output, _ = place.scrub(scrub_workers=1, scrub_timeout=1)
    assert code == 1
    assert counted(output)["postponed"] == 3
    assert place.rows("image_id, attempts, lease_until") == [
        (first, 1, None),
        (second, 0, None),
        (third, 0, None),
    ]
    assert place.scrub()[0] == 0
    assert place.statuses() == {first: "pending_delete", second: "deleted", third: "deleted"}


def test_a_store_that_hangs_when_it_is_swept_holds_up_no_deletion(place):
    (image_id,) = place.delete("slow")
    place.journal.with_suffix(".hang").touch()
    code, output, _ = place.scrub(scrub_timeout=1)
    assert (code, counted(output)["deleted"]) == (0, 1)
    assert "A store delays the search for interrupted uploads" in output
    assert place.statuses() == {image_id: "deleted"}


@pytest.mark.parametrize("arguments", [("--daemon",), ()], ids=["daemon", "one pass"])
def test_told_to_end_it_finishes_what_is_under_way_and_gives_the_rest_back(place, arguments):
    ids = place.delete(*["wait"] * 5)
    process = place.start(*arguments, scrub_workers=2)
    place.until_begun(2)
    process.send_signal(signal.SIGTERM)
    place.go_on()
    process.communicate(timeout=60)
    assert process.returncode == 0
    begun = place.notes("begin")
    assert place.notes("done") != [] and set(place.notes("done")) == set(begun)
    left = sorted(set(ids) - set(begun))
    assert place.rows("image_id, attempts, lease_until, lease_owner") == [
        (image_id, 0, None, None) for image_id in left
    ]
    assert {place.statuses()[image_id] for image_id in begun} == {"deleted"}


def test_a_daemon_outlives_a_database_in_trouble(place):
    (first,) = place.delete("slow")
    process = place.start("--daemon", wakeup_time=1)
    faults.until(lambda: place.statuses() == {first: "deleted"}, "the first pass")
    place.change("ALTER TABLE scrub_queue RENAME TO elsewhere")
    for line in process.stdout:
        if "The pass was aborted" in line:
            break
    place.change("ALTER TABLE elsewhere RENAME TO scrub_queue")
    (second,) = place.delete("slow")
    faults.until(lambda: place.statuses()[second] == "deleted", "a pass after the trouble")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_database_lost_in_mid_pass_leaves_what_the_next_pass_finds_gone(place):
    (image_id,) = place.delete("wait")
    process = place.start()
    place.until_begun(1)
    place.change("ALTER TABLE scrub_queue RENAME TO elsewhere")
    place.go_on()
    process.communicate(timeout=60)
    assert process.returncode == 1
    place.change("ALTER TABLE elsewhere RENAME TO scrub_queue")
    assert place.statuses() == {image_id: "pending_delete"}
    place.change("UPDATE scrub_queue SET lease_until = '2020-01-01 00:00:00.0'")
    assert place.scrub()[0] == 0
    assert place.statuses() == {image_id: "deleted"}


def test_a_deletion_is_taken_back(place):
    image_id, other = place.delete("refuse", "slow")
    code, output, errors = place.scrub("--restore", str(image_id))
    assert (code, output) == (0, f"Image {image_id} is active again\n")
    assert "script://" not in errors
    assert place.statuses()[image_id] == "active"
    assert place.rows("image_id") == [(other,)]
    assert place.scrub()[0] == 0
    assert place.statuses() == {image_id: "active", other: "deleted"}


def test_what_cannot_be_restored_is_told_apart(place):
    leased, gone = place.delete("slow", "slow")
    until = records.utcnow().replace(year=2100)
    place.change(
        f"UPDATE scrub_queue SET lease_owner = 'x', lease_until = '{until}' "
        f"WHERE image_id = {leased}"
    )
    place.change(f"UPDATE images SET size = 5 WHERE id = {gone}")
    for wanted, reason in (
        (leased, "is being removed now"),
        (gone, "had 5 bytes, 4 of them are left"),
        (99, "No image with ID 99"),
        ("x", "No image with this ID"),
    ):
        code, output, errors = place.scrub("--restore", str(wanted))
        assert (code, output) == (3, "")
        assert re.search(f"^ERROR: .*{reason}", errors, re.MULTILINE)
    assert set(place.statuses().values()) == {"pending_delete"}


def test_what_a_failed_upload_left_goes_unless_the_image_needs_it_by_now(place):
    def upload(status, behaviour, left):
        record = api.image_create(place.db, ADMIN, {"status": "queued", "size": 4})
        image_id, values = record["id"], {"status": status}
        if status == "active":
            values["location"] = f"script://{behaviour}/{image_id}"
        if status != "queued":
            api.image_update(place.db, ADMIN, image_id, values)
        scrub_queue.enter_leftover(place.db, image_id, f"script://{left}/{image_id}", "X")
        return image_id

    killed = upload("killed", None, "slow")
    retried = upload("active", "slow", "slow")
    elsewhere = upload("active", "slow", "wait")
    arriving = [upload(status, None, "slow") for status in ("saving", "queued")]
    place.go_on()
    code, output, _ = place.scrub("--retry")
    assert code == 1
    figures = counted(output)
    assert (figures["deleted"], figures["not ours"], figures["postponed"]) == (2, 1, 2)
    assert sorted(place.notes("begin")) == [killed, elsewhere]
    assert place.rows("image_id, last_error") == [
        (image_id, "UploadInProgress") for image_id in arriving
    ]
    assert place.statuses()[retried] == "active"


def test_encrypted_locations_need_the_key_and_wait_for_it(place):
    place.db.cipher = cipher.Cipher(b"k" * 16)
    (image_id,) = place.delete("slow")
    code, output, errors = place.scrub()
    assert code == 1
    assert "cannot be decrypted" in output
    assert place.rows("last_error, dead") == [("LocationEncrypted", 0)]
    code, output, _ = place.scrub("--retry", metadata_encryption_key="k" * 16)
    assert (code, counted(output)["deleted"]) == (0, 1)
    assert place.notes("done") == [image_id]
    assert "script://" not in output + errors


def test_an_empty_queue_is_listed_as_such(place):
    code, output, _ = place.scrub("--list")
    assert code == 0
    assert output.splitlines() == [
        f"{'ID':<10} {'WHAT':<8} {'DUE':<19} {'ATTEMPTS':>8} {'STATE':<7} LAST ERROR"
    ]

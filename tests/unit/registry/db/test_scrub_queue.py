"""The scrub queue: who gets what, how long failures wait, and what ends a wait."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, deletion, engine, models, records, scrub_queue

ADMIN = RequestContext(is_admin=True)
SEEING = RequestContext(is_admin=True, show_deleted=True)
NOW = datetime.timedelta(0)
HOUR = datetime.timedelta(hours=1)
queue = models.scrub_queue
ROOT = Path(__file__).resolve().parents[4]


def delete(database: engine.Database, **waiting: Any) -> int:
    """Make an image, delete it and return its id."""
    image = api.image_create(
        database, ADMIN, {"status": "active", "location": "file:///x", "size": 4}
    )
    api.image_delete(database, ADMIN, image["id"], "pending_delete", **waiting)
    return int(image["id"])


def lease(database: engine.Database, owner: str = "me", limit: int = 100) -> list[int]:
    claims = scrub_queue.lease(database, owner, limit, kept_for=NOW)
    return [claim.image_id for claim in claims]


def change(database: engine.Database, image_id: int, **values: Any) -> None:
    with database.write() as conn:
        conn.execute(queue.update().where(queue.c.image_id == image_id).values(**values))


def fail(
    database: engine.Database, image_id: int, **options: Any
) -> scrub_queue.ScrubEntry | None:
    change(database, image_id, due_at=records.utcnow(), lease_until=None)
    assert lease(database) == [image_id]
    return scrub_queue.postpone(database, image_id, "data", "Boom", owner="me", **options)


def test_what_waited_longest_is_leased_first_and_once(any_database: engine.Database) -> None:
    ids = [delete(any_database) for _ in range(5)]
    change(any_database, ids[3], due_at=records.utcnow() - HOUR)
    assert lease(any_database, "one", 2) == [ids[3], ids[0]]
    assert lease(any_database, "two", 100) == [ids[1], ids[2], ids[4]]
    assert lease(any_database, "three") == []


def test_what_is_not_due_or_given_up_is_not_leased(any_database: engine.Database) -> None:
    later, dead, due = (delete(any_database) for _ in range(3))
    change(any_database, later, due_at=records.utcnow() + HOUR)
    change(any_database, dead, dead=True)
    assert lease(any_database) == [due]


def test_data_is_kept_for_the_longer_of_both_times(any_database: engine.Database) -> None:
    young, delayed, tried = (
        delete(any_database),
        delete(any_database, due_in=3600),
        delete(any_database),
    )
    change(any_database, tried, attempts=1)
    assert [c.image_id for c in scrub_queue.lease(any_database, "a", 9, kept_for=HOUR)] == [tried]
    assert lease(any_database) == [young]
    assert delayed not in lease(any_database)


def test_a_lease_that_runs_out_or_is_given_back_is_free(any_database: engine.Database) -> None:
    one, two = delete(any_database), delete(any_database)
    assert lease(any_database, "dead") == [one, two]
    assert lease(any_database) == []
    change(any_database, one, lease_until=records.utcnow() - HOUR)
    assert lease(any_database) == [one]
    scrub_queue.release(any_database, "dead")
    assert lease(any_database) == [two]


def test_a_lease_that_is_renewed_lasts(any_database: engine.Database) -> None:
    one, other = delete(any_database), delete(any_database)
    assert lease(any_database, "me", 1) == [one]
    assert lease(any_database, "you") == [other]
    with any_database.write() as conn:
        conn.execute(queue.update().values(lease_until=records.utcnow() - HOUR))
    scrub_queue.renew(any_database, "me")
    assert lease(any_database, "third") == [other]


def test_of_many_scrubbers_at_once_each_gets_other_images(any_database: engine.Database) -> None:
    ids = {delete(any_database) for _ in range(60)}
    taken: list[int] = []

    def work(owner: str) -> None:
        while found := lease(any_database, owner, 7):
            taken.extend(found)

    threads = [threading.Thread(target=work, args=(f"worker{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_failures_wait_longer_each_time_up_to_six_hours() -> None:
    pauses = [scrub_queue.pause_after(count).total_seconds() for count in range(1, 12)]
    assert pauses[:5] == [60, 120, 240, 480, 960]
    assert pauses[-1] == 6 * 3600
    assert scrub_queue.pause_after(10**9).total_seconds() == 6 * 3600


def test_a_failure_is_counted_and_named(any_database: engine.Database) -> None:
    image_id = delete(any_database)
    for count in (1, 2, 3):
        before = records.utcnow()
        entry = fail(any_database, image_id)
        assert entry is not None
        assert (entry.attempts, entry.last_error, entry.leased) == (count, "Boom", False)
        assert entry.due_at >= before + scrub_queue.pause_after(count)
    assert lease(any_database) == []
    assert scrub_queue.retry(any_database) == 1
    assert lease(any_database) == [image_id]


def test_after_enough_failures_an_image_is_given_up(any_database: engine.Database) -> None:
    image_id = delete(any_database)
    assert not getattr(fail(any_database, image_id, max_attempts=2), "dead", True)
    assert getattr(fail(any_database, image_id, max_attempts=2), "dead", False)
    assert lease(any_database) == []
    assert scrub_queue.retry(any_database) == 1
    assert not getattr(fail(any_database, image_id, max_attempts=3), "dead", True)
    assert getattr(fail(any_database, image_id, max_attempts=3), "dead", False)


def test_who_lost_a_lease_postpones_nothing(any_database: engine.Database) -> None:
    image_id = delete(any_database)
    assert lease(any_database, "other") == [image_id]
    assert scrub_queue.postpone(any_database, image_id, "data", "X", owner="me") is None
    assert scrub_queue.postpone(any_database, 99, "data", "X", owner="me") is None
    assert scrub_queue.entries(any_database)[0].attempts == 0


def test_settling_ends_the_wait_of_the_image_in_one_step(any_database: engine.Database) -> None:
    image_id = delete(any_database)
    assert deletion.settle(any_database, image_id, "data")
    assert api.image_get(any_database, SEEING, image_id)["status"] == "deleted"
    assert scrub_queue.entries(any_database) == []
    assert not deletion.settle(any_database, image_id, "data")


def test_settling_a_leftover_leaves_its_image_alone(any_database: engine.Database) -> None:
    image = api.image_create(any_database, ADMIN, {"status": "killed"})
    scrub_queue.enter_leftover(any_database, image["id"], "file:///part", "X")
    (entry,) = scrub_queue.entries(any_database)
    assert deletion.settle(any_database, image["id"], entry.item)
    assert api.image_get(any_database, ADMIN, image["id"])["status"] == "killed"


def test_images_of_older_releases_are_adopted_once(any_database: engine.Database) -> None:
    image_id = delete(any_database)
    with any_database.write() as conn:
        conn.execute(queue.delete())
        long_ago = datetime.datetime(2011, 9, 22)
        conn.execute(models.images.update().values(deleted_at=long_ago))
    api.image_create(any_database, ADMIN, {"status": "pending_delete"})
    assert scrub_queue.adopt(any_database) == 1
    assert scrub_queue.adopt(any_database) == 0
    (claim,) = scrub_queue.lease(any_database, "me", 9, kept_for=HOUR)
    assert claim == (image_id, "data", "file:///x", 0)


@pytest.mark.parametrize("odd", ["x'ff'", "'yesterday'", "''"])
def test_an_image_whose_times_and_location_are_odd_is_adopted(
    sqlite_database: engine.Database, odd: str
) -> None:
    db = sqlite_database
    image_id = delete(db)
    location = "location = CAST('file:///x' AS BLOB)"
    with db.write() as conn:
        conn.execute(queue.delete())
        conn.execute(sa.text(f"UPDATE images SET deleted_at = {odd}, {location}"))
    assert scrub_queue.adopt(db) == 1
    (entry,) = scrub_queue.entries(db, kept_for=HOUR)
    assert entry.due_at > records.utcnow()
    assert scrub_queue.lease(db, "me", 9, kept_for=NOW) == [(image_id, "data", "file:///x", 0)]
    with db.write() as conn:
        conn.execute(sa.text(f"UPDATE scrub_queue SET created_at = {odd}, due_at = {odd}"))
    assert len(scrub_queue.entries(db, kept_for=HOUR)) == 1


def test_scrubbers_that_start_at_once_adopt_each_image_once(any_database: engine.Database) -> None:
    ids = sorted(delete(any_database) for _ in range(20))
    with any_database.write() as conn:
        conn.execute(queue.delete())
    threads = [threading.Thread(target=scrub_queue.adopt, args=(any_database,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.image_id for entry in scrub_queue.entries(any_database)) == ids


def test_restoring_needs_data_that_waits_and_that_nobody_removes(
    any_database: engine.Database,
) -> None:
    image_id = delete(any_database)
    assert lease(any_database) == [image_id]
    with pytest.raises(exception.Conflict, match="being removed now"):
        deletion.image_restore(any_database, image_id)
    scrub_queue.release(any_database, "me")
    assert deletion.image_restore(any_database, image_id)["status"] == "active"
    with pytest.raises(exception.Conflict, match="is active, not pending_delete"):
        deletion.image_restore(any_database, image_id)
    with pytest.raises(exception.ImageNotFound):
        deletion.image_restore(any_database, 99)
    assert lease(any_database) == []


def test_a_diablo_deletion_is_restored_with_its_properties_but_no_members(
    any_database: engine.Database,
) -> None:
    image_id = delete(any_database)
    now = records.utcnow()
    with any_database.write() as conn:
        for table, name in ((models.image_properties, "name"), (models.image_members, "member")):
            child = {"image_id": image_id, name: "x", "created_at": now, "deleted": True}
            conn.execute(table.insert().values(child))
    assert deletion.image_restore(any_database, image_id)["properties"] == {"x": None}
    with any_database.read() as conn:
        members = models.image_members
        assert conn.execute(sa.select(members.c.deleted)).scalars().all() == [True]


CONF = """
[DEFAULT]
verbose = True
sql_connection = {url}
enabled_stores = file
known_stores = support.stores.Scripted
filesystem_store_datadir = {directory}/images
scrub_batch = 7

[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


def test_scrubbers_at_once_remove_each_image_once_in_any_database(
    any_database: engine.Database, tmp_path: Path
) -> None:
    for _ in range(60):
        image = api.image_create(any_database, ADMIN, {"status": "active"})
        location = f"script://slow/{image['id']}"
        api.image_update(any_database, ADMIN, image["id"], {"location": location})
        api.image_delete(any_database, ADMIN, image["id"], "pending_delete")
    conf, journal = tmp_path / "glance-scrubber.conf", tmp_path / "journal"
    url = any_database.url.replace("%", "%%")
    conf.write_text(CONF.format(url=url, directory=tmp_path))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "PYTHONWARNINGS": "ignore",
        "SCRIPTED_STORE_JOURNAL": str(journal),
    }
    command = [sys.executable, str(ROOT / "bin" / "glance-scrubber"), str(conf)]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    begun = re.findall(r"^begin (\d+)$", journal.read_text(), re.MULTILINE)
    assert len(begun) == len(set(begun)) == 60
    assert scrub_queue.entries(any_database) == []


def test_the_list_says_when_rows_are_leased(database: engine.Database) -> None:
    """The pass of a scrubber waits for its own scrub_time, too, but not after a failure."""
    now = records.utcnow()
    first, second, failed = (delete(database) for _ in range(3))
    change(database, first, created_at=now, due_at=now)
    change(database, second, created_at=now - HOUR, due_at=now + HOUR / 2)
    change(database, failed, created_at=now, due_at=now + HOUR / 4, attempts=1)
    for kept_for, wanted in (
        (NOW, [(first, now), (failed, now + HOUR / 4), (second, now + HOUR / 2)]),
        (HOUR, [(failed, now + HOUR / 4), (second, now + HOUR / 2), (first, now + HOUR)]),
        (3 * HOUR, [(failed, now + HOUR / 4), (second, now + 2 * HOUR), (first, now + 3 * HOUR)]),
    ):
        found = scrub_queue.entries(database, kept_for=kept_for)
        assert [(entry.image_id, entry.due_at) for entry in found] == wanted
    assert scrub_queue.entries(database, kept_for=datetime.timedelta.max)

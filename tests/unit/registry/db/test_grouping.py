"""Several transactions of SQLite in one commit: what they share, and what they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Writers under eventlet, on a disk whose commits take a moment, so that others come meanwhile.
# Each scenario prints a line of JSON.
SCENARIOS = """
import eventlet; eventlet.monkey_patch()
import json, sqlite3, sys
from eventlet import patcher
import sqlalchemy as sa
from glance.common import exception
from glance.registry.db import engine, grouping, models, records

sleep = patcher.original("time").sleep
images = models.images
fail_next = [False]
commits = [0]

class Connection(sqlite3.Connection):
    def commit(self):
        if not self.in_transaction:
            return
        sleep(0.02)
        commits[0] += 1
        if fail_next[0]:
            fail_next[0] = False
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()

connect = sqlite3.dbapi2.connect
opened = []

def opening(*args, **kw):
    opened.append(connect(*args, factory=Connection, **kw))
    return opened[-1]

sqlite3.dbapi2.connect = opening
db = engine.Database(sys.argv[1])

def insert(conn, name):
    row = {"status": "queued", "created_at": records.utcnow(), "name": name}
    conn.execute(images.insert().values(row))
    return name

def names():
    with db.read() as conn:
        return sorted(conn.execute(sa.select(images.c.name)).scalars())

def outcome(thread):
    try:
        return thread.wait()
    except BaseException as err:
        return type(err).__name__

def scenario(name, works):
    with db.write() as conn:
        conn.execute(images.delete())
    commits[0] = 0
    threads = [eventlet.spawn(db.transaction, work) for work in works]
    outcomes = [outcome(thread) for thread in threads]
    print(json.dumps([name, outcomes, names(), commits[0]]))

def inserting(name):
    return lambda conn: insert(conn, name)

def failing(conn):
    insert(conn, "wrong")
    raise exception.Conflict("no")

def losing(conn):
    # What SQLite does by itself when the disk is full.
    if losing.times:
        losing.times -= 1
        conn.connection.dbapi_connection.execute("ROLLBACK")
        raise exception.Conflict("full")
    return insert(conn, "d")
losing.times = 1

def breaking_the_commit(conn):
    fail_next[0] = True
    return insert(conn, "c")

def taken(conn):
    conn.execute(images.insert().values(id=1, status="queued", created_at=records.utcnow()))
    conn.execute(images.insert().values(id=1, status="queued", created_at=records.utcnow()))

# One after the other, and then all at once, before and after they have had company.
for name, works in (("few", "ab"), ("company", "abcdefgh"), ("again", "abcdefgh")):
    with db.write() as conn:
        conn.execute(images.delete())
    commits[0] = 0
    for work in works if name == "few" else ():
        eventlet.spawn(db.transaction, inserting(work)).wait()
    if name != "few":
        for thread in [eventlet.spawn(db.transaction, inserting(work)) for work in works]:
            thread.wait()
    print(json.dumps([name, [], names(), commits[0]]))

many = [inserting(f"{number:03}") for number in range(40)]
scenario("many", many)
scenario("failing", [inserting("a"), inserting("b"), failing, inserting("c")])
scenario("taken", [inserting("a"), inserting("b"), taken, inserting("c")])
scenario("lost", [inserting("a"), inserting("b"), inserting("c"), losing, inserting("e")])
scenario("commit", [inserting("a"), inserting("b"), breaking_the_commit, inserting("d")])

# A killed client waits no longer, before its turn and after it; the others are not harmed.
with db.write() as conn:
    conn.execute(images.delete())
first = eventlet.spawn(db.transaction, inserting("first"))
eventlet.sleep(0)
others = [eventlet.spawn(db.transaction, inserting(name)) for name in "abcd"]
eventlet.sleep(0)
others[1].kill()
while "c" not in (seen := names()):
    if not others[3].dead and seen:
        others[3].kill()
    eventlet.sleep(0)
print(json.dumps(["killed", [outcome(others[0]), outcome(others[2])], names(), 0]))

# Whoever writes alone waits for an open group, and nobody joins it.
with db.write() as conn:
    conn.execute(images.delete())
late = []
def alone():
    with db.write() as conn:
        insert(conn, "alone")
        late.append(eventlet.spawn(db.transaction, inserting("late")))
        for _ in range(5):
            eventlet.sleep(0)
        return sorted(conn.execute(sa.select(images.c.name)).scalars())
threads = [eventlet.spawn(db.transaction, inserting(name)) for name in "ab"]
threads += [eventlet.spawn(alone)]
threads += [eventlet.spawn(db.transaction, inserting(name)) for name in "cd"]
outcomes = [outcome(thread) for thread in threads]
outcomes.append(outcome(late[0]))
print(json.dumps(["alone", outcomes, names(), 0]))

# All write on one connection, which is closed with the others, and when it is of no use.
counts = []
for number in range(3):
    before = len(opened)
    scenario(f"once{number}", [inserting("a"), failing, taken, inserting("b")] * 2)
    counts.append(len(opened) - before)
    if number:
        continue
    db.dispose()
    for connection in opened:
        try:
            connection.execute("SELECT 1")
            raise SystemExit("a connection stays open")
        except sqlite3.ProgrammingError:
            pass
def breaking(conn):
    driver = conn.connection.dbapi_connection
    insert(conn, "broken")
    driver.close()
outcomes = [outcome(eventlet.spawn(db.transaction, breaking))]
outcomes.append(outcome(eventlet.spawn(db.transaction, inserting("after"))))
print(json.dumps(["kept", outcomes + counts, names(), 0]))
"""

ScenarioResult = dict[str, tuple[list[Any], list[str], int]]


@pytest.fixture(scope="module")
def results(sqlite: Any) -> ScenarioResult:
    command = [sys.executable, "-W", "ignore", "-c", SCENARIOS, sqlite.emptied()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (outcomes, names, commits) for name, outcomes, names, commits in lines}


def test_those_who_come_during_a_commit_share_the_next_one(results: ScenarioResult) -> None:
    outcomes, names, commits = results["many"]
    assert outcomes == names == [f"{number:03}" for number in range(40)]
    # As many as a group may have, and the others.
    assert 2 <= commits <= 6


def test_who_has_had_company_waits_for_it(results: ScenarioResult) -> None:
    assert results["few"] == ([], ["a", "b"], 2)
    # The first one does not know of the others, who wait for it.
    assert results["company"] == ([], list("abcdefgh"), 2)
    assert results["again"] == ([], list("abcdefgh"), 1)


def test_what_one_does_wrong_is_undone_for_that_one_alone(results: ScenarioResult) -> None:
    outcomes, names, commits = results["failing"]
    assert outcomes == ["a", "b", "Conflict", "c"]
    assert names == ["a", "b", "c"]
    assert commits == 1


def test_an_id_that_is_taken_spoils_nothing_of_the_others(results: ScenarioResult) -> None:
    assert results["taken"][:2] == (["a", "b", "IntegrityError", "c"], ["a", "b", "c"])


def test_members_of_a_group_that_sqlite_has_undone_work_again(results: ScenarioResult) -> None:
    assert results["lost"][:2] == (list("abcde"), list("abcde"))


def test_members_of_a_group_that_cannot_be_committed_work_again(results: ScenarioResult) -> None:
    # The commit of `c` alone fails again, and that is the outcome of `c` and of nobody else.
    outcomes, names, _ = results["commit"]
    assert outcomes == ["a", "b", "ServiceUnavailable", "d"]
    assert names == ["a", "b", "d"]


def test_a_client_that_is_gone_harms_nobody(results: ScenarioResult) -> None:
    outcomes, names, _ = results["killed"]
    assert outcomes == ["a", "c"]
    assert {"first", "a", "c"} <= set(names) <= {"first", "a", "c", "d"}


def test_all_who_write_share_one_connection_as_long_as_it_is_of_use(
    results: ScenarioResult,
) -> None:
    outcomes, names, _ = results["kept"]
    # The first one was open, and has been closed; after that one to read and one to write.
    assert outcomes == ["ServiceUnavailable", "after", 0, 2, 0]
    assert names == ["a", "a", "after", "b", "b"]


def test_who_writes_alone_waits_for_a_group_and_is_joined_by_nobody(
    results: ScenarioResult,
) -> None:
    outcomes, names, _ = results["alone"]
    seen = ["a", "alone", "b", "c", "d"]
    assert outcomes == ["a", "b", seen, "c", "d", "late"]
    assert names == [*seen, "late"]

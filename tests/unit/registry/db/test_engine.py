"""Connections to the database: processes, locks, lost connections."""

from __future__ import annotations

import multiprocessing
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import config, exception
from glance.registry.db import connecting, engine, models, records


def insert(conn: sa.engine.Connection, **values: Any) -> None:
    row = {"status": "queued", "created_at": records.utcnow(), **values}
    conn.execute(models.images.insert().values(row))


def count(database: engine.Database) -> int:
    with database.read() as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(models.images)).scalar_one()


def test_a_write_is_committed_at_its_end(database: engine.Database) -> None:
    with database.write() as conn:
        insert(conn)
        assert count(database) == 0
    assert count(database) == 1


def test_a_write_that_fails_leaves_nothing(database: engine.Database) -> None:
    with pytest.raises(RuntimeError), database.write() as conn:
        insert(conn)
        raise RuntimeError
    assert count(database) == 0


def test_the_check_misses_the_file_of_the_database(sqlite_database: engine.Database) -> None:
    sqlite_database.check()
    path = pathlib.Path(sqlite_database.url.removeprefix("sqlite:///"))
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(exception.ServiceUnavailable):
        sqlite_database.check()
    away.rename(path)
    sqlite_database.check()


def test_the_check_says_nothing_of_where_the_database_is(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "canary"
    path.write_bytes(b"This is no database, and long enough to be taken for a bad one." * 100)
    with pytest.raises(exception.ServiceUnavailable) as caught:
        engine.Database(f"sqlite:///{path}").check()
    assert "canary" not in str(caught.value)
    assert not caplog.records


def test_a_snapshot_sees_one_state(database: engine.Database) -> None:
    query = sa.select(sa.func.count()).select_from(models.images)
    with database.snapshot() as conn:
        assert conn.execute(query).scalar() == 0
        with database.write() as other:
            insert(other)
        assert conn.execute(query).scalar() == 0
    assert count(database) == 1


def test_times_keep_their_microseconds(database: engine.Database) -> None:
    now = records.utcnow().replace(microsecond=123456)
    with database.write() as conn:
        insert(conn, created_at=now)
    with database.read() as conn:
        assert conn.execute(sa.select(models.images.c.created_at)).scalar() == now


def test_a_child_process_opens_connections_of_its_own(database: engine.Database) -> None:
    assert count(database) == 0
    before = database._engines

    def child() -> None:
        with database.write() as conn:
            insert(conn)
        assert database._engines is not before

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert count(database) == 1
    assert database._engines is before


SLOW_DISK = """
import eventlet; eventlet.monkey_patch()
import sqlite3, sys
from eventlet import patcher
import sqlalchemy as sa
from glance.registry.db import connecting, engine, models, records

sleep = patcher.original("time").sleep

class Connection(sqlite3.Connection):
    commits = 0

    def commit(self):
        Connection.commits += self.in_transaction
        sleep(0.1)
        super().commit()
        Connection.commits -= 1

connect = sqlite3.dbapi2.connect
sqlite3.dbapi2.connect = lambda *args, **kw: connect(*args, factory=Connection, **kw)
database = engine.Database(sys.argv[1])

def write():
    with database.write() as conn:
        conn.execute(models.images.insert().values(status="queued", created_at=records.utcnow()))

writers = [eventlet.spawn(write) for _ in range(3)]
reads = 0
while not all(writer.dead for writer in writers):
    with database.read() as conn:
        count = conn.execute(sa.select(sa.func.count(models.images.c.id))).scalar()
    reads += Connection.commits == 1
    eventlet.sleep(0)
print(count, reads > 3, Connection.commits)
"""


def test_others_are_served_while_a_commit_waits_for_the_disk(sqlite: Any) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SLOW_DISK, sqlite.emptied()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[1:] == ["True", "0"], done.stderr
    assert count(engine.Database(command[-1])) == 3


def test_sqlite_is_set_up_for_many_processes(sqlite_database: engine.Database) -> None:
    with sqlite_database.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() == connecting.BUSY_TIMEOUT


def test_a_transaction_waits_for_a_lock_to_go(
    sqlite_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "BUSY_TIMEOUT", 1)
    holder = sqlite3.connect(
        sqlite_database.url.removeprefix("sqlite:///"),
        isolation_level=None,
        check_same_thread=False,
    )
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, holder.execute, ["ROLLBACK"])
    timer.start()
    sqlite_database.transaction(insert)
    timer.join()
    holder.close()
    assert count(sqlite_database) == 1


def test_a_lock_that_stays_is_a_busy_service(
    sqlite_database: engine.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "BUSY_TIMEOUT", 1)
    sqlite_database.retry_for = 0.05
    holder = sqlite3.connect(sqlite_database.url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(exception.ServiceUnavailable, match="busy"):
        sqlite_database.transaction(insert)
    with pytest.raises(exception.ServiceUnavailable, match="busy"), sqlite_database.write():
        pass
    assert count(sqlite_database) == 0
    holder.close()


def test_a_deadlock_runs_the_work_again(database: engine.Database) -> None:
    class Deadlock(Exception):
        pgcode = "40P01"

    attempts = []

    def work(conn: sa.engine.Connection) -> str:
        attempts.append(conn)
        insert(conn)
        if len(attempts) < 3:
            raise sa.exc.DBAPIError("UPDATE", {}, Deadlock())
        return "done"

    assert database.transaction(work) == "done"
    assert len(attempts) == 3 and count(database) == 1


@pytest.mark.parametrize(
    "cause,expected",
    [
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("no such table: images"), False),
        (Exception(1213, "Deadlock found"), True),
        (Exception(1205, "Lock wait timeout exceeded"), True),
        (Exception(2013, "Lost connection"), False),
        (Exception(), False),
    ],
    ids=str,
)
def test_what_counts_as_contention(cause: Exception, expected: bool) -> None:
    assert engine.is_contention(sa.exc.DBAPIError("SELECT", {}, cause)) is expected


def test_a_database_that_cannot_be_opened_is_a_service_that_is_away(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    database = engine.Database(f"sqlite:///{tmp_path}/no/such/place/x.sqlite")
    with pytest.raises(exception.ServiceUnavailable) as caught, database.read():
        pass
    assert str(tmp_path) not in str(caught.value)
    assert "cannot be used" in caplog.text


def test_a_relative_sqlite_path_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    engine.from_conf(config.Conf({"sql_connection": "sqlite:////tmp/x.sqlite"}))
    assert not caplog.records
    engine.from_conf(config.Conf({"sql_connection": "sqlite:///x.sqlite"}))
    assert "relative to the working directory" in caplog.text


def test_bound_values_stay_out_of_error_texts(database: engine.Database) -> None:
    with pytest.raises(sa.exc.IntegrityError) as caught, database.write() as conn:
        insert(conn, id=1)
        insert(conn, id=1, location="swift://user:secret@host")
    assert "secret" not in str(caught.value)


def test_a_connection_that_cannot_be_cleared_is_one_line_in_the_log(
    sqlite_database: engine.Database, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with sqlite_database.read() as conn:
        monkeypatch.setattr(conn.dialect, "do_rollback", fail)
    (record,) = [one for one in caplog.records if one.name.startswith("sqlalchemy.pool")]
    assert record.levelname == "WARNING" and record.exc_info is None
    assert "could not be cleared" in record.getMessage()


@pytest.mark.peers
def test_a_password_is_not_shown() -> None:
    pytest.importorskip("psycopg2")
    assert "secret" not in repr(engine.Database("postgresql://user:secret@host/db"))


def test_an_idle_postgresql_connection_that_was_cut_is_replaced(
    kind: Any, connect: Callable[[str], sa.engine.Connection]
) -> None:
    if kind.name != "postgresql":
        pytest.skip("speaks PostgreSQL")
    url = kind.emptied()
    database = engine.Database(url)
    with database.read() as conn:
        pid = conn.execute(sa.text("SELECT pg_backend_pid()")).scalar()
    conn = connect(url)
    conn.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    living = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    while conn.execute(living, {"pid": pid}).scalar():
        time.sleep(0.01)
    assert count(database) == 0
    database.dispose()

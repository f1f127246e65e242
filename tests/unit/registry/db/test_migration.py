"""The schema's versions: each step up, down and up again on data, and what db_sync adopts."""

from __future__ import annotations

import datetime
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import config, exception
from glance.registry.db import connecting, engine, migration, models
from glance.registry.db.migrate_repo import operations, schema

TARGET = models.SCHEMA_VERSION
Connect = Callable[[str], sa.engine.Connection]
DAY = datetime.datetime(2011, 9, 22, 10, 11, 12, 123456)
BIG = 5 * 2**30


def describe(conn: sa.engine.Connection) -> dict[str, Any]:
    """Return what a database's tables are like, in words that two databases can share."""
    inspector = sa.inspect(conn)
    tables = {}
    for name in set(inspector.get_table_names()) - {migration.VERSION_TABLE}:
        tables[name] = {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(name)
            },
            "indexes": {
                (index["name"], tuple(index["column_names"]))
                for index in inspector.get_indexes(name)
                if not index.get("duplicates_constraint")
            }
            # NOTE: SQLAlchemy does not report an index of PostgreSQL that has an expression.
            | set(operations._own_indexes(conn, name).items()),
            "unique": {
                tuple(constraint["column_names"])
                for constraint in inspector.get_unique_constraints(name)
            },
            "keys": {
                (tuple(key["constrained_columns"]), key["referred_table"])
                for key in inspector.get_foreign_keys(name)
            },
        }
    return tables


def fill(conn: sa.engine.Connection, version: int) -> None:
    """Put rows into each table of a version: live and deleted, with nulls and with extremes."""
    tables = schema.tables(version)
    if not tables:
        return
    big = BIG if version >= 5 else 2**31 - 1
    for number in (1, 2, 3):
        row = {
            "id": number,
            "name": f"image {number} \u263a",
            "size": big if number == 1 else None,
            "status": "active",
            "is_public": number == 1,
            "location": f"file:///{number}",
            "created_at": DAY,
            "updated_at": DAY if number == 1 or version >= 10 else None,
            "deleted_at": DAY if number == 3 else None,
            "deleted": number == 3,
            "type": {1: "kernel", 2: None, 3: "ramdisk"}[number],
            "disk_format": "raw",
            "container_format": None,
            "checksum": "0" * 32,
            "owner": f"tenant{number}",
            "min_disk": 7 if version >= 11 or number == 1 else None,
            "min_ram": 0 if version >= 11 else None,
            "protected": number == 2,
            "attempt": "0" * 32 if number == 2 else None,
            "activated_at": DAY if number == 2 else None,
            "uuid": f"00000000-0000-4000-8000-00000000000{number}",
            "visibility": "public" if number == 1 else "private",
            "os_hidden": number == 2,
            "os_hash_algo": "sha256" if number == 2 else None,
            "os_hash_value": "0" * 128 if number == 2 else None,
            "virtual_size": BIG if number == 2 else None,
            "deactivated_by_admin": number == 2,
            "upload_via": "v2" if number == 2 else None,
        }
        _insert(conn, tables["images"], row)
        row = {**row, "image_id": number, "key": "arch", "value": "x86_64", "updated_at": DAY}
        row["name"] = "arch"
        if version >= 2:
            _insert(conn, tables["image_properties"], row)
        if version >= 8:
            row.update(member="tenant9", can_share=True, status="rejected")
            _insert(conn, tables["image_members"], row)
        if version >= 24:
            _insert(conn, tables["image_tags"], {**row, "value": "Größe"})
        if version >= 25:
            job = {"uuid": f"job {number}", "source_image_id": 1, "status": "succeeded"}
            _insert(conn, tables["conversion_jobs"], {**row, **of_job(number), **job})
            _insert(conn, tables["conversion_workers"], {"name": f"w{number}", "seen_at": DAY})


def of_job(number: int) -> dict[str, Any]:
    """Return what a row of conversion_jobs has besides the columns of other tables."""
    given = number == 2
    return {
        "by_admin": given,
        "source_format": "raw",
        "compress": given,
        "store": "swift" if given else None,
        "phase": "fetching" if given else None,
        "progress": 7 if given else None,
        "started_at": DAY if given else None,
        "finished_at": DAY if given else None,
        "bytes_in": BIG if given else None,
        "bytes_out": BIG if given else None,
        "attempts": number,
        "losses": 0,
        "failures": 0,
        "error": "timeout" if given else None,
        "not_before": DAY if given else None,
        "worker": "w" if given else None,
        "leased_until": DAY if given else None,
        "request_key": "0" * 64 if given else None,
        "request_digest": "1" * 64 if given else None,
    }


def _insert(conn: sa.engine.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    # Images have the ids that their children name; the others are counted by the database.
    names = {column.name for column in table.columns} - (
        set() if table.name == "images" else {"id"}
    )
    conn.execute(table.insert().values({name: row[name] for name in names}))


def contents(conn: sa.engine.Connection, version: int) -> dict[str, list[dict[str, Any]]]:
    """Return all rows; those of properties without the bookkeeping that steps add."""
    found = {}
    for name, table in schema.tables(version).items():
        query = sa.select(table).order_by(*table.primary_key.columns)
        found[name] = [dict(row) for row in conn.execute(query).mappings()]
    return found


def test_each_step_goes_up_down_and_up_again_without_losing_data(
    empty_url: str, connect: Connect
) -> None:
    migration.version_control(empty_url)
    conn = connect(empty_url)
    for version in range(1, TARGET + 1):
        walk_step(empty_url, conn, version)
        for table in reversed(schema.tables(version).values()):
            conn.execute(table.delete())
    for version in range(TARGET - 1, -1, -1):
        migration.downgrade(empty_url, version)
        assert migration.db_version(empty_url) == version
    assert describe(conn) == {}


def walk_step(url: str, conn: sa.engine.Connection, version: int) -> None:
    """Go from the version below to `version`, back and there again, looking at all rows."""
    fill(conn, version - 1)
    before = contents(conn, version - 1)
    migration.upgrade(url, version)
    assert migration.db_version(url) == version
    first = contents(conn, version)

    migration.downgrade(url, version - 1)
    assert migration.db_version(url) == version - 1
    filled = {10: {"updated_at"}, 11: {"min_disk", "min_ram"}}.get(version, set())
    for table, found in contents(conn, version - 1).items():
        for row, old in zip(found, before[table], strict=True):
            changed = {name for name in row if row[name] != old[name]}
            assert changed <= filled, f"step {version} changed {table}"
            assert all(old[name] is None for name in changed)

    migration.upgrade(url, version)
    # NOTE: step 003 makes its rows anew each time.
    remade = {3: {"id", "created_at", "updated_at"}, 22: {"uuid"}}
    fresh = remade.get(version, set())
    for table, found in contents(conn, version).items():
        for row, old in zip(found, first[table], strict=True):
            changed = {name for name in row if row[name] != old[name]}
            assert changed <= fresh, f"step {version} is not the same again on {table}"


def test_the_migrations_end_in_the_tables_that_the_queries_are_built_from(
    kind: Any, connect: Connect
) -> None:
    url = kind.at(TARGET)
    migrated = describe(connect(url))
    conn = connect(kind.empty())
    models.metadata.create_all(conn)
    assert migrated == describe(conn)


@pytest.mark.parametrize("version", range(1, TARGET))
def test_every_version_upgrades_to_the_same_schema(
    sqlite: Any, connect: Connect, version: int
) -> None:
    url = sqlite.at(version)
    conn = connect(url)
    fill(conn, version)
    migration.upgrade(url)
    found = describe(conn)
    assert {key for table in found.values() for key in table["keys"]} == {
        (("image_id",), "images")
    }
    for name, table in models.metadata.tables.items():
        assert {index for index, _ in found[name]["indexes"]} == {
            index.name for index in table.indexes
        }
    rows = contents(conn, TARGET)["images"]
    assert [row["name"] for row in rows] == ["image 1 \u263a", "image 2 \u263a", "image 3 \u263a"]
    assert rows[0]["size"] == (BIG if version >= 5 else 2**31 - 1)
    assert all(row["min_ram"] == 0 and row["updated_at"] for row in rows)
    if version >= 7:
        assert [row["owner"] for row in rows] == ["tenant1", "tenant2", "tenant3"]


def test_foreign_keys_hold_after_a_walk_down_and_up(sqlite: Any, connect: Connect) -> None:
    url = sqlite.at(TARGET)
    migration.downgrade(url, 2)
    migration.upgrade(url)
    database = engine.Database(url)
    with pytest.raises(sa.exc.IntegrityError), database.write() as conn:
        conn.execute(
            models.image_properties.insert().values(image_id=99, name="a", created_at=DAY)
        )
    database.dispose()


# -- step 003 ------------------------------------------------------------------------------------


def test_type_survives_as_a_property_and_comes_back(sqlite: Any, connect: Connect) -> None:
    url = sqlite.at(2)
    conn = connect(url)
    fill(conn, 2)
    migration.upgrade(url, 3)
    typed = sa.text(
        "SELECT image_id, value FROM image_properties WHERE value IN ('kernel','ramdisk')"
    )
    assert sorted(conn.execute(typed).all()) == [(1, "kernel"), (3, "ramdisk")]
    migration.downgrade(url, 2)
    assert conn.execute(typed).all() == []
    types = conn.execute(sa.text("SELECT type FROM images ORDER BY id")).scalars().all()
    assert types == ["kernel", None, "ramdisk"]


def test_step_003_downwards_keeps_the_other_properties(sqlite: Any, connect: Connect) -> None:
    url = sqlite.at(2)
    conn = connect(url)
    fill(conn, 2)
    migration.upgrade(url, 3)
    migration.downgrade(url, 2)
    assert conn.execute(sa.text("SELECT count(*) FROM image_properties")).scalar() == 3


def test_step_003_downwards_refuses_to_cut_a_long_type(kind: Any, connect: Connect) -> None:
    url = kind.at(3)
    conn = connect(url)
    fill(conn, 3)
    table = schema.image_properties(3)
    conn.execute(
        table.insert().values(
            image_id=1, key="type", value="t" * 31, created_at=DAY, deleted=False
        )
    )
    with pytest.raises(exception.DatabaseMigrationError, match="image 1 is longer than the 30"):
        migration.downgrade(url, 2)
    assert migration.db_version(url) == 3
    assert "type" not in describe(conn)["images"]["columns"]


# -- step 005 ------------------------------------------------------------------------------------


def test_step_005_downwards_never_cuts_a_size(kind: Any, connect: Connect) -> None:
    url = kind.at(5)
    conn = connect(url)
    fill(conn, 5)
    if url.startswith("sqlite"):
        migration.downgrade(url, 4)
    else:
        with pytest.raises(exception.DatabaseMigrationError, match="1 images are larger"):
            migration.downgrade(url, 4)
    assert conn.execute(sa.text("SELECT max(size) FROM images")).scalar() == BIG


# -- step 025 ------------------------------------------------------------------------------------


def test_step_025_downwards_leaves_no_image_waiting_for_a_converter(
    kind: Any, connect: Connect
) -> None:
    url = kind.at(25)
    conn = connect(url)
    fill(conn, 25)
    images, jobs = schema.images(25), schema.conversion_jobs(25)
    for number, status, ends in ((1, "queued", None), (2, "queued", DAY), (3, "active", None)):
        conn.execute(images.update().where(images.c.id == number).values(status=status))
        job = jobs.update().where(jobs.c.image_id == number)
        conn.execute(job.values(finished_at=ends))
    migration.downgrade(url, 24)
    found = conn.execute(sa.text("SELECT status FROM images ORDER BY id")).scalars().all()
    assert found == ["killed", "queued", "active"]
    assert "conversion_jobs" not in describe(conn)


def test_step_025_goes_on_where_mysql_was_interrupted(kind: Any, connect: Connect) -> None:
    url = kind.at(25)
    conn = connect(url)
    conn.execute(sa.text("DROP TABLE conversion_workers"))
    conn.execute(sa.text("UPDATE migrate_version SET version = 24"))
    migration.upgrade(url, 25)
    assert set(describe(conn)) == set(schema.tables(25))
    if kind.name == "mysql":
        # The statements of a downgrade have effect one by one, too.
        conn.execute(sa.text("DROP TABLE conversion_workers"))
        conn.execute(sa.text("DROP TABLE conversion_jobs"))
        migration.downgrade(url, 24)
    assert migration.db_version(url) == (24 if kind.name == "mysql" else 25)


# -- commands ------------------------------------------------------------------------------------


def test_a_failing_step_leaves_the_database_as_it_was(
    kind: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = kind.at(5)
    conn = connect(url)
    fill(conn, 5)
    before = describe(conn)
    stamp = migration._stamp

    def fail_at_eight(conn: Any, version: int) -> None:
        if version == 8:
            raise exception.DatabaseMigrationError("broken")
        stamp(conn, version)

    monkeypatch.setattr(migration, "_stamp", fail_at_eight)
    with pytest.raises(exception.DatabaseMigrationError, match="broken"):
        migration.upgrade(url)
    if kind.name == "mysql":
        # It cannot take back a change of a table: the last complete step stands.
        assert migration.db_version(url) == 7
    else:
        assert migration.db_version(url) == 5
        assert describe(conn) == before
    monkeypatch.undo()
    migration.upgrade(url)
    assert migration.db_version(url) == TARGET


def test_commands_refuse_a_database_that_is_not_controlled(sqlite_url: str) -> None:
    for command in (
        lambda: migration.db_version(sqlite_url),
        lambda: migration.upgrade(sqlite_url),
        lambda: migration.downgrade(sqlite_url, 0),
    ):
        with pytest.raises(exception.DatabaseMigrationError, match="is not under migration"):
            command()


def test_version_control_starts_at_zero_and_only_once(sqlite_url: str) -> None:
    migration.version_control(sqlite_url)
    assert migration.db_version(sqlite_url) == 0
    with pytest.raises(exception.DatabaseMigrationError, match="is already under migration"):
        migration.version_control(sqlite_url)


def test_db_sync_twice_is_as_good_as_once(sqlite: Any) -> None:
    url = sqlite.at(TARGET)
    migration.db_sync(url)
    assert migration.db_version(url) == TARGET


@pytest.mark.parametrize("version", ["x", "-1", "99", "1.5", "\u0663"])
def test_a_version_that_does_not_exist_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(exception.DatabaseMigrationError, match="no schema version"):
        migration.db_sync(f"sqlite:///{tmp_path}/x.sqlite", version)


def test_downgrade_needs_a_version(tmp_path: Path) -> None:
    with pytest.raises(exception.DatabaseMigrationError, match="requires a version"):
        migration.downgrade(f"sqlite:///{tmp_path}/x.sqlite", "")


def test_upgrade_does_not_go_down_nor_downgrade_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    migration.db_sync(url, 5)
    with pytest.raises(exception.DatabaseMigrationError, match="use downgrade"):
        migration.upgrade(url, 4)
    with pytest.raises(exception.DatabaseMigrationError, match="use upgrade"):
        migration.downgrade(url, 6)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "oracle+nothing://u:secret@h/d", "sqlite:////no/such/directory/x.sqlite"],
)
def test_an_unusable_database_is_one_line_without_a_password(url: str) -> None:
    with pytest.raises(exception.DatabaseMigrationError) as caught:
        migration.db_sync(url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_migrate_tool_can_run_the_repository(tmp_path: Path, connect: Connect) -> None:
    from migrate.versioning import api

    url = f"sqlite:///{tmp_path}/tool.sqlite"
    api.version_control(url, migration.REPOSITORY)
    api.upgrade(url, migration.REPOSITORY)
    assert migration.db_version(url) == TARGET
    mine = f"sqlite:///{tmp_path}/mine.sqlite"
    migration.db_sync(mine)
    assert describe(connect(url)) == describe(connect(mine))
    api.downgrade(url, migration.REPOSITORY, 0)
    assert api.db_version(url, migration.REPOSITORY) == 0


# -- start-up ------------------------------------------------------------------------------------


def _prepare(url: str, **settings: str) -> None:
    conf = config.Conf(
        {"sql_connection": url, "sql_max_retries": "1", "sql_retry_interval": "0", **settings}
    )
    database = engine.from_conf(conf)
    try:
        migration.prepare(conf, database)
    finally:
        database.dispose()


def test_start_up_creates_the_tables_of_an_empty_database(empty_url: str) -> None:
    _prepare(empty_url, db_auto_create="true")
    assert migration.db_version(empty_url) == TARGET
    _prepare(empty_url)


def test_start_up_creates_tables_by_itself_on_sqlite_only(empty_url: str) -> None:
    if empty_url.startswith("sqlite"):
        _prepare(empty_url)
        assert migration.db_version(empty_url) == TARGET
    else:
        with pytest.raises(exception.DatabaseMigrationError, match="run glance-manage db_sync"):
            _prepare(empty_url)


def test_start_up_creates_nothing_when_it_may_not(tmp_path: Path, connect: Connect) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    with pytest.raises(exception.DatabaseMigrationError, match="db_auto_create"):
        _prepare(url, db_auto_create="false")
    assert describe(connect(url)) == {}


def test_start_up_leaves_foreign_tables_alone(tmp_path: Path, connect: Connect) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    connect(url).execute(sa.text("CREATE TABLE something (id INTEGER)"))
    with pytest.raises(exception.DatabaseMigrationError, match="no schema version"):
        _prepare(url)
    assert set(describe(connect(url))) == {"something"}


@pytest.mark.parametrize(
    "version,advice",
    [(9, "run glance-manage db_sync to upgrade"), (TARGET + 1, "use the release")],
)
def test_start_up_refuses_another_version_with_advice(
    tmp_path: Path, connect: Connect, version: int, advice: str
) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    migration.db_sync(url, min(version, TARGET))
    connect(url).execute(sa.text(f"UPDATE migrate_version SET version = {version}"))
    with pytest.raises(exception.DatabaseMigrationError, match=advice):
        _prepare(url)


def _as_later_release(monkeypatch: pytest.MonkeyPatch, url: str, breaking: bool) -> None:
    """Record in a database what the next release records when it has upgraded the tables."""
    migration.db_sync(url)
    later = TARGET + 1
    with monkeypatch.context() as patch:
        if breaking:
            patch.setattr(schema, "BREAKING", (*schema.BREAKING, later))
        with sa.create_engine(url).begin() as conn:
            migration._stamp(conn, later)


def test_start_up_accepts_newer_tables_that_have_all_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    _as_later_release(monkeypatch, url, breaking=False)
    _prepare(url)
    assert [(one.levelname, one.getMessage()) for one in caplog.records[-1:]] == [
        (
            "WARNING",
            f"The database has schema version {TARGET + 1}, of a newer release. This one, of "
            f"version {TARGET}, works with it; upgrade this node soon",
        )
    ]
    for change in (migration.db_sync, migration.upgrade):
        with pytest.raises(exception.DatabaseMigrationError, match="does not know: use the rel"):
            change(url)
    assert migration.db_version(url) == TARGET + 1


def test_start_up_refuses_newer_tables_that_it_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    _as_later_release(monkeypatch, url, breaking=True)
    with pytest.raises(exception.DatabaseMigrationError, match="use the release"):
        _prepare(url)


def test_no_more_than_the_version_is_recorded_at_a_breaking_one(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    _as_later_release(monkeypatch, url, breaking=False)
    recorded = sa.text("SELECT version FROM migrate_version ORDER BY version")
    oldest = max(schema.BREAKING)
    assert list(connect(url).execute(recorded).scalars()) == [oldest, TARGET + 1]
    with sa.create_engine(url).begin() as conn:
        migration._stamp(conn, oldest)
    assert list(connect(url).execute(recorded).scalars()) == [oldest]


@pytest.mark.parametrize("version", range(max(schema.BREAKING), TARGET + 1))
def test_tables_have_what_registries_need_that_may_work_with_them(version: int) -> None:
    """A step that takes or demands something must be named in `schema.BREAKING`."""
    old, new = schema.tables(schema.oldest_registry(version)), schema.tables(version)
    assert set(old) <= set(new)
    for name, table in old.items():
        kept = {column.name: column for column in new[name].columns}
        for column in table.columns:
            now = kept.pop(column.name)
            assert str(now.type) == str(column.type), (name, column.name)
            assert now.nullable or not column.nullable, (name, column.name)
        for column in kept.values():
            assert column.nullable or column.server_default is not None, (name, column.name)


def test_start_up_names_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(exception.DatabaseMigrationError, match="unable to open database file"):
        _prepare(f"sqlite:///{tmp_path}/no/such/directory/x.sqlite")


@pytest.mark.full
def test_start_up_waits_for_a_server_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(exception.DatabaseMigrationError) as caught:
        _prepare(f"postgresql+psycopg2://u:secret@/db?host={tmp_path}", sql_max_retries="3")
    assert caplog.text.count("; retrying") == 3
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_processes_that_start_at_once_agree_on_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    processes = [
        multiprocessing.get_context("fork").Process(target=_prepare, args=(url,)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert migration.db_version(url) == TARGET


class Killed(Exception):
    """Stands for the end of a process in the middle of a step."""


UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def test_each_image_gets_a_uuid_and_what_is_public_is_visible_so(
    kind: Any, connect: Connect
) -> None:
    url = kind.at(21)
    conn = connect(url)
    fill(conn, 21)
    migration.upgrade(url, 22)
    rows = contents(conn, 22)["images"]
    assert [row["visibility"] for row in rows] == ["public", "shared", "shared"]
    assert all(UUID.fullmatch(row["uuid"]) for row in rows)
    assert len({row["uuid"] for row in rows}) == 3
    # A registry of the version before leaves the new columns out.
    old = schema.images(21)
    row = {column.name: rows[0][column.name] for column in old.columns}
    for number in (8, 9):
        conn.execute(old.insert().values({**row, "id": number}))
    rows = contents(conn, 22)["images"]
    assert all(UUID.fullmatch(row["uuid"]) for row in rows)
    assert len({row["uuid"] for row in rows}) == 5


def test_who_is_a_member_has_accepted_and_who_was_has_not(kind: Any, connect: Connect) -> None:
    url = kind.at(22)
    conn = connect(url)
    fill(conn, 22)
    migration.upgrade(url, 23)
    rows = contents(conn, 23)["image_members"]
    assert [row["status"] for row in rows] == ["accepted", "accepted", "pending"]


@pytest.mark.full
def test_steps_that_are_interrupted_go_on_where_they_stopped(
    kind: Any, connect: Connect, monkeypatch: Any
) -> None:
    """MySQL keeps what was done; others undo it. Each attempt gets a change further."""
    url = kind.at(20)
    conn = connect(url)
    fill(conn, 20)
    before = describe(conn)
    monkeypatch.setattr(operations, "BATCH", 2)
    make = connecting.create
    left = 0

    def count(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        nonlocal left
        if statement.startswith(("ALTER", "UPDATE", "CREATE", "INSERT", "DROP")):
            left -= 1
            if left == 0:
                raise Killed

    def create(*args: Any, **kw: Any) -> Any:
        engine = make(*args, **kw)
        sa.event.listen(engine, "before_cursor_execute", count)
        return engine

    def walk(move: Callable[[], Any]) -> None:
        nonlocal left
        start = migration.db_version(url)
        for attempt in range(1, 100):
            left = attempt
            try:
                move()
                break
            except Killed:
                reached = migration.db_version(url)
                assert reached == start or kind.name == "mysql"
        assert left > 0 and attempt > 5
        left = 0

    monkeypatch.setattr(connecting, "create", create)
    walk(lambda: migration.upgrade(url))
    assert migration.db_version(url) == TARGET
    found = contents(conn, TARGET)
    assert [row["visibility"] for row in found["images"]] == ["public", "shared", "shared"]
    assert len({row["uuid"] for row in found["images"]}) == 3
    assert [row["status"] for row in found["image_members"]] == ["accepted", "accepted", "pending"]
    assert describe(conn) == describe(connect(kind.emptied()))
    walk(lambda: migration.downgrade(url, 20))
    assert migration.db_version(url) == 20
    assert describe(conn) == before
    assert [row["id"] for row in contents(conn, 20)["images"]] == [1, 2, 3]


def test_data_that_is_on_its_way_is_settled_by_an_older_release(
    kind: Any, connect: Connect
) -> None:
    url = kind.at(22)
    conn = connect(url)
    fill(conn, 22)
    images = schema.images(22)
    for number, status in enumerate(("uploading", "importing", "deactivated"), 1):
        conn.execute(images.update().where(images.c.id == number).values(status=status))
    migration.downgrade(url, 21)
    rows = contents(conn, 21)["images"]
    assert [row["status"] for row in rows] == ["saving", "saving", "deactivated"]

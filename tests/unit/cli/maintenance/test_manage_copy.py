"""glance-manage copy_database and backup on SQLite files; other databases: test_copying.py."""

import contextlib
import os
import signal
import sqlite3
import stat
import threading

import pytest

from glance.cli.maintenance import manage
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models
from glance.registry.db.upkeep import backup

from support import operators

ADMIN = RequestContext(is_admin=True)
CONF = """\
[DEFAULT]
sql_connection = {url}
[app:glance-registry]
paste.app_factory = glance.registry.server:app_factory
"""


class Place:
    """A directory with a database of three images, and what glance-manage printed."""

    def __init__(self, directory, capfd):
        self.directory, self.capfd = directory, capfd
        self.database = directory / "my.sqlite"
        self.url = f"sqlite:///{self.database}"
        migration.db_sync(self.url)
        self.db = engine.Database(self.url)
        for name in ("a", "b", "c"):
            values = {"name": name, "status": "active", "properties": {"p": name}}
            api.image_create(self.db, ADMIN, values)
        self.out = self.err = ""

    def __call__(self, *words):
        code = manage.main(["--sql-connection", self.url, *map(str, words)])
        self.out, self.err = self.capfd.readouterr()
        return code

    def left(self):
        return sorted(p.name for p in self.directory.iterdir() if "my.sqlite" not in p.name)


@pytest.fixture
def place(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    kept = signal.getsignal(signal.SIGTERM)
    made = Place(tmp_path, capfd)
    yield made
    made.db.dispose()
    signal.signal(signal.SIGTERM, kept)


def names(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT name FROM images ORDER BY id")]


# -- copy_database -------------------------------------------------------------------------------


def test_a_copy_is_made_with_its_tables(place):
    to = f"sqlite:///{place.directory}/copy.sqlite"
    assert place("copy-database", to) == 0
    assert "images: 3 rows\n" in place.out
    assert place.out.endswith(f"Copied 9 rows to {to}; all counts and checksums are equal\n")
    assert names(place.directory / "copy.sqlite") == ["a", "b", "c"]
    assert place("copy_database", to) == 1
    assert place.err.startswith("ERROR: the target is not empty: ")
    assert place("copy_database", to, "--overwrite") == 0


def test_the_target_may_be_named_in_a_file(place):
    conf = place.directory / "new.conf"
    conf.write_text(CONF.format(url=f"sqlite:///{place.directory}/copy.sqlite"))
    assert place("copy_database", "--to-config-file", conf) == 0
    assert names(place.directory / "copy.sqlite") == ["a", "b", "c"]
    assert place("copy_database", place.url, "--to-config-file", conf) == 1
    assert place("copy_database") == 1
    assert place.err == (
        "ERROR: copy_database requires the URL of the target, or --to-config-file\n"
    )
    conf.write_text("[DEFAULT]\nsql_connection = nonsense\n")
    assert place("copy_database", "--to-config-file", conf) == 1
    assert place.err.startswith(f"ERROR: {conf}: option sql_connection is not a SQLAlchemy URL")
    conf.write_text(f"[DEFAULT]\nsql_connection = sqlite:///{place.directory}/new.sqlite\n")
    assert place("copy_database", "--to-config-file", conf) == 0
    conf.write_text(CONF.format(url=""))
    assert place("copy_database", "--to-config-file", conf) == 1
    assert place.err == f"ERROR: {conf} has no option sql_connection\n"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("", "is not a SQLAlchemy URL"),
        ("copy.sqlite", "is not a SQLAlchemy URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:////nonexistent/x.sqlite", "unable to open database file"),
        ("sqlite3:///x", "write sqlite://"),
        # With the driver; the message without it is tested in tests/unit/registry/db.
        pytest.param("postgresql://u:s3cret@127.0.0.1:1/x", "onnection", marks=pytest.mark.full),
    ],
)
def test_a_target_that_is_no_database_is_one_line(place, to, said):
    assert place("copy_database", to) == 1
    assert place.out == "" and place.err.startswith("ERROR: ") and said in place.err
    assert "option sql_connection" not in place.err
    assert "s3cret" not in place.err
    assert place.left() == []


def test_schemas_must_be_those_of_this_release(place):
    to = f"sqlite:///{place.directory}/copy.sqlite"
    migration.db_sync(to, 9)
    assert place("copy_database", to) == 1
    assert place.err.startswith("ERROR: the database has schema version 9, but")
    migration.downgrade(place.url, 13)
    assert place("copy_database", to) == 1
    assert place.err.startswith("ERROR: the database has schema version 13, but")


# -- backup --------------------------------------------------------------------------------------


def test_a_backup_is_one_checked_file(place):
    assert place("backup", "b") == 0
    size = os.stat("b").st_size
    assert place.out == f"Wrote {size} bytes to b; the integrity check found no errors\n"
    assert stat.S_IMODE(os.stat("b").st_mode) == 0o640
    assert names("b") == ["a", "b", "c"]
    assert migration.db_version("sqlite:///b") == models.SCHEMA_VERSION
    assert "b-wal" not in place.left()


def test_a_backup_replaces_an_older_one_only_as_a_whole(place, monkeypatch):
    assert place("backup", "b") == 0
    api.image_create(place.db, ADMIN, {"name": "d", "status": "active"})

    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(backup, "_copy", fail)
        assert place("backup", "b") == 1
    assert place.err == "ERROR: the backup failed: database or disk is full\n"
    assert (place.left(), names("b")) == (["b"], ["a", "b", "c"])
    assert place("backup", "b") == 0
    assert names("b") == ["a", "b", "c", "d"]


def test_a_backup_keeps_values_that_today_s_tables_refuse(place):
    with contextlib.closing(sqlite3.connect(place.database)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("UPDATE images SET is_public = 7 WHERE name = 'a'")
        database.commit()
        database.execute("PRAGMA ignore_check_constraints = OFF")
        assert database.execute("PRAGMA integrity_check").fetchone() != ("ok",)
    assert place("backup", "b") == 0
    assert names("b") == ["a", "b", "c"]


def test_a_backup_that_is_damaged_is_not_kept(place):
    # The last page of an index, in a copy: the source itself may be read from its journal.
    place.db.dispose()
    with contextlib.closing(sqlite3.connect(place.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'images'"
            " AND sql IS NOT NULL ORDER BY name"
        ).fetchone()[0]
    with open(place.database, "r+b") as file:
        file.seek((page - 1) * 4096 + 3)
        file.write(b"\xff\xff")
    assert place("backup", "b") == 1
    assert place.err.startswith("ERROR: the backup failed: integrity check: ")
    assert place.left() == []


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "backup requires the name of a file"),
        ("", "backup requires the name of a file"),
        ("-", "backup requires the name of a file"),
        ("nowhere/b", "No such file or directory"),
        (".", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        ("my.sqlite", "is a database in use"),
        ("linked", "is not a regular file"),
        ("notes", "exists and is no backup"),
        ("used", "is a database in use"),
        ("x" * 256, "File name too long"),
    ],
)
def test_what_cannot_be_a_backup_is_one_line_and_changes_nothing(place, file, said):
    (place.directory / "notes").write_text("notes")
    (place.directory / "linked").symlink_to("my.sqlite")
    (place.directory / "used").write_bytes(b"")
    (place.directory / "used-wal").write_bytes(b"")
    assert place("backup", *([] if file is None else [file])) == 1
    assert place.err.startswith("ERROR: ") and said in place.err and place.err.count("\n") == 1
    assert place.left() == ["linked", "notes", "used", "used-wal"]
    assert (place.directory / "notes").read_text() == "notes"
    assert names(place.database) == ["a", "b", "c"]


def test_a_name_in_any_script_and_of_any_length(place):
    name = "é雪" * 51  # 255 bytes
    assert place("backup", name) == 0
    assert place.left() == [name]


def test_a_database_that_is_not_there_is_not_made(place):
    place.url = f"sqlite:///{place.directory}/none"
    assert place("backup", "b") == 1
    assert place.err == f"ERROR: there is no database file {place.directory}/none\n"
    (place.directory / "none").write_text("this is no database, whatever its name says")
    assert place("backup", "b") == 1
    assert place.err == "ERROR: the backup failed: file is not a database\n"
    assert place.left() == ["none"]


@pytest.mark.full  # needs the drivers
@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("postgresql://u:s3cret@h/images", "pg_dump --format=custom --file=FILE images,"),
        ("mysql+pymysql://u:s3cret@h/images", "mysqldump --single-transaction"),
    ],
)
def test_other_databases_have_programs_of_their_own(place, url, command):
    place.url = url
    assert place("backup", "b") == 1
    assert place.err.startswith("ERROR: backup is for SQLite; ") and command in place.err
    assert "s3cret" not in place.err and place.left() == []


def test_a_backup_beside_writers_holds_one_state_and_does_not_stop_them(place, monkeypatch):
    """Writes happen between the steps of the copy; each would begin it anew if it saw them."""
    monkeypatch.setattr(backup, "PAGES", 1)
    connect, steps = sqlite3.connect, []

    class Source(sqlite3.Connection):
        def backup(self, target, *, pages, sleep, progress=None):
            def written(*_):
                steps.append(1)
                if len(steps) <= 40:
                    with connect(place.database) as other:
                        other.execute(
                            "INSERT INTO images (name, status, created_at)"
                            " VALUES ('new', 'queued', '2011-01-01')"
                        )
                    other.close()

            super().backup(target, pages=pages, sleep=0, progress=written)

    monkeypatch.setattr(
        backup.sqlite3, "connect", lambda *args, **words: connect(*args, factory=Source, **words)
    )
    assert place("backup", "b") == 0
    assert names("b") == ["a", "b", "c"]
    assert names(place.database) == ["a", "b", "c", *["new"] * min(40, len(steps))]
    assert len(steps) > 5


def test_two_backups_to_one_file_exclude_each_other(place, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    copy, codes = backup._copy, []

    def waiting(*args):
        inside.set()
        go_on.wait(30)
        copy(*args)

    monkeypatch.setattr(backup, "_copy", waiting)
    first = threading.Thread(target=lambda: codes.append(backup.backup(place.url, "b")))
    first.start()
    assert inside.wait(30)
    assert place("backup", "b") == 1
    assert place.err == "ERROR: another backup to this file is running: wait for it\n"
    go_on.set()
    first.join(30)
    assert codes == [os.stat("b").st_size] and place.left() == ["b"]


def test_what_a_killed_backup_left_is_used_again(place, monkeypatch):
    assert place("backup", "b") == 0
    with monkeypatch.context() as killed:
        killed.setattr(backup.os, "unlink", lambda *_: None)
        killed.setattr(backup, "_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert place("backup", "b") == 1
    assert len(place.left()) == 2
    assert place("backup", "b") == 0
    assert place.left() == ["b"]


def test_a_program_that_is_told_to_stop_leaves_nothing(place):
    code = (
        "import os, signal; from glance.registry.db.upkeep import backup; copy = backup._copy\n"
        "def stopped(*args): copy(*args); os.kill(os.getpid(), signal.SIGTERM)\n"
        "backup._copy = stopped; from glance.cli.maintenance import manage\n"
        f"raise SystemExit(manage.main(['--sql-connection={place.url}', 'backup', 'b']))"
    )
    done = operators.subprocess.run(
        [operators.sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert place.left() == []

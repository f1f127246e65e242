"""glance-manage on real SQLite files."""

import datetime
import logging
import os
import re
import sqlite3
import sys

import pytest

from glance.cli.maintenance import manage
from glance.registry.db import models

LATEST = str(models.SCHEMA_VERSION)

CONF = """\
[DEFAULT]
sql_connection = {url}
{more}
[app:glance-registry]
paste.app_factory = glance.registry.server:app_factory
"""


class Place:
    """A working directory with a database, and what glance-manage printed."""

    def __init__(self, directory, capfd):
        self.directory = directory
        self.capfd = capfd
        self.database = directory / "my.sqlite"
        self.url = f"sqlite:///{self.database}"
        self.out = self.err = ""

    def __call__(self, *words):
        try:
            code = manage.main([str(word) for word in words])
        except SystemExit as leaving:
            code = leaving.code
        self.out, self.err = self.capfd.readouterr()
        return code

    def on(self, *words):
        """Run a command on the database, named on the command line."""
        return self("--sql-connection", self.url, *words)

    def configure(self, name="glance-registry.conf", more="", url=None):
        conf = self.directory / name
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(CONF.format(url=url or self.url, more=more))
        return conf

    def version(self):
        assert self.on("db_version") == 0, self.err
        return self.out.strip()


@pytest.fixture
def place(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = logging.getLogger()
    kept = root.level, list(root.handlers)
    for owner, name in ((logging.FileHandler, "_open"), (logging.Handler, "handleError")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    yield Place(tmp_path, capfd)
    root.handlers[:] = kept[1]
    root.setLevel(kept[0])


# -- commands ------------------------------------------------------------------------------------


def test_a_new_database_is_brought_to_the_latest_version(place):
    assert place.on("db_sync") == 0
    told = f"Created the tables of the database, with schema version {LATEST}\n"
    assert (place.out, place.err) == ("", told)
    assert place.version() == LATEST


def test_db_sync_can_be_repeated(place):
    assert place.on("db_sync") == place.on("db_sync") == 0
    assert (place.out, place.err) == ("", f"The database has schema version {LATEST} already\n")
    assert place.version() == LATEST


def test_db_sync_stops_at_a_version_and_goes_on(place):
    assert place.on("db_sync", "9") == 0
    assert place.version() == "9"
    assert place.on("db_sync") == 0
    told = f"Upgraded the database from schema version 9 to {LATEST}\n"
    assert (place.out, place.err) == ("", told)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_others_may_not_read_what_it_makes(place, umask):
    before = os.umask(umask)
    try:
        assert place.on("db_sync") == 0
        database = sqlite3.connect(place.database)
        database.execute("CREATE TABLE more (x)")
        made = [path for path in place.directory.iterdir() if path.name.startswith("my.sqlite")]
        modes = {path.name: path.stat().st_mode & 0o777 for path in made}
        database.close()
    finally:
        os.umask(before)
    assert modes["my.sqlite"] == 0o640 & ~umask
    assert len(modes) > 1
    assert all(mode & ~0o640 == 0 for mode in modes.values()), modes


def test_version_control_begins_at_0(place):
    assert place.on("version_control") == 0
    assert (place.out, place.err) == ("", "")
    assert place.version() == "0"


def test_upgrade_and_downgrade_go_to_a_version(place):
    place.on("version_control")
    assert place.on("upgrade", "7") == 0
    assert place.version() == "7"
    assert place.on("downgrade", "3") == 0
    assert place.version() == "3"
    assert place.on("upgrade") == 0
    assert place.version() == LATEST


def test_db_version_prints_the_number_alone(place):
    place.on("db_sync")
    assert place.on("db_version") == 0
    assert (place.out, place.err) == (f"{LATEST}\n", "")


def test_what_is_too_much_is_ignored(place):
    assert place.on("db_sync", "9", "or", "so") == 0
    assert place.on("db_version", "now") == 0
    assert place.out == "9\n"


def test_a_schema_that_a_registry_of_diablo_made_is_recognised(place):
    place.on("db_sync", "9")
    with sqlite3.connect(place.database) as database:
        database.execute("DROP TABLE migrate_version")
    database.close()
    assert place.on("db_sync") == 0
    assert place.version() == LATEST


# -- db_purge ------------------------------------------------------------------------------------


def keep(place, *images):
    """Make a database with images: (status, days since it was deleted or None) each."""
    assert place.on("db_sync") == 0
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    with sqlite3.connect(place.database) as database:
        for status, days in images:
            gone = None if days is None else str(now - datetime.timedelta(days=days))
            database.execute(
                "INSERT INTO images (status, is_public, created_at, updated_at, deleted_at, "
                "deleted, min_disk, min_ram) VALUES (?, 0, ?, ?, ?, ?, 0, 0)",
                (status, str(now), str(now), gone, gone is not None),
            )
        database.execute(
            "INSERT INTO image_properties (image_id, name, value, created_at, deleted) "
            "SELECT id, 'os', 'x', created_at, deleted FROM images"
        )
    database.close()


def left(place):
    """Return the ids of the images that are left, and of those that have properties."""
    with sqlite3.connect(place.database) as database:
        ids = [row[0] for row in database.execute("SELECT id FROM images ORDER BY id")]
        told = database.execute("SELECT image_id FROM image_properties ORDER BY image_id")
        assert [row[0] for row in told] == ids
    database.close()
    return ids


IMAGES = [("deleted", 40), ("deleted", 20), ("deleted", 31), ("active", None)]


@pytest.mark.parametrize(
    ("words", "said", "ids"),
    [
        ([], "2 images", [2, 4]),
        (["--age-in-days", "35"], "1 image", [2, 3, 4]),
        (["--age-in-days=0"], "3 images", [4]),
        (["--age-in-days", "100000"], "0 images", [1, 2, 3, 4]),
        (["--max-rows", "1"], "1 image", [2, 3, 4]),
        (["--max-rows=1000000000"], "2 images", [2, 4]),
        (["--max-rows=2", "--age-in-days=7"], "2 images", [3, 4]),
    ],
    ids=str,
)
def test_records_of_images_deleted_long_ago_are_removed(place, words, said, ids):
    keep(place, *IMAGES)
    assert place.on("db_purge", *words) == 0
    assert (place.out, place.err) == (f"Removed the records of {said}\n", "")
    assert left(place) == ids


def test_images_that_wait_for_the_scrubber_are_never_purged(place):
    keep(place, ("pending_delete", 400), ("deleted", 400), ("active", None))
    assert place.on("db_purge", "--age-in-days=0") == 0
    assert left(place) == [1, 3]


def test_without_a_word_about_rows_a_hundred_images_go(place):
    keep(place, *[("deleted", 40)] * 102)
    assert place.on("db_purge") == 0
    assert place.out == "Removed the records of 100 images\n"
    assert left(place) == [101, 102]


@pytest.mark.parametrize(("most", "gone"), [(7, 7), (6, 6), (100, 9)])
def test_many_images_go_in_several_transactions(place, monkeypatch, most, gone):
    monkeypatch.setattr(manage, "BATCH", 3)
    keep(place, *[("deleted", 40)] * 10)
    assert place.on("db_purge", "--max-rows", most) == 0
    assert len(left(place)) == 10 - gone


def test_a_purge_pauses_between_batches_and_goes_on_after_an_interruption(place, monkeypatch):
    monkeypatch.setattr(manage, "BATCH", 3)
    keep(place, *[("deleted", 40)] * 10)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(manage.time, "sleep", pause)
    assert place.on("db_purge") == 1
    assert (place.out, place.err) == ("Removed the records of 6 images\n", "")
    assert pauses == [manage.PAUSE] * 2
    assert left(place) == [7, 8, 9, 10]
    assert place.on("db_purge") == 0
    assert place.out == "Removed the records of 3 images\n"


@pytest.mark.parametrize(
    ("option", "limits"),
    [("--age-in-days", "from 0 to 100000"), ("--max-rows", "from 1 to 1000000000")],
)
@pytest.mark.parametrize("text", ["many", "-1", "1.5", "", "0x9", "٣", "9" * 5000])
def test_a_number_that_does_not_fit_is_told_and_removes_nothing(place, option, limits, text):
    keep(place, *IMAGES)
    assert place.on("db_purge", option, text) == 1
    assert (place.out, place.err) == (
        "",
        f"ERROR: {option} takes a whole number {limits}, not '{text}'\n",
    )
    assert left(place) == [1, 2, 3, 4]


def test_no_rows_at_all_cannot_be_asked_for(place):
    keep(place, *IMAGES)
    assert place.on("db_purge", "--max-rows=0") == 1
    assert "--max-rows takes a whole number from 1" in place.err


def test_another_schema_is_not_purged(place):
    place.on("db_sync", "9")
    assert place.on("db_purge") == 1
    assert re.fullmatch(r"ERROR: the database has schema version 9, .*\n", place.err)


def test_a_database_without_a_schema_is_not_purged(place):
    assert place.on("db_purge") == 1
    assert place.err == f"ERROR: database '{place.url}' is not under migration control\n"


# -- mistakes ------------------------------------------------------------------------------------


def test_without_a_command_the_usage_is_printed(place):
    assert place() == 1
    assert place.out.startswith("usage: glance-manage [options] <cmd>\n")
    assert all(f"\n  {command}" in place.out for command in manage.COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["foo"], "unrecognized command 'foo'"),
        (["DB_SYNC"], "unrecognized command 'DB_SYNC'"),
        (["db_version"], "database '{url}' is not under migration control"),
        (["upgrade"], "database '{url}' is not under migration control"),
        (["downgrade", "3"], "database '{url}' is not under migration control"),
        (["downgrade"], "downgrade requires a version argument"),
        (["downgrade", ""], "downgrade requires a version argument"),
    ],
    ids=str,
)
def test_a_command_that_does_not_fit_is_told_in_one_line(place, words, message):
    assert place.on(*words) == 1
    assert (place.out, place.err) == ("", f"ERROR: {message.format(url=place.url)}\n")


def test_a_database_is_put_under_control_once(place):
    place.on("version_control")
    assert place.on("version_control") == 1
    assert place.err == f"ERROR: database '{place.url}' is already under migration control\n"


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "db_sync"])
@pytest.mark.parametrize("version", ["many", "-1", "1.5", "9999", "0x9", "٣"])
def test_a_version_that_does_not_exist_is_told_and_changes_nothing(place, command, version):
    place.on("db_sync", "9")
    assert place.on(command, version) == 1
    assert re.fullmatch(rf"ERROR: .*'{re.escape(version)}'.* 0 to {LATEST}\n", place.err)
    assert place.version() == "9"


@pytest.mark.parametrize(
    ("command", "version", "advice"),
    [("upgrade", "3", "downgrade"), ("downgrade", "13", "upgrade")],
)
def test_the_wrong_direction_is_told(place, command, version, advice):
    place.on("db_sync", "9")
    assert place.on(command, version) == 1
    assert re.fullmatch(rf"ERROR: the database is at version 9.*: use {advice}\n", place.err)


def test_tables_of_somebody_else_are_left_alone(place):
    with sqlite3.connect(place.database) as database:
        database.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, picture BLOB)")
    database.close()
    assert place.on("db_sync") == 1
    assert re.fullmatch(r"ERROR: the database has tables of an unknown schema.*\n", place.err)


def test_a_database_that_cannot_be_reached_is_told_in_one_line(place):
    assert place("--sql-connection=sqlite:////nonexistent/x.sqlite", "db_version") == 1
    assert place.err == (
        "ERROR: database 'sqlite:////nonexistent/x.sqlite': unable to open database file\n"
    )


@pytest.mark.parametrize("url", ["my.sqlite", "nosuch://host/x", "://"])
def test_a_url_of_no_database_is_told(place, url):
    assert place(f"--sql-connection={url}", "db_sync") == 1
    assert re.fullmatch(r"ERROR: .*\n", place.err)


def test_a_password_is_never_shown(place):
    url = "postgresql://glance:s3cret@127.0.0.1:1/glance"
    assert place("--debug", "--sql-connection", url, "db_version") == 1
    assert "s3cret" not in place.err + place.out
    assert "ERROR: " in place.err


MISTYPED = (
    "mysql:/glance:s3cret@db/glance",
    "mysql//glance:s3cret@db/glance",
    "mysql://glance:s3cret@db:many/glance",
    "mysq://glance:s3cret@db/glance",
    "postgresql+psycopg9://glance:s3cret@db/glance",
    "glance:s3cret@db/glance",
    "host=db user=glance password=s3cret dbname=glance",
    "host=db password='s3cret two' dbname=glance",
    "postgresql://127.0.0.1:1/glance?pasword=s3cret",
    "postgresql://127.0.0.1:1/glance?password=s3cret&port=many",
)


@pytest.mark.parametrize("where", ["option", "file"])
@pytest.mark.parametrize("url", MISTYPED)
def test_a_password_is_never_shown_in_a_url_that_is_mistyped(place, url, where):
    if where == "file":
        place.configure(url=url)
    words = ["--sql-connection", url] if where == "option" else []
    assert place("--debug", *words, "db_version") == 1
    assert "s3cret" not in place.err + place.out
    assert sum(line.startswith("ERROR: ") for line in place.err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--sql-conection=", "--sql_connectoin="])
@pytest.mark.parametrize("url", MISTYPED)
def test_a_password_is_not_shown_with_an_option_that_is_mistyped(place, url, option):
    # With a blank in it, argparse takes it for a command.
    assert place(f"{option}{url}", "db_version") in (1, 2)
    assert "s3cret" not in place.err + place.out


@pytest.mark.parametrize("url", ["x", "sqlite://", "oracle://h/x", "sqlite3:///x"])
def test_an_unusable_url_is_named_by_the_place_where_it_stands(place, url):
    conf = place.configure("etc/other.conf", url=url)
    assert place("--config-file", "etc/other.conf", "db_version") == 1
    assert re.fullmatch(rf"ERROR: {conf}: option sql_connection:? .*\n", place.err)
    assert place("--config-file", conf, "--sql-connection", url, "db_version") == 1
    assert re.fullmatch(r"ERROR: option --sql-connection:? .*\n", place.err)


def test_a_password_in_the_place_of_the_command_is_not_shown(place):
    place.configure()
    assert place("mysql://glance:s3cret@db/glance", "db_version") == 1
    assert place.err == "ERROR: unrecognized command 'mysql://glance:***@db/glance'\n"


def test_a_line_of_the_file_that_is_mistyped_is_named_and_not_shown(place):
    line = "admin_password s3cret"
    path = place.directory / "glance-registry.conf"
    for text, reason in (
        (f"{line}\n[DEFAULT]\n", "line 1 is before the first line of the form [section]"),
        (f"[DEFAULT]\n{line}\n", "not of the form name = value: line 2"),
    ):
        path.write_text(text)
        assert place(f"--config-file={path}", "db_version") == 1
        assert place.err == f"ERROR: Error trying to load config {path}: {reason}\n"


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqlite3:////x", "begins with sqlite3: .* write sqlite://"),
        ("oracle9://h/x", "does not know the kind of database oracle9"),
        ("mysql+nosuch://h/x", "does not know the driver nosuch for mysql"),
        ("x", "is not a SQLAlchemy URL, such as sqlite:////"),
        (
            "mysql://h/x",
            r"driver for mysql\+pymysql is not installed \(pymysql is missing\): run pip install "
            r"'glance\[mysql\]'",
        ),
        ("mariadb+pymysql://h/x", r"\(pymysql is missing\): run pip install 'glance\[mysql\]'"),
        ("postgresql://h/x", r"psycopg2 is missing\): run pip install 'glance\[postgresql\]'"),
        ("postgres://h/x", r"psycopg2 is missing\): run pip install 'glance\[postgresql\]'"),
        ("postgresql+pg8000://h/x", r"pg8000 is missing\): run pip install pg8000"),
        ("mysql+mysqldb://h/x", r"MySQLdb is missing\): run pip install mysqlclient"),
        ("oracle://h/x", "glance does not work with oracle; use sqlite, postgresql"),
        ("sqlite+aiosqlite:///x", r"glance does not work with sqlite\+aiosqlite; use sqlite, "),
        ("postgresql+asyncpg://h/x", r"glance does not work with postgresql\+asyncpg; use sqlite"),
    ],
)
def test_the_cause_of_an_unusable_url_is_named(place, monkeypatch, url, cause):
    for driver in ("MySQLdb", "pymysql", "psycopg2", "pg8000"):
        monkeypatch.setitem(sys.modules, driver, None)
    assert place("--sql-connection", url, "db_version") == 1
    assert re.fullmatch(f"ERROR: option --sql-connection:? .*{cause}.*\n", place.err)


def test_a_wrong_option_exits_with_2(place):
    assert place("--bogus", "db_sync") == 2
    assert "glance-manage: error: " in place.err


def test_the_version_of_the_program_is_printed(place):
    assert place("--version") == 0
    assert re.fullmatch(r"glance-manage \d+\.\d+\.\d+\n", place.out)


# -- which database ------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--sql-connection", "--sql_connection"])
@pytest.mark.parametrize("first", [True, False])
def test_both_spellings_work_before_and_after_the_command(place, option, first):
    words = [option, place.url]
    assert place(*words, "db_sync") == 0
    assert place(*(words + ["db_version"] if first else ["db_version"] + words)) == 0
    assert place.out == f"{LATEST}\n"


@pytest.mark.parametrize("name", ["glance-registry.conf", "home/.glance/glance-registry.conf"])
def test_the_database_is_that_of_the_registry(place, name):
    place.configure(name)
    assert place("db_sync") == 0
    assert place.database.exists()


def test_a_configuration_can_be_named(place):
    conf = place.configure("etc/other.conf")
    assert place("db_sync", "--config-file", conf) == 0
    assert place.database.exists()


def test_a_configuration_needs_no_section_of_an_application(place):
    conf = place.directory / "database.conf"
    conf.write_text(f"[DEFAULT]\nsql_connection = sqlite:///{place.database}\n")
    assert place("db_sync", "--config-file", conf) == 0
    assert place.database.exists()


def test_the_command_line_wins_over_the_configuration(place):
    place.configure(url=f"sqlite:///{place.directory}/other.sqlite")
    assert place.on("db_sync") == 0
    assert [path.name for path in place.directory.glob("*.sqlite")] == ["my.sqlite"]


def test_without_database_and_configuration_the_latter_is_asked_for(place):
    assert place("db_version") == 1
    assert place.err == (
        "ERROR: Unable to locate any configuration file. Cannot load application glance-registry\n"
    )


def test_a_configuration_that_is_named_and_missing_is_an_error_all_the_same(place):
    place.configure()
    assert place.on("db_sync", "--config-file=typo.conf") == 1
    assert place.err.startswith("ERROR: Unable to locate any configuration file.")
    assert str(place.directory / "typo.conf") in place.err
    assert not place.database.exists()


def test_a_configuration_without_a_database_is_told(place):
    conf = place.configure()
    conf.write_text(conf.read_text().replace("sql_connection", "# sql_connection"))
    assert place("db_version") == 1
    assert re.fullmatch(rf"ERROR: {conf} has no option sql_connection: .*\n", place.err)


def test_a_configuration_that_cannot_be_read_is_told(place):
    place.configure().write_text("[DEFAULT")
    assert place("db_version") == 1
    assert place.err.startswith("ERROR: Error trying to load config ")


def test_a_file_with_the_name_of_a_command_is_not_a_configuration(place):
    (place.directory / "db_version").write_text("not a configuration")
    place.configure()
    place.on("db_sync")
    assert place("db_version") == 0
    assert place.out == f"{LATEST}\n"


# -- the log -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--verbose"], ["-d"]], ids=str)
def test_log_lines_do_not_mix_with_the_version(place, words):
    assert place.on(*words, "db_sync") == 0
    assert " INFO [glance.registry.db.migration] Changing the schema from version 0 to 1" in (
        place.err
    )
    assert place.on(*words, "db_version") == 0
    assert place.out == f"{LATEST}\n"


def test_the_configuration_can_ask_for_log_lines_and_a_file(place):
    conf = place.configure(more="verbose = True\nlog_file = manage.log")
    assert place("db_sync") == 0
    assert (place.out, place.err.count("\n")) == ("", 1)
    log = (place.directory / "manage.log").read_text()
    assert f"[glance-manage] Using the configuration file {conf}" in log
    assert "Changing the schema from version 12 to 13" in log

"""glance-scrubber beside running daemons: what it removes, what it leaves, how it ends."""

import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from glance.registry import unfinished

from support import daemons, faults, operators, stores

pytestmark = pytest.mark.full

DIABLO = pathlib.Path(__file__).parent / "data" / "diablo" / "glance-scrubber.conf"
CONF = """
[DEFAULT]
verbose = True
sql_connection = sqlite:///{site.database}
filesystem_store_datadir = {site.data_dir}
{options}

[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scrubber")
    pipeline = "versionnegotiation context rootapp"
    options = {"delayed_delete": True}
    with daemons.Site(directory, api=options, api_pipeline=pipeline) as running:
        yield running


@pytest.fixture
def site(shared):
    yield shared
    change(shared, "DELETE FROM scrub_queue")
    change(shared, "UPDATE images SET status = 'deleted' WHERE status = 'pending_delete'")
    for path in shared.data_files():
        path.unlink()


def command(site, *arguments, **options):
    conf = site.directory / "glance-scrubber.conf"
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    conf.write_text(CONF.format(site=site, options=lines))
    return [sys.executable, str(daemons.BIN / "glance-scrubber"), *arguments, str(conf)]


def scrub(site, *arguments, **options):
    _, _, *words = command(site, *arguments, **options)
    return operators.run("glance-scrubber", *words, cwd=site.directory)


def change(site, statement):
    with sqlite3.connect(site.database, timeout=30) as connection:
        connection.execute(statement)
    connection.close()


def relocate(site, image_id, location):
    change(site, f"UPDATE images SET location = '{location}' WHERE id = {image_id}")
    change(site, f"UPDATE scrub_queue SET location = '{location}' WHERE image_id = {image_id}")


def statuses(site, *ids):
    connection = sqlite3.connect(site.database, timeout=30)
    try:
        found = dict(connection.execute("SELECT id, status FROM images").fetchall())
    finally:
        connection.close()
    return [found[image_id] for image_id in ids]


def deleted_image(site, data=b"data"):
    image_id = site.http.add(data).json()["image"]["id"]
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    return image_id


def test_what_version_2_deletes_stays_until_the_scrubber_comes(site):
    made = site.http.add(b"data")
    number, path = (
        made.json()["image"]["id"],
        f"/v2/images/{made.header('x-openstack-image-uuid')}",
    )
    assert site.http.delete(path).status == 204
    for method in ("GET", "DELETE"):
        assert site.http.request(method, path).status == 404
    assert statuses(site, number) == ["pending_delete"]
    assert [file.name for file in site.data_files()] == [str(number)]
    assert scrub(site).returncode == 0
    assert statuses(site, number) == ["deleted"]
    assert site.data_files() == []
    assert site.http.get(path).status == 404


def test_one_pass_removes_the_data_and_settles_the_records(site):
    ids = [deleted_image(site, b"%d" % number) for number in range(30)]
    kept = site.http.add(b"kept").json()["image"]["id"]
    assert len(site.data_files()) == 31
    done = scrub(site)
    assert done.returncode == 0, done.stderr
    assert statuses(site, *ids) == ["deleted"] * 30
    assert statuses(site, kept) == ["active"]
    assert [path.read_bytes() for path in site.data_files()] == [b"kept"]
    assert "Pass done: 30 leased, 30 deleted, 0 already gone" in done.stdout
    assert scrub(site).stdout.count("0 leased") == 1


def test_images_are_kept_for_the_scrub_time(site):
    image_id = deleted_image(site)
    assert scrub(site, scrub_time=3600).returncode == 0
    assert statuses(site, image_id) == ["pending_delete"]
    assert len(site.data_files()) == 1


def test_data_that_is_gone_counts_as_deleted(site):
    image_id = deleted_image(site)
    (path,) = site.data_files()
    path.unlink()
    assert scrub(site).returncode == 0
    assert statuses(site, image_id) == ["deleted"]


def test_what_cannot_be_removed_is_left_for_the_next_pass(site):
    lost, fine = deleted_image(site), deleted_image(site)
    relocate(site, lost, "odd://u:canary@h/x")
    done = scrub(site)
    assert done.returncode == 1
    assert statuses(site, lost, fine) == ["pending_delete", "deleted"]
    assert "canary" not in done.stdout + done.stderr
    shown = scrub(site, "--list")
    assert shown.returncode == 0
    assert re.search(rf"^{lost} +image .* 1 dead +UnknownScheme$", shown.stdout, re.M)
    assert "canary" not in shown.stdout + shown.stderr
    # What is given up is no news for the next pass, until somebody has seen to it.
    assert scrub(site).returncode == 0
    assert scrub(site, "--retry").returncode == 1


def test_data_that_is_not_ours_is_never_removed(site, tmp_path):
    image_id = deleted_image(site)
    other = tmp_path / "precious"
    other.write_text("data")
    relocate(site, image_id, f"file://{other}")
    assert scrub(site).returncode == 0
    assert other.exists()
    assert statuses(site, image_id) == ["deleted"]


def test_what_a_pass_does_is_told_on_request(site):
    fine, lost, missing = (deleted_image(site) for _ in range(3))
    relocate(site, lost, "odd://u:canary@h/x")
    relocate(site, missing, f"file://{site.data_dir}/{missing}0")
    stalled = site.http.post("/v1/images", {"x-image-meta-name": "x"}).json()["image"]["id"]
    change(
        site,
        "UPDATE images SET status = 'saving', updated_at = '2020-01-01 00:00:00.0' "
        f"WHERE id = {stalled}",
    )
    extended = {"notifier_strategy": "logging", "notification_extended_events": True}
    said = scrub(site, **extended).stdout
    lines = re.findall(r"\[glance\.notifier\.logging_notifier\] (.*)$", said, re.M)
    told = {
        (one["event_type"], one["priority"], one["payload"]["image_id"]): one["payload"]
        for one in map(json.loads, lines)
    }
    assert len(lines) == 3 and set(told) == {
        ("image.scrub", "INFO", fine),
        ("image.scrub", "ERROR", lost),
        ("image.upload", "ERROR", stalled),
    }
    assert told["image.scrub", "INFO", fine] == {"image_id": fine, "attempts": 1}
    failure = told["image.scrub", "ERROR", lost]
    assert (failure["error_class"], failure["attempts"]) == ("UnknownScheme", 1)
    assert "canary" not in said
    # Only failures of uploads are told without the switch.
    image_id = deleted_image(site)
    assert "logging_notifier" not in scrub(site, notifier_strategy="logging").stdout
    assert statuses(site, image_id) == ["deleted"]


def test_what_could_not_be_told_is_kept_when_the_pass_is_over(site, tmp_path):
    deleted_image(site)
    options = {
        "notifier_strategy": "rabbit",
        "rabbit_port": daemons.free_port(),
        "notification_extended_events": True,
        "notification_spool_dir": tmp_path / "spool",
    }
    assert scrub(site, **options).returncode == 0
    (path,) = (tmp_path / "spool").iterdir()
    assert json.loads(path.read_text())["event_type"] == "image.scrub"
    done = scrub(site, notifier_strategy="pigeon")
    assert done.returncode == 2 and "'pigeon' is not an available" in done.stderr


def test_uploads_that_never_ended_are_killed(site):
    old, young = (
        site.http.post("/v1/images", {"x-image-meta-name": "x"}).json()["image"]["id"]
        for _ in range(2)
    )
    change(site, f"UPDATE images SET status = 'saving' WHERE id IN ({old}, {young})")
    change(site, f"UPDATE images SET updated_at = '2020-01-01 00:00:00.0' WHERE id = {old}")
    done = scrub(site)
    assert done.returncode == 0
    assert statuses(site, old, young) == ["killed", "saving"]
    assert "1 interrupted uploads killed" in done.stdout
    change(site, f"UPDATE images SET status = 'killed' WHERE id = {young}")


def test_records_that_a_dead_process_began_are_killed(site):
    """No API starts again that would do it."""
    incoming = site.data_dir / ".incoming"
    image_id, other, again = (faults.reserve(site) for _ in range(3))
    notes = unfinished.Unfinished(str(incoming))
    notes.keep(unfinished.Note("a" * 32, image_id))
    notes.keep(unfinished.Note("b" * 32))
    # This one would be queued, and is.
    notes.keep(unfinished.Note("c" * 32, again, 0))
    notes._file.close()
    (path,) = incoming.glob("glance-unfinished.*")
    done = scrub(site)
    assert done.returncode == 0
    assert "1 interrupted uploads killed" in done.stdout
    assert faults.status_of(site, image_id) == "killed"
    assert faults.status_of(site, other) == faults.status_of(site, again) == "queued"
    # The record of the other note may come late; after a while it cannot any more.
    assert path.exists()
    os.utime(path, (0, 0))
    assert scrub(site).returncode == 0
    assert not path.exists()


def test_a_running_upload_is_left_alone(site):
    with faults.Upload(site, 5_000_000, method="POST", length=8) as upload:
        upload.send(b"1234").until_saving()
        assert scrub(site).returncode == 0
        upload.send(b"5678")
        assert upload.reply().status == 201


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_daemon_makes_passes_until_told_to_end(site, signum):
    with subprocess.Popen(
        command(site, "--daemon", wakeup_time=1),
        stdout=subprocess.PIPE,
        text=True,
        env={**daemons.environment()},
    ) as process:
        try:
            while "Pass done" not in process.stdout.readline():
                assert process.poll() is None
            image_id = deleted_image(site)
            faults.until(
                lambda: statuses(site, image_id) == ["deleted"], "the next pass finds the image"
            )
            process.send_signal(signum)
            assert process.wait(30) == 0
            assert "has stopped" in process.stdout.read()
        finally:
            process.kill()


def test_a_store_that_hangs_holds_no_caller_up_and_the_scrubber_takes_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(daemons.ROOT / "tests"))
    monkeypatch.setenv(stores.JOURNAL, str(tmp_path / "journal"))
    options = {"known_stores": "support.stores.Scripted", "delete_timeout": 1}
    with daemons.Site(tmp_path, api=options) as site:
        image_id = site.http.add(b"data").json()["image"]["id"]
        relocate(site, image_id, f"script://hang/{image_id}")
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert site.http.head(f"/v1/images/{image_id}").status == 404
        assert statuses(site, image_id) == ["pending_delete"]
        assert scrub(site, known_stores=options["known_stores"]).stdout.count("0 leased") == 1
        # The API dies with the removal under way, and its lease runs out.
        site.api.kill()
        relocate(site, image_id, f"script://slow/{image_id}")
        change(site, "UPDATE scrub_queue SET lease_until = '2020-01-01 00:00:00.0'")
        assert "1 deleted" in scrub(site, known_stores=options["known_stores"]).stdout
        assert statuses(site, image_id) == ["deleted"]


def test_a_wrong_configuration_is_told_apart(site):
    done = scrub(
        site, wakeup_time="soon", scrub_tiem=5, default_store="file", log_file="/no/where"
    )
    assert done.returncode == 2
    assert "option wakeup_time has the invalid value 'soon'" in done.stderr
    assert "cannot write its log file" in done.stderr


def test_a_database_that_is_not_there_fails_the_pass(site):
    done = scrub(site, sql_connection=f"sqlite:///{site.directory}/none/x.sqlite")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ")


def test_diablos_file_works_as_it_is(site, tmp_path):
    image_id = deleted_image(site)
    change(site, f"UPDATE images SET deleted_at = '2020-01-01 00:00:00.0' WHERE id = {image_id}")
    # Diablo has no queue: its deleted images are found all the same.
    change(site, "DELETE FROM scrub_queue")
    conf = tmp_path / "glance-scrubber.conf"
    conf.write_text(
        re.sub("(?m)^log_file = .*", f"log_file = {tmp_path}/scrubber.log", DIABLO.read_text())
    )
    (tmp_path / "glance.sqlite").symlink_to(site.database)
    done = subprocess.run(
        [sys.executable, str(daemons.BIN / "glance-scrubber"), str(conf)],
        env=daemons.environment(),
        cwd=tmp_path,
        check=False,
    )
    # NOTE: that file names no data directory; images lie where the default says, or are not ours.
    assert done.returncode == 0
    assert statuses(site, image_id) == ["deleted"]
    assert os.path.exists(tmp_path / "scrubber.log")

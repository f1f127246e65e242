"""glance-manage orphans and restore beside real daemons, over a real Swift and the file store."""

import contextlib
import json
import sqlite3

import pytest

from support import daemons, faults, operators
from support.swift_node import KEY, SwiftNode

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    with SwiftNode(tmp_path_factory.mktemp("swift")) as node:
        yield node


@pytest.fixture(scope="module")
def site(swift, tmp_path_factory):
    spool = tmp_path_factory.mktemp("spool")
    options = {**swift.store_options(spool, swift_store_retries="0"), "delayed_delete": True}
    registry = {"metadata_encryption_key": "a-key-of-16-byte"}
    with daemons.Site(tmp_path_factory.mktemp("site"), api=options, registry=registry) as running:
        yield running


def manage(site, *words):
    """Run glance-manage; return exit code, output and errors."""
    files = (f"--config-file={site.registry.conf}", f"--store-config-file={site.api.conf}")
    done = operators.run("glance-manage", *files, *words, cwd=site.directory)
    assert KEY not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def survey(site, *words):
    code, output, _ = manage(site, "orphans", "--format", "json", "--older-than=0", *words)
    found = json.loads(output)
    strays = {
        (entry["store"], entry["image_id"]): entry["size"]
        for entry in found["data_without_record"]
        if not entry["removed"]
    }
    return code, strays, {entry["image_id"] for entry in found["records_without_data"]}


def upload(site, store, data):
    image_id = faults.new_id()
    headers = {"x-image-meta-store": store}
    assert site.http.add(data, headers, id=image_id).status == 201
    return image_id


def change(site, statement):
    with contextlib.closing(sqlite3.connect(site.database, timeout=30)) as connection:
        with connection:
            connection.execute(statement)


def test_orphans_are_found_in_both_directions_and_in_every_store(site, swift):
    kept = [upload(site, store, b"data") for store in ("file", "swift")]
    assert survey(site) == (0, {}, set())
    # A backup was restored: records that are older than the stores, and stores than records.
    forgotten = [upload(site, store, b"forgotten") for store in ("file", "swift")]
    lost = [upload(site, store, b"lost") for store in ("file", "swift")]
    for image_id in forgotten:
        change(site, f"UPDATE images SET status = 'deleted', deleted = 1 WHERE id = {image_id}")
    (site.data_dir / str(lost[0])).unlink()
    assert swift.request("DELETE", f"/glance/{lost[1]}")[0] == 204
    strays = {("file", str(forgotten[0])): 9, ("swift", str(forgotten[1])): 9}
    assert survey(site) == (3, strays, set(lost))
    assert survey(site, "--delete") == (3, {}, set(lost))
    assert not (site.data_dir / str(forgotten[0])).exists()
    assert f"glance/{forgotten[1]}" not in swift.names("glance")
    for image_id in lost:
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert survey(site) == (0, {}, set())
    for image_id in kept:
        assert site.http.get(f"/v1/images/{image_id}").body == b"data"


def test_an_upload_in_progress_is_no_orphan(site):
    image_id = faults.new_id()
    with faults.Upload(site, image_id, method="POST", length=8) as running:
        running.send(b"1234").until_saving()
        assert survey(site, "--delete") == (0, {}, set())
        running.send(b"5678")
        assert running.reply().status == 201


@pytest.mark.parametrize("store", ["file", "swift"])
def test_a_deleted_image_comes_back_whole(site, store):
    image_id = upload(site, store, b"precious")
    url = f"/v1/images/{image_id}"
    assert site.http.put(url, {"x-image-meta-property-a": "1"}).status == 200
    assert site.http.delete(url).status == 200
    assert site.http.get(url).status == 404
    assert manage(site, "restore", image_id)[0] == 0
    reply = site.http.get(url)
    assert (reply.status, reply.body) == (200, b"precious")
    assert reply.header("x-image-meta-property-a") == "1"
    assert manage(site, "restore", image_id)[0] == 3


def test_what_is_gone_does_not_come_back(site, swift):
    image_id = upload(site, "swift", b"precious")
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    swift.request("DELETE", f"/glance/{image_id}")
    code, output, errors = manage(site, "restore", image_id)
    assert (code, output) == (3, "")
    assert errors.splitlines()[-1].startswith("ERROR: ")
    assert faults.status_of(site, image_id) is None


def test_a_swift_that_is_away_accuses_nobody(site, swift):
    upload(site, "swift", b"data")
    swift.stop()
    try:
        code, strays, lost = survey(site, "--delete")
    finally:
        swift.start()
    assert (code, strays, lost) == (1, {}, set())

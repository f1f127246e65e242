"""Trouble of the image cache, one kind after the other: no download fails, and none is wrong."""

import concurrent.futures
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time

import pytest

from glance import image_cache
from glance.common.config import Conf

from support import faults
from support.caching import CachingSite, source
from support.faults import Download, until

pytestmark = pytest.mark.full

DATA = os.urandom((3 << 20) + 17)
#: More than the buffers of both sockets take.
LARGE = os.urandom(16 << 20)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site whose API heeds file permissions, whoever runs the tests."""
    new = CachingSite(tmp_path_factory.mktemp("cache"))
    faults.obey_permissions(new)
    with new as running:
        yield running


@pytest.fixture
def image_id(site):
    """An image that is not in the cache, which is over what the test before has done to it."""
    probe = faults.store(site, b"data")
    until(lambda: source(site.fetch(probe)) != "trouble", "the cache works")
    return faults.store(site, DATA)


def whole(site, image_id, data=DATA):
    """Download an image, which has to work; return where it came from."""
    reply = site.fetch(image_id)
    assert reply.status == 200, reply
    assert reply.body == data
    return source(reply)


def recovers(site, image_id, data=DATA):
    """Wait until an image is served out of the cache again."""
    until(lambda: whole(site, image_id, data) == "hit", f"image {image_id} is cached again")


def leaves_nothing(site, image_id):
    until(lambda: image_id not in site.rows("incomplete"), "no row is left")
    until(lambda: not site.files("incomplete"), "no file is left")


# -- the disk ------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_on_costs_only_the_copy(site, image_id):
    # The index's log has grown with the tests before; it must not reach the limit itself.
    site.empty_log()
    with faults.file_size_limit(site.api, 1 << 20):
        assert whole(site, image_id) == "stored"
    leaves_nothing(site, image_id)
    assert image_id not in site.rows()
    recovers(site, image_id)


def test_followers_of_a_copy_that_cannot_be_written_on_get_the_whole_image(site):
    image_id = faults.store(site, LARGE)
    with (
        faults.file_size_limit(site.api, 8 << 20),
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        # A client that comes when the copy has been given up is served by the store alone.
        assert set(pool.map(lambda _: whole(site, image_id, LARGE), range(8))) <= {
            "stored",
            "collapsed",
            "not to be followed",
        }
    leaves_nothing(site, image_id)
    recovers(site, image_id, LARGE)


def test_a_disk_that_fills_up_during_a_download_costs_only_the_copy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("full")
    with (
        faults.small_filesystem(directory / "cache", 24 << 20) as disk,
        CachingSite(directory) as site,
    ):
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            until(lambda: site.files("incomplete"), "the copy has begun")
            with contextlib.suppress(OSError), (disk / "others").open("wb") as stream:
                while True:
                    stream.write(bytes(1 << 16))
            assert download.read() == LARGE
        leaves_nothing(site, image_id)
        # While it is full, nothing is cached, and everything is served.
        assert whole(site, image_id, LARGE) == "no room"
        (disk / "others").unlink()
        recovers(site, image_id, LARGE)


def test_room_that_others_need_is_kept_free(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guard")
    with faults.small_filesystem(directory / "cache", 24 << 20):
        options = {"image_cache_min_free_disk": 12 << 20}
        with CachingSite(directory, api=options) as site:
            images = [faults.store(site, DATA) for _ in range(6)]
            for image_id in images:
                whole(site, image_id)
                until(lambda image_id=image_id: image_id in site.rows(), "it is cached")
                free = shutil.disk_usage(site.cache_dir).free
                assert free >= 12 << 20
            # The last ones are there: the least recently used made room.
            assert set(site.rows()) == set(images[-3:])


@pytest.mark.parametrize("below", ["entries", "incomplete", "invalid"])
def test_a_directory_that_may_not_be_written_to_costs_only_the_copies(site, image_id, below):
    site.cached(image_id)
    other = faults.store(site, DATA)
    with faults.mode(site.cache_dir / below, 0o500):
        assert whole(site, image_id) == "hit"
        whole(site, other)
    recovers(site, other)


def test_a_directory_that_may_not_be_entered_costs_only_the_copies(site, image_id):
    site.cached(image_id)
    other = faults.store(site, DATA)
    with faults.mode(site.cache_dir, 0o000):
        whole(site, image_id)
        whole(site, other)
    recovers(site, image_id)
    recovers(site, other)


def test_a_directory_that_is_away_for_a_while_costs_only_the_copies(site, image_id):
    site.cached(image_id)
    with faults.missing(site.cache_dir):
        for _ in range(2):
            whole(site, image_id)
    recovers(site, image_id)


def test_a_directory_that_is_removed_is_made_again(site, image_id):
    site.cached(image_id)
    # At once, for the daemon may be about to make files in it.
    site.cache_dir.rename(site.directory / "removed")
    shutil.rmtree(site.directory / "removed")
    whole(site, image_id)
    recovers(site, image_id)


# -- files ---------------------------------------------------------------------------------------


def test_a_vanished_file_is_fetched_again(site, image_id):
    site.cached(image_id)
    site.entry_file(image_id).unlink()
    assert whole(site, image_id) == "stored"
    recovers(site, image_id)


def test_a_file_that_vanishes_during_a_hit_is_sent_to_its_end(site):
    image_id = faults.store(site, LARGE)
    site.cached(image_id)
    with Download(site, image_id) as download:
        download.begin()
        site.entry_file(image_id).unlink()
        assert download.read() == LARGE
    recovers(site, image_id, LARGE)


@pytest.mark.parametrize("position", [0, 1, len(DATA) // 2, len(DATA) - 1])
def test_a_corrupted_byte_is_never_sent(site, image_id, position):
    site.cached(image_id)
    with site.entry_file(image_id).open("r+b") as stream:
        stream.seek(position)
        stream.write(bytes([DATA[position] ^ 1]))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: whole(site, image_id), range(8)))
    recovers(site, image_id)
    assert site.rows("invalid")[image_id]["error"] == "the checksum has changed"


@pytest.mark.parametrize("left", [0, 1, len(DATA) - 1])
def test_a_shortened_file_is_never_sent(site, image_id, left):
    site.cached(image_id)
    os.truncate(site.entry_file(image_id), left)
    assert whole(site, image_id) == "stored"
    recovers(site, image_id)


@pytest.mark.parametrize("left", [0, len(LARGE) // 2, len(LARGE) - 1])
def test_a_file_cut_during_a_hit_is_completed_from_the_store(site, left):
    image_id = faults.store(site, LARGE)
    site.cached(image_id)
    with Download(site, image_id) as download:
        download.begin()
        assert "hit" in download.response.getheader("Cache-Status")
        os.truncate(site.entry_file(image_id), left)
        assert download.read() == LARGE
    recovers(site, image_id, LARGE)


def test_a_part_of_a_file_cut_during_a_hit_is_completed_from_the_store(site):
    image_id = faults.store(site, LARGE)
    site.cached(image_id)
    path = site.entry_file(image_id)
    with faults.stopped(site.api), concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(site.fetch, image_id, Range="bytes=1000-9000000")
        time.sleep(0.2)
        os.truncate(path, len(LARGE) - 1)
        for pid in site.api.pids():
            os.kill(pid, signal.SIGCONT)
        reply = pending.result(60)
    assert (reply.status, reply.body) == (206, LARGE[1000:9000001])


def test_a_replaced_file_is_never_sent(site, image_id, tmp_path):
    site.cached(image_id)
    (tmp_path / "other").write_bytes(os.urandom(len(DATA)))
    os.replace(tmp_path / "other", site.entry_file(image_id))
    whole(site, image_id)
    recovers(site, image_id)


def test_a_link_to_a_file_elsewhere_is_never_followed(site, image_id, tmp_path):
    site.cached(image_id)
    path = site.entry_file(image_id)
    (tmp_path / "secret").write_bytes(os.urandom(len(DATA)))
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    whole(site, image_id)
    recovers(site, image_id)
    assert (tmp_path / "secret").stat().st_size == len(DATA)


def test_a_copy_that_vanishes_or_changes_while_it_is_made_reaches_nobody(site):
    for harm in (lambda path: path.unlink(), lambda path: os.truncate(path, 1000)):
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            (path,) = until(lambda: site.files("incomplete"), "the copy has begun")
            harm(path)
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda _, i=image_id: whole(site, i, LARGE), range(3)))
            assert download.read() == LARGE
        recovers(site, image_id, LARGE)


# -- the index -----------------------------------------------------------------------------------


def test_a_locked_index_fails_no_download(site, image_id):
    site.cached(image_id)
    other = faults.store(site, DATA)
    with contextlib.closing(sqlite3.connect(site.cache_dir / "cache.db")) as rival:
        rival.isolation_level = None
        rival.execute("BEGIN EXCLUSIVE")
        # Looking is not held up by who writes.
        assert whole(site, image_id) == "hit"
        assert whole(site, other) == "trouble"
        rival.execute("ROLLBACK")
    recovers(site, other)


def remove(path):
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def truncate(path):
    os.truncate(path, 0)


def garble(path):
    with path.open("r+b") as stream:
        stream.write(random.Random(1).randbytes(path.stat().st_size))


def replace_by_directory(path):
    remove(path)
    path.mkdir()


@pytest.mark.parametrize("harm", [remove, truncate, garble])
def test_a_damaged_index_fails_no_download_and_is_replaced(site, image_id, harm):
    site.cached(image_id)
    harm(site.cache_dir / "cache.db")
    for _ in range(3):
        whole(site, image_id)
    # As a cache program does. A process that has the whole index in its log may go on with that
    # for a while, but who opens it anew begins another one for all.
    other = image_cache.ImageCache(Conf({"image_cache_dir": str(site.cache_dir)}))
    other.configure()
    other.close()
    recovers(site, image_id)
    # What the new index does not know is removed.
    until(lambda: len(site.files("entries")) == len(site.rows()), "strays are removed")


def test_an_index_that_cannot_be_opened_fails_no_download(site, image_id):
    site.cached(image_id)
    index = site.cache_dir / "cache.db"
    complaints = site.api.log().count("served without the cache for now")
    replace_by_directory(index)
    for _ in range(20):
        whole(site, image_id)
    assert site.http.delete(f"/v1/images/{faults.store(site, DATA)}").status == 200
    index.rmdir()
    recovers(site, image_id)
    # It is said once a minute, and not for each request.
    assert site.api.log().count("served without the cache for now") <= complaints + 2


# -- stores that give something else -------------------------------------------------------------


def test_a_store_whose_data_is_not_what_was_recorded_is_never_copied(site, image_id):
    wrong = os.urandom(len(DATA))
    (site.data_dir / str(image_id)).write_bytes(wrong)
    assert site.fetch(image_id).body == wrong
    until(lambda: site.rows("invalid").get(image_id), "it is invalid")
    assert image_id not in site.rows()
    assert f"Image {image_id}: the data in the store does not match the record" in site.api.log()


def test_a_store_that_breaks_off_cuts_the_download_and_is_never_copied(site):
    image_id = faults.store(site, LARGE)
    with Download(site, image_id) as download:
        download.begin()
        os.truncate(site.data_dir / str(image_id), 1 << 20)
        with pytest.raises(Exception, match="IncompleteRead"):
            download.read()
    until(lambda: site.rows("invalid").get(image_id), "it is invalid")
    assert image_id not in site.rows()
    assert image_id not in site.rows("incomplete")


def test_data_that_the_store_has_lost_is_404_before_anything_is_copied(site, image_id):
    (site.data_dir / str(image_id)).unlink()
    assert site.fetch(image_id).status == 404
    assert image_id not in site.rows("incomplete")
    assert image_id not in site.rows("invalid")


# -- ends ----------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_leaves_nothing_for_long(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("worker"), workers=2) as site:
        until(lambda: " serves http" in site.api.log(), "both workers are ready")
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            until(lambda: site.files("incomplete"), "the copy has begun")
            for pid in site.api.pids()[1:]:
                os.kill(pid, signal.SIGKILL)
            until(lambda: site.api.answers(), "new workers")
        leaves_nothing(site, image_id)
        recovers(site, image_id, LARGE)


def test_a_stop_in_the_middle_of_a_copy_leaves_nothing(tmp_path_factory):
    options = {"stop_timeout": 0.5}
    with CachingSite(tmp_path_factory.mktemp("stop"), api=options) as site:
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            until(lambda: site.files("incomplete"), "the copy has begun")
            assert site.api.stop() == 0
        assert not site.files()
        assert not site.rows("incomplete")

"""The index database: damaged, gone, locked, of another version. Downloads never notice."""

import contextlib
import os
import shutil
import sqlite3

import pytest

from glance import image_cache
from glance.common import exception
from glance.common.config import Conf
from glance.image_cache.index.sqlite import database
from glance.streaming import body
from glance.testing.cache_suite import fetched, files, ids, image_of, make_data, store


def remove(path):
    for name in (path, path + "-wal", path + "-shm"):
        if os.path.exists(name):
            os.unlink(name)


def replace_by_directory(path):
    remove(path)
    os.mkdir(path)


def truncate(path):
    os.truncate(path, 0)


def garble(path):
    with open(path, "r+b") as stream:
        stream.write(os.urandom(8192))


def garble_the_middle(path):
    with open(path, "r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(os.path.getsize(path) - 4096))


def drop_a_table(path):
    with sqlite3.connect(path) as index:
        index.execute("DROP TABLE entries")


DAMAGES = [remove, truncate, garble, garble_the_middle, drop_a_table]


def download(cache, image, data):
    """Return an image as the API gets it: out of the cache, or through it."""
    found = cache.open(image)
    if found is None:
        found, _ = cache.fetch(image, lambda position: body.IterBody([data[position:]]))
    with found:
        return b"".join(found)


@pytest.mark.parametrize("damage", DAMAGES)
def test_downloads_go_on_when_the_index_is_damaged_and_are_cached_again(cache, damage):
    data = make_data(100)
    image = store(cache, data)
    damage(cache.index.path)
    for _ in range(3):
        assert download(cache, image, data) == data
    assert fetched(cache, image) == data
    assert ids(cache) == ["1"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_process_that_starts_replaces_a_damaged_index(cache, make, damage):
    data = make_data(100)
    image = store(cache, data)
    cache.close()
    damage(cache.index.path)
    again = make()
    again.recover()
    # What the new index does not know is no entry any more.
    assert files(again, "entries") == [] == ids(again)
    assert fetched(again, store(again, data)) == data == fetched(again, image)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_index_that_another_process_puts_aside_meanwhile_is_opened_anew(
    cache, make, monkeypatch, count
):
    cache.close()
    identity = database.IndexDatabase._identity
    left = [count]

    def put_aside(self):
        if left[0]:
            left[0] -= 1
            os.rename(self.path, f"{self.path}.corrupt-1")
        return identity(self)

    monkeypatch.setattr(database.IndexDatabase, "_identity", put_aside)
    if count == 3:
        with pytest.raises(exception.CacheUnavailable):
            make()
        return
    again = make()
    data = make_data(100)
    assert fetched(again, store(again, data)) == data


def test_a_damaged_index_is_kept_for_inspection(cache, make, tmp_path):
    cache.close()
    garble(cache.index.path)
    make()
    assert len(list((tmp_path / "cache").glob("cache.db.corrupt-*"))) == 1


def test_a_damaged_index_is_removed_after_a_week(cache, make, tmp_path):
    cache.close()
    garble(cache.index.path)
    again = make()
    again.clean()
    (kept,) = (tmp_path / "cache").glob("cache.db.corrupt-*")
    os.utime(kept, (0, 0))
    again.clean()
    assert not kept.exists()
    assert again.stats()["entries"] == 0


def test_the_loss_of_the_index_is_noticed_so_that_recovery_can_begin(cache):
    store(cache, make_data(100))
    assert cache.index.losses == 0
    remove(cache.index.path)
    assert cache.entries() == []
    assert cache.index.losses == 1


def test_an_image_that_was_being_written_is_given_up_when_the_index_is_lost(cache):
    with cache.begin(image_of(make_data(100))) as writer:
        writer.write(make_data(100))
        remove(cache.index.path)
        with pytest.raises(image_cache.CacheRefused):
            writer.commit()
    assert files(cache, "incomplete") == [] == files(cache, "entries")


def test_an_index_that_cannot_be_opened_costs_only_the_cache(cache, caplog):
    data = make_data(100)
    image = store(cache, data)
    replace_by_directory(cache.index.path)
    for _ in range(5):
        assert download(cache, image, data) == data
    cache.invalidate(1)
    with pytest.raises(exception.CacheUnavailable):
        cache.entries()
    # It is said once a minute, not for each request.
    assert len([r for r in caplog.records if "without the cache" in r.message]) == 1


def test_a_locked_index_costs_only_the_cache(cache, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    cache.close()
    data = make_data(100)
    image = store(cache, data)
    other = make_data(100, "other")
    with sqlite3.connect(cache.index.path, isolation_level=None) as rival:
        rival.execute("BEGIN EXCLUSIVE")
        # Readers of a write-ahead log are not held up.
        assert fetched(cache, image) == data
        assert download(cache, image_of(other, 2), other) == other
        cache.invalidate(1)
        rival.execute("ROLLBACK")
    assert download(cache, image_of(other, 2), other) == other
    assert sorted(ids(cache)) == ["1", "2"]


def test_an_index_locked_at_the_end_of_a_download_costs_only_the_copy(cache, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    cache.close()
    data = make_data(100)
    rival = sqlite3.connect(cache.index.path, isolation_level=None)

    def chunks():
        yield data[:50]
        rival.execute("BEGIN EXCLUSIVE")
        yield data[50:]

    found, source = cache.fetch(image_of(data), lambda _: body.IterBody(chunks()))
    with found:
        assert (b"".join(found), source) == (data, image_cache.MISS)
    rival.close()
    assert ids(cache) == []
    assert files(cache, "incomplete") == []
    # The row that could not be removed does not stand in the way.
    assert len(cache.entries("incomplete")) == 1
    assert download(cache, image_of(data), data) == data
    assert ids(cache) == ["1"]


def test_hits_that_cannot_be_written_are_kept(cache, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    cache.close()
    image = store(cache, make_data(10))
    fetched(cache, image)
    with sqlite3.connect(cache.index.path, isolation_level=None) as rival:
        rival.execute("BEGIN EXCLUSIVE")
        with pytest.raises(exception.CacheUnavailable):
            cache.flush()
        rival.execute("ROLLBACK")
    fetched(cache, image)
    cache.flush()
    assert cache.entry(1).hits == 2


def test_an_index_of_a_later_version_is_left_alone(cache, make):
    store(cache, make_data(10))
    cache.close()
    with sqlite3.connect(cache.index.path) as index:
        index.execute("PRAGMA user_version = 99")
    with pytest.raises(exception.CacheUnavailable, match="later version"):
        make()
    with sqlite3.connect(cache.index.path) as index:
        assert index.execute("SELECT count(*) FROM entries").fetchone() == (1,)


def test_the_index_may_lie_elsewhere(make, tmp_path):
    cache = make(image_cache_sqlite_db=str(tmp_path / "elsewhere.db"))
    store(cache, make_data(10))
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "cache" / "cache.db").exists()


def test_connections_do_not_pile_up(cache):
    before = len(os.listdir("/proc/self/fd"))
    for image_id in range(50):
        store(cache, make_data(10), image_id)
        cache.stats()
    assert len(os.listdir("/proc/self/fd")) < before + 20


def test_queue_and_counters_start_anew_with_the_index(cache, tmp_path):
    cache.queue_add(image_of(make_data(10)))
    shutil.rmtree(tmp_path / "cache")
    cache.configure()
    assert cache.queue_list() == []
    assert cache.stats()["hits"] == 0


def test_processes_that_start_together_all_get_an_index(tmp_path):
    """Each in a process of its own, as the workers of a daemon are."""
    conf = Conf({"image_cache_dir": str(tmp_path / "cache")})
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                cache = image_cache.ImageCache(conf)
                cache.configure()
                cache.recover()
                code = 0
            os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8


def test_a_cache_that_cannot_start_is_off_and_said_to_be(tmp_path, caplog):
    (tmp_path / "file").touch()
    options = {"image_cache_enabled": True, "image_cache_dir": str(tmp_path / "file" / "cache")}
    assert image_cache.open_cache(Conf(options)) is None
    assert "image cache is disabled" in caplog.text

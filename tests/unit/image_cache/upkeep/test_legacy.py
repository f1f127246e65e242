"""Cache directories of Diablo and Essex are taken over once, as far as the registry agrees."""

import os
import sqlite3

import pytest

from glance import image_cache
from glance.common import exception
from glance.common.config import Conf
from glance.image_cache import layout
from glance.testing.cache_suite import fetched, files, ids, image_of, make_data


@pytest.fixture
def old(tmp_path):
    """A directory as Diablo left it: images 1 to 3, of which 3 was used last."""
    old = tmp_path / "cache"
    for name in ("incomplete", "invalid", "prefetch", "prefetching"):
        (old / name).mkdir(parents=True)
    for image_id in (1, 2, 3):
        (old / str(image_id)).write_bytes(make_data(100, image_id))
        os.utime(old / str(image_id), (1_000_000 + image_id, 1_000_000))
    (old / "incomplete" / "7").write_bytes(b"half")
    (old / "invalid" / "8").write_bytes(b"wrong")
    for number, image_id in enumerate(("5", "4")):
        (old / "prefetch" / image_id).touch()
        os.utime(old / "prefetch" / image_id, (number, number))
    (old / "prefetching" / "6").touch()
    return old


@pytest.fixture(params=["sqlite", "xattr"])
def make(request, old):
    made = []

    def make(**changes):
        options = {
            "image_cache_dir": str(old),
            "image_cache_driver": request.param,
            "image_cache_min_free_disk": 0,
            **changes,
        }
        cache = image_cache.ImageCache(Conf(options))
        try:
            cache.configure()
        except exception.CacheUnavailable as err:
            pytest.skip(str(err))
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()


def known(*image_ids):
    """Return a registry of images that are what `old` holds."""
    records = {str(n): image_of(make_data(100, n), n, f"image {n}") for n in image_ids}
    return records.get


def test_images_that_are_what_the_registry_says_are_adopted(make, old):
    cache = make()
    done = cache.take_over(known(1, 2, 3))
    assert (done.adopted, done.removed) == (3, 0)
    entry = cache.entry(2)
    assert (entry.name, entry.hits, entry.accessed_at) == ("image 2", 0, 1_000_002)
    for image_id in (1, 2, 3):
        data = make_data(100, image_id)
        assert fetched(cache, image_of(data, image_id)) == data
        assert not (old / str(image_id)).exists()
    assert ids(cache) == ["1", "2", "3"]
    assert len(cache.verify().bad) == 0


def test_what_the_registry_does_not_know_or_agree_with_is_removed(make, old):
    (old / "2").write_bytes(make_data(100, "other"))
    (old / "3").write_bytes(make_data(99, 3))
    (old / "stranger").write_bytes(b"x")
    cache = make()
    done = cache.take_over(known(2, 3))
    assert (done.adopted, done.removed) == (0, 4)
    assert ids(cache) == []
    assert not [name for name in os.listdir(old) if name in ("1", "2", "3", "stranger")]


def test_unfinished_and_failed_files_go_with_the_recovery(make):
    cache = make()
    cache.recover()
    assert files(cache, layout.INCOMPLETE) == [] == files(cache, layout.INVALID)


def test_the_queue_is_queued_again_in_its_order(make, old):
    cache = make()
    done = cache.take_over(known(1, 4, 5, 6))
    assert done.queued == 3
    assert [item.image_id for item in cache.queue_list()] == ["6", "5", "4"]
    assert not (old / "prefetch").exists()


def test_the_most_recently_used_come_first_while_there_is_room(make):
    cache = make(image_cache_max_size=250)
    done = cache.take_over(known(1, 2, 3))
    assert (done.adopted, done.removed) == (2, 1)
    assert ids(cache) == ["2", "3"]


def test_it_happens_once(make, old):
    cache = make()
    assert cache.take_over(known(1)) is not None
    (old / "9").write_bytes(b"somebody's file")
    assert cache.take_over(known(1)) is None
    assert make().take_over(known(1)) is None
    assert (old / "9").exists()


def test_a_registry_that_is_away_loses_nothing(make, old):
    def away(image_id):
        raise exception.RegistryUnavailable()

    cache = make()
    with pytest.raises(exception.RegistryUnavailable):
        cache.take_over(away)
    assert (old / "1").exists()
    assert (old / "prefetch" / "4").exists()
    assert cache.take_over(known(1, 2, 3)).adopted == 3


def test_a_link_is_never_followed(make, old, tmp_path):
    (old / "1").unlink()
    (tmp_path / "secret").write_bytes(make_data(100, 1))
    (old / "1").symlink_to(tmp_path / "secret")
    cache = make()
    assert cache.take_over(known(1)).adopted == 0
    assert (tmp_path / "secret").exists()
    assert not (old / "1").is_symlink()


def test_the_index_of_essex_is_put_aside(make, old):
    with sqlite3.connect(old / "cache.db") as index:
        index.execute("CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, hits INTEGER)")
    (old / "queue").mkdir()
    (old / "queue" / "4").touch()
    cache = make()
    assert cache.take_over(known(1, 2, 3, 4)).adopted == 3
    assert len(list(old.glob("cache.db.old-*"))) == 1
    assert "4" in [item.image_id for item in cache.queue_list()]


def test_a_new_directory_is_nothing_to_take_over(tmp_path):
    cache = image_cache.ImageCache(Conf({"image_cache_dir": str(tmp_path / "new")}))
    cache.configure()
    assert cache.take_over(known()) is None
    assert (tmp_path / "new" / ".layout").read_text() == "1\n"
    cache.close()


def test_a_directory_of_a_later_layout_is_left_alone(tmp_path):
    (tmp_path / ".layout").write_text("2\n")
    cache = image_cache.ImageCache(Conf({"image_cache_dir": str(tmp_path)}))
    with pytest.raises(exception.CacheUnavailable, match="another version"):
        cache.configure()
    assert (tmp_path / ".layout").read_text() == "2\n"
    assert not (tmp_path / "cache.db").exists()

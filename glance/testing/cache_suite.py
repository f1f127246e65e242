"""The tests that every index driver of the image cache must pass, as a class to inherit from.

The test module of a driver only names it::

    class TestMyDriver(CacheDriverSuite):
        driver = "mypackage.mymodule.MyDriver"

It is parted as an index is (`glance.image_cache.index`): `EntriesSuite`, `QueueSuite` and
`CountersSuite` ask for what each part must guarantee, `TransactionSuite` for what holds them
together. Most tests use `ImageCache`, so they check what the services rely on.
"""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import random
import time
from typing import Any, ClassVar

import pytest

from glance import image_cache
from glance.common import exception
from glance.common.config import Conf
from glance.image_cache import (
    COMPLETE,
    IN_PROGRESS,
    INCOMPLETE,
    INVALID,
    QUEUED,
    CacheRefused,
    Image,
    QueueItem,
    layout,
)
from glance.image_cache.index.counters import COUNTERS, Access
from glance.streaming import body

NAMES = [None, "", "web node", "Bücher \N{SNOWMAN}", "a" * 255]


def make_data(size: int, seed: object = 0) -> bytes:
    """Return `size` bytes that are the same in every run."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def image_of(data: bytes, image_id: object = 1, name: str | None = None) -> Image:
    """Return the image that a registry would describe for `data`."""
    return Image(str(image_id), len(data), hashlib.md5(data).hexdigest(), name)


def fetched(cache: image_cache.ImageCache, image: Image) -> bytes | None:
    """Return an image from the cache as a client gets it, None for a miss."""
    found = cache.open(image)
    if found is None:
        return None
    with found:
        data = b"".join(found)
    found.count_hit(len(data), True)
    return data


def store(
    cache: image_cache.ImageCache, data: bytes, image_id: object = 1, **fields: Any
) -> Image:
    """Store an image in the cache."""
    image = image_of(data, image_id, **fields)
    cache.store(image, body.IterBody([data[:7], data[7:]] if data else []))
    return image


def ids(cache: image_cache.ImageCache, state: str = COMPLETE) -> list[str]:
    return [entry.image_id for entry in cache.entries(state)]


def files(cache: image_cache.ImageCache, top: str) -> list[str]:
    return sorted(item.name for item in cache.directory.files(top))


def used(cache: image_cache.ImageCache) -> int:
    """Return the size in bytes of all files of the cache."""
    tops = (layout.ENTRIES, layout.INCOMPLETE, layout.INVALID)
    return sum(item.stat().st_size for top in tops for item in cache.directory.files(top))


class DriverFixtures:
    """What all parts of the suite need: caches with the driver, on one directory."""

    driver: ClassVar[str]

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> dict[str, Any]:
        return {
            "image_cache_enabled": True,
            "image_cache_dir": str(tmp_path / "cache"),
            "image_cache_driver": self.driver,
            "image_cache_max_size": 1000,
            "image_cache_percent_extra_to_free": 0.0,
            "image_cache_min_free_disk": 0,
        }

    @pytest.fixture
    def make(self, options):
        made = []

        def make(**changes: Any) -> image_cache.ImageCache:
            cache = image_cache.ImageCache(Conf({**options, **changes}))
            cache.configure()
            made.append(cache)
            return cache

        yield make
        for cache in made:
            cache.close()

    @pytest.fixture
    def cache(self, make):
        return make()


class EntriesSuite(DriverFixtures):
    """Entries: what is found, what is never served, writing, limits, upkeep."""

    # -- finding ---------------------------------------------------------------------------------

    def test_what_was_stored_is_found(self, cache):
        data = make_data(100)
        image = store(cache, data)
        assert fetched(cache, image) == data
        assert files(cache, layout.INCOMPLETE) == []

    def test_an_entry_knows_what_it_is(self, cache):
        before = time.time()
        data = make_data(100)
        image = store(cache, data, name="web node")
        entry = cache.entry(1)
        assert (entry.image_id, entry.state, entry.size) == ("1", COMPLETE, 100)
        assert (entry.checksum, entry.name, entry.hits) == (image.checksum, "web node", 0)
        assert before <= entry.created_at <= entry.modified_at <= time.time()
        assert entry.accessed_at >= before
        assert (entry.writer, entry.error) == (None, None)

    @pytest.mark.parametrize("name", NAMES)
    def test_names_are_kept_as_they_are(self, cache, name):
        store(cache, make_data(10), name=name)
        assert cache.entry(1).name == name

    def test_another_process_finds_it_too(self, cache, make):
        image = store(cache, make_data(100))
        assert fetched(make(), image) == make_data(100)

    def test_a_part_is_read_from_its_offset(self, cache):
        data = make_data(100)
        found = cache.open(store(cache, data), 30, 20)
        with found:
            assert (found.length, found.size, b"".join(found)) == (20, 100, data[30:50])

    @pytest.mark.parametrize(
        "image_id", ["", ".", "..", "../1", "a/b", ".x", "ä", "x" * 201, "a\n"]
    )
    def test_an_id_that_makes_no_file_name_is_not_cached(self, cache, image_id):
        data = make_data(10)
        with pytest.raises(CacheRefused):
            store(cache, data, image_id)
        assert fetched(cache, image_of(data, image_id)) is None

    @pytest.mark.parametrize("image_id", ["a.b", "A-b_c", "0", "x" * 200, "1.0123456789"])
    def test_odd_ids_are_kept_apart(self, cache, image_id):
        image = store(cache, make_data(10, image_id), image_id)
        store(cache, make_data(10), 1)
        assert fetched(cache, image) == make_data(10, image_id)
        assert sorted(ids(cache)) == sorted([image_id, "1"])

    def test_an_image_can_be_deleted_once(self, cache):
        image = store(cache, make_data(10))
        assert cache.delete(1) is True
        assert cache.delete(1) is False
        assert fetched(cache, image) is None
        assert files(cache, layout.ENTRIES) == []

    def test_all_are_deleted_but_what_is_being_written(self, cache):
        for image_id in range(3):
            store(cache, make_data(10), image_id)
        with cache.begin(image_of(make_data(10), 7)):
            assert cache.delete_all() == 3
            assert ids(cache, INCOMPLETE) == ["7"]

    def test_a_file_that_is_being_read_stays_readable_when_it_goes(self, cache):
        with cache.open(store(cache, make_data(100))) as found:
            cache.delete_all()
            assert b"".join(found) == make_data(100)

    # -- what is never served ---------------------------------------------------------------------

    def test_an_image_of_another_size_or_checksum_is_a_miss_and_goes(self, cache):
        for changed in (Image("1", 11, None), Image("1", 10, "0" * 32)):
            store(cache, make_data(10))
            assert cache.open(changed) is None
            assert cache.entry(1) is None

    def test_an_image_whose_checksum_nobody_knows_is_verified_by_size_alone(self, cache):
        data = make_data(10)
        cache.store(Image("1", 10, None), body.IterBody([data]))
        assert fetched(cache, Image("1", 10, None)) == data
        assert cache.entry(1).checksum == hashlib.md5(data).hexdigest()

    def test_a_vanished_file_is_a_miss_and_can_be_cached_again(self, cache):
        data = make_data(10)
        image = store(cache, data)
        os.unlink(cache.directory.full(cache.entry(1).file))
        assert fetched(cache, image) is None
        assert fetched(cache, store(cache, data)) == data

    @pytest.mark.parametrize("change", ["truncate", "grow"])
    def test_a_file_of_another_length_is_a_miss(self, cache, change):
        image = store(cache, make_data(10))
        os.truncate(cache.directory.full(cache.entry(1).file), 5 if change == "truncate" else 15)
        assert fetched(cache, image) is None
        assert ids(cache) == []

    def test_a_changed_byte_is_never_sent(self, cache):
        image = store(cache, make_data(100))
        with open(cache.directory.full(cache.entry(1).file), "r+b") as stream:
            stream.seek(50)
            stream.write(b"\0" if make_data(100)[50] else b"\1")
        assert fetched(cache, image) is None
        until(lambda: ids(cache, INVALID) == ["1"])
        assert "checksum" in cache.entries(INVALID)[0].error

    def test_a_file_that_was_only_touched_is_served_again_when_it_was_read(self, cache):
        image = store(cache, make_data(100))
        os.utime(cache.directory.full(cache.entry(1).file))
        assert fetched(cache, image) is None
        until(lambda: fetched(cache, image) == make_data(100))

    def test_a_symbolic_link_is_never_followed(self, cache, tmp_path):
        data = make_data(100)
        image = store(cache, data)
        path = cache.directory.full(cache.entry(1).file)
        os.rename(path, tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", path)
        assert fetched(cache, image) is None

    # -- writing ---------------------------------------------------------------------------------

    def test_nothing_is_found_before_the_commit(self, cache):
        image = image_of(make_data(10))
        with cache.begin(image) as writer:
            writer.write(make_data(10))
            assert fetched(cache, image) is None
            assert ids(cache, INCOMPLETE) == ["1"]
            writer.commit()
        assert fetched(cache, image) == make_data(10)

    def test_an_image_that_is_given_up_leaves_nothing(self, cache):
        with cache.begin(image_of(make_data(10))) as writer:
            writer.write(make_data(5))
        assert used(cache) == 0
        assert ids(cache, INCOMPLETE) == []
        store(cache, make_data(10))

    def test_only_one_may_write_an_image(self, cache, make):
        with cache.begin(image_of(make_data(10))):
            for other in (cache, make()):
                with pytest.raises(CacheRefused) as caught:
                    other.begin(image_of(make_data(10)))
                assert caught.value.reason == INCOMPLETE

    def test_of_many_at_once_one_gets_to_write(self, make):
        caches = [make() for _ in range(4)]

        def attempt(number: int) -> Any:
            with contextlib.suppress(CacheRefused):
                return caches[number % 4].begin(image_of(make_data(10)))

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            writers = [writer for writer in pool.map(attempt, range(12)) if writer]
        assert len(writers) == 1
        writers[0].abort()

    def test_a_cached_image_is_not_written_again(self, cache):
        store(cache, make_data(10))
        with pytest.raises(CacheRefused) as caught:
            cache.begin(image_of(make_data(10)))
        assert caught.value.reason == COMPLETE

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (make_data(9), exception.ImageSizeMismatch),
            (make_data(11), exception.ImageSizeMismatch),
            (make_data(10, "other"), exception.ChecksumMismatch),
        ],
        ids=["short", "long", "other"],
    )
    def test_wrong_data_becomes_an_invalid_entry(self, cache, data, error):
        image = image_of(make_data(10), name="x")
        with pytest.raises(error):
            cache.store(image, body.IterBody([data]))
        assert fetched(cache, image) is None
        assert ids(cache, INCOMPLETE) == []
        (wrong,) = cache.entries(INVALID)
        assert (wrong.image_id, wrong.name) == ("1", "x")
        assert error.__name__ in wrong.error
        # It does not block another attempt, and several may be kept.
        with pytest.raises(error):
            cache.store(image, body.IterBody([data]))
        assert ids(cache, INVALID) == ["1", "1"]
        assert fetched(cache, store(cache, make_data(10))) == make_data(10)

    def test_an_entry_removed_while_it_is_written_is_not_committed(self, cache, make):
        with cache.begin(image_of(make_data(10))) as writer:
            writer.write(make_data(10))
            make().invalidate(1)
            with pytest.raises(CacheRefused):
                writer.commit()
        assert used(cache) == 0

    def test_what_a_dead_process_was_writing_can_be_written_at_once(self, cache):
        die_writing(cache)
        assert ids(cache, INCOMPLETE) == ["1"]
        assert fetched(cache, store(cache, make_data(10))) == make_data(10)
        assert ids(cache, INCOMPLETE) == []

    # -- limits ----------------------------------------------------------------------------------

    def test_the_least_recently_used_has_to_go(self, cache):
        for image_id in range(4):
            store(cache, make_data(250, image_id), image_id)
        fetched(cache, image_of(make_data(250, 0), 0))
        store(cache, make_data(250, 4), 4)
        assert sorted(ids(cache)) == ["0", "2", "3", "4"]
        assert used(cache) == 1000
        assert cache.stats()["evicted"] == 1

    def test_room_is_taken_before_the_first_byte_comes(self, cache):
        for image_id in range(4):
            store(cache, make_data(250, image_id), image_id)
        with cache.begin(image_of(make_data(600), 9)):
            assert used(cache) == 250
            with pytest.raises(CacheRefused) as caught:
                cache.begin(image_of(make_data(800), 10))
            assert caught.value.reason == "no room"
            assert ids(cache) == ["3"]

    def test_an_image_that_is_too_large_is_refused_and_costs_nothing(self, make):
        cache = make(image_cache_max_entry_size=100)
        store(cache, make_data(100))
        for size in (101, 2000):
            with pytest.raises(CacheRefused):
                cache.begin(image_of(make_data(size), 2))
        assert ids(cache) == ["1"]
        with pytest.raises(CacheRefused):
            make(image_cache_max_size=50).begin(image_of(make_data(60), 3))

    def test_an_image_without_a_known_size_is_refused(self, cache):
        with pytest.raises(CacheRefused):
            cache.begin(Image("1", 0))

    def test_a_full_disk_is_left_to_others(self, make):
        free = os.statvfs("/").f_blocks * os.statvfs("/").f_frsize
        cache = make(image_cache_min_free_disk=free * 2)
        with pytest.raises(CacheRefused):
            store(cache, make_data(10))

    def test_more_than_needed_goes_by_the_fraction(self, make):
        cache = make(image_cache_percent_extra_to_free=0.2)
        for image_id in range(10):
            store(cache, make_data(100, image_id), image_id)
        store(cache, make_data(100, 10), 10)
        assert ids(cache) == [str(number) for number in range(3, 11)]

    def test_invalid_entries_count_and_go_first(self, cache):
        with pytest.raises(exception.ChecksumMismatch):
            cache.store(image_of(make_data(500), 1), body.IterBody([make_data(500, "other")]))
        store(cache, make_data(500), 2)
        store(cache, make_data(300), 3)
        assert ids(cache, INVALID) == []
        assert sorted(ids(cache)) == ["2", "3"]

    @pytest.mark.parametrize(
        ("limit", "fraction", "left"),
        [(1000, 0.2, 4), (750, 0.0, 3), (750, 0.2, 2), (999, 0.0, 3), (100, 0.0, 0)],
    )
    def test_a_prune_goes_down_to_the_limit_and_the_fraction_below(
        self, cache, make, limit, fraction, left
    ):
        for image_id in range(4):
            store(cache, make_data(250, image_id), image_id)
        smaller = make(image_cache_max_size=limit, image_cache_percent_extra_to_free=fraction)
        pruned = smaller.prune()
        assert (pruned.files, pruned.bytes, pruned.enough) == (4 - left, 250 * (4 - left), True)
        assert ids(cache) == [str(number) for number in range(4 - left, 4)]

    def test_an_empty_cache_is_pruned_in_peace(self, make):
        pruned = make(image_cache_max_size=0).prune()
        assert (pruned.files, pruned.enough) == (0, True)

    def test_a_prune_that_cannot_free_enough_says_so(self, make):
        free = os.statvfs("/").f_blocks * os.statvfs("/").f_frsize
        cache = make(image_cache_min_free_disk=free * 2)
        assert cache.prune().enough is False

    # -- upkeep ----------------------------------------------------------------------------------

    def test_invalid_entries_are_kept_for_their_grace(self, cache, make):
        with pytest.raises(exception.ChecksumMismatch):
            cache.store(image_of(make_data(10)), body.IterBody([make_data(10, "other")]))
        assert cache.clean().invalid == 0
        assert cache.delete_all(INVALID, grace=60) == 0
        assert make(image_cache_invalid_entry_grace_period=0).clean().invalid == 1
        assert used(cache) == 0

    def test_invalid_entries_can_be_removed_at_once(self, cache):
        with pytest.raises(exception.ChecksumMismatch):
            cache.store(image_of(make_data(10)), body.IterBody([make_data(10, "other")]))
        assert cache.delete_all(INVALID) == 1
        assert ids(cache, INVALID) == []

    def test_recovery_removes_what_dead_writers_left_and_nothing_else(self, cache):
        image = store(cache, make_data(20), 2)
        die_writing(cache)
        with cache.begin(image_of(make_data(30), 3)) as writer:
            writer.write(make_data(30))
            assert cache.recover().incomplete == 1
            assert ids(cache, INCOMPLETE) == ["3"]
            writer.commit()
        assert fetched(cache, image) == make_data(20)
        assert sorted(ids(cache)) == ["2", "3"]

    def test_a_writer_that_stands_still_is_given_up_after_the_stall_time(self, cache, make):
        with cache.begin(image_of(make_data(10))) as writer:
            writer.write(make_data(10)[:5])
            assert cache.clean().incomplete == 0
            assert cache.delete_all(INCOMPLETE) == 0
            assert make(image_cache_stall_time=0).clean().incomplete == 1
            writer.write(make_data(10)[5:])
            with pytest.raises(CacheRefused):
                writer.commit()
        assert used(cache) == 0

    def test_strays_are_removed(self, cache, tmp_path):
        image = store(cache, make_data(10))
        (tmp_path / "secret").write_bytes(b"x")
        for number, top in enumerate((layout.ENTRIES, layout.INCOMPLETE, layout.INVALID)):
            os.close(cache.directory.create(f"{top}/stray{number}"))
            os.symlink(tmp_path / "secret", cache.directory.full(f"{top}/link{number}"))
        assert cache.clean().strays == 6
        assert fetched(cache, image) == make_data(10)
        assert (tmp_path / "secret").exists()

    def test_entries_without_a_file_are_removed(self, cache):
        store(cache, make_data(10))
        os.unlink(cache.directory.full(cache.entry(1).file))
        cache.clean()
        assert ids(cache) == []

    def test_images_that_the_registry_does_not_call_active_are_removed(self, cache):
        for image_id in range(4):
            store(cache, make_data(10, image_id), image_id)
        assert cache.clean(lambda ids: {"1", "3"} & set(ids)).inactive == 2
        assert sorted(ids(cache)) == ["1", "3"]

    def test_one_process_of_a_host_cleans_at_a_time(self, cache, make):
        with cache.directory.lock():
            assert make().clean().busy is True
        assert make().clean().busy is False

    def test_verification_finds_the_byte_that_changed(self, cache):
        for image_id in range(3):
            store(cache, make_data(100, image_id), image_id)
        damaged = cache.directory.full(cache.entry(1).file)
        with open(damaged, "r+b") as stream:
            stream.write(bytes([make_data(100, 1)[0] ^ 1]))
        found = cache.verify()
        assert (found.entries, found.bytes) == (3, 300)
        assert [entry.image_id for entry in found.bad] == ["1"]
        assert sorted(ids(cache)) == ["0", "2"]
        assert ids(cache, INVALID) == ["1"]

    # -- what only drivers see -------------------------------------------------------------------

    def test_an_entry_that_has_changed_is_left_alone(self, cache):
        store(cache, make_data(10))
        entries = cache.index.entries
        old = cache.entry(1)
        cache.delete(1)
        store(cache, make_data(10, "new"))
        assert entries.remove(old) is False
        assert entries.condemn(old, "wrong") is None
        assert entries.commit(old, old) is False
        assert cache.entry(1).checksum == hashlib.md5(make_data(10, "new")).hexdigest()
        assert used(cache) == 10

    def test_a_commit_that_comes_too_late_leaves_the_file_alone(self, cache):
        entries = cache.index.entries
        with cache.begin(image_of(make_data(10))) as writer:
            writer.write(make_data(10))
            (entry,) = cache.entries(INCOMPLETE)
            file = cache.directory.entry_file("1")
            done = dataclasses.replace(entry, state=COMPLETE, file=file, size=10)
            assert entries.remove(entry) is True
            assert entries.commit(entry, done) is False
            assert entries.progress(entry, 10) is False
        assert cache.entries() == []
        assert files(cache, layout.ENTRIES) == []

    def test_what_has_to_go_first(self, cache):
        now = time.time()
        for image_id, size in enumerate((100, 300, 200, 50)):
            store(cache, make_data(size, image_id), image_id)
        with pytest.raises(exception.ChecksumMismatch):
            cache.store(image_of(make_data(10), 9), body.IterBody([make_data(10, "other")]))
        index = cache.index
        # Used at the same time: the larger one first.
        index.counters.add({}, [Access(str(image_id), 1, now + 60) for image_id in (1, 2)])
        entries = index.entries
        assert [found.image_id for found in entries.victims(10**9, now + 60)] == list("90312")
        assert [found.image_id for found in entries.victims(161, now + 60)] == list("9031")
        assert [found.image_id for found in entries.victims(1, now + 60)] == ["9"]
        assert entries.victims(0, now + 60) == []
        middle = cache.entry(1).modified_at
        young = [found.image_id for found in entries.victims(10**9, middle)]
        assert young == list("90132")

    def test_room_is_counted_with_what_is_still_to_come(self, cache):
        store(cache, make_data(100), 1)
        with cache.begin(image_of(make_data(300), 2)) as writer:
            writer.write(make_data(300)[:10])
            assert cache.index.entries.total_size() == 400
        assert cache.index.entries.total_size() == 100


class QueueSuite(DriverFixtures):
    """The prefetch queue: order, who takes what, what becomes of it."""

    def test_queued_images_come_in_their_order(self, cache, make):
        for image_id in (3, 1, 2):
            cache.queue_add(Image(str(image_id), 10, name=f"n{image_id}"))
        assert [item.image_id for item in make().queue_list()] == ["3", "1", "2"]
        assert cache.queue_list()[0].name == "n3"
        assert cache.stats()["queued"] == 3
        assert [cache.queue_take().image_id for _ in range(3)] == ["3", "1", "2"]
        assert cache.queue_take() is None

    def test_an_image_is_queued_once(self, cache):
        image = image_of(make_data(10))
        cache.queue_add(image)
        for reason in ("queued", "in-progress"):
            with pytest.raises(CacheRefused) as caught:
                cache.queue_add(image)
            assert caught.value.reason == reason
            cache.queue_take()
        store(cache, make_data(10), 2)
        with pytest.raises(CacheRefused) as caught:
            cache.queue_add(image_of(make_data(10), 2))
        assert caught.value.reason == COMPLETE
        with (
            cache.begin(image_of(make_data(10), 3)),
            pytest.raises(CacheRefused) as caught,
        ):
            cache.queue_add(image_of(make_data(10), 3))
        assert caught.value.reason == INCOMPLETE

    def test_an_image_that_gets_cached_leaves_the_queue(self, cache):
        cache.queue_add(image_of(make_data(10)))
        store(cache, make_data(10))
        assert cache.queue_list() == []

    def test_a_failed_image_waits_longer_each_time_and_is_dropped_in_the_end(self, cache):
        cache.queue_add(image_of(make_data(10)))
        item = cache.queue_take()
        pauses = []
        for _ in range(5):
            assert cache.queue_return(item, exception.BackendUnavailable()) is True
            (item,) = cache.queue_list()
            assert (item.state, item.owner) == ("queued", None)
            assert item.last_error == "BackendUnavailable"
            pauses.append(round(item.not_before - time.time(), -1))
            assert cache.queue_take() is None
        assert pauses == [60, 120, 240, 480, 960]
        assert cache.queue_return(item, exception.BackendUnavailable()) is False
        assert cache.queue_list() == []

    def test_an_image_put_back_without_an_error_comes_again_at_once(self, cache):
        cache.queue_add(image_of(make_data(10)))
        item = cache.queue_take()
        cache.queue_return(item)
        assert cache.queue_take().attempts == 0

    def test_what_a_dead_process_was_fetching_is_queued_again(self, cache):
        cache.queue_add(image_of(make_data(10), 1))
        cache.queue_add(image_of(make_data(10), 2))
        in_child(cache.queue_take)
        mine = cache.queue_take()
        assert cache.clean().requeued == 1
        states = {item.image_id: item.state for item in cache.queue_list()}
        assert states == {"1": "queued", "2": "in-progress"}
        cache.queue_done(mine)
        assert [item.image_id for item in cache.queue_list()] == ["1"]

    def test_only_waiting_images_can_be_taken_off_the_queue(self, cache):
        for image_id in range(3):
            cache.queue_add(Image(str(image_id), 10))
        cache.queue_take()
        assert cache.queue_delete(0) is False
        assert cache.queue_delete(7) is False
        assert cache.queue_delete(1) is True
        assert cache.queue_delete_all() == 1
        assert [item.image_id for item in cache.queue_list()] == ["0"]

    def test_each_of_many_takes_another_image(self, make):
        caches = [make() for _ in range(4)]
        for image_id in range(12):
            caches[0].queue_add(Image(str(image_id), 10))
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            taken = list(pool.map(lambda number: caches[number % 4].queue_take(), range(14)))
        found = [item.image_id for item in taken if item is not None]
        assert sorted(found, key=int) == [str(image_id) for image_id in range(12)]

    def test_an_image_whose_time_has_not_come_is_passed_over(self, cache):
        queue = cache.index.queue
        first, second = QueueItem("1", "x", 1.0, not_before=100.0), QueueItem("2", None, 2.0)
        assert [queue.add(item) for item in (first, second)] == [True, True]
        assert queue.add(dataclasses.replace(first, name="y")) is False
        assert queue.items() == [first, second]
        taken = queue.take("me", 99.0)
        assert taken == dataclasses.replace(second, state=IN_PROGRESS, owner="me")
        assert queue.take("me", 99.0) is None
        assert queue.take("me", 100.0).image_id == "1"

    def test_an_image_that_left_the_queue_is_not_put_back(self, cache):
        queue = cache.index.queue
        queue.add(QueueItem("1", None, 1.0))
        taken = queue.take("me", 2.0)
        assert queue.remove("1", only=QUEUED) is False
        assert queue.remove("1") is True
        queue.put_back(taken)
        assert queue.items() == []


class CountersSuite(DriverFixtures):
    """Reads of entries, and counters."""

    def test_reads_are_written_down_later_and_seen_at_once_by_who_counted_them(self, cache):
        image = store(cache, make_data(10))
        committed = cache.entry(1).accessed_at
        for _ in range(3):
            fetched(cache, image)
        assert cache.index.entries.lookup("1").hits == 0
        assert [entry.hits for entry in cache.entries()] == [3]
        assert cache.entry(1).hits == cache.index.entries.lookup("1").hits == 3
        assert cache.entry(1).accessed_at > committed
        assert cache.stats()["hits"] == 3

    def test_a_body_of_which_nothing_was_sent_is_no_read(self, cache):
        found = cache.open(store(cache, make_data(10)))
        found.close()
        found.count_hit(0, False)
        cache.flush()
        assert cache.entry(1).hits == 0

    def test_counters_add_up_whoever_counts(self, make):
        caches = [make() for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(
                lambda number: caches[number % 4].index.counters.add({"hits": 1, "misses": 2}),
                range(16),
            ):
                pass
        totals = make().index.counters.totals()
        assert totals == {**dict.fromkeys(COUNTERS, 0), "hits": 16, "misses": 32}

    def test_the_time_of_the_last_use_never_goes_back(self, cache):
        store(cache, make_data(10))
        now = cache.entry(1).accessed_at
        for when in (now + 20, now + 10):
            cache.index.counters.add({}, [Access("1", 2, when), Access("unknown", 1, when)])
        assert (cache.entry(1).hits, cache.entry(1).accessed_at) == (4, now + 20)
        assert [entry.image_id for entry in cache.entries()] == ["1"]


class TransactionSuite(DriverFixtures):
    """What is done to several parts in one step."""

    def test_an_error_undoes_what_was_done_to_all_parts(self, cache):
        index = cache.index
        index.queue.add(QueueItem("1", None, 1.0))
        with contextlib.suppress(ZeroDivisionError), index.transaction():
            index.queue.remove("1")
            index.queue.add(QueueItem("2", None, 1.0))
            index.counters.add({"hits": 1})
            # Who does it sees it.
            assert [item.image_id for item in index.queue.items()] == ["2"]
            assert index.counters.totals()["hits"] == 1
            raise ZeroDivisionError
        assert [item.image_id for item in index.queue.items()] == ["1"]
        assert index.counters.totals()["hits"] == 0

    def test_others_are_kept_out(self, make):
        indexes = [make().index for _ in range(4)]

        def add_if_empty(number: int) -> bool:
            index = indexes[number % 4]
            with index.transaction():
                if index.queue.items():
                    return False
                time.sleep(0.01)
                added: bool = index.queue.add(QueueItem(str(number), None, 1.0))
                return added

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(add_if_empty, range(8))) == 1
        assert len(indexes[0].queue.items()) == 1

    def test_an_image_that_does_not_get_cached_stays_in_the_queue(self, cache, make):
        with cache.begin(image_of(make_data(10))) as writer:
            cache.index.queue.add(QueueItem("1", None, 1.0))
            writer.write(make_data(10))
            cache.index.entries.remove(cache.entries(INCOMPLETE)[0])
            with pytest.raises(CacheRefused):
                writer.commit()
        assert [item.image_id for item in cache.queue_list()] == ["1"]

    def test_a_forgotten_image_leaves_entries_and_queue(self, cache):
        store(cache, make_data(10))
        cache.index.queue.add(QueueItem("1", None, 1.0))
        cache.invalidate(1)
        assert (cache.entries(), cache.queue_list()) == ([], [])


class CacheDriverSuite(EntriesSuite, QueueSuite, CountersSuite, TransactionSuite):
    """All parts; see the module."""


def until(happened: Any, seconds: float = 10) -> None:
    """Wait until `happened` returns something true."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def in_child(act: Any) -> None:
    """Run `act` in a separate process that dies without cleaning up."""
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def die_writing(cache: image_cache.ImageCache) -> None:
    """Leave half of image 1, as a killed process does."""

    def write() -> None:
        writer = cache.begin(image_of(make_data(10)))
        writer.write(make_data(5))
        os._exit(0)

    in_child(write)

"""Entries: what is found, what is never served, writing, limits, upkeep."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import time
from typing import Any

import pytest

from glance.common import exception
from glance.image_cache import (
    COMPLETE,
    INCOMPLETE,
    INVALID,
    CacheRefused,
    Image,
    layout,
)
from glance.image_cache.index.counters import Access
from glance.streaming import body
from glance.testing.cache_suite.material import (
    NAMES,
    DriverFixtures,
    die_writing,
    fetched,
    files,
    ids,
    image_of,
    make_data,
    store,
    until,
    used,
)


class EntriesSuite(DriverFixtures):
    """Entries: what is found, what is never served, writing, limits, upkeep."""

    # -- finding ---------------------------------------------------------------------------------

    def test_what_was_stored_is_found(self, cache):
        data = make_data(100)
        image = store(cache, data)
        assert fetched(cache, image) == data
        assert files(cache, layout.INCOMPLETE) == []

    @pytest.mark.parametrize("end", [b"", b"end"], ids=["zeros at the end", "data at the end"])
    def test_zeros_take_no_room_on_the_disk_but_count(self, make, end):
        cache = make(image_cache_max_size=1_000_000)
        data = make_data(5000) + bytes(600_000) + end
        image = store(cache, data)
        assert fetched(cache, image) == data
        assert cache.entry(1).size == cache.total_size() == len(data)
        [file] = cache.directory.files(layout.ENTRIES)
        assert file.stat().st_blocks * 512 < 100_000

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

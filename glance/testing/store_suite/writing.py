"""The tests of stores that write: adding, failures, deleting, listing, sweeping."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import threading
import time

import pytest

from glance.common import exception
from glance.store import base
from glance.store.base import CHUNK, Capability
from glance.streaming.body import Readable
from glance.testing.store_suite.material import (
    BAD_IDS,
    GOOD_IDS,
    SIZES,
    Boom,
    Killed,
    ScriptedSource,
    about_few_bytes,
    about_texts,
    descriptors,
    failing_after,
    make_data,
)
from glance.testing.store_suite.reading import StoreSuite


class WritableStoreSuite(StoreSuite):
    """For stores that write and delete."""

    def put(self, store: base.Store, image_id: str, data: bytes) -> str:
        return store.add(image_id, ScriptedSource(data), len(data)).location

    def remove(self, store: base.Store, uri: str) -> None:
        with contextlib.suppress(exception.NotFound):
            store.delete(self.locate(store, uri))

    def add(
        self,
        store: base.Store,
        image_id: str,
        source: Readable,
        size: int | None = None,
    ) -> base.AddResult:
        """Add data for the duration of one test."""
        result = store.add(image_id, source, size)
        self.uris.append(result.location)
        return result

    def test_where_an_upload_goes_is_known_before(self, store):
        known = store.uri_of("17")
        assert known in (None, self.add(store, "17", ScriptedSource(b"data"), 4).location)

    def test_a_store_that_can_be_used_passes_its_check_and_nothing_is_written(self, store):
        self.keep(store, "1", b"data")
        before = sorted(self.contents(store))
        store.check()
        assert sorted(self.contents(store)) == before

    #: Options that storing needs.
    required: tuple[str, ...] = ()

    #: Sizes in bytes at which the driver changes how it stores data, for example to segments.
    borders: tuple[int, ...] = ()

    @pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
    @pytest.mark.parametrize("beside", [-1, 0, 1])
    def test_sizes_around_the_borders_are_stored_whole(self, store, beside, known):
        for number, border in enumerate(self.borders):
            data = make_data(border + beside)
            size = len(data) if known else None
            location, written, checksum = self.add(store, f"b{number}", ScriptedSource(data), size)
            assert (written, checksum) == (len(data), hashlib.md5(data).hexdigest())
            with store.get(self.locate(store, location)) as body:
                assert b"".join(body) == data

    @about_few_bytes
    def test_stored_locations_hold_no_credentials(self, store):
        location = self.keep(store, "1", b"data")
        assert not location.store_location.has_credentials
        assert self.canary is None or self.canary not in location.uri(secret=True)

    @about_few_bytes
    def test_without_a_required_option_adding_is_refused_and_old_locations_work(self, store):
        uri = self.with_credentials(self.keep(store, "1", b"data").uri(secret=True))
        for option in self.required:
            lame = self.store_without(option)
            assert lame is not None
            assert option in (lame.add_disabled or "")
            source = ScriptedSource(b"data")
            with pytest.raises(exception.StoreAddDisabled):
                lame.add("2", source, 4)
            assert source.count == 0
            assert lame.sweep() == []
            if uri is not None:
                with lame.get(self.locate(lame, uri)) as body:
                    assert b"".join(body) == b"data"

    @about_texts
    def test_it_declares_writing_and_deleting(self, store):
        assert Capability.WRITE in store.capabilities
        assert Capability.DELETE in store.capabilities
        assert store.add_disabled is None
        store.require_add()

    # -- adding --

    @pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
    @pytest.mark.parametrize("size", SIZES)
    def test_add_stores_every_byte_and_tells_size_and_md5(self, store, size, known):
        data = make_data(size)
        location, written, checksum = self.add(
            store, "1", ScriptedSource(data), size if known else None
        )
        assert written == size
        assert checksum == hashlib.md5(data).hexdigest()
        with store.get(self.locate(store, location)) as body:
            assert b"".join(body) == data

    @pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
    @pytest.mark.parametrize("end", [b"", b"end"], ids=["zeros at the end", "data at the end"])
    def test_zeros_are_stored_like_any_bytes(self, store, end, known):
        data = bytes(70_000) + b"begin" + bytes(CHUNK) + make_data(5000) + bytes(CHUNK) + end
        size = len(data) if known else None
        location, written, checksum = self.add(store, "1", ScriptedSource(data), size)
        assert (written, checksum) == (len(data), hashlib.md5(data).hexdigest())
        where = self.locate(store, location)
        assert store.get_size(where) == len(data)
        with store.get(where) as body:
            assert b"".join(body) == data

    @pytest.mark.parametrize("declared", [1, 999, 1001, 5 * CHUNK])
    def test_a_wrong_declared_size_is_not_believed(self, store, declared):
        data = make_data(1000)
        location, written, _ = self.add(store, "1", ScriptedSource(data), declared)
        assert written == 1000
        assert store.get_size(self.locate(store, location)) == 1000

    def test_reads_may_be_short(self, store):
        data = make_data(CHUNK + 5000)

        class Short(ScriptedSource):
            def read(self, size: int) -> bytes:
                return super().read(min(size, 70001))

        location, _, checksum = self.add(store, "1", Short(data))
        assert checksum == hashlib.md5(data).hexdigest()

    @about_few_bytes
    @pytest.mark.parametrize("image_id", GOOD_IDS)
    def test_every_plain_name_is_a_good_id(self, store, image_id):
        location = self.keep(store, image_id, b"data")
        assert store.get_size(location) == 4
        assert store.owns(location, image_id)
        assert not store.owns(location, "other")

    @about_texts
    @pytest.mark.parametrize("image_id", BAD_IDS)
    def test_an_id_that_could_be_a_path_is_an_error_of_the_program(self, store, image_id):
        with pytest.raises(ValueError):
            store.add(image_id, ScriptedSource(b"data"), 4)

    def test_a_second_add_is_refused_and_leaves_the_first_intact(self, store):
        data = make_data(CHUNK + 1)
        location = self.keep(store, "1", data)
        source = ScriptedSource(b"other")
        with pytest.raises(exception.StoreObjectExists) as caught:
            store.add("1", source, 5)
        self.check_text(store, caught.value)
        with store.get(location) as body:
            assert b"".join(body) == data

    def test_of_concurrent_adds_one_wins(self, store):
        count = 4
        barrier = threading.Barrier(count)
        results: list[tuple[str, str] | exception.StoreError] = []

        def add(number: int) -> None:
            data = make_data(CHUNK + number, seed=number)
            try:
                with store.stage("1", None) as staged:
                    received = base.transfer(ScriptedSource(data), staged)
                    with contextlib.suppress(threading.BrokenBarrierError):
                        barrier.wait(10)
                    results.append((staged.commit(), received.checksum))
            except exception.StoreError as err:
                barrier.abort()
                results.append(err)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        winners = {result[1]: result[0] for result in results if isinstance(result, tuple)}
        assert len(results) == count
        if self.exclusive:
            assert len(winners) == 1
            losers = [result for result in results if not isinstance(result, tuple)]
            assert all(isinstance(err, exception.StoreObjectExists) for err in losers)
        if not winners:
            assert self.contents(store) == []
            return
        uri = next(iter(winners.values()))
        self.uris.append(uri)
        try:
            found = store.get(self.locate(store, uri))
        except exception.StoreObjectNotFound:
            # NOTE: in a store that is not exclusive, two writes at the same moment can both
            # succeed, and one that then fails removes the object. The registry keeps them apart.
            assert not self.exclusive and len(winners) < count
            return
        with found as body:
            assert hashlib.md5(b"".join(body)).hexdigest() in winners

    def test_memory_stays_flat_whatever_the_size(self, store):
        block = make_data(CHUNK)
        page, peak, left = os.sysconf("SC_PAGE_SIZE"), 0, 64

        def resident() -> int:
            with open("/proc/self/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * page

        class Endless:
            def read(self, size: int) -> bytes:
                nonlocal left, peak
                peak = max(peak, resident())
                left -= 1
                # A new object each time, as from a socket.
                return bytes(bytearray(block)) if left >= 0 else b""

        before = resident()
        assert self.add(store, "1", Endless()).size == 64 * CHUNK
        assert peak - before < 64 * 1024 * 1024

    # -- failures leave nothing (the fixture checks that the backend is empty) --

    @pytest.mark.parametrize("error", [Boom(), Killed()], ids=["error", "kill"])
    @pytest.mark.parametrize("after", [0, 1, CHUNK, 3 * CHUNK])
    def test_a_reader_that_raises_leaves_nothing(self, store, after, error):
        source = ScriptedSource(make_data(4 * CHUNK), failing_after(after, error))
        with pytest.raises(type(error)):
            store.add("1", source, 4 * CHUNK)
        assert self.contents(store) == []

    @about_few_bytes
    def test_leaving_without_commit_leaves_nothing(self, store):
        with store.stage("1", 10) as staged:
            staged.write(b"data")
        assert self.contents(store) == []

    def test_a_staged_write_names_the_store(self, store):
        with store.stage("1", 4) as staged:
            assert staged.store_name == store.name

    @about_few_bytes
    def test_abort_may_be_called_twice_and_ends_the_write(self, store):
        staged = store.stage("1", None)
        staged.write(b"data")
        staged.abort()
        staged.abort()
        with pytest.raises(ValueError):
            staged.write(b"more")

    @about_few_bytes
    def test_abort_after_commit_keeps_the_data(self, store):
        with store.stage("1", 4) as staged:
            staged.write(b"data")
            self.uris.append(staged.commit())
            staged.abort()
        assert store.get_size(self.locate(store, self.uris[0])) == 4

    @about_few_bytes
    def test_a_stage_that_is_dropped_leaves_nothing(self, store):
        staged = store.stage("1", 4)
        staged.write(b"data")
        del staged
        gc.collect()
        assert self.contents(store) == []

    def test_a_failed_add_can_be_repeated(self, store):
        with pytest.raises(Boom):
            store.add("1", ScriptedSource(make_data(CHUNK), failing_after(1, Boom())), CHUNK)
        assert self.keep(store, "1", b"data")

    def test_adds_that_fail_and_succeed_leak_no_descriptor(self, store):
        self.keep(store, "warm-up", make_data(2 * CHUNK))
        before = descriptors()
        for number in range(3):
            self.keep(store, f"good-{number}", make_data(2 * CHUNK))
            with pytest.raises(Boom):
                store.add(
                    "bad", ScriptedSource(make_data(3 * CHUNK), failing_after(CHUNK, Boom())), 0
                )
            with pytest.raises(exception.StoreObjectExists):
                store.add("good-0", ScriptedSource(b"x"), 1)
        assert descriptors() <= before

    # -- deleting --

    def test_delete_removes_the_data_and_a_second_one_finds_nothing(self, store):
        location = self.keep(store, "1", make_data(CHUNK + 1))
        store.delete(location)
        assert self.contents(store) == []
        with pytest.raises(exception.StoreObjectNotFound) as caught:
            store.delete(location)
        self.check_text(store, caught.value)

    def test_delete_leaves_similar_names_alone(self, store):
        location = self.keep(store, "1", b"x")
        others = [self.keep(store, name, b"x") for name in ("10", "1-extra", "11-00001")]
        store.delete(location)
        assert [store.get_size(other) for other in others] == [1, 1, 1]

    def test_reading_goes_on_while_the_data_is_deleted_or_fails(self, store):
        data = make_data(3 * CHUNK)
        location = self.keep(store, "1", data)
        with store.get(location) as body:
            chunks = iter(body)
            found = next(chunks)
            store.delete(location)
            try:
                for chunk in chunks:
                    found += chunk
            except exception.StoreError:
                assert not self.survives_deletion
                assert data.startswith(found)
                return
            assert found == data

    # -- listing --

    def test_a_list_shows_what_is_stored_with_its_size_and_where(self, store):
        if Capability.LIST not in store.capabilities:
            with pytest.raises(NotImplementedError):
                store.list_objects()
            return
        started = time.time()
        sizes = {"1": 0, "10": 5, "big": 2 * CHUNK + 17}
        kept = {name: self.keep(store, name, make_data(size)) for name, size in sizes.items()}
        found = {entry.image_id: entry for entry in store.list_objects()}
        assert {name: entry.size for name, entry in found.items()} == sizes
        for name, entry in found.items():
            located = self.locate(store, entry.location)
            assert located.store_location.name_in_store() == (
                kept[name].store_location.name_in_store()
            )
            assert store.owns(located, name)
            # The backend may return whole seconds, and may have another clock.
            assert entry.modified is None or abs(entry.modified - started) < 300
        store.delete(self.locate(store, found["big"].location))
        assert {entry.image_id for entry in store.list_objects()} == {"1", "10"}

    def test_a_list_of_nothing_is_empty(self, store):
        if Capability.LIST in store.capabilities:
            assert list(store.list_objects()) == []

    @about_few_bytes
    def test_a_write_that_ended_well_or_was_cleaned_up_leaves_nothing_over(self, store):
        with store.stage("1", 4) as staged:
            staged.write(b"data")
        assert staged.leftovers() == []
        with store.stage("1", 4) as staged:
            staged.write(b"data")
            self.uris.append(staged.commit())
        assert staged.leftovers() == []

    # -- sweeping --

    def test_a_sweep_spares_uploads_in_progress_and_what_is_stored(self, store):
        location = self.keep(store, "1", b"data")
        with store.stage("2", None) as staged:
            staged.write(b"more")
            assert store.sweep() == []
            self.uris.append(staged.commit())
        assert store.get_size(location) == 4
        assert store.get_size(self.locate(store, self.uris[-1])) == 4

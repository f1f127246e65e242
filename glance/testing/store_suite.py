"""The tests that every store driver must pass, as classes to inherit from.

The test module of a driver is a fixture and a few lines::

    class TestMyStore(WritableStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return mystore.Store(Conf({"mystore_dir": str(tmp_path)}))

        def contents(self, store):
            return os.listdir(store.directory)

`WritableStoreSuite` is for stores that read, write and delete, `ReadOnlyStoreSuite` for those that
only read; its test module also defines how data gets into the backend (`put`). A driver must
refuse what its capabilities do not declare, which is tested as well. After each test the backend
must be empty again.

A driver that has passed all cases once may be judged in further configurations without those that
can come to nothing new: `class TestMyStoreInParts(MyStoreSuite, differs_in="layout")` leaves out
the cases about texts and those about images of a few bytes, `differs_in="access"` the former.
"""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from glance.common import exception
from glance.store import base
from glance.store.base import CHUNK, Capability
from glance.store.location import Location, get_location_from_uri
from glance.streaming.body import Readable

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 17]
GOOD_IDS = ["1", "0a", "A.b_c-d", "9..9", "x" * 255]
GOOD_URIS = [
    "file:///srv/images/17",
    "http://mirror.example.net/disk7",
    "https://ann:pw1@mirror.example.net:8443/iso/disk7",
    "swift://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+https://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+http://ann:pw1@auth.example.net:8080/v1/boxes/17",
    "swift://auth.example.net/boxes/17",
    "s3://AKEY:SKEY@s3.example.net/pail/17",
    "s3+http://AKEY:SKEY@s3.example.net/pail/17",
    "s3+https://AKEY:SKEY@s3.example.net/pail/17",
]
BAD_URIS = [
    "file://",
    "file://relative/17",
    "http://",
    "http://ann@mirror.example.net:8443/disk7",
    "swift://",
    "swift://ann@auth.example.net:8080/boxes/17",
    "swift://ann:pw1@http://auth.example.net:8080/boxes/17",
    "swift://a:b:c:d@auth.example.net/boxes/17",
    "swift://ann:pw1@auth.example.net/17",
    "s3://",
    "s3://AKEY@s3.example.net:8080/pail/17",
    "s3://AKEY:SKEY@http://s3.example.net:8080/pail/17",
    "s3://pail/17",
]
BAD_IDS = ["", ".", "..", "../x", ".hidden", "a/b", "a\0b", "-x", "a\n", "ä", "x" * 256, 7]


def make_data(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that are the same in every run and have no repetition."""
    return random.Random(f"{size}/{seed}").randbytes(size)


class ScriptedSource:
    """The source of an upload: `data`, in reads of at most the requested size.

    `fault` is called before each read with the number of bytes returned so far; it may raise.
    """

    def __init__(self, data: bytes, fault: Callable[[int], object] = lambda count: None):
        self.data, self.fault, self.count = data, fault, 0

    def read(self, size: int) -> bytes:
        self.fault(self.count)
        chunk = self.data[self.count : self.count + size]
        self.count += len(chunk)
        return chunk


class Boom(Exception):
    """The error that the tests inject."""


class Killed(BaseException):
    """Like the kill of a greenthread: no Exception, so that no broad handler stops it."""


def failing_after(count: int, error: BaseException) -> Callable[[int], None]:
    """Return a fault that raises `error` once `count` bytes have been returned."""

    def fault(done: int) -> None:
        if done >= count:
            raise error

    return fault


_Case = TypeVar("_Case", bound=Callable[..., None])


def about_texts(case: _Case) -> _Case:
    """Mark a case that asks no backend."""
    case.about = "texts"  # type: ignore[attr-defined]  # as a mark
    return case


def about_few_bytes(case: _Case) -> _Case:
    """Mark a case whose images are too small for a layout of their own."""
    case.about = "few bytes"  # type: ignore[attr-defined]  # as a mark
    return case


#: In what a configuration may differ from one that has passed -> what its cases need not be about.
SAME = {"access": ("texts",), "layout": ("texts", "few bytes")}


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class StoreSuite:
    """The tests of reading, for both kinds of stores."""

    #: A text in every secret that the test module configures: no text of the driver may show it,
    #: and no log at any level.
    canary: str | None = None

    #: Whether the backend can refuse the second of two simultaneous writes of one object. If it
    #: cannot, only the registry's records keep two uploads of one image apart; the stored data
    #: must still be the whole data of one of them.
    exclusive: bool = True

    #: Whether an open body can be read to its end although its data is deleted meanwhile. If it
    #: cannot, reading must fail.
    survives_deletion: bool = True

    def __init_subclass__(cls, *, differs_in: str | None = None) -> None:
        super().__init_subclass__()
        known = SAME[differs_in] if differs_in else ()
        for name in dir(cls):
            if getattr(getattr(cls, name), "about", None) in known:
                setattr(cls, name, None)

    @pytest.fixture
    def store(self) -> base.Store:
        """Return the store under test, with an empty backend."""
        raise NotImplementedError

    def contents(self, store: base.Store) -> list[str]:
        """Return the names of everything in the backend, complete or not."""
        raise NotImplementedError

    def put(self, store: base.Store, image_id: str, data: bytes) -> str:
        """Put data into the backend and return its storage URI."""
        raise NotImplementedError

    def remove(self, store: base.Store, uri: str) -> None:
        """Remove data from the backend, if it exists."""
        raise NotImplementedError

    def uri_at(self, address: str) -> str | None:
        """Return the URI of image 17 in a store that is configured with this backend address.

        None if the addresses of this kind of store cannot be configured.
        """
        return None

    def store_without(self, option: str) -> base.Store | None:
        """Return the store without one option that uploads need; see `required`."""
        return None

    def with_credentials(self, uri: str) -> str | None:
        """Return `uri` with credentials, as Diablo wrote it; None if its kind has none."""
        return None

    @pytest.fixture(autouse=True)
    def _empty_afterwards(self, store: base.Store) -> Iterator[None]:
        self.uris: list[str] = []
        yield
        for uri in self.uris:
            self.remove(store, uri)
        assert self.contents(store) == []

    @pytest.fixture(autouse=True)
    def _no_secret_in_logs(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        caplog.set_level(logging.DEBUG)
        yield
        shown = [record.getMessage() + str(record.exc_text) for record in caplog.records]
        assert self.canary is None or not any(self.canary in text for text in shown)

    def keep(self, store: base.Store, image_id: str, data: bytes) -> Location:
        """Put data into the backend for the duration of one test."""
        uri = self.put(store, image_id, data)
        self.uris.append(uri)
        return self.locate(store, uri)

    def locate(self, store: base.Store, uri: str) -> Location:
        return get_location_from_uri(uri, dict.fromkeys(store.schemes, store.location_class))

    def missing(self, store: base.Store) -> Location:
        """Return a location without data."""
        uri = self.put(store, "missing", b"x")
        self.remove(store, uri)
        return self.locate(store, uri)

    # -- declarations of a driver --

    @about_texts
    def test_it_names_itself_and_its_schemes(self, store):
        assert store.name in store.schemes
        assert Capability.READ in store.capabilities
        assert Capability.SIZE in store.capabilities

    # -- reading --

    @pytest.mark.parametrize("size", SIZES)
    def test_get_returns_the_bytes_and_the_size(self, store, size):
        data = make_data(size)
        location = self.keep(store, "1", data)
        with store.get(location) as body:
            assert (body.size, body.length) == (size, size)
            assert b"".join(body) == data
        assert store.get_size(location) == size

    @about_few_bytes
    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, None), (0, 0), (0, 1), (5, 10), (999, None), (999, 1), (1000, None), (0, 1000)],
    )
    def test_get_returns_a_part(self, store, offset, length):
        data = make_data(1000)
        location = self.keep(store, "1", data)
        stop = 1000 if length is None else offset + length
        with store.get(location, offset, length) as body:
            assert b"".join(body) == data[offset:stop]
            assert (body.size, body.length) == (1000, stop - offset)

    @about_few_bytes
    def test_a_part_that_reaches_over_the_end_is_cut(self, store):
        data = make_data(1000)
        with store.get(self.keep(store, "1", data), 990, 100) as body:
            assert b"".join(body) == data[990:]
            assert body.length == 10

    def test_a_part_across_chunks_is_whole(self, store):
        data = make_data(3 * CHUNK)
        with store.get(self.keep(store, "1", data), 10, 2 * CHUNK) as body:
            assert b"".join(body) == data[10 : 10 + 2 * CHUNK]

    @about_few_bytes
    def test_a_part_behind_the_end_is_refused(self, store):
        location = self.keep(store, "1", make_data(1000))
        with pytest.raises(exception.RangeNotSatisfiable) as caught:
            store.get(location, 1001)
        assert caught.value.size == 1000

    @about_few_bytes
    @pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1)])
    def test_negative_borders_are_errors_of_the_program(self, store, offset, length):
        location = self.keep(store, "1", b"x")
        with pytest.raises(ValueError):
            store.get(location, offset, length)

    @about_few_bytes
    def test_a_body_can_be_sliced(self, store):
        data = make_data(1000)
        body = store.get(self.keep(store, "1", data))
        with body.slice(10, 20) as part:
            assert b"".join(part) == data[10:20]

    def test_its_errors_name_it_and_nothing_else_of_it(self, store):
        location = self.missing(store)
        for call in (store.get, store.get_size):
            with pytest.raises(exception.StoreObjectNotFound) as caught:
                call(location)
            self.check_text(store, caught.value)

    def test_what_it_gives_out_names_it(self, store):
        with store.get(self.keep(store, "1", b"data")) as whole:
            assert whole.store_name == store.name
            assert whole.slice(1, 2).store_name == store.name

    def check_text(self, store: base.Store, err: exception.StoreError) -> None:
        """Hold an error's text to its rules: the store's name, and no word of where it is."""
        text = str(err)
        assert err.store == store.name
        assert f"{store.name} store" in text
        assert not any(sign in text for sign in "/\\@:"), text
        assert self.canary is None or self.canary not in text

    def test_missing_data_is_not_found(self, store):
        location = self.missing(store)
        with pytest.raises(exception.StoreObjectNotFound):
            store.get(location)
        with pytest.raises(exception.StoreObjectNotFound):
            store.get_size(location)

    def test_a_body_closed_early_twice_or_unread_leaks_no_descriptor(self, store):
        location = self.keep(store, "1", make_data(3 * CHUNK))
        store.get(location).close()
        # A driver may keep a connection for the next request.
        store.get_size(location)
        before = descriptors()
        for _ in range(5):
            body = store.get(location)
            next(iter(body))
            body.close()
            body.close()
            store.get(location).close()
            store.get_size(location)
        # A server in this process closes its side a moment later.
        deadline = time.monotonic() + 5
        while descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert descriptors() <= before

    # -- locations --

    @about_few_bytes
    def test_a_location_survives_parsing_and_formatting(self, store):
        uri = self.keep(store, "1", b"x").uri(secret=True)
        location = self.locate(store, uri)
        assert location.scheme in store.schemes
        assert location.uri(secret=True) == uri

    @about_few_bytes
    def test_no_text_shows_a_secret(self, store):
        location = self.keep(store, "1", b"x")
        with pytest.raises(exception.Error) as caught:
            store.get(self.missing(store))
        texts = [str(location), repr(location), repr(store), str(caught.value)]
        assert all(self.canary is None or self.canary not in text for text in texts)

    @about_texts
    @pytest.mark.parametrize("uri", GOOD_URIS)
    def test_good_uris_of_its_schemes_are_kept_as_they_are(self, store, uri):
        if uri.partition("://")[0] in store.schemes:
            location = self.locate(store, uri)
            assert location.uri(secret=True) == uri
            assert "pw1" not in str(location)
            assert "SKEY" not in str(location)

    @about_texts
    @pytest.mark.parametrize("uri", BAD_URIS)
    def test_bad_uris_of_its_schemes_are_refused_without_being_quoted(self, store, uri):
        if uri.partition("://")[0] in store.schemes:
            with pytest.raises(exception.BadStoreUri) as caught:
                self.locate(store, uri)
            assert all(part not in str(caught.value) for part in ("pw1", "SKEY", "example.net"))

    @about_texts
    @pytest.mark.parametrize("uri", ["nosuch://ann:pw1@mirror.example.net/x", "fil:///x"])
    def test_other_schemes_are_unknown_to_it(self, store, uri):
        with pytest.raises(exception.UnknownScheme) as caught:
            self.locate(store, uri)
        assert "pw1" not in str(caught.value)

    @about_texts
    @pytest.mark.parametrize("tail", ["", "/"])
    @pytest.mark.parametrize(
        "address",
        [
            "store.example.net",
            "store.example.net:8080",
            "store.example.net/v1",
            "http://store.example.net:8080/v1",
            "https://store.example.net",
        ],
    )
    def test_every_form_of_an_address_gives_a_location_that_survives(self, store, address, tail):
        uri = self.uri_at(address + tail)
        if uri is None:
            return
        location = self.locate(store, uri)
        assert location.uri(secret=True) == uri
        assert location.scheme in store.schemes
        assert "//" not in uri.partition("://")[2]
        assert address.rpartition("://")[2] in uri
        assert uri.endswith("/17")

    @about_few_bytes
    def test_locations_with_credentials_are_read_as_well(self, store):
        uri = self.with_credentials(self.keep(store, "1", b"data").uri(secret=True))
        if uri is not None:
            location = self.locate(store, uri)
            with store.get(location) as body:
                assert b"".join(body) == b"data"
            assert store.owns(location, "1")
            assert self.canary is None or self.canary not in f"{location!r} {location}"

    @about_few_bytes
    def test_a_location_that_may_not_be_registered_is_refused(self, store):
        location = self.keep(store, "1", b"x")
        if Capability.REGISTERABLE in store.capabilities:
            store.check_registerable(location, is_admin=True)
            return
        for is_admin in (True, False):
            with pytest.raises(exception.BadStoreUri):
                store.check_registerable(location, is_admin=is_admin)


class ReadOnlyStoreSuite(StoreSuite):
    """For stores that neither write nor delete: they must refuse before they read anything."""

    def test_it_declares_neither_writing_nor_deleting(self, store):
        assert not store.capabilities & (Capability.WRITE | Capability.DELETE)

    def test_adding_is_refused_before_a_byte_is_read(self, store):
        source = ScriptedSource(b"data")
        with pytest.raises(exception.StoreAddDisabled) as caught:
            store.add("1", source, 4)
        self.check_text(store, caught.value)
        with pytest.raises(exception.StoreAddDisabled) as caught:
            store.require_add()
        self.check_text(store, caught.value)
        assert source.count == 0

    def test_deleting_is_not_supported(self, store):
        location = self.keep(store, "1", b"x")
        with pytest.raises(exception.StoreDeleteNotSupported) as caught:
            store.delete(location)
        self.check_text(store, caught.value)
        assert store.get_size(location) == 1

    def test_nothing_there_was_written_by_it(self, store):
        assert not store.owns(self.keep(store, "1", b"x"), "1")

    def test_sweeping_does_nothing(self, store):
        assert store.sweep() == []


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

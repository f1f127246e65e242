"""The tests of reading and of locations, for all stores."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from glance.common import exception
from glance.store import base
from glance.store.base import CHUNK, Capability
from glance.store.location import Location, get_location_from_uri
from glance.testing.store_suite.material import (
    BAD_URIS,
    GOOD_URIS,
    SAME,
    SIZES,
    ScriptedSource,
    about_few_bytes,
    about_texts,
    descriptors,
    make_data,
)


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

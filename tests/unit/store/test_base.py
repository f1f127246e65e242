"""What the base class does for every driver: configuration, transfer, ids."""

import hashlib
import logging
import threading
import time

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import base
from glance.store.base import CHUNK, Capability
from glance.streaming import body
from glance.streaming.digest import Digester
from glance.testing.store_suite import Boom, ScriptedSource, failing_after, make_data


def unconfigured(self):
    raise exception.BadStoreConfiguration(store_name="fake", reason="no key is set")


class Fake(base.Store):
    name = "fake"
    schemes = ("fake",)
    capabilities = Capability.READ | Capability.WRITE


@pytest.mark.parametrize("step", ["configure", "configure_add"])
def test_a_store_with_half_of_its_options_takes_nothing_and_is_an_error(monkeypatch, caplog, step):
    monkeypatch.setattr(Fake, step, unconfigured)
    fake = Fake(Conf({}))
    assert "no key is set" in fake.add_disabled
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    with pytest.raises(exception.StoreAddDisabled) as caught:
        fake.require_add()
    assert "key" not in str(caught.value)


def test_a_store_with_none_of_its_options_is_nothing_to_worry_about(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Fake, "configure_add", unconfigured)
    monkeypatch.setattr(Fake, "is_configured", lambda self: False)
    Fake(Conf({}))
    assert [record.levelno for record in caplog.records] == [logging.INFO]


@pytest.mark.parametrize("operation", ["get", "get_size"])
def test_what_a_driver_leaves_out_is_an_error_of_the_program(operation):
    with pytest.raises(NotImplementedError):
        getattr(Fake(Conf({})), operation)(None)


class Recorder(base.StagedWrite):
    """A staged write that keeps everything, and fails where it is told to."""

    def __init__(self, fault=lambda count: None):
        self.fault = fault
        self.data, self.ended = b"", None

    def write(self, data):
        assert self.ended is None
        self.fault(len(self.data))
        self.data += data

    def commit(self):
        self.ended = "committed"
        return "fake://1"

    def abort(self):
        self.ended = self.ended or "aborted"


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 9 * CHUNK + 5])
def test_a_transfer_moves_and_digests_every_byte_in_order(size):
    data = make_data(size)
    staged = Recorder()
    received = base.transfer(ScriptedSource(data), staged)
    assert staged.data == data
    assert staged.ended is None
    assert received[:2] == (size, hashlib.md5(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 9 * CHUNK + 5])
def test_a_transfer_makes_two_digests_of_the_same_bytes(size):
    data = make_data(size)
    staged = Recorder()
    received = base.transfer(ScriptedSource(data), staged, ("md5", "sha256"))
    assert staged.data == data
    assert received.size == size
    assert received.digests == {
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert received.checksum == received.digests["md5"]


def test_two_digests_work_in_two_threads_on_the_same_chunks(monkeypatch):
    """Both work at the same time; the pieces that wait for them are few, and one copy of each."""
    meeting = threading.Barrier(2, timeout=10)
    pieces = []
    data = make_data(9 * CHUNK)
    source = ScriptedSource(data)
    update = Digester.update

    def meet(self, data):
        pieces.append((threading.get_ident(), id(data)))
        meeting.wait()
        # The feeder reads on meanwhile, but not far.
        time.sleep(0.01)
        assert source.count <= (len(pieces) // 2 + base.IN_FLIGHT) * CHUNK
        meeting.wait()
        update(self, data)

    monkeypatch.setattr(Digester, "update", meet)
    received = base.transfer(source, Recorder(), ("md5", "sha256"))
    assert received.digests["sha256"] == hashlib.sha256(data).hexdigest()
    for first, second in zip(pieces[::2], pieces[1::2], strict=True):
        assert first[0] != second[0]
        assert first[1] == second[1]


@pytest.mark.parametrize("failing", ["md5", "sha256"])
def test_a_digest_that_fails_ends_the_transfer_and_the_other_digest(monkeypatch, failing):
    running = set()
    update = Digester.update

    def fail(self, data):
        running.add(self)
        try:
            if failing in self.hexdigests() and self.count:
                raise Boom()
            update(self, data)
        finally:
            running.discard(self)

    monkeypatch.setattr(Digester, "update", fail)
    source = ScriptedSource(make_data(30 * CHUNK))
    with pytest.raises(Boom):
        base.transfer(source, Recorder(), ("md5", "sha256"))
    assert not running
    assert source.count <= 5 * CHUNK


def test_a_client_that_goes_away_leaves_no_digest_at_work(monkeypatch):
    running, ended = set(), []
    update = Digester.update

    def slowly(self, data):
        running.add(self)
        update(self, data)
        time.sleep(0.01)
        running.discard(self)
        ended.append(self)

    monkeypatch.setattr(Digester, "update", slowly)
    source = ScriptedSource(make_data(9 * CHUNK), failing_after(5 * CHUNK, Boom()))
    with pytest.raises(Boom):
        base.transfer(source, Recorder(), ("md5", "sha256"))
    assert not running
    at_the_end = len(ended)
    time.sleep(0.05)
    assert len(ended) == at_the_end > 0


@pytest.mark.parametrize("after", [0, CHUNK, 3 * CHUNK])
def test_an_error_of_writing_ends_the_transfer(after):
    staged = Recorder(failing_after(after, Boom()))
    source = ScriptedSource(make_data(30 * CHUNK))
    with pytest.raises(Boom):
        base.transfer(source, staged)
    assert source.count <= after + (base.IN_FLIGHT + 2) * CHUNK


def test_an_error_of_reading_ends_the_transfer_and_nobody_writes_any_more():
    staged = Recorder()
    with pytest.raises(Boom):
        base.transfer(
            ScriptedSource(make_data(9 * CHUNK), failing_after(5 * CHUNK, Boom())), staged
        )
    staged.abort()
    assert len(staged.data) <= 5 * CHUNK


@pytest.mark.parametrize("text", ["1", "a.b", "A-b_c"])
def test_plain_names_are_ids(text):
    assert base.check_image_id(text) == text


# -- the store's name in its errors --------------------------------------------------------------

ERRORS = [
    exception.StoreError,
    exception.BackendException,
    exception.StoreObjectNotFound,
    exception.StoreObjectExists,
    exception.StoreForbidden,
    exception.StoreAddDisabled,
    exception.StoreDeleteNotSupported,
    exception.StorageFull,
    exception.StorageWriteDenied,
    exception.BackendUnavailable,
    exception.BackendCorrupt,
]


class Broken(base.Store):
    """Each of its methods raises `error`."""

    name = "fake"
    error: exception.StoreError

    def get(self, location=None, offset=0, length=None):
        raise self.error

    get_size = stage = delete = add = check = require_add = get

    def check_registerable(self, location, *, is_admin):
        raise self.error

    def list_objects(self):
        yield "found"
        raise self.error


CALLS = {
    "get": lambda store: store.get(None),
    "get_size": lambda store: store.get_size(None),
    "stage": lambda store: store.stage("1"),
    "delete": lambda store: store.delete(None),
    "add": lambda store: store.add("1", None),
    "check": lambda store: store.check(),
    "require_add": lambda store: store.require_add(),
    "check_registerable": lambda store: store.check_registerable(None, is_admin=True),
    "list_objects": lambda store: list(store.list_objects()),
}


def test_the_cases_are_all_methods_that_raise():
    assert set(CALLS) == set(base._RAISING)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_that_leaves_a_driver_names_its_store(call):
    store = Broken(Conf({}))
    store.error = exception.BackendUnavailable()
    with pytest.raises(exception.BackendUnavailable) as caught:
        call(store)
    assert caught.value is store.error
    assert str(caught.value) == "The fake store cannot be reached at the moment."


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_has_a_text_that_names_the_store(cls):
    err = cls().of("fake")
    assert (err.store, err.message) == ("fake", str(err))
    assert "fake store" in str(err)
    assert "%" not in str(err) + str(cls())


def test_the_list_above_is_complete():
    found = {
        value
        for value in vars(exception).values()
        if isinstance(value, type)
        and issubclass(value, exception.StoreError)
        and value.named is not None
    }
    assert found == set(ERRORS)


@pytest.mark.parametrize(
    "err",
    [
        exception.UnknownScheme("fake"),
        exception.BadStoreUri(reason="the path is missing"),
        exception.BadStoreConfiguration(store_name="fake", reason="no key is set"),
        exception.UnsupportedBackend(),
    ],
    ids=lambda err: type(err).__name__,
)
def test_what_is_wrong_with_an_address_or_a_setting_keeps_its_text(err):
    text = str(err)
    assert str(err.of("fake")) == text


def test_a_text_of_its_own_is_kept_and_followed_by_the_name():
    err = exception.StoreForbidden("The host is not on the list").of("fake")
    assert str(err) == "The host is not on the list (fake store)"


def test_an_error_is_named_once():
    err = exception.StorageFull().of("one").of("other")
    assert (err.store, str(err)) == ("one", "There is not enough space left in the one store.")


def test_an_error_of_no_store_keeps_its_text():
    assert str(exception.StorageFull().of(None)) == exception.StorageFull.message


class Named(Fake):
    def __init__(self, chunks):
        super().__init__(Conf({}))
        self.chunks = chunks

    def get(self, location, offset=0, length=None):
        return body.IterBody(self.chunks, 4)

    def stage(self, image_id, size=None):
        return Recorder(lambda count: self._fail())

    def _fail(self):
        raise exception.StorageFull


def lost():
    yield b"ab"
    raise exception.BackendUnavailable


@pytest.mark.parametrize("part", [None, (1, 4)], ids=["whole", "part"])
@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        (lost, exception.BackendUnavailable),
        (lambda: iter([b"abc"]), exception.BackendCorrupt),
        (lambda: iter([b"abc", b"def"]), exception.BackendCorrupt),
    ],
    ids=["lost", "short", "long"],
)
def test_an_error_in_the_middle_of_a_body_names_its_store(chunks, error, part):
    found = Named(chunks()).get(None)
    with pytest.raises(error, match="fake store"):
        list(found.slice(*part) if part else found)


def test_an_error_of_a_staged_write_names_its_store():
    with pytest.raises(exception.StorageFull, match="fake store"):
        Named(()).add("1", ScriptedSource(b"data"), 4)

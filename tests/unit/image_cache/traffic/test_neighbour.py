"""Downloads that follow the copy that another process writes: whole and right, or cut off.

Two caches on one directory stand for two processes, except where one has to die.
"""

import os
import signal
import threading

import pytest

from glance.common import exception
from glance.image_cache import FOLLOW, HIT, MISS, Image
from glance.image_cache.traffic import fill, neighbour, serving
from glance.testing.cache_suite import files, ids, image_of, make_data, store, until

from support import backends

DATA = make_data(100_000)
IMAGE = image_of(DATA)
HALF = 50_000
PIECE = 10_000


class Backend(backends.Backend):
    def __init__(self, data=DATA, piece=PIECE, **kwargs):
        super().__init__(data, piece, **kwargs)


class Client:
    """Downloads an image in a thread; `data` has come so far, `error` has ended it."""

    def __init__(self, cache, backend, image=IMAGE):
        self.data, self.source, self.error = b"", None, None
        self._arguments = cache, backend, image
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        cache, backend, image = self._arguments
        try:
            found, self.source = cache.fetch(image, backend)
            with found:
                for chunk in found:
                    self.data += chunk
        except exception.Error as err:
            self.error = err

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.data


@pytest.fixture
def backend():
    backend = Backend()
    yield backend
    assert backend.unclosed == 0


@pytest.fixture(params=["sqlite", "xattr"])
def ours(make, request):
    if request.param == "xattr":
        request.getfixturevalue("attributes")
    return make(image_cache_driver=request.param, image_cache_max_size=10**6)


@pytest.fixture
def theirs(make, ours):
    return make(image_cache_driver=ours.conf.image_cache_driver, image_cache_max_size=10**6)


def test_what_another_process_writes_is_sent_as_it_comes(ours, theirs, backend):
    with theirs.begin(IMAGE) as writer:
        clients = [Client(ours, backend) for _ in range(5)]
        writer.write(DATA[:HALF])
        until(lambda: all(len(client.data) == HALF for client in clients))
        late = Client(ours, backend)
        until(lambda: late.data)
        writer.write(DATA[HALF:])
        writer.commit()
    clients.append(late)
    assert [client.end() for client in clients] == [DATA] * 6
    assert {client.source for client in clients} == {FOLLOW}
    assert backend.opened == []
    assert ours.stats()["follows"] == 6
    assert ours.fetch(IMAGE, backend)[1] == HIT


def test_the_end_is_held_back_until_the_writer_has_verified_all(ours, theirs, backend):
    with theirs.begin(IMAGE) as writer:
        client = Client(ours, backend)
        writer.write(DATA)
        until(lambda: len(client.data) == len(DATA) - neighbour.HELD)
        client.thread.join(0.1)
        assert client.thread.is_alive()
        writer.commit()
    assert client.end() == DATA


def test_an_image_smaller_than_what_is_held_back_comes_with_the_commit(ours, theirs, backend):
    data = make_data(100)
    with theirs.begin(image_of(data)) as writer:
        client = Client(ours, backend, image_of(data))
        until(lambda: ours._neighbours)
        writer.write(data)
        until(lambda: ours._neighbours["1"].count == 100)
        writer.commit()
    assert (client.end(), client.source) == (data, FOLLOW)


def test_when_the_writer_gives_up_each_goes_on_with_the_store(ours, theirs, backend):
    with theirs.begin(IMAGE) as writer:
        client = Client(ours, backend)
        writer.write(DATA[:HALF])
        until(lambda: len(client.data) == HALF)
    assert client.end() == DATA
    assert (client.source, backend.opened) == (FOLLOW, [HALF])
    assert files(ours, "incomplete") == []


@pytest.mark.parametrize("moment", [HALF, len(DATA)])
def test_what_was_wrong_in_the_copy_never_ends_well(ours, theirs, backend, moment):
    """Somebody writes to the file; the writer notices and gives up."""
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:moment]
    with theirs.begin(IMAGE) as writer:
        client = Client(ours, backend)
        writer.write(wrong)
        until(lambda: len(client.data) >= HALF)
        if moment == len(DATA):
            with pytest.raises(exception.ChecksumMismatch):
                writer.commit()
    assert len(client.end()) < len(DATA)
    assert isinstance(client.error, exception.BackendCorrupt)


def test_a_store_that_is_wrong_behind_the_place_never_ends_well(ours, theirs):
    wrong = Backend(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with theirs.begin(IMAGE) as writer:
        client = Client(ours, wrong)
        writer.write(DATA[:HALF])
        until(lambda: len(client.data) == HALF)
    assert len(client.end()) < len(DATA)
    assert isinstance(client.error, exception.BackendCorrupt)
    assert wrong.unclosed == 0


def test_without_a_checksum_the_size_has_to_do(ours, theirs, backend):
    image = Image(IMAGE.image_id, IMAGE.size)
    with theirs.begin(image) as writer:
        client = Client(ours, backend, image)
        writer.write(DATA[:HALF])
        until(lambda: len(client.data) == HALF)
    assert client.end() == DATA


def test_a_writer_that_is_killed_is_followed_no_more(ours, theirs, backend):
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            writer = theirs.begin(IMAGE)
            writer.write(DATA[:HALF])
            os.write(tell, b"x")
            signal.pause()
        finally:
            os._exit(0)
    os.read(ready, 1)
    client = Client(ours, backend)
    until(lambda: len(client.data) == HALF)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready), os.close(tell)
    assert client.end() == DATA
    assert backend.opened == [HALF]
    # Nothing blocks the id: the next one fills the cache.
    with ours.fetch(IMAGE, backend)[0] as again:
        assert b"".join(again) == DATA
    assert ids(ours) == ["1"]


def test_when_the_writer_gets_nothing_a_follower_fills_the_cache(ours, theirs, backend):
    with theirs.begin(IMAGE):
        clients = [Client(ours, backend) for _ in range(3)]
        until(lambda: ours._neighbours)
    assert [client.end() for client in clients] == [DATA] * 3
    sources = [client.source for client in clients]
    assert sources.count(MISS) == 1
    assert set(sources) <= {MISS, FOLLOW, HIT}
    assert backend.opened == [0]
    assert ids(ours) == ["1"]


def test_a_store_that_fails_another_process_is_asked_before_the_head(ours, theirs):
    def fail(position):
        raise exception.BackendUnavailable

    with theirs.begin(IMAGE):
        client = Client(ours, fail)
        until(lambda: ours._neighbours)
    assert client.end() == b""
    assert isinstance(client.error, exception.BackendUnavailable)
    assert client.source is None


@pytest.mark.parametrize("written", [0, HALF])
def test_a_writer_without_progress_is_not_waited_for_long(
    ours, theirs, backend, monkeypatch, written
):
    monkeypatch.setattr(fill, "FOLLOW_TIMEOUT", 0.2)
    with theirs.begin(IMAGE) as writer:
        if written:
            writer.write(DATA[:written])
        client = Client(ours, backend)
        assert client.end() == DATA
        assert client.source == (FOLLOW if written else "incomplete")
    assert backend.opened == [written]


def test_a_copy_of_another_size_or_checksum_is_not_followed(ours, theirs, backend):
    with theirs.begin(image_of(make_data(len(DATA), "other"))) as writer:
        writer.write(DATA[:HALF])
        client = Client(ours, backend)
        assert client.end() == DATA
        assert client.source not in (FOLLOW, HIT)


def test_a_zeroed_copy_is_followed(ours, theirs, backend):
    data = bytes(300_000) + b"x" + bytes(300_000)
    with theirs.begin(image_of(data)) as writer:
        client = Client(ours, backend, image_of(data))
        until(lambda: ours._neighbours)
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
        until(lambda: client.data)
        writer.commit()
    assert (client.end(), client.source) == (data, FOLLOW)


# -- the other side ------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(serving, "_LOOK", 0.01)


def test_a_slow_client_does_not_delay_those_of_other_processes(quick, ours, theirs, backend):
    found, _ = theirs.fetch(IMAGE, backend)
    slow = iter(found)
    next(slow)
    client = Client(ours, backend)
    assert (client.end(), client.source) == (DATA, FOLLOW)
    assert DATA[:PIECE] + b"".join(slow) == DATA
    found.close()
    assert backend.opened == [0]


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_client_that_leaves_does_not_take_the_copy_with_it(quick, ours, theirs, pieces):
    backend = Backend()
    found, _ = theirs.fetch(IMAGE, backend)
    stream = iter(found)
    for _ in range(pieces):
        next(stream)
    go_on = threading.Event()
    backend.fault = lambda position: go_on.wait(20)
    client = Client(ours, backend)
    until(lambda: client.data)
    found.close()
    go_on.set()
    assert (client.end(), client.source) == (DATA, FOLLOW)
    assert backend.opened == [0]
    until(lambda: not backend.unclosed)
    assert ids(ours) == ["1"]


def test_when_nobody_follows_any_more_the_store_is_not_read_on(quick, ours, theirs):
    backend = Backend()
    go_on = threading.Event()
    backend.fault = lambda position: position < 2 * PIECE or go_on.wait(20)
    found, _ = theirs.fetch(IMAGE, backend)
    next(iter(found))
    followed, source = ours.fetch(IMAGE, backend)
    assert source == FOLLOW
    next(iter(followed))
    found.close()
    followed.close()
    go_on.set()
    until(lambda: not backend.unclosed)
    assert backend.opened == [0]
    assert ids(ours) == [] == files(ours, "incomplete")


def test_an_image_that_is_cached_in_between_is_a_hit(ours, theirs, backend, monkeypatch):
    real = neighbour.Neighbour.join

    def join(self):
        monkeypatch.undo()
        writer.commit()
        return real(self)

    with theirs.begin(IMAGE) as writer:
        writer.write(DATA)
        monkeypatch.setattr(neighbour.Neighbour, "join", join)
        found, source = ours.fetch(IMAGE, backend)
    with found:
        assert (b"".join(found), source) == (DATA, HIT)
    assert backend.opened == []


def test_no_descriptor_is_left(ours, theirs, backend):
    store(ours, make_data(10), 2)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with theirs.begin(IMAGE) as writer:
            client = Client(ours, backend)
            writer.write(DATA[:HALF])
            until(lambda: client.data)  # noqa: B023  awaited in the same turn
        client.end()
    assert ours._neighbours == {}
    assert len(os.listdir("/proc/self/fd")) <= before

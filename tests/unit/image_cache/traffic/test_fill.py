"""Downloads that fill the cache: one reads the store, others follow, trouble reaches nobody."""

import errno
import os
import threading
import time

import pytest

from glance.common import exception
from glance.image_cache import FOLLOW, HIT, INVALID, MISS, Image
from glance.image_cache.traffic import fill, serving, writer
from glance.testing.cache_suite import files, ids, image_of, make_data, store, until, used

from support import backends

DATA = make_data(100)
IMAGE = image_of(DATA)
PIECE = 10


class Backend(backends.Backend):
    def __init__(self, data=DATA, piece=PIECE, **kwargs):
        super().__init__(data, piece, **kwargs)


@pytest.fixture
def backend():
    backend = Backend()
    yield backend
    assert backend.unclosed == 0


def read(found, count=None):
    """Return the next `count` bytes at least, or all; the iterator goes on."""
    data = b""
    for chunk in found:
        data += chunk
        if count is not None and len(data) >= count:
            break
    return data


def failing(cache, monkeypatch, code, after=0):
    """Have every write to the disk fail with an error, after so many bytes."""
    real = os.pwrite

    def pwrite(fd, data, offset):
        if offset >= after:
            raise OSError(code, "injected")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_a_miss_fills_the_cache(cache, backend):
    found, source = cache.fetch(IMAGE, backend)
    with found:
        assert (found.length, source) == (100, MISS)
        assert read(found) == DATA
    assert (ids(cache), backend.opened) == (["1"], [0])
    assert cache.stats()["misses"] == 1
    assert read(cache.open(IMAGE)) == DATA


def test_others_follow_and_the_store_is_read_once(cache, backend):
    bodies = [cache.fetch(IMAGE, backend) for _ in range(5)]
    assert [source for _, source in bodies] == [MISS, *[FOLLOW] * 4]
    # In whatever order they read: the last one first, to the end; others in pieces.
    streams = [iter(found) for found, _ in bodies]
    assert read(streams[4]) == DATA
    parts = [read(stream, 30) for stream in streams[:4]]
    assert [parts[n] + read(streams[n]) for n in range(4)] == [DATA] * 4
    for found, _ in bodies:
        found.close()
    assert backend.opened == [0]
    assert ids(cache) == ["1"]
    assert cache.stats()["follows"] == 4


def test_followers_get_the_zeros_that_the_copy_has_no_room_for(make):
    cache = make(image_cache_max_size=1_000_000)
    data = bytes(300_000) + b"data" + bytes(300_000)
    backend = Backend(data, piece=100_000)
    image = image_of(data)
    streams = [iter(cache.fetch(image, backend)[0]) for _ in range(3)]
    begun = [read(stream, 150_000 * number) for number, stream in enumerate(streams)]
    assert [part + read(stream) for part, stream in zip(begun, streams, strict=True)] == [data] * 3
    assert backend.opened == [0]
    with cache.open(image) as copy:
        assert read(copy) == data


def test_readers_that_take_turns_read_the_store_once(cache, backend):
    bodies = [cache.fetch(IMAGE, backend)[0] for _ in range(3)]
    streams = [iter(found) for found in bodies]
    data = [b"", b"", b""]
    while len(data[0]) < 100:
        for number, stream in enumerate(streams):
            data[number] += next(stream, b"")
    assert [part + read(stream) for part, stream in zip(data, streams, strict=True)] == [DATA] * 3
    for found in bodies:
        found.close()
    assert backend.opened == [0]


def test_many_threads_read_the_store_once(cache):
    backend = Backend()
    barrier = threading.Barrier(20)
    results = []

    def download():
        barrier.wait()
        with cache.fetch(IMAGE, backend)[0] as found:
            results.append(read(found))

    threads = [threading.Thread(target=download) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [DATA] * 20
    assert backend.opened == [0]
    assert ids(cache) == ["1"]


def test_an_image_cached_between_the_look_and_the_attempt_is_a_hit(cache, backend):
    store(cache, DATA)
    found, source = cache.fetch(IMAGE, backend)
    with found:
        assert (read(found), source) == (DATA, HIT)
    assert backend.opened == []


# -- clients that go away ------------------------------------------------------------------------


def test_a_client_that_leaves_early_leaves_nothing(cache, backend):
    found, _ = cache.fetch(IMAGE, backend)
    read(found, 40)
    found.close()
    assert used(cache) == 0
    assert cache.entries("incomplete") == []
    assert cache.stats()["aborted"] == 1
    # The id is not blocked.
    with cache.fetch(IMAGE, backend)[0] as again:
        assert read(again) == DATA
    assert ids(cache) == ["1"]


def test_a_client_that_never_read_leaves_nothing(cache, backend):
    cache.fetch(IMAGE, backend)[0].close()
    assert used(cache) == 0
    assert cache.entries("incomplete") == []


def test_an_image_of_which_half_came_is_fetched_to_the_end(cache):
    backend = Backend()
    found, _ = cache.fetch(IMAGE, backend)
    read(found, 50)
    found.close()
    until(lambda: ids(cache) == ["1"])
    until(lambda: backend.unclosed == 0)
    assert backend.opened == [0]


def test_no_more_images_are_fetched_to_the_end_than_allowed(make, backend):
    cache = make(image_cache_finish_workers=0)
    found, _ = cache.fetch(IMAGE, backend)
    read(found, 90)
    found.close()
    assert cache.entries("incomplete") == []
    assert ids(cache) == []


def test_a_place_among_those_fetched_to_the_end_is_given_back(make):
    cache = make(image_cache_finish_workers=1)
    for image_id in range(3):
        image = image_of(DATA, image_id)
        found, _ = cache.fetch(image, Backend())
        read(found, 50)
        found.close()
        until(lambda image_id=image_id: str(image_id) in ids(cache))


def test_a_client_that_takes_the_last_byte_and_leaves_has_filled_the_cache(cache, backend):
    found, _ = cache.fetch(IMAGE, backend)
    assert read(found, 100) == DATA
    found.close()
    assert ids(cache) == ["1"]


def test_the_first_may_leave_while_others_follow(cache, backend):
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, backend)
    read(first, 10)
    first.close()
    with second:
        assert read(second) == DATA
    assert ids(cache) == ["1"]
    assert backend.opened == [0]


# -- a store that fails --------------------------------------------------------------------------


def test_an_error_of_the_opening_store_comes_at_once_and_leaves_nothing(cache):
    def opener(position):
        raise exception.StoreObjectNotFound()

    with pytest.raises(exception.NotFound):
        cache.fetch(IMAGE, opener)
    assert used(cache) == 0
    assert cache.entries("incomplete") == []


def fail(position):
    if position == 50:
        raise exception.BackendUnavailable()


@pytest.mark.parametrize(
    ("backend", "error"),
    [
        (Backend(fault=fail), exception.BackendUnavailable),
        (Backend(DATA[:60]), exception.BackendCorrupt),
        (Backend(DATA + b"more"), exception.BackendCorrupt),
    ],
    ids=["broken", "short", "long"],
)
def test_a_store_that_ends_wrong_is_told_to_the_client_and_never_served(cache, backend, error):
    found, _ = cache.fetch(IMAGE, backend)
    with found, pytest.raises(error):
        read(found)
    assert ids(cache) == []
    assert ids(cache, INVALID) == ["1"]
    assert cache.entries(INVALID)[0].error == error.__name__
    assert backend.unclosed == 0


def test_data_with_another_checksum_is_passed_on_but_not_kept(cache, caplog):
    other = make_data(100, "other")
    backend = Backend(other)
    with cache.fetch(IMAGE, backend)[0] as found:
        assert read(found) == other
    assert ids(cache) == []
    assert ids(cache, INVALID) == ["1"]
    assert "Image 1" in caplog.text
    assert backend.unclosed == 0


def test_followers_of_a_broken_read_try_the_store_themselves(cache):
    faults = [exception.BackendUnavailable()]

    def once(position):
        if position == 50 and faults:
            raise faults.pop()

    backend = Backend(fault=once)
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, backend)
    with first, pytest.raises(exception.BackendUnavailable):
        read(first)
    with second:
        assert read(second) == DATA
    assert backend.opened == [0, 50]
    assert backend.unclosed == 0


# -- a cache that fails --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("after", [0, 50, 90])
def test_a_disk_that_fails_costs_only_the_copy(cache, backend, monkeypatch, code, after):
    failing(cache, monkeypatch, code, after)
    with cache.fetch(IMAGE, backend)[0] as found:
        assert read(found) == DATA
    assert backend.opened == [0]
    assert used(cache) == 0
    assert cache.entries("incomplete") == []
    assert cache.stats()["aborted"] == 1


def test_followers_of_a_failing_disk_read_on_from_the_store(cache, backend, monkeypatch):
    failing(cache, monkeypatch, errno.ENOSPC, 50)
    first, second, third = (cache.fetch(IMAGE, backend)[0] for _ in range(3))
    assert read(third, 30) == DATA[:30]
    assert read(first) == DATA
    assert read(second) == DATA
    for found in (first, second, third):
        found.close()
    assert backend.opened == [0, 50]


def test_a_sync_that_fails_costs_only_the_copy(cache, backend, monkeypatch):
    def fsync(fd):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fsync", fsync)
    with cache.fetch(IMAGE, backend)[0] as found:
        assert read(found) == DATA
    assert used(cache) == 0
    assert cache.entries("incomplete") == []


def test_a_file_that_cannot_be_made_costs_only_the_copy(cache, backend, monkeypatch):
    def create(entry):
        raise OSError(errno.EACCES, "injected")

    monkeypatch.setattr(cache.index.entries, "create_file", create)
    found, source = cache.fetch(IMAGE, backend)
    with found:
        assert (read(found), source) == (DATA, "trouble")
    assert cache.entries("incomplete") == []


def test_an_incomplete_file_that_vanishes_costs_only_the_copy(cache, backend):
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, backend)
    stream = iter(first)
    part = read(stream, 50)
    for name in files(cache, "incomplete"):
        cache.directory.unlink(f"incomplete/{name}")
    assert part + read(stream) == DATA
    assert read(second) == DATA
    first.close()
    second.close()
    assert ids(cache) == []
    assert used(cache) == 0


def cut(path):
    os.truncate(path, 20)


def change(path):
    with open(path, "r+b") as stream:
        stream.seek(30)
        stream.write(bytes([DATA[30] ^ 1]))


@pytest.mark.parametrize("damage", [cut, change])
def test_an_incomplete_file_that_others_write_to_is_not_believed(cache, backend, damage):
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, backend)
    stream = iter(first)
    part = read(stream, 50)
    (name,) = files(cache, "incomplete")
    # More than a tick of the clock that the file system stamps files with.
    time.sleep(0.05)
    damage(cache.directory.full(f"incomplete/{name}"))
    assert read(second) == DATA
    assert part + read(stream) == DATA
    first.close()
    second.close()
    assert ids(cache) == []


def test_an_image_that_does_not_get_in_comes_from_the_store(make, backend):
    cache = make(image_cache_max_size=50)
    found, source = cache.fetch(IMAGE, backend)
    with found:
        assert (read(found), source) == (DATA, "too large")
    assert cache.stats()["bypasses"] == 1


def test_a_follower_that_waits_too_long_goes_to_the_store(cache, monkeypatch):
    monkeypatch.setattr(fill, "FOLLOW_TIMEOUT", 0.05)
    stuck, go_on = threading.Event(), threading.Event()

    def hold(position):
        if position == 50 and not stuck.is_set():
            stuck.set()
            go_on.wait(10)

    backend = Backend(fault=hold)
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, Backend())
    data = []
    thread = threading.Thread(target=lambda: data.append(read(first)))
    thread.start()
    assert stuck.wait(10)
    with second:
        assert read(second) == DATA
    go_on.set()
    thread.join(10)
    first.close()
    assert data == [DATA]
    assert ids(cache) == ["1"]


# -- images that change meanwhile ----------------------------------------------------------------


def test_an_image_deleted_meanwhile_is_read_to_the_end_and_not_kept(cache, backend):
    first, _ = cache.fetch(IMAGE, backend)
    second, _ = cache.fetch(IMAGE, backend)
    stream = iter(first)
    part = read(stream, 50)
    cache.invalidate(1)
    assert part + read(stream) == DATA
    assert read(second) == DATA
    first.close()
    second.close()
    assert backend.opened == [0]
    assert used(cache) == 0
    assert ids(cache) == []


def test_a_new_life_of_an_id_does_not_follow_the_old_one(cache):
    other = make_data(100, "other")
    old, new = Backend(), Backend(other)
    first, _ = cache.fetch(IMAGE, old)
    second, source = cache.fetch(image_of(other), new)
    with first, second:
        assert (read(first), read(second)) == (DATA, other)
    assert source not in (MISS, FOLLOW, HIT)


def test_the_end_of_the_process_gives_up_what_is_on_its_way(cache):
    backend = Backend()
    found, _ = cache.fetch(IMAGE, backend)
    read(found, 30)
    cache.close()
    assert used(cache) == 0
    found.close()
    assert backend.unclosed == 0


def test_an_image_of_size_zero_or_unknown_is_left_to_the_store(cache, backend):
    unknown = Image("1", 0)
    assert cache.open(unknown) is None
    cache.fetch(unknown, backend)[0].close()
    assert ids(cache) == []


def test_a_client_that_comes_while_the_last_one_leaves_goes_on(cache, backend, monkeypatch):
    monkeypatch.setattr(serving.Serving, "_may_finish", lambda self, running: False)
    joined = []

    def is_followed(writer):
        # It waits for a thread, during which others have their turn.
        if not joined:
            joined.append(cache.fetch(IMAGE, backend))
        return False

    monkeypatch.setattr(writer.Writer, "is_followed", is_followed)
    first, _ = cache.fetch(IMAGE, backend)
    read(first, 3 * PIECE)
    first.close()
    ((second, source),) = joined
    assert source == FOLLOW
    with second:
        assert read(second) == DATA
    assert backend.opened == [0]
    assert ids(cache) == ["1"]

"""Streaming bodies and the guarded reader of uploads."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception
from glance.streaming import body
from glance.streaming.body import BodyReader, FileBody, IterBody, UploadReader

DATA = bytes(range(256)) * 20


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(DATA)
    return path


def open_file(path, **part):
    return FileBody(os.open(path, os.O_RDONLY), size=os.stat(path).st_size, **part)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


# -- exact length --


def test_a_body_yields_its_bytes_and_no_empty_chunks():
    assert list(IterBody([b"a", b"", b"bc"], 3)) == [b"a", b"bc"]


def test_a_body_of_unknown_length_yields_what_there_is():
    data = IterBody([b"a", b"bc"])
    assert data.length is None
    assert b"".join(data) == b"abc"


def test_a_body_that_ends_early_is_an_error():
    chunks = iter(IterBody([b"ab"], 3))
    assert next(chunks) == b"ab"
    with pytest.raises(exception.BackendCorrupt):
        next(chunks)


@pytest.mark.parametrize("parts", [[b"abcd"], [b"ab", b"cd"], [b"abc", b"d"]])
def test_a_body_never_yields_more_than_its_length(parts):
    got = []
    with pytest.raises(exception.BackendCorrupt):
        for chunk in IterBody(parts, 3):
            got.append(chunk)
    assert len(b"".join(got)) <= 3


# -- closing --


def test_closing_twice_closes_once():
    closed = []
    data = IterBody([b"a"], 1, lambda: closed.append(1))
    data.close()
    data.close()
    assert closed == [1]


def test_a_generator_is_closed_with_its_body():
    ended = []

    def generate():
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(1)

    with IterBody(generate()) as data:
        next(iter(data))
    assert ended == [1]


def test_a_file_is_closed_with_its_body_and_not_before(path):
    data = open_file(path)
    fd = data.fileno()
    assert b"".join(data) == DATA
    assert is_open(fd)
    data.close()
    data.close()
    assert not is_open(fd)
    with pytest.raises(ValueError):
        data.fileno()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_that_is_dropped_closes_its_file(path):
    data = open_file(path)
    fd = data.fileno()
    del data
    assert not is_open(fd)


# -- files --


def test_a_part_of_a_file(path):
    with open_file(path, offset=10, length=300) as data:
        assert (data.offset, data.length, data.size) == (10, 300, len(DATA))
        assert b"".join(data) == DATA[10:310]


def test_reading_leaves_the_position_of_the_descriptor_alone(path):
    with open_file(path) as data:
        b"".join(data)
        assert os.lseek(data.fileno(), 0, os.SEEK_CUR) == 0


def test_a_big_file_comes_in_chunks(tmp_path):
    big = tmp_path / "big"
    big.write_bytes(b"x" * (2 * body.CHUNK + 1))
    with open_file(big) as data:
        assert [len(chunk) for chunk in data] == [body.CHUNK, body.CHUNK, 1]


def test_a_file_that_shrank_is_an_error(path):
    with open_file(path) as data:
        os.truncate(path, 100)
        with pytest.raises(exception.BackendCorrupt):
            b"".join(data)


def test_a_file_that_grew_is_sent_as_it_was(path):
    with open_file(path) as data:
        with open(path, "ab") as file:
            file.write(b"more")
        assert b"".join(data) == DATA


# -- slices --

BORDERS = [(0, 0), (0, 1), (0, len(DATA)), (5, 10), (300, 301), (len(DATA), len(DATA))]


@pytest.mark.parametrize(("start", "stop"), BORDERS)
@pytest.mark.parametrize("kind", ["file", "iterable"])
def test_a_slice_has_the_bytes_between_its_borders(path, kind, start, stop):
    whole = open_file(path) if kind == "file" else IterBody(pieces(DATA, 7), len(DATA), size=9999)
    with whole.slice(start, stop) as part:
        assert part.length == stop - start
        assert part.size == whole.size
        assert b"".join(part) == DATA[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, len(DATA) + 1)])
def test_borders_outside_of_the_body_are_errors(path, start, stop):
    for whole in (open_file(path), IterBody([DATA], len(DATA))):
        with whole, pytest.raises(ValueError):
            whole.slice(start, stop)


def test_a_slice_of_a_slice_counts_from_the_first(path):
    with open_file(path).slice(100, 200).slice(10, 20) as part:
        assert (part.offset, part.length) == (110, 10)
        assert b"".join(part) == DATA[110:120]


def test_closing_a_slice_closes_the_whole(path):
    whole = open_file(path)
    fd = whole.fileno()
    whole.slice(0, 1).close()
    assert not is_open(fd)
    closed = []
    IterBody([b"ab"], 2, lambda: closed.append(1)).slice(0, 1).close()
    assert closed == [1]


def test_a_slice_of_a_short_body_is_an_error():
    with pytest.raises(exception.BackendCorrupt):
        b"".join(IterBody([b"abc"], 10).slice(1, 5))


@given(st.integers(1, 50), st.integers(0, 200), st.integers(0, 200))
def test_slices_do_not_depend_on_the_chunks(size, one, other):
    start, stop = sorted((one, other))
    data = DATA[:200]
    assert b"".join(IterBody(pieces(data, size), 200).slice(start, stop)) == data[start:stop]


# -- bodies as files --


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(1, 30), min_size=1))
def test_a_body_can_be_read_like_a_file(parts, sizes):
    reader = BodyReader(IterBody(parts))
    got = b""
    for turn in range(1000):
        chunk = reader.read(sizes[turn % len(sizes)])
        assert len(chunk) <= sizes[turn % len(sizes)]
        if not chunk:
            break
        got += chunk
    assert got == b"".join(parts)
    assert reader.read(5) == b""


# -- the guarded reader --


def drain(reader, size=1000):
    got = b""
    while chunk := reader.read(size):
        got += chunk
    return got


@pytest.mark.parametrize("size", [1, 7, 1000, body.CHUNK])
def test_an_upload_that_keeps_its_promises_passes(size):
    reader = UploadReader(
        io.BytesIO(DATA), length=len(DATA), expected=len(DATA), cap=len(DATA), idle_timeout=60
    )
    assert drain(reader, size) == DATA
    assert reader.count == len(DATA)
    assert reader.read(size) == b""


def test_an_empty_upload_passes():
    assert drain(UploadReader(io.BytesIO(b""), length=0)) == b""


@pytest.mark.parametrize("expected", [None, 0])
def test_a_size_of_zero_is_no_declaration(expected):
    assert drain(UploadReader(io.BytesIO(DATA), expected=expected, cap=0)) == DATA


def test_nothing_is_read_beyond_the_promised_length():
    stream = io.BytesIO(DATA)
    assert drain(UploadReader(stream, length=100), 64) == DATA[:100]
    assert stream.tell() == 100


def assert_refused(reader, error, size=1000):
    """The error comes, and comes again: nobody can take the rest for a normal end."""
    with pytest.raises(error):
        drain(reader, size)
    with pytest.raises(error):
        reader.read(1)


def test_a_body_cut_short_is_an_error():
    assert_refused(UploadReader(io.BytesIO(DATA), length=6000), exception.UploadTruncated)


@pytest.mark.parametrize("cap", [1, 999, len(DATA) - 1])
def test_more_than_the_cap_is_an_error(cap):
    reader = UploadReader(io.BytesIO(DATA), cap=cap)
    assert_refused(reader, exception.ImageSizeLimitExceeded)
    # Waiting for more than that could take a long time.
    assert reader.count == cap + 1


def test_more_than_declared_is_an_error_at_once():
    reader = UploadReader(io.BytesIO(DATA), expected=100)
    assert_refused(reader, exception.ImageSizeMismatch)
    assert reader.count == 101


def test_fewer_than_declared_is_an_error_at_the_end():
    assert_refused(UploadReader(io.BytesIO(DATA), expected=6000), exception.ImageSizeMismatch)


def test_a_cut_is_reported_rather_than_the_size():
    reader = UploadReader(io.BytesIO(DATA), length=6000, expected=6000)
    assert_refused(reader, exception.UploadTruncated)


@pytest.mark.parametrize(
    "error", [OSError("reset"), ConnectionResetError(), TimeoutError(), ValueError("bad chunk")]
)
def test_a_broken_stream_is_a_cut(error):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 3000:
                raise error
            return super().read(size)

    assert_refused(UploadReader(Broken(DATA)), exception.UploadTruncated)


def test_errors_of_a_store_that_is_copied_from_pass_unchanged():
    source = BodyReader(IterBody([b"abc"], 5))
    assert_refused(UploadReader(source, length=5), exception.BackendCorrupt)


def test_reads_start_small_and_grow():
    sizes = []

    class Stream:
        def read(self, size):
            sizes.append(size)
            return b"x" * size if len(sizes) < 6 else b""

    drain(UploadReader(Stream()), body.CHUNK)
    assert sizes == [65536, 131072, 262144, 524288, 1048576, 1048576]


def test_reads_become_small_again_when_the_client_is_slow(monkeypatch):
    sizes, clock = [], [0.0]
    monkeypatch.setattr(body.time, "monotonic", lambda: clock[0])

    class Stream:
        def read(self, size):
            sizes.append(size)
            clock[0] += 2 if len(sizes) == 3 else 0
            return b"x" * size if len(sizes) < 5 else b""

    drain(UploadReader(Stream()), body.CHUNK)
    assert sizes == [65536, 131072, 262144, 65536, 131072]

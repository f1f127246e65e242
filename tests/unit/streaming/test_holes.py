"""Holes: what of data has to be written, and where the holes of a file are."""

import os
import random

import pytest

from glance.streaming import holes
from glance.streaming.holes import BLOCK, PAGE
from glance.streaming.staged_file import LocalFile

DATA = b"\xff"


def written(data, position=0):
    """Return what a file has if only the parts are written; check that they are in order."""
    made, end = bytearray(len(data)), 0
    for start, stop in holes.parts(data, position):
        assert end <= start < stop <= len(data)
        made[start:stop] = data[start:stop]
        end = stop
    return bytes(made)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_but_zeros_is_left_out_wherever_data_begins(seed):
    chance = random.Random(seed)
    data = bytearray(chance.choice((0, 1, PAGE, BLOCK - 1, 2 * BLOCK, chance.randrange(300_000))))
    for _ in range(chance.randrange(6)):
        start = chance.randrange(len(data) + 1)
        piece = chance.randbytes(chance.choice((1, PAGE, 70_000)))
        data[start : start + len(piece)] = piece[: len(data) - start]
    for position in (0, 1, PAGE, BLOCK - 1, chance.randrange(1 << 40)):
        assert written(bytes(data), position) == data


@pytest.mark.parametrize(
    ("data", "position", "expected"),
    [
        (b"", 0, []),
        (DATA * 3 * BLOCK, 0, [(0, 3 * BLOCK)]),
        (DATA * 3 * BLOCK, 5, [(0, 3 * BLOCK)]),
        (bytes(3 * BLOCK), 0, []),
        (bytes(3 * BLOCK), 5, []),
        (bytes(10), 5, []),
        # The pages of the file count, not those of the piece that arrives.
        (bytes(2 * BLOCK) + DATA, 1, [(2 * BLOCK - 1, 2 * BLOCK + 1)]),
        (bytes(PAGE + 7) + DATA + bytes(BLOCK), 0, [(PAGE, 2 * PAGE)]),
        (bytes(PAGE + 7) + DATA + bytes(BLOCK), PAGE - 7, [(PAGE + 7, 2 * PAGE + 7)]),
        (DATA * PAGE + bytes(BLOCK), 0, [(0, PAGE)]),
        (bytes(BLOCK) + DATA * PAGE, 0, [(BLOCK, BLOCK + PAGE)]),
    ],
)
def test_zeros_are_left_out_by_pages_of_the_file(data, position, expected):
    assert holes.parts(data, position) == expected


def test_a_page_of_data_among_zeros_is_all_that_is_written():
    for number in range(2 * BLOCK // PAGE):
        data = bytearray(4 * BLOCK)
        data[number * PAGE + 9] = 1
        assert holes.parts(bytes(data), 0) == [(number * PAGE, (number + 1) * PAGE)]


@pytest.fixture
def sparse(tmp_path):
    """A descriptor of a file with data in its third mebibyte of five."""
    fd = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, DATA * (1 << 20), 2 << 20)
    os.ftruncate(fd, 5 << 20)
    yield fd
    os.close(fd)


def test_holes_of_a_file_are_found(sparse):
    ends = [holes.end_of_hole(sparse, n << 19) / (1 << 20) for n in range(11)]
    assert ends == [2, 2, 2, 2, 2, 2.5, 5, 5, 5, 5, 5]
    assert holes.next_hole(sparse, 2 << 20, 5 << 20) == 3 << 20
    assert holes.next_hole(sparse, 2 << 20, 100) == 100


@pytest.mark.parametrize("position", [5 << 20, 6 << 20, 1 << 62])
def test_behind_the_end_of_a_file_is_no_hole(sparse, position):
    assert holes.end_of_hole(sparse, position) == position


def test_a_file_that_cannot_tell_is_all_data():
    reader, writer = os.pipe()
    assert holes.end_of_hole(reader, 10) == 10
    assert holes.next_hole(reader, 10, 20) == 20
    os.close(reader), os.close(writer)


# -- files that are written sparsely -------------------------------------------------------------


def pieces(data, sizes):
    """Cut `data` into pieces of these sizes, again and again."""
    position, number = 0, 0
    while position < len(data):
        size = sizes[number % len(sizes)]
        yield data[position : position + size]
        position, number = position + size, number + 1


@pytest.mark.parametrize("reserved", ["nothing", "all", "too little", "too much"])
@pytest.mark.parametrize("sizes", [(2 << 20,), (1448, 70_001), (64 << 10,), (331,)])
@pytest.mark.parametrize("end", [b"", b"end"])
def test_a_sparse_file_has_every_byte_and_no_room_for_zeros(tmp_path, reserved, sizes, end):
    data = b"begin" + bytes(4 * BLOCK) + DATA * PAGE + bytes(4 * BLOCK + 9) + end
    file = LocalFile(writeback=True, sparse=True)
    file.create(str(tmp_path), lambda: "a")
    size = {"all": len(data), "too little": BLOCK, "too much": 2 * len(data)}
    with file.held() as fd:
        if reserved in size:
            file.reserve(size[reserved])
        for piece in pieces(data, sizes):
            file.write(piece)
            assert os.fstat(fd).st_size >= file.count
        file.sync()
        assert file.count == len(data)
    file.close()
    assert (tmp_path / "a").read_bytes() == data
    # The beginning, the page of data with its neighbour, the end.
    assert (tmp_path / "a").stat().st_blocks * 512 <= 4 * PAGE


def test_a_reservation_stays_as_long_as_there_is_no_hole(tmp_path):
    file = LocalFile(sparse=True)
    file.create(str(tmp_path), lambda: "a")
    with file.held() as fd:
        file.reserve(1 << 20)
        file.write(DATA * BLOCK + bytes(BLOCK - PAGE) + DATA * BLOCK)
        assert os.fstat(fd).st_blocks * 512 >= 1 << 20
        file.write(bytes(2 * BLOCK))
        assert os.fstat(fd).st_blocks * 512 < 4 * BLOCK
    file.close()


def test_a_watched_sparse_file_is_its_own_work_only(tmp_path):
    file = LocalFile(watch=True, sparse=True)
    file.create(str(tmp_path), lambda: "a")
    with file.held():
        for data in (bytes(BLOCK), DATA, bytes(BLOCK), bytes(BLOCK), DATA):
            file.write(data)
            file.require_untouched()
    (tmp_path / "a").write_bytes(bytes(file.count))
    os.utime(tmp_path / "a", (1, 1))
    with file.held(), pytest.raises(OSError, match="another process"):
        file.require_untouched()
    file.close()


def test_a_sparse_file_that_is_cut_goes_on_with_zeros_and_data(tmp_path):
    file = LocalFile(sparse=True)
    file.create(str(tmp_path), lambda: "a")
    with file.held():
        file.write(DATA * BLOCK)
        file.truncate(5)
        file.write(bytes(BLOCK))
        file.write(DATA)
        file.sync()
    file.close()
    assert (tmp_path / "a").read_bytes() == DATA * 5 + bytes(BLOCK) + DATA


def test_a_file_that_is_not_sparse_holds_its_zeros(tmp_path):
    file = LocalFile()
    file.create(str(tmp_path), lambda: "a")
    with file.held():
        file.write(bytes(4 * BLOCK))
        file.sync()
    file.close()
    assert (tmp_path / "a").stat().st_blocks * 512 >= 4 * BLOCK

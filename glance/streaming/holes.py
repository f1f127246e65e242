"""Holes in files: runs of zeros for which the disk has no blocks, found in data and in files.

A reader gets zeros from a hole, so a writer of a new file may leave zeros out; the size of the
file says how many there are. What does not belong here: whose file it is.
"""

from __future__ import annotations

import os

#: What the disk gives room for at a time.
PAGE = 4096
#: What is looked at as a whole.
BLOCK = 64 * 1024

_PAGE = bytes(PAGE)
_BLOCK = bytes(BLOCK)


def parts(data: bytes, position: int) -> list[tuple[int, int]]:
    """Return where `data` has something to write, as pairs of offsets in it, in order.

    `position` is where it begins in its file. All between the pairs is zero. Runs of zeros that
    touch a border of a block of the file are found, page by page; others need not be.

    PERF: of 2 MiB without zeros 64 bytes are looked at, which takes 2 us, and their MD5 3000.
    """
    size = len(data)
    first = min(size, -position % BLOCK)
    last = size - (size - first) % BLOCK
    if first == 0 and last == size and not _may_have_zeros(data):
        return [(0, size)] if size else []
    found: list[tuple[int, int]] = []
    _look(data, 0, first, position, found)
    for start in range(first, last, BLOCK):
        if not data.startswith(_BLOCK, start):
            _look(data, start, start + BLOCK, position, found)
    _look(data, last, size, position, found)
    return found


def _may_have_zeros(data: bytes) -> bool:
    """Return whether the first or the last page of any block begins with zero."""
    return 0 in data[::BLOCK] or 0 in data[BLOCK - PAGE :: BLOCK]


def _look(data: bytes, start: int, end: int, position: int, found: list[tuple[int, int]]) -> None:
    """Add what a block or a part of one has to write to `found`."""
    if start == end:
        return
    if data[start] and data[end - 1]:
        _add(start, end, found)
        return
    while start < end:
        stop = min(end, start + PAGE - (position + start) % PAGE)
        if not data.startswith(_PAGE if stop - start == PAGE else _PAGE[: stop - start], start):
            _add(start, stop, found)
        start = stop


def _add(start: int, stop: int, found: list[tuple[int, int]]) -> None:
    if found and found[-1][1] == start:
        start = found.pop()[0]
    found.append((start, stop))


def end_of_hole(fd: int, position: int) -> int:
    """Return where the hole ends that `position` lies in; `position` itself outside of holes.

    The end of the file ends a hole, too. Blocks, and may move the offset of the descriptor.
    Raises no OSError: what the file system cannot tell counts as data.
    """
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError:
        # NOTE: ENXIO means that there is nothing but a hole up to the end, or no file at all.
        pass
    try:
        if os.lseek(fd, position, os.SEEK_HOLE) == position:
            return max(position, os.fstat(fd).st_size)
    except OSError:
        pass
    return position


def next_hole(fd: int, position: int, stop: int) -> int:
    """Return where the first hole behind `position`, which is data, begins; at most `stop`.

    Blocks and fails as little as `end_of_hole`.
    """
    try:
        return min(stop, os.lseek(fd, position, os.SEEK_HOLE))
    except OSError:
        return stop

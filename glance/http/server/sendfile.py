"""Zero-copy responses: a file's bytes go from the page cache to the socket inside the kernel.

`os.sendfile` is fast while the file's pages are in memory; for a page that is not, it sleeps, and
with it the hub and every request of the process. So the file is sent in windows: the server checks
whether a window is in memory, and if not, a native thread reads it in. Of a hole there is nothing
to read: its zeros are sent from memory, and push no other pages out of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from glance.http.server import stream as streams
from glance.streaming import body, holes, threads

WINDOW = 4 * 1024 * 1024
_PROBE_STEP = 256 * 1024
_READ_STEP = 1024 * 1024
#: Holes that are smaller are read like data.
_LARGE_HOLE = 1024 * 1024
#: PERF: zeros that stay in the cache of the processor are sent faster than any file.
_ZEROS = bytes(512 * 1024)


def send(
    stream: streams.SocketStream, source: body.FileBody, moved: Callable[[int], None]
) -> None:
    """Send the bytes of `source`; call `moved` with the size of each part in bytes.

    Fewer than its length only if the file has become shorter. Raises ClientGone, and OSError when
    the file cannot be read.
    """
    fd = source.fileno()
    position = source.offset
    end = position + source.length
    ready = position
    while position < end:
        if position >= ready:
            ready = min(position + WINDOW, end)
            # PERF: probing a window costs about 20 microseconds; sending it takes about 2 ms.
            if not _in_memory(fd, position, ready):
                hole, ready = threads.run(_prepare, fd, position, ready)
                if hole > position:
                    hole = ready = min(hole, end)
                    _send_zeros(stream, hole - position, moved)
                    position = hole
                    continue
        try:
            count = os.sendfile(
                stream.fd, fd, position, min(ready - position, stream.turn, streams.PIECE)
            )
        except BlockingIOError:
            stream.wait_writable()
            continue
        except (ConnectionError, TimeoutError) as err:
            raise streams.ClientGone from err
        if not count:
            break
        position += count
        moved(count)
        stream.moved(count)


def _send_zeros(stream: streams.SocketStream, count: int, moved: Callable[[int], None]) -> None:
    """Send `count` zeros; call `moved` as `send` does, also for what a client took at last."""
    while count:
        size = min(count, len(_ZEROS))
        try:
            stream.send(_ZEROS if size == len(_ZEROS) else _ZEROS[:size])
        except streams.ClientGone as gone:
            moved(size - gone.unsent)
            raise
        moved(size)
        count -= size


def _in_memory(fd: int, start: int, stop: int) -> bool:
    """Return whether a part of a file can be read without waiting for the disk (sampled)."""
    byte = bytearray(1)
    try:
        for position in range(start, stop, _PROBE_STEP):
            os.preadv(fd, (byte,), position, os.RWF_NOWAIT)
        os.preadv(fd, (byte,), stop - 1, os.RWF_NOWAIT)
    except OSError as err:
        # NOTE: the file system does not know the flag: take the way that is always safe.
        if err.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


def _prepare(fd: int, start: int, stop: int) -> tuple[int, int]:
    """Find a large hole at `start`, or read in what there is up to the next one, or to `stop`.

    In the latter case, let the kernel begin to read the next window.

    Returns where the hole ends, `start` if there is none, and up to where the file is in memory.
    """
    hole = holes.end_of_hole(fd, start)
    if hole - start >= min(_LARGE_HOLE, stop - start):
        return hole, start
    while (begin := holes.next_hole(fd, hole, stop)) < stop:
        hole = holes.end_of_hole(fd, begin)
        if hole == begin:
            break
        if hole - begin >= _LARGE_HOLE:
            # NOTE: the kernel is not to fill memory with the zeros that follow.
            _read_in(fd, start, begin)
            return start, begin
    os.posix_fadvise(fd, start, stop - start + WINDOW, os.POSIX_FADV_WILLNEED)
    _read_in(fd, start, stop)
    return start, stop


def _read_in(fd: int, start: int, stop: int) -> None:
    """Read a part of a file into memory."""
    buffer = bytearray(_READ_STEP)
    position = start
    while position < stop:
        count = os.preadv(fd, (buffer,), position)
        if not count:
            return
        position += count

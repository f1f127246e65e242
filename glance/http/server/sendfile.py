"""Zero-copy responses: a file's bytes go from the page cache to the socket inside the kernel.

Native threads do it, so that the work for gigabytes does not stop the hub, and with it all other
requests of the process. A thread serves a client only as long as that takes what it is sent; a
client that makes the server wait is waited for in the hub. These threads are few, so none of them
waits for the disk: what is not in memory is read in first, by others. Of a hole there is nothing
to read: its zeros are sent from memory, and push no other pages out of it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from glance.http.server import stream as streams
from glance.streaming import body, holes, hub, threads

#: How far ahead is looked whether a file is in memory, in bytes.
WINDOW = 4 * 1024 * 1024
#: What one call of the system sends at most, in bytes.
PIECE = 1024 * 1024
#: Seconds after which a thread leaves a client though nobody waits for it.
LONGEST = 0.25
#: A part of a file up to this size (bytes) is sent by the hub itself.
SMALL = 256 * 1024
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
    part = _Part(stream.fd, source.fileno(), source.offset, source.offset + source.length)
    is_small = source.length <= SMALL
    patience = streams.PATIENCE
    while not part.is_done:
        before = part.position
        try:
            if is_small:
                part.push(0)
            else:
                threads.run_big(part.push, patience)
        except (ConnectionError, TimeoutError) as err:
            raise streams.ClientGone from err
        finally:
            moved(part.position - before)
            stream.moved_natively(part.position - before)
        if part.is_cold:
            threads.run(part.read_in)
        elif part.is_full:
            begun = time.monotonic()
            stream.wait_writable()
            # What a slow client has room for is sent at once; no thread waits for more.
            is_quick = time.monotonic() - begun < streams.PATIENCE / 1000
            patience = streams.PATIENCE if is_quick else 0


class _Part:
    """A part of an open file on its way to a socket that does not block.

    `position` is how far it has been sent. What `push` has found: `is_done` is whether nothing is
    left, or the file ends; `is_full` whether the socket takes no more at present; `is_cold`
    whether the file has to be read in first.
    """

    def __init__(self, socket: int, file: int, position: int, end: int):
        self.position = position
        self.is_done = position >= end
        self.is_full = self.is_cold = False
        self._socket = socket
        self._file = file
        self._end = end
        # What was looked at; of that, what lies before `_zeros` is a hole.
        self._looked = self._zeros = position

    def push(self, patience: int) -> None:
        """Send what the socket takes, while nobody else waits for the thread.

        Blocks, for up to `patience` milliseconds each time that the socket is full.
        """
        self.is_full = self.is_cold = False
        begun = time.monotonic()
        while not self.is_done:
            if self.position >= self._looked:
                self._look_ahead()
                if self.is_cold:
                    return
            try:
                self._push_piece()
            except BlockingIOError:
                # NOTE: nobody who has room is to wait for one who has none.
                is_hurried = not patience or threads.is_big_work_waiting()
                if is_hurried or not hub.is_writable(self._socket, patience):
                    self.is_full = True
                    return
            turn = time.monotonic() - begun
            if turn > streams.NATIVE_TURN and (threads.is_big_work_waiting() or turn > LONGEST):
                return

    def _push_piece(self) -> None:
        if self.position < self._zeros:
            size = min(self._zeros - self.position, len(_ZEROS))
            count = os.write(self._socket, _ZEROS if size == len(_ZEROS) else _ZEROS[:size])
        else:
            size = min(self._looked - self.position, PIECE)
            count = os.sendfile(self._socket, self._file, self.position, size)
        self.position += count
        self.is_done = not count or self.position >= self._end

    def _look_ahead(self) -> None:
        """Find a large hole, or where the next one begins; see whether the data is in memory."""
        start = self.position
        stop = min(start + WINDOW, self._end)
        hole = holes.end_of_hole(self._file, start)
        if hole - start >= min(_LARGE_HOLE, stop - start):
            self._looked = self._zeros = min(hole, self._end)
            return
        while (begin := holes.next_hole(self._file, hole, stop)) < stop:
            hole = holes.end_of_hole(self._file, begin)
            if hole == begin:
                break
            if hole - begin >= _LARGE_HOLE:
                # NOTE: the kernel is not to fill memory with the zeros that follow.
                stop = begin
                break
        self._looked = stop
        # PERF: to look at a window costs about 20 microseconds, to send it 2 milliseconds.
        self.is_cold = not _in_memory(self._file, start, stop)

    def read_in(self) -> None:
        """Read what was looked at into memory, and let the kernel begin with what follows."""
        start, stop = self.position, self._looked
        if stop == start + WINDOW:
            os.posix_fadvise(self._file, start, 2 * WINDOW, os.POSIX_FADV_WILLNEED)
        _read_in(self._file, start, stop)


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


def _read_in(fd: int, start: int, stop: int) -> None:
    """Read a part of a file into memory."""
    buffer = bytearray(_READ_STEP)
    position = start
    while position < stop:
        count = os.preadv(fd, (buffer,), position)
        if not count:
            return
        position += count

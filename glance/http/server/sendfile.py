"""Zero-copy responses: a file's bytes go from the page cache to the socket inside the kernel.

`os.sendfile` is fast while the file's pages are in memory; for a page that is not, it sleeps, and
with it the hub and every request of the process. So the file is sent in windows: the server checks
whether a window is in memory, and if not, a native thread reads it in.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from glance.http.server import stream as streams
from glance.streaming import body, threads

WINDOW = 4 * 1024 * 1024
_PROBE_STEP = 256 * 1024
_READ_STEP = 1024 * 1024


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
                threads.run(_read_in, fd, position, ready)
        try:
            count = os.sendfile(stream.fd, fd, position, min(ready - position, streams.TURN))
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
    """Read a part of a file into memory, and let the kernel begin to read the next part."""
    os.posix_fadvise(fd, start, stop - start + WINDOW, os.POSIX_FADV_WILLNEED)
    buffer = bytearray(_READ_STEP)
    position = start
    while position < stop:
        count = os.preadv(fd, (buffer,), position)
        if not count:
            return
        position += count

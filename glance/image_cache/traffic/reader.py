"""A cached image for a client: opened, compared with what was verified, and counted."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator

from glance.image_cache.index.entries import CacheEntry, Entries
from glance.streaming import body


class Altered(OSError):
    """The file of an entry differs from what was committed."""


class CachedBody(body.FileBody):
    """A part of a complete entry, by default all of it.

    `used` is called with the entry and the time when it was opened, once the caller has reported
    by `count_hit` that something of it was sent; `broke` when the file cannot be read to its end.
    The rest then comes from the store, through `opener`, which gets the offset in the image.
    """

    def __init__(
        self,
        fd: int,
        entry: CacheEntry,
        *,
        used: Callable[[CacheEntry, float], None],
        broke: Callable[[CacheEntry, str], None],
        opener: Callable[[int], body.Body] | None = None,
        offset: int = 0,
        length: int | None = None,
    ):
        super().__init__(fd, size=entry.size, offset=offset, length=length)
        self.entry = entry
        self.opened_at = time.time()
        self._used, self._broke, self._opener = used, broke, opener

    def count_hit(self, sent: int, whole: bool) -> None:
        """Count a hit if at least one byte was sent; `hooks.after_response` calls it."""
        if sent:
            self._used(self.entry, self.opened_at)

    def read_on(self, count: int, error: OSError | None = None) -> Iterator[bytes]:
        self._broke(self.entry, "the file cannot be read to its end")
        if self._opener is None:
            yield from super().read_on(count, error)
            return
        left = self.length - count
        with self._opener(self.offset + count) as rest:
            yield from rest if rest.length == left else rest.slice(0, left)


def open_entry(entries: Entries, entry: CacheEntry) -> tuple[int, bool]:
    """Open the file of a complete entry; return whether it looks unchanged since verification.

    Blocks. Raises FileNotFoundError, Altered for a file of another size or kind, other OSErrors
    when the file cannot be opened now.
    """
    try:
        fd = entries.directory.open(entry.file)
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO, errno.ENOTDIR):
            raise Altered("it is not a regular file") from err
        raise
    try:
        status = os.fstat(fd)
        if status.st_size != entry.size:
            raise Altered(f"the file has {status.st_size} bytes, not {entry.size}")
        return fd, entries.stamp(status) == entry.stamp
    except BaseException:
        os.close(fd)
        raise

"""A copy that another process of this host writes, followed by downloads of this process.

The file grows, and its bytes are sent as they appear in it. The last few are held back until the
writer has verified the whole image and committed it. When the writer dies or gives up, each client
goes on with the store, and what it was sent already is compared with the checksum at the end. So
what a client gets is whole and right, or its download is cut off.

A follower locks a byte of the file (an open file description lock), by which the writer knows of
it: see `glance.image_cache.traffic.fill`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from glance.common import exception
from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import INCOMPLETE, CacheEntry, Image
from glance.image_cache.traffic import fill
from glance.streaming import body, digest, hub, staged_file, threads

#: Bytes at the end of an image that nobody gets before the writer has verified it.
HELD = 4096
#: Seconds between two looks at the file: at first, and at most.
_SOON, _LATER = 0.005, 0.05

NEW, GROWING, COMPLETE, GONE = "new", "growing", "complete", "gone"


class Neighbour:
    """The file that another process fills with an image, for the clients of this process.

    `count` bytes are in it. In state COMPLETE they are verified and all; in GONE the writer has
    died or given up. `ended` is called once, when no more clients can follow. Whoever has joined
    leaves in the end.
    """

    def __init__(self, image: Image, index: Index, ended: Callable[[Neighbour], None]):
        self.image = image
        self.state = NEW
        self.count = 0
        self._index, self._ended = index, ended
        self._looking = hub.native_lock()
        self._looked = 0.0
        self._counting = hub.native_lock()
        self._readers = 0
        self._entry: CacheEntry | None = None
        self._file: body.FileBody | None = None

    def join(self) -> str:
        """Add a client, once there are bytes to be sent; return why not, in a word, or "".

        That is GONE, or INCOMPLETE if there is a writer but no progress. A writer whose store
        fails ends before there are bytes, so that its followers can still learn why. Raises
        CacheUnavailable.
        """
        with self._counting:
            self._readers += 1
        refused = GONE
        try:
            begun = self.grow(0)
            refused = GONE if self.state == GONE else "" if begun else INCOMPLETE
        finally:
            if refused:
                self.leave()
        return refused

    def _open(self) -> None:
        """Open the file; the state stays NEW if it was announced and is not there yet."""
        entry = self._index.entries.find(self.image.image_id)
        if entry is None or not self._is_of(entry):
            self._end(GONE)
            return
        try:
            fd = self._index.directory.open(entry.file)
        except FileNotFoundError:
            if not layout.is_alive(entry.writer):
                self._end(GONE)
            return
        except OSError:
            self._end(GONE)
            return
        staged_file.follow(fd)
        self._entry, self._file = entry, body.FileBody(fd, size=self.image.size)
        self.state = GROWING

    def _is_of(self, entry: CacheEntry) -> bool:
        same = (entry.expected_size, entry.checksum) == (self.image.size, self.image.checksum)
        return entry.state == INCOMPLETE and same

    def ready(self, position: int) -> int:
        """Return how many bytes from `position` on may be sent now."""
        if self.state == COMPLETE:
            return self.image.size - position
        return max(0, min(self.count, self.image.size - HELD) - position)

    def grow(self, position: int) -> bool:
        """Wait until there is more to send from `position` on; False if that will not come."""
        before, pause = self.count, _SOON
        deadline = time.monotonic() + fill.FOLLOW_TIMEOUT
        while not self.ready(position) and self.state in (NEW, GROWING):
            self._look_for_all()
            if not self.ready(position):
                hub.sleep(pause)
                pause = min(2 * pause, _LATER)
            now = time.monotonic()
            if self.count > before:
                before, deadline = self.count, now + fill.FOLLOW_TIMEOUT
            elif now > deadline:
                return False
        return self.ready(position) > 0

    def _look_for_all(self) -> None:
        """Look at the file, unless another client does so now or has just done so."""
        if time.monotonic() < self._looked + _SOON or not self._looking.acquire(blocking=False):
            return
        try:
            threads.run(self._open if self._file is None else self._look)
            self._looked = time.monotonic()
        finally:
            self._looking.release()

    def _look(self) -> None:
        assert self._file is not None and self._entry is not None
        fd = self._file.fileno()
        # NOTE: in this order: the writer commits before it gives the lock back.
        alive = staged_file.is_locked(fd) or (
            self._is_at(fd, self._entry.file) and layout.is_alive(self._entry.writer)
        )
        self.count = os.fstat(fd).st_size
        if not alive:
            done = self._is_at(fd, self._index.directory.entry_file(self.image.image_id))
            self._end(COMPLETE if done and self.count == self.image.size else GONE)

    def _is_at(self, fd: int, file: str) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(fd), os.lstat(self._index.directory.full(file)))
        return False

    def read(self, position: int, size: int) -> bytes:
        """Return bytes that are in the file; fewer, or none, if it cannot be read."""
        assert self._file is not None
        try:
            return threads.run(os.pread, self._file.fileno(), size, position)
        except OSError:
            return b""

    def _end(self, state: str) -> None:
        self.state = state
        self._ended(self)

    def leave(self) -> None:
        """Drop a client; the last one closes the file."""
        with self._counting:
            self._readers -= 1
            if self._readers:
                return
            file, self._file = self._file, None
            if self.state != COMPLETE:
                self.state = GONE
        self._ended(self)
        if file is not None:
            file.close()


class NeighbourBody(body.Body):
    """The whole image for one client that has joined; `opener` opens it in the store."""

    def __init__(self, neighbour: Neighbour, opener: fill.Opener):
        super().__init__(neighbour.image.size, size=neighbour.image.size)
        self._neighbour, self._opener = neighbour, opener
        self._own: body.Body | None = None

    def _chunks(self) -> Iterator[bytes]:
        position, size = 0, self._neighbour.image.size
        while position < size:
            ready = min(body.CHUNK, self._neighbour.ready(position))
            if not ready:
                if self._neighbour.grow(position):
                    continue
                break
            chunk = self._neighbour.read(position, ready)
            if not chunk:
                break
            position += len(chunk)
            yield chunk
        if position < size:
            yield from self._alone(position)

    def _alone(self, position: int) -> Iterator[bytes]:
        """Yield the rest from the store; its end only if the whole is what the record says.

        Nobody has verified what the file had: its writer may have given up because of that.
        """
        self._own = self._opener(position)
        image = self._neighbour.image
        if not image.checksum:
            yield from self._own
            return
        digester = self._digested(position)
        held = b""
        for chunk in self._own:
            threads.run(digester.update, chunk)
            if held:
                yield held
            held = chunk
        if digester.hexdigest() != image.checksum:
            detail = f"image {image.image_id} differs from its record"
            raise exception.BackendCorrupt().because(detail)
        yield held

    def _digested(self, end: int) -> digest.Digester:
        """Return the digest of what was sent already: so much of the file."""
        digester, position = digest.Digester(), 0
        while position < end:
            data = self._neighbour.read(position, min(body.CHUNK, end - position))
            if not data:
                raise exception.BackendCorrupt().because("the copy in the cache cannot be read")
            threads.run(digester.update, data)
            position += len(data)
        return digester

    def _release(self) -> None:
        try:
            if self._own is not None:
                self._own.close()
        finally:
            self._neighbour.leave()

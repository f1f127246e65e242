"""An image on its way into the cache: the incomplete file, its digest, and how it ends.

What does not belong here: where the bytes come from (`fill`), and who may write (`limits`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable
from typing import Self

from glance.common import exception
from glance.image_cache import layout
from glance.image_cache.index import driver as index_driver
from glance.image_cache.index.driver import COMPLETE, CacheEntry, CacheRefused
from glance.streaming import digest, disk, offload

LOG = logging.getLogger(__name__)

#: Seconds between two notes of how much is written.
_PROGRESS = 5.0


class Writer:
    """The only writer of an incomplete entry; a context manager that aborts what is not committed.

    `count` is the number of bytes written. `lost`: the entry was removed meanwhile, so that
    `commit` will fail. Of an aborted image nothing is left; one that turned
    out to be wrong is kept among the invalid entries. The methods wait cooperatively.
    """

    def __init__(self, driver: index_driver.Driver, entry: CacheEntry, verify: tuple[str, ...]):
        self.driver = driver
        self.entry = entry
        self.count = 0
        self.lost = False
        self._digester = digest.Digester() if "checksum" in verify else None
        self._fd = -1
        self._flushed = 0
        self._mark = 0
        self._noted = time.monotonic()
        # NOTE: guards the descriptor: garbage collection may abort while a thread writes.
        self._lock = offload.native_lock()

    def forget(self) -> None:
        """Give up what was not opened."""
        layout.release_token(self.entry.writer)

    def open(self) -> None:
        """Make and lock the file of the entry, which the index knows already.

        Blocks: the cache calls it in a native thread. CacheUnavailable, with the entry gone.
        """
        try:
            fd = self.driver.create(self.entry)
        except OSError as err:
            self.driver.remove(self.entry)
            raise exception.CacheUnavailable(
                f"The image cache cannot be written to: {err.strerror}"
            ) from err
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._fd = fd

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises OSError (disk full, broken, written to by others), ImageSizeMismatch for more bytes
        than were announced, and CacheUnavailable. Abort after an error.
        """
        offload.run(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._require_open()
            if self.count + len(data) > (self.entry.expected_size or 0):
                raise exception.ImageSizeMismatch("The image has more bytes than its record says")
            self._require_untouched()
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.count)
                self.count += written
                view = view[written:]
            self._mark = os.fstat(self._fd).st_mtime_ns
            if self._digester is not None:
                self._digester.update(data)
            if self.count - self._flushed >= disk.WRITEBACK_STEP:
                disk.start_writeback(self._fd, self._flushed, self.count - self._flushed)
                self._flushed = self.count
            if time.monotonic() - self._noted > _PROGRESS and not self.lost:
                self._noted = time.monotonic()
                self.lost = not self.driver.progress(self.entry, self.count)

    def commit(self) -> CacheEntry:
        """Verify what was written and make it an entry, durably.

        Raises ImageSizeMismatch and ChecksumMismatch, with the file kept as an invalid entry;
        Refused when the entry was removed meanwhile, OSError and CacheUnavailable, with nothing
        kept.
        """
        try:
            return offload.run(self._commit)
        except (exception.ImageSizeMismatch, exception.ChecksumMismatch) as err:
            self.abort(err)
            raise
        except BaseException:
            self.abort()
            raise

    def _commit(self) -> CacheEntry:
        with self._lock:
            self._require_open()
            if self.count != self.entry.expected_size:
                raise exception.ImageSizeMismatch("The image has fewer bytes than its record says")
            self._require_untouched()
            checksum = None
            if self._digester is not None:
                checksum = self._digester.hexdigest()
                if self.entry.checksum not in (None, checksum):
                    raise exception.ChecksumMismatch(
                        "The checksum of the image differs from that in its record"
                    )
            os.fsync(self._fd)
            now = time.time()
            done = dataclasses.replace(
                self.entry,
                state=COMPLETE,
                file=self.driver.directory.entry_file(self.entry.image_id),
                size=self.count,
                checksum=checksum,
                modified_at=now,
                accessed_at=now,
                writer=None,
            )
            if not self.driver.commit(self.entry, done):
                raise CacheRefused("removed meanwhile")
            self._close()
        return done

    def abort(self, error: BaseException | None = None) -> None:
        """Give the image up; with an `error`, keep the file as an invalid entry. Never fails."""
        if self._fd >= 0:
            offload.run(self._abort, error)

    def _abort(self, error: BaseException | None) -> None:
        with self._lock:
            if self._fd < 0:
                return
            self._close()
            try:
                if error is not None and self.driver.condemn(self.entry, described(error)):
                    return
            except exception.CacheUnavailable as err:
                LOG.warning("Image %s is not kept for inspection: %s", self.entry.image_id, err)
            # NOTE: the file first: on a full disk the index needs its room to be written to.
            with contextlib.suppress(OSError):
                self.driver.directory.unlink(self.entry.file)
            try:
                self.driver.remove(self.entry)
            except exception.CacheUnavailable as err:
                LOG.warning("Image %s is left to the cleaner: %s", self.entry.image_id, err)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)
        layout.release_token(self.entry.writer)

    def is_untouched(self, fd: int) -> bool:
        """Return whether nobody else has written to the file, which is open as `fd`. Blocks.

        The time of the last change tells it, so not what happened within a tick of the clock.
        """
        if os.fstat(fd).st_mtime_ns == self._mark:
            return True
        # NOTE: or somebody looked between our own writing and the note of it.
        with self._lock:
            return os.fstat(fd).st_mtime_ns == self._mark

    def _require_untouched(self) -> None:
        status = os.fstat(self._fd)
        if self.count and (status.st_mtime_ns, status.st_size) != (self._mark, self.count):
            raise OSError(errno.ESTALE, "another process has written to the file")

    def _require_open(self) -> None:
        if self._fd < 0:
            raise ValueError("the writer has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abort()

    def __del__(self) -> None:
        self.abort()


def described(error: BaseException) -> str:
    """Return a short text about an error without anything of a location in it."""
    # SECURITY: only our own errors are known to hold none.
    own = isinstance(error, exception.Error) and not isinstance(error, exception.StoreError)
    name = type(error).__name__
    return f"{name}: {error}"[:200] if own else name


def make(prepare: Callable[[], Writer]) -> Writer:
    """Return `prepare()`, worked out in a native thread.

    Nothing is left if the caller is killed meanwhile.
    """
    made: list[Writer] = []
    try:
        offload.run(lambda: made.append(prepare()))
    except BaseException:
        for writer in made:
            writer.abort()
        raise
    return made[0]

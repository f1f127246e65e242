"""An image on its way into the cache: the incomplete file, its digest, and how it ends.

What does not belong here: where the bytes come from (`fill`), and who may write (`limits`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Self

from glance.common import exception
from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import COMPLETE, CacheEntry, CacheRefused
from glance.streaming import digest, threads
from glance.streaming.staged_file import LocalFile

LOG = logging.getLogger(__name__)

#: Seconds between two notes of how much is written.
_PROGRESS = 5.0


class Writer:
    """The only writer of an incomplete entry; a context manager that aborts what is not committed.

    `lost`: the entry was removed meanwhile, so that `commit` will fail. Of an aborted image
    nothing is left; one that turned out to be wrong is kept among the invalid entries. The methods
    wait cooperatively.
    """

    def __init__(self, index: Index, entry: CacheEntry, verify: tuple[str, ...]):
        self.index = index
        self.entry = entry
        self.lost = False
        self._file = LocalFile(writeback=True, watch=True, sparse=True)
        self._digester = digest.Digester() if "checksum" in verify else None
        self._noted = time.monotonic()

    @property
    def count(self) -> int:
        """How many bytes are written."""
        return self._file.count

    def forget(self) -> None:
        """Give up what was not opened."""
        layout.release_token(self.entry.writer)

    def open(self) -> None:
        """Make and lock the file of the entry, which the index knows already.

        Blocks: the cache calls it in a native thread. CacheUnavailable, with the entry gone.
        """
        try:
            fd = self.index.entries.create_file(self.entry)
        except OSError as err:
            self.index.entries.remove(self.entry)
            raise exception.CacheUnavailable(
                f"The image cache cannot be written to: {err.strerror}"
            ) from err
        self._file.adopt(fd, self.index.directory.full(self.entry.file))

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises OSError (disk full, broken, written to by others), ImageSizeMismatch for more bytes
        than were announced, and CacheUnavailable. Abort after an error.
        """
        threads.run(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._file.held():
            if self.count + len(data) > (self.entry.expected_size or 0):
                raise exception.ImageSizeMismatch("The image has more bytes than its record says")
            self._file.require_untouched()
            self._file.write(data)
            if self._digester is not None:
                self._digester.update(data)
            if time.monotonic() - self._noted > _PROGRESS and not self.lost:
                self._noted = time.monotonic()
                self.lost = not self.index.entries.progress(self.entry, self.count)

    def commit(self) -> CacheEntry:
        """Verify what was written and make it an entry, durably.

        Raises ImageSizeMismatch and ChecksumMismatch, with the file kept as an invalid entry;
        Refused when the entry was removed meanwhile, OSError and CacheUnavailable, with nothing
        kept.
        """
        try:
            return threads.run(self._commit)
        except (exception.ImageSizeMismatch, exception.ChecksumMismatch) as err:
            self.abort(err)
            raise
        except BaseException:
            self.abort()
            raise

    def _commit(self) -> CacheEntry:
        with self._file.held():
            if self.count != self.entry.expected_size:
                raise exception.ImageSizeMismatch("The image has fewer bytes than its record says")
            self._file.require_untouched()
            checksum = None
            if self._digester is not None:
                checksum = self._digester.hexdigest()
                if self.entry.checksum not in (None, checksum):
                    raise exception.ChecksumMismatch(
                        "The checksum of the image differs from that in its record"
                    )
            self._file.sync()
            now = time.time()
            done = dataclasses.replace(
                self.entry,
                state=COMPLETE,
                file=self.index.directory.entry_file(self.entry.image_id),
                size=self.count,
                checksum=checksum,
                modified_at=now,
                accessed_at=now,
                writer=None,
            )
            with self.index.transaction():
                if not self.index.entries.commit(self.entry, done):
                    raise CacheRefused("removed meanwhile")
                self.index.queue.remove(done.image_id)
        self._close()
        return done

    def abort(self, error: BaseException | None = None) -> None:
        """Give the image up; with an `error`, keep the file as an invalid entry. Never fails."""
        if self._file.is_open:
            threads.run(self._abort, error)

    def _abort(self, error: BaseException | None) -> None:
        if not self._close():
            return
        try:
            if error is not None and self.index.entries.condemn(self.entry, described(error)):
                return
        except exception.CacheUnavailable as err:
            LOG.warning("Image %s is not kept for inspection: %s", self.entry.image_id, err)
        # NOTE: the file first: on a full disk the index needs its room to be written to.
        with contextlib.suppress(OSError):
            self.index.directory.unlink(self.entry.file)
        try:
            self.index.entries.remove(self.entry)
        except exception.CacheUnavailable as err:
            LOG.warning("Image %s is left to the cleaner: %s", self.entry.image_id, err)

    def _close(self) -> bool:
        """Close the file; return whether it was open."""
        was_open = self._file.close()
        if was_open:
            layout.release_token(self.entry.writer)
        return was_open

    def is_untouched(self, fd: int) -> bool:
        """Return whether nobody else has written to the file, which is open as `fd`. Blocks."""
        return self._file.is_untouched(fd)

    def is_followed(self) -> bool:
        """Return whether downloads of other processes read the file while it grows."""
        return threads.run(self._is_followed)

    def _is_followed(self) -> bool:
        try:
            with self._file.held():
                return self._file.is_followed()
        except ValueError:
            return False

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
        threads.run(lambda: made.append(prepare()))
    except BaseException:
        for writer in made:
            writer.abort()
        raise
    return made[0]

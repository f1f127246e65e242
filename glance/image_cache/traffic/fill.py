"""A download that fills the cache, and other downloads of the same image that follow it.

The bytes of one image are read from the store once, however many clients of this process request
it: a client that has sent everything so far reads the next chunk from the store, writes it to the
incomplete entry and sends it; the others read it from the file. So the fastest client sets the
pace, and a slow one delays no other. Clients of other processes read the file, too (`neighbour`);
as long as there are any, the store is read to the end, and no client sets the pace. Failures of
the cache never reach a client: the one that holds the store's data continues with it, the others
open the store at their position.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

from glance.common import exception
from glance.image_cache.index import entries
from glance.image_cache.index.entries import CacheRefused, Image
from glance.image_cache.traffic.writer import Writer
from glance.streaming import body, hub, tasks, threads

LOG = logging.getLogger(__name__)

#: Seconds without progress after which a follower opens the store itself.
FOLLOW_TIMEOUT = 30.0
#: Seconds that a stopping process waits for a chunk that is being read.
_STOP = 1.0

#: Opens the image's data in the store at an offset.
Opener = Callable[[int], body.Body]

STARTING, FILLING, COMPLETE, DROPPED, FAILED = (
    "starting",
    "filling",
    "complete",
    "dropped",
    "failed",
)


class Fill:
    """The transfer of one image from the store into the cache, for greenthreads of one process.

    `count` bytes are in the file, where followers may read them. `begun`: the store's data was
    opened; `detached`: it is fetched to the end although no client waits. In state DROPPED the
    cache gave the copy up; in FAILED the store's data was wrong. `ended` is called once, when no
    more clients can follow.
    """

    def __init__(
        self,
        image: Image,
        opener: Opener,
        *,
        begin: Callable[[Image], Writer],
        ended: Callable[[Fill], None],
        may_finish: Callable[[Fill], bool],
    ):
        self.image = image
        self.opener = opener
        self.state = STARTING
        self.count = 0
        self.begun = self.detached = False
        self._pumped = False
        self.refusal: CacheRefused | None = None
        self._begin, self._ended, self._may_finish = begin, ended, may_finish
        # Held by the client that reads the next chunk; at first by the leader.
        self._lock = hub.lock()
        self._lock.acquire()
        self._readers = 0
        self._counting = hub.native_lock()
        self._writer: Writer | None = None
        self._source: body.Body | None = None
        self._store_name: str | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._file: body.FileBody | None = None

    # -- starting --------------------------------------------------------------------------------

    def lead(self) -> FillBody:
        """Begin to fill; return the body of the first client.

        Raises what the store raises, and Refused if the cache does not admit the image; the store
        was not opened then.
        """
        try:
            self._announce()
            self._source = self.opener(0)
            self._store_name = self._source.store_name
            self._chunks = iter(self._source)
            self.state = FILLING
            self.begun = True
            self._readers += 1
            return FillBody(self)
        finally:
            try:
                if self.state != FILLING:
                    self._end(FAILED)
            finally:
                self._lock.release()

    def _announce(self) -> None:
        try:
            self._writer = self._begin(self.image)
            self._file = threads.run(self._open_file, self._writer)
        except CacheRefused as err:
            self.refusal = err
            raise
        except (OSError, exception.CacheUnavailable) as err:
            self.refusal = CacheRefused("trouble")
            raise self.refusal from err

    def _open_file(self, writer: Writer) -> body.FileBody:
        fd = writer.index.directory.open(writer.entry.file)
        return body.FileBody(fd, size=self.image.size)

    def follow(self) -> FillBody | None:
        """Return the body of another client; None if it has to open the store itself."""
        # NOTE: the lock is held while the store is being opened, whose errors must come before the
        # head of the response.
        if self.state == STARTING:
            if not self._acquire():
                return None
            self._lock.release()
        with self._counting:
            if self.state not in (FILLING, COMPLETE) or self._file is None:
                return None
            self._readers += 1
        return FillBody(self)

    def why_not(self) -> str:
        """Return, in a word, why clients cannot follow."""
        if self.refusal is not None:
            return self.refusal.reason
        return entries.COMPLETE if self.state == COMPLETE else "not to be followed"

    def _acquire(self) -> bool:
        return bool(self._lock.acquire(timeout=FOLLOW_TIMEOUT))

    # -- filling ---------------------------------------------------------------------------------

    def read(self, position: int, size: int) -> bytes:
        """Return bytes that are in the file already; fewer, or none, if it cannot be read."""
        if self._file is None or self._writer is None:
            return b""
        try:
            return threads.run(self._read, self._file.fileno(), self._writer, position, size)
        except OSError as err:
            LOG.warning("Image %s: its copy cannot be read: %s", self.image.image_id, err.strerror)
            return b""

    @staticmethod
    def _read(fd: int, writer: Writer, position: int, size: int) -> bytes:
        data = os.pread(fd, size, position)
        return data if writer.is_untouched(fd) else b""

    def advance(self, position: int) -> tuple[bytes, body.Body | None]:
        """Read the next chunk for a client that has sent `position` bytes.

        Returns the chunk, or b"" if another client read one meanwhile, and the store's body if the
        cache gave up: the client continues with that and closes it. Raises what the store raises,
        and _Alone if there is nothing to wait for.
        """
        if not self._acquire():
            raise _Alone
        try:
            if self.count > position:
                return b"", None
            if self.state != FILLING:
                raise _Alone
            chunk = self._pull()
            if self._keep(chunk):
                return chunk, None
            source, self._source = self._source, None
            rest = body.IterBody(self._chunks, close=source.close if source else None)
            self._end(DROPPED)
            return chunk, rest
        finally:
            self._lock.release()

    def _pull(self) -> bytes:
        try:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise exception.BackendCorrupt().of(self._store_name)
        except BaseException as err:
            self._end(FAILED, err if isinstance(err, Exception) else None)
            raise
        return chunk

    def _keep(self, chunk: bytes) -> bool:
        """Write a chunk; return False if the cache cannot keep the image."""
        assert self._writer is not None
        try:
            self._writer.write(chunk)
        except exception.ImageSizeMismatch as err:
            self._writer.abort(err)
        except (OSError, exception.Error) as err:
            LOG.warning("Image %s is not cached: %s", self.image.image_id, _reason(err))
            self._writer.abort()
        except BaseException:
            self._end(FAILED)
            raise
        else:
            self.count = self._writer.count
            # NOTE: followers may still read from a file that is no entry any more.
            if not self._writer.lost or self._readers > 1:
                return True
            self._writer.abort()
        return False

    # -- ending ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Commit the complete image. Raises what the store raises at the end of its data."""
        if self.state != FILLING:
            return
        with self._lock:
            if self.state != FILLING or self._writer is None or self.count < self.image.size:
                return
            try:
                if next(self._chunks, b""):
                    raise exception.BackendCorrupt().of(self._store_name)
            except BaseException as err:
                self._end(FAILED, err if isinstance(err, Exception) else None)
                raise
            try:
                self._writer.commit()
            except (exception.ImageSizeMismatch, exception.ChecksumMismatch):
                LOG.error(
                    "Image %s: the data in the store does not match the record",
                    self.image.image_id,
                )
                self._end(FAILED)
            except (OSError, exception.Error) as err:
                LOG.warning("Image %s is not cached: %s", self.image.image_id, _reason(err))
                self._end(DROPPED)
            except BaseException:
                self._end(DROPPED)
                raise
            else:
                self._end(COMPLETE)

    def leave(self) -> None:
        """Drop one reader. The last one decides whether the image is kept."""
        with self._counting:
            self._readers -= 1
            if self._readers:
                return
        if self.state == FILLING:
            if self.count == self.image.size:
                self.finish()
            elif self.pump() or self._readers or self.state != FILLING:
                # NOTE: `pump` waits for a thread; whoever has come meanwhile leaves later.
                return
            elif self._may_finish(self):
                self._readers += 1
                tasks.spawn(self._finish_alone)
                return
            else:
                self._end(FAILED)
        self._close_file_if_unused()

    def pump(self) -> bool:
        """Read the store to the end in the background if other processes wait for it.

        Returns whether that is done now.
        """
        if self._pumped:
            return True
        if self.state != FILLING or self._writer is None or not self._writer.is_followed():
            return False
        with self._counting:
            if self._pumped or self._file is None:
                return self._pumped
            self._pumped = True
            self._readers += 1
        tasks.spawn(self._pump, self._writer)
        return True

    def _pump(self, writer: Writer) -> None:
        try:
            self._read_on(writer.is_followed)
        finally:
            self._pumped = False
            self.leave()

    def _finish_alone(self) -> None:
        try:
            self._read_on(lambda: True)
        finally:
            self.leave()

    def _read_on(self, goes_on: Callable[[], bool]) -> None:
        """Read the store for no client of this process; commit the image if it becomes whole."""
        try:
            while self.state == FILLING and self.count < self.image.size and goes_on():
                _, rest = self.advance(self.count)
                if rest is not None:
                    rest.close()
            self.finish()
        except (_Alone, exception.Error, OSError) as err:
            LOG.warning("Image %s is not cached: %s", self.image.image_id, _reason(err))

    def stop(self) -> None:
        """Give the copy up; clients, if there are any, continue with the store."""
        if self._lock.acquire(timeout=_STOP):
            try:
                if self.state == FILLING:
                    self._end(DROPPED)
            finally:
                self._lock.release()

    def _end(self, state: str, error: BaseException | None = None) -> None:
        """Enter a final state; remove an image that is not committed.

        With an `error` of the store, its data is kept as an invalid entry.
        """
        self.state = state
        self._ended(self)
        source, self._source = self._source, None
        try:
            if self._writer is not None:
                self._writer.abort(error)
        finally:
            if source is not None:
                source.close()
            self._close_file_if_unused()

    def _close_file_if_unused(self) -> None:
        """Close the file unless a client, possibly a late one, still reads it."""
        with self._counting:
            if self._readers or self._file is None:
                return
            file, self._file = self._file, None
        file.close()


class FillBody(body.Body):
    """The whole image for one client of a fill."""

    def __init__(self, fill: Fill):
        super().__init__(fill.image.size, size=fill.image.size)
        self._fill = fill
        self._own: body.Body | None = None

    def _chunks(self) -> Iterator[bytes]:
        fill, position, size = self._fill, 0, self._fill.image.size
        while position < size:
            if self._own is not None:
                yield from self._own
                return
            ready = min(body.CHUNK, fill.count - position)
            try:
                chunk = fill.read(position, ready) if ready else self._advance(position)
                if ready and not chunk:
                    raise _Alone
            except _Alone:
                self._own = fill.opener(position)
                continue
            position += len(chunk)
            if chunk:
                yield chunk
        fill.finish()

    def _advance(self, position: int) -> bytes:
        chunk, self._own = self._fill.advance(position)
        return chunk

    def _release(self) -> None:
        try:
            if self._own is not None:
                self._own.close()
        finally:
            self._fill.leave()


class _Alone(Exception):
    """A client has to continue by itself."""

    def __str__(self) -> str:
        return "no progress"


def _reason(err: BaseException) -> str:
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    if isinstance(err, _Alone):
        return str(err)
    return exception.described(err)

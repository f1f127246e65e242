"""The sending of one part in the background, while its writer gathers the next one.

What does not belong here: which part is sent when, and what is left in S3 after an error.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from glance.common import exception
from glance.http.client.payload import Payload
from glance.store import upload_journal
from glance.store.s3.errors import S3Error
from glance.store.s3.exchange import PayloadSource
from glance.streaming import hub, tasks

#: Seconds for which a cancelled request that was sent completely may still be responded to.
PATIENCE = 5.0


class ClosableSource(PayloadSource, Protocol):
    """A source with something to close."""

    def close(self) -> None: ...


Part = TypeVar("Part", bound=ClosableSource)


class PartCancelled(BaseException):
    """The writer has given up; the request must not be completed or sent again."""


class BackgroundPart(Generic[Part]):
    """One request that sends `part`, from now on, in a task of its own.

    `send` is called with a source and returns the ETag. `trace` learns if the service may still
    execute a request that failed. The caller neither changes nor closes the part before the end
    of the request, which `finish`, `cancel` and `when_ended` know.
    """

    def __init__(
        self,
        send: Callable[[PayloadSource], str],
        part: Part,
        trace: upload_journal.UploadJournal,
    ):
        self.part = part
        self._source = _Source(part)
        self._trace = trace
        self._block = hub.Interruptible()
        self._etag = ""
        self._error: BaseException | None = None
        self._ended = False
        self._endings: list[Callable[[], object]] = []
        # The lines that it logs belong to the request of the writer.
        self._task = tasks.spawn(contextvars.copy_context().run, self._run, send)

    def _run(self, send: Callable[[PayloadSource], str]) -> None:
        try:
            with self._block:
                self._source.require_wanted()
                with recording_doubt(self._trace, self._source):
                    self._etag = send(self._source)
        except BaseException as err:
            # `check` and `finish` raise it in the writer.
            self._error = err
        self._ended = True
        self._call_endings()

    def check(self) -> None:
        """Raise what the request raised, if it has failed already."""
        if self._error is not None:
            raise self._error

    def finish(self) -> str:
        """Wait for the end of the request; return the ETag or raise what it raised."""
        self._task.join()
        self.check()
        return self._etag

    def give_up(self) -> None:
        """Have the request end soon. Does not wait, so that a finalizer may call it."""
        self._source.unwanted = True
        self._block.interrupt(PartCancelled())

    def cancel(self) -> None:
        """Have the request end soon, and wait for that.

        A request that was sent completely gets a moment for its response: without one nobody
        knows what the service does.
        """
        self._source.unwanted = True
        try:
            if self._source.is_complete:
                self._task.join(PATIENCE)
        finally:
            # It has no effect on a request that has ended.
            self.give_up()
        self._task.join()

    def when_ended(self, ending: Callable[[], object]) -> None:
        """Call `ending` at the end of the request, or now if it has ended."""
        self._endings.append(ending)
        if self._ended:
            self._call_endings()

    def _call_endings(self) -> None:
        # NOTE: a finalizer may add one at any point, in any thread: who takes it calls it.
        while self._endings:
            with contextlib.suppress(IndexError):
                self._endings.pop(0)()


class _Source:
    """A part whose payloads fail as soon as it is `unwanted`.

    `is_complete` is whether its last byte may have been sent, by any attempt.
    """

    def __init__(self, part: PayloadSource):
        self._part = part
        self.unwanted = False
        self.is_complete = False

    @property
    def count(self) -> int:
        return self._part.count

    @property
    def md5(self) -> str:
        return self._part.md5

    @property
    def sha256(self) -> str:
        return self._part.sha256

    def require_wanted(self) -> None:
        if self.unwanted:
            raise PartCancelled

    def payload(self) -> Payload:
        self.require_wanted()
        payload = self._part.payload()
        payload.source = _Reader(payload.source, self)
        return payload


class _Reader:
    """The file of a payload, for as long as its source is wanted."""

    def __init__(self, file: Any, source: _Source):
        self._file, self._source = file, source

    def read(self, size: int = -1) -> bytes:
        self._source.require_wanted()
        data: bytes = self._file.read(size)
        if self._file.tell() >= self._source.count:
            self._source.is_complete = True
        return data

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def seek(self, offset: int, whence: int = 0) -> int:
        position: int = self._file.seek(offset, whence)
        return position


@contextlib.contextmanager
def recording_doubt(
    trace: upload_journal.UploadJournal, source: _Source | None = None
) -> Iterator[None]:
    """Record in the journal that the service may still be executing a failed request.

    No service executes a request of which it did not get the whole body, the `source`.
    """
    try:
        yield
    except S3Error as err:
        if err.doubtful:
            trace.update(doubtful=True)
        raise
    except exception.Error:
        raise
    except BaseException:
        # Killed or cancelled during the request.
        if source is None or source.is_complete:
            trace.update(doubtful=True)
        raise

"""One request whose body comes from a writer: connects `write` to a library that reads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from glance.common import exception
from glance.streaming import tasks


class BackgroundRequest:
    """Passes written data to a request that runs in the background.

    `send` is called with a reader and returns the ETag of the object.
    """

    def __init__(self, send: Callable[[BackgroundRequest], str]):
        self._changed = threading.Condition()
        self._chunk = memoryview(b"")
        self._ended = False
        self._aborted = False
        self._done = False
        self._etag: str | None = None
        self._error: BaseException | None = None
        self._task = tasks.spawn(self._run, send)

    def _run(self, send: Callable[[BackgroundRequest], str]) -> None:
        try:
            self._etag = send(self)
        except BaseException as err:
            # `put` and `finish` raise it in the writer.
            self._error = err
        with self._changed:
            self._done = True
            self._changed.notify_all()

    # -- the writer's side -----------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Pass `data` on once the previous data is sent. Raises what the request raised."""
        with self._changed:
            while self._chunk and not self._done:
                self._changed.wait()
            self._check()
            self._chunk = memoryview(data)
            self._changed.notify_all()

    def finish(self) -> str | None:
        """Wait for the end of the request; return the ETag or raise what it raised."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._task.join()
        if self._error is not None:
            raise self._error
        return self._etag

    def abort(self) -> None:
        """Cancel the request and wait for its end. Idempotent."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
        self._task.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._done:
            # Swift responded before everything was sent.
            raise exception.BackendUnavailable()

    # -- the request's side ----------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        with self._changed:
            while not self._chunk and not self._ended and not self._aborted:
                self._changed.wait()
            if self._aborted:
                raise RequestAborted()
            data, self._chunk = bytes(self._chunk[:size]), self._chunk[size:]
            if not self._chunk:
                self._changed.notify_all()
            return data


class RequestAborted(Exception):
    """The writer has given up; the request must not be completed."""

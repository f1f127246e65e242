"""What a writer to a remote store leaves in case that it dies: a locked local file per upload.

The file says what the upload has made, or is about to make, in the backend. As long as the writer
lives it holds a lock; after its death `find` returns the trace, and the driver removes what it
names. Traces hold no credentials. What does not belong here: what the fields mean, which is each
driver's business.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any

from glance.store import staging
from glance.streaming import offload

LOG = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class UploadJournal:
    """The record of one upload, locked. End it with `remove` or `leave`."""

    def __init__(self, path: str, fd: int, values: dict[str, Any]):
        self.values = values
        self._path, self._fd = path, fd
        # NOTE: guards the descriptor: garbage collection may end it while a thread writes.
        self._lock = offload.native_lock()

    def update(self, **values: Any) -> None:
        """Change some fields, on the disk too when this returns.

        Raises StorageFull, StorageWriteDenied, BackendUnavailable.
        """
        offload.run(self._update, values)

    def _update(self, values: Mapping[str, Any]) -> None:
        changed = {**self.values, **values}
        with self._lock, staging.writing():
            # NOTE: a line is added; the last whole one counts, so that no moment is without one.
            line = json.dumps(changed).encode() + b"\n"
            os.pwrite(self._fd, line, os.fstat(self._fd).st_size)
            os.fdatasync(self._fd)
        self.values = changed

    def remove(self) -> None:
        """Remove it: nothing is left to clean up. Idempotent; an OSError is logged."""
        self._end(unlink=True)

    def leave(self) -> None:
        """Let go of it, for a later `find`. Idempotent."""
        self._end(unlink=False)

    def _end(self, unlink: bool) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            # NOTE: removed under the file's lock, or a `find` could take it meanwhile.
            try:
                if unlink:
                    os.unlink(self._path)
            except OSError as err:
                LOG.warning("The record of an upload cannot be removed: %s", err.strerror)
            finally:
                os.close(fd)

    def __del__(self) -> None:
        self.leave()


def begin(directory: str, store: str, **values: Any) -> UploadJournal:
    """Make the trace of an upload, durable on return.

    `values` must contain `image_id`. Raises StorageFull, StorageWriteDenied, BackendUnavailable.
    """
    return offload.run(_begin, directory, store, values)


def _begin(directory: str, store: str, values: dict[str, Any]) -> UploadJournal:
    with staging.writing():
        while True:
            path = os.path.join(directory, f"{_prefix(store)}{secrets.token_hex(8)}")
            fd = offload.open_fd(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            if staging.take_lock(fd):
                break
            os.close(fd)
    trace = UploadJournal(path, fd, values)
    try:
        trace._update({})
    except BaseException:
        trace.remove()
        raise
    return trace


def find(directory: str, store: str, max_age: float) -> list[UploadJournal]:
    """Return the traces whose writers are gone, locked; the caller ends each.

    Traces of another configuration of the store may be among them, which shares the directory:
    the caller leaves those. Where the file system has no locks, those older than `max_age` seconds
    count. Raises nothing: what cannot be looked at is logged.
    """
    return offload.run(_find, directory, store, max_age)


def _find(directory: str, store: str, max_age: float) -> list[UploadJournal]:
    try:
        names = os.listdir(directory)
    except OSError as err:
        LOG.debug("No traces of uploads to look at in %s: %s", directory, err.strerror)
        return []
    found = []
    for name in names:
        if name.startswith(_prefix(store)):
            try:
                trace = _take(os.path.join(directory, name), max_age)
            except FileNotFoundError:
                # Its upload has just ended, or another process settled it.
                continue
            except OSError as err:
                LOG.warning("Cannot read the upload record %s: %s", name, err.strerror)
                continue
            if trace is not None:
                found.append(trace)
    return found


def _take(path: str, max_age: float) -> UploadJournal | None:
    fd = offload.open_fd(path, _FLAGS | os.O_NONBLOCK)
    trace = UploadJournal(path, fd, {})
    # SECURITY: the directory may be one that everybody can write to.
    if os.fstat(fd).st_uid != os.geteuid() or not staging.is_left(fd, max_age):
        trace.leave()
        return None
    lines = os.pread(fd, os.fstat(fd).st_size, 0).split(b"\n")[:-1]
    if not lines:
        # Its writer died before it had made anything.
        trace.remove()
        return None
    trace.values = json.loads(lines[-1])
    return trace


def _prefix(store: str) -> str:
    return f"glance-{store}-upload."

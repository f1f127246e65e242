"""What a writer to a remote store leaves in case that it dies: a locked local file per upload.

The file says what the upload has made, or is about to make, in the backend. As long as the writer
lives it holds a lock; after its death `find` returns the trace, and the driver removes what it
names. Traces hold no credentials. What does not belong here: what the fields mean, which is each
driver's business.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any

from glance.store.os_errors import writing
from glance.streaming import staged_file, threads
from glance.streaming.staged_file import LocalFile

LOG = logging.getLogger(__name__)


class UploadJournal:
    """The record of one upload, locked. End it with `remove` or `leave`."""

    def __init__(self, file: LocalFile, values: dict[str, Any]):
        self.values = values
        self._file = file

    def update(self, **values: Any) -> None:
        """Change some fields, on the disk too when this returns.

        Raises StorageFull, StorageWriteDenied, BackendUnavailable.
        """
        threads.run(self._update, values)

    def _update(self, values: Mapping[str, Any]) -> None:
        changed = {**self.values, **values}
        # NOTE: a line is added; the last whole one counts, so that no moment is without one.
        line = json.dumps(changed).encode() + b"\n"
        with self._file.held() as fd, writing():
            end = self._file.count
            try:
                self._file.write(line)
                os.fdatasync(fd)
            except BaseException:
                # What may be half a line must not spoil the next one.
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                raise
        self.values = changed

    def remove(self) -> None:
        """Remove it: nothing is left to clean up. Idempotent; an OSError is logged."""
        try:
            self._file.remove(self._file.path)
        except OSError as err:
            LOG.warning("The record of an upload cannot be removed: %s", err.strerror)

    def leave(self) -> None:
        """Let go of it, for a later `find`. Idempotent."""
        self._file.close()

    def __del__(self) -> None:
        self.leave()


def begin(directory: str, store: str, **values: Any) -> UploadJournal:
    """Make the trace of an upload, durable on return.

    `values` must contain `image_id`. Raises StorageFull, StorageWriteDenied, BackendUnavailable.
    """
    return threads.run(_begin, directory, store, values)


def _begin(directory: str, store: str, values: dict[str, Any]) -> UploadJournal:
    file = LocalFile()
    with writing():
        file.create(directory, lambda: f"{_prefix(store)}{secrets.token_hex(8)}")
    trace = UploadJournal(file, values)
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
    # SECURITY: the directory may be one that everybody can write to.
    owner = os.geteuid()
    return threads.run(
        lambda: staged_file.take_abandoned(
            directory, max_age, _adopt, prefix=_prefix(store), owner=owner
        )
    )


def _adopt(file: LocalFile) -> UploadJournal | None:
    with file.held() as fd:
        lines = os.pread(fd, os.fstat(fd).st_size, 0).split(b"\n")[:-1]
        file.count = sum(len(line) + 1 for line in lines)
    if not lines:
        # Its writer died before it had made anything.
        UploadJournal(file, {}).remove()
        return None
    try:
        return UploadJournal(file, json.loads(lines[-1]))
    except ValueError as err:
        raise OSError(errno.EBADMSG, "it is not the record of an upload") from err


def _prefix(store: str) -> str:
    return f"glance-{store}-upload."

"""Which images wait to be copied, written down in case that the process dies.

The record of an image whose copy waits is `queued`, like that of an image which a caller has
reserved: nothing in the registry tells them apart. So each process keeps a list of its copies in a
file, locked as long as it lives; the next process that starts takes the lists of dead ones. The
lists hold ids only, and other services on the host have files of other names. There is no file
while no copy waits or runs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets

from glance.common import config
from glance.store import spool
from glance.streaming import hub, staged_file, threads

LOG = logging.getLogger(__name__)

config.options(
    "images API",
    config.Option(
        "copies_dir",
        config.path,
        help="Directory for the lists of images that wait to be copied, by which a process that "
        "starts finds those of one that died. It should survive a restart. Unset: the directory "
        "for temporary files.",
    ),
)

#: A list above this size, in bytes, is written anew, without the copies that have ended.
COMPACT = 64 * 1024


class CopyJournal:
    """The list of this process. Safe for concurrent use; no method raises an OSError."""

    def __init__(self, conf: config.Conf):
        self._directory, self._prefix = _place(conf)
        self._lock = hub.native_lock()
        self._file: staged_file.LocalFile | None = None
        self._ids: set[int] = set()
        self._closed = False

    def add(self, image_id: int) -> None:
        """Note that the copy into an image waits."""
        threads.run(self._note, image_id, True)

    def remove(self, image_id: int) -> None:
        """Note that the copy into an image has ended."""
        threads.run(self._note, image_id, False)

    def close(self) -> None:
        """End the list; what is still on it is left to the next process."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def _note(self, image_id: int, waits: bool) -> None:
        with self._lock:
            if self._closed:
                return
            (self._ids.add if waits else self._ids.discard)(image_id)
            try:
                self._write(f"{'+' if waits else '-'}{image_id}\n")
            except (OSError, ValueError) as err:
                LOG.warning("Image %s: its copy cannot be noted: %s", image_id, err)

    def _write(self, line: str) -> None:
        if not self._ids:
            file, self._file = self._file, None
            if file is not None:
                file.remove(file.path)
            return
        if self._file is None:
            file = staged_file.LocalFile()
            file.create(self._directory, lambda: f"{self._prefix}{secrets.token_hex(8)}")
            self._file = file
        with self._file.held():
            if self._file.count > COMPACT:
                self._file.truncate()
                line = "".join(f"+{each}\n" for each in sorted(self._ids))
            self._file.write(line.encode())


class LeftCopies:
    """The list of a dead process: `ids` of images whose copies waited. End it with `end`."""

    def __init__(self, file: staged_file.LocalFile, ids: list[int]):
        self.ids = ids
        self._file = file

    def end(self, *, done: bool) -> None:
        """Remove the list if all is `done`, otherwise leave it to a later process."""
        threads.run(self._end, done)

    def _end(self, done: bool) -> None:
        try:
            self._file.remove(self._file.path if done else None)
        except OSError as err:
            LOG.warning("A list of images that waited to be copied remains: %s", err.strerror)


def find(conf: config.Conf) -> list[LeftCopies]:
    """Return the lists of dead processes, locked; the caller ends each. Never raises."""
    directory, prefix = _place(conf)
    # SECURITY: the directory may be one that everybody can write to.
    owner = os.geteuid()
    return threads.run(
        lambda: staged_file.take_abandoned(
            directory, conf.incoming_max_age, _adopt, prefix=prefix, owner=owner
        )
    )


def _adopt(file: staged_file.LocalFile) -> LeftCopies:
    with file.held() as fd:
        lines = os.pread(fd, os.fstat(fd).st_size, 0).decode("ascii", "replace").split("\n")[:-1]
    ids: dict[int, None] = {}
    for line in lines:
        if not line[1:].isdecimal():
            continue
        if line[0] == "+":
            ids[int(line[1:])] = None
        else:
            ids.pop(int(line[1:]), None)
    return LeftCopies(file, list(ids))


def _place(conf: config.Conf) -> tuple[str, str]:
    """Return the directory of the lists, and how their names begin."""
    service = f"{conf.registry_host}:{conf.registry_port}:{conf.filesystem_store_datadir}"
    name = hashlib.sha256(service.encode()).hexdigest()[:16]
    return spool.directory_of(conf.copies_dir), f"glance-copies-{name}."

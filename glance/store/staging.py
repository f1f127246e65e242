"""Files on their way into the file store: staged, published under their id, or left by the dead.

A staged file lies in the store's own corner of the data directory, locked by its writer as long as
that lives. `commit` links it to its final name; the staged name stays until the writer knows that
the image's record is settled, so that a sweep can tell what a process left undone. What does not
belong here: reading and deleting images, which is `glance.store.filesystem`, and how such a file
is made, locked and ended, which is `glance.streaming.staged_file`.
"""

from __future__ import annotations

import logging
import os
import secrets
from typing import Protocol

from glance.common import config, exception
from glance.store import base
from glance.store.location import FileLocation
from glance.store.os_errors import writing
from glance.streaming import threads
from glance.streaming.staged_file import LocalFile

LOG = logging.getLogger(__name__)


class StagingDirectory(Protocol):
    """What a staged file needs of its store."""

    conf: config.Conf
    datadir: str
    incoming: str

    def path_of(self, image_id: str) -> str: ...

    def check_room(self, wanted: int) -> None: ...


class StagedFile(base.StagedWrite):
    """A staged file of a living writer."""

    writes_in_threads = True

    def __init__(self, store: StagingDirectory, image_id: str):
        self._file = LocalFile(writeback=True, sparse=True)
        self._store = store
        self._final = store.path_of(image_id)
        self._image_id = image_id

    @property
    def count(self) -> int:
        """How many bytes are written."""
        return self._file.count

    def open(self, size: int | None) -> None:
        """Make, lock and reserve the file. Blocks: the store calls it in a native thread."""
        if os.path.lexists(self._final):
            raise exception.StoreObjectExists()
        with writing():
            self._store.check_room(size or 0)
            mode = self._store.conf.filesystem_store_file_mode
            self._file.create(self._store.incoming, self._name, mode)
            if size:
                with self._file.held():
                    self._file.reserve(size)

    def _name(self) -> str:
        # NOTE: the id is cut, because a name may not be longer than 255 bytes.
        return f"{self._image_id[:200]}.{secrets.token_hex(8)}"

    def write(self, data: bytes) -> None:
        threads.run(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._file.held(), writing():
            if self._file.write(data):
                self._store.check_room(0)

    def commit(self) -> str:
        try:
            threads.run(self._publish)
        except BaseException:
            # NOTE: a kill can arrive when the file is published already; nobody would ever learn
            # of it, so it goes.
            threads.run(self._discard, True)
            raise
        return FileLocation(self._final).uri(secret=True)

    def _publish(self) -> None:
        with self._file.held(), writing():
            self._file.sync()
            try:
                self._file.publish(self._final)
            except FileExistsError:
                raise exception.StoreObjectExists() from None

    def abort(self) -> None:
        if self._file.is_open:
            threads.run(self._discard, False)

    def abandon(self) -> AbandonedFile:
        with self._file.held():
            left, self._file = AbandonedFile(self._file), LocalFile()
        return left

    def _discard(self, unpublish: bool) -> None:
        file = self._file
        try:
            file.remove(file.final if unpublish else None, file.path)
        except OSError as err:
            LOG.warning(
                "Cannot remove the interrupted upload of image %s: %s",
                self._image_id,
                err.strerror,
            )

    def __del__(self) -> None:
        self.abort()


class AbandonedFile(base.AbandonedWrite):
    """A staged file of a dead writer, which is locked and is closed in the end."""

    def __init__(self, file: LocalFile):
        assert file.path is not None
        self.image_id = os.path.basename(file.path).rpartition(".")[0]
        self._file = file

    @property
    def committed(self) -> bool:
        return self._file.final is not None

    def discard(self) -> None:
        self._remove(self._file.final, self._file.path)

    def keep(self) -> None:
        self._remove(self._file.path)

    def leave(self) -> None:
        self._file.close()

    def _remove(self, *names: str | None) -> None:
        try:
            self._file.remove(*names)
        except OSError as err:
            LOG.warning(
                "An interrupted upload of image %s remains: %s", self.image_id, err.strerror
            )

    def __del__(self) -> None:
        self.leave()


def adopt(file: LocalFile, datadir: str) -> AbandonedFile:
    """Return a staged file that was taken from a dead writer. OSError.

    What was not published loses its bytes.
    """
    left = AbandonedFile(file)
    final = os.path.join(datadir, left.image_id)
    with file.held() as fd:
        status = os.fstat(fd)
        if os.path.lexists(final) and os.path.samestat(os.lstat(final), status):
            file.final = final
        elif status.st_nlink == 1:
            # SECURITY: never the bytes of a file with a second name, which may be an image.
            file.truncate()
    return left

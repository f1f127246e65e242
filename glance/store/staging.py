"""Files on their way into the file store: staged, published under their id, or left by the dead.

A staged file lies in the store's own corner of the data directory, locked by its writer as long as
that lives. `commit` links it to its final name; the staged name stays until the writer knows that
the image's record is settled, so that a sweep can tell what a process left undone. What does not
belong here: reading and deleting images, which is `glance.store.filesystem`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator
from typing import Protocol

from glance.common import config, exception
from glance.store import base
from glance.store.location import FileLocation
from glance.streaming import disk, offload

LOG = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_SUPPORT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


class StagingDirectory(Protocol):
    """What a staged file needs of its store."""

    conf: config.Conf
    datadir: str
    incoming: str

    def path_of(self, image_id: str) -> str: ...

    def check_room(self, wanted: int) -> None: ...


class StagedFile(base.StagedWrite):
    """A staged file of a living writer."""

    def __init__(self, store: StagingDirectory, image_id: str):
        self.count = 0
        self._published = False
        self._store = store
        self._final = store.path_of(image_id)
        self._image_id = image_id
        self._path: str | None = None
        self._fd = -1
        self._reserved = 0
        self._flushed = 0
        # NOTE: guards the descriptor: garbage collection may abort while a thread writes.
        self._lock = offload.native_lock()

    def open(self, size: int | None) -> None:
        """Make, lock and reserve the file. Blocks: the store calls it in a native thread."""
        if os.path.lexists(self._final):
            raise exception.StoreObjectExists()
        with writing():
            self._store.check_room(size or 0)
            while not self._create():
                pass
            os.fchmod(self._fd, self._store.conf.filesystem_store_file_mode)
            if size:
                self._reserve(size)

    def _create(self) -> bool:
        """Make and lock a new file; False if a sweep took it before the lock was there."""
        # NOTE: the id is cut, because a name may not be longer than 255 bytes.
        name = f"{self._image_id[:200]}.{secrets.token_hex(8)}"
        path = os.path.join(self._store.incoming, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = offload.open_fd(path, flags, 0o600)
        if not take_lock(fd):
            os.close(fd)
            return False
        self._fd, self._path = fd, path
        return True

    def _reserve(self, size: int) -> None:
        try:
            os.posix_fallocate(self._fd, 0, size)
            self._reserved = size
        except OSError as err:
            if err.errno not in NO_SUPPORT:
                raise

    def write(self, data: bytes) -> None:
        offload.run(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._lock, writing():
            self._require_open()
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.count)
                self.count += written
                view = view[written:]
            if self.count - self._flushed >= disk.WRITEBACK_STEP:
                disk.start_writeback(self._fd, self._flushed, self.count - self._flushed)
                self._flushed = self.count
                if self.count > self._reserved:
                    self._store.check_room(0)

    def commit(self) -> str:
        try:
            offload.run(self._publish)
        except BaseException:
            # NOTE: a kill can arrive when the file is published already; nobody would ever learn
            # of it, so it goes.
            offload.run(self._discard, True)
            raise
        return FileLocation(self._final).uri(secret=True)

    def _publish(self) -> None:
        with self._lock, writing():
            self._require_open()
            assert self._path is not None
            if self.count < self._reserved:
                os.ftruncate(self._fd, self.count)
            os.fsync(self._fd)
            try:
                os.link(self._path, self._final, follow_symlinks=False)
            except FileExistsError:
                raise exception.StoreObjectExists() from None
            self._published = True
            disk.sync_directory(self._store.datadir)

    def abort(self) -> None:
        if self._fd >= 0:
            offload.run(self._discard, False)

    def abandon(self) -> AbandonedFile:
        with self._lock:
            self._require_open()
            assert self._path is not None
            left = AbandonedFile(self._path, self._fd)
            left.final = self._final if self._published else None
            self._path, self._fd = None, -1
        return left

    def _discard(self, unpublish: bool) -> None:
        with self._lock:
            paths = [self._path, self._final if unpublish and self._published else None]
            self._path, self._published = None, False
            for path in filter(None, paths):
                try:
                    os.unlink(path)
                except OSError as err:
                    LOG.warning(
                        "Cannot remove the interrupted upload of image %s: %s",
                        self._image_id,
                        err.strerror,
                    )
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _require_open(self) -> None:
        if self._fd < 0:
            raise ValueError("the staged write has ended")

    def __del__(self) -> None:
        self.abort()


class AbandonedFile(base.AbandonedWrite):
    """A staged file of a dead writer. `final` is its name as an image, if it was published."""

    final: str | None = None

    def __init__(self, path: str, fd: int):
        self.image_id = os.path.basename(path).rpartition(".")[0]
        self._path, self._fd = path, fd

    @property
    def committed(self) -> bool:
        return self.final is not None

    def discard(self) -> None:
        self._remove(self.final, self._path)

    def keep(self) -> None:
        self._remove(self._path)

    def leave(self) -> None:
        self._remove()

    def _remove(self, *paths: str | None) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        # NOTE: removed under the lock. A writer that had made the file but not yet locked it
        # finds it gone and makes another.
        try:
            for path in filter(None, paths):
                os.unlink(path)
        except OSError as err:
            LOG.warning(
                "An interrupted upload of image %s remains: %s", self.image_id, err.strerror
            )
        finally:
            os.close(fd)

    def __del__(self) -> None:
        self.leave()


def take(path: str, datadir: str, max_age: float) -> AbandonedFile | None:
    """Lock a staged file; None if its writer lives. What was not published loses its bytes.

    Where the file system has no locks, a file counts as left when it is older than `max_age`
    seconds. Raises OSError, FileNotFoundError among others.
    """
    fd = offload.open_fd(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    left = AbandonedFile(path, fd)
    try:
        if not is_left(fd, max_age):
            left.leave()
            return None
        status = os.fstat(fd)
        final = os.path.join(datadir, left.image_id)
        if os.path.lexists(final) and os.path.samestat(os.lstat(final), status):
            left.final = final
        elif status.st_nlink == 1:
            # SECURITY: never the bytes of a file with a second name, which may be an image.
            os.ftruncate(fd, 0)
        return left
    except BaseException:
        left.leave()
        raise


def take_lock(fd: int) -> bool:
    """Lock a file just made; False if a sweep took it, and its name, before the lock was there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as err:
        LOG.debug("The file system of uploads in progress has no locks: %s", err.strerror)
    return os.fstat(fd).st_nlink > 0


def is_left(fd: int, max_age: float) -> bool:
    """Return whether nobody writes to the file or settles it; it is locked then."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(fd).st_mtime >= max_age
    # Without a name, another process has settled it between the opening and the lock.
    return os.fstat(fd).st_nlink > 0


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Translate the errors of system calls that write."""
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise exception.StorageFull() from err
        if err.errno in DENIED:
            raise exception.StorageWriteDenied() from err
        raise exception.BackendUnavailable() from err

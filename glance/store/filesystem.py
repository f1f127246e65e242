"""The file store: one file per image in a directory of this host (`file:`, `filesystem:`).

Layout: `<datadir>/<image id>` for complete images, `<datadir>/.incoming/<image id>.<random>` for
those on their way in. An image appears under its id in one step, complete and synced to the disk,
or not at all. Blocking calls run in native threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

from glance.common import body, config, exception, offload
from glance.store import base
from glance.store.base import Capability
from glance.store.location import FileLocation, Location

LOG = logging.getLogger(__name__)

INCOMING = ".incoming"
_WRITEBACK_STEP = 8 * 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_NO_RESERVATION = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def _octal(text: str) -> int:
    try:
        mode = int(text.strip(), 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:
        raise ValueError("use an octal file mode such as 0640")
    return mode


OPTIONS = config.options(
    "filesystem store",
    config.Option(
        "filesystem_store_datadir",
        config.path,
        default="/var/lib/glance/images/",
        help="Directory that holds the image files. It is made at start if it is missing, must be "
        "writable by the API and must support hard links.",
    ),
    config.Option(
        "filesystem_store_min_free_bytes",
        config.integer,
        default=0,
        minimum=0,
        unit="bytes",
        help="Room that uploads must leave free on the file system of the image directory; an "
        "upload that would leave less is answered with 413.",
    ),
    config.Option(
        "filesystem_store_file_mode",
        _octal,
        default=0o640,
        help="Access mode of image files, as an octal number.",
    ),
    config.Option(
        "incoming_max_age",
        config.integer,
        default=86400,
        minimum=0,
        unit="seconds",
        help="Age after which the remains of a broken upload are removed where the file system "
        "cannot tell whether their writer still runs.",
    ),
    config.Option(
        "allow_file_locations",
        config.boolean,
        default=False,
        help="Whether administrators may register images by file:// locations inside "
        "file_locations_dir.",
    ),
    config.Option(
        "file_locations_dir",
        config.path,
        help="Directory whose files administrators may register as images when "
        "allow_file_locations is on. Registered files are read, never deleted.",
    ),
)


class Store(base.Store):
    name: ClassVar[str] = "file"
    schemes: ClassVar[tuple[str, ...]] = FileLocation.schemes
    location_class = FileLocation
    capabilities = (
        Capability.READ
        | Capability.RANDOM_READ
        | Capability.SIZE
        | Capability.WRITE
        | Capability.DELETE
    )

    def configure(self) -> None:
        self.datadir = os.path.abspath(self.conf.filesystem_store_datadir)
        self.incoming = os.path.join(self.datadir, INCOMING)
        self.locations_dir: str | None = None
        if self.conf.allow_file_locations and self.conf.file_locations_dir:
            self.locations_dir = os.path.abspath(self.conf.file_locations_dir)

    def configure_add(self) -> None:
        try:
            if not os.path.isdir(self.datadir):
                os.makedirs(self.datadir, 0o750, exist_ok=True)
                LOG.info("Made the image directory %s", self.datadir)
            os.makedirs(self.incoming, 0o750, exist_ok=True)
            self._probe()
        except OSError as err:
            raise exception.BadStoreConfiguration(
                store_name=self.name,
                reason=f"filesystem_store_datadir {self.datadir} cannot be used: {err.strerror}",
            ) from err

    def _probe(self) -> None:
        """Try what an upload does: make a file, link it into place, remove both names."""
        name = f".probe.{os.getpid()}.{secrets.token_hex(8)}"
        staged, final = os.path.join(self.incoming, name), os.path.join(self.datadir, name)
        os.close(
            offload.open_fd(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        )
        try:
            os.link(staged, final)
            os.unlink(final)
        finally:
            os.unlink(staged)

    # -- reading ---------------------------------------------------------------------------------

    def get(self, location: Location, offset: int = 0, length: int | None = None) -> body.FileBody:
        return offload.run(self._get, location, offset, length)

    def _get(self, location: Location, offset: int, length: int | None) -> body.FileBody:
        fd, size = self._open(location)
        try:
            if offset < 0 or (length is not None and length < 0):
                raise ValueError("offset and length must not be negative")
            if offset > size:
                raise exception.RangeNotSatisfiable(size)
            length = size - offset if length is None else min(length, size - offset)
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, offset, length, os.POSIX_FADV_SEQUENTIAL)
            return body.FileBody(fd, size=size, offset=offset, length=length)
        except BaseException:
            os.close(fd)
            raise

    def get_size(self, location: Location) -> int:
        return offload.run(self._get_size, location)

    def _get_size(self, location: Location) -> int:
        fd, size = self._open(location)
        os.close(fd)
        return size

    def _open(self, location: Location) -> tuple[int, int]:
        """Return a descriptor and the size of a regular file inside the allowed directories."""
        path = self._contained(location, self.datadir, self.locations_dir)
        with _reading():
            # NOTE: non-blocking, or a named pipe would hang the open.
            fd = offload.open_fd(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise exception.StoreForbidden()
        return fd, status.st_size

    def _contained(self, location: Location, *directories: str | None) -> str:
        """Return the path of `location`, its parent free of symbolic links.

        SECURITY: StoreForbidden unless the file lies inside one of `directories`, and for the data
        directory outside of the service's own corner. The last component is not resolved: whoever
        opens it must not follow a link there.
        """
        store_location = location.store_location
        assert isinstance(store_location, FileLocation)
        parent, name = os.path.split(store_location.path)
        parent = os.path.realpath(parent)
        if name in ("", "."):
            raise exception.StoreForbidden()
        for directory in filter(None, directories):
            root = os.path.realpath(directory)
            if parent == root or parent.startswith(root.rstrip("/") + "/"):
                inner = os.path.relpath(os.path.join(parent, name), root)
                if directory != self.datadir or not inner.startswith("."):
                    return os.path.join(parent, name)
        raise exception.StoreForbidden()

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, location: Location) -> None:
        offload.run(self._delete, location)

    def _delete(self, location: Location) -> None:
        path = self._contained(location, self.datadir)
        with _reading():
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise exception.StoreForbidden()
            os.unlink(path)

    def wrote(self, location: Location, image_id: str) -> bool:
        try:
            path = self._contained(location, self.datadir)
        except exception.StoreForbidden:
            return False
        return path == os.path.join(os.path.realpath(self.datadir), image_id)

    # -- registering -----------------------------------------------------------------------------

    def check_registerable(self, location: Location, *, is_admin: bool) -> None:
        if self.locations_dir is None or not is_admin:
            super().check_registerable(location, is_admin=is_admin)
        try:
            self._contained(location, self.locations_dir)
        except exception.StoreForbidden:
            raise exception.BadStoreUri(
                reason="the file lies outside of the directory for registered files"
            ) from None

    # -- writing ---------------------------------------------------------------------------------

    def stage(self, image_id: str, size: int | None = None) -> StagedFile:
        base.check_image_id(image_id)
        self.require_add()
        staged = StagedFile(self, image_id)
        try:
            offload.run(staged.open, size)
        except BaseException:
            # A kill may arrive when the file is open already.
            staged.abort()
            raise
        return staged

    def path_of(self, image_id: str) -> str:
        return os.path.join(self.datadir, image_id)

    def check_room(self, wanted: int) -> None:
        """Raise StorageFull if `wanted` more bytes would leave less than the minimum free."""
        status = os.statvfs(self.datadir)
        free = status.f_bavail * status.f_frsize
        if free - wanted < self.conf.filesystem_store_min_free_bytes:
            raise exception.StorageFull()

    # -- cleaning --------------------------------------------------------------------------------

    def sweep(self) -> list[str]:
        """Remove staged files whose writer is gone; return the ids of their images.

        Safe beside running uploads of any process: a writer holds a lock on its file as long as it
        lives. Where the file system has no locks, only files older than `incoming_max_age` go.
        """
        return offload.run(self._sweep)

    def _sweep(self) -> list[str]:
        try:
            names = os.listdir(self.incoming)
        except OSError as err:
            LOG.debug("No staged uploads to look at in %s: %s", self.incoming, err.strerror)
            return []
        removed = []
        for name in names:
            try:
                if self._sweep_one(os.path.join(self.incoming, name)):
                    LOG.info("Removed the broken upload %s", name)
                    removed.append(name.rpartition(".")[0])
            except FileNotFoundError:
                # Another process swept it, or its upload has just ended.
                continue
            except OSError as err:
                LOG.warning("Cannot remove the broken upload %s: %s", name, err.strerror)
        return [image_id for image_id in dict.fromkeys(removed) if base.is_image_id(image_id)]

    def _sweep_one(self, path: str) -> bool:
        fd = offload.open_fd(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                if time.time() - os.fstat(fd).st_mtime < self.conf.incoming_max_age:
                    return False
            # NOTE: unlinked under the lock. A writer that had made the file but not yet locked it
            # finds it gone and makes another.
            os.unlink(path)
            return True
        finally:
            os.close(fd)


class StagedFile(base.StagedWrite):
    """A file in `.incoming`, locked by its writer, that `commit` links to its final name."""

    threadsafe: ClassVar[bool] = True

    def __init__(self, store: Store, image_id: str):
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
        with _writing():
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
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as err:
            LOG.debug("The image directory's file system has no locks: %s", err.strerror)
        if os.fstat(fd).st_nlink == 0:
            os.close(fd)
            return False
        self._fd, self._path = fd, path
        return True

    def _reserve(self, size: int) -> None:
        try:
            os.posix_fallocate(self._fd, 0, size)
            self._reserved = size
        except OSError as err:
            if err.errno not in _NO_RESERVATION:
                raise

    def write(self, data: bytes) -> None:
        offload.run(self._write, data)

    def _write(self, data: bytes) -> None:
        with self._lock, _writing():
            self._require_open()
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.count)
                self.count += written
                view = view[written:]
            if self.count - self._flushed >= _WRITEBACK_STEP:
                _start_writeback(self._fd, self._flushed, self.count - self._flushed)
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
        with self._lock, _writing():
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
            os.unlink(self._path)
            self._path = None
            _sync_directory(self._store.datadir)
            os.close(self._fd)
            self._fd = -1

    def abort(self) -> None:
        if self._fd >= 0:
            offload.run(self._discard, False)

    def _discard(self, unpublish: bool) -> None:
        with self._lock:
            paths = [self._path, self._final if unpublish and self._published else None]
            self._path, self._published = None, False
            for path in filter(None, paths):
                try:
                    os.unlink(path)
                except OSError as err:
                    LOG.warning(
                        "Cannot remove the broken upload of image %s: %s",
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


def _load_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_SYNC_FILE_RANGE = _load_sync_file_range()
_SYNC_FILE_RANGE_WRITE = 2


def _start_writeback(fd: int, offset: int, length: int) -> None:
    """Let the kernel begin to write a range to the disk, without waiting for it.

    PERF: the sync at the end of 1 GiB then takes 0.01 s instead of 0.3 s here (a fast disk), and
    on a slow disk never the time of everything at once. Failure costs speed only: `fsync` tells.
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def _sync_directory(path: str) -> None:
    fd = offload.open_fd(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Translate the errors of system calls that write."""
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise exception.StorageFull() from err
        if err.errno in _DENIED:
            raise exception.StorageWriteDenied() from err
        raise exception.BackendUnavailable() from err


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Translate the errors of system calls that read and delete."""
    try:
        yield
    except OSError as err:
        if err.errno in _ABSENT:
            raise exception.StoreObjectNotFound() from err
        if err.errno in _DENIED or err.errno == errno.ELOOP:
            raise exception.StoreForbidden() from err
        raise exception.BackendUnavailable() from err

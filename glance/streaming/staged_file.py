"""Files that one process writes: made anew, locked while they are written, named at the end.

The file store's staged writes, the image cache's incomplete entries, and the journals and spools
of uploads to remote stores are such files. `LocalFile` is one from its making to its end;
`take_abandoned` finds those whose writers died. What does not belong here: what the bytes mean,
and errors of a store: everything here blocks and raises OSErrors.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

from glance.streaming import disk, holes, hub, threads

LOG = logging.getLogger(__name__)

T = TypeVar("T")

PRIVATE = 0o600
#: What a file system says of a call that it does not support.
NO_SUPPORT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})

_FLAGS = os.O_RDWR | os.O_CLOEXEC


class LocalFile:
    """A file that one object of this process writes, locked as long as it is open.

    `path` is its name, None for a file that has none. `count` is the number of bytes that `write`
    has appended, `final` the second name that `publish` gave the file. Open it with `create`,
    `create_unnamed` or `adopt`; end it with `close` or `remove`.

    Whoever writes does so inside `held`: garbage collection, or the end of a killed greenthread,
    may end the file while a native thread is at work on it.

    With `writeback` the kernel begins early to write large files to the disk. With `watch` each
    `write` notes the time of the last change, for `is_untouched`; that costs a system call. With
    `sparse`, for new files only, zeros become holes (`glance.streaming.holes`).
    """

    def __init__(self, *, writeback: bool = False, watch: bool = False, sparse: bool = False):
        self.path: str | None = None
        self.final: str | None = None
        self.count = 0
        self._fd = -1
        self._writeback = writeback
        self._watch = watch
        self._sparse = sparse
        # What follows this, up to `count`, is zero and was not written.
        self._written = 0
        self._reserved = 0
        self._flushed = 0
        self._mark = 0
        self._guard = hub.native_lock()

    # -- opening ---------------------------------------------------------------------------------

    def create(self, directory: str, name: Callable[[], str], mode: int = PRIVATE) -> None:
        """Make a new file in `directory`, under what `name()` returns, and lock it.

        A symbolic link is never followed. `name` is asked again if whoever looks for abandoned
        files took the new one before it was locked. FileExistsError if the name is in use.
        """
        while True:
            path = os.path.join(directory, name())
            fd = create_fd(path, mode)
            if _lock(fd):
                self._fd, self.path = fd, path
                return
            os.close(fd)

    def create_unnamed(self, directory: str, prefix: str) -> None:
        """Make a file in `directory` that no other process can find and that ends with this one.

        `prefix` begins the name that it has for a moment where there are no unnamed files.
        """
        try:
            self._fd = threads.open_fd(directory, _FLAGS | os.O_TMPFILE, PRIVATE)
            return
        except IsADirectoryError:
            pass
        except OSError as err:
            if err.errno not in NO_SUPPORT:
                raise
        path = os.path.join(directory, f"{prefix}{secrets.token_hex(8)}")
        self._fd = create_fd(path)
        os.unlink(path)

    def adopt(self, fd: int, path: str) -> None:
        """Take over a new file that another has made, and lock it. This object closes `fd`."""
        self._fd, self.path = fd, path
        _lock(fd)

    @classmethod
    def take(cls, path: str, max_age: float, *, owner: int | None = None) -> Self | None:
        """Open and lock a file whose writer died; None if the writer lives.

        Where the file system has no locks, a file counts as abandoned when it did not change for
        `max_age` seconds. With `owner`, a user id, None for files of others or with another name,
        too. Raises OSError, for a symbolic link as well.
        """
        fd = threads.open_fd(path, _FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            # SECURITY: others may have put a second name of a file of this user there.
            mine = owner is None or (status.st_uid == owner and status.st_nlink == 1)
            if mine and _is_abandoned(fd, max_age):
                taken = cls()
                taken._fd, taken.path = fd, path
                fd = -1
                return taken
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    # -- writing ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Keep the file open for the block; yields its descriptor. ValueError if it is closed.

        The methods below but `close` and `remove` are for such blocks. Does not nest.
        """
        with self._guard:
            if self._fd < 0:
                raise ValueError("the file is closed")
            yield self._fd

    def reserve(self, size: int) -> None:
        """Reserve room for `size` bytes if the file system can; OSError if it lacks them."""
        try:
            os.posix_fallocate(self._fd, 0, size)
            self._reserved = size
        except OSError as err:
            if err.errno not in NO_SUPPORT:
                raise

    def write(self, data: bytes | memoryview) -> bool:
        """Append all of `data`; of `bytes`, a sparse file leaves zeros out.

        Returns whether a good deal was written past what was reserved since this was last so: now
        and then is often enough to look at the room that is left. The first hole of a sparse file
        ends what is reserved.
        """
        if self._sparse and isinstance(data, bytes):
            self._write_sparsely(data)
        else:
            self._write_all(memoryview(data))
        if self._watch:
            self._mark = os.fstat(self._fd).st_mtime_ns
        if not self._writeback or self.count - self._flushed < disk.WRITEBACK_STEP:
            return False
        disk.start_writeback(self._fd, self._flushed, self.count - self._flushed)
        self._flushed = self.count
        return self.count > self._reserved

    def _write_all(self, view: memoryview) -> None:
        while view:
            written = os.pwrite(self._fd, view, self.count)
            self.count += written
            view = view[written:]
        self._written = self.count

    def _write_sparsely(self, data: bytes) -> None:
        view, begin = memoryview(data), self.count
        for start, stop in holes.parts(data, begin):
            self._leave_out(begin + start)
            self._write_all(view[start:stop])
        self._leave_out(begin + len(data))
        if self._written < self.count > self._reserved:
            # Readers may follow, and who watches the file knows its size.
            os.ftruncate(self._fd, self.count)

    def _leave_out(self, stop: int) -> None:
        """Go on at `stop`, with nothing but zeros before it."""
        if self._reserved > self._written and stop - self._written >= holes.BLOCK:
            # NOTE: the blocks of the hole are reserved; to free those alone takes up to 1 ms.
            os.ftruncate(self._fd, self._written)
            self._reserved = 0
        self.count = stop

    def truncate(self, size: int = 0) -> None:
        """Cut the file; the next `write` goes on from there."""
        os.ftruncate(self._fd, size)
        self.count = self._written = size

    def require_untouched(self) -> None:
        """Raise OSError if another has written to the file since `write`; for `watch` only."""
        status = os.fstat(self._fd)
        if self.count and (status.st_mtime_ns, status.st_size) != (self._mark, self.count):
            raise OSError(errno.ESTALE, "another process has written to the file")

    def is_untouched(self, fd: int) -> bool:
        """Return whether nobody else has written to the file, which is open as `fd`, too.

        Not for a block of `held`; for `watch` only. The time of the last change decides, so what
        happens within a tick of the clock is not seen.
        """
        if os.fstat(fd).st_mtime_ns == self._mark:
            return True
        # NOTE: or somebody looked between our own writing and the note of it.
        with self._guard:
            return os.fstat(fd).st_mtime_ns == self._mark

    def is_followed(self) -> bool:
        """Return whether anybody reads the file while it grows (`follow`)."""
        try:
            found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _record_lock(fcntl.F_WRLCK))
        except OSError:
            return False
        return bool(_RECORD_LOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def sync(self) -> None:
        """Give back room that was reserved in vain, and make the bytes durable."""
        if self.count < self._reserved:
            os.ftruncate(self._fd, self.count)
        os.fsync(self._fd)

    def publish(self, final: str) -> None:
        """Give the file a second name on the same file system, durably.

        FileExistsError if the name is in use: nothing is ever overwritten. After an error of
        making it durable the name is there, and `final` is set.
        """
        assert self.path is not None
        os.link(self.path, final, follow_symlinks=False)
        self.final = final
        disk.sync_directory(os.path.dirname(final))

    # -- ending ----------------------------------------------------------------------------------

    def close(self) -> bool:
        """Unlock and close the file, whose names stay. Idempotent: False if it was closed."""
        with self._guard:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
        return fd >= 0

    def remove(self, *names: str | None) -> None:
        """Remove names of the file (None: no name) and close it. Idempotent.

        OSError, with the file closed, when a name cannot be removed; the names after it stay, so
        that somebody finds the file again. All goes on under the lock: no other process can take
        the file meanwhile, and a writer that has not locked it yet finds that it is gone.
        """
        with self._guard:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            try:
                for name in filter(None, names):
                    os.unlink(name)
            finally:
                os.close(fd)


def create_fd(path: str, mode: int = PRIVATE, *, dir_fd: int | None = None) -> int:
    """Make a new file of exactly this mode; return its descriptor, for reading and writing.

    With `dir_fd`, `path` is relative to that directory. FileExistsError if the name is in use, by
    a symbolic link, too.
    """
    flags = _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = threads.open_fd(path, flags, PRIVATE, dir_fd=dir_fd)
    if mode != PRIVATE:
        try:
            os.fchmod(fd, mode)
        except BaseException:
            os.close(fd)
            os.unlink(path, dir_fd=dir_fd)
            raise
    return fd


def rewrite(path: str, data: bytes, mode: int = PRIVATE, *, durable: bool = True) -> None:
    """Replace what a small file holds, or make it, in one step for its readers.

    `durable`: on the disk when this returns; without, a crash of the machine may leave it empty.
    After an OSError the old contents stay, and nothing else.
    """
    new = f"{path}.{secrets.token_hex(16)}"
    fd = create_fd(new, mode)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(fd)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
    if durable:
        disk.sync_directory(os.path.dirname(path))


def take_abandoned(
    directory: str,
    max_age: float,
    adopt: Callable[[LocalFile], T | None],
    *,
    prefix: str = "",
    owner: int | None = None,
) -> list[T]:
    """Take the files in `directory` whose writers died, and return what `adopt` makes of them.

    `adopt` is called with each file, locked; it ends the file, or returns something that does.
    `prefix` begins the names of the files to look at; `max_age` and `owner` are as for
    `LocalFile.take`. Raises no OSErrors, those of `adopt` neither: they are logged.
    """
    try:
        names = os.listdir(directory)
    except OSError as err:
        LOG.debug("No abandoned files to look at in %s: %s", directory, err.strerror)
        return []
    found = []
    for name in names:
        if not name.startswith(prefix):
            continue
        try:
            made = _take_one(os.path.join(directory, name), max_age, owner, adopt)
        except FileNotFoundError:
            # Another process settled it, or its writer has just ended.
            continue
        except OSError as err:
            LOG.warning("Cannot read the abandoned file %s: %s", name, err.strerror)
            continue
        if made is not None:
            found.append(made)
    return found


def _take_one(
    path: str, max_age: float, owner: int | None, adopt: Callable[[LocalFile], T | None]
) -> T | None:
    taken = LocalFile.take(path, max_age, owner=owner)
    if taken is None:
        return None
    try:
        return adopt(taken)
    except BaseException:
        taken.close()
        raise


def is_locked(fd: int) -> bool:
    """Return whether another holds the lock of an open file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def follow(fd: int) -> None:
    """Have the writer of a file know that it is followed, as long as `fd` is open for reading.

    This is a lock of its own kind, which hinders nobody. Without such locks nobody will know.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _record_lock(fcntl.F_RDLCK))
    except OSError as err:
        LOG.debug("The writer of a file will not know who follows it: %s", err.strerror)


#: `struct flock` of Linux: type, whence, start, length, process.
_RECORD_LOCK = struct.Struct("@hhqqi4x")


def _record_lock(kind: int) -> bytes:
    """Return a lock of this kind on the first byte, which belongs to an open file (fcntl(2))."""
    return _RECORD_LOCK.pack(kind, os.SEEK_SET, 0, 1, 0)


def _lock(fd: int) -> bool:
    """Lock a new file; False if it was taken, and its name removed, before the lock was there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as err:
        LOG.debug("The file system of files in progress has no locks: %s", err.strerror)
    return os.fstat(fd).st_nlink > 0


def _is_abandoned(fd: int, max_age: float) -> bool:
    """Return whether nobody writes to a file or settles it; it is locked then."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(fd).st_mtime >= max_age
    # Without a name, another process has settled it between the opening and the lock.
    return os.fstat(fd).st_nlink > 0

"""The cache directory: names of files, who owns what, and safe ways to make and move files.

::

    <dir>/                     mode 0750
        cache.db               the index, if it is the sqlite driver's
        .lock                  held during maintenance (flock)
        .layout                the version of this layout
        entries/ab/<id>        complete; ab: first two hex digits of the SHA-256 of the id
        incomplete/<id>.<uuid> being written
        invalid/<id>.<time>    wrong, kept for inspection; time in microseconds

No file is ever opened through a symbolic link. Everything here blocks; errors are OSErrors.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator

from glance.streaming import disk, offload

VERSION = 1
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750

ENTRIES, INCOMPLETE, INVALID = "entries", "incomplete", "invalid"

# NOTE: a name may have 255 bytes; the suffixes take up to 33.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


def is_key(image_id: str) -> bool:
    """Return whether an image of this id can be cached."""
    return _KEY.fullmatch(image_id) is not None


class CacheDirectory:
    """The cache directory at `path`. Files are named relative to it, with `/`."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)

    def make(self) -> None:
        """Make what is missing of the directory, and check that it is of our layout and usable."""
        os.makedirs(self.path, DIRECTORY_MODE, exist_ok=True)
        for name in (ENTRIES, INCOMPLETE, INVALID):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.full(name), DIRECTORY_MODE)
            if not stat.S_ISDIR(os.lstat(self.full(name)).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        found = self.layout_version()
        if found is not None and found != VERSION:
            raise OSError(errno.EPROTO, f"layout {found} belongs to another version of glance")
        probe = f"{INCOMPLETE}/.probe.{uuid.uuid4().hex}"
        os.close(self.create(probe))
        # NOTE: who cleans at this moment may have taken it for a stray.
        self.unlink(probe)

    def layout_version(self) -> int | None:
        """Return the version that the directory was marked with, None for a new or foreign one."""
        try:
            with open(self.full(".layout"), encoding="ascii") as stream:
                return int(stream.read(20))
        except FileNotFoundError:
            return None
        except ValueError:
            return 0

    def mark(self) -> None:
        """Mark the directory as one of this layout."""
        if self.layout_version() == VERSION:
            return
        # NOTE: another process may read it at any moment.
        new = f".layout.{uuid.uuid4().hex}"
        with open(self.create(new), "w", encoding="ascii") as stream:
            stream.write(f"{VERSION}\n")
        os.rename(self.full(new), self.full(".layout"))

    def full(self, file: str) -> str:
        """Return the absolute path of a file of the cache."""
        return os.path.join(self.path, file)

    @staticmethod
    def entry_file(image_id: str) -> str:
        """Return the name of an image's complete entry."""
        return f"{ENTRIES}/{hashlib.sha256(image_id.encode()).hexdigest()[:2]}/{image_id}"

    @staticmethod
    def incomplete_file(image_id: str) -> str:
        """Return a new name for an incomplete entry."""
        return f"{INCOMPLETE}/{image_id}.{uuid.uuid4().hex}"

    @staticmethod
    def invalid_file(image_id: str) -> str:
        """Return a new name for an invalid entry."""
        return f"{INVALID}/{image_id}.{time.time_ns() // 1000}"

    def _open(self, file: str, flags: int) -> int:
        return offload.open_fd(
            self.full(file), flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE
        )

    def create(self, file: str) -> int:
        """Make a new file and return its descriptor, for writing; its mode is FILE_MODE."""
        fd = self._open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.fchmod(fd, FILE_MODE)
        return fd

    def open(self, file: str, *, write: bool = False) -> int:
        """Open a regular file for reading, or for reading and writing.

        OSError for anything else, a symbolic link too.
        """
        fd = self._open(file, os.O_RDWR if write else os.O_RDONLY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return fd

    def move(self, file: str, to: str) -> None:
        """Rename a file within the cache, durably; what had the name goes."""
        parent = os.path.dirname(self.full(to))
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent, DIRECTORY_MODE)
        os.rename(self.full(file), self.full(to))
        disk.sync_directory(parent)

    def unlink(self, file: str) -> bool:
        """Remove a file; False if it was not there."""
        try:
            os.unlink(self.full(file))
        except FileNotFoundError:
            return False
        return True

    def files(self, top: str) -> Iterator[os.DirEntry[str]]:
        """Yield the files below ENTRIES, INCOMPLETE or INVALID, symbolic links and all."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.full(top)) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError), os.scandir(item.path) as below:
                        yield from below
                else:
                    yield item

    @staticmethod
    def changed_at(fd: int) -> float:
        """Return when an open file was last written to."""
        return os.fstat(fd).st_mtime

    def relative(self, path: str) -> str:
        """Return the name of a file given by its absolute path."""
        return os.path.relpath(path, self.path)

    def free(self) -> int:
        """Return the bytes that are free for us on the cache's file system."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def touch_lock(self) -> None:
        """Note that maintenance was done, for `maintained_at`."""
        os.utime(self.full(".lock"))

    def maintained_at(self) -> float:
        """Return when maintenance was last done, in whatever process (seconds)."""
        try:
            return os.stat(self.full(".lock")).st_mtime
        except FileNotFoundError:
            return 0.0

    @contextlib.contextmanager
    def lock(self, name: str = ".lock", *, wait: bool = False) -> Iterator[bool]:
        """Hold a lock file against other processes and threads; yields False if another has it."""
        fd = self._open(name, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)


# -- owners --------------------------------------------------------------------------------------


@functools.cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """Return when a process began (ticks since the boot), None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


#: The names of this process that are in use.
_names: set[str] = set()
os.register_at_fork(after_in_child=_names.clear)


def claim_token() -> str:
    """Return a name for work of this process that nobody else ever has; `ended` gives it back."""
    pid = os.getpid()
    name = f"{_boot_id()}:{pid}:{_started(pid)}:{uuid.uuid4().hex}"
    _names.add(name)
    return name


def release_token(name: str | None) -> None:
    """Note that the work of a name of this process is done, however it ended."""
    _names.discard(name or "")


def is_alive(name: str | None) -> bool:
    """Return whether the process that `owner` named still runs and has not ended that work."""
    parts = (name or "").split(":")
    if len(parts) != 4 or parts[0] != _boot_id() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    if pid == os.getpid() and name not in _names:
        return False
    return _started(pid) == parts[2]


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

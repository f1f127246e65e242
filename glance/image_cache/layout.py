"""The cache directory: names of files, claims of processes, safe creation and moves of files.

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

from glance.common import files
from glance.streaming import disk, staged_file, threads

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
        """Create missing parts of the directory; check that its layout is known and usable."""
        files.make_directories(self.path, DIRECTORY_MODE)
        with files.directory(self.path) as top:
            for name in (ENTRIES, INCOMPLETE, INVALID):
                _make_directory(name, top)
        found = self.layout_version()
        if found is not None and found != VERSION:
            raise OSError(errno.EPROTO, f"layout {found} belongs to another version of glance")
        probe = f"{INCOMPLETE}/.probe.{uuid.uuid4().hex}"
        os.close(self.create(probe))
        # NOTE: a process that cleans at this moment may have removed it as a stray file.
        self.unlink(probe)

    def layout_version(self) -> int | None:
        """Return the version in the directory's mark, None for a new or foreign directory."""
        try:
            with open(self._open(".layout", os.O_RDONLY), encoding="ascii") as stream:
                return int(stream.read(20))
        except FileNotFoundError:
            return None
        except ValueError:
            return 0

    def mark(self) -> None:
        """Mark the directory with the version of this layout."""
        if self.layout_version() == VERSION:
            return
        # NOTE: another process may read it at any moment, and an empty one means another layout.
        staged_file.rewrite(self.full(".layout"), f"{VERSION}\n".encode(), FILE_MODE)

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
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with files.below(self.path, file) as (parent, name):
            return threads.open_fd(name, flags, FILE_MODE, dir_fd=parent)

    def create(self, file: str) -> int:
        """Create a new file and return its descriptor, for writing; its mode is FILE_MODE."""
        with files.below(self.path, file) as (parent, name):
            return staged_file.create_fd(name, FILE_MODE, dir_fd=parent)

    def open(self, file: str, *, write: bool = False) -> int:
        """Open a regular file for reading, or for reading and writing.

        Raises OSError for anything else, including a symbolic link.
        """
        fd = self._open(file, os.O_RDWR if write else os.O_RDONLY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return fd

    def move(self, file: str, to: str) -> None:
        """Rename a file within the cache, durably; an existing file `to` is replaced."""
        with files.below(self.path, os.path.dirname(to)) as (above, parent):
            _make_directory(parent, above)
        with (
            files.below(self.path, file) as (old, name),
            files.below(self.path, to) as (new, final),
        ):
            os.rename(name, final, src_dir_fd=old, dst_dir_fd=new)
        disk.sync_directory(os.path.dirname(self.full(to)))

    def unlink(self, file: str) -> bool:
        """Remove a file; return False if it did not exist."""
        try:
            with files.below(self.path, file) as (parent, name):
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        return True

    def files(self, top: str) -> Iterator[os.DirEntry[str]]:
        """Yield the files below ENTRIES, INCOMPLETE or INVALID, including symbolic links."""
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
        """Return the bytes that this process may still write on the cache's file system."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def touch_lock(self) -> None:
        """Record that maintenance was done, for `maintained_at`."""
        os.utime(self.full(".lock"), follow_symlinks=False)

    def maintained_at(self) -> float:
        """Return when any process last did maintenance (seconds)."""
        try:
            return os.lstat(self.full(".lock")).st_mtime
        except FileNotFoundError:
            return 0.0

    @contextlib.contextmanager
    def lock(self, name: str = ".lock", *, wait: bool = False) -> Iterator[bool]:
        """Lock a file against other processes and threads; yield False if another holds it."""
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


def _make_directory(name: str, parent: int) -> None:
    """Make a directory below an open one if it is missing; refuse anything else of that name."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)


# -- owners --------------------------------------------------------------------------------------


@functools.cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """Return when a process started (ticks since the boot), None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


#: The tokens of this process that are in use.
_names: set[str] = set()
os.register_at_fork(after_in_child=_names.clear)


def claim_token() -> str:
    """Return a unique token for work of this process; release it with `release_token`."""
    pid = os.getpid()
    name = f"{_boot_id()}:{pid}:{_started(pid)}:{uuid.uuid4().hex}"
    _names.add(name)
    return name


def release_token(name: str | None) -> None:
    """Release a token of this process: its work has ended, successfully or not."""
    _names.discard(name or "")


def is_alive(name: str | None) -> bool:
    """Return whether the process of a token still runs and has not released it."""
    parts = (name or "").split(":")
    if len(parts) != 4 or parts[0] != _boot_id() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    if pid == os.getpid() and name not in _names:
        return False
    return _started(pid) == parts[2]

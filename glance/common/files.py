"""Open files in directories that another user may own, without following that user's links.

A daemon that root starts, and a program that root runs, write to directories that belong to the
service user: its log, its pid file, its spool. Whoever owns a directory can put a link there that
points to any file of the system, and can do so at any moment. So each name of a path is opened
relative to the directory before it, and a symbolic link is followed only if root or this process's
user made it, in a directory of root or of this process's user. A file in a directory that others
can write to must be a regular file without a second name. All checks are made on descriptors.

Everything here blocks and raises OSError, whose `strerror` completes "it cannot be opened: ".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import posix
import stat
from collections.abc import Iterator
from typing import NoReturn

#: Maximum number of symbolic links in a path, as on Linux (path_resolution(7)).
MAX_LINKS = 40

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

A_LINK = "it is a symbolic link"
FOREIGN_LINK = "it is reached through a symbolic link in a directory of another user"
NOT_REGULAR = "it is not a regular file"
SECOND_NAME = "it is a hard link to a file that has another name"
OTHER_OWNER = "it belongs to another user"


class OpenRefused(OSError):
    """A file must not be opened, because of who could have put it where it is."""


def open_fd(
    path: str | os.PathLike[str],
    flags: int,
    mode: int = 0o600,
    *,
    owner: int | None = None,
) -> int:
    """Open a file like `os.open` and return its descriptor, which the caller closes.

    With `owner`, a user id, a file of another user is refused, and so is a link, or what has a
    second name or is no regular file, wherever it is. Does not wait for the other end of a named
    pipe. Raises OpenRefused, or OSError as the system does.
    """
    path = os.fspath(path)
    with _parent(path, to_end=owner is None) as (directory, name, is_magic):
        strict = owner is not None or is_shared(directory)
        safe = _SAFE & ~os.O_NOFOLLOW if is_magic else _SAFE
        try:
            fd = posix.open(name, (flags & ~os.O_TRUNC) | safe, mode, dir_fd=directory)
        except OSError as err:
            if err.errno == errno.ELOOP:
                _refuse(errno.ELOOP, A_LINK, path)
            raise OSError(err.errno, err.strerror, path) from None
    try:
        status = os.fstat(fd)
        is_regular = stat.S_ISREG(status.st_mode)
        if strict and not is_regular:
            _refuse(errno.EINVAL, NOT_REGULAR, path)
        if strict and status.st_nlink > 1:
            _refuse(errno.EMLINK, SECOND_NAME, path)
        if owner is not None and status.st_uid != owner:
            _refuse(errno.EPERM, OTHER_OWNER, path)
        if is_regular and flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
        if not is_regular and not flags & os.O_NONBLOCK:
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_special(path: str, flags: int) -> int:
    """Open a device or a named pipe and return its descriptor, which the caller closes.

    Waits for the other end of a pipe. Refuses what another user has put into a directory that
    others than root and this process's user can change.
    """
    with _parent(path) as (directory, name, is_magic):
        is_safe = not is_shared(directory)
        flag = 0 if is_magic else os.O_NOFOLLOW
        held = posix.open(name, os.O_PATH | os.O_CLOEXEC | flag, dir_fd=directory)
    try:
        status = os.fstat(held)
        if not is_safe and (status.st_uid != os.geteuid() or status.st_nlink > 1):
            _refuse(errno.EPERM, OTHER_OWNER, path)
        return posix.open(f"/proc/self/fd/{held}", flags | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(held)


@contextlib.contextmanager
def directory(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open a directory for the block; yields its descriptor, for the `dir_fd` of calls."""
    path = os.fspath(path)
    with _parent(path) as (parent, name, _):
        try:
            fd = posix.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
            )
        except OSError as err:
            raise OSError(err.errno, err.strerror, path) from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def below(top: str, file: str) -> Iterator[tuple[int, str]]:
    """Open the directory of `file`, a path relative to `top`, for the block.

    Yields a descriptor for `dir_fd` and the last name. No link below `top` is followed, whoever
    made it.
    """
    *parents, name = file.split("/")
    fd = posix.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            fd = _down(fd, parent, _STEP, file)
        yield fd, name
    finally:
        os.close(fd)


def make_directories(path: str | os.PathLike[str], mode: int) -> None:
    """Make a directory of this mode, and those above it that are missing."""
    path = os.fspath(path)
    with _parent(path, make=True) as (parent, name, _):
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise


def unlink(path: str) -> None:
    """Remove a name."""
    with directory(os.path.dirname(path) or ".") as parent:
        os.unlink(os.path.basename(path), dir_fd=parent)


def is_shared(fd: int) -> bool:
    """Return whether others than root and this process's user can change an open directory."""
    status = os.fstat(fd)
    return not _is_ours(status) or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _refuse(number: int, reason: str, path: str) -> NoReturn:
    raise OpenRefused(number, reason, path)


@contextlib.contextmanager
def _parent(
    path: str, *, make: bool = False, to_end: bool = True
) -> Iterator[tuple[int, str, bool]]:
    """Open the directory of the last name of a path, past all links that may be followed.

    Yields a descriptor, the name, and whether it is a link of procfs to an open file. With `make`,
    missing directories are made. Unless `to_end`, the last name may be a link.
    """
    names = _names(path)
    fd = posix.open("/" if path.startswith("/") else ".", _STEP)
    links = 0
    try:
        while True:
            name = names.pop() if names else "."
            target = _target(fd, name, path) if names or to_end else None
            is_magic = target is not None and _is_of_procfs(fd, name)
            if target is not None and not is_magic:
                links += 1
                if links > MAX_LINKS:
                    _refuse(errno.ELOOP, os.strerror(errno.ELOOP), path)
                names += _names(target)
                if target.startswith("/"):
                    fd = _down(fd, "/", _STEP, path)
                continue
            if not names:
                yield fd, name, is_magic
                return
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
            fd = _down(fd, name, _STEP & ~os.O_NOFOLLOW if is_magic else _STEP, path)
    finally:
        os.close(fd)


def _names(path: str) -> list[str]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _down(fd: int, name: str, flags: int, path: str) -> int:
    """Open a directory relative to another one, which is closed; on failure it stays open."""
    try:
        found = posix.open(name, flags, dir_fd=fd)
    except OSError as err:
        raise OSError(err.errno, err.strerror, path) from None
    os.close(fd)
    return found


def _target(fd: int, name: str, path: str) -> str | None:
    """Return where a link leads, None for what is no link. Refuses a link of another user."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise OSError(err.errno, err.strerror, path) from None
    if not stat.S_ISLNK(status.st_mode):
        return None
    if not _is_ours(status) or not _is_ours(os.fstat(fd)):
        _refuse(errno.ELOOP, FOREIGN_LINK, path)
    return os.readlink(name, dir_fd=fd)


def _is_of_procfs(fd: int, name: str) -> bool:
    """Return whether a link is one that the kernel follows to an open file, as /proc/self/fd/1."""
    if name in ("self", "thread-self"):
        return False
    try:
        return os.fstat(fd).st_dev == os.lstat("/proc/self").st_dev
    except OSError:
        return False

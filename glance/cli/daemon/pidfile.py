"""Pid files: their location, their content, and the check that the process is the right one.

Used by `glance-control`. A pid file contains `<pid>` and a line feed. Process ids are reused, and
another instance of the program may have got the one in a stale file. So a process counts as the
one of the file only if its command line is that of the program and its environment names the file,
by device and inode: glance-control starts each daemon with this mark in the variable MARK.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posix
import secrets
from collections.abc import Callable, Iterator

from glance.common import files

DEFAULT_DIRECTORY = "/var/run/glance"
# NOTE: not XDG_RUNTIME_DIR, which is emptied at the end of a session that a daemon may outlive.
USER_DIRECTORY = "~/.glance/run"
#: Environment variable of a daemon with the identity of its pid file.
MARK = "GLANCE_PID_FILE"


class PidFile:
    """The pid file of one program. Methods raise OSError as the system does."""

    def __init__(self, program: str, path: str):
        self.program = program
        self.path = os.path.abspath(path)

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def read(self) -> int | None:
        """Return the process id in the file; None if there is no file, or no valid id in it."""
        try:
            with open(files.open_fd(self.path, os.O_RDONLY), "rb") as file:
                text = file.read(64).strip()
        except FileNotFoundError:
            return None
        # Ids 0 and 1 would mean a process group, and init.
        pid = int(text) if text.isdigit() else 0
        return pid if pid > 1 else None

    def running(self) -> int | None:
        """Return the id of the running process of this file, None if there is none."""
        pid = self.read()
        return pid if pid is not None and self.is_of(pid) else None

    def is_of(self, pid: int) -> bool:
        """Return whether a process runs the program and was started with this file.

        The name of the program alone counts for a process of another user, which cannot be
        signalled anyway.
        """
        if not is_program(pid, self.program):
            return False
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
            return f"{MARK}={_mark(os.lstat(self.path))}".encode() in variables
        except PermissionError:
            return True
        except OSError:
            return False

    def prepare(self) -> None:
        """Create the directory if it is missing, and check that it is writable."""
        files.make_directories(self.directory, 0o755)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(f"{self.directory} is not writable")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs of glance-control from reading or writing pid files here."""
        with files.directory(self.directory) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def replacing(self) -> Iterator[tuple[str, Callable[[int], None]]]:
        """Prepare a new file for the block.

        Yields its mark, for the environment of the new process, and a function that writes the id
        of this process and gives the file its name, atomically. Unless that is called, the old
        file stays.
        """
        name, temporary = os.path.basename(self.path), f".glance-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with files.directory(self.directory) as parent:
            with open(
                posix.open(temporary, flags, 0o600, dir_fd=parent), "w", encoding="ascii"
            ) as file:
                is_temporary = True

                def write(pid: int) -> None:
                    nonlocal is_temporary
                    file.write(f"{pid}\n")
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)
                    os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                    is_temporary = False

                try:
                    yield _mark(os.fstat(file.fileno())), write
                finally:
                    if is_temporary:
                        os.unlink(temporary, dir_fd=parent)

    def remove(self, pid: int | None = None) -> None:
        """Remove the file; with `pid`, only if the file contains it."""
        if pid is None or self.read() == pid:
            with contextlib.suppress(FileNotFoundError):
                files.unlink(self.path)


def _mark(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def for_start(program: str) -> PidFile:
    """Return the pid file for a new process.

    It is in the user's own directory if the system's directory is not writable.
    """
    directory = DEFAULT_DIRECTORY
    if not _can_write(directory):
        directory = os.path.expanduser(USER_DIRECTORY)
    return _in(directory, program)


def existing(program: str) -> PidFile:
    """Return the existing pid file, the user's own before the system's."""
    own = for_start(program)
    for found in (own, *(_in(name, program) for name in (USER_DIRECTORY, DEFAULT_DIRECTORY))):
        if found.exists():
            return found
    return own


def _in(directory: str, program: str) -> PidFile:
    return PidFile(program, os.path.join(os.path.expanduser(directory), f"{program}.pid"))


def _can_write(directory: str) -> bool:
    """Return whether a directory is writable, or can be created."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def is_program(pid: int, program: str) -> bool:
    """Return whether a process runs a program, directly or as a Python script."""
    words = [os.path.basename(word) for word in command_line(pid)]
    name = os.fsencode(program)
    if not words or words[0] == name:
        return bool(words)
    return words[0].startswith(b"python") and _script(words[1:]) == name


def command_line(pid: int) -> list[bytes]:
    """Return the words of a process's command line.

    Empty for a process that has ended, even if it is a zombie, and for a moment after a process
    was created.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[:-1]
    except OSError:
        return []


def _script(arguments: list[bytes]) -> bytes | None:
    """Return the first argument of a Python interpreter that is not an option."""
    words = iter(arguments)
    for word in words:
        if word in (b"-X", b"-W"):
            next(words, None)
        elif not word.startswith(b"-"):
            return word
    return None

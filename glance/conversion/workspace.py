"""The directory where images are at work: one directory for each job, gone in every outcome.

A job's directory is named after its id, has the mode 0700, and holds two files, `source` and
`target`, under names of our own. Its maker keeps a lock on it as long as it lives, so that others
know the directories of the dead. The files are used by their descriptors: whoever broke out of the
tool could put something else under their names, or anything else into the directory.

Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import secrets
import stat
import uuid
from collections.abc import Container

from glance.common import config, exception, files
from glance.conversion import sandbox
from glance.conversion.errors import Code, ConversionError
from glance.streaming import hub, staged_file, threads

LOG = logging.getLogger(__name__)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: How many names of a directory are looked at in one go.
_NAMES = 1000
#: How often a directory that others take at the same moment is made again.
_TRIES = 100
#: Between tries while another process has locked the directory, in seconds.
_PAUSE = 0.01
#: The tool writes at most so many bytes in one go.
_NEXT_TO_NOTHING = 4 * 1024**2
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class WorkDir:
    """The directory of all jobs of one host.

    `promised` says how many bytes each job of this process may still write.
    """

    def __init__(self, conf: config.Conf):
        """Make the directory if it is missing. Raises ConfigError if it cannot be used."""
        self.conf = conf
        self.path = os.path.realpath(conf.conversion_work_dir)
        self._lock = hub.native_lock()
        self._promised: dict[str, int] = {}
        self._check()

    def _check(self) -> None:
        name = self.conf.at("conversion_work_dir")
        if any(sandbox.is_below(self.path, os.path.realpath(path)) for path in sandbox.LIBRARIES):
            raise exception.ConfigError(
                f"{name} is a directory that every conversion can read; use one elsewhere"
            )
        try:
            files.make_directories(self.path, 0o700)
            with files.directory(self.path) as fd:
                status = os.fstat(fd)
        except (FileExistsError, NotADirectoryError) as err:
            raise exception.ConfigError(f"{name} is not a directory; use another path") from err
        except OSError as err:
            raise exception.ConfigError(f"{name} cannot be used: {err.strerror}") from err
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise exception.ConfigError(
                f"{name} must belong to the user of the converter, and nobody else may write to "
                "it: chown and chmod 700 it"
            )
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise exception.ConfigError(f"{name} cannot be written to; chmod 700 it")

    def space(self, job_id: str) -> Workspace:
        """Return what will be the directory of a job. Raises ValueError for no id of a job."""
        if not is_job_id(job_id):
            raise ValueError("a job is named by a UUID in its usual form, in lower case")
        return Workspace(self, job_id)

    def make(self, name: str) -> int:
        """Make the directory of a job; return its descriptor, locked, which the caller closes.

        What a dead worker has left of the same job is removed. Raises ConversionError: host_failed
        if the job is at work already, or if the directory cannot be made, no_space where nothing
        more can be.
        """
        try:
            with files.directory(self.path) as parent:
                return self._make(parent, name)
        except OSError as err:
            raise failed(err) from err

    def _make(self, parent: int, name: str) -> int:
        for _ in range(_TRIES):
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                if not self._remove_left(parent, name):
                    # Who locks it may be another worker of the job, or look for what is left.
                    hub.sleep(_PAUSE)
                continue
            try:
                fd = threads.open_fd(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                continue
            # Who looked for directories of the dead may have been faster than the lock.
            if _take(fd):
                return fd
            os.close(fd)
        raise ConversionError(Code.HOST_FAILED, "the job is at work here")

    def remove_leftovers(self, leased: Container[str] = ()) -> list[str]:
        """Remove the directories of jobs whose workers have died; return their names.

        `leased` are the jobs that workers elsewhere have a lease for, on a host that shares the
        directory; those of this process and of its living neighbours are known by their locks.
        What is not named like a job stays. Never raises: what cannot be removed is logged.
        """
        removed = []
        try:
            with files.directory(self.path) as parent:
                for name in filter(is_job_id, os.listdir(parent)):
                    if name not in leased and self._try_to_remove(parent, name):
                        removed.append(name)
        except OSError as err:
            LOG.error("Leftovers of conversions cannot be looked for: %s", err.strerror)
        if removed:
            LOG.info("Removed what was left of %s conversions", len(removed))
        return removed

    def _try_to_remove(self, parent: int, name: str) -> bool:
        try:
            return self._remove_left(parent, name)
        except OSError as err:
            LOG.error("Job %s: what is left of it cannot be removed: %s", name, err.strerror)
            return False

    def _remove_left(self, parent: int, name: str) -> bool:
        """Remove the directory of a dead worker, if it is one."""
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                return True
            fd = threads.open_fd(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            return True
        try:
            if not _take(fd):
                return False
            remove_tree(parent, name, fd)
            return True
        finally:
            os.close(fd)

    # -- room ------------------------------------------------------------------------------------

    def promise(self, job_id: str, wanted: int) -> None:
        """Promise room to a job: it may write `wanted` more bytes from now on.

        Raises ConversionError (no_space) unless, with all that other jobs of this process may
        still write, `conversion_disk_reserve` would stay free. A new promise takes the place of
        the job's last one.
        """
        try:
            found = os.statvfs(self.path)
        except OSError as err:
            raise failed(err) from err
        free = found.f_bavail * found.f_frsize - self.conf.conversion_disk_reserve
        with self._lock:
            others = sum(count for job, count in self._promised.items() if job != job_id)
            if free - others < wanted:
                self._promised.pop(job_id, None)
                raise ConversionError(
                    Code.NO_SPACE,
                    f"{wanted} bytes are needed, and {max(free - others, 0)} can be given",
                )
            self._promised[job_id] = wanted

    def is_full(self) -> bool:
        """Return whether next to nothing more can be written."""
        try:
            found = os.statvfs(self.path)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize < _NEXT_TO_NOTHING

    def spend(self, job_id: str, count: int) -> None:
        """Note that a job has written `count` of the bytes that it was promised."""
        with self._lock:
            if job_id in self._promised:
                self._promised[job_id] = max(self._promised[job_id] - count, 0)

    def forget(self, job_id: str) -> None:
        """Take back what a job was promised."""
        with self._lock:
            self._promised.pop(job_id, None)


class Workspace:
    """The directory of one job, with its files. Its owner closes it, whatever has happened."""

    def __init__(self, work_dir: WorkDir, job_id: str):
        self.work_dir, self.job_id = work_dir, job_id
        self.path = os.path.join(work_dir.path, job_id)
        self._fd = -1
        self._files: list[int] = []

    def open(self) -> None:
        """Make the directory. Raises like `WorkDir.make`."""
        # NOTE: kept here, not returned: a kill drops what a native thread returns.
        self._fd = self.work_dir.make(self.job_id)

    def create(self, name: str) -> int:
        """Make a new file; return its descriptor, which `close` closes. ConversionError."""
        try:
            fd = staged_file.create_fd(name, dir_fd=self._fd)
        except OSError as err:
            raise failed(err) from err
        self._files.append(fd)
        return fd

    def close(self) -> None:
        """Remove the directory with all that is in it, and unlock it. Idempotent, never raises."""
        while self._files:
            os.close(self._files.pop())
        fd, self._fd = self._fd, -1
        try:
            if fd >= 0:
                with files.directory(self.work_dir.path) as parent:
                    remove_tree(parent, self.job_id, fd)
        except OSError as err:
            LOG.error("Job %s: its directory cannot be removed: %s", self.job_id, err.strerror)
        finally:
            if fd >= 0:
                os.close(fd)
            self.work_dir.forget(self.job_id)


def is_job_id(name: str) -> bool:
    """Return whether a name is that of a job: a UUID in its usual form, in lower case."""
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def failed(err: OSError) -> ConversionError:
    """Return what an error of the work directory means for a job."""
    code = Code.NO_SPACE if err.errno in NO_ROOM else Code.HOST_FAILED
    return ConversionError(code, exception.described(err))


def _take(fd: int) -> bool:
    """Lock an open directory; False if another holds it, or if it has been removed.

    Where the file system has no locks, a directory in use cannot be known, and the leases decide.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        if err.errno not in staged_file.NO_SUPPORT and err.errno != errno.ENOLCK:
            raise
    return os.fstat(fd).st_nlink > 0


def remove_tree(parent: int, name: str, fd: int) -> None:
    """Remove a directory, open as `fd`, with all that is in it, however deep. Raises OSError.

    SECURITY: what broke out of the tool may have made anything here: no link is followed, and
    neither depth nor number of the names costs memory.
    """
    os.chmod(fd, 0o700)
    while names := _some_names(fd):
        for each in names:
            if _is_directory(fd, each):
                _flatten(fd, each)
            else:
                os.unlink(each, dir_fd=fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=parent)


def _flatten(top: int, name: str) -> None:
    """Remove a directory in `top`; the directories in it move up."""
    os.chmod(name, 0o700, dir_fd=top)
    fd = threads.open_fd(name, _DIRECTORY, dir_fd=top)
    try:
        while names := _some_names(fd):
            for each in names:
                if _is_directory(fd, each):
                    # NOTE: who moves a directory must be able to write to it.
                    os.chmod(each, 0o700, dir_fd=fd)
                    os.rename(each, secrets.token_hex(16), src_dir_fd=fd, dst_dir_fd=top)
                else:
                    os.unlink(each, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)


def _some_names(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in itertools.islice(entries, _NAMES)]


def _is_directory(fd: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)

"""An online backup of a registry's database in SQLite: a verified copy, beside the services.

For `glance-manage backup`. SQLite copies the pages of one state of the database
(https://www.sqlite.org/backup.html) into a new file beside the wanted one, which takes its name
only when it has been checked and is on the disk. Other databases bring programs of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import stat

from glance.common import exception, files
from glance.registry.db import urls

#: Mode of a backup: locations may hold credentials.
MODE = 0o640
#: Pages that are copied at a time; between two of them, the program can be interrupted.
PAGES = 2000
_MAGIC = b"SQLite format 3\0"
_OTHERS = {
    "postgresql": "pg_dump --format=custom --file={file} {name}",
    "mysql": "mysqldump --single-transaction --result-file={file} {name}",
}


def backup(url: str, file: str) -> int:
    """Write a backup to a file, which replaces an older backup; return its size in bytes.

    The file has mode 0640, and is one file without a journal. It appears only after an integrity
    check (PRAGMA integrity_check); nothing is left after a failure. Raises BadInputError, whose
    message is for the operator.
    """
    parsed = urls.parse(url)
    kind = parsed.get_backend_name()
    if kind != "sqlite":
        command = _OTHERS[kind].format(file="FILE", name=parsed.database or "DATABASE")
        raise exception.BadInputError(
            f"backup is for SQLite; for this database use {command}, with the host and the "
            "account of sql_connection"
        )
    if not parsed.database or not os.path.isfile(parsed.database):
        raise exception.BadInputError(f"there is no database file {parsed.database or ''}")
    try:
        _require_replaceable(file, parsed.database)
        return _write(parsed.database, os.path.abspath(file))
    except sqlite3.Error as err:
        raise exception.BadInputError(f"the backup failed: {err}") from err
    except OSError as err:
        raise exception.BadInputError(
            f"the backup cannot be written to {file}: {err.strerror or type(err).__name__}"
        ) from err


def _require_replaceable(file: str, database: str) -> None:
    """Raise BadInputError unless a file may be replaced: it is missing, or an older backup."""
    try:
        status = os.lstat(file)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise exception.BadInputError(f"{file} is not a regular file: name another one")
    in_use = any(os.path.lexists(file + end) for end in ("-wal", "-shm", "-journal"))
    if os.path.samefile(file, database) or in_use:
        raise exception.BadInputError(f"{file} is a database in use: name another file")
    with os.fdopen(files.open_fd(file, os.O_RDONLY), "rb") as old:
        if old.read(len(_MAGIC)) not in (b"", _MAGIC):
            raise exception.BadInputError(f"{file} exists and is no backup: name another file")


def _write(database: str, file: str) -> int:
    directory, name = os.path.split(file)
    # NOTE: one name for each backup, so that a program that was killed leaves nothing for ever.
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    unfinished = os.path.join(directory, f".glance-backup-{digest}.tmp")
    with files.directory(directory) as held:
        flags = os.O_RDWR | os.O_CREAT
        with os.fdopen(files.open_fd(unfinished, flags, owner=os.geteuid()), "r+b") as made:
            _lock(made.fileno(), unfinished)
            try:
                made.truncate(0)
                _copy(database, unfinished)
                os.fchmod(made.fileno(), MODE)
                os.fsync(made.fileno())
                size = os.fstat(made.fileno()).st_size
                os.replace(unfinished, file)
                os.fsync(held)
            finally:
                for end in ("", "-journal", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(unfinished + end)
    return size


def _lock(fd: int, path: str) -> None:
    """Lock an open file that still has its name. Raises BadInputError if another backup has it."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            return
    raise exception.BadInputError("another backup to this file is running: wait for it")


def _copy(database: str, path: str) -> None:
    """Copy a database into an empty file and check the copy. Raises sqlite3.Error."""
    source = sqlite3.connect(database, timeout=30, isolation_level=None)
    target = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(source), contextlib.closing(target):
        if source.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            # NOTE: a state that is held; otherwise each write of another process would begin the
            # copy anew. In this mode it blocks no writer; in the others, it would.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(target, pages=PAGES, sleep=0.01)
        target.execute("PRAGMA journal_mode = DELETE")
        # NOTE: what the tables should refuse came from the source, which is copied as it is.
        target.execute("PRAGMA ignore_check_constraints = ON")
        found = target.execute("PRAGMA integrity_check(1)").fetchone()
        if found != ("ok",):
            raise sqlite3.DatabaseError(f"integrity check: {found[0]}")

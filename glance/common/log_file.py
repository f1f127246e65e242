"""Log files that survive what happens to them, and what every handler of the log does alike.

`LogFile` goes on whatever happens to its file: moved away, deleted, on a full disk, on a file
system that was unmounted or replaced. `harden` makes the handlers of the standard library, which
a logging configuration may name, open files without following links of other users, and report a
lost line in one line instead of a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import logging.handlers
import mmap
import os
import sys
import zlib
from typing import Any

from glance.common import files

#: Classes of the standard library, as a logging configuration names them, that LogFile replaces.
PLAIN = frozenset({"FileHandler", "handlers.WatchedFileHandler"})

_MODE = 0o666
#: The file is all right, but there is no room.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_NOTHING = bytes(4)
#: Which problem of the log any process of the daemon has reported last; `harden` makes it anew.
_reported: mmap.mmap | bytearray = bytearray(_NOTHING)
_print_error = logging.Handler.handleError


def complain(problem: str) -> None:
    """Report a problem of the log on standard error, once as long as it lasts."""
    mark = (zlib.crc32(problem.encode("utf-8", "replace")) or 1).to_bytes(4)
    if _reported[:4] != mark:
        _reported[:4] = mark
        print(problem, file=sys.stderr)


class _EveryHandler(logging.FileHandler):
    """Holds methods for the classes of the standard library; see `harden`."""

    def handleError(self: logging.Handler, record: logging.LogRecord) -> None:
        """Report that a line was lost. NOTE: the standard library prints a traceback for each."""
        err = sys.exc_info()[1]
        if isinstance(err, OSError):
            complain(f"The log cannot be written: {err.strerror or err}")
        else:
            _print_error(self, record)

    def _open(self: logging.FileHandler) -> Any:
        """Open the file; links that another user could have made are not followed."""
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors or "backslashreplace",
            opener=lambda path, flags: files.open_fd(path, flags, _MODE),
        )


def harden() -> None:
    """Give all handlers of this process the methods of `_EveryHandler`.

    Processes that are forked later report each problem once for all of them.
    """
    global _reported
    _reported = mmap.mmap(-1, len(_NOTHING))
    # SECURITY: a logging configuration names the classes, and they open files when it is read.
    logging.FileHandler._open = _EveryHandler._open  # type: ignore[method-assign]  # no other way
    logging.Handler.handleError = _EveryHandler.handleError  # type: ignore[method-assign]  # same


class LogFile(logging.handlers.WatchedFileHandler):
    """A log file that is opened anew if its name leads to another file, or after an error.

    Each line is one call of the system, so that no part of a line is left in a buffer and lines of
    several processes do not mix. The old file is used until the new one can be opened. A line that
    cannot be written is lost; the next line that can be is preceded by one with their number.
    """

    #: Whether the last line in the file has no end.
    _is_cut = False
    _lost = 0
    _last_error = ""

    def _open(self) -> Any:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        if "w" in self.mode and self.dev == -1:
            flags |= os.O_TRUNC
        return open(files.open_fd(self.baseFilename, flags, _MODE), "ab", buffering=0)

    def __init__(
        self,
        filename: str,
        mode: str = "a",
        encoding: str | None = None,
        delay: bool = False,
        errors: str | None = None,
    ):
        """Take what handlers of the standard library take; raise OSError."""
        self.dev = self.ino = -1
        encoding, errors = encoding or "utf-8", errors or "backslashreplace"
        super().__init__(filename, mode, encoding, delay, errors)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Raises nothing."""
        try:
            lines = self._line(record)
            if self._lost:
                lines = self._line(self._note()) + lines
        except Exception:  # an argument may raise anything when it is formatted
            self.handleError(record)
            return
        try:
            self.reopenIfNeeded()
            self._write(lines)
        except OSError as err:
            if err.errno not in _NO_ROOM:
                # Perhaps the name leads to a file that can be written.
                self.dev = self.ino = -2
            self._lost += 1
            self._last_error = err.strerror or str(err)
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> bytes:
        text = self.format(record) + self.terminator
        return text.encode(self.encoding or "utf-8", self.errors or "backslashreplace")

    def _note(self) -> logging.LogRecord:
        text = "%s lines before this one could not be written: %s"
        arguments = (self._lost, self._last_error)
        make = logging.getLogRecordFactory()
        return make(__name__, logging.WARNING, __file__, 0, text, arguments, None)

    def _write(self, data: bytes) -> None:
        left = b"\n" + data if self._is_cut else data
        raw: Any = self.stream
        while left:
            written = raw.write(left)
            left = left[written:]
            self._is_cut = bool(left)
        self._lost = 0
        if _reported[:4] != _NOTHING:
            _reported[:4] = _NOTHING

    def reopenIfNeeded(self) -> None:
        """Open the file if its name leads to another one. OSError if no file is open then."""
        if self.stream is None:
            self.stream = self._open()
            self._statstream()
            return
        try:
            status = os.stat(self.baseFilename)
            if (status.st_dev, status.st_ino) == (self.dev, self.ino):
                return
        except OSError:
            pass
        try:
            new = self._open()
        except OSError as err:
            # The open file is better than none.
            complain(f"A log file cannot be reopened: {err.strerror or err}: {self.baseFilename}")
            return
        old, self.stream = self.stream, new
        self._is_cut = False
        self._statstream()
        with contextlib.suppress(OSError):
            old.close()

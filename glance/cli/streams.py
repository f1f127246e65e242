"""The standard streams of every program: closed, full or broken ones do no harm.

The main function of a program has the decorator `program`. While it runs, text for a standard
stream that cannot be written is dropped, so that the program finishes its work; at the end the
program says in one line on standard error that output was lost, and its exit code is not 0. Only
`glance` stops early when the reader of its output has gone. Bytes for `sys.stdout.buffer` are not
dropped: whoever writes data there gets the OSError.

A standard stream that is closed at the start is opened on /dev/null: another file must not get its
number, and Python would print errors on standard output if there were no standard error. Uses only
the standard library, because `glance-quickstart` runs before anything is installed.
"""

from __future__ import annotations

import codecs
import errno
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# PERF: without typing, which `--version` would import for this alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Main = Callable[..., int]

LOST = 1


class _Closed(io.RawIOBase):
    """What stands for a stream that was closed at the start: every write fails."""

    dead = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.dead:
            return len(data)
        raise OSError(errno.EBADF, "standard output is closed")


class StandardStream(io.TextIOWrapper):
    """Standard output or error: text that cannot be written is dropped, and `lost` has the error.

    `log` is a stream to the same file for log lines, which are not output: it raises OSErrors.
    With `stops`, a BrokenPipeError is raised.
    """

    def __init__(self, plain: io.TextIOWrapper, *, stops: bool):
        # As Python itself does in the C locale (PEP 540), unless it is told otherwise.
        encoding = "utf-8" if codecs.lookup(plain.encoding).name == "ascii" else plain.encoding
        super().__init__(
            plain.buffer,
            encoding=encoding,
            errors="backslashreplace" if plain.errors == "backslashreplace" else "replace",
            line_buffering=plain.line_buffering,
            write_through=plain.write_through,
        )
        raw = getattr(plain.buffer, "raw", plain.buffer)
        own: io.RawIOBase = _Closed()
        if not isinstance(raw, _Closed):
            own = io.FileIO(raw.fileno(), "w", closefd=False)
        self.log = io.TextIOWrapper(
            io.BufferedWriter(own), encoding, "backslashreplace", line_buffering=True
        )
        self.lost: OSError | None = None
        self._stops = stops
        # Its end would close the buffer.
        self._plain = plain

    def write(self, s: str, /) -> int:
        try:
            return super().write(s)
        except OSError as err:
            self._lose(err)
        return len(s)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as err:
            self._lose(err)

    def _lose(self, err: OSError) -> None:
        self.lost = self.lost or err
        if self._stops and isinstance(err, BrokenPipeError):
            raise err

    def abandon(self) -> None:
        """Let the text that is left go nowhere, so that the interpreter can end."""
        self._stops = False
        raw = getattr(self.buffer, "raw", self.buffer)
        if isinstance(raw, _Closed):
            raw.dead = True
        else:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, raw.fileno())
            os.close(null)
        self.flush()


def program(name: str, *, stops: bool = False) -> Callable[[Main], Main]:
    """Return the decorator of the main function of a program.

    With `stops`, the program ends quietly as soon as the reader of its output has gone; a program
    that changes things goes on.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            # NOTE: any module may be the first to import it, and cron mails what it prints.
            warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
            with _standard_streams(stops=stops):
                return _run(name, main, argv)

        return run

    return decorate


def _run(name: str, main: Main, argv: Sequence[str] | None) -> int:
    try:
        code = main(argv)
    except KeyboardInterrupt:
        code = LOST
    except BrokenPipeError:
        if not getattr(sys.stdout, "lost", None):
            raise
        code = LOST
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        code = _finish(name, code)
        if code != leaving.code:
            raise SystemExit(code) from None
        raise
    return _finish(name, code)


def _finish(name: str, code: int) -> int:
    """Write what is buffered, and return the exit code of a program that would return `code`."""
    out, err = sys.stdout, sys.stderr
    if isinstance(out, StandardStream):
        _flush(out)
        if out.lost is not None:
            # NOTE: a program that failed has said so.
            if not code and not isinstance(out.lost, BrokenPipeError):
                print(f"{name}: output was lost: {out.lost.strerror}", file=err)
            code = code or LOST
            out.abandon()
    if isinstance(err, StandardStream):
        _flush(err)
        if err.lost is not None:
            err.abandon()
    return code


def _flush(stream: StandardStream) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        # The stream has noted it.
        pass


@contextmanager
def _standard_streams(*, stops: bool) -> Iterator[None]:
    """Replace the streams of the process for the block; those that a test has set stay."""
    _open_missing()
    old = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = StandardStream(_plain(sys.stdout), stops=stops)
    if sys.stderr is sys.__stderr__:
        sys.stderr = StandardStream(_plain(sys.stderr), stops=False)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, StandardStream):
                # Otherwise its end would close the file.
                stream.detach()
        sys.stdout, sys.stderr = old


def _plain(stream: Any) -> io.TextIOWrapper:
    if isinstance(stream, io.TextIOWrapper):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(_Closed()), encoding="utf-8", errors="replace")


def _open_missing() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, as those below are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

"""A shell that takes the commands of a page one by one, as a person types them."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

#: How long one command may take, in seconds; pip may have to fetch everything.
LONGEST = 600.0


class Shell:
    """A bash that runs commands in turn: directories, variables and functions last.

    `close`, or the end of a `with` block, ends it and every process of its group.
    """

    def __init__(
        self,
        before: Sequence[str] = (),
        *,
        cwd: pathlib.Path | None = None,
        env: Mapping[str, str] | None = None,
        columns: int = 0,
    ):
        """Start bash, by the words `before` (such as those of setpriv), if any.

        What it prints goes to a terminal of so many columns, or, if there are none, to a pipe.
        """
        if columns:
            self._told, written = pty.openpty()
            fcntl.ioctl(written, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            settings = termios.tcgetattr(written)
            settings[1] &= ~termios.OPOST
            termios.tcsetattr(written, termios.TCSANOW, settings)
        else:
            self._told, written = os.pipe()
        self._process = subprocess.Popen(
            [*before, *BASH],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
        os.close(written)
        self._mark = f"done-{os.urandom(8).hex()}"

    def _type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def become(self, *words: str) -> None:
        """Go on as another bash, which the words start."""
        self._type(f"exec {subprocess.list2cmdline([*words, *BASH])}\n")

    def ask(self, command: str) -> tuple[int, str]:
        """Run a command with nothing to read; return its exit code and what it printed.

        Raises AssertionError if the shell ends or the command takes longer than `LONGEST`.
        """
        self._type(f"{{\n{command}\n}} < /dev/null\nprintf '\\n%s %s\\n' {self._mark} $?\n")
        end = f"\n{self._mark} ".encode()
        told = bytearray()
        deadline = time.monotonic() + LONGEST
        while end not in told[-200:] or not told.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._told], [], [], max(left, 0))
            more = self._read() if ready else b""
            assert more, f"{command}\n{told.decode(errors='replace')}"
            told += more
        said, _, code = told.rpartition(end)
        return int(code), said.decode(errors="replace")

    def _read(self) -> bytes:
        try:
            return os.read(self._told, 65536)
        except OSError:  # a terminal whose programs have all ended
            return b""

    def run(self, command: str) -> str:
        """Run a command that has to succeed; return what it printed, errors included."""
        code, said = self.ask(command)
        assert code == 0, f"{command}\nexit code {code}\n{said}"
        return said

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        os.close(self._told)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


BASH = ("bash", "--norc", "--noprofile", "-s")

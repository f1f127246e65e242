"""A shell that takes the commands of a page one by one, as a person types them."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
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
    ):
        """Start bash, by the words `before` (such as those of setpriv), if any."""
        self._process = subprocess.Popen(
            [*before, "bash", "--norc", "--noprofile", "-s"],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._mark = f"done-{os.urandom(8).hex()}"

    def ask(self, command: str) -> tuple[int, str]:
        """Run a command with nothing to read; return its exit code and what it printed.

        Raises AssertionError if the shell ends or the command takes longer than `LONGEST`.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        text = f"{{\n{command}\n}} < /dev/null\nprintf '\\n%s %s\\n' {self._mark} $?\n"
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()
        end = f"\n{self._mark} ".encode()
        told = bytearray()
        deadline = time.monotonic() + LONGEST
        while end not in told[-200:] or not told.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(left, 0))
            more = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert more, f"{command}\n{told.decode(errors='replace')}"
            told += more
        said, _, code = told.rpartition(end)
        return int(code), said.decode(errors="replace")

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
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

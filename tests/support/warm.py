"""Programs of bin that start in a tenth of the time, because a process has their modules already.

`start` asks the process of `warm_start.py` that keeps a program ready, and returns what can be
handled like a `subprocess.Popen`; `run` waits for the end. Each process that runs tests has such
processes of its own, from the first start to `stop`.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

SERVER = pathlib.Path(__file__).with_name("warm_start.py")
BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"
#: Beginnings of the names of variables that an interpreter reads when it starts, and never again.
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")


class Process:
    """A daemon that was forked: what tests use of a Popen."""

    def __init__(self, nursery: Nursery, pid: int):
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask(wait=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None:
            end = os.pidfd_open(self.pid)
            try:
                ended, _, _ = select.select([end], [], [], timeout)
            finally:
                os.close(end)
            if not ended:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.poll()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that keeps one program ready."""

    def __init__(self, program: str, environ: Mapping[str, str]):
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), program],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "ready\n", f"{program} cannot be kept ready: {line}"

    def ask(self, **wish: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with self._lock:
            stdin.write(json.dumps(wish) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())

    def stop(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.close()
        self._process.wait()
        stdout.close()


_nurseries: dict[str, Nursery] = {}
_lock = threading.Lock()
_AT_START: dict[str, str] = {}


def expect(environ: Mapping[str, str]) -> None:
    """Say what the environment of programs is as long as no test changes it."""
    _AT_START.update({name: text for name, text in environ.items() if name.startswith(AT_START)})


def serves(program: str, environ: Mapping[str, str]) -> bool:
    """Tell whether a program may be forked: it is one of bin, and Python starts as it did here."""
    at_start = {name: text for name, text in environ.items() if name.startswith(AT_START)}
    return at_start == _AT_START and (BIN / program).parent == BIN


def start(
    program: str,
    arguments: Sequence[str],
    *,
    output: pathlib.Path,
    errors: pathlib.Path | None = None,
    cwd: str | pathlib.Path,
    environ: Mapping[str, str],
) -> Process:
    """Start a program in a session of its own; what it prints is added to `output`."""
    with _lock:
        if program not in _nurseries:
            _nurseries[program] = Nursery(program, environ)
    nursery = _nurseries[program]
    wish = {"start": list(arguments), "output": str(output), "errors": str(errors or output)}
    return Process(nursery, nursery.ask(**wish, cwd=str(cwd), env=dict(environ)))


def run(
    program: str,
    arguments: Sequence[str],
    *,
    cwd: str | pathlib.Path,
    environ: Mapping[str, str],
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = (pathlib.Path(directory, name) for name in ("output", "errors"))
        process = start(program, arguments, output=output, errors=errors, cwd=cwd, environ=environ)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = [path.read_text(encoding="utf-8") for path in (output, errors)]
    return subprocess.CompletedProcess([program, *arguments], process.wait(), *texts)


def stop() -> None:
    """End what keeps programs ready; daemons that run go on."""
    while _nurseries:
        _nurseries.popitem()[1].stop()

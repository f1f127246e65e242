"""Daemons that start in a tenth of the time, because a process has imported everything already.

`start` asks the process of `warm_start.py` that keeps a program ready, and returns what can be
handled like a `subprocess.Popen`. Each process that runs tests has such processes of its own, from
the first start to `stop`.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

PROGRAMS = ("glance-api", "glance-registry")
SERVER = pathlib.Path(__file__).with_name("warm_start.py")


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


def start(
    program: str,
    arguments: Sequence[str],
    *,
    output: pathlib.Path,
    cwd: pathlib.Path,
    environ: Mapping[str, str],
) -> Process:
    """Start a program of bin in a session of its own; what it prints is added to `output`."""
    with _lock:
        if program not in _nurseries:
            _nurseries[program] = Nursery(program, environ)
    nursery = _nurseries[program]
    wish = {"start": list(arguments), "output": str(output), "cwd": str(cwd)}
    return Process(nursery, nursery.ask(**wish, env=dict(environ)))


def stop() -> None:
    """End what keeps programs ready; daemons that run go on."""
    while _nurseries:
        _nurseries.popitem()[1].stop()

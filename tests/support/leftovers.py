"""Nothing outlives a run of the tests, however it ends.

`watch` puts a mark into this process's environment, which its children inherit, and starts another
process, which is this file as a program: it waits for the end of this one and then ends what bears
the mark. So a run may be interrupted, told to end or killed.
"""

from __future__ import annotations

import os
import pathlib
import re
import secrets
import select
import signal
import subprocess
import sys
import time

MARK = "STARTED_BY_TESTS_OF_GLANCE"
PATIENCE = 10

_watchers: list[subprocess.Popen[bytes]] = []


def watch() -> str:
    """Let nothing that this process starts from now on outlive it; return its mark."""
    token = secrets.token_hex(8)
    # A run may start another one, whose watcher it then ends with the rest.
    os.environ[MARK] = "/".join([*os.environ.get(MARK, "").split("/"), token])
    _watchers.append(
        subprocess.Popen(
            # The watcher has no mark itself, and nothing of the tests' to load.
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), token],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    return token


def bearing(token: str) -> set[int]:
    """Return the processes that bear a mark, with descendants and the sessions that they lead."""
    parents: dict[int, int] = {}
    sessions: dict[int, int] = {}
    found: set[int] = set()
    mark = re.compile(rf"(^|\0){MARK}=[^\0]*/{token}(/|\0|$)".encode())
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state in "ZX":
                continue
            parents[pid], sessions[pid] = int(parent), int(session)
            if mark.search((entry / "environ").read_bytes()):
                found.add(pid)
        except OSError:
            # It has ended, or is somebody else's.
            continue
    while True:
        led = {sessions[pid] for pid in found} & found
        more = {pid for pid in parents if parents[pid] in found or sessions[pid] in led} - found
        if not more:
            return found
        found |= more


def end(token: str) -> None:
    """Kill what bears a mark, and what it starts meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while (found := bearing(token)) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def main() -> None:
    pid, token = int(sys.argv[1]), sys.argv[2]
    try:
        select.select([os.pidfd_open(pid)], [], [])
    except ProcessLookupError:
        # It has ended before we looked.
        pass
    end(token)


if __name__ == "__main__":
    main()

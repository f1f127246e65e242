"""Ends workers and whole daemons with SIGKILL, and starts again what nobody else would."""

from __future__ import annotations

import collections
import os
import random
import signal
import threading
import time

from support import daemons

#: A daemon replaces a worker that died young after a pause that doubles; a new daemon does not.
WORKERS_PER_LIFE = 4
#: What is killed, and how often in relation to the others.
KINDS = {"worker of the API": 8, "worker of the registry": 4, "API": 4, "registry": 3, "parent": 1}


class Killer:
    """Kills by the choices that come from `seed`.

    `parent` is one API parent alone, whose workers notice and end by themselves.
    """

    def __init__(self, site: daemons.Site, seed: int):
        self.site = site
        self.kills: collections.Counter[str] = collections.Counter()
        self._choose = random.Random(f"{seed} killer")
        self._workers_killed: collections.Counter[str] = collections.Counter()

    def run(self, count: int, seconds: float, ended: threading.Event) -> None:
        """Kill `count` times, at most for `seconds`, and leave both daemons running."""
        deadline = time.monotonic() + seconds
        while self.kills.total() < count and time.monotonic() < deadline:
            if ended.wait(self._choose.uniform(0.1, 0.7)):
                break
            self._kill(self._choose.choices(list(KINDS), list(KINDS.values()))[0])

    def _kill(self, kind: str) -> None:
        daemon = self.site.registry if "registry" in kind else self.site.api
        if kind.startswith("worker"):
            if self._workers_killed[daemon.program] < WORKERS_PER_LIFE:
                self._kill_worker(kind, daemon)
                return
            kind = "registry" if daemon is self.site.registry else "API"
        if kind == "parent":
            self._kill_parent(daemon)
        else:
            daemon.kill()
        self.kills[kind] += 1
        self._workers_killed[daemon.program] = 0
        time.sleep(self._choose.uniform(0, 0.3))
        _restart(daemon)

    def _kill_worker(self, kind: str, daemon: daemons.Daemon) -> None:
        workers = daemons.children(daemon.pid)
        if not workers:
            return
        os.kill(self._choose.choice(workers), signal.SIGKILL)
        self._workers_killed[daemon.program] += 1
        self.kills[kind] += 1

    def _kill_parent(self, daemon: daemons.Daemon) -> None:
        workers = daemons.children(daemon.pid)
        assert daemon.process is not None
        daemon.process.kill()
        daemon.process.wait()
        deadline = time.monotonic() + 60
        while any(daemons.is_running(pid) for pid in workers):
            if time.monotonic() > deadline:
                raise AssertionError("the workers of a killed parent do not end")
            time.sleep(0.02)


def _restart(daemon: daemons.Daemon) -> None:
    """Start a daemon again, as a service manager does: until its port is free."""
    for tries in range(20):
        try:
            daemon.start()
            return
        except AssertionError:
            if tries == 19 or "Address already in use" not in daemon.log()[-300:]:
                raise
            time.sleep(0.2)

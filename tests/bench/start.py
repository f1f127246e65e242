"""Measure what it takes to start a program, and the memory of an idle worker.

The yardsticks are an interpreter that does nothing, and a bare eventlet application.
"""

from __future__ import annotations

import argparse
import http.client
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import program
import yardsticks
from table import Row, turns
from transfers import MIB

from support import daemons

#: Runs a command and prints what it had of the processors, in milliseconds.
EFFORT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=-3, stderr=-3)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print((used.ru_utime + used.ru_stime) * 1000)
"""
QUIET = {"verbose": False}


def measure_programs(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """Return the CPU time of programs from start to end."""
    commands = {
        "glance --version": ["glance", "--version"],
        "glance index": ["glance", "-p", str(site.port), "index"],
        "glance-manage --version": ["glance-manage", "--version"],
        "glance --help": ["glance", "--help"],
    }
    return [effort(args.rounds, words, line) for words, line in commands.items()]


def effort(rounds: int, words: str, line: Sequence[str]) -> Row:
    row = Row(words, "ms", "python3 -c pass")
    commands = (
        ([sys.executable, str(daemons.BIN / line[0]), *line[1:]], row.ours),
        ([sys.executable, "-c", "pass"], row.theirs),
    )

    def spent(command: Sequence[str]) -> float:
        measured = [sys.executable, "-c", EFFORT, *command]
        return float(subprocess.check_output(measured, env=daemons.environment()))

    for command, _ in commands:
        spent(command)
    ours, theirs = ((lambda c=c, to=to: to.append(spent(c))) for c, to in commands)
    turns(rounds, ours, theirs)
    return row


def measure_first_response(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """Return the time from the start of both daemons, at once, until an image list is there.

    The database is there already. The yardstick is the same time of the bare application.
    """
    row = Row("start to first response", "ms", "bare eventlet")
    environ = daemons.environment()
    with daemons.Site(home / "first", fresh=True, api=QUIET, registry=QUIET) as prepared:
        prepared.http.get("/v1/images")
    (home / "first-bare").mkdir()
    bare_port, command = yardsticks.bare_command(home / "first-bare", "200 OK", [], b"")

    def first(commands: Sequence[Sequence[str]], port: int, path: str) -> float:
        begin = time.perf_counter()
        processes = [
            subprocess.Popen(words, env=environ, stdout=-3, stderr=-3) for words in commands
        ]
        try:
            while not responds(port, path):
                if time.perf_counter() - begin > daemons.READY_SECONDS:
                    raise SystemExit(f"nothing responds on port {port}")
                time.sleep(0.002)
            return (time.perf_counter() - begin) * 1000
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()

    own = [
        [sys.executable, str(daemons.BIN / one.program), f"--config-file={one.conf}"]
        for one in (prepared.registry, prepared.api)
    ]
    ours, theirs = (own, prepared.port, "/v1/images"), ([command], bare_port, "/")
    first(*ours), first(*theirs)
    turns(
        args.rounds,
        lambda: row.ours.append(first(*ours)),
        lambda: row.theirs.append(first(*theirs)),
    )
    return [row]


def responds(port: int, path: str) -> bool:
    """Tell whether a GET is responded to with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure_idle(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Return the memory of a worker that has responded to one request, and how often it wakes.

    Memory is what is resident. That counts the pages that a worker shares with its parent as its
    own, so the worker costs less; the row about unique pages says how much it costs.
    """
    rows = []
    with (
        yardsticks.bare_eventlet(home / "bare", "200 OK", [], b"") as (port, bare),
        daemons.Site(home / "idle", fresh=True, api=QUIET, registry=QUIET) as idle,
    ):
        # What makes the tables of a new database is not loaded from the second start on.
        idle.stop()
        idle.start()
        idle.http.get("/v1/images")
        responds(port, "/")
        for daemon in (idle.api, idle.registry):
            (worker,) = daemons.children(daemon.pid)
            name = f"idle worker of {daemon.program}"
            memory = Row(name, "MiB", "bare eventlet")
            unique = Row("... unique pages", "MiB", "bare eventlet")
            for row, measured in ((memory, daemons.resident), (unique, unique_bytes)):
                row.ours.append(measured(worker) / MIB)
                row.theirs.append(measured(bare) / MIB)
            rows += [memory, unique, wake_ups(args, worker, bare)]
    return rows


def unique_bytes(pid: int) -> int:
    """Return the bytes of RAM that no other process shares: what ends with the process."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def wake_ups(args: argparse.Namespace, pid: int, bare: int) -> Row:
    """Return how often in a minute the threads of a process wait and are woken."""
    row = Row("... wake-ups", "/min", "bare eventlet")
    before = [switches(one) for one in (pid, bare)]
    begin = time.monotonic()
    time.sleep(args.seconds * 5)
    minutes = (time.monotonic() - begin) / 60
    for figures, one, had in zip((row.ours, row.theirs), (pid, bare), before, strict=True):
        figures.append((switches(one) - had) / minutes)
    return row


def switches(pid: int) -> int:
    """Return how often the threads of a process have waited for something so far."""
    return sum(
        int(line.split()[1])
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    )


MEASURES = {"start": measure_programs, "first": measure_first_response, "idle": measure_idle}


if __name__ == "__main__":
    sys.exit(program.main(__doc__, MEASURES, rounds=15))

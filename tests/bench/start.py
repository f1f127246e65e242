"""Measure what it takes to start a program, and the memory of an idle worker.

The yardsticks are an interpreter that does nothing, and a bare eventlet application.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import yardsticks
from table import Row, described, table, turns
from transfers import MIB

from support import daemons

#: Runs a command and prints what it had of the processors, in milliseconds.
EFFORT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=-3, stderr=-3)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print((used.ru_utime + used.ru_stime) * 1000)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each pair (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-start-") as name:
        home = pathlib.Path(name)
        quiet = {"verbose": False}
        with daemons.Site(home / "site", api=quiet, registry=quiet) as site:
            commands = {
                "glance --version": ["glance", "--version"],
                "glance index": ["glance", "-p", str(site.port), "index"],
                "glance-api --version": ["glance-api", "--version"],
                "glance-manage --version": ["glance-manage", "--version"],
            }
            rows = [effort(args.rounds, words, line) for words, line in commands.items()]
            rows += memory(args.rounds, home, site)
    print(table(rows))
    print(described("1 worker of each daemon"))
    return 0


def effort(rounds: int, words: str, line: Sequence[str]) -> Row:
    """Return the CPU time that a program takes from start to end."""
    row = Row(words, "ms", "python3 -c pass")
    ours = [sys.executable, str(daemons.BIN / line[0]), *line[1:]]
    turns(
        rounds,
        lambda: row.ours.append(spent(ours)),
        lambda: row.theirs.append(spent([sys.executable, "-c", "pass"])),
    )
    return row


def spent(command: Sequence[str]) -> float:
    measured = [sys.executable, "-c", EFFORT, *command]
    return float(subprocess.check_output(measured, env=daemons.environment()))


def memory(rounds: int, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Return the RAM of a worker that has answered one request."""
    site.http.get("/v1/images")
    rows = []
    with yardsticks.bare_eventlet(home / "bare", "200 OK", [], b"") as (_, bare):
        for daemon in (site.api, site.registry):
            row = Row(f"idle worker of {daemon.program}", "MiB", "bare eventlet")
            (worker,) = daemons.children(daemon.pid)
            turns(
                rounds,
                lambda row=row, pid=worker: row.ours.append(daemons.resident(pid) / MIB),
                lambda row=row: row.theirs.append(daemons.resident(bare) / MIB),
            )
            rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())

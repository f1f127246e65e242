"""End a converting process in each phase, and look for what it leaves.

    python tests/chaos/conversions.py --signal KILL --times 20

A process of its own converts an image; it is sent the signal at a random moment of one of the five
phases. After SIGTERM nothing may be left; after SIGKILL no process of the tool may live on, and
the next start must remove whatever lies about. Prints what happened; exits with 1, and keeps the
directory, if something is not as it must be. A run repeats its moments by --seed (not its timing).
"""

from __future__ import annotations

import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from glance.conversion import engine, errors

from support import conversions

MIB = conversions.MIB
#: How long a phase takes about; the signal comes at a random moment of that.
LENGTHS = {"fetching": 0.05, "inspecting": 0.2, "converting": 0.6, "verifying": 0.2}
LENGTHS["uploading"] = 0.1
PATIENCE = 20
INTERRUPTED = 75
SETTLED = "settled"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--times", type=int, default=20, help="in each phase (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=pathlib.Path, help="where to make the directory")
    parser.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.worker is not None:
        return work(args.worker)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="glance-conversions-", dir=args.dir))
    problems = run(args, directory)
    if problems:
        print(f"{len(problems)} problems (files: {directory}):", *problems, sep="\n  ")
        return 1
    shutil.rmtree(directory)
    print("Nothing was left.")
    return 0


# -- the process that is ended -------------------------------------------------------------------


class Telling(engine.Observer):
    """Prints each phase as it begins."""

    def began(self, phase: engine.Phase) -> None:
        print(phase.value, flush=True)


def look(fd: int, disk_format: str) -> None:
    """Stand for an inspection of a large image."""
    time.sleep(LENGTHS["inspecting"])


def work(directory: pathlib.Path) -> int:
    shop = conversions.Workshop(directory, look)
    stop = engine.Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.interrupt())
    source = shop.put(conversions.noise(MIB) * 40)
    try:
        shop.convert(
            *(source, "raw", "qcow2"),
            compress=True,
            stop=stop,
            observer=Telling(),
            settle=lambda added: print(SETTLED, flush=True),
        )
    except errors.ConversionError as err:
        return INTERRUPTED if err.code is errors.Code.INTERRUPTED else 1
    return 0


# -- the one that ends it ------------------------------------------------------------------------


def run(args: argparse.Namespace, directory: pathlib.Path) -> list[str]:
    chance = random.Random(args.seed)
    problems, count, whole = [], 0, 0
    for number in range(args.times):
        for phase in LENGTHS:
            place = directory / f"{phase}-{number}"
            found, settled = once(place, phase, args.signal, chance)
            problems += [f"{place.name}: {problem}" for problem in found]
            whole += settled
            count += 1
            if not found:
                shutil.rmtree(place)
    print(f"{count} times SIG{args.signal}; {whole} times all was done by then")
    return problems


def once(
    place: pathlib.Path, phase: str, name: str, chance: random.Random
) -> tuple[list[str], bool]:
    """End one process in a phase; return the problems, and whether it was too late."""
    command = [sys.executable, "-W", "ignore", __file__, f"--worker={place}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        for line in worker.stdout:
            if line.strip() == phase:
                break
        else:
            return [f"it ended before {phase}, with {worker.wait()}"], False
        time.sleep(chance.random() * LENGTHS[phase])
        worker.send_signal(getattr(signal, f"SIG{name}"))
        settled = SETTLED in worker.stdout.read()
        status = worker.wait(PATIENCE)
    shop = conversions.Workshop(place, box=object())
    problems = []
    end = time.monotonic() + PATIENCE
    while alive := conversions.working_in(shop.work):
        if time.monotonic() > end or name == "TERM":
            problems.append(f"processes are left: {alive}")
            break
        time.sleep(0.02)
    if name == "KILL":
        clean(shop, settled)
    elif status != (0 if settled else INTERRUPTED):
        problems.append(f"its status is {status}")
    left = [path for path in shop.left() if not settled or "result-" not in path]
    problems += [f"left: {path}" for path in left]
    return problems, settled


def clean(shop: conversions.Workshop, settled: bool) -> None:
    """Do what the next process does when it starts."""
    shop.work_dir.remove_leftovers()
    for left in shop.stores.sweep():
        left.keep() if settled else left.discard()


if __name__ == "__main__":
    sys.exit(main())

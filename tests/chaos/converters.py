"""End a real glance-converter in each phase of a job, and look for what it leaves.

    python tests/chaos/converters.py --signal KILL --times 20

A registry, an API and a converter run on loopback. In each round an image is converted, and the
converter is sent the signal at a random moment of one of the five phases. After SIGTERM nothing
may be left, and the job waits for another one at once; after SIGKILL the next converter must find
nothing that it does not settle. Then the job is done by the next one, the result is compared, and
there must be no other data, no directory and no process. Prints what happened; exits with 1, and
keeps the directory, if something is not as it must be. A run repeats its moments by --seed (not
its timing).
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support import conversions, converters, faults, warm
from support.conversions import MIB

#: How long a phase takes about; the signal comes at a random moment of that.
LENGTHS = {"fetching": 0.1, "inspecting": 0.2, "converting": 0.6, "verifying": 0.3}
LENGTHS["uploading"] = 0.2


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--times", type=int, default=20, help="in each phase (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=pathlib.Path, help="where to make the directory")
    args = parser.parse_args(words)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="glance-converters-", dir=args.dir))
    site = converters.ConvertingSite(directory, converter={"conversion_shutdown_grace": 0})
    try:
        problems = run(args, site)
    finally:
        site.kill()
        warm.stop()
    if problems:
        print(f"{len(problems)} problems (files: {directory}):", *problems, sep="\n  ")
        return 1
    shutil.rmtree(directory)
    print("Nothing was left.")
    return 0


def run(args: argparse.Namespace, site: converters.ConvertingSite) -> list[str]:
    chance = random.Random(args.seed)
    problems: list[str] = []
    endings: collections.Counter[str] = collections.Counter()
    super(converters.ConvertingSite, site).start()
    source = site.put(conversions.noise(MIB) * 16)
    for number in range(args.times):
        for phase in LENGTHS:
            found, ending = once(site, source, phase, args.signal, chance)
            problems += [f"{phase} {number}: {problem}" for problem in found]
            endings[f"{phase}: {ending}"] += 1
        print(f"{number + 1} times: {len(problems)} problems", flush=True)
    print(f"{args.times} times SIG{args.signal} in each phase; then the job was:")
    print(*(f"  {count:4} {ending}" for ending, count in sorted(endings.items())), sep="\n")
    return problems


def once(
    site: converters.ConvertingSite,
    source: dict[str, object],
    phase: str,
    name: str,
    chance: random.Random,
) -> tuple[list[str], str]:
    """End the converter once in a phase; return the problems, and what the job was then."""
    problems = []
    converter = site.converter
    converter.write(look=LENGTHS["inspecting"])
    converter.start()
    job = site.order(source, "qcow2", compress=True)
    converter.wait_for(phase)
    time.sleep(chance.random() * LENGTHS[phase])
    if name == "KILL":
        converter.kill()
    elif (status := converter.stop()) != 0:
        problems.append(f"its status is {status}")
    ending = site.job(job)["status"]
    if name == "TERM":
        if ending not in ("queued", "succeeded"):
            problems.append(f"the job is {ending}")
        kept = [source["id"], job["image_id"]] if ending == "succeeded" else [source["id"]]
        problems += [f"left: {left}" for left in site.left(*kept)]
    try:
        faults.until(lambda: not site.tools(), "no process is left")
    except AssertionError:
        problems.append(f"processes are left: {site.tools()}")
    converter.write(look=0)
    converter.start()
    if name == "KILL":
        site.lapse()
    done = site.final(job)
    if done["status"] != "succeeded":
        problems.append(f"the job has {done['status']}: {done['error']}")
    else:
        if site.image(job)["checksum"] != md5_of(site, job):
            problems.append("the result is not what its record says")
        site.http.delete(f"/v1/images/{job['image_id']}", converters.USER)
    converter.stop()
    problems += [f"left in the end: {left}" for left in site.left(source["id"])]
    return problems, ending


def md5_of(site: converters.ConvertingSite, job: converters.types.Conversion) -> str:
    return hashlib.md5(site.data(job["image_id"])).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

"""Compare this checkout with another one: `python tests/bench/versus.py OTHER_CHECKOUT`.

The daemons of both run at the same time, each on a database of its own with the same images, and
small requests go to them in turns, so that a machine that is slow now is slow for both. What is
compared is the rate, and the CPU time of a request in the workers of both daemons together, SQLite
included.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import load
from small_requests import PAGE, RESERVATION, SMALL, UPLOAD, fill
from table import Row, described, table, turns

from support import daemons

REQUESTS = {
    "HEAD of one image": ("HEAD", "/v1/images/{image}"),
    "GET of an image by version 2": ("GET", "/v2/images/{uuid}"),
    f"list of {PAGE}": ("GET", f"/v1/images?limit={PAGE}"),
    f"list of {PAGE} with details": ("GET", f"/v1/images/detail?limit={PAGE}"),
    f"list of {PAGE} by version 2": ("GET", f"/v2/images?limit={PAGE}"),
    "POST without data": ("POST", "/v1/images", *RESERVATION),
    "upload of 64 KiB": ("POST", "/v1/images", *UPLOAD),
}
BODIES = {"upload of 64 KiB": b"d" * SMALL}


class Side:
    """The daemons of one checkout, and the workers whose time counts."""

    def __init__(self, checkout: pathlib.Path, home: pathlib.Path, stack: contextlib.ExitStack):
        has_v2 = (checkout / "glance/api/mounting.py").exists()
        pipeline = f"versionnegotiation context {'rootapp' if has_v2 else 'apiv1app'}"
        site = daemons.Site(home, api={"verbose": False}, api_pipeline=pipeline, fresh=True)
        site.registry_options["verbose"] = False
        for daemon in (site.registry, site.api):
            daemon.programs = checkout / "bin"
        stack.enter_context(site)
        self.port, self.image = site.port, fill(site)
        head = site.http.head(f"/v1/images/{self.image}")
        #: None for a checkout without version 2.
        self.uuid = head.header("x-openstack-image-uuid") if has_v2 else None
        self._workers = [
            pid for daemon in (site.api, site.registry) for pid in daemons.children(daemon.pid)
        ]

    def run(self, message: bytes, args: argparse.Namespace) -> tuple[float, float]:
        """Return the responses per second, and the CPU time of each in microseconds."""
        before = daemons.processor_time(self._workers)
        rate, count = load.rate(
            self.port, message, seconds=args.seconds, connections=args.connections
        )
        return rate, (daemons.processor_time(self._workers) - before) / count * 1e6


def measure(name: str, ours: Side, theirs: Side, args: argparse.Namespace) -> list[Row]:
    method, path, *fields = REQUESTS[name]
    rate, cost = Row(name, "/s", "other"), Row("... CPU time", "us", "other")

    def turn(side: Side, rates: list[float], costs: list[float]) -> None:
        target = path.format(image=side.image, uuid=side.uuid)
        message = load.request(method, target, *fields) + BODIES.get(name, b"")
        found = side.run(message, args)
        rates.append(found[0])
        costs.append(found[1])

    turn(ours, [], []), turn(theirs, [], [])
    turns(
        args.rounds,
        lambda: turn(ours, rate.ours, cost.ours),
        lambda: turn(theirs, rate.theirs, cost.theirs),
    )
    return [rate, cost]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=pathlib.Path, help="the other checkout of glance")
    parser.add_argument("--only", nargs="+", choices=REQUESTS, default=list(REQUESTS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (%(default)s)")
    parser.add_argument("--connections", type=int, default=8, help="(%(default)s)")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="glance-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        home = pathlib.Path(name)
        ours = Side(daemons.ROOT, home / "ours", stack)
        theirs = Side(args.other.resolve(), home / "theirs", stack)
        rows = [
            row
            for request in args.only
            if (ours.uuid and theirs.uuid) or not REQUESTS[request][1].startswith("/v2")
            for row in measure(request, ours, theirs, args)
        ]
    print(table(rows))
    print(described("one worker of each daemon"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

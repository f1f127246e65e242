"""The command line of a benchmark, and what it prints."""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

from table import Row, add_json, report

from support import daemons

#: Takes the arguments, a directory and a site, and returns rows.
Measure = Callable[[argparse.Namespace, pathlib.Path, daemons.Site], list[Row]]


def main(
    text: str,
    measures: Mapping[str, Measure],
    usual: Sequence[str] = (),
    rounds: int = 7,
    whole: Sequence[str] = (),
) -> int:
    """Run the benchmarks that the command line chooses, each with a directory of its own.

    `usual` are those of a command line that chooses none, and `whole` those of --all (default for
    both: all); `text` says what the program is, and `rounds` is how often each pair has its turn.
    """
    args = _parse(text, measures, usual or list(measures), rounds, whole or list(measures))
    with tempfile.TemporaryDirectory(prefix="glance-bench-", dir=args.dir) as name:
        home = pathlib.Path(name)
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
            # Installed programs find their modules compiled, and so do these.
            os.environ["PYTHONPYCACHEPREFIX"] = str(home / "compiled")
        site = daemons.Site(
            home / "site",
            workers=args.workers,
            api={"verbose": False},
            api_pipeline="versionnegotiation context rootapp",
        )
        site.registry_options["verbose"] = False
        with site:
            rows = [row for measure in args.only for row in measures[measure](args, home, site)]
    report(rows, f"{args.workers} worker(s) of each daemon", args.json)
    return 0


def _parse(
    text: str,
    measures: Mapping[str, Measure],
    usual: Sequence[str],
    rounds: int,
    whole: Sequence[str],
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of the image (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="turns of each pair (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of a small-request turn")
    parser.add_argument("--connections", type=int, default=8, help="for small requests")
    parser.add_argument("--workers", type=int, default=1, help="of each daemon (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    add_json(parser)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", choices=measures, default=usual)
    chosen.add_argument(
        "--all",
        action="store_const",
        dest="only",
        const=whole,
        help="all that have a goal, and need no server of an object store",
    )
    return parser.parse_args()

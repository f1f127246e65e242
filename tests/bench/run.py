"""Measure glance against its yardsticks: `tox -e bench`, or `python tests/bench/run.py --help`.

Each pair runs in turns within one run, so that a machine that is slow today is slow for both;
medians and ratios are printed as a table that fits into doc/source/explanation/performance.rst.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import small_requests
import streams
import transfers
from table import described, results, table

from support import daemons

#: Each takes the arguments, a directory and a site, and returns rows.
MEASURES = {**transfers.MEASURES, **streams.MEASURES, **small_requests.MEASURES}
#: What needs no peers but nginx, and takes minutes at most.
USUAL = [name for name in MEASURES if not name.startswith("s3") and name not in streams.SLOW]


def main() -> int:
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-bench-", dir=args.dir) as name:
        home = pathlib.Path(name)
        site = daemons.Site(
            home / "site",
            workers=args.workers,
            api={"verbose": False},
            api_pipeline="versionnegotiation context rootapp",
        )
        site.registry_options["verbose"] = False
        with site:
            rows = [row for measure in args.only for row in MEASURES[measure](args, home, site)]
    print(table(rows))
    print(described(setting := f"{args.workers} worker(s) of each daemon"))
    if args.json:
        args.json.write_text(results(rows, setting))
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of the image (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each pair (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a small-request turn")
    parser.add_argument("--connections", type=int, default=8, help="for small requests")
    parser.add_argument("--workers", type=int, default=1, help="of each daemon (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the results as JSON, too")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=USUAL)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

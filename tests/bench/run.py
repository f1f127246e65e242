"""Measure glance against its yardsticks: `tox -e bench`, or `python tests/bench/run.py --help`.

Each pair runs in turns within one run, so that a machine that is slow today is slow for both;
medians and ratios are printed as a table that fits into doc/source/explanation/performance.rst.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import beside
import connections
import program
import small_requests
import start
import streams
import transfers

COMMON = {**transfers.MEASURES, **streams.MEASURES, **small_requests.MEASURES}
#: What needs no peers but nginx, and takes minutes at most.
USUAL = [name for name in COMMON if not name.startswith("s3") and name not in streams.SLOW]
#: What has a program of its own, too.
MEASURES = {**COMMON, **start.MEASURES, **beside.MEASURES, **connections.MEASURES}


#: What compares two ways of glance with each other, and so has no goal.
_BETWEEN = {"digests", "inspect", "metrics", "v2-create", "v2-list", "cached"}
WHOLE = [
    name
    for name in MEASURES
    if name not in _BETWEEN and not name.startswith(("s3-", "swift-")) and name not in streams.SLOW
]


if __name__ == "__main__":
    sys.exit(program.main(__doc__, MEASURES, USUAL, whole=WHOLE))

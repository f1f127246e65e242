"""What each benchmark is to reach: the one table, for the printed tables and for the picture.

A row is found by its yardstick and its name, with the number of each size, of clients and of
transfers as `N`.
A row that belongs to the one above it (`... CPU time`) has the name of that row before its own:
`HEAD of one image, CPU time`. Rows without a goal are not in the table.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: Units of which more is better; of all others, less is.
RATES = frozenset({"/s", "MiB/s"})

_SIZE = re.compile(r"[0-9]+(?= (?:[KMG]iB|clients))|^[0-9]+(?= (?:down|up)loads of)")


class Goal(NamedTuple):
    """A bound of the ratio, or of glance's own figure if it is `absolute` (in the row's unit)."""

    bound: float
    absolute: bool = False

    def share(self, unit: str, figure: float, ratio: float | None) -> float:
        """Return how much of the goal is reached: 1 is all of it, more is better."""
        # A ratio is None where the yardstick is 0; those goals are absolute.
        found = figure if self.absolute or ratio is None else ratio
        if unit in RATES:
            return found / self.bound
        return self.bound / found if found else math.inf

    def words(self, unit: str) -> str:
        """Return the goal as a table shows it."""
        side = "at least" if unit in RATES else "at most"
        return f"{side} {self.bound:g}{f' {unit}' if self.absolute else ''}"


_CROWD = "10000 idle connections, 200 slow"

GOALS = {
    # Large transfers.
    ("download of N MiB", "nginx, sendfile"): Goal(0.95),
    ("upload of N MiB", "md5sum"): Goal(1.0),
    ("download of N MiB, thrown away, CPU time", "nginx"): Goal(1.3),
    ("N downloads of N MiB at once", "nginx"): Goal(0.9),
    ("N downloads of N MiB at once, slowest in % of the median", "nginx"): Goal(
        150, absolute=True
    ),
    ("download of N MiB in 8 ranges at once", "nginx"): Goal(0.9),
    ("download of N MiB over TLS", "nginx"): Goal(0.7),
    ("upload of N MiB, by version 2, sent at N MiB/s", "version 1"): Goal(0.9),
    ("chunked upload of N MiB", "md5sum"): Goal(0.95),
    ("N uploads of N MiB at once, 2 workers", "2 md5sum"): Goal(0.85),
    ("upload of N MiB with N MiB of data", "md5sum"): Goal(1.0),
    ("upload of N MiB with N MiB of data, on the disk", "du of the source"): Goal(1.05),
    ("upload of N MiB with N MiB of data, download", "image without holes"): Goal(1.0),
    ("fetches of an image for N clients, 2 workers", "one"): Goal(1, absolute=True),
    ("growth of a worker over N MiB up", "limit"): Goal(16384, absolute=True),
    ("growth of a worker over N MiB up, down", "limit"): Goal(16384, absolute=True),
    ("upload of N MiB, Swift", "python-swiftclient alone"): Goal(1.0),
    ("download of N MiB, Swift", "python-swiftclient alone"): Goal(0.95),
    ("upload of N MiB, S3", "boto alone"): Goal(1.0),
    ("download of N MiB, S3", "boto alone"): Goal(0.95),
    # Small requests.
    ("HEAD of one image, CPU time", "bare eventlet"): Goal(2.3),
    ("list of 25, CPU time", "bare eventlet"): Goal(4),
    ("list of 25 with details, CPU time", "bare eventlet"): Goal(6),
    ("POST without data, CPU time", "bare eventlet"): Goal(8),
    ("GET of an image by version 2", "bare eventlet"): Goal(0.4),
    ("POST by N clients", "bare loop"): Goal(0.4),
    ("upload of N KiB by N clients", "bare loop"): Goal(0.5),
    # Start, and idle workers.
    ("glance --version", "python3 -c pass"): Goal(2),
    ("glance index", "python3 -c pass"): Goal(3.5),
    ("glance-manage --version", "python3 -c pass"): Goal(5),
    ("start to first response", "bare eventlet"): Goal(1200, absolute=True),
    ("idle worker of glance-api", "bare eventlet"): Goal(1.0),
    ("idle worker of glance-registry", "bare eventlet"): Goal(1.15),
    # Small requests beside other work.
    ("HEAD beside 2 uploads and 2 downloads of N MiB, median", "2 md5sum"): Goal(2),
    ("HEAD beside 2 uploads and 2 downloads of N MiB, p99", "2 md5sum"): Goal(5),
    (f"memory with {_CROWD}", "without them"): Goal(250, absolute=True),
    (f"HEAD beside {_CROWD}, p99", "without them"): Goal(3),
}


def goal_of(name: str, yardstick: str) -> Goal | None:
    """Return the goal of a row by its full name."""
    return GOALS.get((_SIZE.sub("N", name), yardstick))

"""What every benchmark prints: typical figures of pairs, in a table as the manual has them."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Callable

#: What a table may show of all turns of a pair, by its name in the head of the table.
TYPICAL: dict[str, Callable[[list[float]], float]] = {
    "median": statistics.median,
    "lowest": min,
    "lower quartile": lambda turns: statistics.quantiles(turns, n=4, method="inclusive")[0],
}


class Row:
    """One pair: what was measured of glance and of its yardstick, in the same unit."""

    def __init__(self, name: str, unit: str, yardstick: str, typical: str = "median"):
        self.name, self.unit, self.yardstick, self.typical = name, unit, yardstick, typical
        self.ours: list[float] = []
        self.theirs: list[float] = []

    @property
    def ratio(self) -> float:
        typical = TYPICAL[self.typical]
        return typical(self.ours) / typical(self.theirs)

    def cells(self) -> tuple[str, ...]:
        ours, theirs = (TYPICAL[self.typical](turns) for turns in (self.ours, self.theirs))
        spread = " to ".join(f"{value:.0f}" for value in (min(self.ours), max(self.ours)))
        return (
            self.name,
            f"{ours:.0f} {self.unit}",
            spread,
            f"{theirs:.0f} {self.unit} ({self.yardstick})",
            f"{self.ratio:.2f}",
        )


def turns(rounds: int, ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    """Run both in turns, and who begins changes."""
    for number in range(rounds):
        for one in (ours, theirs) if number % 2 else (theirs, ours):
            one()


def table(rows: list[Row]) -> str:
    typical = rows[0].typical
    head = ("what", f"glance, {typical}", "range", f"yardstick, {typical}", "ratio")
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    texts = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([rule, texts[0].rstrip(), rule, *(t.rstrip() for t in texts[1:]), rule])


def results(rows: list[Row], setting: str) -> str:
    """Return the same as JSON: the machine, and of each row all turns, so that others can plot."""
    return json.dumps(
        {
            "date": str(datetime.date.today()),
            "machine": machine(),
            "setting": setting,
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "yardstick": row.yardstick,
                    "glance": row.ours,
                    "theirs": row.theirs,
                    "ratio": round(row.ratio, 3),
                }
                for row in rows
            ],
        },
        indent=1,
    )


def machine() -> str:
    """Return the processors and the versions of Linux and Python."""
    models = [
        line.partition(":")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{os.cpu_count()} x {(models or ['unknown processor'])[0]}, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def described(setting: str) -> str:
    """Return what a reader has to know about a run: machine, versions, date, setting, command."""
    program = os.path.relpath(sys.argv[0], pathlib.Path(__file__).parents[2])
    return (
        f"\n{datetime.date.today()}, {machine()}, one client on the same "
        f"machine, {setting}: ``{' '.join([program, *sys.argv[1:]])}``"
    )

"""What every benchmark prints: typical figures of pairs, in a table as the manual has them.

`report` prints it, with the goals of `goals.py`, and writes the same as JSON for `--json`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Callable, Sequence

import goals

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
        ours, theirs = self.figures
        return ours / theirs if theirs else math.inf

    @property
    def figures(self) -> tuple[float, float]:
        """The typical figures of glance and of its yardstick."""
        ours, theirs = (TYPICAL[self.typical](turns) for turns in (self.ours, self.theirs))
        return ours, theirs

    def cells(self) -> tuple[str, ...]:
        ours, theirs = self.figures
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


def full_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of rows; that of a row about the one above begins with the name of that."""
    names: list[str] = []
    above = ""
    for row in rows:
        own = row.name.removeprefix("... ")
        above = above if own != row.name else own
        names.append(own if own == row.name else f"{above}, {own}")
    return names


def table(rows: list[Row]) -> str:
    typical = rows[0].typical
    head = ["what", f"glance, {typical}", "range", f"yardstick, {typical}", "ratio", "goal"]
    lines = [head]
    for row, name in zip(rows, full_names(rows), strict=True):
        goal = goals.goal_of(name, row.yardstick)
        lines.append([*row.cells(), goal.words(row.unit) if goal else ""])
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
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
            "command": command(),
            "rows": [
                {
                    "name": name,
                    "unit": row.unit,
                    "yardstick": row.yardstick,
                    "typical": row.typical,
                    "glance": [round(turn, 3) for turn in row.ours],
                    "theirs": [round(turn, 3) for turn in row.theirs],
                    "figure": round(row.figures[0], 3),
                    "ratio": round(row.ratio, 3) if math.isfinite(row.ratio) else None,
                }
                for row, name in zip(rows, full_names(rows), strict=True)
            ],
        },
        indent=1,
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option --json, for `report`."""
    parser.add_argument("--json", type=pathlib.Path, help="a file for the results as JSON, too")


def report(rows: list[Row], setting: str, json_file: pathlib.Path | None) -> None:
    """Print the table of a run and what a reader has to know of it; write the JSON."""
    print(table(rows))
    print(described(setting))
    if json_file:
        json_file.write_text(results(rows, setting) + "\n", encoding="utf-8")


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


def command() -> str:
    """Return the command line of this run, from the top of the checkout, without places."""
    program = os.path.relpath(sys.argv[0], pathlib.Path(__file__).parents[2])
    words = sys.argv[1:]
    for option in ("--json", "--dir"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    return " ".join([program, *words])


def described(setting: str) -> str:
    """Return what a reader has to know about a run: machine, versions, date, setting, command."""
    return (
        f"\n{datetime.date.today()}, {machine()}, one client on the same "
        f"machine, {setting}: ``{command()}``"
    )

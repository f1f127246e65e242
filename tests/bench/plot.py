"""Draw the results of benchmarks against their goals: `plot.py RESULTS.json ... PICTURE.svg`.

Each bar says how much of its goal a row has reached: the line at 1 is the goal, further to the
right is better. Rows without a goal are left out. With `--check` nothing is written, and the exit
code is 1 if the picture is not what the results make.
"""

from __future__ import annotations

import argparse
import html
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import goals

#: Pixels. It is as narrow as the page is on a telephone.
WIDTH, MARGIN, ROW, HEAD = 380, 14, 46, 58
#: The right end of a bar: so many times the goal, or more.
MOST = 2.0
BACKGROUND, TEXT, QUIET, GOAL = "#f7f8fa", "#1c1e21", "#5f6670", "#1c1e21"
MET, MISSED = ("#dcf3e2", "#23794a"), ("#fdebcf", "#9a6200")


def picture(runs: Iterable[Mapping[str, Any]]) -> str:
    """Return the SVG of the rows with a goal of some runs, as `table.results` writes them."""
    bars = [bar for run in runs for row in run["rows"] if (bar := _bar(row))]
    height = HEAD + ROW * len(bars) + MARGIN
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        "<!-- Made by tests/bench/plot.py. -->\n",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">\n',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{BACKGROUND}"/>\n',
    ]
    for (fill, stroke), words, left in ((MET, "reached", 14), (MISSED, "missed", 104)):
        parts.append(_box(left, 16, 14, 14, fill, stroke))
        parts.append(_text(left + 20, 28, words))
    goal = _x(1)
    parts.append(_text(goal, HEAD - 8, "goal", anchor="middle", fill=QUIET))
    texts = []
    for number, (row, found, share) in enumerate(bars):
        top = HEAD + ROW * number
        fill, stroke = MET if share >= 1 else MISSED
        parts.append(_box(MARGIN, top + 20, _x(share) - MARGIN, 16, fill, stroke))
        parts.append(f'<path d="M{goal} {top + 16} V{top + 40}" stroke="{GOAL}"/>\n')
        texts.append(_text(MARGIN, top + 14, row["name"]))
        # Its halo hides the line behind the letters.
        halo = fill if _x(share) >= goal else BACKGROUND
        texts.append(_text(MARGIN + 6, top + 32, found, fill=stroke, halo=halo))
    return "".join([*parts, *texts, "</svg>\n"])


def _bar(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, float] | None:
    """Return a row with the words in its bar and the share of its goal, None without a goal."""
    goal = goals.goal_of(row["name"], row["yardstick"])
    if goal is None or (row["ratio"] is None and not goal.absolute):
        return None
    figure = f"{row['figure']:.0f} {row['unit']}" if goal.absolute else f"{row['ratio']:.2f}"
    words = f"{figure}, {goal.words(row['unit'])} ({row['yardstick']})"
    return row, words, goal.share(row["unit"], row["figure"], row["ratio"])


def _x(share: float) -> int:
    """Return the place of a share of a goal, from the left."""
    return round(MARGIN + (WIDTH - 2 * MARGIN) * min(share, MOST) / MOST)


def _box(left: int, top: int, width: int, height: int, fill: str, stroke: str) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="3" '
        f'fill="{fill}" stroke="{stroke}"/>\n'
    )


def _text(
    left: int,
    top: int,
    words: str,
    *,
    anchor: str = "start",
    fill: str = TEXT,
    halo: str = BACKGROUND,
) -> str:
    return (
        f'<text x="{left}" y="{top}" text-anchor="{anchor}" fill="{fill}" '
        f'paint-order="stroke" stroke="{halo}" stroke-width="3">'
        f"{html.escape(words, quote=False)}</text>\n"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="files made by --json")
    parser.add_argument("picture", type=pathlib.Path, help="the SVG")
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args(argv)
    try:
        drawn = picture(json.loads(path.read_text(encoding="utf-8")) for path in args.results)
        if not args.check:
            args.picture.write_text(drawn, encoding="utf-8")
            return 0
        return int(args.picture.read_text(encoding="utf-8") != drawn)
    except (OSError, ValueError, KeyError, TypeError) as err:
        parser.error(f"these are not results of a benchmark: {err}")


if __name__ == "__main__":
    sys.exit(main())

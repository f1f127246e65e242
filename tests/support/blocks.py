"""The literal blocks of the pages: where each stands, and why it is not run if its page says so.

A block is run by a test, or the page has a comment directly before the paragraph that ends with
the two colons::

    .. not-run: needs a broker that this host does not have

A test module names what it runs in a literal, `RUNS`: a page, then a section (with what is below
it; "" for all of the page), then the test.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import textwrap
from typing import NamedTuple

from support import pages

COMMENT = re.compile(r" *\.\. not-run: (.+)")
DIRECTIVE = re.compile(r" *\.\. [\w-]+::")
CODE = re.compile(r" *\.\. (code-block|sourcecode|code)::")
UNDERLINE = re.compile(r"([=~-])\1+$")


class Block(NamedTuple):
    """A literal block, without its indentation; `excuse` is why no test runs it, or None.

    `sections` are the titles that it stands below, from the outside in, without that of the page.
    """

    page: str
    sections: tuple[str, ...]
    text: str
    line: int
    excuse: str | None


def of(page: pathlib.Path) -> list[Block]:
    """Return the blocks of a page in order. Raises AssertionError for an excuse of nothing."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    titles: list[tuple[str, str]] = []
    excuse: str | None = None
    paragraphs = at = 0
    while at < len(lines):
        line = lines[at]
        after = lines[at + 1] if at + 1 < len(lines) else ""
        mark = UNDERLINE.fullmatch(after)
        if line and line[0] != " " and mark and len(after) >= len(line) and not _is_rule(line):
            over = at > 0 and lines[at - 1] == after
            level = ("over" if over else "") + mark[1]
            titles = [*_above(titles, level), (level, line)]
            at += 2
            continue
        begins = at == 0 or not lines[at - 1].strip()
        if comment := COMMENT.match(line):
            assert excuse is None, f"{page}:{at + 1}: the excuse before this one excuses nothing"
            excuse, paragraphs = comment[1], 0
            while at + 1 < len(lines) and lines[at + 1].startswith(" " * (_indent(line) + 3)):
                at += 1
                excuse += f" {lines[at].strip()}"
        elif line.strip() and begins:
            paragraphs += 1
            assert excuse is None or paragraphs == 1, f"{page}:{at + 1}: no block to excuse before"
        is_code = CODE.match(line) is not None
        if is_code or (line.endswith("::") and not DIRECTIVE.match(line)):
            begin, end = _extent(lines, at)
            if end > begin:
                text = textwrap.dedent("\n".join(lines[begin:end])).strip("\n")
                sections = tuple(title for level, title in titles if level != "over=")
                found.append(Block(page.stem, sections, text.strip(), begin + 1, excuse))
                excuse, at = None, end
                continue
        at += 1
    assert excuse is None, f"{page}: the last excuse excuses nothing"
    return found


def _above(titles: list[tuple[str, str]], level: str) -> list[tuple[str, str]]:
    """Return the titles that a new one of a level is below."""
    levels = [each for each, _ in titles]
    return titles[: levels.index(level)] if level in levels else titles


def _extent(lines: list[str], at: int) -> tuple[int, int]:
    """Return the first line of the block that a line announces, and the one after the last."""
    begin = at + 1
    while begin < len(lines) and not lines[begin].strip():
        begin += 1
    first = _indent(lines[begin]) if begin < len(lines) else 0
    end = begin
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) >= first > 0):
        end += 1
    return begin, end


def _is_rule(line: str) -> bool:
    return UNDERLINE.fullmatch(line) is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def claims(module: pathlib.Path) -> dict[str, dict[str, str]]:
    """Return what a test module says that it runs: its literal `RUNS`, and nothing without one."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RUNS":
            return dict(ast.literal_eval(node.value))
    return {}


def tests_of(module: pathlib.Path) -> set[str]:
    """Return the names of the tests in a module."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@functools.cache
def every() -> list[Block]:
    """Return the blocks of all pages that people write, the README first."""
    written = [page for page in pages.every() if not is_made(page)]
    return [block for page in (pages.ROOT / "README.rst", *written) for block in of(page)]


def is_made(page: pathlib.Path) -> bool:
    """Return whether a page is made from tables in the code; its blocks show how to call."""
    return page.read_text(encoding="utf-8").startswith(".. Made by ")

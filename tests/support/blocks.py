"""The literal blocks of the pages: where each stands, and why it is not run if its page says so.

A block is run by a test, or the page has a comment directly before the paragraph that ends with
the two colons::

    .. not-run: needs a broker that this host does not have

A test module names what it runs in a literal, `RUNS`: a page, then a section (with what is below
it; "" for all of the page, OPTIONS for its options), then the test, or the tests that do it
together. Where such a test has passed, tests/conftest.py fails
if its module has not taken the blocks from the page, by `read` or `whole`.
"""

from __future__ import annotations

import ast
import collections
import functools
import pathlib
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from support import pages

COMMENT = re.compile(r" *\.\. not-run: (.+)")
DIRECTIVE = re.compile(r" *\.\. [\w-]+::")
CODE = re.compile(r" *\.\. (code-block|sourcecode|code)::")
UNDERLINE = re.compile(r"([=~-])\1+$")


#: In a claim, in place of a section: the blocks of the page that have options of a daemon.
OPTIONS = "[options]"
OPTION = re.compile(r"(?:\[[\w:-]+\]|/?[\w.]+ = .+)?")
#: Who runs a section: one test, or several together.
Tests = str | tuple[str, ...]


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


#: Test module, by its path: page and line of each block that it has taken.
TAKEN: dict[str, set[tuple[str, int]]] = collections.defaultdict(set)


class Printed(list[str]):
    """The texts of some blocks; notes each that is taken by its number, in a loop or unpacked."""

    def __init__(self, found: list[Block]):
        super().__init__(block.text for block in found)
        self._places = [(block.page, block.line) for block in found]
        self._taken = TAKEN[_reader()]

    def __iter__(self) -> Iterator[str]:
        for place, text in zip(self._places, super().__iter__(), strict=True):
            self._taken.add(place)
            yield text

    def __getitem__(self, which):  # type: ignore[no-untyped-def]
        places = self._places[which]
        self._taken.update(places if isinstance(which, slice) else [places])
        return super().__getitem__(which)


def _reader() -> str:
    """Return the path of the test module that asks, itself or through its helpers."""
    frame = sys._getframe(1)
    while frame is not None:
        if pathlib.PurePath(frame.f_code.co_filename).name.startswith("test_"):
            return frame.f_code.co_filename
        frame = frame.f_back
    return ""


def read(
    page: pathlib.Path,
    section: str = "",
    *,
    where: Callable[[str], object] = bool,
    excused: bool = True,
) -> Printed:
    """Return the blocks of a page in order, or of a section, or those of whose text `where` holds.

    Without those that the page excuses, if `excused` is false.
    """
    return Printed(
        [
            block
            for block in of(page)
            if (not section or section in block.sections)
            and where(block.text)
            and (excused or block.excuse is None)
        ]
    )


def whole(page: pathlib.Path) -> str:
    """Return the source of a page, for a test that runs each of its blocks."""
    list(read(page))
    return page.read_text(encoding="utf-8")


def meant(page: str, section: str) -> list[Block]:
    """Return the blocks that a claim is about."""
    found = [block for block in every() if block.page == page and block.excuse is None]
    if section == OPTIONS:
        return [block for block in found if has_options(block.text)]
    return [block for block in found if not section or section in block.sections]


def has_options(text: str) -> bool:
    """Whether a block has options of a daemon and nothing else."""
    return " = " in text and all(OPTION.fullmatch(line) for line in text.splitlines())


def untaken(
    module: str, runs: Mapping[str, Mapping[str, Tests]], passed: Collection[str]
) -> list[str]:
    """Return the blocks that tests of a module claim to run, have passed, and yet did not take.

    `module` is a path, `runs` its `RUNS`, `passed` has the names of the tests.
    """
    return [
        f"{page}:{block.line} ({', '.join(each(tests))})"
        for page, sections in runs.items()
        for section, tests in sections.items()
        if set(each(tests)) <= set(passed)
        for block in meant(page, section)
        if (page, block.line) not in TAKEN[module]
    ]


def each(tests: Tests) -> tuple[str, ...]:
    return (tests,) if isinstance(tests, str) else tests


def claims(module: pathlib.Path) -> dict[str, dict[str, Tests]]:
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
    """Return the blocks of all pages that people write, the README first.

    The blocks of a page that is made from tables only show how something is called.
    """
    written = [page for page in pages.every() if not pages.is_made(page)]
    return [block for page in (pages.ROOT / "README.rst", *written) for block in of(page)]

"""The pages of the documentation, by name, so that a page can move to another shelf."""

from __future__ import annotations

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "doc" / "source"
NEWS = SOURCE / "news"


def every() -> list[pathlib.Path]:
    """Return every page of the book, without the fragments of the changelog."""
    return sorted(path for path in SOURCE.rglob("*.rst") if NEWS not in path.parents)


def path(name: str) -> pathlib.Path:
    """Return the one page with a name such as `installing`, whichever shelf it stands on.

    A page that people write, if one that is made from tables has the same name.
    """
    named = [page for page in every() if page.stem == name]
    (found,) = named if len(named) == 1 else (page for page in named if not is_made(page))
    return found


def is_made(page: pathlib.Path) -> bool:
    """Return whether a page is made from tables in the code, and not written."""
    return page.read_text(encoding="utf-8").startswith(".. Made by ")


def text(name: str) -> str:
    """Return the source of the one page with a name."""
    return path(name).read_text(encoding="utf-8")

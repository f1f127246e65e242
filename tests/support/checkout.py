"""A fresh copy of the project, and the commands that its pages print."""

from __future__ import annotations

import configparser
import pathlib
import shutil
import subprocess

from support import blocks as finder
from support import daemons


def files() -> list[str]:
    """Return every file of the project as git sees it, new ones included."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=daemons.ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in done.stdout.split("\0") if (daemons.ROOT / name).is_file())


def copy_to(directory: pathlib.Path) -> pathlib.Path:
    for name in files():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(daemons.ROOT / name, target)
    return directory


def blocks(page: pathlib.Path, section: str = "", *, having: str = "") -> list[str]:
    """Return the literal blocks of a page (`support.blocks`), without their indentation.

    Those of one section only, with what is below its subsections, if its title is given, and only
    those that hold a text.
    """
    assert not section or f"\n{section}\n" in page.read_text(encoding="utf-8")
    return finder.read(page, section, where=lambda text: having in text)


def options(block: str) -> dict[str, str]:
    """Return the options that a block prints, with or without the line [DEFAULT]."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block if block.startswith("[") else f"[DEFAULT]\n{block}")
    return dict(parser.defaults())

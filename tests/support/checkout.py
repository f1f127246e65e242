"""A fresh copy of the project, and the commands that its pages print."""

from __future__ import annotations

import configparser
import pathlib
import re
import shutil
import subprocess
import textwrap

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


def blocks(page: pathlib.Path, section: str | None = None) -> list[str]:
    """Return the literal blocks of a page (what follows a `::`), without their indentation.

    Those of one section only, with what is below its subsections, if its title is given.
    """
    text = page.read_text(encoding="utf-8")
    if section is not None:
        (head,) = re.findall(rf"^{re.escape(section)}\n(=+|-+)$", text, re.MULTILINE)
        text = text.partition(f"\n{section}\n{head}\n")[2]
        marks = "=" if head[0] == "=" else "=-"
        text = re.split(rf"\n[^\n]+\n[{marks}]{{3,}}\n", text)[0]
    return _literal(text)


def _literal(text: str) -> list[str]:
    found: list[list[str]] = []
    inside = waiting = False
    for line in text.splitlines():
        if waiting and line.startswith("    "):
            found.append([])
            inside, waiting = True, False
        if inside and line and not line.startswith("    "):
            inside = False
        if inside:
            found[-1].append(line)
        elif line.endswith("::"):
            waiting = True
    return [textwrap.dedent("\n".join(block)).strip() for block in found]


def options(block: str) -> dict[str, str]:
    """Return the options that a block prints, with or without the line [DEFAULT]."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block if block.startswith("[") else f"[DEFAULT]\n{block}")
    return dict(parser.defaults())

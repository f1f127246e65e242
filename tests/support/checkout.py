"""A fresh copy of the project, and the commands that its pages print."""

from __future__ import annotations

import pathlib
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


def blocks(page: pathlib.Path) -> list[str]:
    """Return the literal blocks of a page (what follows a `::`), without their indentation."""
    found: list[list[str]] = []
    inside = waiting = False
    for line in page.read_text(encoding="utf-8").splitlines():
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

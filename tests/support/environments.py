"""Virtual environments for other people's programs that cannot share the project's own.

They lie below .tox, are made when a test first needs one, and are kept. A variable that a tester
sets may name one that exists already.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from support import daemons, images


def python(name: str, packages: Sequence[str], modules: Sequence[str]) -> pathlib.Path:
    """Return the interpreter of the environment `name`, in which `modules` can be imported.

    It is made of `packages` if it is missing; GLANCE_TEST_<NAME> names another one.
    """
    variable = f"GLANCE_TEST_{name.upper()}"
    given = os.environ.get(variable)
    home = pathlib.Path(given) if given else daemons.ROOT / ".tox" / f".{name}"
    interpreter = home / "bin" / "python"
    if usable(interpreter, modules):
        return interpreter
    if given:
        images.without(f"{variable}={given} lacks one of {', '.join(modules)}")
    home.parent.mkdir(exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not usable(interpreter, modules):
            make(home, interpreter, packages)
    return interpreter


def usable(interpreter: pathlib.Path, modules: Sequence[str]) -> bool:
    try:
        check = [interpreter, "-P", "-c", f"import {', '.join(modules)}"]
        return subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make(home: pathlib.Path, interpreter: pathlib.Path, packages: Sequence[str]) -> None:
    # Debian's Python may come without ensurepip, so the pip of this environment serves the other.
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-qq"]
    # Python compiles what it imports; most of what is installed it does not.
    pip.append("--no-compile")
    if subprocess.run([*pip, *packages]).returncode:
        images.without(f"pip could not install {', '.join(packages)}")

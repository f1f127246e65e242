"""Other people's clients of the Images API, in an environment of their own.

python-glanceclient brings a command named `glance` too, so it must never share an environment with
the project. GLANCE_TEST_CLIENTS names a virtual environment that already has both clients.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from support import daemons, images

PACKAGES = ["python-glanceclient==4.13.*", "openstacksdk==4.22.*"]
ENVIRONMENT = daemons.ROOT / ".tox" / ".clients"


def python() -> pathlib.Path:
    """Return the interpreter of the clients' environment, which is made if it is missing."""
    given = os.environ.get("GLANCE_TEST_CLIENTS")
    home = pathlib.Path(given) if given else ENVIRONMENT
    interpreter = home / "bin" / "python"
    if not usable(interpreter):
        if given:
            images.without(f"GLANCE_TEST_CLIENTS={given} lacks a client")
        make(home, interpreter)
    return interpreter


def usable(interpreter: pathlib.Path) -> bool:
    try:
        check = [interpreter, "-c", "import glanceclient, openstack"]
        return subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make(home: pathlib.Path, interpreter: pathlib.Path) -> None:
    # Debian's Python may come without ensurepip, so the pip of this environment serves the other.
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    if subprocess.run([*pip, *PACKAGES]).returncode:
        images.without("pip could not install the clients")

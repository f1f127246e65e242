"""Run the tests through tox, which is fetched into .tox/.tool first: `python3 tests/run.py`.

Arguments go to tox. Needs only Python with pip or venv, of any version; tox itself looks for
Python 3.11.
"""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOL = ROOT / ".tox" / ".tool"


def pip() -> list[str]:
    """Return the words that run pip; none if there is neither pip nor what can make one.

    Debian's python3-venv brings pip for virtual environments only, so one is made for it.
    """
    environment = TOOL.with_name(".pip")
    own = [sys.executable, "-m", "pip"]
    made = [str(environment / "bin" / "python"), "-m", "pip"]
    make = [sys.executable, "-m", "venv", "--clear", str(environment)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run([*own, "--version"], **quiet).returncode == 0:
        return own
    return made if subprocess.run(make, **quiet).returncode == 0 else []


def main() -> int:
    if not (TOOL / "bin" / "tox").exists():
        fetch = pip()
        if not fetch:
            print("ERROR: pip is not installed; on Debian, install python3-venv.", file=sys.stderr)
            return 1
        fetch += ["install", "--quiet", "--target", str(TOOL)]
        if subprocess.run([*fetch, "tox>=4.20,<5"]).returncode:
            print("ERROR: pip could not fetch tox (message above).", file=sys.stderr)
            return 1
    os.chdir(ROOT)
    environ = {**os.environ, "PYTHONPATH": str(TOOL)}
    tox = subprocess.Popen([sys.executable, "-m", "tox", *sys.argv[1:]], env=environ)
    try:
        return tox.wait()
    except KeyboardInterrupt:
        # The terminal tells tox, too, which ends its tests first; a second Ctrl-C ends this wait.
        tox.wait()
        raise


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""Somebody at a shell: programs of bin/ run to their end, glance-control on real daemons."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import signal
import site as site_packages
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from support import daemons, images, warm

NOBODY = 65534


def run(
    program: str,
    *words: object,
    cwd: str | pathlib.Path,
    python: str = sys.executable,
    home: str | pathlib.Path | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program of bin/ to its end; stdout and stderr are texts."""
    environment = {**daemons.environment(), "HOME": str(home or cwd), **options.pop("env", {})}
    texts = [str(word) for word in words]
    if python == sys.executable and not options and warm.serves(program, environment):
        return warm.run(program, texts, cwd=cwd, environ=environment, timeout=120)
    return subprocess.run(
        [python, str(daemons.BIN / program), *texts],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@contextlib.contextmanager
def directory_of_nobody(name: str) -> Iterator[pathlib.Path]:
    """Make an empty directory of the user nobody, which others can reach, for the block."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        os.chmod(top, 0o755)
        path = pathlib.Path(top) / name
        path.mkdir()
        os.chown(path, NOBODY, NOBODY)
        yield path


class Operator:
    """Runs glance-control on the daemons of a site, whose pid files are in `home`."""

    def __init__(self, site: daemons.Site, home: pathlib.Path, **options: Any):
        self.site, self.home, self.options = site, home, options
        self.pids = home / ".glance" / "run"

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        return run("glance-control", *words, cwd=self.home, home=self.home, **self.options)

    def api(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Do something with the API alone, by a pid file of its own; return what was printed."""
        done = self(f"--pid-file={self.pids / 'glance-api.pid'}", "api", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def pid(self, name: str = "api") -> int:
        return int((self.pids / f"glance-{name}.pid").read_text())

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in which the programs of bin/ are found by their names."""
        python = self.options.get("python", sys.executable)
        functions = "".join(
            f'{path.name}() {{ {shlex.quote(python)} {shlex.quote(str(path))} "$@"; }}\n'
            for path in sorted(daemons.BIN.iterdir())
        )
        rights = {name: v for name, v in self.options.items() if name not in ("python", "env")}
        return subprocess.run(
            ["bash", "-c", functions + line],
            cwd=self.home,
            env={
                **daemons.environment(),
                **self.options.get("env", {}),
                "HOME": str(self.home),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            **rights,
        )

    def kill(self) -> None:
        for name in ("api", "registry"):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(self.pid(name), signal.SIGKILL)


def ordinary(home: pathlib.Path) -> dict[str, Any]:
    """Return how to run programs as a user without rights: options of `Operator`.

    Where the tests have no rights themselves, that is how they run anyway.
    """
    if os.geteuid() != 0:
        return {}
    rights: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    env = {"PYTHONPATH": os.pathsep.join(site_packages.getsitepackages())}
    for python in (sys.executable, "/usr/bin/python3.11"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            # NOTE: an environment, so that Debian's own packages are not mixed with ours.
            made = home / f"python{len(list(home.iterdir()))}"
            command = [python, "-m", "venv", "--without-pip", str(made)]
            subprocess.run(command, check=True, capture_output=True)
            own = str(made / "bin" / "python")
            done = run("glance-control", "--help", cwd="/", python=own, env=env, **rights)
            if done.returncode == 0:
                return {"python": own, "env": env, **rights}
    images.without("no Python 3.11 that an ordinary user may run")


@contextlib.contextmanager
def ordinary_operator() -> Iterator[Operator]:
    """An operator without rights, in a home that nobody else made ready."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="glance-test-", dir="/tmp"))
    home.chmod(0o755)
    site = daemons.Site(home)
    site.write()
    try:
        made = Operator(site, home, **ordinary(home))
    except BaseException:
        shutil.rmtree(home)
        raise
    if "user" in made.options:
        for path in (home, *home.iterdir()):
            os.chown(path, made.options["user"], made.options["group"])
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(home)

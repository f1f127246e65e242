"""The commands of today's tools for the Images API, many of them in one process each.

`glance` is that of python-glanceclient, `openstack` that of python-openstackclient. To start one
of them takes a second or two, so a list of commands is run one after the other by one interpreter.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from support import clients, daemons

#: Reads a list of argument lists from its standard input and runs each as `main` would.
_RUNNER = """
import contextlib, importlib, io, json, os, sys
module, commands = sys.argv[1], json.load(sys.stdin)
main = importlib.import_module(module).main
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
results = []
for words in commands:
    out, err = io.StringIO(), io.StringIO()
    data = io.BytesIO()
    out.buffer = data
    sys.argv = [module, *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            # Of the two, one reads its arguments from there.
            code = main() if module.startswith("glanceclient") else main(words)
        except SystemExit as ending:
            code = ending.code
        except Exception as problem:
            print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
            code = 1
    results.append([code if isinstance(code, int) else int(bool(code)),
                    out.getvalue() + data.getvalue().decode(), err.getvalue()])
json.dump(results, sys.stdout)
"""

MODULES = {"glance": "glanceclient.shell", "openstack": "openstackclient.shell"}


class Done(NamedTuple):
    """How a command has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return what a command with `-f json` printed."""
        assert self.code == 0, self
        return json.loads(self.out)


class Tool:
    """One of MODULES, with the options that every command begins with."""

    def __init__(self, name: str, home: pathlib.Path, *options: str, **environ: str):
        self._module, self._options = MODULES[name], options
        self._environ = {**daemons.environment(), "HOME": str(home), **environ}

    def run(self, *commands: Sequence[object]) -> list[Done]:
        """Run commands in one process, in which they share what they cache."""
        words = [[*self._options, *map(str, command)] for command in commands]
        return [Done(*result) for result in self._finish(words)]

    def __call__(self, *command: object) -> Done:
        return self.run(command)[0]

    def _finish(self, words: list[list[str]]) -> Any:
        done = subprocess.run(
            [clients.python(), "-W", "ignore", "-c", _RUNNER, self._module],
            input=json.dumps(words),
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def script(text: str, home: pathlib.Path, *words: object, **environ: str) -> str:
    """Run a program in the clients' environment, which has to succeed; return what it printed."""
    done = subprocess.run(
        [clients.python(), "-W", "ignore", "-c", text, *map(str, words)],
        env={**daemons.environment(), "HOME": str(home), **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_keystone(url: str) -> Mapping[str, tuple[str, ...]]:
    """Return the options of each tool for a service in the mode noauth."""
    return {
        "glance": ("--os-image-url", url, "--os-auth-token", "notused"),
        "openstack": ("--os-auth-type", "none", "--os-endpoint", url),
    }

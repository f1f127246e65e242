"""A process that has imported what a program of bin imports, and becomes it, again and again.

Run it as `python -P warm_start.py PROGRAM`. It reads a line of JSON for each wish and answers with
one: `{"start": [argument, ...], "cwd": ..., "env": {...}, "output": ..., "errors": ...}` forks a
child that runs the script in a session of its own, and is answered with its process id; `{"wait":
pid}` is answered with the exit status, or null as long as the child runs. It ends with its
standard input.

Nothing is imported that every start of the program would not import, in the same order: in a
daemon, eventlet patches the standard library before anything of the application is there.
"""

import gc
import importlib
import json
import os
import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: What each daemon imports a moment later, when it serves and its workers load the application.
LATER = {
    "glance-api": ("glance.http.server", "glance.api.v1.images"),
    "glance-registry": (
        "glance.http.server",
        "sqlalchemy.dialects.sqlite",
        "migrate.changeset",
        "migrate.versioning.api",
    ),
}
#: The same of programs without an event loop.
LATER_AND_PLAIN = {
    "glance-converter": (
        "glance.store.filesystem",
        "glance.store.http",
        "glance.store.s3",
        "glance.store.swift",
        "glance.converter",
        "glance.notifier",
    ),
}


def prepare(program):
    """Import what the program imports before it looks at its configuration, and a little more."""
    sys.path.insert(0, str(ROOT))
    if program not in LATER:
        homes = importlib.import_module("glance.cli.start").HOMES
        if program in homes:
            importlib.import_module(homes[program][0])
        for name in LATER_AND_PLAIN.get(program, ()):
            importlib.import_module(name)
        return
    services = importlib.import_module("glance.cli.daemon.services")
    services.patch()
    service = {found.program: found for found in (services.API, services.REGISTRY)}[program]
    for name in (service.module, *LATER[program]):
        importlib.import_module(name)


def start(wish):
    """Fork; return the child's id, or None in the child, which is ready to be the program."""
    pid = os.fork()
    if pid:
        return pid
    if "eventlet.hubs" in sys.modules:
        # The parent's hub is the parent's: what its epoll tells, one process learns.
        sys.modules["eventlet.hubs"].use_hub()
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number, path in ((1, wish["output"]), (2, wish["errors"])):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    return None


def status_of(pid):
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main():
    program = sys.argv[1]
    prepare(program)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        wish = json.loads(line)
        answer = status_of(wish["wait"]) if "wait" in wish else start(wish)
        if answer is None and "start" in wish:
            break
        print(json.dumps(answer), flush=True)
    else:
        return
    # In a child; its standard input has data of the parent's in its buffer.
    sys.stdin = os.fdopen(0)
    sys.argv = [str(ROOT / "bin" / program), *wish["start"]]
    # The path is what it is when Python runs the script.
    sys.path[0] = str(ROOT / "bin")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

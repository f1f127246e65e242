"""Measure ten thousand idle connections and two hundred slow readers at one worker of glance-api.

The yardstick is a worker of the same kind that has no other connections. Each idle connection has
had a request, as those of a proxy or of a client library; each slow reader takes 4 KiB of an image
at a time, twenty times in a second.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import pathlib
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import beside
import load
import program
from small_requests import fill
from table import Row, turns
from transfers import MIB, image_file

from support import daemons

IDLE, SLOW = 10_000, 200
#: What a slow reader takes, in bytes, and the seconds between two times.
SIP, PAUSE = 4096, 0.05
#: Descriptors of each process; the service has its limits in its configuration.
DESCRIPTORS = IDLE + 2 * SLOW + 600


def measure_connections(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """Return the memory of the worker, and how long a HEAD takes beside the connections."""
    allow_descriptors()
    what = f"{IDLE} idle connections, {SLOW} slow"
    memory = Row(f"memory with {what}", "MiB", "without them")
    rows = [Row(f"HEAD beside {what}, {part}", "us", "without them") for part in ("median", "p99")]
    options = {"verbose": False, "max_connections": DESCRIPTORS, "keepalive_timeout": 3600}
    quiet = {"verbose": False}
    with (
        daemons.Site(home / "crowded", api=options, registry=quiet, fresh=True) as crowded,
        daemons.Site(home / "lonely", api=options, registry=quiet, fresh=True) as lonely,
        image_file(argparse.Namespace(size=64), home) as file,
    ):
        paths = [f"/v1/images/{fill(one)}" for one in (crowded, lonely)]
        _, image = load.upload(crowded.port, file)
        load.upload(lonely.port, file)
        with clients(crowded.port, paths[0], image):
            for one, figures in ((crowded, memory.ours), (lonely, memory.theirs)):
                (worker,) = daemons.children(one.api.pid)
                figures.append(daemons.resident(worker) / MIB)

            def measure(number: int) -> None:
                one = (crowded, lonely)[number]
                end = time.monotonic() + args.seconds
                found = beside.delays(one.port, paths[number], lambda: time.monotonic() < end)
                for row, value in zip(rows, found, strict=True):
                    (row.theirs if number else row.ours).append(value)

            turns(args.rounds, lambda: measure(0), lambda: measure(1))
    return [memory, *rows]


def allow_descriptors() -> None:
    """Let this process and its children have enough descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except ValueError:
        raise SystemExit(
            f"this user may have {hard} descriptors; ulimit -n {DESCRIPTORS}"
        ) from None


@contextlib.contextmanager
def clients(port: int, path: str, image: str) -> Iterator[None]:
    """Have the connections, in two processes, as long as the block runs."""
    context = multiprocessing.get_context("fork")
    started, ended = [context.Event(), context.Event()], context.Event()
    works: list[Callable[[Event, Event], None]] = [
        lambda ready, end: be_idle(port, path, ready, end),
        lambda ready, end: read_slowly(port, image, ready, end),
    ]
    children = [
        context.Process(target=work, args=(ready, ended))
        for work, ready in zip(works, started, strict=True)
    ]
    for child in children:
        child.start()
    try:
        for ready in started:
            if not ready.wait(120):
                raise SystemExit("the clients have not connected in time")
        yield
        if not all(child.is_alive() for child in children):
            raise SystemExit("the clients lost their connections")
    finally:
        ended.set()
        for child in children:
            child.join(20)
            child.kill()


def be_idle(port: int, path: str, ready: Event, end: Event) -> None:
    message = load.request("HEAD", path)
    sockets = []
    for _ in range(IDLE):
        sockets.append(socket.create_connection(("127.0.0.1", port)))
        sockets[-1].sendall(message)
        while not (answer := sockets[-1].recv(8192)).endswith(b"\r\n\r\n"):
            if not answer:
                raise SystemExit("a connection was closed")
    ready.set()
    end.wait()
    for one in sockets:
        # Whoever was thrown out has an end to read.
        with contextlib.suppress(BlockingIOError):
            one.setblocking(False)
            one.recv(1)
            raise SystemExit("an idle connection was closed")


def read_slowly(port: int, image: str, ready: Event, end: Event) -> None:
    sockets = []
    for _ in range(SLOW):
        one = socket.socket()
        # Otherwise the kernel takes megabytes for the client.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
        one.connect(("127.0.0.1", port))
        one.sendall(load.request("GET", image))
        sockets.append(one)
    ready.set()
    while not end.wait(PAUSE):
        for one in sockets:
            if not one.recv(SIP):
                raise SystemExit("a download ended early")


MEASURES = {"connections": measure_connections}


if __name__ == "__main__":
    sys.exit(program.main(__doc__, MEASURES, rounds=5))

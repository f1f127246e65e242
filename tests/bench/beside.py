"""Measure how long small requests wait beside other work of the same worker.

The yardstick is the same request beside md5sum, which wants a processor as a transfer does but
cannot stand in the way of a worker otherwise. See `tests/bench/beside.py --help`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import load
import program
from small_requests import fill
from table import Row, turns
from transfers import image_file

from support import daemons

#: Seconds between two small requests.
PAUSE = 0.002
POST = load.request("POST", "/v1/images", "x-image-meta-name: beside", "Content-Length: 0")


def measure_transfers(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """A HEAD beside one upload, one download, and two of each at once."""
    with image_file(args, home) as file:
        small = f"/v1/images/{fill(site)}"
        _, big = load.upload(site.port, file)

        def upload() -> None:
            _, image = load.upload(site.port, file)
            site.http.delete(image)

        def download() -> None:
            load.download(site.port, big)

        works = {
            f"an upload of {args.size} MiB": [upload],
            f"a download of {args.size} MiB": [download],
            f"2 uploads and 2 downloads of {args.size} MiB": [upload, upload, download, download],
        }
        rows = []
        for words, work in works.items():
            # Each takes a core, as far as there is one; a client beside them needs one, too.
            hashes = [lambda: subprocess.run(["md5sum", file], stdout=-3)] * min(2, len(work))
            rows += measure(args, site, small, words, work, hashes)
        site.http.delete(big)
    return rows


def measure_commits(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """A HEAD beside many reservations."""
    with image_file(args, home) as file:

        def commits() -> None:
            load.rate(site.port, POST, seconds=args.seconds, connections=args.connections)

        small = f"/v1/images/{fill(site)}"
        md5sum = [lambda: subprocess.run(["md5sum", file], stdout=-3)]
        return measure(args, site, small, f"{args.connections} POSTs", [commits], md5sum)


def measure(
    args: argparse.Namespace,
    site: daemons.Site,
    path: str,
    words: str,
    works: Sequence[Callable[[], object]],
    hashes: Sequence[Callable[[], object]],
) -> list[Row]:
    """Return the median and the 99th percentile of a HEAD beside `works`, in microseconds."""
    yardstick = "md5sum" if len(hashes) == 1 else f"{len(hashes)} md5sum"
    name = f"HEAD beside {words}"
    rows = [Row(f"{name}, {part}", "us", yardstick) for part in ("median", "p99")]

    def ours() -> None:
        with in_children(works) as goes_on:
            for row, value in zip(rows, delays(site.port, path, goes_on), strict=True):
                row.ours.append(value)

    def theirs() -> None:
        with in_children(hashes) as goes_on:
            for row, value in zip(rows, delays(site.port, path, goes_on), strict=True):
                row.theirs.append(value)

    turns(args.rounds, ours, theirs)
    return rows


@contextlib.contextmanager
def in_children(works: Sequence[Callable[[], object]]) -> Iterator[Callable[[], bool]]:
    """Do each of `works` in a process; yield a function that tells whether all still run."""
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work) for work in works]
    for child in children:
        child.start()
    try:
        yield lambda: all(child.is_alive() for child in children)
    finally:
        for child in children:
            child.join()
            if child.exitcode:
                raise SystemExit(f"work beside the requests failed ({child.exitcode})")


def delays(port: int, path: str, goes_on: Callable[[], bool]) -> tuple[float, float]:
    message = load.request("HEAD", path)
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while goes_on():
            begin = time.perf_counter()
            connection.sendall(message)
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(load.BUFFER)
            found.append(time.perf_counter() - begin)
            time.sleep(PAUSE)
    found.sort()
    return found[len(found) // 2] * 1e6, found[len(found) * 99 // 100] * 1e6


MEASURES = {"beside": measure_transfers, "commits": measure_commits}


if __name__ == "__main__":
    sys.exit(program.main(__doc__, MEASURES, rounds=5))

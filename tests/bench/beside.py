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
import tempfile
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import load
from small_requests import fill
from table import Row, described, table, turns
from transfers import MIB

from support import daemons

#: Seconds between two small requests.
PAUSE = 0.002
POST = load.request("POST", "/v1/images", "x-image-meta-name: beside", "Content-Length: 0")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="MiB of a transfer (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pair (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of small uploads")
    parser.add_argument("--connections", type=int, default=8, help="of reservations (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-beside-", dir=args.dir) as name:
        home = pathlib.Path(name)
        file = home / "image"
        load.write_random(file, args.size * MIB)
        quiet = {"verbose": False}
        with daemons.Site(home / "site", api=quiet, registry=quiet) as site:
            small = f"/v1/images/{fill(site)}"
            _, big = load.upload(site.port, file)
            works: dict[str, Callable[[], object]] = {
                f"an upload of {args.size} MiB": lambda: load.upload(site.port, file),
                f"a download of {args.size} MiB": lambda: load.download(site.port, big),
                f"{args.connections} POSTs": lambda: load.rate(
                    site.port, POST, seconds=args.seconds, connections=args.connections
                ),
            }
            rows = [
                row
                for words, work in works.items()
                for row in measure(args, site, small, words, work, file)
            ]
    print(table(rows))
    print(described("1 worker of each daemon"))
    return 0


def measure(
    args: argparse.Namespace,
    site: daemons.Site,
    path: str,
    words: str,
    work: Callable[[], object],
    file: pathlib.Path,
) -> list[Row]:
    """Return the median and the 99th percentile of a HEAD beside `work`, in microseconds."""
    rows = [Row(f"HEAD beside {words}, {part}", "us", "md5sum") for part in ("median", "p99")]

    def ours() -> None:
        with in_child(work) as goes_on:
            for row, value in zip(rows, delays(site.port, path, goes_on), strict=True):
                row.ours.append(value)

    def theirs() -> None:
        with in_child(lambda: subprocess.run(["md5sum", file], stdout=-3)) as goes_on:
            for row, value in zip(rows, delays(site.port, path, goes_on), strict=True):
                row.theirs.append(value)

    turns(args.rounds, ours, theirs)
    return rows


@contextlib.contextmanager
def in_child(work: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Do `work` in a process; yield a function that tells whether it still runs."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    try:
        yield child.is_alive
    finally:
        child.join()


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


if __name__ == "__main__":
    sys.exit(main())

"""Benchmarks of transfers at the limit of the machine: holes, many at once, parts, processor time.

They stand beside `transfers.py`, which has one transfer at a time of data without holes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
from collections.abc import Iterator

import load
import yardsticks
from table import Row, turns
from transfers import MIB

from support import daemons

#: How many times larger a sparse image is than its data.
SPARSE = 20


@contextlib.contextmanager
def sparse_file(args: argparse.Namespace, home: pathlib.Path) -> Iterator[pathlib.Path]:
    """Make an image with one MiB of data in every `SPARSE`; its end is a hole."""
    path = home / "sparse"
    with path.open("wb") as file:
        piece = os.urandom(MIB)
        for number in range(args.size):
            file.seek(number * SPARSE * MIB)
            file.write(piece)
        file.truncate(args.size * SPARSE * MIB)
    try:
        yield path
    finally:
        path.unlink()


def used(path: pathlib.Path) -> float:
    """Return the MiB that a file has on the disk, as `du` shows them."""
    return path.stat().st_blocks * 512 / MIB


def measure_sparse(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """A sparse image up and down: the time, and what is left on the disk."""
    size = args.size * SPARSE
    up = Row(f"upload of {size} MiB with {args.size} MiB of data", "MiB/s", "md5sum")
    disk = Row("... on the disk", "MiB", "du of the source")
    down = Row("... download", "MiB/s", "image without holes")
    with sparse_file(args, home) as path:

        def ours() -> None:
            seconds, image = load.upload(site.port, path)
            up.ours.append(size / seconds)
            os.sync()
            stored = max(site.data_files(), key=lambda file: file.stat().st_size)
            disk.ours.append(used(stored))
            disk.theirs.append(used(path))
            site.http.delete(image)

        def theirs() -> None:
            up.theirs.append(size / yardsticks.md5sum(path))

        turns(args.rounds, ours, theirs)
        _, sparse = load.upload(site.port, path)
    with whole_file(args, home) as path:
        _, whole = load.upload(site.port, path)

    def speed(image: str, mib: int) -> float:
        return mib / load.download(site.port, image)[0]

    speed(whole, args.size)
    turns(
        args.rounds,
        lambda: down.ours.append(speed(sparse, size)),
        lambda: down.theirs.append(speed(whole, args.size)),
    )
    site.http.delete(sparse), site.http.delete(whole)
    return [up, disk, down]


@contextlib.contextmanager
def whole_file(args: argparse.Namespace, home: pathlib.Path) -> Iterator[pathlib.Path]:
    path = home / "whole"
    load.write_random(path, args.size * MIB)
    try:
        yield path
    finally:
        path.unlink()


MEASURES = {
    "sparse": measure_sparse,
}
#: What takes long, or needs gigabytes of the disk.
SLOW = ("sparse",)

"""Measure whole conversions: `tests/bench/convert.py --help`.

The yardstick is the same without a service around it: the data is copied out of the store with its
MD5, qemu-img converts it (with the same priority, without a sandbox or limits), and the result is
added to the store.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from table import Row, described, table, turns

from glance.conversion import formats
from glance.store import base
from glance.streaming import body

from support import conversions, converters, warm
from support.conversions import MIB, Workshop

PIECE = 1 << 20
#: What holds data of the large sparse disk; the rest of it is a hole.
FILLED = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of the image (%(default)s)")
    parser.add_argument("--sparse", type=int, default=10240, help="MiB of the sparse one, 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--formats", nargs=2, default=["raw", "qcow2"], metavar="FORMAT")
    parser.add_argument("--dir", type=pathlib.Path, help="where to make the files")
    parser.add_argument("--service", action="store_true", help="a whole glance-converter instead")
    args = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="glance-convert-", dir=args.dir))
    try:
        if args.service:
            rows = [measure_service(args, directory / "service")]
        else:
            rows = [measure(args, directory / "full", args.size, args.size)]
            if args.sparse:
                rows.append(measure(args, directory / "sparse", args.sparse, FILLED))
    finally:
        warm.stop()
        shutil.rmtree(directory)
    print(described("file store"))
    print(table(rows))
    return 0


def measure(args: argparse.Namespace, directory: pathlib.Path, size: int, filled: int) -> Row:
    """Measure conversions of a disk of `size` MiB, of which the first `filled` hold data."""
    source_format, target_format = args.formats
    kind = "" if filled == size else " sparse"
    row = Row(f"{size} MiB{kind}, {source_format} to {target_format}", "ms", "bare qemu-img")
    # Without an inspection time would be saved, not with one.
    shop = Workshop(directory)
    source = make(shop, size, filled, formats.of(source_format))

    def ours() -> None:
        begin = time.perf_counter()
        shop.convert(source, source_format, target_format)
        row.ours.append((time.perf_counter() - begin) * 1000)
        shop.path_of(shop.stored.pop()).unlink()

    def theirs() -> None:
        begin = time.perf_counter()
        added = bare(shop, source, formats.of(source_format), formats.of(target_format))
        row.theirs.append((time.perf_counter() - begin) * 1000)
        shop.path_of(added).unlink()

    turns(args.rounds, ours, theirs)
    return row


def measure_service(args: argparse.Namespace, directory: pathlib.Path) -> Row:
    """Measure a conversion as its user sees it: from the request until the result is active."""
    source_format, target_format = args.formats
    row = Row(f"{args.size} MiB by the service", "ms", "bare qemu-img")
    shop = Workshop(directory)
    source = make(shop, args.size, args.size, formats.of(source_format))
    with converters.ConvertingSite(directory / "site") as site:
        with shop.path_of(source).open("rb") as file:
            record = site.put(file, source_format)

        def ours() -> None:
            begin = time.perf_counter()
            job = site.final(site.order(record, target_format))
            assert job["status"] == "succeeded", job
            row.ours.append((time.perf_counter() - begin) * 1000)
            site.http.delete(f"/v1/images/{job['image_id']}", converters.USER)

        def theirs() -> None:
            begin = time.perf_counter()
            added = bare(shop, source, formats.of(source_format), formats.of(target_format))
            row.theirs.append((time.perf_counter() - begin) * 1000)
            shop.path_of(added).unlink()

        turns(args.rounds, ours, theirs)
        print(
            *(line for line in site.converter.log().splitlines() if "succeeded" in line), sep="\n"
        )
    return row


def make(shop: Workshop, size: int, filled: int, row: formats.Format) -> base.AddResult:
    """Put the image into the store; a raw one keeps its hole there."""
    plain = shop.directory / "plain"
    with plain.open("wb") as file:
        for _ in range(filled):
            file.write(conversions.noise(MIB))
        file.truncate(size * MIB)
    path = plain
    if row.driver != formats.RAW:
        path = shop.directory / "made"
        conversions.run("qemu-img", "convert", "-f", "raw", "-O", row.driver, plain, path)
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "md5").hexdigest()
    place = shop.images / "source-bench"
    shutil.move(path, place)
    plain.unlink(missing_ok=True)
    return base.AddResult(f"file://{place}", place.stat().st_size, checksum)


def bare(
    shop: Workshop, source: base.AddResult, old: formats.Format, new: formats.Format
) -> base.AddResult:
    """Do the same without a service."""
    place = shop.directory / "bare"
    place.mkdir()
    md5 = hashlib.md5()
    with shop.path_of(source).open("rb") as reading, (place / "source").open("wb") as writing:
        while piece := reading.read(PIECE):
            md5.update(piece)
            writing.write(piece)
    assert md5.hexdigest() == source.checksum
    options = ("-o", new.options) if new.options else ()
    words = ("nice", "ionice", "-c3", "qemu-img", "convert", "-f", old.driver, "-O", new.driver)
    subprocess.run([*words, *options, "source", "target"], cwd=place, check=True)
    fd = os.open(place / "target", os.O_RDONLY)
    with body.FileBody(fd, size=os.fstat(fd).st_size) as data:
        added = shop.stores.writable().add("bare", body.BodyReader(data), data.size)
    shutil.rmtree(place)
    return added


if __name__ == "__main__":
    sys.exit(main())

"""Benchmarks of transfers: downloads and uploads, by each store, out of the cache, inspected."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import load
import yardsticks
from table import Row, turns

from support import daemons, swift_node

#: Sends a file to a port; returns the seconds and the path of the image.
Upload = Callable[[int, pathlib.Path], tuple[float, str]]

MIB = 1 << 20
#: MiB per second that a client sends whose upload by version 1 takes one core of two.
PACE = 400
#: KiB of an image that shows what a download costs besides its bytes.
SMALL = 64


@contextlib.contextmanager
def image_file(args: argparse.Namespace, home: pathlib.Path) -> Iterator[pathlib.Path]:
    path = home / "image"
    load.write_random(path, args.size * MIB)
    try:
        yield path
    finally:
        path.unlink()


def measure_download(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    row = Row(f"download of {args.size} MiB", "MiB/s", "nginx, sendfile")
    with image_file(args, home) as path:
        _, image = load.upload(site.port, path)
        # The very file that glance serves, so that both read the same pages of the cache.
        stored = max(site.data_files(), key=lambda file: file.stat().st_size)
        with yardsticks.nginx(home / "nginx", stored.parent) as nginx_port:

            def speed(port: int, url: str) -> float:
                seconds, size = load.download(port, url)
                if size != args.size * MIB:
                    raise SystemExit(f"{size} bytes came from {url}")
                return args.size / seconds

            ours = (site.port, image)
            theirs = (nginx_port, f"/{stored.name}")
            speed(*ours), speed(*theirs)
            turns(
                args.rounds,
                lambda: row.ours.append(speed(*ours)),
                lambda: row.theirs.append(speed(*theirs)),
            )
    site.http.delete(image)
    return [row]


def measure_upload(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    row = Row(f"upload of {args.size} MiB", "MiB/s", "md5sum")
    with image_file(args, home) as path:

        def ours() -> float:
            seconds, image = load.upload(site.port, path)
            site.http.delete(image)
            os.sync()
            return args.size / seconds

        def theirs() -> float:
            return args.size / yardsticks.md5sum(path)

        ours(), theirs()
        turns(args.rounds, lambda: row.ours.append(ours()), lambda: row.theirs.append(theirs()))
    return [row]


def measure_inspect(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Uploads whose data is inspected, against uploads to a site that does not."""
    with other_site(args, home, inspect_on_upload="off") as other:
        return uploads(args, home, ("inspected", site), ("inspection off", other))


def measure_digests(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Uploads with the second digest (hashing_algorithm) against those with MD5 alone."""
    with other_site(args, home, hash_v1_uploads=True, hashing_algorithm="sha256") as hashing:
        return uploads(args, home, ("MD5 and SHA-256", hashing), ("MD5 alone", site))


def other_site(args: argparse.Namespace, home: pathlib.Path, **options: Any) -> daemons.Site:
    """Return a second site with more options of the API; the caller starts it."""
    quiet = {"verbose": False}
    return daemons.Site(
        home / "other", workers=args.workers, api={**quiet, **options}, registry=quiet
    )


def uploads(
    args: argparse.Namespace,
    home: pathlib.Path,
    ours: tuple[str, daemons.Site],
    theirs: tuple[str, daemons.Site],
    ways: tuple[Upload, Upload] = (load.upload, load.upload),
) -> list[Row]:
    """Compare uploads to two sites, each with a word for it: speed, and CPU time of the API."""
    speed = Row(f"upload of {args.size} MiB, {ours[0]}", "MiB/s", theirs[0])
    effort = Row("... CPU time", "ms", theirs[0])
    sites = ours[1], theirs[1]

    def upload(one: daemons.Site, send: Upload) -> tuple[float, float]:
        workers = daemons.children(one.api.pid)
        before = daemons.processor_time(workers)
        seconds, image = send(one.port, path)
        spent = daemons.processor_time(workers) - before
        one.http.delete(image)
        os.sync()
        return args.size / seconds, spent * 1e3

    def turn(number: int, taken: tuple[list[float], list[float]]) -> None:
        for figures, value in zip(taken, upload(sites[number], ways[number]), strict=True):
            figures.append(value)

    with image_file(args, home) as path:
        upload(sites[0], ways[0]), upload(sites[1], ways[1])
        turns(
            args.rounds,
            lambda: turn(0, (speed.ours, effort.ours)),
            lambda: turn(1, (speed.theirs, effort.theirs)),
        )
    return [speed, effort]


def measure_v2_upload(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """Uploads by version 2, with the second digest, against those by version 1.

    Once as fast as possible, and once at a pace that leaves a core of two free.
    """
    by_v2, by_v1 = ("by version 2", site), ("version 1", site)
    ways = load.upload_v2, load.upload
    fast = uploads(args, home, by_v2, by_v1, ways)
    ways = tuple(functools.partial(way, pace=PACE) for way in ways)
    by_v2 = (f"by version 2, sent at {PACE} MiB/s", site)
    return [*fast, *uploads(args, home, by_v2, by_v1, ways)]


def measure_cached(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Downloads out of the cache, a large one and many small ones, against the file store."""
    large = Row(f"download of {args.size} MiB, cached", "MiB/s", "file store")
    small = Row(f"download of {SMALL} KiB, cached", "/s", "file store")
    options = {
        "verbose": False,
        "image_cache_enabled": True,
        "image_cache_dir": home / "cache",
        "image_cache_min_free_disk": 0,
        "image_cache_max_size": 2 * args.size * MIB,
    }
    pipeline = "versionnegotiation context cache apiv1app"
    caching = daemons.Site(
        home / "caching", workers=args.workers, api=options, api_pipeline=pipeline
    )
    caching.registry_options["verbose"] = False
    with image_file(args, home) as path, caching:
        sites = (caching, site)
        images = [load.upload(one.port, path)[1] for one in sites]

        def speed(number: int) -> float:
            return args.size / load.download(sites[number].port, images[number])[0]

        # The first of them is the miss that fills the cache.
        for _ in range(2):
            speed(0), speed(1)
        if not any((home / "cache" / "entries").rglob("*")):
            raise SystemExit("the image was not cached")
        turns(
            args.rounds, lambda: large.ours.append(speed(0)), lambda: large.theirs.append(speed(1))
        )
        for one, image in zip(sites, images, strict=True):
            one.http.delete(image)
        path.write_bytes(os.urandom(SMALL << 10))
        images = [load.upload(one.port, path)[1] for one in sites]

        def rate(number: int) -> float:
            message = load.request("GET", images[number])
            return load.rate(
                sites[number].port,
                message,
                seconds=args.seconds,
                connections=args.connections,
            )[0]

        rate(0), rate(1)
        turns(
            args.rounds, lambda: small.ours.append(rate(0)), lambda: small.theirs.append(rate(1))
        )
    return [large, small]


class S3:
    """A site that keeps its images in a Swift of its own, by S3."""

    def __init__(self, args: argparse.Namespace, home: pathlib.Path):
        self.swift = swift_node.SwiftNode(home / "swift")
        self.swift.start()
        options = {
            "verbose": False,
            "default_store": "s3",
            "s3_store_host": self.swift.address,
            "s3_store_access_key": swift_node.USER,
            "s3_store_secret_key": swift_node.KEY,
            "s3_store_bucket": "glance",
            "s3_store_create_bucket_on_put": True,
            "s3_store_object_buffer_dir": home,
        }
        self.site = daemons.Site(home / "s3-site", workers=args.workers, api=options)

    def boto(self, what: str, *further: object) -> float:
        """Return the seconds that boto alone takes."""
        where = (self.swift.port, swift_node.USER, swift_node.KEY, "glance")
        return yardsticks.plain_boto(what, *where, *further)

    def __enter__(self) -> S3:
        self.site.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.site.stop()
        self.swift.stop()


def measure_s3(
    what: str, args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    row = Row(f"{what} of {args.size} MiB, S3", "MiB/s", "boto alone")
    home = home / f"s3-{what}"
    home.mkdir()
    with image_file(args, home) as path, S3(args, home) as s3:
        _, image = load.upload(s3.site.port, path)

        def ours() -> float:
            if what == "download":
                return args.size / load.download(s3.site.port, image)[0]
            seconds, uploaded = load.upload(s3.site.port, path)
            s3.site.http.delete(uploaded)
            return args.size / seconds

        def theirs() -> float:
            if what == "download":
                return args.size / s3.boto("down", image.rpartition("/")[2])
            return args.size / s3.boto("up", "plain", path)

        ours(), theirs()
        turns(args.rounds, lambda: row.ours.append(ours()), lambda: row.theirs.append(theirs()))
    return [row]


MEASURES = {
    "download": measure_download,
    "upload": measure_upload,
    "digests": measure_digests,
    "inspect": measure_inspect,
    "v2-upload": measure_v2_upload,
    "cached": measure_cached,
    "s3-download": functools.partial(measure_s3, "download"),
    "s3-upload": functools.partial(measure_s3, "upload"),
}

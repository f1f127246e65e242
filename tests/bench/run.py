"""Measure glance against its yardsticks: `tox -e bench`, or `python tests/bench/run.py --help`.

Each pair runs in turns within one run, so that a machine that is slow today is slow for both;
medians and ratios are printed as a table that fits into doc/source/explanation/performance.rst.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import load
import yardsticks
from table import Row, described, table, turns

from support import daemons, swift_node

#: Sends a file to a port; returns the seconds and the path of the image.
Upload = Callable[[int, pathlib.Path], tuple[float, str]]

MIB = 1 << 20
PAGE = 25
#: KiB of an image that shows what a download costs besides its bytes.
SMALL = 64
#: Headers of a request that creates an image without data.
RESERVATION = ("x-image-meta-name: bench", "x-image-meta-property-os: linux", "Content-Length: 0")


def main() -> int:
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-bench-", dir=args.dir) as name:
        home = pathlib.Path(name)
        site = daemons.Site(
            home / "site",
            workers=args.workers,
            api={"verbose": False},
            api_pipeline="versionnegotiation context rootapp",
        )
        site.registry_options["verbose"] = False
        with site:
            rows = [row for measure in args.only for row in MEASURES[measure](args, home, site)]
    print(table(rows))
    print(described(f"{args.workers} worker(s) of each daemon"))
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of the image (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each pair (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a small-request turn")
    parser.add_argument("--connections", type=int, default=8, help="for small requests")
    parser.add_argument("--workers", type=int, default=1, help="of each daemon (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=USUAL)
    return parser.parse_args()


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


def fill(site: daemons.Site) -> int:
    """Store a page of images with properties; return the id of one."""
    for number in range(PAGE):
        answer = site.http.add(
            b"data" * 256,
            name=f"image {number}",
            disk_format="raw",
            container_format="bare",
            is_public="true",
            property_os="linux",
            property_arch="x86_64",
        )
        if answer.status != 201:
            raise SystemExit(answer.text)
    return int(answer.json()["image"]["id"])


def small_requests(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site, name: str, message: bytes
) -> list[Row]:
    """Return the responses per second, and the CPU time of each.

    The time is that of both daemons together. It says most on a machine with other work.
    """
    answers = Row(name, "/s", "bare eventlet")
    effort = Row("... CPU time", "us", "bare eventlet")
    status, headers, body = load.answer(site.port, message)
    kept = [(k, v) for k, v in headers if k.lower() not in ("date", "connection")]
    workers = [*daemons.children(site.api.pid), *daemons.children(site.registry.pid)]
    with yardsticks.bare_eventlet(home / name.replace(" ", "-"), status, kept, body) as (
        port,
        pid,
    ):

        def run(port: int, pids: list[int]) -> tuple[float, float]:
            before = daemons.processor_time(pids)
            rate, count = load.rate(
                port, message, seconds=args.seconds, connections=args.connections
            )
            return rate, (daemons.processor_time(pids) - before) / count * 1e6

        def ours() -> None:
            answers.ours.append((found := run(site.port, workers))[0])
            effort.ours.append(found[1])

        def theirs() -> None:
            answers.theirs.append((found := run(port, [pid]))[0])
            effort.theirs.append(found[1])

        run(site.port, workers), run(port, [pid])
        turns(args.rounds, ours, theirs)
    return [answers, effort]


def measure_head(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    message = load.request("HEAD", f"/v1/images/{fill(site)}")
    return small_requests(args, home, site, "HEAD of one image", message)


def measure_metrics(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """HEAD of one image at a site whose daemons write metrics, against one where they do not."""
    options = {
        name: {"verbose": False, "metrics_port": daemons.free_port(), "metrics_directory": home}
        for name in ("api", "registry")
    }
    pipeline = "versionnegotiation context rootapp"
    rate = Row("HEAD of one image, metrics on", "/s", "metrics off")
    effort = Row("... CPU time", "us", "metrics off")
    with daemons.Site(
        home / "metrics", workers=args.workers, api_pipeline=pipeline, **options
    ) as measured:
        plans = [
            (
                one,
                load.request("HEAD", f"/v1/images/{fill(one)}"),
                [*daemons.children(one.api.pid), *daemons.children(one.registry.pid)],
            )
            for one in (measured, site)
        ]

        def run(number: int) -> tuple[float, float]:
            one, message, workers = plans[number]
            before = daemons.processor_time(workers)
            found, count = load.rate(
                one.port, message, seconds=args.seconds, connections=args.connections
            )
            return found, (daemons.processor_time(workers) - before) / count * 1e6

        def ours() -> None:
            for row, value in zip((rate, effort), run(0), strict=True):
                row.ours.append(value)

        def theirs() -> None:
            for row, value in zip((rate, effort), run(1), strict=True):
                row.theirs.append(value)

        run(0), run(1)
        turns(args.rounds, ours, theirs)
    return [rate, effort]


def measure_list(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    fill(site)
    message = load.request("GET", f"/v1/images?limit={PAGE}")
    return small_requests(args, home, site, f"list of {PAGE}", message)


def measure_detail(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    fill(site)
    message = load.request("GET", f"/v1/images/detail?limit={PAGE}")
    return small_requests(args, home, site, f"list of {PAGE} with details", message)


def versions(
    args: argparse.Namespace,
    site: daemons.Site,
    name: str,
    messages: tuple[bytes, bytes],
    old: str,
) -> list[Row]:
    """Return the rate and the CPU time of a request of version 2 against one of version 1."""
    rows = (Row(name, "/s", old), Row("... CPU time", "us", old))
    workers = [*daemons.children(site.api.pid), *daemons.children(site.registry.pid)]

    def run(message: bytes) -> tuple[float, float]:
        before = daemons.processor_time(workers)
        rate, count = load.rate(
            site.port, message, seconds=args.seconds, connections=args.connections
        )
        return rate, (daemons.processor_time(workers) - before) / count * 1e6

    def ours() -> None:
        for row, value in zip(rows, run(messages[0]), strict=True):
            row.ours.append(value)

    def theirs() -> None:
        for row, value in zip(rows, run(messages[1]), strict=True):
            row.theirs.append(value)

    run(messages[0]), run(messages[1])
    turns(args.rounds, ours, theirs)
    return list(rows)


def measure_v2_show(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """GET of an image by version 2, against HEAD by version 1 and against eventlet alone."""
    number = fill(site)
    uuid = site.http.head(f"/v1/images/{number}").header("x-openstack-image-uuid")
    show = load.request("GET", f"/v2/images/{uuid}")
    head = load.request("HEAD", f"/v1/images/{number}")
    name = "GET of an image by version 2"
    return [
        *small_requests(args, home, site, name, show),
        *versions(args, site, name, (show, head), "HEAD by version 1"),
    ]


def measure_v2_list(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """A page by version 2, against one with details by version 1 and against eventlet alone."""
    fill(site)
    page = load.request("GET", f"/v2/images?limit={PAGE}")
    detail = load.request("GET", f"/v1/images/detail?limit={PAGE}")
    name = f"list of {PAGE} by version 2"
    return [
        *small_requests(args, home, site, name, page),
        *versions(args, site, name, (page, detail), "details by version 1"),
    ]


def measure_reserve(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    message = load.request("POST", "/v1/images", *RESERVATION)
    return small_requests(args, home, site, "POST without data", message)


def measure_v2_create(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """An image without data by version 2, against one by version 1 and against eventlet alone."""
    length = f"Content-Length: {len(load.CREATION)}"
    create = load.request("POST", "/v2/images", length) + load.CREATION
    reserve = load.request("POST", "/v1/images", *RESERVATION)
    name = "POST of an image by version 2"
    return [
        *small_requests(args, home, site, name, create),
        *versions(args, site, name, (create, reserve), "POST by version 1"),
    ]


def measure_v2_upload(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """Uploads by version 2, with the second digest, against those by version 1."""
    by_v2, by_v1 = ("by version 2", site), ("version 1", site)
    return uploads(args, home, by_v2, by_v1, (load.upload_v2, load.upload))


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


def measure_s3(args: argparse.Namespace, home: pathlib.Path, what: str) -> list[Row]:
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


def measure_s3_download(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    return measure_s3(args, home, "download")


def measure_s3_upload(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    return measure_s3(args, home, "upload")


MEASURES = {
    "download": measure_download,
    "upload": measure_upload,
    "digests": measure_digests,
    "inspect": measure_inspect,
    "head": measure_head,
    "metrics": measure_metrics,
    "list": measure_list,
    "detail": measure_detail,
    "v2-show": measure_v2_show,
    "v2-list": measure_v2_list,
    "v2-create": measure_v2_create,
    "v2-upload": measure_v2_upload,
    "reserve": measure_reserve,
    "cached": measure_cached,
    "s3-download": measure_s3_download,
    "s3-upload": measure_s3_upload,
}
#: What needs no peers but nginx.
USUAL = [name for name in MEASURES if not name.startswith("s3")]


if __name__ == "__main__":
    sys.exit(main())

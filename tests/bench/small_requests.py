"""Benchmarks of small requests: metadata and lists of both versions of the API."""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

import load
import yardsticks
from table import Row, turns

from support import daemons

PAGE = 25
#: Bytes of a small upload, and how often it makes the registry commit.
SMALL, COMMITS = 64 * 1024, 3
#: Headers of a request that creates an image without data.
RESERVATION = ("x-image-meta-name: bench", "x-image-meta-property-os: linux", "Content-Length: 0")
#: Headers of one that uploads SMALL bytes.
UPLOAD = (
    "x-image-meta-name: bench",
    "Content-Type: application/octet-stream",
    f"Content-Length: {SMALL}",
)


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


def against_the_disk(
    args: argparse.Namespace,
    home: pathlib.Path,
    site: daemons.Site,
    name: str,
    message: bytes,
    *loop: int,
) -> list[Row]:
    """Return the rate and the CPU time of a request that many clients send, against `durable.py`.

    The site and the loop write to the same file system. `loop` are the commits and the bytes of
    each turn of the loop, which waits for the disk as often as one such request.
    """
    rows = (Row(name, "/s", "bare loop"), Row("... CPU time", "us", "bare loop"))
    workers = [*daemons.children(site.api.pid), *daemons.children(site.registry.pid)]
    place = home / name.replace(" ", "-")
    place.mkdir()
    script = pathlib.Path(__file__).with_name("durable.py")
    command = [sys.executable, str(script), str(place), str(args.seconds), *map(str, loop)]

    def ours() -> None:
        before = daemons.processor_time(workers)
        rate, count = load.rate(
            site.port, message, seconds=args.seconds, connections=args.connections
        )
        rows[0].ours.append(rate)
        rows[1].ours.append((daemons.processor_time(workers) - before) / count * 1e6)

    def theirs() -> None:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        for row, value in zip(rows, done.stdout.split(), strict=True):
            row.theirs.append(float(value))

    ours(), theirs()
    for row in rows:
        row.ours.clear(), row.theirs.clear()
    turns(args.rounds, ours, theirs)
    return list(rows)


def measure_reserve_commits(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """POST without data by several clients, against commits one after the other."""
    message = load.request("POST", "/v1/images", *RESERVATION)
    name = f"POST by {args.connections} clients"
    return against_the_disk(args, home, site, name, message, 1, 0)


def measure_small_upload(
    args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    """An upload of 64 KiB by several clients, against its commits and syncs alone."""
    message = load.request("POST", "/v1/images", *UPLOAD) + b"d" * SMALL
    name = f"upload of 64 KiB by {args.connections} clients"
    return against_the_disk(args, home, site, name, message, COMMITS, SMALL)


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


MEASURES = {
    "head": measure_head,
    "metrics": measure_metrics,
    "list": measure_list,
    "detail": measure_detail,
    "v2-show": measure_v2_show,
    "v2-list": measure_v2_list,
    "v2-create": measure_v2_create,
    "reserve": measure_reserve,
    "reserve-commits": measure_reserve_commits,
    "small-upload": measure_small_upload,
}

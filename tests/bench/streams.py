"""Benchmarks of transfers at the limit of the machine: holes, many at once, parts, processor time.

They stand beside `transfers.py`, which has one transfer at a time of data without holes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import pathlib
import selectors
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator

import load
import yardsticks
from table import Row, turns
from transfers import MIB, image_file, other_site

from support import certificates, daemons, faults, swift_node

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


# -- downloads beside those of nginx -------------------------------------------------------------

#: Downloads at once, and the MiB of each.
CROWD, EACH = 64, 64
PARTS = 8
#: The image of a site, and the same file at nginx: ports and paths.
Pair = tuple[tuple[int, str], tuple[int, str]]


@contextlib.contextmanager
def served(
    home: pathlib.Path, site: daemons.Site, mib: int
) -> Iterator[tuple[Pair, tuple[list[int], list[int]]]]:
    """Store an image of `mib` MiB, and serve the very same file by nginx.

    Yields where both are, and the processes that send them.
    """
    path = home / "image"
    load.write_random(path, mib * MIB)
    _, image = load.upload(site.port, path)
    path.unlink()
    stored = max(site.data_files(), key=lambda file: file.stat().st_size)
    with yardsticks.nginx_process(home / "nginx", stored.parent) as (port, pid):
        pair = ((site.port, image), (port, f"/{stored.name}"))
        yield pair, (daemons.children(site.api.pid), [pid])
    site.http.delete(image)


def at_once(port: int, requests: list[bytes]) -> list[float]:
    """Send requests at the same time; return the seconds until each response has ended.

    The kernel throws the bytes away (MSG_TRUNC, see tcp(7)): what is measured is the server.
    """
    begin, ends = time.perf_counter(), []
    with selectors.DefaultSelector() as selector:
        for message in requests:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(message)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        waste = bytearray(1 << 22)
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.fileobj
                if not connection.recv_into(waste, 0, socket.MSG_TRUNC):
                    ends.append(time.perf_counter() - begin)
                    selector.unregister(connection)
                    connection.close()
    return ends


def measure_cpu(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Processor time of one download."""
    rate = Row(f"download of {args.size} MiB, thrown away", "MiB/s", "nginx")
    cost = Row("... CPU time", "ms", "nginx")
    with served(within(home, "cpu"), site, args.size) as (pair, processes):

        def run(number: int) -> None:
            port, path = pair[number]
            before = daemons.processor_time(processes[number])
            seconds = max(at_once(port, [load.request("GET", path, "Connection: close")]))
            spent = daemons.processor_time(processes[number]) - before
            (rate.theirs if number else rate.ours).append(args.size / seconds)
            (cost.theirs if number else cost.ours).append(spent * 1e3)

        at_once(*one_request(pair[0])), at_once(*one_request(pair[1]))
        turns(args.rounds, lambda: run(0), lambda: run(1))
    return [rate, cost]


def within(home: pathlib.Path, name: str) -> pathlib.Path:
    """Make a directory for one measure."""
    (home / name).mkdir()
    return home / name


def one_request(place: tuple[int, str], *fields: str) -> tuple[int, list[bytes]]:
    return place[0], [load.request("GET", place[1], "Connection: close", *fields)]


def measure_crowd(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Many downloads at once: all together, and the slowest of them beside the median."""
    rate = Row(f"{CROWD} downloads of {EACH} MiB at once", "MiB/s", "nginx")
    fair = Row("... slowest in % of the median", "%", "nginx")
    with served(within(home, "crowd"), site, EACH) as (pair, _):

        def run(number: int) -> None:
            port, requests = one_request(pair[number])
            ends = at_once(port, requests * CROWD)
            (rate.theirs if number else rate.ours).append(CROWD * EACH / max(ends))
            slowest = max(ends) / statistics.median(ends) * 100
            (fair.theirs if number else fair.ours).append(slowest)

        turns(args.rounds, lambda: run(0), lambda: run(1))
    return [rate, fair]


def measure_parts(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """One image in ranges at once, as some clients fetch it."""
    row = Row(f"download of {args.size} MiB in {PARTS} ranges at once", "MiB/s", "nginx")
    step = args.size * MIB // PARTS
    with served(within(home, "parts"), site, args.size) as (pair, _):

        def speed(number: int) -> float:
            port, path = pair[number]
            messages = [
                load.request(
                    "GET",
                    path,
                    "Connection: close",
                    f"Range: bytes={part * step}-{(part + 1) * step - 1}",
                )
                for part in range(PARTS)
            ]
            return args.size / max(at_once(port, messages))

        speed(0), speed(1)
        turns(
            args.rounds,
            lambda: row.ours.append(speed(0)),
            lambda: row.theirs.append(speed(1)),
        )
    return [row]


def measure_tls(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """A download over TLS: the API's own, and that of nginx."""
    row = Row(f"download of {args.size} MiB over TLS", "MiB/s", "nginx")
    home = within(home, "tls")
    authority = certificates.Authority(home / "authority")
    chain, key = authority.issue("server")
    context = ssl.create_default_context(cafile=authority.root)
    own = other_site(args, home, cert_file=chain, key_file=key)
    own.api.answers = lambda: yardsticks.listens(own.api.port)
    more = f" ssl; ssl_certificate {chain}; ssl_certificate_key {key}"

    def exchange(port: int, message: bytes, body: pathlib.Path | None = None) -> tuple[str, int]:
        """Return the head of a response and how many bytes followed."""
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(message)
            if body is not None:
                with body.open("rb") as data:
                    connection.sendfile(data)
            head, view = b"", memoryview(bytearray(load.BUFFER))
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            head, _, rest = head.partition(b"\r\n\r\n")
            size = len(rest)
            while got := connection.recv_into(view):
                size += got
            return head.decode("latin-1"), size

    def speed(port: int, path: str) -> float:
        begin = time.perf_counter()
        head, size = exchange(port, load.request("GET", path, "Connection: close"))
        if size != args.size * MIB:
            raise SystemExit(f"{size} bytes came: {head}")
        return args.size / (time.perf_counter() - begin)

    with own, image_file(args, home) as path:
        fields = (f"Content-Length: {path.stat().st_size}", "x-image-meta-name: tls")
        fields = ("Content-Type: application/octet-stream", "Connection: close", *fields)
        head, _ = exchange(own.port, load.request("POST", "/v1/images", *fields), path)
        image = "/v1/images/" + head.partition("/v1/images/")[2].split()[0]
        stored = max(own.data_files(), key=lambda file: file.stat().st_size)
        with yardsticks.nginx_process(home / "nginx", stored.parent, more) as (port, _):
            places = (own.port, image), (port, f"/{stored.name}")
            speed(*places[0]), speed(*places[1])
            turns(
                args.rounds,
                lambda: row.ours.append(speed(*places[0])),
                lambda: row.theirs.append(speed(*places[1])),
            )
    return [row]


# -- uploads beside md5sum -----------------------------------------------------------------------


def measure_chunked(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """An upload of unknown size, in chunks of a MiB."""
    row = Row(f"chunked upload of {args.size} MiB", "MiB/s", "md5sum")

    def chunked(port: int, path: pathlib.Path) -> float:
        fields = ("Transfer-Encoding: chunked", "Content-Type: application/octet-stream")
        with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as data:
            begin = time.perf_counter()
            named = ("x-image-meta-name: chunked", "Connection: close")
            connection.sendall(load.request("POST", "/v1/images", *fields, *named))
            left = path.stat().st_size
            while left:
                size = min(left, MIB)
                connection.sendall(b"%x\r\n" % size)
                connection.sendfile(data, data.tell(), size)
                connection.sendall(b"\r\n")
                left -= size
            connection.sendall(b"0\r\n\r\n")
            answer = b""
            while part := connection.recv(65536):
                answer += part
            seconds = time.perf_counter() - begin
        if b" 201 " not in answer[:20]:
            raise SystemExit(f"upload failed: {answer!r}")
        image = answer.decode("latin-1").partition("/v1/images/")[2].split()[0]
        site.http.delete(f"/v1/images/{image}")
        os.sync()
        return seconds

    with image_file(args, home) as path:
        chunked(site.port, path), yardsticks.md5sum(path)
        turns(
            args.rounds,
            lambda: row.ours.append(args.size / chunked(site.port, path)),
            lambda: row.theirs.append(args.size / yardsticks.md5sum(path)),
        )
    return [row]


def measure_uploads(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Four uploads at once to two workers, against two files in md5sum at once."""
    together = Row(f"4 uploads of {args.size} MiB at once, 2 workers", "MiB/s", "2 md5sum")
    cost = Row(f"CPU time of an upload of {args.size} MiB", "ms", "md5sum")
    home = within(home, "uploads")
    args.workers, workers = 2, args.workers
    two = other_site(args, home)
    args.workers = workers

    def four() -> float:
        found: list[str] = []

        def one() -> None:
            found.append(load.upload(two.port, path)[1])

        threads = [threading.Thread(target=one) for _ in range(4)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        for image in found:
            two.http.delete(image)
        os.sync()
        return 4 * args.size / seconds

    def sums(count: int) -> tuple[float, float]:
        before, begin = os.times(), time.perf_counter()
        running = [subprocess.Popen(["md5sum", path], stdout=-3) for _ in range(count)]
        for process in running:
            process.wait()
        seconds, after = time.perf_counter() - begin, os.times()
        spent = after.children_user + after.children_system
        return seconds, spent - before.children_user - before.children_system

    def cpu() -> float:
        processes = daemons.children(site.api.pid)
        before = daemons.processor_time(processes)
        _, image = load.upload(site.port, path)
        spent = daemons.processor_time(processes) - before
        site.http.delete(image)
        return spent * 1e3

    with image_file(args, home) as path:
        with two:
            four(), sums(2)
            turns(
                args.rounds,
                lambda: together.ours.append(four()),
                lambda: together.theirs.append(2 * args.size / sums(2)[0]),
            )
        turns(
            args.rounds,
            lambda: cost.ours.append(cpu()),
            lambda: cost.theirs.append(sums(1)[1] * 1e3),
        )
    return [together, cost]


# -- Swift, the image cache, growth --------------------------------------------------------------


def measure_swift(
    what: str, args: argparse.Namespace, home: pathlib.Path, site: daemons.Site
) -> list[Row]:
    row = Row(f"{what} of {args.size} MiB, Swift", "MiB/s", "python-swiftclient alone")
    home = within(home, f"swift-{what}")
    swift = swift_node.SwiftNode(home / "swift")
    swift.start()
    options = {
        "default_store": "swift",
        "swift_store_auth_address": swift.auth_url,
        "swift_store_auth_version": "1",
        "swift_store_user": swift_node.USER,
        "swift_store_key": swift_node.KEY,
        "swift_store_container": "glance",
        "swift_store_create_container_on_put": True,
        "swift_store_spool_dir": home,
    }
    own = other_site(args, home, **options)
    where = (swift.auth_url, swift_node.USER, swift_node.KEY, "glance")
    try:
        with image_file(args, home) as path, own:
            _, image = load.upload(own.port, path)

            def ours() -> float:
                if what == "download":
                    return args.size / load.download(own.port, image)[0]
                seconds, uploaded = load.upload(own.port, path)
                own.http.delete(uploaded)
                return args.size / seconds

            def theirs() -> float:
                if what == "download":
                    found = yardsticks.plain_swift("down", *where, image.rpartition("/")[2])
                else:
                    found = yardsticks.plain_swift("up", *where, "plain", path)
                return args.size / found

            ours(), theirs()
            turns(
                args.rounds,
                lambda: row.ours.append(ours()),
                lambda: row.theirs.append(theirs()),
            )
    finally:
        swift.stop()
    return [row]


#: Clients that fetch one image at once.
STORM = 50


def measure_storm(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """Many clients fetch one image of a remote store at once, through the cache of two workers."""
    fetches = Row(f"fetches of an image for {STORM} clients, 2 workers", "", "one")
    speed = Row("... the last client has it", "MiB/s", "one client")
    home = within(home, "storm")
    pipeline = "versionnegotiation context cache apiv1app"
    options = {
        "verbose": False,
        "image_cache_enabled": True,
        "image_cache_dir": home / "cache",
        "image_cache_min_free_disk": 0,
        "image_cache_max_size": 4 * EACH * MIB,
    }
    with image_file(args, home) as path, faults.Origin() as origin:
        os.truncate(path, EACH * MIB)
        data = path.read_bytes()
        options["http_store_allowed_hosts"] = f"127.0.0.1:{origin.port}"
        origin.default = faults.answer("200 OK", data)
        md5 = hashlib.md5(data).hexdigest()
        own = daemons.Site(home / "site", workers=2, api=options, api_pipeline=pipeline)
        own.registry_options["verbose"] = False
        with own:

            def turn(clients: int) -> tuple[int, float]:
                target = f"{origin.url}/{os.urandom(8).hex()}"
                fields = {"location": target, "size": str(len(data)), "checksum": md5}
                named = {f"x-image-meta-{name}": text for name, text in fields.items()}
                reply = own.http.post("/v1/images", {"x-image-meta-name": "storm", **named})
                image = f"/v1/images/{reply.json()['image']['id']}"
                before = len(origin.requests)
                port, requests = one_request((own.port, image))
                ends = at_once(port, requests * clients)
                own.http.delete(image)
                return len(origin.requests) - before, EACH / max(ends)

            def many() -> None:
                count, rate = turn(STORM)
                fetches.ours.append(count)
                fetches.theirs.append(1)
                speed.ours.append(rate)

            turn(1)
            turns(args.rounds, many, lambda: speed.theirs.append(turn(1)[1]))
    return [fetches, speed]


def _peak(pid: int) -> int:
    """Return the most memory (KiB) that a process has had so far."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def measure_growth(args: argparse.Namespace, home: pathlib.Path, site: daemons.Site) -> list[Row]:
    """How much more memory each process has used after a large image up and down, at its peak."""
    up = Row(f"growth of a worker over {args.size} MiB up", "KiB", "limit")
    down = Row("... down", "KiB", "limit")
    workers = daemons.children(site.api.pid)

    def peak() -> list[int]:
        return [_peak(pid) for pid in workers]

    with image_file(args, home) as path:
        # What the first transfers of all need is no growth: modules, threads, buffers.
        for size in (64 * MIB, args.size * MIB):
            small = home / "part"
            with path.open("rb") as whole, small.open("wb") as part:
                os.copy_file_range(whole.fileno(), part.fileno(), size)
            before = peak()
            _, image = load.upload(site.port, small)
            small.unlink()
            middle = peak()
            load.download(site.port, image)
            after = peak()
            site.http.delete(image)
    up.ours.append(max(b - a for a, b in zip(before, middle, strict=True)))
    down.ours.append(max(b - a for a, b in zip(middle, after, strict=True)))
    up.theirs.append(16 << 10), down.theirs.append(16 << 10)
    return [up, down]


MEASURES = {
    "sparse": measure_sparse,
    "download-cpu": measure_cpu,
    "crowd-download": measure_crowd,
    "parts-download": measure_parts,
    "tls-download": measure_tls,
    "chunked-upload": measure_chunked,
    "uploads": measure_uploads,
    "swift-upload": functools.partial(measure_swift, "upload"),
    "swift-download": functools.partial(measure_swift, "download"),
    "storm": measure_storm,
    "growth": measure_growth,
}
#: What takes long, or needs gigabytes of the disk.
SLOW = ("sparse", "uploads", "swift-upload", "swift-download", "storm", "growth")

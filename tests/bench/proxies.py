"""Prove what etc/proxies promises, with each real proxy: `tests/bench/proxies.py --help`.

    crowd   50 clients fetch one image of 256 MiB at once: what that costs the API, and how quick
            they are, against the same proxy program serving the same bytes as a plain file (nginx)
    mixed   10,000 requests of two tenants while images become public and private and are deleted:
            nobody may get what is not his at that moment, or a byte of another image
    large   5 GiB through each proxy, twice

Exits with 1 if a promise is broken. `python tests/bench/proxies.py mixed --proxy squid`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import random
import selectors
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import load
from table import described

from support import daemons, faults, identities, proxies, relay, warm
from support.rawhttp import Http, meta_headers

MIB = 1 << 20
PROOFS = ("crowd", "mixed", "large")


class BigNginx(proxies.Nginx):
    """nginx with slices as in the file."""

    digits = 7


KINDS = {**proxies.KINDS, "nginx": BigNginx}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("proof", nargs="*", help=f"which: {', '.join(PROOFS)} (default: all)")
    parser.add_argument("--proxy", action="append", choices=list(KINDS), help="which (all)")
    parser.add_argument("--clients", type=int, default=50, help="of the crowd (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="MiB of its image (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the crowd (%(default)s)")
    parser.add_argument("--requests", type=int, default=10_000, help="of mixed (%(default)s)")
    parser.add_argument("--large", type=int, default=5, help="GiB of the large one (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what mixed chooses (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    args = parser.parse_args()
    wanted = args.proof or PROOFS
    if unknown := set(wanted) - set(PROOFS):
        parser.error(f"no such proof: {', '.join(sorted(unknown))}")
    # Who ends it in good order lets it clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).resolve().parents[1])
    problems: list[str] = []
    with contextlib.ExitStack() as stack:
        name = tempfile.mkdtemp(prefix="glance-proxies-", dir=args.dir)
        stack.callback(shutil.rmtree, name)
        stack.callback(warm.stop)
        home = pathlib.Path(name)
        options = {
            "allow_anonymous_access": False,
            "http_cache_share_private": True,
            "verbose": False,
        }
        source = identities.Stage(home / "site", api=options)
        stack.callback(source.stop)
        for proof in wanted:
            for kind in args.proxy or KINDS:
                # NOTE: Varnish takes all its room from the disk at once.
                most = {"crowd": args.rounds * args.size, "large": args.large * 1024}
                room = most.get(proof, 1000) * 5 // 4 + 300
                with (
                    relay.Relay(source.site.port) as between,
                    KINDS[kind](home / f"{proof}-{kind}", between.port, room) as proxy,
                ):
                    problems += globals()[proof](args, home, source, between, proxy)
                shutil.rmtree(home / f"{proof}-{kind}")
    print(described("two tenants, file store, the proxy on the same machine"))
    for problem in problems:
        print(f"BROKEN: {problem}")
    return 1 if problems else 0


def upload(source: identities.Source, path: pathlib.Path, **meta: object) -> str:
    image_id = faults.new_id()
    with path.open("rb") as data:
        headers = {**source.caller("a"), "Content-Length": str(path.stat().st_size)}
        reply = source.site.http.add(data, headers, id=image_id, is_public=True, **meta)
    assert reply.status == 201, reply
    return f"/v1/images/{image_id}"


def together(port: int, path: str, clients: int) -> tuple[list[int], float]:
    """Let clients fetch one thing at once; return the bytes that each has got, and the seconds.

    The kernel throws the bytes away, so that the clients cost hardly any of the processor.
    """
    view = memoryview(bytearray(MIB))
    counts = [0] * clients
    begin = time.monotonic()
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for number in range(clients):
            message = load.request("GET", path, f"X-Auth-Token: t{number}", "Connection: close")
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 600))
            connection.sendall(message)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, [number, b""])
        while selector.get_map():
            for key, _ in selector.select(600):
                number, head = key.data
                if head is None:
                    got = key.fileobj.recv_into(view, MIB, socket.MSG_TRUNC)
                    counts[number] += got
                else:
                    piece = key.fileobj.recv(65536)
                    got, head = len(piece), head + piece
                    start, end, body = head.partition(b"\r\n\r\n")
                    key.data[1] = None if end else head
                    counts[number] = len(body) if end and b" 200 " in start[:20] else 0
                if not got:
                    selector.unregister(key.fileobj)
    return counts, time.monotonic() - begin


@contextlib.contextmanager
def plain(home: pathlib.Path, file: pathlib.Path) -> Iterator[int]:
    """Serve the directory of a file by nginx alone; yield the port."""
    port = daemons.free_port()
    directory = home / "plain"
    directory.mkdir(exist_ok=True)

    class Plain(proxies.Nginx):
        def write(self) -> None:
            super().write()
            text = self.conf.read_text()
            head = text[: text.index("http {")]
            places = " ".join(
                f"{one}_temp_path {directory / one};"
                for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            self.conf.write_text(
                f"{head}http {{ access_log off; {places} sendfile on;"
                f" server {{ listen 127.0.0.1:{self.port}; root {file.parent}; }} }}"
            )

    with Plain(directory, port) as running:
        yield running.port


def crowd(args, home, source, between, proxy) -> list[str]:
    problems = []
    file = home / "plain.bin"
    if not file.exists():
        load.write_random(file, args.size * MIB)
    size, clients = file.stat().st_size, args.clients
    cold, hot, theirs = [], [], []
    bodies, questions = [], []
    with plain(home, file) as port:
        for _ in range(args.rounds):
            path = upload(source, file)
            for times in (cold, hot):
                with between.counting() as seen:
                    done, seconds = together(proxy.port, path, clients)
                if done != [size] * clients:
                    problems.append(f"{proxy.name}: a client got less than the image")
                times.append(seconds)
                bodies.append(sum(one.sent for one in seen if one.sent > 5000) / size)
                questions.append(len([one for one in seen if one.sent <= 5000]))
            theirs.append(together(port, f"/{file.name}", clients)[1])
            source.site.http.delete(path, source.caller("a"))
    rate = clients * args.size
    medians = [statistics.median(one) for one in (cold, hot, theirs)]
    print(
        f"crowd {proxy.name:13} {clients} x {args.size} MiB: bodies cold {bodies[::2]}, "
        f"hot {bodies[1::2]}; small requests cold {questions[::2]}, hot {questions[1::2]}; "
        f"cold {rate / medians[0]:.0f} MiB/s, hot {rate / medians[1]:.0f} MiB/s, "
        f"plain file {rate / medians[2]:.0f} MiB/s, "
        f"ratio cold {medians[2] / medians[0]:.2f}, hot {medians[2] / medians[1]:.2f}",
        flush=True,
    )
    if proxy.shares_misses and max(bodies[::2]) > 1.001:
        problems.append(f"{proxy.name}: the crowd cost {max(bodies)} bodies")
    if max(bodies[1::2]) > 0:
        problems.append(f"{proxy.name}: a stored image was fetched again")
    return problems


@dataclasses.dataclass
class Known:
    """What is true of one image; `lock` is held while it changes."""

    path: str
    data: bytes
    public: bool
    deleted: bool = False
    version: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


def mixed(args, home, source, between, proxy) -> list[str]:
    """Readers compare each response with what was true of the image when they asked.

    A change counts from the moment at which the API has confirmed it. A response is judged only
    if nothing changed while it was on its way: else both states are right.
    """
    problems: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    api, a = source.site.http, source.caller("a")
    images: list[Known] = []
    guard = threading.Lock()

    def new(choose: random.Random) -> Known:
        data = choose.randbytes(choose.choice((1000, 40_000, 300_000)))
        image_id, public = faults.new_id(), choose.random() < 0.5
        made = api.add(data, a, id=image_id, is_public=public)
        assert made.status == 201, made
        return Known(f"/v1/images/{image_id}", data, public)

    def judge(known: Known, token: str, begin: int, deleted: bool, public: bool, reply) -> None:
        if known.version != begin or begin % 2:
            counts["changed meanwhile"] += 1
            return
        if deleted:
            wrong = reply.status != (401 if token == "nobody" else 404)
        elif token == "nobody":
            wrong = reply.status != 401
        elif public or token == "a":
            wrong = reply.status not in (200, 206) or reply.body not in known.data
            wrong = wrong or (reply.status == 200 and reply.body != known.data)
        else:
            wrong = reply.status != 404
        counts["right"] += not wrong
        if wrong:
            problems.append(
                f"{proxy.name}: {known.path} deleted={deleted} public={public} by {token}: "
                f"{reply.status}, {len(reply.body)} bytes"
            )

    def read(number: int) -> None:
        choose = random.Random(f"{args.seed}-{number}")
        while counts["requests"] < args.requests:
            counts["requests"] += 1
            known = choose.choice(images)
            token = choose.choice(("a", "b", "b", "nobody"))
            headers = {"X-Auth-Token": token}
            if choose.random() < 0.3:
                first = choose.randrange(len(known.data))
                headers["Range"] = f"bytes={first}-{choose.randrange(first, len(known.data))}"
            with known.lock:
                begin, deleted, public = known.version, known.deleted, known.public
            try:
                reply = Http(proxy.port).get(known.path, headers)
            except (OSError, http.client.HTTPException) as err:
                problems.append(f"{proxy.name}: {known.path}: {type(err).__name__}: {err}")
                continue
            judge(known, token, begin, deleted, public, reply)
            if reply.status in (200, 206) and reply.body not in known.data:
                problems.append(f"{proxy.name}: {known.path}: foreign bytes")

    def change(choose: random.Random) -> None:
        with guard:
            position = choose.randrange(len(images))
            known = images[position]
        with known.lock:
            # Odd while a change is under way.
            known.version += 1
        what = choose.random()
        if what < 0.2:
            status = api.delete(known.path, a).status
            known.deleted = True
            images[position] = new(choose)
            deleted.append(known)
            counts["deletes"] += 1
        else:
            known.public = not known.public
            sent = {**a, **meta_headers(is_public=known.public)}
            status = api.put(known.path, sent).status
            counts["changes"] += 1
        assert status == 200, status
        with known.lock:
            known.version += 1

    def change_often() -> None:
        choose = random.Random(f"{args.seed}-changes")
        while counts["requests"] < args.requests:
            change(choose)
            time.sleep(0.02)

    deleted: list[Known] = []
    first = random.Random(args.seed)
    images += [new(first) for _ in range(20)]
    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=change_often))
    with between.counting() as seen:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts["bodies of the API"] = len([one for one in seen if one.sent > 900])
    # What is gone stays gone.
    for known in deleted:
        for token in ("a", "b", "nobody"):
            reply = Http(proxy.port).get(known.path, {"X-Auth-Token": token})
            judge(known, token, known.version, True, known.public, reply)
    print(f"mixed {proxy.name:13} {dict(counts)}, {len(problems)} wrong", flush=True)
    return problems


def large(args, home, source, between, proxy) -> list[str]:
    """Send gigabytes through the proxy, twice, and a range of it, and compare the digests."""
    problems = []
    file, size = home / "large.bin", args.large << 30
    if not file.exists():
        load.write_random(file, size)
    with file.open("rb") as data:
        wanted = hashlib.file_digest(data, "md5").hexdigest()
    path = upload(source, file)
    told = []
    for _ in range(2):
        digest, begin = hashlib.md5(), time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=600)
        with contextlib.closing(connection), between.counting() as seen:
            connection.request("GET", path, headers=source.caller("b"))
            response = connection.getresponse()
            while piece := response.read(MIB):
                digest.update(piece)
        told.append(time.monotonic() - begin)
        if digest.hexdigest() != wanted:
            problems.append(f"{proxy.name}: wrong bytes of {args.large} GiB")
        told.append(sum(one.sent for one in seen if one.sent > 5000) / size)
    resident = sum(daemons.resident(pid) for pid in [proxy.pid, *daemons.children(proxy.pid)])
    print(
        f"large {proxy.name:13} {args.large} GiB: miss {told[0]:.1f} s ({told[1]:.2f} bodies), "
        f"hit {told[2]:.1f} s ({told[3]:.2f} bodies), {resident >> 20} MiB of memory",
        flush=True,
    )
    if told[3]:
        problems.append(f"{proxy.name}: {args.large} GiB were not stored")
    source.site.http.delete(path, source.caller("a"))
    return problems


if __name__ == "__main__":
    sys.exit(main())

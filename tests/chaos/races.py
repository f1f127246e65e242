"""Let many clients change the same images through two APIs and two registries, and judge it.

    python tests/chaos/races.py --seconds 600 --database postgresql

Nothing is killed: every request must succeed, or be refused for a reason that the history
explains. No change may be lost, no image or member may exist twice, and no deadlock or lock of the
database may reach a client. Prints what happened; exits with 1, and keeps the directory with the
logs, if the history is impossible. A run repeats its choices by --seed (not its timing).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import kills
from history import Element, History, Span

from support import daemons, warm
from support.rawhttp import Reply, identity, meta_headers

#: How many images are in use at a time, and how many operations each is used for.
SHARED = 3
USES = 200
#: How many clients try to create, fill or delete the same image.
RIVALS = 3
PROPERTIES = ("color", "shape", "size")
FIRST_ID = 1_000_000
TEAM = identity("team")


def main(words: Sequence[str] | None = None) -> int:
    args = parse_args(words)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="glance-races-", dir=args.dir))
    with contextlib.ExitStack() as stack:
        stack.callback(warm.stop)
        url = stack.enter_context(kills.database(args.database, directory))
        history, seconds = run(args, directory, url)
    violations = history.violations()
    report(args, history, seconds)
    if not violations:
        shutil.rmtree(directory)
        print("\nEverything that happened is possible.")
        return 0
    print(f"\n{len(violations)} violations (logs: {directory}):")
    for line in violations[:50]:
        print(f"  {line}")
    return 1


def parse_args(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (%(default)s)")
    parser.add_argument("--clients", type=int, default=12, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="of each daemon (%(default)s)")
    parser.add_argument("--database", choices=kills.DATABASES, default="sqlite")
    parser.add_argument("--seed", type=int, default=1, help="of all choices (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    return parser.parse_args(words)


def run(args: argparse.Namespace, directory: pathlib.Path, url: str) -> tuple[History, float]:
    """Run the load on two pairs of daemons with one database and one store; return what happened.

    The logs of the daemons are judged, too.
    """
    options: dict[str, Any] = {
        "auth_mode": "trusted-headers",
        "workers": args.workers,
        # The quota makes uploads of one owner wait for each other.
        "registry": {"sql_connection": url, "db_auto_create": True, "user_storage_quota": 2**40},
    }
    one = daemons.Site(directory / "one", **options)
    other = daemons.Site(directory / "other", store=one.store, **options)
    work = Work([one, other])
    with one, other:
        crowd = [Client(work, number, args.seed) for number in range(args.clients)]
        begin = time.monotonic()
        for client in crowd:
            client.start()
        work.ended.wait(args.seconds)
        work.ended.set()
        for client in crowd:
            client.join(120)
            if client.is_alive():
                work.history.problem(f"{client.name} does not end")
        seconds = time.monotonic() - begin
        final_look(work)
        note_deletions(work.history)
        logs = [log for site in (one, other) for log in site.logs()]
    for program, text in logs:
        for line in text.splitlines():
            if " ERROR " in line or "Traceback" in line or "database is locked" in line:
                work.history.problem(f"{program} logs: {line}")
    return work.history, seconds


def report(args: argparse.Namespace, history: History, seconds: float) -> None:
    total = history.statuses.total()
    print(f"{args.database}, seed {args.seed}: {total} requests of {args.clients} clients")
    print(f"in {seconds:.0f} s, on {len(history.lives)} images")
    operations = sorted({operation for operation, _ in history.statuses})
    for operation in operations:
        shown = sorted(
            (str(status), count)
            for (name, status), count in history.statuses.items()
            if name == operation
        )
        print(f"  {operation:18} {', '.join(f'{count} {status}' for status, count in shown)}")


@dataclasses.dataclass
class Shared:
    """An image that all clients use. `uses` counts down; then it is deleted by `deleters`.

    Its members are added and removed one by one, or if `has_sets` replaced all at once.
    """

    id: str
    has_sets: bool = False
    uses: int = USES
    deleters: int = RIVALS


@dataclasses.dataclass
class Queued:
    """A record without data that some clients try to fill."""

    id: str
    fillers: int = RIVALS


class Work:
    """What the clients share."""

    def __init__(self, sites: list[daemons.Site]):
        self.sites = sites
        self.history = History()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._images: list[Shared] = []
        self._queued: list[Queued] = []
        self._making = self._made = 0
        self._claims = itertools.count()

    def claim(self) -> str:
        """Return an id that RIVALS clients in all get."""
        with self._lock:
            return str(FIRST_ID + next(self._claims) // RIVALS)

    def use(self, choose: random.Random) -> tuple[str, Shared | None]:
        """Return what to do, `make`, `use` or `delete`, and with which image."""
        with self._lock:
            if len(self._images) + self._making < SHARED:
                self._making += 1
                return "make", None
            if not self._images:
                return "wait", None
            image = choose.choice(self._images)
            if image.uses:
                image.uses -= 1
                return "use", image
            image.deleters -= 1
            if not image.deleters:
                self._images.remove(image)
            return "delete", image

    def made(self, image_id: str | None) -> None:
        with self._lock:
            self._making -= 1
            if image_id is not None:
                self._made += 1
                self._images.append(Shared(image_id, has_sets=self._made % 2 == 0))

    def queue(self, image_id: str) -> None:
        with self._lock:
            self._queued.append(Queued(image_id))

    def to_fill(self) -> str | None:
        with self._lock:
            if not self._queued:
                return None
            queued = self._queued[0]
            queued.fillers -= 1
            if not queued.fillers:
                self._queued.pop(0)
            return queued.id

    def with_sets(self) -> set[str]:
        with self._lock:
            return {image.id for image in self._images if image.has_sets}

    def live(self) -> list[str]:
        with self._lock:
            return [image.id for image in self._images]


class Client(threading.Thread):
    """One client: each request goes to one of the two APIs; the choices come from `seed`."""

    def __init__(self, work: Work, number: int, seed: int, *, sites: Sequence[daemons.Site] = ()):
        super().__init__(name=f"client {number}", daemon=True)
        self.work, self.history = work, work.history
        self._ports = [site.port for site in sites or work.sites]
        self._number = number
        self._count = 0
        self._choose = random.Random(f"{seed} {number}")
        self._connections: dict[int, http.client.HTTPConnection] = {}
        #: The members that this client has added to images and not removed.
        self._members: list[tuple[str, str]] = []

    def run(self) -> None:
        while not self.work.ended.is_set():
            try:
                self._next()
            except Exception as err:
                # The client's own failure must end the run, not only this thread.
                self.history.problem(f"{self.name}: {type(err).__name__}: {err}")
                self.work.ended.set()
        for connection in self._connections.values():
            connection.close()

    def _next(self) -> None:
        kind = self._choose.choices(
            [self._use, self._claim, self._reserve, self._fill, self.list_images], [20, 1, 1, 2, 2]
        )[0]
        kind()

    def _token(self) -> str:
        self._count += 1
        return f"c{self._number}-{self._count}"

    def _request(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[Reply, Span]:
        """Send a request to one of the two APIs; return the response, and when all this was."""
        port = self._choose.choice(self._ports)
        connection = self._connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            self._connections[port] = connection
        begin = time.monotonic()
        connection.request(method, path, body, {**TEAM, **(headers or {})})
        response = connection.getresponse()
        data = response.read()
        span = Span(begin, time.monotonic())
        reply = Reply(response.status, response.reason, response.getheaders(), data)
        self.history.note(operation, reply.status)
        if reply.status >= 500:
            self.history.problem(f"{operation} {path}: {reply.status} {data[:200]!r}")
        return reply, span

    # -- creating and filling --------------------------------------------------------------------

    def _create(self, operation: str, body: bytes, **more: Any) -> tuple[str | None, Span]:
        """Create an image; return its id, None if it was refused."""
        token = self._token()
        values = {name: f"{token}-{name}" for name in ("name", *PROPERTIES)}
        headers = meta_headers(
            name=values["name"],
            **{f"property_{name}": values[name] for name in PROPERTIES},
            **more,
        )
        if body:
            headers["Content-Type"] = "application/octet-stream"
        reply, span = self._request(operation, "POST", "/v1/images", headers, body)
        if reply.status != 201:
            if "id" in more:
                self.history.life(str(more["id"])).created.append((reply.status, span))
            elif reply.status < 500:
                self.history.problem(f"{operation}: {reply.status} {reply.body[:200]!r}")
            return None, span
        image_id = str(reply.json()["image"]["id"])
        self.history.life(image_id).created.append((201, span))
        images = self.history.collection("list of images")
        if image_id in images.elements:
            self.history.problem(f"two clients created image {image_id}")
        images.elements[image_id] = Element(image_id, span)
        for name, value in values.items():
            self.history.write(f"{name} of image {image_id}", value, span)
        self.history.write(f"set of members of image {image_id}", "", span)
        return image_id, span

    def _claim(self) -> None:
        wanted = self.work.claim()
        made, _ = self._create("claim", b"claimed", id=wanted)
        if made is not None and made != wanted:
            self.history.problem(f"image {made} was created instead of {wanted}")
        if made is not None:
            self._delete_image(wanted)

    def _reserve(self) -> None:
        image_id, _ = self._create("reserve", b"")
        if image_id is not None:
            self.work.queue(image_id)

    def _fill(self) -> None:
        image_id = self.work.to_fill()
        if image_id is None:
            return
        data = self._choose.randbytes(self._choose.choice((1, 1000, 100_000)))
        headers = {"Content-Type": "application/octet-stream"}
        path = f"/v1/images/{image_id}"
        reply, span = self._request("fill", "PUT", path, headers, data)
        self.history.life(image_id).filled.append((reply.status, span))
        if reply.status == 200:
            digest = hashlib.md5(data).hexdigest()
            self.history.write(f"data of image {image_id}", digest, span)
            reply, span = self._request("download", "GET", path)
            digest = hashlib.md5(reply.body).hexdigest()
            self.history.read(f"data of image {image_id}", digest, span)
            self._delete_image(image_id)

    # -- images that all use ---------------------------------------------------------------------

    def _use(self) -> None:
        what, image = self.work.use(self._choose)
        if what == "make":
            made = None
            try:
                made, _ = self._create("create", b"data")
            finally:
                self.work.made(made)
        elif image is None:
            time.sleep(0.01)
        elif what == "delete":
            self._delete_image(image.id)
        else:
            kinds = {self._change: 6, self.look: 3}
            if image.has_sets:
                kinds |= {self._replace_members: 4, self.look_at_members: 3}
            else:
                kinds |= {self._share: 3, self._unshare: 2, self.list_members: 2}
            self._choose.choices(list(kinds), list(kinds.values()))[0](image.id)

    def _used(self, image_id: str, reply: Reply, span: Span, what: str, *statuses: int) -> bool:
        """Note an operation on an image; return whether it succeeded."""
        self.history.life(image_id).used.append((reply.status, span, what))
        if reply.status not in (*statuses, 404) and reply.status < 500:
            self.history.problem(
                f"{what} of image {image_id}: {reply.status} {reply.body[:200]!r}"
            )
        return reply.status in statuses

    def _saw(
        self, image_id: str, name: str | None, properties: Mapping[str, Any], span: Span
    ) -> None:
        self.history.read(f"name of image {image_id}", name, span)
        for each in PROPERTIES:
            self.history.read(f"{each} of image {image_id}", properties.get(each), span)

    def _change(self, image_id: str) -> None:
        """Change one or two values; the others, which other clients change, must remain."""
        token = self._token()
        names = self._choose.sample(("name", *PROPERTIES), self._choose.choice((1, 1, 2)))
        values = {
            name if name == "name" else f"property_{name}": f"{token}-{name}" for name in names
        }
        headers = {**meta_headers(**values), "x-glance-registry-purge-props": "false"}
        reply, span = self._request("change", "PUT", f"/v1/images/{image_id}", headers)
        if self._used(image_id, reply, span, "change", 200):
            for name in names:
                self.history.write(f"{name} of image {image_id}", f"{token}-{name}", span)
            found = reply.json()["image"]
            self._saw(image_id, found["name"], found["properties"], span)

    def look(self, image_id: str) -> None:
        reply, span = self._request("read", "HEAD", f"/v1/images/{image_id}")
        if self._used(image_id, reply, span, "read", 200):
            meta = reply.meta()
            properties = {each: meta.get(f"property_{each}") for each in PROPERTIES}
            self._saw(image_id, meta.get("name"), properties, span)

    def _share(self, image_id: str) -> None:
        member = self._token()
        path = f"/v1/images/{image_id}/members/{member}"
        reply, span = self._request("share", "PUT", path)
        if self._used(image_id, reply, span, "share", 204):
            members = self.history.collection(f"members of image {image_id}")
            members.elements[member] = Element(member, span)
            self._members.append((image_id, member))

    def _unshare(self, _: str) -> None:
        if not self._members:
            return
        image_id, member = self._members.pop(self._choose.randrange(len(self._members)))
        path = f"/v1/images/{image_id}/members/{member}"
        reply, span = self._request("unshare", "DELETE", path)
        if self._used(image_id, reply, span, "unshare", 204):
            members = self.history.collection(f"members of image {image_id}")
            members.elements[member].removed = span

    def list_members(self, image_id: str) -> None:
        reply, span = self._request("members", "GET", f"/v1/images/{image_id}/members")
        if self._used(image_id, reply, span, "members", 200):
            found = [entry["member_id"] for entry in reply.json()["members"]]
            self.history.collection(f"members of image {image_id}").reads.append((found, span))

    def _replace_members(self, image_id: str) -> None:
        token = self._token()
        members = [{"member_id": f"{token}-{each}"} for each in "abc"]
        reply, span = self._request(
            "replace",
            "PUT",
            f"/v1/images/{image_id}/members",
            {"Content-Type": "application/json"},
            json.dumps({"memberships": members}).encode(),
        )
        if self._used(image_id, reply, span, "replace", 204):
            self.history.write(f"set of members of image {image_id}", token, span)

    def look_at_members(self, image_id: str) -> None:
        """Read a set of members: it must be one that was written, whole."""
        reply, span = self._request("members", "GET", f"/v1/images/{image_id}/members")
        if self._used(image_id, reply, span, "members", 200):
            found = sorted(entry["member_id"] for entry in reply.json()["members"])
            token = found[0].rpartition("-")[0] if found else ""
            if found and found != [f"{token}-{each}" for each in "abc"]:
                self.history.problem(f"a mixture of members of image {image_id}: {found}")
            self.history.read(f"set of members of image {image_id}", token, span)

    def _delete_image(self, image_id: str) -> None:
        reply, span = self._request("delete", "DELETE", f"/v1/images/{image_id}")
        self.history.life(image_id).deleted.append((reply.status, span))

    def list_images(self) -> None:
        """Walk through all images, page by page."""
        found: list[str] = []
        marker = ""
        spans = []
        while True:
            path = f"/v1/images/detail?sort_key=id&sort_dir=asc&limit=20{marker}"
            reply, span = self._request("list", "GET", path)
            if reply.status != 200:
                # The image of the marker may have been deleted meanwhile.
                if not marker or reply.status not in (400, 404):
                    self.history.problem(f"list: {reply.status} {reply.body[:200]!r}")
                return
            spans.append(span)
            page = reply.json()["images"]
            for image in page:
                self._saw(str(image["id"]), image["name"], image["properties"], span)
            found += [str(image["id"]) for image in page]
            if len(page) < 20:
                break
            marker = f"&marker={found[-1]}"
        whole = Span(spans[0].begin, spans[-1].end)
        self.history.collection("list of images").reads.append((found, whole))


def final_look(work: Work) -> None:
    """Read everything through each API when nobody changes anything any more."""
    for number, site in enumerate(work.sites):
        reader = Client(work, number, 0, sites=[site])
        for image_id in work.live():
            reader.look(image_id)
            if image_id in work.with_sets():
                reader.look_at_members(image_id)
            else:
                reader.list_members(image_id)
        reader.list_images()


def note_deletions(history: History) -> None:
    """Note of each image from when to when it left the lists of images."""
    images = history.collection("list of images")
    for life in history.lives.values():
        if life.deleted:
            begin = min(span.begin for _, span in life.deleted)
            ends = [span.end for status, span in life.deleted if status == 200]
            images.elements[life.image_id].removed = Span(begin, min(ends, default=math.inf))


if __name__ == "__main__":
    sys.exit(main())

"""Clients that change images of their own under load, and know what must be true of them.

Each image has one client, which sends one request at a time: what it was told is what must be
true. After a request without a response (or with a 5xx) both outcomes are possible, and stay
possible: the model keeps the set of them and never guesses.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

from support import daemons
from support.rawhttp import Reply, meta_headers

#: Statuses with which the service may refuse while a part of it is down.
UNAVAILABLE = (502, 503, 504)
#: How many images a client keeps at most before it deletes one.
KEPT = 12
MEMBERS = ("alpha", "beta", "gamma")


class NotSent(Exception):
    """The request did not reach the service: nothing has changed."""


class InDoubt(Exception):
    """The request may have been carried out, now or a moment later."""


@dataclasses.dataclass
class Image:
    """What one client knows of one image.

    `states` are possible: `absent` (never made, or deleted), `queued` (a record without data),
    `killed` (an upload that failed), `active`. `names` and `members` are the values that it may
    have; each member is certainly there (True), certainly not (False), or either (None). `id` is
    None as long as the response with it has not arrived.
    """

    token: str
    data: bytes
    id: str | None = None
    states: set[str] = dataclasses.field(default_factory=lambda: {"absent"})
    names: set[str] = dataclasses.field(default_factory=set)
    members: dict[str, bool | None] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/v1/images/{self.id}"

    @property
    def is_active(self) -> bool:
        return self.states == {"active"}


class Load:
    """What the clients share: the site, when to end, what they saw."""

    def __init__(self, site: daemons.Site):
        self.site = site
        self.ended = threading.Event()
        #: (operation, status, or what happened instead) -> how often.
        self.seen: collections.Counter[tuple[str, str]] = collections.Counter()
        self.violations: list[str] = []
        self._lock = threading.Lock()

    def note(self, operation: str, outcome: object) -> None:
        with self._lock:
            self.seen[operation, str(outcome)] += 1

    def violated(self, text: str) -> None:
        with self._lock:
            self.violations.append(text)


class Client(threading.Thread):
    """One client; the choices that it makes come from `seed`."""

    def __init__(self, load: Load, number: int, seed: int):
        super().__init__(name=f"client {number}", daemon=True)
        self.load = load
        self.images: list[Image] = []
        self._number = number
        self._count = 0
        self._choose = random.Random(f"{seed} {number}")

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        while not self.load.ended.is_set():
            operation = self._next()
            try:
                operation()
            except NotSent:
                self.load.note(_name(operation), "not sent")
                time.sleep(0.05)
            except InDoubt as err:
                self.load.note(_name(operation), err)
            except Exception as err:
                # The client's own failure must end the run, not only this thread.
                self.load.violated(f"{self.name}: {type(err).__name__}: {err}")
                return

    def _next(self) -> Any:
        live = [image for image in self.images if image.id and image.states != {"absent"}]
        if len(live) >= KEPT:
            return self._delete_image
        if len(live) < 2:
            return self._create
        kinds = {
            self._create: 3,
            self._reserve_and_fill: 2,
            self._update: 3,
            self._read: 5,
            self._list: 2,
            self._share: 2,
            self._delete_image: 3,
        }
        return self._choose.choices(list(kinds), list(kinds.values()))[0]

    def _request(
        self,
        operation: str,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.load.site.port, timeout=60)
        try:
            try:
                connection.connect()
            except OSError as err:
                raise NotSent(str(err)) from err
            sent = {"Connection": "close", **(headers or {})}
            chunked = body is not None and not isinstance(body, bytes)
            if chunked:
                sent["Transfer-Encoding"] = "chunked"
            try:
                connection.request(method, path, body, sent, encode_chunked=chunked)
                response = connection.getresponse()
                data = response.read()
            except TimeoutError as err:
                self.load.violated(f"{operation}: no response within a minute")
                raise InDoubt("timed out") from err
            except (OSError, http.client.HTTPException) as err:
                raise InDoubt("cut") from err
            if method == "HEAD":
                data = b""
            reply = Reply(response.status, response.reason, response.getheaders(), data)
        finally:
            connection.close()
        if reply.status in UNAVAILABLE:
            raise InDoubt(str(reply.status))
        self.load.note(operation, reply.status)
        if reply.status >= 500:
            self.load.violated(f"{operation} {path}: {reply.status} {reply.body[:200]!r}")
            raise InDoubt(str(reply.status))
        return reply

    def _expect(self, reply: Reply, operation: str, image: Image, *statuses: int) -> bool:
        if reply.status in statuses:
            return True
        self.load.violated(
            f"{operation} of {image.token} ({image.id}, possible: {sorted(image.states)}): "
            f"{reply.status} {reply.body[:200]!r}"
        )
        return False

    # -- operations ------------------------------------------------------------------------------

    def _new(self) -> Image:
        self._count += 1
        token = f"c{self._number}-{self._count}"
        size = self._choose.choice((1, 1000, 65536, 65537, 300_000, 2_000_000))
        image = Image(token, self._choose.randbytes(size))
        image.names = {f"{token} 0"}
        self.images.append(image)
        return image

    def _body(self, data: bytes) -> bytes | Iterator[bytes]:
        """Return the data whole, or in pieces with pauses, so that a kill meets it half-way."""
        return data if self._choose.random() < 0.6 else slowly(data)

    def _upload_headers(self, image: Image) -> dict[str, str]:
        checksum = hashlib.md5(image.data).hexdigest()
        return {
            "Content-Type": "application/octet-stream",
            **({} if self._choose.random() < 0.5 else meta_headers(checksum=checksum)),
        }

    def _create(self) -> None:
        image = self._new()
        (name,) = image.names
        headers = {
            **self._upload_headers(image),
            **meta_headers(name=name, is_public="true", property_token=image.token),
        }
        try:
            reply = self._request("create", "POST", "/v1/images", headers, self._body(image.data))
        except InDoubt:
            image.states = {"absent", "killed", "active"}
            raise
        if self._expect(reply, "create", image, 201):
            image.id, image.states = str(reply.json()["image"]["id"]), {"active"}

    def _reserve_and_fill(self) -> None:
        image = self._new()
        (name,) = image.names
        headers = meta_headers(name=name, is_public="true", property_token=image.token)
        try:
            reply = self._request("reserve", "POST", "/v1/images", headers)
        except InDoubt:
            image.states = {"absent", "queued"}
            raise
        if not self._expect(reply, "reserve", image, 201):
            return
        image.id, image.states = str(reply.json()["image"]["id"]), {"queued"}
        try:
            headers = self._upload_headers(image)
            reply = self._request("fill", "PUT", image.path, headers, self._body(image.data))
        except InDoubt:
            image.states = {"queued", "killed", "active"}
            raise
        if self._expect(reply, "fill", image, 200):
            image.states = {"active"}

    def _one(self, *, active: bool = False) -> Image:
        found = [
            image
            for image in self.images
            if image.id and (image.is_active if active else image.states != {"absent"})
        ]
        if not found:
            raise NotSent("nothing to choose from")
        return self._choose.choice(found)

    def _update(self) -> None:
        image = self._one(active=True)
        self._count += 1
        name = f"{image.token} {self._count}"
        headers = {**meta_headers(name=name), "x-glance-registry-purge-props": "false"}
        try:
            reply = self._request("update", "PUT", image.path, headers)
        except InDoubt:
            image.names.add(name)
            raise
        if self._expect(reply, "update", image, 200):
            image.names = {name}

    def _share(self) -> None:
        image = self._one(active=True)
        member = self._choose.choice(MEMBERS)
        add = self._choose.random() < 0.6
        method = "PUT" if add else "DELETE"
        try:
            reply = self._request("share", method, f"{image.path}/members/{member}")
        except InDoubt:
            if image.members.get(member, False) is not add:
                image.members[member] = None
            raise
        # Deleting a membership that is not there is a 404.
        statuses = (204,) if add or image.members.get(member) else (204, 404)
        if self._expect(reply, "share", image, *statuses):
            image.members[member] = add

    def _delete_image(self) -> None:
        image = self._one()
        certain = "absent" not in image.states
        try:
            reply = self._request("delete", "DELETE", image.path)
        except InDoubt:
            image.states = image.states | {"absent"}
            raise
        # An upload whose client has gone may still hold the image for a moment.
        if reply.status == 409 and len(image.states) > 1:
            return
        if self._expect(reply, "delete", image, *((200,) if certain else (200, 404))):
            image.states = {"absent"}

    def _read(self) -> None:
        image = self._one()
        reply = self._request("read", "GET", image.path)
        statuses = (200,) if image.is_active else (404,) if image.states == {"absent"} else ()
        check_read(self.load, image, reply, statuses or (200, 404))

    def _list(self) -> None:
        image = self._one(active=True)
        (name, *others) = image.names
        if others:
            raise NotSent("its name is in doubt")
        reply = self._request("list", "GET", f"/v1/images/detail?name={name.replace(' ', '%20')}")
        if self._expect(reply, "list", image, 200):
            found = [str(entry["id"]) for entry in reply.json()["images"]]
            if found != [image.id]:
                self.load.violated(f"list of {name!r}: {found} instead of {image.id}")


def _name(operation: Any) -> str:
    # NOTE: a method of a thread must not be called `_delete`: a thread calls that at its end.
    return str(operation.__name__.strip("_").removesuffix("_image"))


def check_read(load: Load, image: Image, reply: Reply, statuses: tuple[int, ...]) -> None:
    """Note a violation unless a download has one of `statuses` and, if any, the right bytes."""
    if reply.status not in statuses:
        load.violated(
            f"read of {image.token} ({image.id}, possible: {sorted(image.states)}): "
            f"{reply.status} {reply.body[:200]!r}"
        )
    elif reply.status == 200 and reply.body != image.data:
        load.violated(f"read of {image.token} ({image.id}): wrong bytes")


def slowly(data: bytes) -> Iterator[bytes]:
    step = max(1, len(data) // 8)
    for begin in range(0, len(data), step):
        time.sleep(0.02)
        yield data[begin : begin + step]

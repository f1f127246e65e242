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
import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

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
    uuid: str | None = None
    states: set[str] = dataclasses.field(default_factory=lambda: {"absent"})
    names: set[str] = dataclasses.field(default_factory=set)
    members: dict[str, bool | None] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/v1/images/{self.id}"

    @property
    def path2(self) -> str:
        return f"/v2/images/{self.uuid}"

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
            self._create_and_fill_by_v2: 3,
            self._update: 3,
            self._patch: 2,
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

    def _create_and_fill_by_v2(self) -> None:
        image = self._new()
        (name,) = image.names
        uuid = str(UUID(int=self._choose.getrandbits(128), version=4))
        values = {"id": uuid, "name": name, "visibility": "public", "token": image.token}
        body = json.dumps({**values, "disk_format": "raw", "container_format": "bare"}).encode()
        try:
            reply = self._request("create by v2", "POST", "/v2/images", {}, body)
        except InDoubt:
            image.states = {"absent", "queued"}
            raise
        if not self._expect(reply, "create by v2", image, 201):
            return
        image.id, image.uuid = reply.header("x-openstack-image-v1-id"), uuid
        image.states = {"queued"}
        headers = {"Content-Type": "application/octet-stream"}
        if self._choose.random() < 0.5:
            headers["X-OpenStack-Image-Size"] = str(len(image.data))
        try:
            path = f"{image.path2}/file"
            reply = self._request("fill by v2", "PUT", path, headers, self._body(image.data))
        except InDoubt:
            # Never killed: the same request can be sent once more.
            image.states = {"queued", "active"}
            raise
        if self._expect(reply, "fill by v2", image, 204):
            image.states = {"active"}

    def _patch(self) -> None:
        image = self._one(active=True)
        if image.uuid is None:
            raise NotSent("its uuid is not known")
        self._count += 1
        name = f"{image.token} {self._count}"
        body = json.dumps([{"op": "replace", "path": "/name", "value": name}]).encode()
        headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        try:
            reply = self._request("patch by v2", "PATCH", image.path2, headers, body)
        except InDoubt:
            image.names.add(name)
            raise
        if self._expect(reply, "patch by v2", image, 200):
            image.names = {name}
            if reply.json()["name"] != name:
                self.load.violated(f"patch of {image.token}: {reply.json()['name']!r}")

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
        by_v2 = image.uuid is not None and self._choose.random() < 0.5
        operation, path = ("delete by v2", image.path2) if by_v2 else ("delete", image.path)
        done = 204 if by_v2 else 200
        try:
            reply = self._request(operation, "DELETE", path)
        except InDoubt:
            image.states = image.states | {"absent"}
            raise
        # An upload whose client has gone may still hold the image for a moment.
        if reply.status == 409 and len(image.states) > 1:
            return
        if self._expect(reply, operation, image, *((done,) if certain else (done, 404))):
            image.states = {"absent"}

    def _read(self) -> None:
        image = self._one()
        by_v2 = image.uuid is not None and self._choose.random() < 0.5
        operation, path = ("read by v2", f"{image.path2}/file") if by_v2 else ("read", image.path)
        reply = self._request(operation, "GET", path)
        statuses = (200,) if image.is_active else (404,) if image.states == {"absent"} else ()
        # Version 2 says of an image without data that there is none.
        check_read(self.load, image, reply, statuses or ((200, 204, 404) if by_v2 else (200, 404)))

    def _list(self) -> None:
        image = self._one(active=True)
        (name, *others) = image.names
        if others:
            raise NotSent("its name is in doubt")
        by_v2 = image.uuid is not None and self._choose.random() < 0.5
        path, wanted = ("/v2/images", image.uuid) if by_v2 else ("/v1/images/detail", image.id)
        operation = "list by v2" if by_v2 else "list"
        reply = self._request(operation, "GET", f"{path}?name={name.replace(' ', '%20')}")
        if self._expect(reply, operation, image, 200):
            found = [str(entry["id"]) for entry in reply.json()["images"]]
            if found != [wanted]:
                self.load.violated(f"list of {name!r}: {found} instead of {wanted}")


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

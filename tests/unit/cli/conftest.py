"""The `glance` program in this process, against a small API that keeps its images in a dict."""

import hashlib
import io
import json
import re
import sys
import urllib.parse
from dataclasses import dataclass

import pytest

from glance.cli.user import command

ATTRIBUTES = {
    "name": None,
    "status": "queued",
    "size": 0,
    "is_public": False,
    "disk_format": None,
    "container_format": None,
    "checksum": None,
    "min_disk": 0,
    "min_ram": 0,
    "owner": None,
    "deleted": False,
}
SHORT = ("id", "name", "size", "disk_format", "container_format", "checksum")


class Api:
    """Just enough of Images API v1; `refuse` maps (method, path) to the answer of a refusal.

    With `hides_private`, lists have private images only for `is_public=none`, as the server's do
    for an administrator without an owner. `second` has what version 2 shows, by number; without
    `serves_v2`, the server tells the UUIDs of these images and no more.
    """

    hides_private = False
    serves_v2 = True

    def __init__(self):
        self.images = {}
        self.second = {}
        self.members = {}
        self.refuse = {}

    def add(self, **values):
        image_id = max(self.images, default=0) + 1
        self.images[image_id] = {"id": image_id, **ATTRIBUTES, "properties": {}, **values}
        return image_id

    def __call__(self, seen):
        url = urllib.parse.urlsplit(seen.target)
        path, query = url.path.removeprefix("/v1"), dict(urllib.parse.parse_qsl(url.query))
        if (seen.method, path) in self.refuse:
            return self.refuse[seen.method, path]
        if path.startswith("/v2"):
            return self.get_v2(path)
        if path in ("/images", "/images/detail"):
            return self.post(seen) if seen.method == "POST" else self.list(path, query)
        if path.startswith("/shared-images/"):
            return {"shared_images": self.members.get(path.rpartition("/")[2], [])}
        match = re.fullmatch(r"/images/(\d+|[0-9A-Fa-f-]{36})(/members)?(?:/([^/]+))?", path)
        image = self.images.get(self.number(match[1])) if match else None
        if image is None:
            return (404, b"404 Not Found\n\nNo such image.\n")
        if match[2]:
            if seen.method == "GET":
                return {"members": self.members.get(image["id"], [])}
            return (204,)
        return getattr(self, seen.method.lower())(seen, image)

    def number(self, text):
        if text.isdigit():
            return int(text)
        found = (number for number, shown in self.second.items() if shown["id"] == text.lower())
        return next(found, None)

    def get_v2(self, path):
        if not self.serves_v2:
            return (300, b'{"versions": [{"id": "v1.1"}, {"id": "v1.0"}]}')
        number = self.number(path.rpartition("/")[2])
        return self.second.get(number, (404, b"404 Not Found\n\nNo such image.\n"))

    def list(self, path, query):
        up = query.get("sort_dir") == "asc"
        found = sorted(self.images.values(), key=lambda image: image["id"] * (1 if up else -1))
        if "name" in query:
            found = [image for image in found if image["name"] == query["name"]]
        if self.hides_private and query.get("is_public") != "none":
            found = [image for image in found if image["is_public"]]
        if "marker" in query:
            places = [image["id"] for image in found]
            found = found[places.index(int(query["marker"])) + 1 :]
        found = found[: int(query.get("limit", 25))]
        if path == "/images":
            found = [{key: image[key] for key in SHORT} for image in found]
        return {"images": found}

    def meta(self, seen):
        values, properties = {}, {}
        for name, text in seen.headers.items():
            text = text.encode("latin-1").decode()
            if name.startswith("x-image-meta-property-"):
                properties[name[22:].replace("-", "_")] = text
            elif name.startswith("x-image-meta-"):
                values[name[13:].replace("-", "_")] = text
        if "is_public" in values:
            values["is_public"] = values["is_public"] == "True"
        return {**values, "properties": properties}

    def post(self, seen):
        image = self.images[self.add(**self.meta(seen))]
        if "transfer-encoding" in seen.headers or seen.body:
            md5 = hashlib.md5(seen.body).hexdigest()
            image.update(status="active", size=len(seen.body), checksum=md5)
        return (201, json.dumps({"image": image}).encode(), self.named(image))

    def put(self, seen, image):
        meta = self.meta(seen)
        if seen.headers.get("x-glance-registry-purge-props") == "false":
            meta["properties"] = {**image["properties"], **meta["properties"]}
        image.update(meta)
        return (200, json.dumps({"image": image}).encode(), self.named(image))

    def head(self, seen, image):
        headers = {f"x-image-meta-{k}": "" if v is None else v for k, v in image.items()}
        del headers["x-image-meta-properties"]
        for name, text in image["properties"].items():
            headers[f"x-image-meta-property-{name}"] = text
        return (200, b"", {**headers, **self.named(image)})

    def named(self, image):
        shown = self.second.get(image["id"])
        return {"X-Openstack-Image-Uuid": shown["id"]} if shown else {}

    def delete(self, seen, image):
        del self.images[image["id"]]
        return b""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self):
        return self.out.splitlines()


@pytest.fixture
def api(loopback):
    fake = Api()
    fake.server = loopback.answering(fake)
    return fake


class Stdin(io.TextIOWrapper):
    """Standard input that holds `data`; a terminal if `terminal`."""

    def __init__(self, data=b"", terminal=False):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def glance(api, monkeypatch, capsys):
    """Run the program: `glance("show", "1")`; `stdin` is bytes, or a text of answers.

    `terminal` makes standard input one, `reading` standard output, `watching` standard error.
    """
    for name in list(command.os.environ):
        if name.startswith(("OS_", "GLANCE_")):
            monkeypatch.delenv(name)

    def run(*args, stdin=b"", terminal=False, env=(), port=None, reading=False, watching=False):
        for name, value in dict(env).items():
            monkeypatch.setenv(name, value)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", Stdin(data, terminal))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: reading, raising=False)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: watching, raising=False)
        place = ["--host=127.0.0.1", f"--port={port or api.server.port}"]
        code = command.main([*args[:1], *place, *args[1:]] if args else [])
        return Done(code, *capsys.readouterr())

    return run

"""Where sites of real daemons put their images: files, a real Swift, its S3.

Each kind says which options a site needs, and shows what its part of the backend holds. A whole
run uses one of them (`pytest --store swift`); a test that wants a certain one gives it to its
site.
"""

from __future__ import annotations

import pathlib
import secrets
from typing import Any, Protocol

from support.swift_node import KEY, USER, SwiftNode


class Place(Protocol):
    """Where the images of one site go."""

    kind: str

    def options(self) -> dict[str, Any]:
        """Return the site's options for glance-api and glance-scrubber."""
        ...

    def held(self) -> list[pathlib.Path]:
        """Return everything that is there: images, parts of them, uploads under way.

        A name is the image's id, or begins with it and `.` or `-`.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return the bytes of what is there under a name."""
        ...

    def lose(self, name: str) -> None:
        """Remove something behind the service's back."""
        ...

    def plant(self, name: str, data: bytes) -> None:
        """Put something there that is not the service's."""
        ...


class Files:
    """The file store, in a directory of the site."""

    kind = "file"

    def __init__(self, directory: pathlib.Path):
        self.directory = directory

    def options(self) -> dict[str, Any]:
        return {"default_store": "file", "filesystem_store_datadir": self.directory}

    def held(self) -> list[pathlib.Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def lose(self, name: str) -> None:
        (self.directory / name).unlink()

    def plant(self, name: str, data: bytes) -> None:
        (self.directory / name).write_bytes(data)


class Container:
    """A container of its own in a Swift; images from 2 MiB on have segments of 1 MiB.

    `port` is a proxy's before the Swift. Traces of uploads under way are shown as well.
    """

    kind = "swift"

    def __init__(self, node: SwiftNode, spool_dir: pathlib.Path, port: int | None = None):
        self.node, self.spool_dir, self.port = node, spool_dir, port
        self.name = f"site-{secrets.token_hex(4)}"
        spool_dir.mkdir(parents=True, exist_ok=True)

    def options(self) -> dict[str, Any]:
        return {
            "default_store": "swift",
            "swift_store_container": self.name,
            "swift_store_large_object_size": 2,
            "swift_store_large_object_chunk_size": 1,
            "swift_store_retries": 1,
            **self.node.store_options(self.spool_dir, port=self.port),
        }

    def held(self) -> list[pathlib.Path]:
        return sorted(map(pathlib.Path, self.node.names(self.name)))

    def read(self, name: str) -> bytes:
        status, _, data = self.node.request("GET", f"/{self.name}/{name}")
        assert status == 200, name
        return data

    def lose(self, name: str) -> None:
        assert self.node.request("DELETE", f"/{self.name}/{name}")[0] == 204, name

    def plant(self, name: str, data: bytes) -> None:
        self.node.request("PUT", f"/{self.name}")
        assert self.node.request("PUT", f"/{self.name}/{name}", body=data)[0] == 201, name


class Bucket(Container):
    """The same by way of Swift's S3; images from 5 MiB on have several parts."""

    kind = "s3"

    def options(self) -> dict[str, Any]:
        return {
            "default_store": "s3",
            "s3_store_host": f"http://127.0.0.1:{self.port or self.node.port}",
            "s3_store_access_key": USER,
            "s3_store_secret_key": KEY,
            "s3_store_bucket": self.name,
            "s3_store_create_bucket_on_put": True,
            "s3_store_large_object_size": 5,
            "s3_store_large_object_chunk_size": 5,
            "s3_store_object_buffer_dir": self.spool_dir,
            "s3_store_retries": 1,
        }


class Run:
    """What `--store` chose for this run."""

    kind = "file"
    node: SwiftNode | None = None


def place(directory: pathlib.Path) -> Place:
    """Return where a site in `directory` puts its images."""
    if Run.node is None:
        return Files(directory / "images")
    kinds = {"swift": Container, "s3": Bucket}
    return kinds[Run.kind](Run.node, directory / "spool")

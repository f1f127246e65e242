"""HTTP as a test wants it: every header and byte visible, nothing added behind one's back."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any

TIMEOUT = 60


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name, whatever its case; None if there is none."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def meta(self) -> dict[str, str]:
        """Return the x-image-meta-* headers by the rest of their names, underscores inside."""
        return {
            name.lower().removeprefix("x-image-meta-").replace("-", "_"): value
            for name, value in self.headers
            if name.lower().startswith("x-image-meta-")
        }

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """Requests to one port of loopback, a new connection for each unless used as a context."""

    def __init__(self, port: int):
        self.port = port

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """Send and read everything. `body`: bytes, a file, or an iterable (sent chunked)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            sent = {"Connection": "close", **(headers or {})}
            chunked = is_stream(body) and "Content-Length" not in sent
            if chunked:
                sent["Transfer-Encoding"] = "chunked"
            # A refusal may come, and the connection be reset, while the body is still being sent.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.request(method, path, body=body, headers=sent, encode_chunked=chunked)
            return read_reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.request("GET", path, headers)

    def head(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.request("HEAD", path, headers)

    def post(self, path: str, headers: Mapping[str, str] | None = None, body: Any = b"") -> Reply:
        return self.request("POST", path, headers, body)

    def put(self, path: str, headers: Mapping[str, str] | None = None, body: Any = b"") -> Reply:
        return self.request("PUT", path, headers, body)

    def delete(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.request("DELETE", path, headers)

    def put_json(
        self, path: str, value: Any, headers: Mapping[str, str] | None = None, method: str = "PUT"
    ) -> Reply:
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.request(method, path, sent, json.dumps(value).encode())

    def add(self, data: Any, headers: Mapping[str, str] | None = None, **meta: Any) -> Reply:
        """POST an image; keyword arguments become x-image-meta-* headers (`_` becomes `-`)."""
        sent = {"Content-Type": "application/octet-stream", **meta_headers(**meta)}
        return self.post("/v1/images", {**sent, **(headers or {})}, data)

    def exchange(self, data: bytes, *, shut: bool = False) -> bytes:
        """Send raw bytes and return all that comes until the server closes.

        `shut` closes the sending side first, as a client does that has gone.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as connection:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


def is_stream(body: Any) -> bool:
    return (
        isinstance(body, Iterable) and not isinstance(body, bytes | str) or hasattr(body, "read")
    )


def meta_headers(**meta: Any) -> dict[str, str]:
    return {f"x-image-meta-{name.replace('_', '-')}": str(value) for name, value in meta.items()}


def read_reply(response: http.client.HTTPResponse) -> Reply:
    body = response.read()
    return Reply(response.status, response.reason, response.getheaders(), body)


def identity(tenant: str | None, roles: str = "member", user: str | None = None) -> dict[str, str]:
    """Return the headers by which a trusted stage in front of glance names a caller.

    `tenant` None: a caller nobody has vouched for.
    """
    if tenant is None:
        return {}
    return {
        "X-Identity-Status": "Confirmed",
        "X-Tenant-Id": tenant,
        "X-User-Id": user or f"user-of-{tenant}",
        "X-Roles": roles,
        "X-Auth-Token": f"token-of-{tenant}",
    }


ADMIN = identity("admins", roles="admin")

"""A pass-through in front of an API that counts what reaches it, and fails when a test says so."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

from support import faults
from support.rawhttp import TIMEOUT

_PIECE = 1 << 16


@dataclasses.dataclass
class Seen:
    """One request that reached the API. `status` is None until it has responded.

    The names of `headers` are in lower case; `token` is passed on even if a test changes it.
    `sent` counts the bytes of the body that went back; nothing happens after `is_over`.
    """

    method: str
    path: str
    headers: dict[str, str]
    token: str | None
    status: int | None = None
    sent: int = 0
    is_over: bool = False


class Relay:
    """Passes each request on to a port of loopback, with a connection of its own.

    A context manager. `seen` holds the requests in the order of their arrival. `before` is called
    with a request before it is passed on, in a thread of its own, and may wait. A body that comes
    back is stopped after `limit` bytes, if that is not None: `at_limit` is called then, and may
    wait; what it returns says how the body goes on.
    """

    GO_ON, CLOSE, RESET = "go on", "close", "reset"

    def __init__(self, target: int, port: int = 0):
        self.target = target
        self.seen: list[Seen] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.behave()

    def behave(self) -> None:
        """Let everything through, at once."""
        self.before: Callable[[Seen], object] = lambda seen: None
        self.limit: int | None = None
        self.at_limit: Callable[[], str] = lambda: self.GO_ON

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        # NOTE: closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def settle(self) -> None:
        """Wait until nothing is on its way any more."""
        faults.until(lambda: all(one.is_over for one in self.seen), "all responses have ended")

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[Seen]]:
        """Give a list that holds, after the block, the requests that came within it."""
        self.settle()
        first, found = len(self.seen), list[Seen]()
        yield found
        self.settle()
        found += self.seen[first:]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        with contextlib.suppress(OSError), connection:
            head, rest = _head(connection)
            if not head:
                return
            first, *lines = head.split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = {
                name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
            }
            seen = Seen(method, path, headers, headers.get("x-auth-token"))
            self.seen.append(seen)
            try:
                self.before(seen)
                dropped = ("connection:", "x-auth-token:")
                kept = [line for line in lines if not line.lower().startswith(dropped)]
                kept += ["Connection: close"]
                if seen.token is not None:
                    kept += [f"X-Auth-Token: {seen.token}"]
                sent = "\r\n".join([first, *kept, "", ""]).encode("latin-1")
                with socket.create_connection(("127.0.0.1", self.target), TIMEOUT) as api:
                    api.sendall(sent + rest)
                    pump = threading.Thread(target=_pump, args=(connection, api), daemon=True)
                    pump.start()
                    try:
                        how = self._back(seen, api, connection)
                        if how == self.RESET:
                            lingering = struct.pack("ii", 1, 0)
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
                        else:
                            connection.shutdown(socket.SHUT_WR)
                            # Who is still sending has to read the response first.
                            pump.join(5)
                    finally:
                        # NOTE: a thread that waits in recv keeps a socket from being closed.
                        for one in (connection, api):
                            with contextlib.suppress(OSError):
                                one.shutdown(socket.SHUT_RD)
                        pump.join(TIMEOUT)
            finally:
                seen.is_over = True

    def _back(self, seen: Seen, api: socket.socket, connection: socket.socket) -> str:
        """Pass the response on; return how the connection is to end."""
        while True:
            head, rest = _head(api)
            if not head.startswith("HTTP/1.1 100"):
                break
            connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + rest)
        if not head:
            return self.CLOSE
        status = re.match(r"HTTP/1\.\d (\d+)", head)
        assert status, head
        seen.status = int(status[1])
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n")
        piece = rest
        while piece or (piece := api.recv(_PIECE)):
            limit = self.limit
            if limit is not None and seen.sent + len(piece) >= limit:
                piece, rest = (
                    piece[: max(limit - seen.sent, 0)],
                    piece[max(limit - seen.sent, 0) :],
                )
                connection.sendall(piece)
                seen.sent += len(piece)
                how = self.at_limit()
                if how != self.GO_ON:
                    return how
                piece = rest
            connection.sendall(piece)
            seen.sent += len(piece)
            piece = b""
        return self.CLOSE


def _head(connection: socket.socket) -> tuple[str, bytes]:
    """Read the head of a message; return it without its end, and what came of the body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_PIECE)
        if not piece:
            return "", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes after the head of a request, and go on reading if nobody takes it."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            with contextlib.suppress(OSError):
                target.sendall(piece)

"""Clients that cost little themselves: one big transfer, or many small requests."""

from __future__ import annotations

import os
import pathlib
import selectors
import socket
import time

BUFFER = 1 << 20


def download(port: int, path: str) -> tuple[float, int]:
    """Return the seconds of one GET and the bytes of its body."""
    view = memoryview(bytearray(BUFFER))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begin = time.perf_counter()
        connection.sendall(request("GET", path, "Connection: close"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        status, _, rest = head.partition(b"\r\n\r\n")
        if b" 200 " not in status.splitlines()[0]:
            raise SystemExit(f"download failed: {status!r}")
        size = len(rest)
        while got := connection.recv_into(view):
            size += got
        return time.perf_counter() - begin, size


def upload(port: int, path: pathlib.Path) -> tuple[float, str]:
    """Return the seconds until the image of a file is active, and the path of the image."""
    size = path.stat().st_size
    fields = ("Content-Type: application/octet-stream", f"Content-Length: {size}")
    fields += ("x-image-meta-name: bench", "x-image-meta-disk-format: raw", "Connection: close")
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as data:
        begin = time.perf_counter()
        connection.sendall(request("POST", "/v1/images", *fields))
        connection.sendfile(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        seconds = time.perf_counter() - begin
    lines = answer.decode("latin-1").split("\r\n")
    if " 201 " not in lines[0]:
        raise SystemExit(f"upload failed: {answer!r}")
    location = next(line for line in lines if line.lower().startswith("location:"))
    return seconds, "/v1/images/" + location.rpartition("/")[2].strip()


def rate(port: int, method: str, path: str, *, seconds: float, connections: int) -> float:
    """Return the answers per second over kept connections, each with one request in flight."""
    message = request(method, path)
    wanted = answer_length(port, message, method)
    open_sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    outstanding = dict.fromkeys(open_sockets, wanted)
    answers = 0
    with selectors.DefaultSelector() as selector:
        for connection in open_sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(message)
            selector.register(connection, selectors.EVENT_READ)
        begin = time.perf_counter()
        while (passed := time.perf_counter() - begin) < seconds:
            for key, _ in selector.select(1):
                connection = key.fileobj
                got = len(connection.recv(BUFFER))
                if not got:
                    raise SystemExit("the server closed a kept connection")
                outstanding[connection] -= got
                if outstanding[connection] <= 0:
                    answers += 1
                    outstanding[connection] = wanted
                    connection.sendall(message)
    for connection in open_sockets:
        connection.close()
    return answers / passed


def answer_length(port: int, message: bytes, method: str) -> int:
    """Return the bytes of the whole answer to a request: every answer has as many."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(message)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(BUFFER)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise SystemExit(f"{method} failed: {head!r}")
        length = 0
        if method != "HEAD":
            fields = (line.partition(b":") for line in head.splitlines())
            length = next(int(v) for name, _, v in fields if name.lower() == b"content-length")
        while len(body) < length:
            body += connection.recv(BUFFER)
        return len(head) + 4 + length


def request(method: str, path: str, *fields: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields)
    return "\r\n".join((*lines, "", "")).encode()


def write_random(path: pathlib.Path, size: int) -> None:
    """Write bytes that neither compress nor repeat within a few megabytes."""
    block = os.urandom(8 << 20)
    with path.open("wb") as data:
        while size > 0:
            data.write(block[:size])
            size -= len(block)

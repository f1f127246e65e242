"""Clients that cost little themselves: one big transfer, or many small requests."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import selectors
import socket
import time
from typing import BinaryIO

BUFFER = 1 << 20


#: The body of a request that creates an image by version 2.
CREATION = b'{"name": "bench", "disk_format": "raw", "container_format": "bare", "os": "linux"}'


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


def upload(port: int, path: pathlib.Path, pace: float = 0) -> tuple[float, str]:
    """Return the seconds until the image of a file is active, and the path of the image.

    `pace` is how many MiB per second the client sends at most, 0 for as many as it can.
    """
    fields = ("x-image-meta-name: bench", "x-image-meta-disk-format: raw")
    seconds, lines = _send_file(port, path, pace, "POST", "/v1/images", *fields)
    location = next(line for line in lines if line.lower().startswith("location:"))
    return seconds, "/v1/images/" + location.rpartition("/")[2].strip()


def upload_v2(port: int, path: pathlib.Path, pace: float = 0) -> tuple[float, str]:
    """As `upload`, by version 2: the record, and then its data."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v2/images", CREATION)
    image = json.load(connection.getresponse())["self"]
    connection.close()
    before = time.perf_counter() - begin
    return before + _send_file(port, path, pace, "PUT", f"{image}/file")[0], image


def _send_file(
    port: int, path: pathlib.Path, pace: float, method: str, target: str, *more: str
) -> tuple[float, list[str]]:
    """Send a file; return the seconds until the response, and the lines of that."""
    size = path.stat().st_size
    fields = ("Content-Type: application/octet-stream", f"Content-Length: {size}", *more)
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as data:
        begin = time.perf_counter()
        connection.sendall(request(method, target, *fields, "Connection: close"))
        _send(connection, data, size, pace)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        seconds = time.perf_counter() - begin
    lines = answer.decode("latin-1").split("\r\n")
    if lines[0].split()[1:2] not in (["201"], ["204"]):
        raise SystemExit(f"upload failed: {answer!r}")
    return seconds, lines


def _send(connection: socket.socket, data: BinaryIO, size: int, pace: float) -> None:
    if not pace:
        connection.sendfile(data)
        return
    begin = time.perf_counter()
    for position in range(0, size, BUFFER):
        time.sleep(max(0, begin + position / BUFFER / pace - time.perf_counter()))
        connection.sendfile(data, position, min(BUFFER, size - position))


def rate(port: int, message: bytes, *, seconds: float, connections: int) -> tuple[float, int]:
    """Send one request over and over; return the answers per second and how many there were.

    Each connection is kept and has one request in flight. Every answer must have as many bytes.
    """
    wanted = answer_length(port, message)
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
    return answers / passed, answers


def answer(port: int, message: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status, headers and body of the answer to a request that succeeds."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(message)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(BUFFER)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = first.partition(" ")[2]
        if not status.startswith("20"):
            raise SystemExit(f"{message!r} failed: {head!r}")
        fields = [(name, value.strip()) for name, _, value in (x.partition(":") for x in lines)]
        length = 0
        if not message.startswith(b"HEAD"):
            length = next(int(v) for name, v in fields if name.lower() == "content-length")
        while len(body) < length:
            body += connection.recv(BUFFER)
        return status, fields, body


def answer_length(port: int, message: bytes) -> int:
    """Return the bytes of the whole answer to a request."""
    status, headers, body = answer(port, message)
    lines = sum(len(name) + len(value) + 4 for name, value in headers)
    return len("HTTP/1.1 \r\n") + len(status) + lines + 2 + len(body)


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

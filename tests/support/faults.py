"""Ways to make things go wrong: clients that break off, full disks, web servers that lie."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import pytest

from support import daemons
from support.rawhttp import TIMEOUT, Reply, meta_headers, read_reply

T = TypeVar("T")

#: Longest time, in seconds, that anything may take which is to happen by itself.
PATIENCE = 20

# NOTE: beyond those that a service may have counted, for it counts on behind them.
_ids = itertools.count(2**30)


def new_id() -> int:
    """Return an image id that no other test of this run proposes."""
    return next(_ids)


def until(happened: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Wait until `happened` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} seconds")
        time.sleep(0.02)
    return result


# -- what a failure left -------------------------------------------------------------------------


def status_of(site: daemons.Site, image_id: int) -> str | None:
    """Return the status of an image, None if there is no such image (any more)."""
    reply = site.http.head(f"/v1/images/{image_id}")
    if reply.status == 404:
        return None
    assert reply.status == 200, reply
    return reply.meta()["status"]


def until_status(site: daemons.Site, image_id: int, wanted: str | None) -> None:
    def reached() -> bool:
        try:
            return status_of(site, image_id) == wanted
        except (AssertionError, OSError, http.client.HTTPException):
            # A daemon that is just coming up.
            return False

    until(reached, f"image {image_id} becomes {wanted}")


def files_of(site: daemons.Site, image_id: int) -> list[pathlib.Path]:
    """Return the files of an image in the data directory: complete, or on their way in."""
    name = str(image_id)
    return [path for path in site.data_files() if re.split("[.-]", path.name)[0] == name]


def until_no_file(site: daemons.Site, image_id: int) -> None:
    until(lambda: not files_of(site, image_id), f"no file of image {image_id} is left")


def assert_killed(site: daemons.Site, image_id: int) -> None:
    """The upload is settled: the record killed, no data to be had, no file left."""
    until_status(site, image_id, "killed")
    until_no_file(site, image_id)
    assert site.http.get(f"/v1/images/{image_id}").status == 404


def assert_active(site: daemons.Site, image_id: int, data: bytes) -> None:
    """The image is complete, and its one file is all that it left in the data directory."""
    reply = site.http.get(f"/v1/images/{image_id}")
    assert (reply.status, reply.meta()["status"]) == (200, "active")
    assert reply.body == data
    # What is not the client's to wait for may be on its way out.
    until(
        lambda: files_of(site, image_id) == [site.data_dir / str(image_id)],
        f"image {image_id} has one file",
    )


def reserve(site: daemons.Site, **meta: Any) -> int:
    """Register an image without data; return its id."""
    image_id = new_id()
    reply = site.http.post("/v1/images", meta_headers(id=image_id, **meta))
    assert reply.status == 201, reply
    return image_id


def store(site: daemons.Site, data: bytes) -> int:
    """Upload an image; return its id."""
    image_id = new_id()
    reply = site.http.add(data, id=image_id)
    assert reply.status == 201, reply
    return image_id


# -- clients -------------------------------------------------------------------------------------


class Upload:
    """An upload in the hands of the test: what is sent, when, and how it ends.

    POST with a proposed `image_id`, or PUT of data into that image. `length` becomes the
    Content-Length; without it the body is chunked. A context manager that closes the connection.
    """

    def __init__(
        self,
        site: daemons.Site,
        image_id: int,
        *,
        method: str = "POST",
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
        **meta: Any,
    ):
        self.site, self.image_id = site, image_id
        self.chunked = length is None
        path = "/v1/images" if method == "POST" else f"/v1/images/{image_id}"
        given = meta_headers(id=image_id, **meta) if method == "POST" else meta_headers(**meta)
        sent = {
            "Host": "127.0.0.1",
            "Content-Type": "application/octet-stream",
            **({"Transfer-Encoding": "chunked"} if length is None else {}),
            **({"Content-Length": str(length)} if length is not None else {}),
            **given,
            **(headers or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        self.socket = socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT)
        self.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> Self:
        """Send bytes as they are. A server that has answered already may take no more."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def send(self, data: bytes) -> Self:
        """Send a piece of the image."""
        return self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def until_saving(self) -> Self:
        """Wait until the server has begun to take the data in, with a file for it."""
        until_status(self.site, self.image_id, "saving")
        until(lambda: files_of(self.site, self.image_id), "the upload has a file")
        return self

    def end(self) -> Self:
        """Mark the end of the body."""
        return self.raw(b"0\r\n\r\n") if self.chunked else self

    def hang_up(self) -> Self:
        """Send no more, but wait for an answer."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def vanish(self) -> None:
        """Break the connection, as the kernel of a client that was killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def reply(self) -> Reply:
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return read_reply(response)


class Download:
    """A download in the hands of the test: it takes in little until asked to read on."""

    def __init__(self, site: daemons.Site, image_id: int):
        self.socket = socket.socket()
        # NOTE: set before connecting, or the window is larger already.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(("127.0.0.1", site.port))
        self.socket.sendall(
            f"GET /v1/images/{image_id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        self.response = http.client.HTTPResponse(self.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.response.close()
        self.socket.close()

    def begin(self) -> Self:
        """Wait for status and headers."""
        self.response.begin()
        return self

    def read(self) -> bytes:
        """Read the body to its end; http.client.IncompleteRead if it was cut."""
        return self.response.read()


# -- processes -----------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(daemon: daemons.Daemon) -> Iterator[None]:
    """Let a daemon hang: it takes connections, for the kernel does that, but never answers."""
    pids = daemon.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def openers(site: daemons.Site, image_id: int) -> list[int]:
    """Return the processes of the API that have a file of an image open."""
    names = {str(path) for path in files_of(site, image_id)}
    found = []
    for pid in site.api.pids():
        links = [_link(entry) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        if names.intersection(links):
            found.append(pid)
    return found


def _link(entry: pathlib.Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:
        return ""


def revive(site: daemons.Site) -> None:
    """Start the daemons of a site that a test has ended."""
    for daemon in (site.registry, site.api):
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.start()


# -- disks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_filesystem(directory: pathlib.Path, size: int) -> Iterator[pathlib.Path]:
    """Make `directory` a file system of `size` bytes of its own; skip the test without root."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if os.geteuid() or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root mounts a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def remount(directory: pathlib.Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(directory)], check=True)


@contextlib.contextmanager
def file_size_limit(daemon: daemons.Daemon, size: int) -> Iterator[None]:
    """Let no process of a daemon write a file of more than `size` bytes."""
    old = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in daemon.pids()}
    for pid, (_, hard) in old.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for pid, limits in old.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def descriptor_limit(daemon: daemons.Daemon, more: int) -> Iterator[None]:
    """Let each process of a daemon have only `more` descriptors than it has open now."""
    old = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in daemon.pids()}
    for pid, (_, hard) in old.items():
        highest = max(int(entry.name) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        for pid, limits in old.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def mode(directory: pathlib.Path, bits: int) -> Iterator[None]:
    """Give a directory other permissions for a while."""
    old = stat.S_IMODE(directory.stat().st_mode)
    directory.chmod(bits)
    try:
        yield
    finally:
        directory.chmod(old)


@contextlib.contextmanager
def missing(path: pathlib.Path) -> Iterator[None]:
    """Take a file or directory away for a while."""
    elsewhere = path.with_name(f"{path.name}-elsewhere")
    path.rename(elsewhere)
    try:
        yield
    finally:
        if path.exists():
            shutil.rmtree(path)
        elsewhere.rename(path)


_WITHOUT_PRIVILEGE = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_CAPBSET_READ, PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 23, 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    has = os.geteuid() == 0 and libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1
    if has and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
        sys.exit(os.strerror(ctypes.get_errno()))
os.execv({python!r}, [{python!r}, {program!r}, *sys.argv[1:]])
"""


def obey_permissions(site: daemons.Site) -> None:
    """Make the API of a site, not yet started, heed file permissions even if root runs it."""
    wrapper = site.directory / "glance-api-without-privilege"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    program = str(daemons.BIN / "glance-api")
    wrapper.write_text(_WITHOUT_PRIVILEGE.format(python=sys.executable, program=program))
    site.api.program = str(wrapper)


# -- web servers that lie ------------------------------------------------------------------------

#: What a path of an Origin does: gets the connection and the request's method.
Behaviour = Callable[[socket.socket, str], None]


def answer(
    status: str, body: bytes = b"", *, length: int | None = -1, headers: str = ""
) -> Behaviour:
    """Return the behaviour that sends one answer and closes the connection.

    `length` is the Content-Length to claim: -1 for the truth, None for none.
    """

    def behave(connection: socket.socket, method: str) -> None:
        claimed = len(body) if length == -1 else length
        told = "" if claimed is None else f"Content-Length: {claimed}\r\n"
        head = f"HTTP/1.1 {status}\r\n{told}{headers}Connection: close\r\n\r\n"
        connection.sendall(head.encode() + (b"" if method == "HEAD" else body))

    return behave


def redirect(target: str, status: str = "302 Found") -> Behaviour:
    return answer(status, headers=f"Location: {target}\r\n")


def chunked(*pieces: bytes, complete: bool = True) -> Behaviour:
    """Return the behaviour that sends a body in chunks, without its end unless `complete`."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    end = b"0\r\n\r\n" if complete else b""
    return answer("200 OK", body + end, length=None, headers="Transfer-Encoding: chunked\r\n")


def resetting(first: Behaviour | None = None) -> Behaviour:
    """Return the behaviour that breaks the connection, after what `first` sends."""

    def behave(connection: socket.socket, method: str) -> None:
        if first is not None:
            first(connection, method)
            # What was sent must not be lost to the reset.
            time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


class Origin:
    """A web server on loopback whose paths behave as told; unknown ones give 404.

    A context manager. `requests` holds the request lines that came.
    """

    def __init__(self, port: int = 0) -> None:
        self.paths: dict[str, Behaviour] = {}
        self.default: Behaviour = answer("404 Not Found", b"nothing here")
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stall(self, first: Behaviour | None = None) -> Behaviour:
        """Return the behaviour that sends what `first` does and then nothing any more."""

        def behave(connection: socket.socket, method: str) -> None:
            if first is not None:
                first(connection, method)
            self.closing.wait(TIMEOUT)

        return behave

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        # NOTE: closing alone does not wake the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(TIMEOUT)
            with connection.makefile("rb") as lines:
                line = lines.readline().decode("latin-1")
                length = 0
                while (header := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                lines.read(length)
            self.requests.append(line.strip())
            method, target = (line.split() + ["", ""])[:2]
            self.paths.get(target, self.default)(connection, method)

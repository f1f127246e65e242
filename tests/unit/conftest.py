"""A scripted HTTP server on loopback, for tests of clients.

`loopback(script)` starts one. A script is called once for each connection with a `Peer` and may do
what a real server would not: close between two requests, answer early, stall, talk nonsense. With
a list of scripts, each connection takes the next one and the last one stays.
"""

import contextlib
import json
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from glance.common import metrics


@dataclass
class Seen:
    """A request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    lines: list[str] = field(default_factory=list)

    @property
    def json(self):
        return json.loads(self.body)


class Peer:
    """The server's end of one connection."""

    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.file = sock.makefile("rb")

    def head(self) -> Seen | None:
        """Read a request up to its body; None when the client has closed."""
        first = self.file.readline().decode("latin-1").strip()
        if not first:
            return None
        lines = []
        while line := self.file.readline().decode("latin-1").rstrip("\r\n"):
            lines.append(line)
        pairs = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in lines]
        method, target, _ = first.split(" ")
        seen = Seen(method, target, {name.lower(): value for name, value in pairs}, lines=lines)
        self.server.requests.append(seen)
        return seen

    def request(self) -> Seen | None:
        """Read a whole request."""
        seen = self.head()
        if seen is None:
            return None
        if seen.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.file.readline(), 16):
                parts.append(self.file.read(size))
                self.file.readline()
            self.file.readline()
            seen.body = b"".join(parts)
        else:
            seen.body = self.file.read(int(seen.headers.get("content-length", 0)))
        return seen

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status=200, body=b"", headers=(), length=None) -> None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever"]
        lines += [f"{name}: {value}" for name, value in dict(headers).items()]
        if status != 204:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + body)

    def reset(self) -> None:
        """Close so that the client sees the connection broken."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.file.close()
        with contextlib.suppress(OSError):
            self.sock.close()

    def wait_closed(self) -> None:
        """Wait until the client closes, or the test ends."""
        while not self.server.stopped.is_set():
            if select.select([self.sock], [], [], 0.02)[0] and not self.sock.recv(65536):
                return


class Loopback:
    """The listening side: `port`, the `requests` seen, and how many `connections` were made."""

    def __init__(self, scripts):
        self.scripts = list(scripts)
        self.requests: list[Seen] = []
        self.connections = 0
        self.errors: list[BaseException] = []
        self.stopped = threading.Event()
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.stopped.is_set():
                sock.close()
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            try:
                peer = Peer(self, self.wrap(sock))
            except OSError as err:
                self.errors.append(err)
                sock.close()
                continue
            self._peers.append(peer)
            self._start(self._run, script, peer)

    def wrap(self, sock):
        """Return the socket to talk over; a test of TLS replaces this."""
        return sock

    def _run(self, script, peer):
        try:
            script(peer)
        except (OSError, ValueError) as err:
            self.errors.append(err)
        finally:
            peer.close()

    def stop(self):
        self.stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def answering(handler: Callable) -> Callable:
    """Return a script that keeps the connection and answers as `handler(seen)` says.

    The handler returns the body, or a tuple of arguments for `Peer.answer`.
    """

    def script(peer):
        while (seen := peer.request()) is not None:
            result = handler(seen)
            peer.answer(*result) if isinstance(result, tuple) else peer.answer(200, result)

    return script


@pytest.fixture(autouse=True)
def _what_is_sampled_ends_with_the_test():
    """Databases, stores and workers, which have descriptors, would stay for the whole run."""
    before = list(metrics.samplers())
    yield
    metrics._samplers[:] = before


@pytest.fixture
def loopback():
    servers = []

    def start(*scripts):
        server = Loopback(scripts)
        servers.append(server)
        return server

    start.answering = lambda handler: start(answering(handler))
    yield start
    for server in servers:
        server.stop()


# -- TLS -----------------------------------------------------------------------------------------


class Tls:
    """Certificates of a root, an intermediate and a server, and servers that show the latter.

    The server's certificate is for glance.test and 127.0.0.1, and serves as a client's too. `root`
    is what clients trust, `other` the root of somebody else; all are paths of PEM files.
    """

    python = sys.executable

    def __init__(self, folder, loopback):
        self.root, self.chain, self.key, self.other = (
            str(folder / name) for name in ("root.pem", "chain.pem", "server.key", "other.pem")
        )
        self._loopback = loopback

    def serve(self, handler, *, ask_client=False):
        """Start a loopback server behind TLS that answers as `handler(seen)` says."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.root)
        server = self._loopback.answering(handler)
        server.wrap = lambda sock: context.wrap_socket(sock, server_side=True)
        return server


def _openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Return a folder of keys and certificates: a root, an intermediate, a server."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"]
    for name in ("root", "other"):
        subject = ["-subj", f"/CN={name} of a test", "-days", "2"]
        _openssl(folder, "req", "-x509", *new, f"{name}.key", *subject, "-out", f"{name}.pem")
    for name, issuer, extension in (
        ("middle", "root", "basicConstraints=critical,CA:TRUE"),
        ("server", "middle", "subjectAltName=DNS:glance.test,IP:127.0.0.1"),
    ):
        (folder / f"{name}.ext").write_text(extension)
        request = [*new, f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr"]
        _openssl(folder, "req", *request)
        signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"]
        signed += ["-extfile", f"{name}.ext", "-days", "2", "-out", f"{name}.pem"]
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed)
    chain = (folder / "server.pem").read_text() + (folder / "middle.pem").read_text()
    (folder / "chain.pem").write_text(chain)
    return folder


@pytest.fixture
def tls(certificates, loopback):
    return Tls(certificates, loopback)

"""Servers in processes of their own, and clients that say exactly what they are told."""

import contextlib
import http.client
import io
import json
import os
import pathlib
import secrets
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
PATIENCE = 20


@pytest.fixture
def sockets():
    """Two connected sockets: a client's, and that of a server, which does not block."""
    near, far = socket.socketpair()
    far.setblocking(False)
    near.settimeout(PATIENCE)
    with contextlib.closing(near), contextlib.closing(far):
        yield near, far


class Client:
    """A plain connection to the server."""

    def __init__(self, port, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        self.file = self.sock.makefile("rb")

    def send(self, *lines, body=b""):
        """Send a request head made of `lines`, and a body."""
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.sock.sendall(head.encode("latin-1") + body)

    def raw(self, data):
        self.sock.sendall(data)

    def read(self):
        """Read one answer: (status, headers, body)."""
        response = http.client.HTTPResponse(_Borrowed(self.file))
        response.begin()
        return response.status, response.headers, response.read()

    def rest(self):
        """Read until the server closes."""
        return self.file.read()

    def ask(self, *lines, body=b""):
        self.send(*lines, body=body)
        return self.read()

    def get(self, target, *lines):
        return self.ask(f"GET {target} HTTP/1.1", "Host: x", *lines)

    def close(self):
        self.file.close()
        self.sock.close()


class _Borrowed:
    """What HTTPResponse needs of a socket; reading an answer leaves the file open."""

    def __init__(self, file):
        self.file = file

    def makefile(self, mode):
        return _Open(self.file)


class _Open(io.BufferedIOBase):
    def __init__(self, file):
        self.file = file

    def readable(self):
        return True

    def read(self, *args):
        return self.file.read(*args)

    def read1(self, *args):
        return self.file.read1(*args)

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def readline(self, *args):
        return self.file.readline(*args)

    def close(self):
        pass


class Nursery:
    """The process that starts servers; see application.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "application.py")],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[3])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **wish):
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Server:
    """A server in a process group of its own. `port` is known as soon as it is ready."""

    def __init__(self, nursery, directory, **options):
        name = secrets.token_hex(8)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(f"\0glance-test-{name}")
        self.log_file = directory / f"{name}.log"
        self.stderr = directory / f"{name}.err"
        self.clients = []
        self.status = None
        self._nursery = nursery
        self.pid = nursery.ask(
            options={"verbose": "true", "log_file": str(self.log_file), "workers": 0, **options},
            notify=f"@glance-test-{name}",
            stderr=str(self.stderr),
        )

    def wait_ready(self):
        fields = self.notice()
        assert fields["READY"] == "1"
        self.port = int(fields["STATUS"].rpartition(":")[2])
        return self

    def notice(self):
        """Return the next message to the service manager."""
        deadline = time.monotonic() + PATIENCE
        while not select.select([self.notices], [], [], 0.05)[0]:
            assert self.poll() is None, f"the server ended: {self.stderr.read_text()}"
            assert time.monotonic() < deadline, "the server is silent"
        message = self.notices.recv(4096).decode()
        return dict(line.split("=", 1) for line in message.splitlines())

    def client(self, **options):
        self.clients.append(Client(self.port, **options))
        return self.clients[-1]

    def get(self, target):
        """Return the body of an answer, over a connection of its own."""
        client = self.client()
        return client.get(target, "Connection: close")[2]

    def is_closed(self):
        """Return whether the port takes no connections any more."""
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
        except OSError:
            return True
        return False

    def tell(self, signum):
        os.kill(self.pid, signum)

    def stop(self, signum=signal.SIGTERM):
        self.tell(signum)
        return self.wait()

    def poll(self):
        """Return the exit status, None as long as the server runs."""
        if self.status is None:
            self.status = self._nursery.ask(pid=self.pid)
        return self.status

    def wait(self):
        deadline = time.monotonic() + PATIENCE
        while self.poll() is None:
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.005)
        return self.status

    def log(self):
        return self.log_file.read_text()

    def discard(self):
        for client in self.clients:
            client.close()
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()
        self.notices.close()


@pytest.fixture(scope="session")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.stop()


@pytest.fixture(scope="module")
def shared(nursery, tmp_path_factory):
    """A server for all tests of the module that leave it as it is."""
    server = Server(nursery, tmp_path_factory.mktemp("server")).wait_ready()
    yield server
    server.discard()


@pytest.fixture
def client(shared):
    return shared.client()


@pytest.fixture
def launch(nursery, tmp_path):
    """Start a server with options of its own."""
    servers = []

    def start(*, ready=True, **options):
        servers.append(Server(nursery, tmp_path, **options))
        return servers[-1].wait_ready() if ready else servers[-1]

    yield start
    for server in servers:
        server.discard()

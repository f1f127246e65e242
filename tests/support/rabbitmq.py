"""A real RabbitMQ of the test's own: started from Debian's package, by any user, on loopback.

Nothing of it lies outside of the test's directory. Its port mapper (epmd) outlives the server by
design, so it is ended by its id.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import kombu

from support import certificates, daemons, images

SERVER = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = SERVER.with_name("rabbitmqctl")
READY_SECONDS = 120
PRIORITIES = ("INFO", "WARN", "ERROR")

_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
log.console = false
log.file.level = warning
disk_free_limit.absolute = 50MB
"""
_TLS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.certfile = {chain}
ssl_options.keyfile = {key}
ssl_options.cacertfile = {root}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = {strict}
"""


class Rabbit:
    """One broker. `start`, `kill` and `start` again keep what is durable.

    With `authority` it speaks TLS on `tls_port`, too; `strict` then asks clients for certificates.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        authority: certificates.Authority | None = None,
        strict: bool = False,
    ):
        images.need(SERVER)
        self.directory = directory
        self.port, self.tls_port, dist, self._mapper_port = (daemons.free_port() for _ in range(4))
        for name in ("home", "mnesia", "log"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "enabled_plugins").write_text("[].\n")
        conf = _CONF.format(port=self.port)
        if authority is not None:
            chain, key = authority.issue("rabbit")
            conf += _TLS.format(
                port=self.tls_port,
                chain=chain,
                key=key,
                root=authority.root,
                strict=str(strict).lower(),
            )
        (directory / "rabbitmq.conf").write_text(conf)
        self.environ = {
            **os.environ,
            "HOME": str(directory / "home"),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._mappers: set[int] = set()

    # -- its life --------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> Rabbit:
        """Start the broker; with `wait` it takes connections on return."""
        (self.directory / "pid").unlink(missing_ok=True)
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(SERVER)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environ,
                start_new_session=True,
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError), self.connect():
                break
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"RabbitMQ does not start:\n{self.log()}")
            time.sleep(0.1)
        self._mappers |= _listening_on(self._mapper_port)

    @property
    def pid(self) -> int:
        """The process id of the broker proper; what starts it is a shell script."""
        return int((self.directory / "pid").read_text())

    def kill(self) -> None:
        """End the broker as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the broker in good order, and its port mapper."""
        try:
            self._end(signal.SIGTERM)
        finally:
            for pid in self._mappers & _listening_on(self._mapper_port):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._mappers.clear()

    def revive(self) -> None:
        """Bring the broker back after whatever a test has done to it."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def pause(self) -> None:
        """Let the broker do nothing at all, with all its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, signum: int) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.pid, signum)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            # The script and everything that it started are a process group of their own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def log(self) -> str:
        found = [self.directory / "output", *sorted((self.directory / "log").iterdir())]
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in found)

    def control(self, *words: str) -> str:
        """Run rabbitmqctl."""
        done = subprocess.run(
            [str(CONTROL), "-n", self.environ["RABBITMQ_NODENAME"], *words],
            env=self.environ,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # -- what a consumer sees --------------------------------------------------------------------

    def connect(self, **options: Any) -> kombu.Connection:
        """Return an open connection of a consumer; OSError if nobody answers."""
        with socket.create_connection(("127.0.0.1", self.port), 5):
            pass
        url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        connection = kombu.Connection(url, connect_timeout=10, **options)
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        return connection

    def take(self, queue: str, *, patience: float = 2.0) -> list[Message]:
        """Return and remove all messages of a queue, once none has come for `patience` seconds."""
        found = []
        with self.connect() as connection, connection.channel() as channel:
            last = time.monotonic()
            while time.monotonic() < last + patience:
                message = channel.basic_get(queue, no_ack=True)
                if message is None:
                    time.sleep(0.02)
                    continue
                last = time.monotonic()
                found.append(Message(message))
        return found

    def count(self, queue: str) -> int:
        """Return how many messages wait in a queue, 0 if there is no such queue."""
        with self.connect() as connection, connection.channel() as channel:
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except channel.connection.channel_errors:
                return 0


class Message:
    """A message as it came: `envelope` is its content, `properties` are AMQP's."""

    def __init__(self, raw: Any):
        self.properties = raw.properties
        self.routing_key = raw.delivery_info["routing_key"]
        self.exchange = raw.delivery_info["exchange"]
        body = raw.body if isinstance(raw.body, bytes) else raw.body.encode()
        self.envelope = json.loads(body)

    @property
    def id(self) -> str:
        return str(self.envelope["message_id"])


@contextlib.contextmanager
def silent_broker() -> Iterator[int]:
    """Listen on a port, take every connection, and never say a word."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for one in taken:
                one.close()


def _listening_on(port: int) -> set[int]:
    """Return the ids of epmd processes of this user that were started for a port."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environ = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"epmd" in words[0] and f"ERL_EPMD_PORT={port}".encode() in environ:
            found.add(int(entry.name))
    return found


def remove(rabbit: Rabbit) -> None:
    """Stop a broker and remove what it kept."""
    rabbit.stop()
    shutil.rmtree(rabbit.directory, ignore_errors=True)

"""Start a daemon in the background and find out whether it is ready.

Used by `glance-control`. The daemon runs with this interpreter and from this installation; the
programs in PATH may belong to another one.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence

from glance.cli.daemon import pidfile
from glance.streaming import retry

#: Minimum limits for a daemon: number of open files, and bytes of data.
DESCRIPTORS = 32768
DATA = 2 << 30

#: Default of the daemons' option max_connections.
CONNECTIONS = 1000
#: Descriptors that a connection may need: its own, one for a file, one to a store or the registry.
_PER_CONNECTION = 3
#: Descriptors that a process has in any case.
_PER_PROCESS = 256

_LINES = 20
_STEP = 0.1
_SETTLED = 1.0

Address = tuple[str, int]


def installation() -> str:
    """Return the directory with the programs of this installation."""
    started = os.path.realpath(sys.argv[0])
    if os.path.basename(started) == "glance-control":
        return os.path.dirname(started)
    checkout = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..", "bin"))
    if os.path.isfile(os.path.join(checkout, "glance-control")):
        return checkout
    return sysconfig.get_path("scripts")


def find_program(program: str) -> str | None:
    """Return the path of a program of this installation, None if it has no such program."""
    path = os.path.join(installation(), program)
    return path if os.path.isfile(path) else None


def raise_limits() -> bool:
    """Raise the limits of child processes to at least DESCRIPTORS and DATA.

    Return False if that is refused; the limits are then as high as possible.
    """
    allowed = True
    for kind, wanted in ((resource.RLIMIT_NOFILE, DESCRIPTORS), (resource.RLIMIT_DATA, DATA)):
        soft, hard = resource.getrlimit(kind)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            continue
        enough = hard == resource.RLIM_INFINITY or hard >= wanted
        try:
            resource.setrlimit(kind, (wanted, hard if enough else wanted))
        except (OSError, ValueError):
            resource.setrlimit(kind, (hard, hard))
            allowed = False
    return allowed


def is_tight(connections: int) -> bool:
    """Return whether a process with so many connections can run out of descriptors.

    The limit is that of each process, so the number of workers makes no difference.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections * _PER_CONNECTION + _PER_PROCESS
    return soft != resource.RLIM_INFINITY and soft < needed


class Launch:
    """A daemon that was just started, in a session of its own, without standard input and output.

    Its standard error is kept until it is ready: it has the reason if the daemon fails to start.
    """

    def __init__(self, program: str, arguments: Sequence[str], environ: Mapping[str, str]):
        """Start a program with more variables in its environment, `environ`."""
        # NOTE: a file, because a pipe would fill up or break when nobody reads it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (see close)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Linux chooses a free name, which is not a file.
        self._notices.bind("")
        name = self._notices.getsockname().decode("ascii").replace("\0", "@", 1)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            # If inherited from nohup, the daemon would ignore `shutdown`.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.process = subprocess.Popen(
            [sys.executable, program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **environ, "NOTIFY_SOCKET": name},
            start_new_session=True,
            umask=0o027,
        )
        # NOTE: the pid file is trusted only when the process has its command line.
        retry.wait_until(
            lambda: bool(pidfile.command_line(self.pid)) or self.ended, retry.Backoff.steady(0.001)
        )
        self._started = time.monotonic()
        self._said_ready = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float, address: Address | None, *, settles: bool = False) -> bool:
        """Wait until the daemon is ready; False if it has ended or `seconds` have passed.

        It is ready when it has said so and accepts connections at `address` (if known). A daemon
        that `settles` is also ready after it has run for a second.
        """

        def is_up() -> bool:
            settled = settles and time.monotonic() - self._started >= _SETTLED
            return settled or (
                self._said_ready and (address is None or accepts_connections(address))
            )

        left = self._started + seconds - time.monotonic()
        step = retry.Backoff.steady(_STEP, seconds=left)
        retry.wait_until(lambda: self.ended or is_up(), step, sleep=self._listen)
        return not self.ended and is_up()

    def _listen(self, seconds: float) -> None:
        """Wait a moment, or until the daemon sends a notice."""
        if self._said_ready:
            time.sleep(seconds)
        elif select.select([self._notices], [], [], seconds)[0]:
            self._said_ready = b"READY=1" in self._notices.recv(4096).split(b"\n")

    def last_words(self) -> list[str]:
        """Return the last lines that the daemon wrote to stderr."""
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()][-_LINES:]

    def end(self) -> None:
        """Terminate the daemon."""
        self.process.terminate()
        self.process.wait()

    def close(self) -> None:
        """Release the resources; the daemon keeps running."""
        self._errors.close()
        self._notices.close()


def accepts_connections(address: Address) -> bool:
    """Return whether something accepts connections at an address to listen on."""
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def is_free(address: Address) -> bool:
    """Return whether nobody listens at an address; True if that cannot be determined."""
    host, port = address
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, proto, _, where = found[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as err:
        return err.errno != errno.EADDRINUSE
    return True

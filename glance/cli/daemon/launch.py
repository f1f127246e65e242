"""Start a daemon in the background and find out whether it came up.

Used by `glance-control`. The daemon runs with this interpreter and from this installation: what
stands in PATH may belong to another one.
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
from collections.abc import Sequence

from glance.cli.daemon import pidfile
from glance.streaming import retry

#: What a daemon may open, and how much data it may hold, at least.
DESCRIPTORS = 32768
DATA = 2 << 30

_LINES = 20
_STEP = 0.1
_SETTLED = 1.0

Address = tuple[str, int]


def installation() -> str:
    """Return the directory that holds the programs belonging to this one."""
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
    """Allow at least DESCRIPTORS and DATA to what is started from here.

    False if that is refused; then as much as may be is allowed.
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


class Launch:
    """A daemon that was just started, in a session of its own with nothing on its stdio.

    What it writes to stderr is kept until it is up: the reason if it does not come up.
    """

    def __init__(self, program: str, arguments: Sequence[str]):
        # NOTE: a file and not a pipe, which would fill up or break once nobody reads it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (see close)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Linux chooses a free name that is no file.
        self._notices.bind("")
        name = self._notices.getsockname().decode("ascii").replace("\0", "@", 1)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            # Set by nohup and inherited, it would make the daemon deaf to `shutdown`.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        self.process = subprocess.Popen(
            [sys.executable, program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, "NOTIFY_SOCKET": name},
            start_new_session=True,
            umask=0o027,
        )
        # NOTE: its pid file will be believed only once it can be known by its command line.
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
        """Wait until the daemon serves; False if it has ended or the time is over.

        It serves when it has said so and accepts connections at `address` (if that is known). One
        that `settles` serves also when it has lived for a second.
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
        """Give the daemon a moment; sooner back when it says something."""
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
        """End a daemon that must not go on."""
        self.process.terminate()
        self.process.wait()

    def close(self) -> None:
        """Let go of the daemon, which goes on if it runs."""
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
    """Return whether nobody listens at an address. What cannot be found out counts as free."""
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

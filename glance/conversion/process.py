"""One run of the tool: started, read, watched, and ended wholly in every outcome.

The process leads a session and a group of its own. Reads never block, so the event loop goes on
meanwhile; starting is done in a native thread, which the process must not outlive either.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import posix
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from glance.conversion import launcher
from glance.conversion.errors import Code
from glance.streaming import hub, threads

LOG = logging.getLogger(__name__)

#: How much of each output stream is kept; the rest is read and dropped.
OUTPUT = 64 * 1024
#: Seconds from the signal to end until the one that cannot be ignored.
GRACE = 10.0
_PIECE = 16 * 1024
#: Seconds between two looks at a process.
_SHORTEST, _LONGEST = 0.005, 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """How a run has ended.

    `status` is the exit status; for a signal it is 128 and its number. `out` and `err` are what
    was kept of the streams, `is_cut` whether there was more on `out`. `cpu` is the processor time
    of the tool in seconds, and `memory` its largest resident size in bytes, as they were a tenth
    of a second before the end at the latest.
    """

    status: int
    out: bytes
    err: bytes
    is_cut: bool
    cpu: float
    memory: int


class _Stream:
    """The reading end of a pipe; `take` is called with what comes, None: it is just kept."""

    def __init__(self, cap: int, take: Callable[[bytes], object] | None = None):
        self.data = bytearray()
        self.is_cut = False
        self._cap, self.take = cap, take
        self._fd, writer = os.pipe2(os.O_CLOEXEC)
        try:
            # NOTE: in a process without standard streams it may have one of their numbers.
            self.writer = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 3)
            os.set_blocking(self._fd, False)
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(writer)

    @property
    def has_ended(self) -> bool:
        return self._fd < 0

    def read(self) -> None:
        """Take in what is there, but not for ever."""
        for _ in range(64):
            if self._fd < 0:
                return
            try:
                piece = posix.read(self._fd, _PIECE)
            except BlockingIOError:
                return
            if not piece:
                self.close()
                return
            room = self._cap - len(self.data)
            self.is_cut = self.is_cut or len(piece) > room
            self.data += piece[: max(room, 0)]
            if self.take is not None:
                self.take(piece)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close_writer(self) -> None:
        fd, self.writer = self.writer, -1
        if fd >= 0:
            os.close(fd)


class Run:
    """One process with its group; a context manager, at whose end nothing of it is left.

    `wait` returns the ending. OSError if it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        output: int = OUTPUT,
        take: Callable[[bytes], object] | None = None,
    ):
        """Prepare to run a command; `take` is called with each piece of its output."""
        self._command, self._environment = list(command), dict(environment)
        self._output, self._take = output, take
        self._streams: list[_Stream] = []
        self.pid = 0
        self._status: int | None = None
        self._cpu, self._memory = 0.0, 0

    def __enter__(self) -> Run:
        try:
            self._streams.append(_Stream(self._output, self._take))
            self._streams.append(_Stream(OUTPUT))
            threads.run(self._start)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self.pid:
                self._end()
        finally:
            for stream in self._streams:
                stream.close_writer()
                stream.close()

    def _start(self) -> None:
        out, err = self._streams
        self.pid = posix.posix_spawn(
            self._command[0],
            self._command,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out.writer, 1),
                (os.POSIX_SPAWN_DUP2, err.writer, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
        )
        for stream in self._streams:
            stream.close_writer()

    def wait(self, check: Callable[[], object]) -> Ending:
        """Return how the run ends; whatever `check` raises meanwhile ends it early."""
        pause = _SHORTEST
        while not self._is_over():
            check()
            self._measure()
            hub.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
        assert self._status is not None
        out, err = self._streams
        return Ending(
            self._status, bytes(out.data), bytes(err.data), out.is_cut, self._cpu, self._memory
        )

    def _is_over(self) -> bool:
        """Return whether the process and all that has its output open have ended."""
        for stream in self._streams:
            stream.read()
        if self._status is None:
            self._reap()
        return self._status is not None and all(stream.has_ended for stream in self._streams)

    def _reap(self) -> None:
        pid, status = posix.waitpid(self.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else 128 - code

    def _measure(self) -> None:
        """Take note of what the tool has taken so far.

        NOTE: bwrap does not wait for what it starts, so the kernel adds nothing up for us.
        """
        try:
            self._cpu, self._memory = _taken(_deepest(self.pid))
        except (OSError, ValueError, IndexError):
            # It has just ended, or become another program.
            return

    def _end(self) -> None:
        """End what still runs: with a signal, and when that did not help with another one."""
        for stream in self._streams:
            stream.take = None
        try:
            if self._is_over():
                return
            self._signal(signal.SIGTERM)
            end = time.monotonic() + GRACE
            while not self._is_over() and time.monotonic() < end:
                hub.sleep(_SHORTEST * 4)
        finally:
            if not self._is_over():
                self._kill()

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        # NOTE: who is thrown at again and again must not leave before the files are free, so this
        # waits where nothing is thrown.
        threads.run(self._await_end)

    def _await_end(self) -> None:
        for _ in range(1000):
            if self._is_over():
                return
            hub.sleep(_SHORTEST)
        LOG.error("Process %s could not be killed", self.pid)

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)


_TICKS = os.sysconf("SC_CLK_TCK")


def _deepest(pid: int) -> int:
    """Return the last of the processes of which each has started the next one."""
    for _ in range(4):
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            children = file.read().split()
        if not children:
            break
        pid = int(children[0])
    return pid


def _taken(pid: int) -> tuple[float, int]:
    """Return seconds of processor time and the largest resident size of a process, proc(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    with open(f"/proc/{pid}/status", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    size = int(lines.get(b"VmHWM", b"0 kB").split()[0]) * 1024
    return (int(fields[11]) + int(fields[12])) / _TICKS, size


# -- what an ending means ------------------------------------------------------------------------

#: Signals that end the tool -> the code of the job.
_SIGNALS = {
    signal.SIGXCPU: Code.CPU_LIMIT,
    signal.SIGXFSZ: Code.TOO_LARGE,
    signal.SIGABRT: Code.MEMORY_LIMIT,
}
#: What the tool says, in the C locale -> the code of the job; the first one wins.
_SAYINGS = (
    (re.compile(rb"File too large"), Code.TOO_LARGE),
    (re.compile(rb"No space left on device|Disk quota exceeded"), Code.NO_SPACE),
    (
        re.compile(
            rb"cannot allocate|could not allocate|failed to allocate|out of memory"
            rb"|failed to map segment|unable to allocate|Resource temporarily unavailable"
            rb"|failed to create thread",
            re.IGNORECASE,
        ),
        Code.MEMORY_LIMIT,
    ),
)
#: How lines of the programs begin that start the tool: it has not run then.
_STARTERS = re.compile(rb"(?:%s|bwrap|prlimit): " % launcher.NAME.encode())


def code_of(ending: Ending, cpu_limit: int) -> Code | None:
    """Return the code of a job whose tool ended so, None if it has succeeded.

    `cpu_limit` is what it had, in seconds.
    """
    if ending.status == 0:
        return None
    if ending.status > 128:
        # NOTE: who does not end at the soft limit is killed at the hard one.
        if ending.status == 128 + signal.SIGKILL and ending.cpu >= cpu_limit:
            return Code.CPU_LIMIT
        found = _SIGNALS.get(signal.Signals(ending.status - 128)) if _is_signal(ending) else None
        if found is not None:
            return found
    for saying, code in _SAYINGS:
        if saying.search(ending.err):
            return code
    return Code.HOST_FAILED if _STARTERS.match(ending.err) else Code.CONVERSION_FAILED


def _is_signal(ending: Ending) -> bool:
    return ending.status - 128 in set(signal.Signals)

"""A program that sets limits for another one, starts it, and lets nothing of it outlive anybody.

    launcher.py PARENT ADDRESS_SPACE CPU FILE_SIZE DIRECTORY PROGRAM [ARGUMENT...]

PARENT is the process that starts this one and that nothing may outlive, ADDRESS_SPACE and
FILE_SIZE are bytes, CPU is seconds, and DIRECTORY is where the program works. Only the standard
library is used, so that the start is quick. It ends with the status of the program, 128 and the
number for a signal. When it fails itself it ends with one line, which begins with its name, and a
status of 125.

Limits are set here, not between fork and exec of the converter: that has several threads, of which
a fork copies one with all the locks of the others.

NOTE: bwrap ends with its parent, but the process that it starts does not if bwrap is killed before
that has come far enough. So the launcher stays beside the program and ends whatever is left.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import sys
from typing import NoReturn

#: The status of a failure of this program, and what its one line begins with.
FAILED = 125
NAME = "launcher"

#: Seconds between the signal that a process gets at the limit of its processor time, and its end.
CPU_GRACE = 5
#: What the launcher gets when its parent ends, and all that it waits for.
_PARENT_HAS_ENDED = signal.SIGUSR1
_GUARDED = frozenset(
    {_PARENT_HAS_ENDED, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
)
OPEN_FILES = 64
NICE = 10

# prctl(2), ioprio_set(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_IDLE = 3 << 13
#: The number of ioprio_set, for which the C library has no function.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}


def _fail(what: str) -> NoReturn:
    os.write(2, f"{NAME}: {what}\n".encode("ascii", "replace"))
    os._exit(FAILED)


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or keep a lower one that the system has set."""
    ceiling = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        wanted = min(wanted, ceiling)
    resource.setrlimit(kind, (min(soft, wanted), wanted))


def _tie(libc: ctypes.CDLL, parent: int, signum: int) -> None:
    """Have this process get a signal when its parent ends."""
    if libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0):
        _fail("it cannot be tied to its parent")
    if os.getppid() != parent:
        _fail("its parent has ended")


def _signals() -> None:
    # NOTE: what is ignored stays so in the next program: two by Python, others by a shell's `&`.
    for signum in signal.valid_signals():
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _priorities(libc: ctypes.CDLL) -> None:
    os.nice(NICE)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        # A kernel without priorities of input and output does without.
        libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


def _become(libc: ctypes.CDLL, guard: int, limits: list[int], words: list[str]) -> NoReturn:
    """Set the limits and become the program."""
    address_space, cpu, file_size = limits
    _tie(libc, guard, signal.SIGKILL)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _fail("it cannot give up further privileges")
    _signals()
    _priorities(libc)
    os.chdir(words[0])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, file_size)
    _limit(resource.RLIMIT_CPU, cpu, cpu + CPU_GRACE)
    # NOTE: the last one: from here on memory may be short.
    _limit(resource.RLIMIT_AS, address_space)
    os.execve(words[1], words[1:], os.environ)


def _guard(child: int) -> NoReturn:
    """Wait for the program, and end all that it has left; end everything if the parent ends."""
    found = None
    while True:
        # NOTE: what asks to end is sent to the whole group; the program decides how it ends.
        if signal.sigwait(_GUARDED) == _PARENT_HAS_ENDED:
            os.killpg(0, signal.SIGKILL)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(FAILED if found is None else found)
            if not pid:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                found = code if code >= 0 else 128 - code
        if found is not None:
            _kill_children()


def _kill_children() -> None:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        for pid in map(int, file.read().split()):
            os.kill(pid, signal.SIGKILL)


def main(argv: list[str]) -> NoReturn:
    """Start the program and wait for it. Never returns."""
    try:
        parent, *limits = map(int, argv[:4])
        words = argv[4:]
        os.closerange(3, 65536)
        os.umask(0o077)
        signal.pthread_sigmask(signal.SIG_BLOCK, _GUARDED)
        libc = ctypes.CDLL(None, use_errno=True)
        if os.getpgrp() != os.getpid():
            os.setsid()
        _tie(libc, parent, _PARENT_HAS_ENDED)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        guard = os.getpid()
        child = os.fork()
        if not child:
            _become(libc, guard, limits, words)
        _guard(child)
    except (OSError, ValueError, IndexError, MemoryError) as err:
        # SECURITY: no paths: the line is for the log of the operator, but follows the image.
        _fail(getattr(err, "strerror", None) or type(err).__name__)


if __name__ == "__main__":
    main(sys.argv[1:])

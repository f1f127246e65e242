"""A program that sets limits for itself and then becomes another one.

    launcher.py PARENT ADDRESS_SPACE CPU FILE_SIZE DIRECTORY PROGRAM [ARGUMENT...]

PARENT is the process that this one must not outlive, ADDRESS_SPACE and FILE_SIZE are bytes, CPU is
seconds, and DIRECTORY is where the program works. Only the standard library is used, so that the
start is quick. A limit that does not succeed ends it with one line, which begins with its name,
and a status of 125.

NOTE: limits are set here, not between fork and exec of the converter: that has several threads,
of which a fork copies one with all the locks of the others.
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
OPEN_FILES = 64
NICE = 10

# prctl(2), ioprio_set(2)
_PR_SET_PDEATHSIG = 1
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


def _privileges(libc: ctypes.CDLL, parent: int) -> None:
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        _fail("it cannot be tied to its parent")
    if os.getppid() != parent:
        _fail("its parent has ended")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _fail("it cannot give up further privileges")


def _signals() -> None:
    # NOTE: Python ignores these, and what is ignored stays so in the next program.
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _priorities(libc: ctypes.CDLL) -> None:
    os.nice(NICE)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        # A kernel without priorities of input and output does without.
        libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


def main(argv: list[str]) -> NoReturn:
    """Set the limits and become the program. Never returns."""
    try:
        parent, address_space, cpu, file_size = map(int, argv[:4])
        directory, command = argv[4], argv[5:]
        os.closerange(3, 65536)
        os.umask(0o077)
        libc = ctypes.CDLL(None, use_errno=True)
        _privileges(libc, parent)
        _signals()
        _priorities(libc)
        os.chdir(directory)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
        _limit(resource.RLIMIT_FSIZE, file_size)
        _limit(resource.RLIMIT_CPU, cpu, cpu + CPU_GRACE)
        # NOTE: the last one: from here on memory may be short.
        _limit(resource.RLIMIT_AS, address_space)
        os.execve(command[0], command, os.environ)
    except (OSError, ValueError, IndexError, MemoryError) as err:
        # SECURITY: no paths: the line is for the log of the operator, but follows the image.
        _fail(getattr(err, "strerror", None) or type(err).__name__)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Where the tool runs: the command lines of the launcher and of bwrap, and the check at start.

In the sandbox there are the libraries of the system, the tool, one directory that can be written
to, and nothing else: no network, no other process, no file of the host. All words of a command
line are constants, limits and the settings of the operator; nothing of an image or of a user ever
becomes part of one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence

from glance.common import config, exception
from glance.conversion import launcher, options

LOG = logging.getLogger(__name__)

#: Where bwrap and prlimit are looked for, whatever the environment of the converter says.
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#: The directory of the job, as the tool in the sandbox sees it.
INSIDE = "/job"
#: What the tool sees of the host: libraries, and where the loader finds them.
LIBRARIES = (
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
)
PROCESSES = 64

_BWRAP = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
    *("--unshare-cgroup-try", "--die-with-parent", "--cap-drop", "ALL"),
    *(word for path in LIBRARIES for word in ("--ro-bind-try", path, path)),
    *("--proc", "/proc", "--dir", "/dev"),
    *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/zero", "/dev/zero"),
)
_VERSION = re.compile(rb"qemu-img version ([0-9]+(?:\.[0-9]+)*)")


@dataclasses.dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run of the tool may take: bytes of address space, seconds of processor time,
    bytes of each file that it writes.
    """

    address_space: int
    cpu: int
    file_size: int


class Sandbox:
    """How a converter runs the tool. Raises ConfigError if this host lacks a part of it.

    Nothing is run before `glance.conversion.qemu` checks that all of it works.
    """

    def __init__(self, conf: config.Conf):
        self.conf = conf
        self.tool = _program(conf, "conversion_qemu_img")
        self._prefix: tuple[str, ...] = ()
        self.is_on = conf.conversion_sandbox != options.NO_SANDBOX
        if self.is_on:
            bwrap, prlimit = (
                _find(conf, "bwrap", "bubblewrap"),
                _find(conf, "prlimit", "util-linux"),
            )
            # NOTE: the limit of processes counts those of the user in this namespace, so it is
            # set inside: outside, all others of the converter's user would count.
            binds = (word for path in (self.tool, prlimit) for word in ("--ro-bind", path, path))
            self._outer = (bwrap, *_BWRAP, *binds)
            self._inner = (prlimit, f"--nproc={PROCESSES}:{PROCESSES}", self.tool)
        else:
            LOG.warning(
                "Images are converted without a sandbox, because of conversion_sandbox = none: a "
                "crafted image that passes the inspection gets whatever this user can read"
            )

    def command(self, directory: str, limits: RunLimits, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs the tool with a directory to work in."""
        numbers = (os.getpid(), limits.address_space, limits.cpu, limits.file_size)
        # NOTE: -I and -S: nothing of the converter's own environment is loaded.
        started = [sys.executable, "-I", "-S", launcher.__file__, *map(str, numbers), directory]
        if not self.is_on:
            return [*started, self.tool, *arguments]
        inside = ("--bind", directory, INSIDE, "--chdir", INSIDE, "--remount-ro", "/", "--")
        return [*started, *self._outer, *inside, *self._inner, *arguments]

    def environment(self, directory: str) -> dict[str, str]:
        """Return the whole environment of the tool."""
        return {
            "LC_ALL": "C",
            "MALLOC_ARENA_MAX": "2",
            "PATH": "/usr/bin:/bin",
            "TMPDIR": INSIDE if self.is_on else directory,
        }


def _program(conf: config.Conf, name: str) -> str:
    """Return the real path of the program that an option names."""
    found: str = os.path.realpath(conf[name])
    if not os.path.isfile(found) or not os.access(found, os.X_OK):
        raise exception.ConfigError(
            f"{conf.at(name)} names a program that is missing or cannot be executed; install "
            "qemu-img (package qemu-utils, or qemu-img), or correct the option"
        )
    return found


def _find(conf: config.Conf, name: str, package: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise exception.ConfigError(
            f"{conf.at('conversion_sandbox')} needs the program {name}, which is missing; install "
            f"the package {package}"
        )
    return os.path.realpath(found)


def version_of(output: bytes) -> tuple[int, ...] | None:
    """Return the version that the output of the tool names, None if there is none."""
    found = _VERSION.match(output)
    return tuple(map(int, found[1].split(b"."))) if found else None


def is_below(path: str, directory: str) -> bool:
    """Return whether a path is a directory, or in it; both without links."""
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")

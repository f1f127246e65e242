"""A host of its own to install on: this machine's files, as if glance had never been there.

Root and three namespaces of Linux are needed. The files of the machine are below an overlay, so
that nothing of it changes: users, /etc, /opt and daemons end with the host. There is no network
but loopback, whose ports are all free.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from support import images, shells

#: Mounts the file system of the host at $1, with the directory $2 at /mnt, and enters it.
ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 host "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" host "$1/root"
mount --bind "$2" "$1/root/mnt"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
ip link set lo up
shift 2
exec env -i HOME=/root TERM=xterm LC_ALL=C.UTF-8 \\
    PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt PIP_DISABLE_PIP_VERSION_CHECK=1 \\
    chroot . "$@"
"""

#: What a host has in place of the programs that need the world: apt takes what is there.
APT = """#!/bin/sh
shift
exec dpkg-query --show "$@" > /dev/null
"""

#: What a machine with glance would have.
FORGET = """
cd /root
rm -rf /opt/glance /etc/glance /var/lib/glance /var/log/glance
rm -f /etc/systemd/system/glance-* /etc/tmpfiles.d/glance.conf /etc/sysusers.d/glance.conf
! getent passwd glance > /dev/null || userdel glance
"""


def start(directory: pathlib.Path, held: pathlib.Path, columns: int = 0) -> shells.Shell:
    """Return a shell of root on a fresh host, in /root, with `held` as /mnt.

    `directory` exists and is empty. What the host writes below /mnt, alone, outlasts it. Skips the
    test where no such host can be. For `columns`, see `shells.Shell`.
    """
    need()
    spaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    enter = ["bash", "-c", ENTER, "host", str(directory), str(held)]
    shell = shells.Shell([*spaces, *enter], columns=columns)
    try:
        shell.run(FORGET)
        tools = pathlib.Path(__file__).with_name("systemctl.py").read_text(encoding="utf-8")
        for name, text in (("systemctl", tools), ("apt-get", APT)):
            shell.run(f"cat > /usr/local/sbin/{name} <<'END-OF-{name}'\n{text}END-OF-{name}")
            shell.run(f"chmod 755 /usr/local/sbin/{name}")
    except BaseException:
        shell.close()
        raise
    return shell


def need() -> None:
    """Skip the test where a host cannot be made."""
    images.need("unshare", "setpriv", "runuser", "ip", "systemd-sysusers", "systemd-tmpfiles")
    images.need(pathlib.Path("/usr/bin/python3.11"))
    if os.geteuid() != 0:
        images.without("only root can make a host")
    tried = ["unshare", "--mount", "--pid", "--net", "--fork", "true"]
    if subprocess.run(tried, capture_output=True).returncode:
        images.without("this kernel gives no namespaces")
    if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        images.without("this kernel has no overlay file systems")


def wheels(directory: pathlib.Path, *what: str) -> pathlib.Path:
    """Fill a directory with the wheels of packages and of what they need; return it.

    A host installs from there, because it has no network.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(directory)]
    subprocess.run([*pip, *what], check=True)
    return directory

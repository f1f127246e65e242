"""A host of its own to install on: this machine's files, as if glance had never been there.

Root and three namespaces of Linux are needed. The files of the machine are below an overlay, so
that nothing of it changes: users, /etc, /opt and daemons end with the host. There is no network
but loopback, whose ports are all free.
"""

from __future__ import annotations

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from support import checkout, daemons, images, pages, shells

#: Where the libraries and the checkout that serve the tests are on a host that is lent them.
LENT = "/usr/local/lib/lent"

#: Mounts the file system of the host at $1, with the directory $2 at /mnt, and enters it. $3 and
#: $4 are the libraries and the checkout, empty for a host that installs its own.
ENTER = f"""
set -e
LENT={LENT}
mount --make-rprivate /
mount -t tmpfs -o mode=755 host "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" host "$1/root"
mount --bind "$2" "$1/root/mnt"
if [ -n "$3" ]; then
    mkdir -p "$1/root$LENT/packages" "$1/root$LENT/checkout"
    mount --bind -o ro "$3" "$1/root$LENT/packages"
    mount --bind -o ro "$4" "$1/root$LENT/checkout"
fi
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
ip link set lo up
shift 4
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


def start(
    directory: pathlib.Path, held: pathlib.Path, columns: int = 0, *, lent: bool = False
) -> shells.Shell:
    """Return a shell of root on a fresh host, in /root, with `held` as /mnt.

    `directory` exists and is empty. What the host writes below /mnt, alone, outlasts it. Skips the
    test where no such host can be. For `columns`, see `shells.Shell`; for `lent`, `with_programs`.
    """
    need()
    lenders = [sysconfig.get_path("purelib"), str(daemons.ROOT)] if lent else ["", ""]
    spaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    enter = ["bash", "-c", ENTER, "host", str(directory), str(held), *lenders]
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


#: The programs as pip installs them, but with the libraries and the modules of the tests.
PROGRAMS = f"""
/usr/bin/python3.11 -m venv --without-pip /opt/glance
printf '%s\\n' {LENT}/checkout 'import site; site.addsitedir("{LENT}/packages")' \\
    > /opt/glance/lib/python3.11/site-packages/lent.pth
for program in {LENT}/checkout/bin/glance*; do
    name=/opt/glance/bin/${{program##*/}}
    {{ echo '#!/opt/glance/bin/python'; cat $program; }} > $name
    chmod 755 $name
done
"""


def with_programs(top: pathlib.Path) -> shells.Shell:
    """Return a shell of root on a host with what the first commands of that page bring there.

    The programs are those of this checkout, the libraries those that the tests run with: pip would
    take half a minute. `top` is an empty directory.
    """
    held = top / "held"
    (top / "host").mkdir()
    held.mkdir()
    config = configparser.ConfigParser()
    config.read(daemons.ROOT / "setup.cfg", encoding="utf-8")
    for place, patterns in config["options.data_files"].items():
        (held / place).mkdir(parents=True)
        for path in (one for pattern in patterns.split() for one in daemons.ROOT.glob(pattern)):
            shutil.copy(path, held / place)
    shell = start(top / "host", held, lent=True)
    try:
        shell.run(PROGRAMS)
        shell.run("cp -r /mnt/share /opt/glance/")
    except BaseException:
        shell.close()
        raise
    return shell


#: How many of the page's first commands only bring the programs to the host.
BRINGING = 3


def installed(top: pathlib.Path) -> shells.Shell:
    """Return a shell of root on a host whose daemons run, as `One host with systemd` leaves it."""
    shell = with_programs(top)
    try:
        (commands,) = checkout.blocks(
            pages.path("one-host"), "From an empty host to running daemons"
        )
        for line in commands.splitlines()[BRINGING:]:
            shell.run(line)
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

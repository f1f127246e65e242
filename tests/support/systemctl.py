#!/usr/bin/python3.11
"""`systemctl` where no systemd runs: starts what a unit starts, as its user, and waits for it.

A scratch host (`support.host`) has it in front of the real one, which it uses to enable and to
disable units. Of the sandbox of a unit it does what no systemd is needed for: the user, no
privileges, and a file system that is read-only but for the directories of the unit. Starting a
timer makes one pass of what it starts.
"""

import configparser
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time

UNITS = pathlib.Path("/etc/systemd/system")
STATE = pathlib.Path("/run/units")
#: How long a daemon may take to start, in seconds.
LONGEST = 60


def service(name):
    """Return the section [Service] of a unit, or of what a timer starts; end if there is none."""
    if name.endswith(".timer") and (UNITS / name).exists():
        name = name.removesuffix(".timer")
    path = UNITS / f"{name}.service"
    if not path.exists():
        sys.exit(f"Unit {name}.service not found.")
    parser = configparser.RawConfigParser()
    parser.optionxform = str
    parser.read(path)
    return dict(parser["Service"])


def running(name):
    """Return the process id of a unit, None if it does not run."""
    try:
        pid = int((STATE / f"{name}.pid").read_text())
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else pid


def start(name):
    """Start a unit and wait until it says that it serves; end the program if it fails."""
    if running(name):
        return
    unit = service(name)
    STATE.mkdir(exist_ok=True)
    account = pwd.getpwnam(unit["User"])
    writable = []
    for kind, top in (("State", "/var/lib"), ("Logs", "/var/log")):
        directory = pathlib.Path(top) / unit[f"{kind}Directory"]
        directory.mkdir(exist_ok=True)
        directory.chmod(int(unit[f"{kind}DirectoryMode"], 8))
        os.chown(directory, account.pw_uid, account.pw_gid)
        writable.append(str(directory))
    assert unit["ProtectSystem"] == "strict"
    binds = " && ".join(f"mount --bind {path} {path}" for path in writable)
    rights = f"--reuid={unit['User']} --regid={unit['Group']} --init-groups --no-new-privs"
    script = (
        f"{binds} && mount -o remount,bind,ro / && cd {unit['WorkingDirectory']} && "
        f"umask {unit['UMask']} && exec setpriv {rights} --bounding-set=-all {unit['ExecStart']}"
    )
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = STATE / f"{name}.notify"
    address.unlink(missing_ok=True)
    notified.bind(str(address))
    address.chmod(0o777)
    with (STATE / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": str(address)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (STATE / f"{name}.pid").write_text(str(process.pid))
    notified.settimeout(0.1)
    deadline = time.monotonic() + LONGEST
    while unit["Type"] == "notify":
        try:
            if b"READY=1" in notified.recv(4096):
                return
        except TimeoutError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            said = (STATE / f"{name}.log").read_text()
            sys.exit(f"Job for {name}.service failed.\n{said}")
    if unit["Type"] == "oneshot" and process.wait(LONGEST) != 0:
        sys.exit(f"Job for {name}.service failed.\n{(STATE / f'{name}.log').read_text()}")


def stop(name):
    unit = service(name)
    pid = running(name)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + float(unit["TimeoutStopSec"])
    while running(name):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            sys.exit(f"{name}.service was killed")
        time.sleep(0.05)


def main():
    now = "--now" in sys.argv
    command, *names = (word for word in sys.argv[1:] if word != "--now")
    if command in ("enable", "disable"):
        for name in names:
            service(name)
        subprocess.run(["/usr/bin/systemctl", "--root=/", command, *names], check=True)
    if command in ("stop", "restart") or (now and command == "disable"):
        for name in names:
            stop(name)
    if command in ("start", "restart") or (now and command == "enable"):
        for name in names:
            start(name)
    if command == "is-active":
        sys.exit(0 if all(running(name) for name in names) else 3)
    if command not in (
        "daemon-reload",
        "disable",
        "enable",
        "is-active",
        "restart",
        "start",
        "stop",
    ):
        sys.exit(f"systemctl {command}: not for a scratch host")


if __name__ == "__main__":
    main()

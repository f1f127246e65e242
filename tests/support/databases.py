"""Database servers of a test run's own, each on a socket in a directory that ends with it."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support import images

POSTGRES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
#: An account to run a server as when the tests are run by root, who may not.
UNPRIVILEGED = "nobody"


def _need(driver: str) -> None:
    if importlib.util.find_spec(driver) is None:
        images.without(f"{driver} is not installed")


@contextlib.contextmanager
def _server_directory() -> Iterator[tuple[Path, list[str]]]:
    """Yield a short-named directory and the words that run a command as its owner."""
    directory = Path(tempfile.mkdtemp(prefix="glance-db-"))
    prefix: list[str] = []
    if os.getuid() == 0:
        account = pwd.getpwnam(UNPRIVILEGED)
        os.chown(directory, account.pw_uid, account.pw_gid)
        prefix = [
            "setpriv",
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
            "--",
        ]
    try:
        yield directory, prefix
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _running(command: list[Any], url: str, directory: Path) -> Iterator[str]:
    """Run a database server until the end of the block; skip if it does not come up."""
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory
    )
    try:
        engine = sa.create_engine(url)
        for _ in range(200):
            with contextlib.suppress(sa.exc.OperationalError):
                engine.connect().close()
                break
            time.sleep(0.05)
        else:
            images.without("the database server does not come up here")
        engine.dispose()
        yield url
    finally:
        server.send_signal(signal.SIGINT if "postgres" in url else signal.SIGTERM)
        server.wait()


def _run(command: list[Any], directory: Path) -> None:
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory
    )
    if done.returncode:
        images.without(f"{command[0]} does not work here")


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server on a socket in a directory of its own."""
    _need("psycopg2")
    if not POSTGRES:
        images.without("PostgreSQL is not installed")
    with _server_directory() as (directory, prefix):
        data = directory / "pg"
        _run(
            [*prefix, f"{POSTGRES[-1]}/initdb", "-D", data, "-A", "trust", "-U", "glance"]
            + ["-E", "UTF8", "--locale=C", "-N"],
            directory,
        )
        command = (
            [*prefix, f"{POSTGRES[-1]}/postgres", "-D", data, "-k", directory]
            + ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"]
            + ["-c", "shared_buffers=16MB", "-c", "synchronous_commit=off"]
        )
        url = f"postgresql+psycopg2://glance@/postgres?host={directory}"
        with _running(command, url, directory):
            yield url


@contextlib.contextmanager
def mysql() -> Iterator[str]:
    """The URL of a MariaDB server on a socket in a directory of its own."""
    _need("pymysql")
    daemon, installer = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if not daemon or not installer:
        images.without("MariaDB is not installed")
    with _server_directory() as (directory, prefix):
        common = [
            "--no-defaults",
            f"--basedir={Path(daemon).parent.parent}",
            f"--datadir={directory}/my",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
        ]
        method = "--auth-root-authentication-method=normal"
        _run([*prefix, installer, *common, method, "--skip-test-db"], directory)
        command = [
            *(*prefix, daemon, *common, "--skip-networking", f"--socket={directory}/s"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M"),
            *("--character-set-server=utf8mb4", "--performance-schema=OFF"),
            f"--pid-file={directory}/p",
        ]
        url = f"mysql+pymysql://root@localhost/mysql?unix_socket={directory}/s"
        with _running(command, url, directory):
            yield url

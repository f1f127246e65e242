"""Database servers of a test run's own, each on a socket in a directory that ends with it."""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from glance.registry.db import migration, models

from support import daemons, images

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
        # What is left is thrown away, so there is nothing to write to the disk first.
        server.send_signal(signal.SIGQUIT if "postgres" in url else signal.SIGKILL)
        server.wait()


def _run(command: list[Any], directory: Path) -> None:
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory
    )
    if done.returncode:
        images.without(f"{command[0]} does not work here")


def _copied(files: Sequence[Path], directory: Path) -> list[Path]:
    """Copy a certificate and its key to where the account of a server can read them."""
    owner = directory.stat()
    copies = []
    for file in files:
        copies.append(directory / f"tls-{file.name}")
        shutil.copy(file, copies[-1])
        os.chown(copies[-1], owner.st_uid, owner.st_gid)
        copies[-1].chmod(0o600)
    return copies


@contextlib.contextmanager
def postgresql(
    *,
    locale: Sequence[str] = ("-E", "UTF8", "--locale=C"),
    tls: Sequence[Path] = (),
    port: int = 0,
) -> Iterator[str]:
    """The URL of a PostgreSQL server on a socket in a directory of its own.

    `locale` are words for initdb. With `tls`, a certificate and its key, it also listens on a port
    of loopback, for TLS only.
    """
    _need("psycopg2")
    if not POSTGRES:
        images.without("PostgreSQL is not installed")
    with _server_directory() as (directory, prefix):
        data = directory / "pg"
        _run(
            [*prefix, f"{POSTGRES[-1]}/initdb", "-D", data, "-A", "trust", "-U", "glance"]
            + [*locale, "-N"],
            directory,
        )
        command = (
            [*prefix, f"{POSTGRES[-1]}/postgres", "-D", data, "-k", directory]
            + ["-c", f"listen_addresses={'127.0.0.1' if tls else ''}"]
            + ["-c", "fsync=off", "-c", "full_page_writes=off"]
            + ["-c", "shared_buffers=16MB", "-c", "synchronous_commit=off"]
        )
        if tls:
            (data / "pg_hba.conf").write_text(
                "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
            )
            certificate, key = _copied(tls, directory)
            command += ["-p", str(port), "-c", "ssl=on"]
            command += ["-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"]
        url = f"postgresql+psycopg2://glance@/postgres?host={directory}"
        url += f"&port={port}" if port else ""
        with _running(command, url, directory):
            yield url


class PostgreSQL:
    """A PostgreSQL server on a port of loopback, which a test starts, stops and copies.

    A context manager; skips the test where there is no PostgreSQL. Commits are durable against
    the death of the server, not of the host.
    """

    def __init__(self, port: int):
        self.port = port
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgreSQL:
        _need("psycopg2")
        if not POSTGRES:
            images.without("PostgreSQL is not installed")
        self._directory, self._prefix = self._stack.enter_context(_server_directory())
        self._stack.callback(self.kill)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://glance@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        return self._directory / "pg"

    def create(self) -> PostgreSQL:
        """Make an empty database, and start the server."""
        self._do("initdb", "-A", "trust", "-U", "glance", "-E", "UTF8", "--locale=C", "-N")
        self.start()
        return self

    def copy(self, primary: PostgreSQL) -> PostgreSQL:
        """Become a standby of `primary`, which then waits for this one at each commit."""
        source = f"host=127.0.0.1 port={primary.port} user=glance application_name=standby"
        self._do("pg_basebackup", "-d", source, "-R", "-X", "stream", "-c", "fast")
        self.start()
        primary.run("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.run("SELECT pg_reload_conf()")
        self._until(lambda: primary.run("SELECT sync_state FROM pg_stat_replication") == "sync")
        return self

    def promote(self) -> None:
        """Turn the standby into a primary that waits for no other server."""
        self.run("SELECT pg_promote()")
        self.run("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.run("SELECT pg_reload_conf()")

    def start(self) -> None:
        command = [
            *(*self._prefix, f"{POSTGRES[-1]}/postgres", "-D", self.data, "-k", self._directory),
            *("-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
            *("-c", "shared_buffers=16MB", "-c", "max_connections=100"),
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._directory, start_new_session=True
            )
        self._until(lambda: self.run("SELECT 1") == 1)

    def stop(self) -> None:
        """Stop the server as an operator does who does not wait for clients."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def kill(self) -> None:
        """End the server and all its processes at once."""
        if self._process is not None and self._process.poll() is None:
            # It leads a process group of its own; its helpers notice its end.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server and its processes hang for the block."""
        assert self._process is not None
        pids = [self._process.pid, *daemons.children(self._process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def run(self, statement: str) -> Any:
        """Execute a statement by itself; return the first value of its first row, if any."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.execute(sa.text(statement))
                return result.scalar() if result.returns_rows else None
        finally:
            engine.dispose()

    def _do(self, program: str, *words: str) -> None:
        _run(
            [*self._prefix, f"{POSTGRES[-1]}/{program}", "-D", self.data, *words], self._directory
        )

    def _until(self, happened: Callable[[], bool]) -> None:
        for _ in range(600):
            with contextlib.suppress(sa.exc.OperationalError):
                if happened():
                    return
            time.sleep(0.05)
        images.without("the database server does not come up here")


@contextlib.contextmanager
def mysql(*, charset: str = "utf8mb4", tls: Sequence[Path] = (), port: int = 0) -> Iterator[str]:
    """The URL of a MariaDB server on a socket in a directory of its own.

    `charset` is the server's default. With `tls`, a certificate and its key, it also listens on a
    port of loopback, for TLS only.
    """
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
            *(f"--character-set-server={charset}", "--performance-schema=OFF"),
            f"--pid-file={directory}/p",
        ]
        if tls:
            certificate, key = _copied(tls, directory)
            command.remove("--skip-networking")
            command += ["--bind-address=127.0.0.1", f"--port={port}"]
            command += [f"--ssl-cert={certificate}", f"--ssl-key={key}"]
            command += ["--require-secure-transport=ON"]
        url = f"mysql+pymysql://root@localhost/mysql?unix_socket={directory}/s"
        with _running(command, url, directory):
            yield url


class Run:
    """What `--database` chose for this run: where the sites of the functional tests have records.

    `server` is the URL of the server that was started, None for SQLite.
    """

    kind = "sqlite"
    server: str | None = None


def for_site(directory: Path) -> str:
    """Return the URL of the database of a site in `directory`.

    That is a file that its registry makes, or a new database of the run's server with its tables.
    """
    if Run.server is None:
        return f"sqlite:///{directory / 'glance.sqlite'}"
    return _new_database(Run.server)


@functools.cache
def _template(server: str) -> str:
    """Make a database with all tables, once for each server, and return its URL."""
    url = _empty_database(server, "template_of_tests")
    migration.db_sync(url)
    return url


def _empty_database(server: str, name: str, more: str = "") -> str:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name} {more}"))
    engine.dispose()
    return re.sub(r"/(postgres|mysql)\?", f"/{name}?", server)


def _new_database(server: str) -> str:
    """Make a copy of the template and return its URL; the steps of migrations take seconds."""
    template, name = _template(server), f"site_{uuid.uuid4().hex}"
    if server.startswith("postgresql"):
        return _empty_database(server, name, "TEMPLATE template_of_tests")
    url = _empty_database(server, name)
    source, target = sa.create_engine(template), sa.create_engine(url)
    with source.connect() as old, target.begin() as new:
        new.execute(sa.text("SET SESSION foreign_key_checks = 0"))
        for (table,) in old.execute(sa.text("SHOW TABLES")).all():
            made = old.execute(sa.text(f"SHOW CREATE TABLE {table}")).one()[1]
            new.exec_driver_sql(made.replace("%", "%%"))
            new.execute(sa.text(f"INSERT INTO {table} SELECT * FROM template_of_tests.{table}"))
    source.dispose()
    target.dispose()
    return url


_spare: list[str] = []


def borrow() -> str:
    """Return the URL of a database of the run's server without rows; `give_back` ends its use."""
    assert Run.server is not None
    if not _spare:
        return _new_database(Run.server)
    url = _spare.pop()
    clear(url)
    return url


def give_back(url: str) -> None:
    """Let other tests have a database, to which no connection is open."""
    _spare.append(url)


def clear(url: str) -> None:
    """Remove all rows, and let all ids begin with 1, in a database of PostgreSQL or MariaDB."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        if engine.dialect.name == "postgresql":
            tables = ", ".join(models.metadata.tables)
            conn.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY"))
        else:
            for table in reversed(models.metadata.sorted_tables):
                conn.execute(sa.text(f"DELETE FROM {table.name}"))
                if "id" in table.columns:
                    conn.execute(sa.text(f"ALTER TABLE {table.name} AUTO_INCREMENT = 1"))
    engine.dispose()

"""Empty databases of each kind that is at hand; the others are skipped."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from glance.registry.db import migration

POSTGRES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
#: An account to run a server as when the tests are run by root, who may not.
UNPRIVILEGED = "nobody"


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server on a socket in a directory of its own; its URL."""
    pytest.importorskip("psycopg2")
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    with _server_directory() as (directory, prefix):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
        data = directory / "pg"
        made = subprocess.run(
            [*prefix, f"{POSTGRES[-1]}/initdb", "-D", data, "-A", "trust", "-U", "glance"]
            + ["-E", "UTF8", "--locale=C", "-N"],
            **quiet,
        )
        if made.returncode:
            pytest.skip("initdb does not work here")
        server = subprocess.Popen(
            [*prefix, f"{POSTGRES[-1]}/postgres", "-D", data, "-k", directory]
            + ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"]
            + ["-c", "shared_buffers=16MB", "-c", "synchronous_commit=off"],
            **quiet,
        )
        try:
            url = f"postgresql+psycopg2://glance@/postgres?host={directory}"
            _wait_for(url)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def _wait_for(url: str) -> None:
    engine = sa.create_engine(url)
    for _ in range(200):
        with contextlib.suppress(sa.exc.OperationalError):
            engine.connect().close()
            engine.dispose()
            return
        time.sleep(0.05)
    pytest.skip("the database server does not come up here")


class Kind:
    """Databases of one kind, empty or at a version."""

    def __init__(self, directory: Path, server: str | None = None):
        self.directory = directory
        self.server = server
        self._made: dict[int, Path] = {}

    def empty(self) -> str:
        """Return the URL of a new file, or of a new schema in the server's one database."""
        name = f"g{uuid.uuid4().hex}"
        if self.server is None:
            return f"sqlite:///{self.directory}/{name}"
        engine = sa.create_engine(self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.execute(sa.text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        return f"{self.server}&options=-csearch_path%3D{name}"

    def at(self, version: int) -> str:
        """Return the URL of a new database at a version; files are copied, not migrated again."""
        url = self.empty()
        if self.server is None and version in self._made:
            shutil.copy(self._made[version], url.removeprefix("sqlite:///"))
            return url
        migration.db_sync(url, version)
        if self.server is None:
            self._made[version] = self.directory / f"version{version}"
            shutil.copy(url.removeprefix("sqlite:///"), self._made[version])
        return url


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return Kind(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def sqlite_url(sqlite: Kind) -> str:
    """The URL of an empty SQLite database."""
    return sqlite.empty()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """The kinds of database at hand: the test runs once for each."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite")
    return Kind(tmp_path_factory.mktemp("server"), request.getfixturevalue(request.param))


@pytest.fixture
def empty_url(kind: Kind) -> str:
    """The URL of an empty database: the test runs once for each kind."""
    return kind.empty()


@pytest.fixture
def connect() -> Iterator[Callable[[str], sa.engine.Connection]]:
    """Open plain connections (autocommit) that end with the test."""
    with contextlib.ExitStack() as stack:

        def open_it(url: str) -> sa.engine.Connection:
            engine = sa.create_engine(url, future=True, isolation_level="AUTOCOMMIT")
            stack.callback(engine.dispose)
            return stack.enter_context(engine.connect())

        yield open_it

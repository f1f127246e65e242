"""Empty databases of each kind that is at hand; the others are skipped."""

from __future__ import annotations

import contextlib
import functools
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from glance.registry.db import migration, models
from glance.registry.db.engine import Database

from support import databases


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with databases.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mysql() -> Iterator[str]:
    """The URL of a MariaDB server."""
    with databases.mysql() as url:
        yield url


class Kind:
    """Databases of one kind, empty or at a version."""

    def __init__(self, directory: Path, server: str | None = None):
        self.directory = directory
        self.server = server
        self.name = server.partition("+")[0] if server else "sqlite"
        self._made: dict[int, Path] = {}
        self._shared: dict[int, str] = {}

    def empty(self) -> str:
        """Return the URL of a new file, schema or database."""
        name = f"g{uuid.uuid4().hex}"
        if self.server is None:
            return f"sqlite:///{self.directory}/{name}"
        self._run(f"CREATE SCHEMA {name}")
        if self.name == "mysql":
            return self.server.replace("/mysql?", f"/{name}?")
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

    def emptied(self, slot: int = 0) -> str:
        """Return the URL of a database at the target version without rows, quickly.

        A test that needs two of them at once uses two slots.
        """
        if self.server is None:
            return self.at(models.SCHEMA_VERSION)
        if slot not in self._shared:
            self._shared[slot] = self.at(models.SCHEMA_VERSION)
            return self._shared[slot]
        databases.clear(self._shared[slot])
        return self._shared[slot]

    def _run(self, statement: str, url: str | None = None) -> None:
        engine = sa.create_engine(url or self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.execute(sa.text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return Kind(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def sqlite_url(sqlite: Kind) -> str:
    """The URL of an empty SQLite database."""
    return sqlite.empty()


@pytest.fixture
def sqlite_database(sqlite: Kind) -> Iterator[Database]:
    """A database at the target version without rows, in SQLite whatever the run is for."""
    database = Database(sqlite.emptied())
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def kind_named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Kind]:
    """Return the function that returns a kind of database, whose server it starts."""

    @functools.cache
    def get(name: str) -> Kind:
        if name == "sqlite":
            return request.getfixturevalue("sqlite")
        return Kind(tmp_path_factory.mktemp("server"), request.getfixturevalue(name))

    return get


@pytest.fixture(
    scope="session",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.peers),
        pytest.param("mysql", marks=pytest.mark.peers),
    ],
)
def kind(request: pytest.FixtureRequest, kind_named: Callable[[str], Kind]) -> Kind:
    """The kinds of database at hand: the test runs once for each."""
    return kind_named(request.param)


@pytest.fixture
def empty_url(kind: Kind) -> str:
    """The URL of an empty database: the test runs once for each kind."""
    return kind.empty()


@pytest.fixture
def any_database(kind: Kind) -> Iterator[Database]:
    """A database at the target version without rows."""
    database = Database(kind.emptied())
    yield database
    database.dispose()


@pytest.fixture
def connect() -> Iterator[Callable[[str], sa.engine.Connection]]:
    """Open plain connections (autocommit) that end with the test."""
    with contextlib.ExitStack() as stack:

        def open_it(url: str) -> sa.engine.Connection:
            engine = sa.create_engine(url, future=True, isolation_level="AUTOCOMMIT")
            stack.callback(engine.dispose)
            return stack.enter_context(engine.connect())

        yield open_it

"""PostgreSQL and MariaDB as sites run them: TLS, other defaults, slow statements."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration, models

from support import certificates, daemons, databases

pytestmark = pytest.mark.peers

ADMIN = RequestContext(is_admin=True)
SERVERS = ("postgresql", "mysql")

BESIDE = """
import eventlet; eventlet.monkey_patch()
import sys
import sqlalchemy as sa
from glance.registry.context import RequestContext
from glance.registry.db import api, engine

database, admin = engine.Database(sys.argv[1]), RequestContext(is_admin=True)
ended = []

def slow():
    with database.read() as conn:
        ended.append("begun")
        conn.execute(sa.text(sys.argv[2]))
    ended.append("slow")

waiting = eventlet.spawn(slow)
while not ended:
    eventlet.sleep(0)
for name in ("a", "b"):
    image = api.image_create(database, admin, {"status": "queued", "name": name})
    assert api.image_get(database, admin, image["id"])["name"] == name
    ended.append(name)
waiting.wait()
print(*ended)
"""


@pytest.mark.parametrize(
    ("server", "statement"), [("postgresql", "SELECT pg_sleep(3)"), ("mysql", "SELECT SLEEP(3)")]
)
def test_others_are_served_while_a_statement_runs(
    kind_named: Callable[[str], Any], server: str, statement: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", BESIDE, kind_named(server).emptied()]
    done = subprocess.run([*command, statement], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["begun", "a", "b", "slow"], done.stderr


TIMEOUT = """
import eventlet; eventlet.monkey_patch()
import socket, sys
from glance.common import exception
from glance.registry.db import engine

silent = socket.create_server(("127.0.0.1", 0))
port = silent.getsockname()[1]
database = engine.Database(f"{sys.argv[1]}://u:s3cret@127.0.0.1:{port}/x?connect_timeout=1")
try:
    with database.read():
        pass
except exception.ServiceUnavailable as err:
    print(type(err.__cause__.orig).__name__)
"""


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_is_silent_is_given_up(scheme: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", TIMEOUT, scheme]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["OperationalError"], done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(("server", "old"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_urls_of_diablo_work(kind_named: Callable[[str], Any], server: str, old: str) -> None:
    url = kind_named(server).emptied()
    old_url = f"{old}://{url.partition('://')[2]}"
    assert migration.db_version(old_url) == models.SCHEMA_VERSION
    database = engine.Database(old_url)
    assert api.image_create(database, ADMIN, {"status": "queued", "name": "雪"})["name"] == "雪"
    database.dispose()


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The authority of the servers, and another one."""
    directory = tmp_path_factory.mktemp("authorities")
    return tuple(certificates.Authority(directory / name) for name in ("ours", "other"))  # type: ignore[return-value]


@pytest.fixture(scope="module", params=SERVERS)
def over_tls(request: pytest.FixtureRequest, authorities: Any) -> Any:
    """The kind of a server that takes only TLS, and the beginning of its URL."""
    port = daemons.free_port()
    chain_and_key = authorities[0].issue("server")
    run = {"postgresql": databases.postgresql, "mysql": databases.mysql}[request.param]
    with run(tls=chain_and_key, port=port) as url:
        admin = sa.engine.make_url(url)
        yield (
            request.param,
            f"{request.param}://{admin.username}@127.0.0.1:{port}/{admin.database}",
        )


def parameters(kind: str, **values: Any) -> str:
    """Return the parameters of a URL: `ca`, a file, and `host`, whether the name is checked."""
    ca, host = values["ca"], values.get("host", True)
    if kind == "postgresql":
        return f"?sslmode={'verify-full' if host else 'verify-ca'}&sslrootcert={ca}"
    return f"?ssl_ca={ca}" + ("" if host else "&ssl_check_hostname=false")


def test_the_connection_is_encrypted_and_the_server_known(over_tls: Any, authorities: Any) -> None:
    kind, url = over_tls
    url += parameters(kind, ca=authorities[0].root)
    migration.db_sync(url)
    database = engine.Database(url)
    with database.read() as conn:
        if kind == "postgresql":
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert conn.execute(sa.text(query)).scalar() is True
        else:
            assert conn.execute(sa.text("SHOW STATUS LIKE 'Ssl_version'")).one()[1][:3] == "TLS"
    assert api.image_create(database, ADMIN, {"status": "queued", "name": "雪"})["name"] == "雪"
    database.dispose()


GREEN = """
import eventlet; eventlet.monkey_patch()
import sys
import sqlalchemy as sa
from glance.registry.db import engine
with engine.Database(sys.argv[1]).read() as conn:
    print(conn.execute(sa.text("SELECT 42")).scalar())
"""


def test_tls_works_on_the_event_loop(over_tls: Any, authorities: Any) -> None:
    kind, url = over_tls
    url += parameters(kind, ca=authorities[0].root)
    command = [sys.executable, "-W", "ignore", "-c", GREEN, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "42\n", done.stderr


def test_a_server_of_another_authority_is_refused(over_tls: Any, authorities: Any) -> None:
    kind, url = over_tls
    url += parameters(kind, ca=authorities[1].root)
    with pytest.raises(exception.DatabaseMigrationError, match="(?i)certificate verify failed"):
        migration.db_version(url)
    with pytest.raises(exception.ServiceUnavailable), engine.Database(url).read():
        pass


def test_a_server_with_another_name_is_refused(over_tls: Any, authorities: Any) -> None:
    kind, url = over_tls
    url = url.replace("127.0.0.1", "127.0.0.2") + parameters(kind, ca=authorities[0].root)
    # Nobody listens there; loopback has no other name that every machine knows.
    with pytest.raises(exception.DatabaseMigrationError):
        migration.db_version(url)


def test_a_file_that_is_missing_is_one_line(over_tls: Any, tmp_path: Path) -> None:
    kind, url = over_tls
    url += parameters(kind, ca=tmp_path / "none.pem")
    with pytest.raises(exception.DatabaseMigrationError, match="none.pem") as caught:
        migration.db_version(url)
    assert "\n" not in str(caught.value)


def test_a_connection_without_tls_is_refused_by_the_server(over_tls: Any) -> None:
    kind, url = over_tls
    url += "?sslmode=disable" if kind == "postgresql" else "?ssl_disabled=true"
    with pytest.raises(exception.DatabaseMigrationError):
        migration.db_version(url)


# -- what a URL may say wrongly ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nosuch=1", "connect_timeout=soon", "charset=latin1&nosuch=1"])
@pytest.mark.parametrize("scheme", SERVERS)
def test_a_wrong_parameter_is_one_line(scheme: str, name: str) -> None:
    url = f"{scheme}://u:s3cret@127.0.0.1:1/x?{name}"
    with pytest.raises(exception.DatabaseMigrationError) as caught:
        migration.db_version(url)
    assert "\n" not in str(caught.value) and "s3cret" not in str(caught.value)


# -- other defaults ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["latin1", "utf8mb3"])
def other_mysql(request: pytest.FixtureRequest) -> Any:
    with databases.mysql(charset=request.param) as url:
        yield url


def old_version_table(url: str, path: str) -> None:
    """Make the table of versions as sqlalchemy-migrate does, with the server's defaults."""
    from migrate.versioning import schema as migrate_schema

    made = sa.create_engine(url)
    migrate_schema.ControlledSchema.create(made, migration.REPOSITORY, 0)
    with made.begin() as conn:
        conn.execute(sa.text("UPDATE migrate_version SET repository_path = :path"), {"path": path})
    made.dispose()


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_text_is_ours_whatever_the_server_prefers(
    other_mysql: str, old: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "雪\U0001f4be"
    name = f"other_{old}"
    made = sa.create_engine(other_mysql, isolation_level="AUTOCOMMIT")
    with made.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name}"))
        url = other_mysql.replace("/mysql?", f"/{name}?")
        if old:
            old_version_table(url, "/usr/lib/glance")
        migration.db_sync(url, 9)
        # The path has no form in the server's character set.
        monkeypatch.setattr(migration, "REPOSITORY", shutil.copytree(migration.REPOSITORY, odd))
        migration.db_sync(url)
        version = conn.execute(
            sa.text(f"SELECT repository_id, version FROM {name}.migrate_version")
        )
        assert dict(version.all())[migration.REPOSITORY_ID] == models.SCHEMA_VERSION
        found = conn.execute(
            sa.text(
                "SELECT table_name, column_name, character_set_name, collation_name"
                " FROM information_schema.columns"
                " WHERE table_schema = :name AND collation_name IS NOT NULL"
            ),
            {"name": name},
        ).all()
    made.dispose()
    assert {(row[2], row[3]) for row in found} == {("utf8mb4", "utf8mb4_nopad_bin")}, found
    assert {row[0] for row in found} == {
        "images", "image_properties", "image_members", "image_tags",
        "purged_uuids", "scrub_queue", "conversion_jobs", "conversion_workers", "migrate_version"
    }  # fmt: skip
    database = engine.Database(url)
    for owner in ("acme", "ACME", "acme ", "\U0001f4be"):
        values = {"status": "queued", "owner": owner, "properties": {"é": "x", "e": "\U0001f4be"}}
        image = api.image_create(database, ADMIN, values)
        assert api.image_get(database, ADMIN, image["id"])["properties"] == values["properties"]
    with database.read() as conn:
        owned = sa.select(sa.func.count()).where(models.images.c.owner == "acme")
        assert conn.execute(owned).scalar() == 1
    database.dispose()


def test_postgresql_with_another_collation() -> None:
    with databases.postgresql(locale=("-E", "UTF8", "--locale=C.UTF-8")) as url:
        made = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with made.connect() as conn:
            conn.execute(
                sa.text(
                    "CREATE DATABASE icu TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu"
                    " ICU_LOCALE 'en-US-u-ks-level1' LOCALE 'C'"
                )
            )
            conn.execute(
                sa.text("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
            )
        made.dispose()
        database = engine.Database(url.replace("/postgres?", "/icu?"))
        migration.db_sync(database.url)
        for owner in ("acme", "ACME", "acmé"):
            api.image_create(database, ADMIN, {"status": "queued", "owner": owner})
        with database.read() as conn:
            owned = sa.select(sa.func.count()).where(models.images.c.owner == "acme")
            assert conn.execute(owned).scalar() == 1
        database.dispose()
        # Half of Unicode has no form in it: refused before there is a table.
        with pytest.raises(exception.DatabaseMigrationError, match="LATIN1.*UTF8"):
            migration.db_sync(url.replace("/postgres?", "/latin?"))

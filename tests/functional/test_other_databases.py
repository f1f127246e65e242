"""Daemons whose registry has its records in PostgreSQL or MariaDB."""

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from support import daemons, databases, operators, releases

pytestmark = pytest.mark.peers


@pytest.fixture(params=["postgresql", "mysql"])
def url(request):
    with getattr(databases, request.param)() as server:
        yield server


#: How a server tells that a statement waits for a lock.
WAITS = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def test_a_head_is_served_while_a_statement_waits(url, make_site):
    """The registry has one worker; a PUT waits in it for a row that somebody else has locked."""
    done = operators.run("glance-manage", "--sql-connection", url, "db_sync", cwd="/")
    assert done.returncode == 0, done.stderr
    site = make_site(registry={"sql_connection": url})
    for name in ("one", "two"):
        assert site.http.post("/v1/images", {"x-image-meta-name": name}).status == 201
    ended = []

    def put():
        reply = site.http.put("/v1/images/1", {"x-image-meta-name": "changed"})
        ended.append(("PUT", reply.status))

    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.execute(sa.text("SELECT id FROM images WHERE id = 1 FOR UPDATE"))
        putting = threading.Thread(target=put)
        putting.start()
        until_somebody_waits(url)
        ended.append(("HEAD", site.http.head("/v1/images/2").status))
    putting.join(60)
    assert ended == [("HEAD", 200), ("PUT", 200)]
    engine.dispose()


def until_somebody_waits(url):
    observer = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    waiting = sa.text(WAITS[observer.dialect.name])
    deadline = time.monotonic() + 30
    with observer.connect() as looking:
        while not looking.execute(waiting).scalar():
            assert time.monotonic() < deadline, "nobody waits for a lock"
            # NOTE: InnoDB shows an old picture to who looks again within 0.1 seconds.
            time.sleep(0.2)
    observer.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_an_upgrade_that_meets_a_creation_half_way_does_not_fail(url, tmp_path):
    """The step changes the table first that the creation comes to last."""
    done = operators.run("glance-manage", "--sql-connection", url, "db_sync", cwd="/")
    assert done.returncode == 0, done.stderr
    program = releases.later(tmp_path) / "glance-manage"
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        # Of two that wait for one another, the server ends who notices it first: the upgrade.
        conn.execute(sa.text("SET deadlock_timeout = '1h'"))
        created = "INSERT INTO images (id, status, created_at) VALUES (1, 'queued', now())"
        conn.execute(sa.text(created))
        upgrading = subprocess.Popen(
            [sys.executable, "-W", "ignore", program, "--sql-connection", url, "db_sync"],
            env=daemons.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_somebody_waits(url)
        columns = "(image_id, name, value, created_at) VALUES (1, 'os', 'bsd', now())"
        conn.execute(sa.text(f"INSERT INTO image_properties {columns}"))
    said = upgrading.communicate(timeout=60)[0]
    assert upgrading.returncode == 0, said
    with engine.connect() as conn:
        assert conn.execute(sa.text("SELECT hue, value FROM image_properties")).all() == [
            (None, "bsd")
        ]
        assert conn.execute(sa.text("SELECT hue, id FROM images")).all() == [(None, 1)]
    engine.dispose()

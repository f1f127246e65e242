"""Daemons whose registry has its records in PostgreSQL or MariaDB."""

import threading
import time

import pytest
import sqlalchemy as sa

from support import databases, operators

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

    engine, observer = sa.create_engine(url), sa.create_engine(url, isolation_level="AUTOCOMMIT")
    waiting = sa.text(WAITS[engine.dialect.name])
    with engine.begin() as conn, observer.connect() as looking:
        conn.execute(sa.text("SELECT id FROM images WHERE id = 1 FOR UPDATE"))
        putting = threading.Thread(target=put)
        putting.start()
        deadline = time.monotonic() + 30
        while not looking.execute(waiting).scalar():
            assert time.monotonic() < deadline, "the PUT never came to the row"
            # NOTE: InnoDB shows an old picture to who looks again within 0.1 seconds.
            time.sleep(0.2)
        ended.append(("HEAD", site.http.head("/v1/images/2").status))
    putting.join(60)
    assert ended == [("HEAD", 200), ("PUT", 200)]
    engine.dispose()
    observer.dispose()

"""The database stops, restarts, hangs, is locked, slow, or fails over: nothing needs a restart.

A request that the outage meets gets 503 with Retry-After, the next one after it succeeds, and
everything that was acknowledged is there afterwards.
"""

import contextlib
import dataclasses
import socket
import threading
import time

import pytest
import sqlalchemy as sa

from glance.registry.db import engine as databases_engine
from glance.registry.db import migration, models

from support import daemons, databases, faults

pytestmark = pytest.mark.peers

#: Seconds after which a request does not wait for the database any longer.
PATIENCE = 2


class Relay:
    """A TCP port that leads to the Unix socket of a server, and can be held up.

    Bytes are passed on, late, or not at all. A context manager.
    """

    def __init__(self, target):
        self.target, self.delay = target, 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._passes = threading.Event()
        self._passes.set()
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._listener.close()
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.target)
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    words = (*ends, self._passes)
                    threading.Thread(target=self._pass, args=words, daemon=True).start()

    def _pass(self, one, other, passes):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                passes.wait()
                time.sleep(self.delay)
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def hold(self):
        self._passes.clear()

    def let_go(self):
        self._passes.set()

    def lose(self):
        """Pass nothing on for the connections that there are; new ones work."""
        self._passes.clear()
        self._passes = threading.Event()
        self._passes.set()

    def cut(self):
        """End all connections."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server():
    with databases.PostgreSQL(daemons.free_port()) as running:
        yield running.create()


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def backend(request):
    """The path of a server's Unix socket, and the URL for a port that leads there."""
    with getattr(databases, request.param)() as url:
        parsed = sa.engine.make_url(url)
        if request.param == "postgresql":
            path = f"{parsed.query['host']}/.s.PGSQL.5432"
            yield path, "postgresql+psycopg2://glance@127.0.0.1:{}/{}"
        else:
            yield parsed.query["unix_socket"], "mysql+pymysql://root@127.0.0.1:{}/{}"


@pytest.fixture
def relay(backend):
    with Relay(backend[0]) as running:
        yield running


@pytest.fixture
def relayed(backend, relay):
    """The URL of an empty database behind the relay."""
    name = f"glance{relay.port}"
    has_default = "postgres" if backend[1].startswith("postgres") else "mysql"
    engine = sa.create_engine(
        backend[1].format(relay.port, has_default), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return backend[1].format(relay.port, name)


@pytest.fixture
def start(make_site):
    def begin(url, **options):
        return make_site(
            workers=1,
            registry={
                "sql_connection": url,
                "db_auto_create": True,
                "sql_response_timeout": PATIENCE,
                **options,
            },
        )

    return begin


def create(site, name="x"):
    return site.http.add(b"data", name=name, is_public=True)


def fails(site):
    """Return whether a request fails as it is to fail while the database is away."""
    reply = site.http.get("/v1/images")
    if reply.status != 200:
        assert reply.status == 503 and int(reply.header("Retry-After")) > 0
        assert "postgres" not in reply.text and "127.0.0.1" not in reply.text
    return reply.status == 503


def until_back(site):
    """Wait until the first request succeeds; all that follow succeed, too."""
    faults.until(lambda: not fails(site), "the service")
    for number in range(8):
        assert site.http.get("/v1/images").status == 200
        assert create(site, f"after {number}").status == 201


@dataclasses.dataclass
class Load:
    """A client that creates images all the time; `created` are those that were acknowledged."""

    site: daemons.Site
    created: list = dataclasses.field(default_factory=list)
    statuses: set = dataclasses.field(default_factory=set)

    def __enter__(self):
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _run(self):
        while not self._ended.is_set():
            reply = create(self.site)
            self.statuses.add((reply.status, reply.header("Retry-After") is not None))
            if reply.status == 201:
                self.created.append(reply.json()["image"]["id"])
            else:
                time.sleep(0.05)

    def more(self):
        """Wait until some more images have been created."""
        wanted = len(self.created) + 8
        faults.until(lambda: len(self.created) >= wanted, "more images")

    def check(self):
        """Assert that what was acknowledged is there, and that nothing else was told than 503."""
        for image_id in self.created:
            reply = self.site.http.get(f"/v1/images/{image_id}")
            assert (reply.status, reply.body) == (200, b"data")
        assert len(set(self.created)) == len(self.created)
        assert self.statuses <= {(201, False), (503, True)}
        assert "Traceback" not in self.site.registry.log() + self.site.api.log()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_database_that_is_restarted_under_load(server, start, end):
    site = start(server.url)
    with Load(site) as load:
        load.more()
        getattr(server, end)()
        faults.until(lambda: fails(site), "the outage")
        server.start()
        load.more()
    load.check()
    until_back(site)


def test_a_database_that_hangs(server, start):
    site = start(server.url)
    with Load(site) as load:
        load.more()
        with server.frozen():
            faults.until(lambda: fails(site), "the outage")
            assert site.http.get("/healthcheck/ready").text == "database\n"
        load.more()
    load.check()
    until_back(site)


def test_an_address_that_moves_to_another_server(relay, relayed, start):
    """The connections that there are lead nowhere for ever, and nobody ends them."""
    site = start(relayed)
    with Load(site) as load:
        load.more()
        relay.lose()
        load.more()
    load.check()
    assert (503, True) in load.statuses or len(load.created) > 16
    until_back(site)


def test_a_network_that_is_interrupted(relay, relayed, start):
    site = start(relayed)
    with Load(site) as load:
        load.more()
        relay.hold()
        faults.until(lambda: fails(site), "the outage")
        faults.until(lambda: site.http.get("/healthcheck/ready").text == "database\n", "the check")
        relay.let_go()
        load.more()
        relay.cut()
        load.more()
    load.check()
    until_back(site)


def test_a_database_that_is_slow_is_waited_for(relay, relayed, start):
    site = start(relayed)
    assert create(site).status == 201
    relay.delay = 0.05
    assert create(site).status == 201
    assert len(site.http.get("/v1/images").json()["images"]) == 2
    faults.until(lambda: site.http.get("/healthcheck/ready").status == 200, "the check")


def test_a_lock_that_is_held_for_long(server, start):
    site = start(server.url)
    image = create(site).json()["image"]
    engine = sa.create_engine(server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT * FROM images FOR UPDATE"))
        reply = site.http.put(f"/v1/images/{image['id']}", {"x-image-meta-name": "new"})
        assert (reply.status, reply.header("Retry-After")) == (503, "30")
        # What the lock does not concern goes on.
        assert site.http.get("/v1/images").json()["images"][0]["name"] == "x"
        assert create(site).status == 201
    engine.dispose()
    reply = site.http.put(f"/v1/images/{image['id']}", {"x-image-meta-name": "new"})
    assert (reply.status, reply.json()["image"]["name"]) == (200, "new")


def test_a_failover_to_a_standby(server, start):
    with databases.PostgreSQL(daemons.free_port()) as standby:
        # Both servers are in the URL, and the one that may be written to is chosen.
        url = (
            "postgresql+psycopg2://glance@/postgres?target_session_attrs=read-write"
            f"&host=127.0.0.1:{server.port}&host=127.0.0.1:{standby.port}"
        )
        site = start(url)
        standby.copy(server)
        with Load(site) as load:
            load.more()
            server.kill()
            faults.until(lambda: fails(site), "the outage")
            standby.promote()
            load.more()
        load.check()
        until_back(site)
        assert site.http.get("/healthcheck/ready").status == 200


def test_a_server_that_became_read_only_is_left(server, start):
    site = start(server.url)
    assert create(site).status == 201
    server.run("ALTER SYSTEM SET default_transaction_read_only = on")
    server.run("SELECT pg_reload_conf()")
    faults.until(lambda: create(site).status == 503, "the read-only server")
    assert create(site).header("Retry-After") == "30"
    faults.until(lambda: site.http.get("/healthcheck/ready").text == "database\n", "a check")
    server.run("ALTER SYSTEM RESET default_transaction_read_only")
    server.run("SELECT pg_reload_conf()")
    until_back(site)
    assert "Traceback" not in site.registry.log()


@pytest.fixture(scope="module")
def mariadb():
    """A server, as its administrator sees it, and the URL of an ordinary account there."""
    with databases.mysql() as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as admin:
            admin.execute(sa.text("CREATE DATABASE plain"))
            # NOTE: read_only does not bind an administrator.
            admin.execute(sa.text("CREATE USER plain@localhost IDENTIFIED BY 'c4nary'"))
            admin.execute(sa.text("GRANT ALL ON plain.* TO plain@localhost"))
            yield (
                admin,
                sa.engine.make_url(url)
                .set(username="plain", password="c4nary", database="plain")
                .render_as_string(hide_password=False),
            )
        engine.dispose()


def test_a_mariadb_that_became_read_only_is_left(mariadb, start):
    admin, url = mariadb
    site = start(url)
    assert create(site).status == 201
    admin.execute(sa.text("SET GLOBAL read_only = ON"))
    try:
        reply = create(site)
        assert (reply.status, reply.header("Retry-After")) == (503, "30")
        assert "The database is read-only" in site.registry.log()
        # What is only read goes on.
        assert len(site.http.get("/v1/images").json()["images"]) == 1
        faults.until(lambda: site.http.get("/healthcheck/ready").text == "database\n", "a check")
    finally:
        admin.execute(sa.text("SET GLOBAL read_only = OFF"))
    until_back(site)
    assert "Traceback" not in site.registry.log()
    assert "c4nary" not in site.registry.log() + site.api.log() + reply.text


@pytest.mark.parametrize("scope", ["read_only", "tx_read_only", "START TRANSACTION READ ONLY"])
def test_the_errors_of_a_mariadb_that_is_read_only_are_known(mariadb, scope):
    admin, url = mariadb
    made = sa.create_engine(url)
    admin.execute(sa.text("CREATE TABLE IF NOT EXISTS plain.things (id INTEGER)"))
    try:
        if scope.startswith("START"):
            connection = made.connect()
            connection.exec_driver_sql(scope)
        else:
            admin.execute(sa.text(f"SET GLOBAL {scope} = ON"))
            connection = made.connect()
        with connection, pytest.raises(sa.exc.DBAPIError) as caught:
            connection.execute(sa.text("INSERT INTO things VALUES (1)"))
    finally:
        admin.execute(sa.text("SET GLOBAL read_only = OFF"))
        admin.execute(sa.text("SET GLOBAL tx_read_only = OFF"))
        made.dispose()
        # Another test starts with an empty database.
        admin.execute(sa.text("DROP TABLE plain.things"))
    assert databases_engine.is_read_only(caught.value)


def test_an_upgrade_that_waits_for_a_reader_lets_others_work_meanwhile(server):
    migration.db_sync(server.url, models.SCHEMA_VERSION - 1)
    made = sa.create_engine(server.url)
    changing = threading.Thread(target=migration.db_sync, args=(server.url,), daemon=True)
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
    with made.connect() as reader, made.connect() as other:
        reader.execute(sa.text("SELECT * FROM images"))
        changing.start()
        faults.until(lambda: other.execute(waiting).scalar(), "the upgrade waits")
        other.execute(sa.text("SET statement_timeout = '30s'"))
        assert other.execute(sa.text("SELECT id FROM images")).all() == []
        assert changing.is_alive()
    changing.join(60)
    assert migration.db_version(server.url) == models.SCHEMA_VERSION
    made.dispose()

"""Several nodes behind HAProxy with the files of etc/deployment: each part dies, and comes back.

A request fails only if it was under way on what died; the same request succeeds when it is sent
again; no byte is wrong, no image lost, and RabbitMQ has an event of each change.
"""

import collections
import contextlib
import dataclasses
import hashlib
import http.client
import random
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from support import daemons, databases, faults, images, keystone, longer, rabbitmq, releases
from support.rawhttp import Http, meta_headers
from support.swift_node import KEY, USER, SwiftNode

pytestmark = [pytest.mark.peers, pytest.mark.slow]

ETC = daemons.ROOT / "etc"
FILES = ETC / "deployment"
#: How many requests the load has under way at most.
CLIENTS = 4
#: For how long after a death a request may still meet the dead one, in seconds.
MOMENT = 1.0
#: For how long daemons drain; HAProxy's checks are quicker by as much.
DRAIN = 2
#: The events of images that the load makes, reads and deletes.
UPLOAD, SEND, DELETE = "image.upload", "image.send", "image.delete"


class Nodes:
    """HAProxy, two APIs and two registries, made of the files that operators get."""

    def __init__(self, directory, database, swift, rabbit, identity):
        self.directory, self.database, self.swift = directory, database, swift
        self.rabbit, self.identity = rabbit, identity
        self.messages = []
        self.front, self.registry_front = daemons.free_port(), daemons.free_port()
        self.apis = [self._daemon("glance-api", number) for number in (1, 2)]
        self.registries = [self._daemon("glance-registry", number) for number in (1, 2)]
        self._process = None

    @property
    def http(self):
        return Http(self.front)

    def _daemon(self, program, number):
        place = self.directory / f"node{number}"
        place.mkdir(exist_ok=True)
        daemon = daemons.Daemon(
            program, place / f"{program}.conf", place / f"{program}.out", daemons.free_port()
        )
        replaced = {
            "bind_host": "127.0.0.1",
            "bind_port": daemon.port,
            "log_file": place / f"{program}.log",
            "workers": 2,
            "registry_host": "127.0.0.1",
            "registry_port": self.registry_front,
            "public_endpoint": f"http://127.0.0.1:{self.front}",
            "drain_delay": DRAIN,
            "swift_store_auth_address": f"http://127.0.0.1:{self.swift.port}/auth/v1.0",
            "swift_store_user": USER,
            "swift_store_key": KEY,
            "swift_store_spool_dir": place / "spool",
            "rabbit_hosts": f"127.0.0.1:{self.rabbit.port}",
            "rabbit_retry_backoff": 0.2,
            "rabbit_retry_max_backoff": 1,
            "notification_spool_dir": place / "events",
            "sql_connection": self.database,
            "db_auto_create": True,
        }
        (place / "spool").mkdir(exist_ok=True)
        url = self.identity.url
        replaced_by_section = {
            "auth_url": url,
            "www_authenticate_uri": url,
            "password": keystone.PASSWORD,
        }
        daemon.conf.write_text(with_keystone(merged(program, replaced), replaced_by_section))
        return daemon

    def told(self):
        """Return how many different messages there were of each event of each image, so far."""
        for name in ("INFO", "ERROR"):
            queue = f"glance_notifications.{name}"
            self.messages += self.rabbit.take(queue, patience=0.5)
        found = {one.id: one.envelope for one in self.messages}
        return collections.Counter(
            (one["event_type"], str(one["payload"].get("id") or one["payload"]["image_id"]))
            for one in found.values()
            if one["priority"] == "INFO"
        )

    def write_haproxy(self):
        text = (FILES / "haproxy.cfg").read_text()
        text = text.replace("inter 2s", "inter 500ms")
        ports = {"192.0.2.10:9292": self.front, "192.0.2.10:9191": self.registry_front}
        for number, (api, registry) in enumerate(zip(self.apis, self.registries, strict=True), 1):
            ports[f"192.0.2.1{number}:9292"] = api.port
            ports[f"192.0.2.1{number}:9191"] = registry.port
        for address, port in ports.items():
            assert address in text
            text = text.replace(address, f"127.0.0.1:{port}")
        path = self.directory / "haproxy.cfg"
        path.write_text(text)
        return path

    def start_haproxy(self):
        path = self.write_haproxy()
        with (self.directory / "haproxy.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["haproxy", "-db", "-f", path], stdout=log, stderr=log, start_new_session=True
            )
        faults.until(self._is_up, "HAProxy")

    def _is_up(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http.get("/healthcheck/ready").status == 200
        return False

    def stop_haproxy(self):
        self._process.kill()
        self._process.wait()

    def start(self):
        # The first registry makes the tables.
        for daemon in (*self.registries, *self.apis):
            daemon.start()
        self.start_haproxy()
        return self

    def stop(self):
        if self._process is not None:
            self.stop_haproxy()
        for daemon in (*self.apis, *self.registries):
            daemon.kill()


def merged(program, replaced):
    """Return the sample file of a program with what etc/deployment changes in it."""
    sample = (ETC / f"{program}.conf").read_text()
    changes = (FILES / f"{program}.conf").read_text()
    sections = sample.index("\n[pipeline:")
    text = f"{sample[:sections]}\n{changes}"
    for name, value in replaced.items():
        text = re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE)
        text += f"{name} = {value}\n"
    return text + sample[sections:]


def with_keystone(text, settings):
    """Return a file with the pipeline that asks Keystone, and settings of that filter."""
    text = re.sub(r"^(pipeline = .*\bcontext .*)$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^# (pipeline = (?!.*cachemanage).*\bauthtoken .*)$", r"\1", text, flags=re.M)
    text, mark, filtering = text.partition("[filter:authtoken]")
    for name, value in settings.items():
        filtering, count = re.subn(
            rf"^(# )?{name} =.*$", f"{name} = {value}", filtering, flags=re.M
        )
        assert count == 1, name
    return text + mark + filtering


@dataclasses.dataclass
class Failure:
    what: str
    begin: float
    end: float


class Load:
    """Clients that create, read and delete images, and send again what failed."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.count = 0
        self.kept = {}
        self.failures = []
        self.problems = []
        #: How many responses said that a change was made, by event and image.
        self.changes = collections.Counter()
        self.sign_in()

    def __enter__(self):
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive()

    def _run(self, number):
        choose = random.Random(number)
        turn = 0
        while not self._ended.is_set():
            turn += 1
            data = choose.randbytes(choose.choice((10, 100_000, 2_000_000)))
            try:
                self._one(f"c{number}-{turn}", data, turn % 3 == 0)
            except Exception as err:
                # The client's own failure must end the test, not only this thread.
                self.problems.append(f"{type(err).__name__}: {err}")
                return

    def _one(self, name, data, is_deleted):
        headers = {
            **meta_headers(name=name),
            "Content-Type": "application/octet-stream",
        }
        reply = self._until("POST", "/v1/images", (201,), headers, data)
        image_id = reply.json()["image"]["id"]
        self.changes[UPLOAD, str(image_id)] += 1
        path = f"/v1/images/{image_id}"
        if self._until("GET", path, (200,)).body != data:
            self.problems.append(f"wrong bytes of image {image_id}")
        self.changes[SEND, str(image_id)] += 1
        self.count += 1
        if is_deleted:
            # One that failed may have been carried out.
            if self._until("DELETE", path, (200, 404)).status == 200:
                self.changes[DELETE, str(image_id)] += 1
        else:
            self.kept[str(image_id)] = hashlib.md5(data).hexdigest()

    def _until(self, method, path, statuses, headers=None, body=b""):
        """Send a request until it succeeds; note each time that it does not."""
        for _ in range(200):
            begin = time.monotonic()
            try:
                reply = self._request(method, path, headers, body)
                if reply.status in statuses:
                    return reply
                what = f"{method} {path}: {reply.status} {reply.body[:200]!r}"
                if reply.status < 500:
                    self.problems.append(what)
                    return reply
            except (OSError, http.client.HTTPException) as err:
                what = f"{method} {path}: {type(err).__name__}"
            self.failures.append(Failure(what, begin, time.monotonic()))
            time.sleep(0.1)
        raise AssertionError(f"{what} again and again")

    def _request(self, method, path, headers=None, body=b""):
        token = {"X-Auth-Token": self.token}
        return self.nodes.http.request(method, path, {**token, **(headers or {})}, body)

    def sign_in(self):
        """Go on with another token, which no worker knows."""
        self.token = self.nodes.identity.token("joe", "project")

    def more(self):
        wanted = self.count + 3 * CLIENTS
        faults.until(lambda: self.count >= wanted or self.problems, "more images", 120)

    def check(self):
        assert self.problems == []
        for image_id, checksum in self.kept.items():
            reply = self._request("GET", f"/v1/images/{image_id}")
            assert reply.status == 200
            assert hashlib.md5(reply.body).hexdigest() == checksum
            self.changes[SEND, image_id] += 1
        self._check_events()

    def _check_events(self):
        """Compare events with changes: no change without an event, and no event twice."""
        # An API that is killed may not have noticed the end of a download.
        sure = (UPLOAD, DELETE) if self.failures else (UPLOAD, DELETE, SEND)
        wanted = {key: count for key, count in self.changes.items() if key[0] in sure}
        told = {}

        def missing():
            told.update(self.nodes.told())
            return {key: count for key, count in wanted.items() if told.get(key, 0) < count}

        faults.until(lambda: not missing(), f"the events of {len(wanted)} changes", 60)
        mine = {image_id for _, image_id in self.changes}
        assert [
            key
            for key, count in told.items()
            if key[1] in mine and count > max(wanted.get(key, 0), 1) and key[0] in sure
        ] == []


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    images.need("haproxy")
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(databases.PostgreSQL(daemons.free_port())).create()
        swift = stack.enter_context(SwiftNode(tmp_path_factory.mktemp("swift")))
        rabbit = rabbitmq.Rabbit(tmp_path_factory.mktemp("rabbit"))
        stack.callback(rabbitmq.remove, rabbit)
        rabbit.start()
        identity = keystone.Keystone(tmp_path_factory.mktemp("keystone") / "home")
        stack.enter_context(identity)
        identity.user("glance", "service", ["admin", "service"])
        identity.user("joe", "project")
        made = Nodes(tmp_path_factory.mktemp("nodes"), database.url, swift, rabbit, identity)
        made.server = database
        stack.callback(made.stop)
        yield made.start()


#: The second of each kind has the same files and the same place behind HAProxy as the first.
PARTS = {
    "an API": lambda nodes: nodes.apis[0],
    "a registry": lambda nodes: nodes.registries[1],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed(nodes, part):
    daemon = PARTS[part](nodes)
    with Load(nodes) as load:
        load.more()
        assert load.failures == []
        killed = time.monotonic()
        daemon.kill()
        load.more()
        daemon.start()
        load.more()
    late = [failure for failure in load.failures if failure.begin > killed + MOMENT]
    assert late == []
    assert len(load.failures) <= 2 * CLIENTS
    load.check()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_stopped_in_order_is_not_noticed(nodes, part):
    daemon = PARTS[part](nodes)
    with Load(nodes) as load:
        load.more()
        assert daemon.stop() == 0
        load.more()
        daemon.start()
        load.more()
    assert load.failures == []
    load.check()


def test_a_database_that_is_killed(nodes):
    with Load(nodes) as load:
        load.more()
        nodes.server.kill()
        faults.until(lambda: load.failures, "the outage")
        nodes.server.start()
        started = time.monotonic()
        load.more()
        load.more()
    # HAProxy takes the nodes back when two checks have succeeded.
    assert [each for each in load.failures if each.begin > started + 10] == []
    load.check()


def test_a_store_that_is_killed(nodes):
    with Load(nodes) as load:
        load.more()
        nodes.swift.kill()
        # The nodes are not ready, but what needs no store goes on.
        faults.until(lambda: nodes.apis[0].http.get("/healthcheck/ready").status == 503, "a check")
        faults.until(lambda: {"api1", "api2"} <= down(nodes), "HAProxy")
        headers = {"X-Auth-Token": load.token}
        for _ in range(4):
            assert nodes.http.get("/v1/images", headers).status == 200
        reply = nodes.http.add(b"data", headers, name="x")
        assert (reply.status, reply.header("Retry-After")) == (503, "30")
        nodes.swift.start()
        started = time.monotonic()
        load.more()
        load.more()
    assert [each for each in load.failures if each.begin > started + 10] == []
    load.check()


def test_a_broker_that_is_killed_is_not_noticed(nodes):
    with Load(nodes) as load:
        load.more()
        nodes.rabbit.kill()
        load.more()
        nodes.rabbit.start()
        load.more()
    assert load.failures == []
    load.check()


@longer.only
def test_a_broker_that_is_killed_and_an_api_with_it(nodes):
    daemon = nodes.apis[0]
    with Load(nodes) as load:
        load.more()
        nodes.rabbit.kill()
        load.more()
        killed = time.monotonic()
        daemon.kill()
        load.more()
        daemon.start()
        load.more()
        nodes.rabbit.start()
    assert [each for each in load.failures if each.begin > killed + MOMENT] == []
    # Some of the events were on the disk of the dead.
    load.check()


def test_keystone_that_is_killed(nodes):
    with Load(nodes) as load:
        load.more()
        unknown = nodes.identity.token("joe", "project")
        nodes.identity.stop()
        # Nobody can say whether it is good.
        assert nodes.http.get("/v1/images", {"X-Auth-Token": unknown}).status == 503
        nodes.identity.resume()
        started = time.monotonic()
        load.more()
        load.sign_in()
        load.more()
    assert [each for each in load.failures if each.begin > started + MOMENT] == []
    assert nodes.http.get("/v1/images", {"X-Auth-Token": unknown}).status == 200
    load.check()


def test_haproxy_that_is_killed(nodes):
    with Load(nodes) as load:
        load.more()
        nodes.stop_haproxy()
        nodes.start_haproxy()
        load.more()
    load.check()


def test_a_node_is_taken_away_and_added(nodes):
    with Load(nodes) as load:
        load.more()
        for daemon in (nodes.apis[1], nodes.registries[1]):
            assert daemon.stop() == 0
        load.more()
        for daemon in (nodes.registries[1], nodes.apis[1]):
            daemon.start()
        load.more()
    assert load.failures == []
    faults.until(lambda: "api2" not in down(nodes), "the node")
    load.check()


def manage(nodes, programs, *words):
    """Run glance-manage of a release; return its exit status and all that it printed."""
    conf = nodes.registries[0].conf
    done = subprocess.run(
        [sys.executable, programs / "glance-manage", f"--config-file={conf}", *words],
        env=daemons.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_nodes_are_upgraded_one_after_the_other_across_a_schema_version(nodes, tmp_path):
    new, old = releases.later(tmp_path), daemons.BIN
    here, there = zip(nodes.apis, nodes.registries, strict=True)
    try:
        with Load(nodes) as load:
            load.more()
            switch(here, new, lambda: manage(nodes, new, "db_sync"))
            assert manage(nodes, new, "db_version") == (0, f"{releases.VERSION}\n")
            load.more()
            # The registry of the old release does not even mind a restart.
            killed = time.monotonic()
            nodes.registries[1].kill()
            load.more()
            nodes.registries[1].start()
            assert f"schema version {releases.VERSION}, of a newer" in (
                nodes.registries[1].conf.with_suffix(".log").read_text()
            )
            load.more()
            assert manage(nodes, old, "db_sync")[0] == 1
            switch(there, new)
            load.more()
        assert [each for each in load.failures if each.end < killed] == []
        assert [each for each in load.failures if each.begin > killed + MOMENT] == []
        assert len(load.failures) <= 2 * CLIENTS
        load.check()
    finally:
        for daemon in (*nodes.apis, *nodes.registries):
            daemon.kill()
            daemon.programs, daemon.fresh = old, False
        status, said = manage(nodes, new, "downgrade", str(releases.VERSION - 1))
        assert status == 0, said
        for daemon in (*nodes.registries, *nodes.apis):
            daemon.start()


def switch(node, programs, install=lambda: (0, "")):
    """Upgrade an API and a registry as the manual says."""
    for daemon in node:
        assert daemon.stop() == 0
        daemon.programs, daemon.fresh = programs, True
    status, said = install()
    assert status == 0, said
    for daemon in reversed(node):
        daemon.start()


def down(nodes):
    """Return which daemons HAProxy's log says were down last."""
    states = re.findall(
        r"Server glance-\w+/(\w+) is (UP|DOWN)", (nodes.directory / "haproxy.log").read_text()
    )
    last = dict(states)
    return {name for name, state in last.items() if state == "DOWN"}


def test_haproxy_takes_the_file_as_it_is(tmp_path):
    if shutil.which("haproxy") is None:
        images.without("HAProxy is not installed")
    done = subprocess.run(
        ["haproxy", "-c", "-f", FILES / "haproxy.cfg"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr

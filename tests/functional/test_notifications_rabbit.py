"""Notifications through a real RabbitMQ: killed, stopped, full, behind TLS, and asked by consumers
of both releases.
"""

import collections
import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid

import pytest

from glance import notifier
from glance.common import config
from glance.notifier import message, rabbit
from glance.testing import notifier_suite

from support import certificates, checkout, daemons, pages, rabbitmq, records

pytestmark = pytest.mark.peers

RUNS = {
    "notification-consumer": {"": "test_the_consumer_of_the_documentation_works"},
    "several-nodes": {
        "What a dead node leaves": (
            "test_events_of_a_host_that_is_gone_are_sent_by_another_one_that_gets_its_files"
        )
    },
}

DATA = bytes(range(256)) * 16
PRIORITIES = ("INFO", "WARN", "ERROR")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, authority):
    running = rabbitmq.Rabbit(tmp_path_factory.mktemp("rabbit"), authority=authority)
    try:
        yield running.start()
    finally:
        rabbitmq.remove(running)


@pytest.fixture
def broker(shared):
    """The broker, running; what the test has ended runs again afterwards."""
    yield shared
    shared.revive()


@pytest.fixture
def topic():
    """A topic of the test's own, and so queues of its own."""
    return f"t-{uuid.uuid4().hex}"


@pytest.fixture
def options(shared, topic):
    """The options of a daemon that tells this broker, quick to try again."""
    return {
        "notifier_strategy": "rabbit",
        "rabbit_port": shared.port,
        "rabbit_notification_topic": topic,
        "rabbit_retry_backoff": 0.2,
        "rabbit_retry_max_backoff": 1,
        "rabbit_confirm_timeout": 3,
        "rabbit_connect_timeout": 2,
        "notification_drain_timeout": 10,
    }


@pytest.fixture
def tell(options):
    """Make notifiers in this process; all of them are stopped at the end."""
    made = []

    def start(**more):
        new = notifier.Notifier({name: str(v) for name, v in {**options, **more}.items()})
        new.start()
        made.append(new)
        return new

    yield start
    for old in made:
        old.stop()


def confirmed(teller, count):
    records.eventually(True, lambda: teller.statistics()["confirmed"] >= count)


def change(site, number):
    """Make, change, fetch and delete an image; return what should be told, event by event."""
    reply = site.http.add(DATA, name=f"n{number}")
    assert reply.status == 201, reply
    path = f"/v1/images/{reply.json()['image']['id']}"
    assert site.http.put(path, {"x-image-meta-name": "other"}).status == 200
    assert site.http.get(path).body == DATA
    assert site.http.delete(path).status == 200
    wrong = site.http.add(DATA, checksum="0" * 32)
    assert wrong.status == 400
    return collections.Counter(
        {
            ("image.upload", "INFO"): 1,
            ("image.update", "INFO"): 1,
            ("image.send", "INFO"): 1,
            ("image.delete", "INFO"): 1,
            ("image.upload", "ERROR"): 1,
        }
    )


def table(changes, messages):
    """Return the table of events: how many changes, messages, different messages, repeats."""
    arrived = collections.Counter(
        (one.envelope["event_type"], one.envelope["priority"]) for one in messages
    )
    different = {one.id: one for one in messages}.values()
    told = collections.Counter(
        (one.envelope["event_type"], one.envelope["priority"]) for one in different
    )
    lines = [
        f"{'event':14}{'priority':10}{'changes':>8}{'messages':>10}{'different':>11}{'repeats':>9}"
    ]
    for key in sorted({*changes, *arrived}):
        lines.append(
            f"{key[0]:14}{key[1]:10}{changes[key]:8}{arrived[key]:10}{told[key]:11}"
            f"{arrived[key] - told[key]:9}"
        )
    return told, "\n".join(lines)


def take_all(broker, topic):
    return [one for name in PRIORITIES for one in broker.take(f"{topic}.{name}")]


# -- the contract --------------------------------------------------------------------------------


class TestRabbit(notifier_suite.RemoteNotifierSuite):
    """The suite for strategies, with a broker that is killed and comes back."""

    canary = "guest"

    @pytest.fixture
    def strategy(self, broker, options, topic):
        self.broker, self.topic = broker, topic
        return rabbit.RabbitStrategy(config.Conf({k: str(v) for k, v in options.items()}))

    def received(self, strategy):
        return [
            one.envelope
            for name in PRIORITIES
            for one in self.broker.take(f"{self.topic}.{name}", patience=0.3)
        ]

    def interrupt(self, strategy):
        self.broker.kill()

    def restore(self, strategy):
        self.broker.start()


# -- events out, changes in ----------------------------------------------------------------------


def test_each_change_is_told_while_the_broker_is_killed_and_restarted_under_load(
    broker, options, topic, make_site, tmp_path, record_property
):
    spool = tmp_path / "spool"
    site = make_site(workers=2, api={**options, "notification_spool_dir": spool})
    changes = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(change, site, number) for number in range(120)]

        def done():
            return sum(one.done() for one in work)

        for share in (20, 70):
            records.eventually(True, lambda share=share: done() >= share)
            broker.kill()
            records.eventually(True, lambda share=share: done() >= share + 20)
            broker.start()
        for one in work:
            changes += one.result()
    assert site.api.stop() == 0
    # What was not sent by then waits on the disk for the next start.
    site.api.start()
    records.eventually([], lambda: [path for path in spool.iterdir() if path.stat().st_size])
    assert site.api.stop() == 0
    assert "Notifications cannot be sent" in site.api.log()
    assert "Notifications can be sent again" in site.api.log()
    told, shown = table(changes, take_all(broker, topic))
    print(f"\n{shown}")
    record_property("event count table", shown)
    assert told == changes


def test_a_backlog_arrives_in_order_and_once_when_the_broker_comes(
    broker, options, topic, make_site
):
    broker.kill()
    site = make_site(workers=1, api=options)
    ids = [site.http.add(DATA).json()["image"]["id"] for _ in range(30)]
    broker.start()
    records.eventually(30, broker.count, f"{topic}.INFO")
    messages = broker.take(f"{topic}.INFO", patience=0.5)
    assert [one.envelope["payload"]["id"] for one in messages] == ids
    assert len({one.id for one in messages}) == 30


def test_what_found_no_room_in_memory_arrives_behind_the_rest(
    broker, options, topic, make_site, tmp_path
):
    spool = tmp_path / "spool"
    more = {
        "notification_overflow": "spool",
        "notification_spool_dir": spool,
        "notification_buffer_size": 7,
    }
    broker.kill()
    site = make_site(workers=1, api={**options, **more})
    ids = [site.http.add(DATA).json()["image"]["id"] for _ in range(40)]
    records.eventually(
        33, lambda: sum(len(path.read_text().splitlines()) for path in spool.iterdir())
    )
    broker.start()
    records.eventually(40, broker.count, f"{topic}.INFO")
    records.eventually([], lambda: list(spool.iterdir()))
    messages = broker.take(f"{topic}.INFO", patience=0.5)
    assert [one.envelope["payload"]["id"] for one in messages] == ids


def test_in_write_ahead_mode_each_answered_upload_is_told_though_the_api_is_killed(
    broker, options, topic, make_site, tmp_path
):
    spool = tmp_path / "spool"
    more = {
        "notification_overflow": "spool",
        "notification_spool_dir": spool,
        "notification_spool_fsync": True,
    }
    site = make_site(workers=2, api={**options, **more})
    answered, ended = set(), threading.Event()

    def upload():
        while not ended.is_set():
            try:
                reply = site.http.add(DATA)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if reply.status == 201:
                answered.add(reply.json()["image"]["id"])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(upload) for _ in range(4)]
        for count in (20, 60):
            records.eventually(True, lambda count=count: len(answered) >= count)
            site.api.kill()
            site.api.start()
        records.eventually(True, lambda: len(answered) >= 100)
        ended.set()
        for one in work:
            one.result()
    assert site.api.stop() == 0
    messages = broker.take(f"{topic}.INFO")
    told = {one.envelope["payload"]["id"] for one in messages}
    assert answered <= told
    # Repeats have the ids of the first time.
    assert len({one.id for one in messages}) == len(told)


def test_what_a_stop_has_put_away_is_sent_by_the_next_start(
    broker, options, topic, make_site, tmp_path
):
    spool = tmp_path / "spool"
    broker.kill()
    site = make_site(workers=1, api={**options, "notification_spool_dir": spool})
    for _ in range(50):
        assert site.http.add(DATA).status == 201
    assert site.api.stop() == 0
    (path,) = spool.iterdir()
    lines = [json.loads(line)["message_id"] for line in path.open()]
    assert len(set(lines)) == 50
    broker.start()
    site.api.start()
    records.eventually(50, broker.count, f"{topic}.INFO")
    records.eventually([], lambda: list(spool.iterdir()))
    assert [one.id for one in broker.take(f"{topic}.INFO", patience=0.5)] == lines


def test_events_of_a_host_that_is_gone_are_sent_by_another_one_that_gets_its_files(
    broker, options, topic, make_site, tmp_path
):
    (*_, command) = checkout.blocks(pages.path("several-nodes"), "What a dead node leaves")
    command = command[command.index("for ") :]
    spool, lost = tmp_path / "spool", tmp_path / "lost"
    more = {
        "notification_overflow": "spool",
        "notification_spool_dir": spool,
        "notification_spool_fsync": True,
    }
    broker.kill()
    site = make_site(workers=1, api={**options, **more})
    ids = [site.http.add(DATA).json()["image"]["id"] for _ in range(3)]
    site.api.kill()
    lost.mkdir()
    for path in spool.iterdir():
        host = path.name.split("-")[1]
        path.rename(lost / path.name.replace(host, "gone_1.example.com", 1))
    site.api.start()
    broker.start()
    ids.append(site.http.add(DATA).json()["image"]["id"])
    records.eventually(1, broker.count, f"{topic}.INFO")
    for path in lost.iterdir():
        path.rename(spool / path.name)
    site.api.stop()
    done = subprocess.run(["bash", "-euc", command], cwd=spool, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    site.api.start()
    records.eventually(4, broker.count, f"{topic}.INFO")
    messages = broker.take(f"{topic}.INFO", patience=0.5)
    assert sorted(one.envelope["payload"]["id"] for one in messages) == sorted(ids)
    records.eventually([], lambda: list(spool.iterdir()))


def test_a_thousand_messages_survive_a_kill_in_their_middle(broker, topic, tell):
    teller = tell()
    confirmed(teller, 0)
    for number in range(1000):
        teller.info("image.update", {"n": number})
        if number == 300:
            broker.kill()
    broker.start()
    confirmed(teller, 1000)
    numbers = [one.envelope["payload"]["n"] for one in broker.take(f"{topic}.INFO")]
    assert set(numbers) == set(range(1000))


# -- brokers in trouble --------------------------------------------------------------------------


def test_a_broker_that_does_nothing_at_all_holds_no_request_up(broker, options, topic, make_site):
    site = make_site(workers=1, api=options)
    assert site.http.add(DATA).status == 201
    records.eventually(1, broker.count, f"{topic}.INFO")
    broker.pause()
    changes = sum((change(site, number) for number in range(10)), collections.Counter())
    records.eventually(True, lambda: "Notifications cannot be sent" in site.api.log())
    broker.resume()
    wanted = changes + collections.Counter({("image.upload", "INFO"): 1})

    def told():
        return messages.extend(take_all(broker, topic)) or table(wanted, messages)[0]

    messages = []
    records.eventually(wanted, told)


def test_a_full_broker_is_waited_for_and_gets_each_message_once(broker, options, topic, make_site):
    site = make_site(workers=1, api={**options, "rabbit_confirm_timeout": 2})
    assert site.http.add(DATA).status == 201
    records.eventually(1, broker.count, f"{topic}.INFO")
    broker.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        changes = sum((change(site, number) for number in range(10)), collections.Counter())
        records.eventually(
            True, lambda: "The broker accepts no messages at the moment" in site.api.log()
        )
        # Longer than confirmations are waited for.
        time.sleep(3)
    finally:
        broker.control("set_vm_memory_high_watermark", "0.4")
    records.eventually(True, lambda: "The broker accepts messages again" in site.api.log())
    wanted = changes + collections.Counter({("image.upload", "INFO"): 1})
    messages = []
    records.eventually(
        wanted, lambda: messages.extend(take_all(broker, topic)) or table(wanted, messages)[0]
    )
    assert len(messages) == wanted.total()


def test_a_full_broker_does_not_keep_the_api_from_stopping(broker, options, make_site, tmp_path):
    spool = tmp_path / "spool"
    more = {"notification_spool_dir": spool, "notification_drain_timeout": 1}
    site = make_site(workers=1, api={**options, **more})
    records.eventually(
        True, lambda: broker.control("list_connections", "pid").count("rabbit@") or 1
    )
    broker.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        for _ in range(5):
            assert site.http.add(DATA).status == 201
        assert site.api.stop() == 0
    finally:
        broker.control("set_vm_memory_high_watermark", "0.4")
    (path,) = spool.iterdir()
    assert len(path.read_text().splitlines()) == 5


def test_a_wrong_password_is_an_error_that_can_be_mended_live(broker, options, topic, make_site):
    user, password = f"u{uuid.uuid4().hex}", "correct-horse-battery"
    site = make_site(
        workers=1, api={**options, "rabbit_userid": user, "rabbit_password": password}
    )
    assert site.http.add(DATA).status == 201
    records.eventually(
        True,
        lambda: bool(re.search(r" ERROR .*Notifications cannot be sent.*403", site.api.log())),
    )
    broker.control("add_user", user, password)
    broker.control("set_permissions", user, ".*", ".*", ".*")
    records.eventually(1, broker.count, f"{topic}.INFO")
    assert password not in site.api.log()


def test_an_unknown_virtual_host_is_an_error_that_can_be_mended_live(
    broker, options, tell, caplog
):
    name = f"v{uuid.uuid4().hex}"
    teller = tell(rabbit_virtual_host=name)
    teller.info("image.update", {})
    records.eventually(True, lambda: "cannot be sent" in caplog.text)
    assert [one.levelname for one in caplog.records if "cannot" in one.message] == ["ERROR"]
    broker.control("add_vhost", name)
    broker.control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    confirmed(teller, 1)


def test_a_connection_closed_by_the_broker_while_idle_is_noticed(broker, topic, tell):
    teller = tell(rabbit_heartbeat=2)
    records.eventually(True, lambda: teller.statistics()["connected"])
    broker.control("close_all_connections", "a test")
    records.eventually(False, lambda: teller.statistics()["connected"])
    teller.info("image.update", {})
    confirmed(teller, 1)
    assert len(broker.take(f"{topic}.INFO", patience=0.3)) == 1


def test_the_brokers_of_a_cluster_are_tried_in_turn(broker, topic, tell):
    dead = daemons.free_port()
    teller = tell(rabbit_hosts=f"127.0.0.1:{dead},127.0.0.1:{broker.port}", rabbit_port=dead)
    teller.info("image.update", {})
    confirmed(teller, 1)
    assert broker.count(f"{topic}.INFO") == 1


# -- what consumers find -------------------------------------------------------------------------


def test_queues_exist_before_the_first_message_and_take_each_priority(broker, topic, tell):
    teller = tell()
    records.eventually(True, lambda: teller.statistics()["connected"])
    listed = broker.control("list_queues", "name", "durable", "auto_delete", "arguments", "-q")
    for name in PRIORITIES:
        assert re.search(rf"^{topic}\.{name}\ttrue\tfalse\t\[\]$", listed, re.M), listed
    teller.info("image.upload", {"n": 1})
    teller.warn("image.upload", {"n": 2})
    teller.error("image.upload", {"n": 3})
    confirmed(teller, 3)
    for number, name in enumerate(PRIORITIES, 1):
        (one,) = broker.take(f"{topic}.{name}", patience=0.3)
        assert one.envelope["payload"] == {"n": number}
        assert (one.exchange, one.routing_key) == ("glance", f"{topic}.{name.lower()}")
        assert one.properties["delivery_mode"] == 2
        assert one.properties["content_type"] == "application/json"
        assert one.properties["content_encoding"] == "utf-8"
        assert one.properties["message_id"] == one.id
        assert one.properties["type"] == "image.upload"
        when = message.parse(json.dumps(one.envelope).encode()).timestamp
        assert one.properties["timestamp"] == int(when.timestamp())


def test_queues_can_have_the_names_of_the_later_release(broker, topic, tell):
    teller = tell(rabbit_notification_queue_names="lower", rabbit_notification_exchange="g2")
    teller.info("image.upload", {})
    confirmed(teller, 1)
    (one,) = broker.take(f"{topic}.info", patience=0.3)
    assert one.exchange == "g2"
    assert broker.count(f"{topic}.INFO") == 0


def test_what_nobody_wants_is_counted_and_dropped_and_holds_up_nothing(
    broker, topic, tell, caplog
):
    teller = tell(rabbit_notification_queue_names="none")
    records.eventually(True, lambda: teller.statistics()["connected"])
    with broker.connect() as connection, connection.channel() as channel:
        channel.queue_declare("mine", durable=True)
        channel.queue_bind("mine", "glance", f"{topic}.error")
        teller.info("image.update", {})
        teller.error("image.update", {})
        records.eventually(1, lambda: teller.statistics()["dropped"])
        confirmed(teller, 1)
    assert teller.statistics()["published"] >= 4
    assert "The receiver rejected 1 notifications" in caplog.text
    assert len(broker.take("mine", patience=0.3)) == 1


def test_a_queue_that_was_deleted_is_declared_again(broker, topic, tell):
    teller = tell()
    records.eventually(True, lambda: teller.statistics()["connected"])
    broker.control("delete_queue", f"{topic}.INFO")
    teller.info("image.update", {"n": 1})
    confirmed(teller, 1)
    assert len(broker.take(f"{topic}.INFO", patience=0.3)) == 1
    assert teller.statistics()["dropped"] == 0


def test_a_consumer_of_the_first_release_gets_what_it_expects(broker, options, topic, make_site):
    site = make_site(workers=1, api={**options, "notification_payload_format": "diablo"})
    with broker.connect() as connection:
        # It declares exchange, queue and binding by itself, as the library's simple queue does.
        queue = connection.SimpleQueue(f"{topic}.INFO")
        image_id = site.http.add(DATA, name="a").json()["image"]["id"]
        site.http.delete(f"/v1/images/{image_id}")
        uploaded, deleted = (queue.get(timeout=20) for _ in range(2))
        assert set(uploaded.payload) == {
            *("message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"),
        }
        assert uploaded.payload["publisher_id"] == socket.gethostname()
        assert uploaded.payload["payload"]["status"] == "active"
        assert deleted.payload["payload"] == str(image_id)
        for one in (uploaded, deleted):
            one.ack()
        queue.close()


def test_the_consumer_of_the_documentation_works(broker, options, make_site, tmp_path):
    page = pages.path("notification-consumer")
    text, command = checkout.blocks(page, "Write the consumer")
    python, *words = command.split()
    assert (python, words[-1]) == ("/opt/glance/bin/python", "consumer.py")
    here = "amqp://guest:guest@localhost:5672//"
    assert here in text and len(text.splitlines()) <= 20
    program = tmp_path / "consumer.py"
    program.write_text(text.replace(here, f"amqp://guest:guest@127.0.0.1:{broker.port}//"))
    printed = checkout.options(checkout.blocks(page, "Turn notifications on")[0])
    site = make_site(
        workers=1, api={**options, **printed, "rabbit_notification_topic": "glance_notifications"}
    )
    image_id = site.http.add(DATA, name="a").json()["image"]["id"]
    consumer = subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert consumer.stdout.readline().split() == ["image.upload", str(image_id)]
        site.http.delete(f"/v1/images/{image_id}")
        assert consumer.stdout.readline().split() == ["image.delete", str(image_id)]
    finally:
        consumer.kill()
        consumer.wait()
        consumer.stdout.close()


# -- TLS -----------------------------------------------------------------------------------------


def test_messages_go_through_tls_to_a_broker_that_is_verified(
    broker, authority, options, topic, make_site
):
    tls = {
        "rabbit_use_ssl": True,
        "rabbit_port": broker.tls_port,
        "rabbit_host": "127.0.0.1",
        "rabbit_ssl_ca": authority.root,
        "rabbit_heartbeat": 2,
    }
    site = make_site(workers=1, api={**options, **tls})
    assert site.http.add(DATA).status == 201
    records.eventually(1, broker.count, f"{topic}.INFO")
    # Longer than a side may be silent.
    time.sleep(5)
    assert site.http.add(DATA).status == 201
    records.eventually(2, broker.count, f"{topic}.INFO")
    assert "cannot be sent" not in site.api.log()
    peers = broker.control("list_connections", "peer_port", "ssl", "-q")
    assert "true" in peers
    assert site.api.stop() == 0


@contextlib.contextmanager
def impostor(chain, key):
    """Answer TLS handshakes with a certificate, and say nothing more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    def serve():
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
                tls.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("fault", ["authority", "name", "self-signed"])
def test_a_broker_that_cannot_prove_itself_gets_nothing(authority, tell, tmp_path, fault, caplog):
    if fault == "authority":
        chain, key = certificates.Authority(tmp_path / "other").issue("other")
    elif fault == "name":
        chain, key = authority.issue(f"stranger-{uuid.uuid4().hex}", "stranger_extensions")
    else:
        chain, key = authority.self_signed(f"self-{uuid.uuid4().hex}")
    with impostor(chain, key) as port:
        teller = tell(
            rabbit_use_ssl=True,
            rabbit_host="127.0.0.1",
            rabbit_port=port,
            rabbit_ssl_ca=authority.root,
            notification_drain_timeout=0.1,
        )
        teller.info("image.update", {})
        records.eventually(True, lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        assert not teller.statistics()["connected"]


def test_without_verification_any_certificate_will_do(broker, topic, tell):
    teller = tell(rabbit_use_ssl=True, rabbit_port=broker.tls_port, rabbit_ssl_verify=False)
    teller.info("image.update", {})
    confirmed(teller, 1)


def test_a_broker_that_asks_for_certificates_is_shown_one(tmp_path, authority, options, topic):
    strict = rabbitmq.Rabbit(tmp_path / "strict", authority=authority, strict=True)
    chain, key = authority.issue("client")
    settings = {
        **options,
        "rabbit_use_ssl": True,
        "rabbit_port": strict.tls_port,
        "rabbit_host": "127.0.0.1",
        "rabbit_ssl_ca": authority.root,
    }
    own = {"rabbit_ssl_cert": chain, "rabbit_ssl_key": key}
    try:
        strict.start()
        for extra, works in (({}, False), (own, True)):
            text = {name: str(value) for name, value in {**settings, **extra}.items()}
            strategy = rabbit.RabbitStrategy(config.Conf(text))
            try:
                strategy.open()
                strategy.send(notifier_suite.NotifierSuite.make(1), lambda one: None)
            except Exception:
                assert not works
            else:
                assert works
            finally:
                strategy.close()
        assert strict.count(f"{topic}.INFO") == 1
    finally:
        rabbitmq.remove(strict)


# -- green threads -------------------------------------------------------------------------------

MANY = """
import eventlet
eventlet.monkey_patch()
import json, sys
from glance import notifier
teller = notifier.Notifier(json.loads(sys.argv[1]))
teller.start()
turns = 0
def tick():
    global turns
    while True:
        eventlet.sleep(0)
        turns += 1
eventlet.spawn(tick)
pool = eventlet.GreenPool(1000)
def tell(number):
    eventlet.sleep(0)
    teller.info("image.update", {"n": number})
for number in range(1000):
    pool.spawn(tell, number)
pool.waitall()
teller.stop()
print(json.dumps({**teller.statistics(), "turns": turns}))
"""


def test_a_thousand_greenthreads_tell_at_once(broker, options, topic):
    settings = json.dumps({name: str(value) for name, value in options.items()})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MANY, settings],
        cwd=daemons.ROOT,
        env=daemons.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["queued"], said["confirmed"], said["retried"]) == (1000, 1000, 0)
    # The sender let others run all the time.
    assert said["turns"] > 50
    assert "Traceback" not in done.stderr and "simultaneous" not in done.stderr
    numbers = [one.envelope["payload"]["n"] for one in broker.take(f"{topic}.INFO")]
    assert numbers == list(range(1000))

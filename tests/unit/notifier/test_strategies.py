"""The strategies without a broker, judged by the suite and by what is their own."""

import json
import logging
import subprocess
import sys
import uuid

import kombu
import pytest

from glance import notifier
from glance.common import config, exception, hooks
from glance.notifier import message, rabbit, simple
from glance.notifier import strategy as notifier_strategy
from glance.testing import notifier_suite
from tests.unit.notifier.conftest import until


class TestMemory(notifier_suite.NotifierSuite):
    @pytest.fixture
    def strategy(self):
        return simple.MemoryStrategy(config.Conf())

    def received(self, strategy):
        return strategy.messages


class TestLogging(notifier_suite.NotifierSuite):
    @pytest.fixture
    def strategy(self, caplog):
        self.caplog = caplog
        return simple.LoggingStrategy(config.Conf())

    def received(self, strategy):
        return [
            json.loads(record.getMessage())
            for record in self.caplog.records
            if record.name == "glance.notifier.logging_notifier"
        ]


class OverMemory(rabbit.RabbitStrategy):
    """The strategy rabbit over kombu's own stand-in for a broker, which is `away` on request."""

    TRANSPORT = "memory"
    away = False

    def open(self):
        if self.away:
            raise OSError("away")
        super().open()

    def _publish(self, one):
        if self.away:
            raise OSError("gone")
        super()._publish(one)


class TestRabbitOverMemory(notifier_suite.RemoteNotifierSuite):
    canary = "c4n4ry"

    def interrupt(self, strategy):
        strategy.away = True

    def restore(self, strategy):
        strategy.away = False

    @pytest.fixture
    def strategy(self):
        # The stand-in is one for the whole process: each case has its own queues.
        self.topic = uuid.uuid4().hex
        settings = {"rabbit_notification_topic": self.topic, "rabbit_password": self.canary}
        return OverMemory(config.Conf(settings))

    def received(self, strategy):
        found = []
        with kombu.Connection("memory://") as connection:
            channel = connection.channel()
            for priority in message.PRIORITIES:
                channel.queue_declare(f"{self.topic}.{priority}")
                while (one := channel.basic_get(f"{self.topic}.{priority}")) is not None:
                    found.append(json.loads(one.body))
        return found


def test_memory_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(simple.MemoryStrategy, "ROOM", 3)
    teller = notifier.Notifier({"notifier_strategy": "memory"})
    for number in range(5):
        teller.info("image.update", number)
    assert [one["payload"] for one in teller.strategy.messages] == [2, 3, 4]


# -- the log -------------------------------------------------------------------------------------


def test_the_log_gets_one_line_of_sorted_json_at_the_level_of_the_priority(caplog):
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    teller = notifier.Notifier({"notifier_strategy": "logging"})
    teller.info("image.upload", {"b": 1, "a": "line\nbreak"})
    teller.warn("image.upload", {})
    teller.error("image.upload", {})
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR"]
    line = caplog.records[0].getMessage()
    assert "\n" not in line
    assert line == json.dumps(json.loads(line), sort_keys=True)


# -- choosing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["noop", "default"])
def test_nothing_is_told_with(name):
    teller = notifier.Notifier({"notifier_strategy": name})
    assert not teller.enabled
    teller.info("image.upload", object())
    assert teller.statistics()["queued"] == 0


def test_the_default_is_to_tell_nobody():
    assert not notifier.Notifier({}).enabled


@pytest.mark.parametrize(
    "name", ["pigeon", "qpid", "no.such.module", "glance.notifier:Nothing", "logging:INFO"]
)
def test_an_unknown_strategy_is_named_in_the_error(name):
    with pytest.raises(exception.InvalidNotifierStrategy, match=f"'{name}' is not an available"):
        notifier.Notifier({"notifier_strategy": name})
    with pytest.raises(exception.ConfigError, match=name):
        notifier.check(config.Conf({"notifier_strategy": name}))


class Own(notifier_strategy.Strategy):
    """A strategy of somebody else."""

    IMMEDIATE = True
    sent: list = []

    def send(self, messages, confirm):
        self.sent.extend(messages)


def test_a_class_can_be_named_by_its_path():
    teller = notifier.Notifier({"notifier_strategy": f"{__name__}:Own"}, Own(config.Conf()))
    teller.info("image.update", {})
    assert [one.event_type for one in Own.sent] == ["image.update"]
    loaded = notifier.load("glance.notifier.simple.MemoryStrategy")
    assert loaded is simple.MemoryStrategy


def test_a_missing_library_is_told(monkeypatch):
    def fail(group, name, builtin):
        raise ModuleNotFoundError("No module named 'kombu'", name="kombu")

    monkeypatch.setattr(notifier.plugin, "load", fail)
    with pytest.raises(exception.ConfigError, match="rabbit cannot be loaded: No module named"):
        notifier.load("rabbit")


# -- telling -------------------------------------------------------------------------------------


class Failing(notifier_strategy.Strategy):
    IMMEDIATE = True

    def send(self, messages, confirm):
        raise OSError("the disk is full")


@pytest.mark.parametrize("payload", [{}, {(1, 2): 3}])
def test_telling_never_raises(payload, caplog):
    teller = notifier.Notifier({}, Failing(config.Conf()))
    teller.notify("image.update", "INFO", payload)
    assert teller.statistics()["dropped"] == 1
    assert "could not be created" in caplog.text
    teller.notify("image.update", "NONE", {})
    assert teller.statistics()["dropped"] == 2


def test_a_process_has_one_notifier_for_the_same_settings():
    conf = config.Conf({"notifier_strategy": "memory"})
    one = notifier.create(conf)
    assert notifier.create(conf.replace(image_size_cap=5)) is one
    other = notifier.create(conf.replace(notification_publisher_id="x"))
    assert other is not one
    hooks.stop()
    assert notifier.create(conf) is not one


def test_a_process_that_stops_waits_for_its_notifier(monkeypatch):
    monkeypatch.setitem(notifier.BUILTIN, "rabbit", f"{__name__}:OverMemory")
    conf = config.Conf(
        {
            "notifier_strategy": "rabbit",
            "notification_drain_timeout": "7",
            "rabbit_notification_topic": "stop",
        }
    )
    before = hooks.stop_timeout()
    teller = notifier.create(conf)
    assert hooks.stop_timeout() - before > 7
    until(lambda: teller.statistics()["connected"])
    for number in range(200):
        teller.info("image.update", {"n": number})
    hooks.stop()
    assert teller.statistics()["confirmed"] == 200


# -- rabbit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "brokers"),
    [
        ("a:5673, b", (("a", 5673), ("b", 5672))),
        ("[::1]:5000 [::2]", (("::1", 5000), ("::2", 5672))),
        ("10.0.0.1:1", (("10.0.0.1", 1),)),
    ],
)
def test_a_list_of_brokers(text, brokers):
    assert config.Conf({"rabbit_hosts": text}).rabbit_hosts == brokers


@pytest.mark.parametrize("text", [":5672", "a:b", "a:70000", "[::1]5", "a:1:2"])
def test_a_list_of_brokers_that_is_none(text):
    with pytest.raises(exception.ConfigError, match="rabbit_hosts"):
        config.Conf({"rabbit_hosts": text}).check()


def connected_to(monkeypatch, **settings):
    """Return the addresses that are tried, one after the other."""
    tried = []

    class Connection:
        def __init__(self, hostname, port, **options):
            tried.append((hostname, port))

        def ensure_connection(self, **options):
            raise OSError("away")

        def release(self):
            pass

    monkeypatch.setattr(rabbit.amqp_connection, "Connection", Connection)
    strategy = rabbit.RabbitStrategy(config.Conf(settings))
    for _ in range(3):
        with pytest.raises(OSError, match="away"):
            strategy.open()
        strategy.close()
    return tried


def test_the_port_is_used(monkeypatch):
    assert connected_to(monkeypatch, rabbit_port="5673")[0] == ("localhost", 5673)


def test_the_connection_is_made_as_the_options_say(monkeypatch, tmp_path):
    made = []

    class Connection:
        def __init__(self, **options):
            made.append(options)
            raise OSError("away")

    monkeypatch.setattr(rabbit.amqp_connection, "Connection", Connection)
    settings = {
        "rabbit_host": "broker",
        "rabbit_userid": "u",
        "rabbit_password": "p",
        "rabbit_virtual_host": "v",
        "rabbit_connect_timeout": "1.5",
        "rabbit_heartbeat": "8",
        "rabbit_use_ssl": "True",
        "rabbit_retry_backoff": "3",
        "rabbit_retry_max_backoff": "20",
        "rabbit_max_retries": "4",
    }
    strategy = rabbit.RabbitStrategy(config.Conf(settings))
    with pytest.raises(OSError, match="away"):
        strategy.open()
    (options,) = made
    wanted = {
        "hostname": "broker",
        "port": 5672,
        "userid": "u",
        "password": "p",
        "virtual_host": "v",
        "connect_timeout": 1.5,
        "heartbeat": 8,
    }
    assert {name: options[name] for name in wanted} == wanted
    assert options["ssl"]["server_hostname"] == "broker"
    assert options["ssl"]["cert_reqs"] == rabbit.ssl.CERT_REQUIRED
    assert (strategy.retry_backoff, strategy.retry_max_backoff) == (3, 20)
    assert (strategy.max_retries, strategy.idle_interval) == (4, 2)


def test_without_options_the_broker_is_asked_as_guest(monkeypatch):
    strategy = rabbit.RabbitStrategy(config.Conf())
    made = []

    class Connection:
        def __init__(self, **options):
            made.append((options["userid"], options["password"], options["ssl"]))
            raise OSError("away")

    monkeypatch.setattr(rabbit.amqp_connection, "Connection", Connection)
    with pytest.raises(OSError, match="away"):
        strategy.open()
    assert made == [("guest", "guest", False)]


def test_brokers_are_tried_in_turn(monkeypatch):
    tried = connected_to(monkeypatch, rabbit_hosts="a:1 b:2", rabbit_host="c")
    assert tried == [("a", 1), ("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("upper", ["INFO", "WARN", "ERROR"]),
        ("lower", ["info", "warn", "error"]),
        ("none", []),
    ],
)
def test_queues_have_the_names_of_either_release(style, names):
    settings = {"rabbit_notification_queue_names": style, "rabbit_notification_topic": "t"}
    strategy = rabbit.RabbitStrategy(config.Conf(settings))
    queues = list(strategy._queues())
    assert [queue.name for queue in queues] == [f"t.{name}" for name in names]
    assert [queue.routing_key for queue in queues] == [f"t.{name.lower()}" for name in names]
    for queue in queues:
        assert queue.durable and not queue.exclusive and not queue.auto_delete
        assert not queue.queue_arguments
        assert (queue.exchange.name, queue.exchange.type) == ("glance", "topic")


def test_unusable_tls_files_are_a_config_error(tmp_path):
    settings = {"rabbit_use_ssl": "True", "rabbit_ssl_ca": str(tmp_path / "none.pem")}
    with pytest.raises(exception.ConfigError, match="rabbit_use_ssl: The TLS files"):
        rabbit.RabbitStrategy(config.Conf(settings))


GREEN = """
import eventlet
eventlet.monkey_patch()
import json, pathlib, sys
from glance import notifier
from glance.notifier import rabbit
class Strategy(rabbit.RabbitStrategy):
    TRANSPORT = "memory"
    away = True
    def open(self):
        if self.away:
            raise OSError("away")
        super().open()
notifier.BUILTIN["rabbit"] = "__main__:Strategy"
spool = pathlib.Path(sys.argv[1])
settings = {
    "notifier_strategy": "rabbit",
    "notification_buffer_size": "100",
    "notification_overflow": "spool",
    "notification_spool_dir": str(spool),
    "notification_spool_fsync": sys.argv[2],
    "rabbit_retry_backoff": "0.01",
    "rabbit_retry_max_backoff": "0.05",
}
teller = notifier.Notifier(settings)
teller.start()
pool = eventlet.GreenPool(1000)
for number in range(1000):
    pool.spawn(teller.info, "image.update", {"n": number})
pool.waitall()
while teller.statistics()["spooled"] < 900:
    eventlet.sleep(0.01)
kept = sum(len(path.read_bytes().splitlines()) for path in spool.iterdir())
Strategy.away = False
while teller.statistics()["confirmed"] < 1000:
    eventlet.sleep(0.01)
teller.stop()
print(json.dumps([kept, teller.statistics(), [path.name for path in spool.iterdir()]]))
"""


@pytest.mark.parametrize(("ahead", "kept"), [("False", 900), ("True", 1000)])
def test_a_thousand_greenthreads_tell_at_once(tmp_path, ahead, kept):
    command = [sys.executable, "-W", "ignore", "-c", GREEN, str(tmp_path), ahead]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found, statistics, left = json.loads(done.stdout)
    assert found == kept and left == []
    assert (statistics["queued"], statistics["confirmed"]) == (1000, 1000)
    assert statistics["dropped"] == statistics["retried"] == 0


def test_what_amqp_cannot_carry_holds_nobody_up(caplog):
    strategy = OverMemory(config.Conf({"rabbit_notification_topic": "odd"}))
    strategy.open()

    class Picky:
        def publish(self, data, **properties):
            if properties["type"] == "bad":
                raise rabbit.struct.error("required argument is not an integer")

    strategy._producer = Picky()
    composer = message.Composer(config.Conf())
    bad, good = (composer.compose(kind, "INFO", {}) for kind in ("bad", "good"))
    confirmed = []
    strategy.send([bad, good], confirmed.append)
    assert confirmed == [good]
    assert "cannot be sent by AMQP" in caplog.text


@pytest.mark.parametrize("hosts", ["guest:s3cret@h1:5672,guest:s3cret@h2", "amqp://g:s3cret@h"])
def test_a_password_among_the_brokers_is_an_error_that_does_not_show_it(hosts):
    conf = config.Conf({"rabbit_hosts": hosts}, source="x.conf")
    with pytest.raises(exception.ConfigError, match="user and password are options") as caught:
        conf.check()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in str(conf.public())

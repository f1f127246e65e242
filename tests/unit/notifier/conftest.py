"""A publisher over a strategy whose other side the test plays."""

import threading
import time

import pytest

from glance.common import config, hooks
from glance.notifier import message, publisher
from glance.notifier import strategy as notifier_strategy

PATIENCE = 20


def until(condition):
    """Wait until background work has made `condition` true, and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
    return found


class Broken(Exception):
    """The other side is away."""


class Scripted(notifier_strategy.Strategy):
    """Delivers into `got`, in whatever way the test has set.

    `away` makes everything fail, `hanging` (an event) lets `send` wait, `refused` are event types
    that are never confirmed, and `dies_after` confirmations the connection breaks, once.
    """

    retry_backoff = 0.01
    retry_max_backoff = 0.05
    idle_interval = 0.05

    def __init__(self, conf=None):
        self.got = []
        self.away = False
        self.hanging = None
        self.refused = set()
        self.dies_after = None
        self.opened = self.closed = self.idled = 0

    def open(self):
        if self.away:
            raise Broken("nobody is there")
        self.opened += 1

    def send(self, messages, confirm):
        if self.hanging is not None:
            self.hanging.wait(PATIENCE)
        for one in messages:
            if self.away:
                raise Broken("gone")
            if one.event_type in self.refused:
                self.got.append(f"refused {one.id}")
                continue
            self.got.append(one)
            if self.dies_after is not None:
                self.dies_after -= 1
                if not self.dies_after:
                    self.dies_after = None
                    raise Broken("the connection was lost")
            confirm(one)

    def idle(self):
        self.idled += 1
        if self.away:
            raise Broken("silent")

    def close(self):
        self.closed += 1

    @property
    def ids(self):
        return [one.id for one in self.got]


@pytest.fixture
def strategy():
    return Scripted()


@pytest.fixture
def composer():
    return message.Composer(config.Conf())


@pytest.fixture
def make(composer):
    """Make messages: `make(3)` gives three with priority INFO."""

    def many(count, priority="INFO", event="image.update", payload=None):
        return [composer.compose(event, priority, payload or {"n": n}) for n in range(count)]

    return many


@pytest.fixture
def launch(strategy):
    """Start a publisher with settings of the test's own; it is stopped at the end."""
    started = []

    def start(*, run=True, using=None, **settings):
        new = publisher.Publisher(
            using or strategy, config.Conf({"notification_drain_timeout": "1", **settings})
        )
        if run:
            new.start()
            started.append(new)
        return new

    yield start
    strategy.away = False
    if strategy.hanging is not None:
        strategy.hanging.set()
    for old in started:
        old.stop()


@pytest.fixture(autouse=True)
def _stop():
    yield
    hooks.stop()


@pytest.fixture
def gate():
    return threading.Event()

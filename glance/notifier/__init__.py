"""Notifications: events about images for other systems.

`create` returns the `Notifier` of the process; `Notifier.notify` sends an event, returns at once
and never raises. `events` decides which events there are. The modules::

    events          which events there are, what their payloads hold, what never leaves
    message         the envelope, and the message as bytes
    strategy        the contract of a strategy, a way to deliver messages
    simple          the strategies noop, logging and memory
    rabbit          the strategy rabbit; imported, with its library, only when it is configured
    rabbit_options  its options
    publisher       sends the messages of a process
    backlog         all messages that wait for the publisher
    buffer          those that wait in memory
    spool           those that wait on the disk

Packages add strategies to the entry point group `glance.notifiers`; `notifier_strategy` may also
name a class by its dotted path.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from glance.common import config, exception, hooks, metrics, plugin
from glance.identity.context import RequestContext
from glance.notifier import backlog, message, publisher
from glance.notifier import strategy as notifier_strategy
from glance.notifier.simple import LoggingStrategy, MemoryStrategy, NoopStrategy

__all__ = [
    "LoggingStrategy",
    "MemoryStrategy",
    "Notifier",
    "NoopStrategy",
    "check",
    "create",
    "load",
]

LOG = logging.getLogger(__name__)

GROUP = "glance.notifiers"

#: Strategies that come with glance: name -> module and class.
BUILTIN = {
    "noop": "glance.notifier.simple:NoopStrategy",
    # WIRE: the name of the default in Diablo's code.
    "default": "glance.notifier.simple:NoopStrategy",
    "logging": "glance.notifier.simple:LoggingStrategy",
    "memory": "glance.notifier.simple:MemoryStrategy",
    "rabbit": "glance.notifier.rabbit:RabbitStrategy",
}

OPTIONS = config.options(
    "notifications",
    config.Option(
        "notifier_strategy",
        default="noop",
        help="How notifications about images are sent: noop (not at all), logging, rabbit, or "
        "the name of an installed strategy.",
    ),
    *message.OPTIONS,
    *backlog.OPTIONS,
    *publisher.OPTIONS,
)


def load(name: str) -> type[notifier_strategy.Strategy]:
    """Return the class of a strategy; its module declares its options.

    Raises InvalidNotifierStrategy for an unknown name, and ConfigError for a strategy whose
    library is missing.
    """
    try:
        found = plugin.load(GROUP, name, BUILTIN)
    except ImportError as err:
        if "." in name and (err.name or "").split(".")[0] == name.split(".")[0]:
            raise exception.InvalidNotifierStrategy(strategy=name) from err
        raise exception.ConfigError(f"notifier_strategy {name} cannot be loaded: {err}") from err
    except LookupError as err:
        raise exception.InvalidNotifierStrategy(strategy=name) from err
    if not (isinstance(found, type) and issubclass(found, notifier_strategy.Strategy)):
        raise exception.InvalidNotifierStrategy(strategy=name)
    return found


def check(conf: config.Conf) -> None:
    """Raise ConfigError for notification settings that cannot work. Connects to nothing."""
    try:
        load(conf.notifier_strategy)(conf)
    except exception.InvalidNotifierStrategy as err:
        raise exception.ConfigError(f"{conf.at('notifier_strategy')}: {err}") from err


class Notifier:
    """Sends events by one strategy.

    Without `strategy` the settings choose one. Raises InvalidNotifierStrategy and ConfigError.
    `enabled` is false if no event is sent at all, so that callers need not assemble a payload.
    """

    def __init__(
        self, conf: Mapping[str, Any], strategy: notifier_strategy.Strategy | None = None
    ):
        if not isinstance(conf, config.Conf):
            conf = config.Conf(conf)
        self.conf = conf
        self.strategy = strategy or load(conf.notifier_strategy)(conf)
        self.enabled = self.strategy.ENABLED
        self._composer = message.Composer(conf)
        self._publisher = (
            None if self.strategy.IMMEDIATE else publisher.Publisher(self.strategy, conf)
        )
        self._counters = self._publisher.counters if self._publisher else backlog.Counters()

    @property
    def diablo(self) -> bool:
        """Whether payloads must have the form that consumers written for Diablo expect."""
        return self._composer.diablo

    @property
    def stop_timeout(self) -> float:
        """Seconds that `stop` may take."""
        if self._publisher is None:
            return 0.0
        return float(self.conf.notification_drain_timeout) + publisher.FAREWELL

    def start(self) -> None:
        """Begin to send. Call it once, in the sending process."""
        if self._publisher is not None:
            self._publisher.start()
        growth = metrics.Growth()
        metrics.sample(lambda: self._look(growth))

    def _look(self, growth: metrics.Growth) -> None:
        """Tell the metrics what has become of the messages."""
        for name, count in dataclasses.asdict(self._counters).items():
            growth.note(metrics.NOTIFICATIONS, count, name)
        if self._publisher is not None:
            metrics.NOTIFICATIONS_WAITING.set(self._publisher.waiting)
            metrics.NOTIFIER_CONNECTED.set(self._publisher.connected)
            if metrics.is_first():
                metrics.NOTIFICATION_SPOOL.set(self._publisher.spooled_bytes())

    def notify(
        self,
        event_type: str,
        priority: str,
        payload: Any,
        context: RequestContext | None = None,
    ) -> None:
        """Send an event; return at once, whatever state the receiver is in.

        `payload` is any JSON value; it is serialised before this returns, so it may change
        afterwards. `context` is the request context, if there is one. Never raises an Exception:
        an event that cannot be sent is logged and counted.
        """
        if not self.enabled:
            return
        try:
            request_id = getattr(context, "request_id", None)
            one = self._composer.compose(event_type, priority, payload, request_id)
            if self._publisher is not None:
                self._publisher.put(one)
            else:
                self._counters.queued += 1
                self._counters.published += 1
                self.strategy.send((one,), self._confirm)
        except Exception:
            # A failed notification must never fail the change; no caller could handle it either.
            self._counters.dropped += 1
            LOG.exception("An %s notification could not be created", event_type)

    def _confirm(self, one: message.Message) -> None:
        self._counters.confirmed += 1

    def info(self, event_type: str, payload: Any, context: RequestContext | None = None) -> None:
        """Send an event with priority INFO: something has happened."""
        self.notify(event_type, "INFO", payload, context)

    def warn(self, event_type: str, payload: Any, context: RequestContext | None = None) -> None:
        """Send an event with priority WARN: something that should not continue."""
        self.notify(event_type, "WARN", payload, context)

    def error(self, event_type: str, payload: Any, context: RequestContext | None = None) -> None:
        """Send an event with priority ERROR: something has failed."""
        self.notify(event_type, "ERROR", payload, context)

    def statistics(self) -> dict[str, int | bool]:
        """Return the counters of the messages of this process.

        Keys: queued, published, confirmed, retried, dropped, spooled (messages), buffer_length
        (messages that wait in memory), connected.
        """
        if self._publisher is not None:
            return self._publisher.statistics()
        return {**dataclasses.asdict(self._counters), "buffer_length": 0}

    def stop(self) -> None:
        """Send or store the waiting messages; later messages are stored at once."""
        if self._publisher is not None:
            self._publisher.stop()


#: The notifiers of this process, by their settings.
_made: dict[tuple[Any, ...], Notifier] = {}


def create(conf: config.Conf) -> Notifier:
    """Return this process's notifier for these settings, created and started at the first call.

    All applications and filters of a process share it, so that there is one queue, one sender and
    one connection. It stops with the process (`glance.common.hooks`).
    """
    kind = load(conf.notifier_strategy)
    names = sorted(option.name for option in (*OPTIONS, *kind.OPTIONS))
    key = tuple(conf[name] for name in names)
    if key not in _made:
        made = Notifier(conf, kind(conf))
        made.start()
        hooks.at_stop(lambda: _stop(key), stop_timeout=made.stop_timeout)
        _made[key] = made
    return _made[key]


def _stop(key: tuple[Any, ...]) -> None:
    _made.pop(key).stop()


# A sender does not survive a fork: the child creates its own.
os.register_at_fork(after_in_child=_made.clear)


def __getattr__(name: str) -> Any:
    """Provide the old name of the rabbit strategy; its library is loaded only then."""
    if name == "RabbitStrategy":
        return load("rabbit")
    raise AttributeError(f"module {__name__} has no attribute {name}")

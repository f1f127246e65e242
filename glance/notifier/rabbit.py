"""The strategy rabbit: messages to a RabbitMQ broker, over AMQP with the library kombu.

A topic exchange takes all messages, with the routing key `<topic>.<priority in lower case>`. A
durable queue for each priority is bound to it, so that nothing is lost before the first consumer
connects; its name and properties are those that consumers written for Diablo declare themselves.
The broker confirms each message when it is safe, and returns those that no queue accepts.

This module, and kombu with it, is imported when the strategy is configured. A patched process
patches its sockets before that. One task of the publisher calls everything here.
"""

from __future__ import annotations

import itertools
import logging
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from kombu import connection as amqp_connection
from kombu import entity, messaging

from glance.common import config, exception
from glance.http.client import connection as http_connection
from glance.notifier import message, rabbit_options, strategy
from glance.streaming import hub

LOG = logging.getLogger(__name__)

#: How many messages are written before other work of the process may run.
_TURN = 10
#: How long a broker may take to close the connection, in seconds.
_FAREWELL = 1.0
#: The broker's reply codes for a wrong password and an unknown virtual host.
_REFUSALS = {403, 530}


#: Errors that the library raises for values that AMQP cannot represent.
_UNWRITABLE = (TypeError, ValueError, struct.error)


class ConfirmTimeout(Exception):
    """The broker has not confirmed messages in time."""


class RabbitStrategy(strategy.Strategy):
    """One connection, with one channel, to one of the brokers."""

    OPTIONS: ClassVar[tuple[config.Option, ...]] = rabbit_options.OPTIONS
    #: The kind of transport, as kombu names it; tests use one without a broker.
    TRANSPORT: ClassVar[str] = "pyamqp"

    def __init__(self, conf: config.Conf):
        self._conf = conf
        self._brokers = itertools.cycle(
            conf.rabbit_hosts or ((conf.rabbit_host, conf.rabbit_port),)
        )
        self._tls = _tls(conf)
        self.retry_backoff = conf.rabbit_retry_backoff
        self.retry_max_backoff = conf.rabbit_retry_max_backoff
        self.max_retries = conf.rabbit_max_retries
        if conf.rabbit_heartbeat:
            # NOTE: the library needs to be called twice as often as heartbeats are sent.
            self.idle_interval = conf.rabbit_heartbeat / 4
        self._exchange = entity.Exchange(
            conf.rabbit_notification_exchange, type="topic", durable=True, delivery_mode=2
        )
        self._connection: Any = None
        self._channel: Any = None
        self._producer: Any = None
        self._sock: Any = None
        self._blocked = False
        self._declared = False
        #: Messages in flight by the broker's delivery tag, and ids of those that were returned.
        self._unconfirmed: dict[int, message.Message] = {}
        self._returned: set[str] = set()
        self._tag = 0
        self._confirm: strategy.Confirm = _ignore

    # -- connecting ------------------------------------------------------------------------------

    def open(self) -> None:
        conf = self._conf
        host, port = next(self._brokers)
        self._connection = amqp_connection.Connection(
            hostname=host,
            port=port,
            userid=conf.rabbit_userid,
            password=conf.rabbit_password or "guest",
            virtual_host=conf.rabbit_virtual_host,
            ssl=self._tls_for(host),
            connect_timeout=conf.rabbit_connect_timeout,
            heartbeat=conf.rabbit_heartbeat,
            transport=self.TRANSPORT,
            transport_options=self._transport_options(),
        )
        # Retrying is the publisher's work.
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, interval_max=0
        )
        self._limit_waits()
        self._channel = self._connection.channel()
        self._blocked = False
        self._unconfirmed.clear()
        self._returned.clear()
        self._tag = 0
        if hasattr(self._channel, "confirm_select"):
            self._channel.confirm_select()
            events = self._channel.events
            events["basic_ack"].add(self._on_ack)
            events["basic_nack"].add(self._on_nack)
            events["basic_return"].add(self._on_return)
        self._producer = messaging.Producer(self._channel, auto_declare=False)
        self._declare()

    def _transport_options(self) -> dict[str, Any]:
        return {
            "on_blocked": self._on_blocked,
            "on_unblocked": self._on_unblocked,
            "client_properties": {"product": "glance"},
        }

    def _tls_for(self, host: str) -> dict[str, Any] | bool:
        if self._tls is None:
            return False
        return (
            {**self._tls, "server_hostname": host} if self._conf.rabbit_ssl_verify else self._tls
        )

    def _limit_waits(self) -> None:
        """Set a timeout for every wait for the broker."""
        transport = getattr(self._connection.connection, "transport", None)
        self._sock = getattr(transport, "sock", None)
        if self._sock is not None:
            self._sock.settimeout(self._conf.rabbit_confirm_timeout)

    def _declare(self) -> None:
        """Declare the exchange and the queues."""
        self._exchange(self._channel).declare()
        for queue in self._queues():
            queue(self._channel).declare()
        self._declared = True

    def _queues(self) -> Iterable[entity.Queue]:
        names = self._conf.rabbit_notification_queue_names
        if names == "none":
            return
        topic = self._conf.rabbit_notification_topic
        for priority in message.PRIORITIES:
            shown = priority if names == "upper" else priority.lower()
            yield entity.Queue(
                f"{topic}.{shown}",
                self._exchange,
                routing_key=self._routing_key(priority),
                durable=True,
            )

    def _routing_key(self, priority: str) -> str:
        return f"{self._conf.rabbit_notification_topic}.{priority.lower()}"

    def close(self) -> None:
        connection, sock = self._connection, self._sock
        self._connection = self._channel = self._producer = self._sock = None
        self._declared = False
        if connection is None:
            return
        try:
            if sock is not None:
                sock.settimeout(_FAREWELL)
            connection.release()
        except Exception as err:
            # The connection is no longer needed, so its errors do not matter.
            LOG.debug("The connection to the broker was not closed well: %s", type(err).__name__)

    # -- sending ---------------------------------------------------------------------------------

    def send(self, messages: Sequence[message.Message], confirm: strategy.Confirm) -> None:
        self._confirm = confirm
        if not self._declared:
            # Messages were returned: the queues may have been deleted meanwhile.
            self._declare()
        for number, one in enumerate(messages):
            if number % _TURN == _TURN - 1:
                hub.sleep(0)
            self._wait_while_blocked()
            self._publish(one)
        self._wait_for_confirmations()

    def _publish(self, one: message.Message) -> None:
        try:
            self._producer.publish(
                one.data,
                exchange=self._exchange,
                routing_key=self._routing_key(one.priority),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                mandatory=True,
                message_id=one.id,
                timestamp=int(one.timestamp.timestamp()),
                type=one.event_type,
                timeout=self._conf.rabbit_confirm_timeout,
            )
        except _UNWRITABLE as err:
            # Nothing was sent. It counts as refused; otherwise it would block all after it.
            LOG.error("A notification cannot be sent by AMQP: %s", err)
            return
        if hasattr(self._channel, "confirm_select"):
            self._tag += 1
            self._unconfirmed[self._tag] = one
        else:
            self._confirm(one)

    def _wait_for_confirmations(self) -> None:
        deadline = time.monotonic() + self._conf.rabbit_confirm_timeout
        while self._unconfirmed:
            if self._blocked:
                # The broker has them but is too full to process them; it reports when that ends.
                self._wait_while_blocked()
                deadline = time.monotonic() + self._conf.rabbit_confirm_timeout
                continue
            timeout = deadline - time.monotonic()
            if timeout <= 0 or not self._drain(timeout):
                raise ConfirmTimeout(f"{len(self._unconfirmed)} messages were not confirmed")

    def _wait_while_blocked(self) -> None:
        """Wait until a broker that is short of memory or disk reads again.

        NOTE: a new connection would not help, and the messages would be sent twice.
        """
        while self._blocked:
            self._drain(min(self.idle_interval, 1.0))
            self._connection.heartbeat_check()

    def _drain(self, seconds: float) -> bool:
        """Process what the broker sends; return False if nothing arrives within `seconds`."""
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def idle(self) -> None:
        if self._connection.supports_heartbeats:
            while self._drain(0.01):
                pass
            self._connection.heartbeat_check()

    # -- frames from the broker ------------------------------------------------------------------

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for one in self._take_acknowledged(tag, multiple):
            if one.id in self._returned:
                # It was valid, but no queue accepted it: it counts as refused.
                self._returned.discard(one.id)
                self._declared = False
            else:
                self._confirm(one)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._take_acknowledged(tag, multiple)

    def _take_acknowledged(self, tag: int, multiple: bool) -> list[message.Message]:
        tags = [known for known in self._unconfirmed if known <= tag] if multiple else [tag]
        acknowledged = [self._unconfirmed.pop(known, None) for known in tags]
        return [one for one in acknowledged if one is not None]

    def _on_return(self, error: Any, exchange: str, routing_key: str, returned: Any) -> None:
        self._returned.add(returned.properties.get("message_id"))

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True
        LOG.warning("The broker accepts no messages at the moment: %s", reason)

    def _on_unblocked(self) -> None:
        self._blocked = False
        LOG.info("The broker accepts messages again")

    # -- failures --------------------------------------------------------------------------------

    def severity(self, error: BaseException) -> int:
        codes = {getattr(err, "reply_code", None) for err in (error, error.__cause__)}
        return logging.ERROR if codes & _REFUSALS else logging.WARNING

    def explain(self, error: BaseException) -> str:
        # SECURITY: no error of the broker or the library holds the password.
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text}"[:500]


def _ignore(one: message.Message) -> None:
    pass


def _tls(conf: config.Conf) -> dict[str, Any] | None:
    """Return the library's TLS settings, None without TLS. ConfigError for unusable files."""
    if not conf.rabbit_use_ssl:
        return None
    cert, key, ca = conf.rabbit_ssl_cert, conf.rabbit_ssl_key, conf.rabbit_ssl_ca
    try:
        http_connection.TLS(key, cert, ca, not conf.rabbit_ssl_verify).context()
    except exception.BadInputError as err:
        raise exception.ConfigError(f"{conf.source}: rabbit_use_ssl: {err}") from err
    return {
        "ca_certs": ca,
        "certfile": cert,
        "keyfile": key,
        "cert_reqs": ssl.CERT_REQUIRED if conf.rabbit_ssl_verify else ssl.CERT_NONE,
    }

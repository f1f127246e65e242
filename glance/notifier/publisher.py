"""The one sender of a process: it holds messages until the strategy has delivered them.

A request puts a message into the backlog and goes on. One background task takes the oldest ones,
sends them in batches, and removes them when they are confirmed; while the other side is away it
tries again with growing pauses. At the end the backlog is emptied: to the other side, to the
spool, to a file, or to the log.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Sequence

from glance.common import config
from glance.notifier import backlog, message, throttle
from glance.notifier import strategy as notifier_strategy
from glance.streaming import offload

LOG = logging.getLogger(__name__)

#: Most messages that are sent before their confirmations are waited for.
BATCH = 100
#: How often a message that the other side refuses is sent.
TRIES = 3
#: Seconds between two lines of the log about the same trouble, or with the counters.
_LOG_PAUSE = 60.0
_STATISTICS_PAUSE = 300.0
#: Pause between tries while the process stops and has nowhere else to put its messages.
_LAST_PAUSE = 0.5
#: What writing the rest away may take beyond notification_drain_timeout, in seconds.
FAREWELL = 5.0

OPTIONS = (
    config.Option(
        "notification_drain_timeout",
        config.real,
        30.0,
        unit="seconds",
        minimum=0,
        help="How long a process that is stopping continues to send waiting messages.",
    ),
)


class Publisher:
    """Sends for one process. Made and started after the fork; `stop` is its end.

    Raises ConfigError for a spool that is asked for and cannot be used.
    """

    def __init__(self, strategy: notifier_strategy.Strategy, conf: config.Conf):
        self.counters = backlog.Counters()
        self.connected = False
        self._strategy = strategy
        self._wake, self._halt, self._ended = (threading.Event() for _ in range(3))
        self._backlog = backlog.Backlog(conf, self.counters, self._wake)
        self._drain_timeout: float = conf.notification_drain_timeout
        self._started = False
        self._deadline = float("inf")
        self._failures = 0
        self._outage_pace, self._refusal_pace = (
            throttle.RateLimiter(_LOG_PAUSE) for _ in range(2)
        )
        self._statistics_pace = throttle.RateLimiter(_STATISTICS_PAUSE)
        self._shown = backlog.Counters()

    def start(self) -> None:
        """Begin to send, what earlier processes left first."""
        self._started = True
        self._statistics_pace.due()
        self._backlog.claim()
        offload.spawn(self._run)

    def put(self, one: message.Message) -> None:
        """Take a message over. Never waits for the other side and never raises an Exception.

        It waits for the disk only where the settings ask for that (`notification_spool_fsync`).
        """
        self._backlog.put(one)

    # -- sending ---------------------------------------------------------------------------------

    def _run(self) -> None:
        """The life of the background task."""
        try:
            while not self._is_over():
                try:
                    self._keep_books()
                    self._turn()
                except Exception as err:
                    # Whatever a strategy raises means that the other side cannot be reached.
                    if not self._survive(err):
                        break
        finally:
            self._strategy.close()
            self.connected = False
            self._ended.set()

    def _is_over(self) -> bool:
        if not self._halt.is_set():
            return False
        return not self._backlog.is_in_memory or time.monotonic() >= self._deadline

    def _turn(self) -> None:
        """Send a batch, or wait for something to send."""
        if not self.connected:
            self._strategy.open()
            self._report_recovery()
            self.connected = True
        # At the end, what is on the disk is safe there; the next process sends it.
        batch = self._backlog.take(BATCH, from_disk=not self._halt.is_set())
        if batch:
            self._send(batch)
        elif not self._wake.wait(self._strategy.idle_interval):
            self._strategy.idle()
            self._be_well()
        else:
            self._wake.clear()

    def _send(self, batch: Sequence[message.Message]) -> None:
        self.counters.published += len(batch)
        self.counters.retried += sum(one.sent for one in batch)
        for one in batch:
            one.sent = True
        try:
            self._strategy.send(batch, self._confirm)
        finally:
            self._backlog.settle(batch)
        self._be_well()
        refused = [one for one in batch if not one.settled]
        if refused:
            self._refuse(refused)

    def _confirm(self, one: message.Message) -> None:
        if not one.settled:
            one.settled = True
            self.counters.confirmed += 1

    def _refuse(self, refused: Sequence[message.Message]) -> None:
        """Count a refusal against each message, and give up those with too many."""
        hopeless = []
        for one in refused:
            one.tries += 1
            if one.tries >= TRIES:
                hopeless.append(one)
        if self._refusal_pace.due():
            LOG.error(
                "The receiver rejected %s notifications (%s of them for good): no queue accepts "
                "%s",
                len(refused),
                len(hopeless),
                ", ".join(sorted({one.event_type for one in refused})),
            )
        for one in hopeless:
            one.settled = True
            self.counters.dropped += 1
        self._backlog.settle(hopeless)

    # -- trouble ---------------------------------------------------------------------------------

    def _survive(self, err: Exception) -> bool:
        """Wait after a failure; False if it is time to end."""
        self.connected = False
        self._strategy.close()
        self._failures += 1
        strategy = self._strategy
        if self._outage_pace.due():
            LOG.log(
                strategy.severity(err),
                "Notifications cannot be sent; %s are waiting: %s",
                len(self._backlog),
                strategy.explain(err),
            )
        if strategy.max_retries and self._failures % strategy.max_retries == 0:
            self._backlog.put_away()
        if self._halt.is_set():
            if self._backlog.has_refuge:
                return False
            offload.sleep(_LAST_PAUSE)
            return True
        pause = strategy.retry_backoff * 2 ** min(self._failures - 1, 16)
        pause = min(pause, strategy.retry_max_backoff) * random.uniform(0.8, 1.2)
        self._halt.wait(pause)
        return True

    def _report_recovery(self) -> None:
        if self._failures:
            LOG.info("Notifications can be sent again; %s are waiting", len(self._backlog))

    def _be_well(self) -> None:
        """Take note of a success: the next trouble is a new one."""
        if self._failures:
            self._failures = 0
            self._outage_pace.reset()

    # -- what is known of it ---------------------------------------------------------------------

    def _keep_books(self) -> None:
        self._backlog.report_losses()
        if self.counters != self._shown and self._statistics_pace.due():
            self._shown = dataclasses.replace(self.counters)
            shown = ", ".join(f"{name} {count}" for name, count in self.statistics().items())
            LOG.info("Notifications: %s", shown)

    def statistics(self) -> dict[str, int | bool]:
        """Return the counters, the length of the buffer, and whether there is a connection."""
        return {
            **dataclasses.asdict(self.counters),
            "buffer_length": len(self._backlog),
            "connected": self.connected,
        }

    def stop(self) -> None:
        """Send what waits, for as long as the settings allow, and put the rest away.

        With a refuge (spool or fallback file) an other side that is away is not waited for.
        """
        self._deadline = time.monotonic() + self._drain_timeout
        self._halt.set()
        self._wake.set()
        if self._started:
            self._ended.wait(self._drain_timeout)
        self._backlog.close()

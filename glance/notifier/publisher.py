"""Sends the messages of a process and holds them until the strategy has delivered them.

A request puts a message into the backlog and goes on. One background task takes the oldest ones,
sends them in batches, and removes them when they are confirmed; while the receiver is unreachable
it retries with growing pauses. At the end the backlog is emptied: to the receiver, to the spool,
to a file, or to the log.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence

from glance.common import config, throttle
from glance.notifier import backlog, message
from glance.notifier import strategy as notifier_strategy
from glance.streaming import hub, retry, tasks

LOG = logging.getLogger(__name__)

#: Most messages that are sent before waiting for their confirmations.
BATCH = 100
#: How often a message that the receiver refuses is sent.
TRIES = 3
#: Seconds between two lines of the log about the same problem, or with the counters.
_LOG_PAUSE = 60.0
_STATISTICS_PAUSE = 300.0
#: Seconds between attempts while the process stops and has no other place for its messages.
_LAST_PAUSE = 0.5
#: Seconds that storing the rest may take beyond notification_drain_timeout.
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
    """Sends for one process. Create and start it after the fork; end it with `stop`.

    Raises ConfigError for a configured spool that cannot be used.
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
        self._outage_limiter, self._refusal_limiter = (
            throttle.RateLimiter(_LOG_PAUSE) for _ in range(2)
        )
        self._statistics_limiter = throttle.RateLimiter(_STATISTICS_PAUSE)
        self._shown = backlog.Counters()

    def start(self) -> None:
        """Begin to send, starting with what earlier processes left."""
        self._started = True
        self._statistics_limiter.due()
        self._backlog.claim()
        tasks.spawn(self._run)

    def put(self, one: message.Message) -> None:
        """Accept a message. Never waits for the receiver and never raises an Exception.

        It waits for the disk only if the settings require it (`notification_spool_fsync`).
        """
        self._backlog.put(one)

    # -- sending ---------------------------------------------------------------------------------

    def _run(self) -> None:
        """Run the background task until the end."""
        try:
            while not self._is_over():
                try:
                    self._log_statistics()
                    self._send_or_wait()
                except Exception as err:
                    # Any error of a strategy means that the receiver cannot be reached.
                    if not self._wait_after_failure(err):
                        break
        finally:
            self._strategy.close()
            self.connected = False
            self._ended.set()

    def _is_over(self) -> bool:
        if not self._halt.is_set():
            return False
        return not self._backlog.is_in_memory or time.monotonic() >= self._deadline

    def _send_or_wait(self) -> None:
        """Send a batch, or wait for something to send."""
        if not self.connected:
            self._strategy.open()
            self._report_recovery()
            self.connected = True
        # While stopping, leave what is on the disk there; the next process sends it.
        batch = self._backlog.take(BATCH, from_disk=not self._halt.is_set())
        if batch:
            self._send(batch)
        elif not self._wake.wait(self._strategy.idle_interval):
            self._strategy.idle()
            self._note_success()
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
        self._note_success()
        refused = [one for one in batch if not one.settled]
        if refused:
            self._refuse(refused)

    def _confirm(self, one: message.Message) -> None:
        if not one.settled:
            one.settled = True
            self.counters.confirmed += 1

    def _refuse(self, refused: Sequence[message.Message]) -> None:
        """Count a refusal of each message, and give up those with too many."""
        hopeless = []
        for one in refused:
            one.tries += 1
            if one.tries >= TRIES:
                hopeless.append(one)
        if self._refusal_limiter.due():
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

    # -- failures --------------------------------------------------------------------------------

    def _wait_after_failure(self, err: Exception) -> bool:
        """Wait after a failure; return False if it is time to end."""
        self.connected = False
        self._strategy.close()
        self._failures += 1
        strategy = self._strategy
        if self._outage_limiter.due():
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
            hub.sleep(_LAST_PAUSE)
            return True
        backoff = retry.Backoff(strategy.retry_backoff, strategy.retry_max_backoff, jitter=0.2)
        self._halt.wait(backoff.pause(self._failures))
        return True

    def _report_recovery(self) -> None:
        if self._failures:
            LOG.info("Notifications can be sent again; %s are waiting", len(self._backlog))

    def _note_success(self) -> None:
        """Note a success: the next failure begins a new outage."""
        if self._failures:
            self._failures = 0
            self._outage_limiter.reset()

    # -- statistics ------------------------------------------------------------------------------

    def _log_statistics(self) -> None:
        self._backlog.report_losses()
        if self.counters != self._shown and self._statistics_limiter.due():
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

    @property
    def waiting(self) -> int:
        """How many messages wait in memory."""
        return len(self._backlog)

    def spooled_bytes(self) -> int:
        """Return how many bytes wait on the disk, for any process; 0 without a spool."""
        return self._backlog.spooled_bytes()

    def stop(self) -> None:
        """Send the waiting messages for as long as the settings allow, and store the rest.

        With a spool or fallback file this does not wait for an unreachable receiver.
        """
        self._deadline = time.monotonic() + self._drain_timeout
        self._halt.set()
        self._wake.set()
        if self._started:
            self._ended.wait(self._drain_timeout)
        self._backlog.close()

"""The one sender of a process: it holds messages until the strategy has delivered them.

A request puts a message into a bounded buffer and goes on. One background task takes the oldest
ones out, sends them in batches, and removes them when they are confirmed; while the other side is
away it tries again with growing pauses. What finds no room in memory goes to the spool or is
dropped, as the settings say, and is counted. At the end the buffer is emptied: to the other side,
to the spool, to a file, or to the log.

The order of sending is: what earlier processes left, then the buffer, then what overflowed. While
there is any of the last, new messages go behind it, so that the order is kept.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import random
import threading
import time
from collections.abc import Sequence

from glance.common import config, exception, offload
from glance.common.notifier import base, buffer, message, pace, spool

LOG = logging.getLogger(__name__)

#: Most messages that are sent before their confirmations are waited for.
BATCH = 100
#: How often a message that the other side refuses is sent.
TRIES = 3
#: Seconds between two lines of the log about the same trouble.
_LOG_PAUSE = 60.0
_STATISTICS_PAUSE = 300.0
#: How many messages may be on their way to the disk, unless the buffer is larger than that.
_SPILL = 1000
#: Pause between tries while the process stops and has nowhere else to put its messages.
_LAST_PAUSE = 0.5
#: What writing the rest away may take beyond notification_drain_timeout, in seconds.
FAREWELL = 5.0

OPTIONS = (
    config.Option(
        "notification_buffer_size",
        config.integer,
        10000,
        unit="messages",
        minimum=1,
        help="How many messages wait in the memory of a process while they cannot be sent.",
    ),
    config.Option(
        "notification_overflow",
        default="drop_oldest_info",
        choices=("drop_oldest_info", "drop_newest", "spool"),
        help="What happens when the buffer is full: the oldest INFO messages go, new messages are "
        "turned away, or new messages go to notification_spool_dir.",
    ),
    config.Option(
        "notification_spool_dir",
        config.path,
        help="Directory for messages that wait on the disk, across restarts; unset: none.",
    ),
    config.Option(
        "notification_spool_max_bytes",
        config.integer,
        67108864,
        unit="bytes",
        minimum=0,
        help="How much a process may put into the spool; new messages are turned away then.",
    ),
    config.Option(
        "notification_spool_fsync",
        config.boolean,
        False,
        help="With notification_overflow = spool: have each message on the disk before its "
        "request is answered, so that a crash loses none. Costs a sync for each event.",
    ),
    config.Option(
        "notification_drain_timeout",
        config.real,
        30.0,
        unit="seconds",
        minimum=0,
        help="How long a process that stops goes on sending what waits.",
    ),
    config.Option(
        "notification_fallback_file",
        config.path,
        help="File that gets, one a line, what could neither be sent nor spooled when a process "
        "stops; unset: such messages are logged as errors.",
    ),
)


@dataclasses.dataclass(slots=True)
class Counters:
    """What became of messages since the process started.

    `queued` came in; `published` were handed to the other side, `retried` of them not for the
    first time; `confirmed` are safe there; `dropped` are lost; `spooled` went to the disk.
    """

    queued: int = 0
    published: int = 0
    confirmed: int = 0
    retried: int = 0
    dropped: int = 0
    spooled: int = 0


class Publisher:
    """Sends for one process. Made and started after the fork; `stop` is its end.

    Raises ConfigError for a spool that is asked for and cannot be used.
    """

    def __init__(self, strategy: base.Strategy, conf: config.Conf):
        self.counters = Counters()
        self.connected = False
        self._strategy = strategy
        self._spool = _spool_of(conf)
        overflow = conf.notification_overflow
        self._buffer = buffer.Buffer(
            conf.notification_buffer_size, keep_urgent=overflow == "drop_oldest_info"
        )
        self._overflows = overflow == "spool"
        self._ahead = self._overflows and conf.notification_spool_fsync
        self._drain_timeout: float = conf.notification_drain_timeout
        self._fallback: str | None = conf.notification_fallback_file
        self._lock = offload.lock()
        self._started = False
        self._wake, self._halt, self._ended = (threading.Event() for _ in range(3))
        self._stopped = False
        self._deadline = float("inf")
        self._failures = 0
        #: On the way to the disk, and whether somebody carries it there.
        self._spilling: collections.deque[message.Message] = collections.deque()
        self._spiller: offload.Task | None = None
        #: Segments of earlier processes, and what of one segment is being sent.
        self._earlier: list[spool.Segment] = []
        self._replay: list[message.Message] = []
        self._lost: collections.Counter[str] = collections.Counter()
        self._loss_pace, self._outage_pace, self._refusal_pace = (
            pace.Pace(_LOG_PAUSE) for _ in range(3)
        )
        self._statistics_pace = pace.Pace(_STATISTICS_PAUSE)
        self._shown = Counters()

    def start(self) -> None:
        """Begin to send, what earlier processes left first."""
        self._started = True
        self._statistics_pace.due()
        if self._spool is not None:
            self._earlier = offload.run(self._spool.claim)
            if self._earlier:
                LOG.info("Notifications of earlier processes wait in %s files", len(self._earlier))
        offload.spawn(self._run)

    # -- taking in -------------------------------------------------------------------------------

    def put(self, one: message.Message) -> None:
        """Take a message over. Never waits for the other side and never raises an Exception.

        It waits for the disk only where the settings ask for that (`notification_spool_fsync`).
        """
        with self._lock:
            self.counters.queued += 1
            late = self._stopped
            kept = not late and self._keep(one)
        if late:
            self._put_away([one])
            self._let_go()
            return
        self._wake.set()
        if self._ahead and self._spool is not None:
            if kept:
                offload.run(self._spool.note, one)
                if one.settled:
                    # It was confirmed while it was written down.
                    offload.run(self._spool.settle, [one])
            else:
                self._store([one])

    def _keep(self, one: message.Message) -> bool:
        """Find a place in memory; tell whether there is one. Holds the lock."""
        if self._overflows and self._spool is not None:
            if not (self._buffer.full or self._spilling or self._spool.has_stored):
                self._buffer.append(one)
                return True
            if not self._ahead:
                self._spill(one)
            return False
        displaced = self._buffer.append(one)
        if displaced is not None:
            self._lose(displaced)
        return displaced is not one

    def _spill(self, one: message.Message) -> None:
        if len(self._spilling) >= max(self._buffer.size, _SPILL):
            # The disk is slower than the events come: memory stays bounded all the same.
            self._lose(one)
            return
        self._spilling.append(one)
        if self._spiller is None:
            self._spiller = offload.spawn(self._carry)

    def _carry(self) -> None:
        """Bring to the disk what waits for it, then end."""
        while True:
            with self._lock:
                part = list(self._spilling)
                if not part:
                    self._spiller = None
                    return
            self._store(part)
            with self._lock:
                for _ in part:
                    self._spilling.popleft()
            self._wake.set()

    def _store(self, messages: Sequence[message.Message]) -> None:
        assert self._spool is not None
        refused = offload.run(self._spool.store, messages)
        with self._lock:
            self.counters.spooled += len(messages) - len(refused)
            for one in refused:
                self._lose(one)

    def _lose(self, one: message.Message) -> None:
        """Count a message as lost. Holds the lock."""
        one.settled = True
        self.counters.dropped += 1
        self._lost[one.event_type] += 1
        self._tell_losses()

    def _tell_losses(self) -> None:
        if self._lost and self._loss_pace.due():
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._lost.items()))
            LOG.warning("Notifications were dropped for lack of room: %s", kinds)
            self._lost.clear()

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
        with self._lock:
            done = not self._buffer and not self._replay
        return done or time.monotonic() >= self._deadline

    def _turn(self) -> None:
        """Send a batch, or wait for something to send."""
        if not self.connected:
            self._strategy.open()
            self._tell_recovery()
            self.connected = True
        batch = self._take()
        if batch:
            self._send(batch)
        elif not self._wake.wait(self._strategy.idle_interval):
            self._strategy.idle()
            self._be_well()
        else:
            self._wake.clear()

    def _take(self) -> list[message.Message]:
        """Return the next messages to send; none if there are none."""
        while not self._replay:
            segment = self._next_segment(earlier=True)
            if segment is None:
                with self._lock:
                    batch = self._buffer.take(BATCH)
                if batch:
                    return batch
                segment = self._next_segment(earlier=False)
            if segment is None:
                return []
            assert self._spool is not None
            try:
                self._replay = offload.run(self._spool.read, segment)
            except OSError as err:
                LOG.error("Notifications in %s cannot be read: %s", segment.path, err.strerror)
        return self._replay[:BATCH]

    def _next_segment(self, *, earlier: bool) -> spool.Segment | None:
        if self._spool is None or self._halt.is_set():
            # What is on the disk is safe there; the next process sends it.
            return None
        if earlier:
            return self._earlier.pop(0) if self._earlier else None
        return offload.run(self._spool.next_stored) if self._spool.has_stored else None

    def _send(self, batch: Sequence[message.Message]) -> None:
        self.counters.published += len(batch)
        self.counters.retried += sum(one.sent for one in batch)
        for one in batch:
            one.sent = True
        try:
            self._strategy.send(batch, self._confirm)
        finally:
            self._settle(batch)
        self._be_well()
        refused = [one for one in batch if not one.settled]
        if refused:
            self._refuse(refused)

    def _confirm(self, one: message.Message) -> None:
        if not one.settled:
            one.settled = True
            self.counters.confirmed += 1

    def _settle(self, batch: Sequence[message.Message]) -> None:
        """Forget what is settled of a batch; the rest keeps its place."""
        done = [one for one in batch if one.settled]
        with self._lock:
            for one in done:
                self._buffer.remove(one)
            self._buffer.give_back()
        if self._replay:
            self._replay = [one for one in self._replay if not one.settled]
        noted = [one for one in done if one.segment is not None]
        if noted and self._spool is not None:
            offload.run(self._spool.settle, noted)

    def _refuse(self, refused: Sequence[message.Message]) -> None:
        """Count a refusal against each message, and give up those with too many."""
        hopeless = []
        for one in refused:
            one.tries += 1
            if one.tries >= TRIES:
                hopeless.append(one)
        if self._refusal_pace.due():
            LOG.error(
                "%s notifications were refused by the other side (%s of them for good): nobody "
                "there wants %s",
                len(refused),
                len(hopeless),
                ", ".join(sorted({one.event_type for one in refused})),
            )
        for one in hopeless:
            one.settled = True
            self.counters.dropped += 1
        self._settle(hopeless)

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
                "Notifications cannot be sent, %s wait: %s",
                len(self._buffer),
                strategy.explain(err),
            )
        if strategy.max_retries and self._failures % strategy.max_retries == 0:
            self._put_away(self._empty_buffer())
        if self._halt.is_set():
            if self._has_refuge():
                return False
            offload.sleep(_LAST_PAUSE)
            return True
        pause = strategy.retry_backoff * 2 ** min(self._failures - 1, 16)
        pause = min(pause, strategy.retry_max_backoff) * random.uniform(0.8, 1.2)
        self._halt.wait(pause)
        return True

    def _tell_recovery(self) -> None:
        if self._failures:
            LOG.info("Notifications can be sent again, %s wait", len(self._buffer))

    def _be_well(self) -> None:
        """Take note of a success: the next trouble is a new one."""
        if self._failures:
            self._failures = 0
            self._outage_pace.reset()

    def _has_refuge(self) -> bool:
        """Tell whether messages are safe somewhere else than at the other side."""
        return self._spool is not None or self._fallback is not None

    def _keep_books(self) -> None:
        with self._lock:
            self._tell_losses()
        if self.counters != self._shown and self._statistics_pace.due():
            self._shown = dataclasses.replace(self.counters)
            shown = ", ".join(f"{name} {count}" for name, count in self.statistics().items())
            LOG.info("Notifications: %s", shown)

    def statistics(self) -> dict[str, int | bool]:
        """Return the counters, the length of the buffer, and whether there is a connection."""
        return {
            **dataclasses.asdict(self.counters),
            "buffer_length": len(self._buffer),
            "connected": self.connected,
        }

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Send what waits, for as long as the settings allow, and put the rest away.

        With a refuge (spool or fallback file) an other side that is away is not waited for.
        """
        self._deadline = time.monotonic() + self._drain_timeout
        self._halt.set()
        self._wake.set()
        if self._started:
            self._ended.wait(self._drain_timeout)
        spiller = self._spiller
        if spiller is not None:
            spiller.join()
        with self._lock:
            self._stopped = True
        self._put_away(self._empty_buffer())
        self._let_go()
        with self._lock:
            self._loss_pace.reset()
            self._tell_losses()

    def _let_go(self) -> None:
        """Leave the files of the spool to the next process."""
        if self._spool is not None:
            offload.run(self._spool.close)

    def _empty_buffer(self) -> list[message.Message]:
        """Take everything out of memory; return what is nowhere else."""
        with self._lock:
            left = self._buffer.all()
            for one in left:
                self._buffer.remove(one)
            return [one for one in left if not one.settled and one.segment is None]

    def _put_away(self, messages: Sequence[message.Message]) -> None:
        """Keep messages that cannot be sent: in the spool, in the fallback file, in the log."""
        if not messages:
            return
        left = messages
        if self._spool is not None:
            left = offload.run(self._spool.store, messages)
            self.counters.spooled += len(messages) - len(left)
        if left and self._fallback is not None:
            try:
                offload.run(_append, self._fallback, left)
                LOG.warning("%s notifications were written to %s", len(left), self._fallback)
                return
            except OSError as err:
                LOG.error("%s cannot be written: %s", self._fallback, err.strerror)
        for one in left:
            LOG.error("This notification was not sent: %s", one.data.decode("ascii"))


def _spool_of(conf: config.Conf) -> spool.Spool | None:
    if conf.notification_spool_dir:
        return spool.Spool(
            conf.notification_spool_dir,
            conf.notification_spool_max_bytes,
            sync=conf.notification_spool_fsync,
        )
    if conf.notification_overflow == "spool":
        raise exception.ConfigError("notification_overflow = spool needs notification_spool_dir")
    return None


def _append(path: str, messages: Sequence[message.Message]) -> None:
    descriptor = offload.open_fd(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    with open(descriptor, "ab") as file:
        file.writelines(one.data + b"\n" for one in messages)
        file.flush()
        os.fsync(descriptor)

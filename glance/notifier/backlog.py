"""All messages that wait to be sent: in memory, on the way to the disk, on the disk.

Requests put messages in and the publisher takes them out, possibly at the same time. It takes
first what earlier processes left, then the buffer, then what overflowed. While there is overflow,
new messages follow it, so that the order is kept. Messages that find no room are dropped as the
settings say, and counted.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import threading
from collections.abc import Sequence

from glance.common import config, exception, files, throttle
from glance.notifier import buffer, message, spool
from glance.streaming import hub, tasks, threads
from glance.streaming.segment import Segment

LOG = logging.getLogger(__name__)

#: Seconds between two lines of the log about losses.
LOG_PAUSE = 60.0
#: How many messages may be on their way to the disk, unless the buffer is larger than that.
_SPILL = 1000

OPTIONS = (
    config.Option(
        "notification_buffer_size",
        config.integer,
        10000,
        unit="messages",
        minimum=1,
        help="How many unsent messages each process keeps in memory.",
    ),
    config.Option(
        "notification_overflow",
        default="drop_oldest_info",
        choices=("drop_oldest_info", "drop_newest", "spool"),
        help="What happens when the buffer is full: drop_oldest_info drops the oldest INFO "
        "messages, drop_newest drops new messages, and spool writes new messages to "
        "notification_spool_dir.",
    ),
    config.Option(
        "notification_spool_dir",
        config.path,
        help="Directory in which unsent messages are kept on disk, across restarts. Unset: no "
        "spool.",
    ),
    config.Option(
        "notification_spool_max_bytes",
        config.integer,
        67108864,
        unit="bytes",
        minimum=0,
        help="Maximum size of the spool of one process. When it is full, new messages are "
        "dropped.",
    ),
    config.Option(
        "notification_spool_fsync",
        config.boolean,
        False,
        help="With notification_overflow = spool, sync each message to disk before the response "
        "to its request is sent, so that a crash loses no message. Costs one sync per "
        "event.",
    ),
    config.Option(
        "notification_fallback_file",
        config.path,
        help="File for messages that can be neither sent nor spooled when a process stops, one "
        "per line. Unset: such messages are logged as errors.",
    ),
)


@dataclasses.dataclass(slots=True)
class Counters:
    """Counters of messages since the process started.

    `queued` were put in; `published` were sent to the receiver, `retried` of them not for the
    first time; `confirmed` are safe there; `dropped` are lost; `spooled` went to the disk.
    """

    queued: int = 0
    published: int = 0
    confirmed: int = 0
    retried: int = 0
    dropped: int = 0
    spooled: int = 0


class Backlog:
    """The messages that wait in one process.

    `news` is set when there is a new message to take. Raises ConfigError for a configured spool
    that cannot be used.
    """

    def __init__(self, conf: config.Conf, counters: Counters, news: threading.Event):
        self.counters = counters
        self._news = news
        self._spool = _spool_of(conf)
        self._fallback: str | None = conf.notification_fallback_file
        overflow = conf.notification_overflow
        self._overflows = overflow == "spool"
        self._ahead = self._overflows and conf.notification_spool_fsync
        self._buffer = buffer.Buffer(
            conf.notification_buffer_size, keep_urgent=overflow == "drop_oldest_info"
        )
        self._lock = hub.lock()
        self._closed = False
        #: Messages on the way to the disk, and whether a task is writing them.
        self._spilling: collections.deque[message.Message] = collections.deque()
        self._spiller: tasks.Task | None = None
        #: Segments of earlier processes, and the messages of one segment that are being sent.
        self._earlier: list[Segment] = []
        self._replay: list[message.Message] = []
        self._lost: collections.Counter[str] = collections.Counter()
        self._loss_limiter = throttle.RateLimiter(LOG_PAUSE)

    def __len__(self) -> int:
        """Return the number of messages in the buffer."""
        return len(self._buffer)

    @property
    def has_refuge(self) -> bool:
        """Whether messages that cannot be sent are kept in a spool or a fallback file."""
        return self._spool is not None or self._fallback is not None

    @property
    def is_in_memory(self) -> bool:
        """Whether any message waits outside of the disk."""
        with self._lock:
            return bool(self._buffer) or bool(self._replay)

    def spooled_bytes(self) -> int:
        """Return how many bytes wait in the spool, those of other processes included.

        0 without a spool.
        """
        return 0 if self._spool is None else threads.run(self._spool.total_bytes)

    # -- putting in ------------------------------------------------------------------------------

    def put(self, one: message.Message) -> None:
        """Add a message; wait for the disk only if the settings require it."""
        with self._lock:
            self.counters.queued += 1
            late = self._closed
            kept = not late and self._keep(one)
        if late:
            self._put_away([one])
            self._release()
            return
        self._news.set()
        if self._ahead and self._spool is not None:
            if kept:
                threads.run(self._spool.note, one)
                if one.settled:
                    # It was confirmed while it was being written.
                    threads.run(self._spool.settle, [one])
            else:
                self._store([one])

    def _keep(self, one: message.Message) -> bool:
        """Keep a message in memory; return False without room. The caller holds the lock."""
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
            # The disk is slower than the events: memory must stay bounded.
            self._lose(one)
            return
        self._spilling.append(one)
        if self._spiller is None:
            self._spiller = tasks.spawn(self._carry)

    def _carry(self) -> None:
        """Write the messages that wait for the disk, then end."""
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
            self._news.set()

    def _store(self, messages: Sequence[message.Message]) -> None:
        assert self._spool is not None
        refused = threads.run(self._spool.store, messages)
        with self._lock:
            self.counters.spooled += len(messages) - len(refused)
            for one in refused:
                self._lose(one)

    def _lose(self, one: message.Message) -> None:
        """Count a message as lost. The caller holds the lock."""
        one.settled = True
        self.counters.dropped += 1
        self._lost[one.event_type] += 1
        self._report_losses()

    def _report_losses(self) -> None:
        if self._lost and self._loss_limiter.due():
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._lost.items()))
            LOG.warning("Notifications were dropped for lack of space: %s", kinds)
            self._lost.clear()

    def report_losses(self) -> None:
        """Log how many were dropped since the last such line, if the next one is due."""
        with self._lock:
            self._report_losses()

    # -- taking out ------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take over what processes of this host left that have ended."""
        if self._spool is not None:
            self._earlier = threads.run(self._spool.claim)
            if self._earlier:
                LOG.info("Notifications of earlier processes wait in %s files", len(self._earlier))

    def take(self, count: int, *, from_disk: bool) -> list[message.Message]:
        """Return the next messages to send, at most `count`; they stay here until `settle`.

        Without `from_disk` those on the disk stay there.
        """
        while not self._replay:
            segment = self._next_segment(earlier=True) if from_disk else None
            if segment is None:
                with self._lock:
                    batch = self._buffer.take(count)
                if batch:
                    return batch
                segment = self._next_segment(earlier=False) if from_disk else None
            if segment is None:
                return []
            assert self._spool is not None
            try:
                self._replay = threads.run(self._spool.read, segment)
            except OSError as err:
                LOG.error("Notifications in %s cannot be read: %s", segment.path, err.strerror)
        return self._replay[:count]

    def _next_segment(self, *, earlier: bool) -> Segment | None:
        if self._spool is None:
            return None
        if earlier:
            return self._earlier.pop(0) if self._earlier else None
        return threads.run(self._spool.next_stored) if self._spool.has_stored else None

    def settle(self, batch: Sequence[message.Message]) -> None:
        """Remove the settled messages of a batch; the others keep their place."""
        done = [one for one in batch if one.settled]
        with self._lock:
            for one in done:
                self._buffer.remove(one)
            self._buffer.give_back()
        if self._replay:
            self._replay = [one for one in self._replay if not one.settled]
        noted = [one for one in done if one.segment is not None]
        if noted and self._spool is not None:
            threads.run(self._spool.settle, noted)

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Store what waits in memory; from now on messages are stored at once."""
        spiller = self._spiller
        if spiller is not None:
            spiller.join()
        with self._lock:
            self._closed = True
        self.put_away()
        self._release()
        with self._lock:
            self._loss_limiter.reset()
            self._report_losses()

    def put_away(self) -> None:
        """Empty the buffer: into the spool, the fallback file or the log."""
        with self._lock:
            left = self._buffer.all()
            for one in left:
                self._buffer.remove(one)
        self._put_away([one for one in left if not one.settled and one.segment is None])

    def _put_away(self, messages: Sequence[message.Message]) -> None:
        if not messages:
            return
        left = messages
        if self._spool is not None:
            left = threads.run(self._spool.store, messages)
            self.counters.spooled += len(messages) - len(left)
        if left and self._fallback is not None:
            try:
                threads.run(_append, self._fallback, left)
                LOG.warning("%s notifications were written to %s", len(left), self._fallback)
                return
            except OSError as err:
                LOG.error("%s cannot be written: %s", self._fallback, err.strerror)
        for one in left:
            LOG.error("This notification was not sent: %s", one.data.decode("ascii"))

    def _release(self) -> None:
        """Release the files of the spool for the next process."""
        if self._spool is not None:
            threads.run(self._spool.close)


def _spool_of(conf: config.Conf) -> spool.NotificationSpool | None:
    if conf.notification_spool_dir:
        return spool.NotificationSpool(
            conf.notification_spool_dir,
            conf.notification_spool_max_bytes,
            sync=conf.notification_spool_fsync,
        )
    if conf.notification_overflow == "spool":
        raise exception.ConfigError("notification_overflow = spool needs notification_spool_dir")
    return None


def _append(path: str, messages: Sequence[message.Message]) -> None:
    descriptor = files.open_fd(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with open(descriptor, "ab") as file:
        file.writelines(one.data + b"\n" for one in messages)
        file.flush()
        os.fsync(descriptor)

"""Messages on the disk: those that found no room in memory or must outlive the process.

A spool is a directory. Each process has its own files there, *segments*: one message per line,
readable by the owner only. A segment is locked as long as its process lives, so the next
process to start recognises what a dead or stopped process left, and sends that first. A segment is
removed when all of its messages are settled; if that never happens, they are sent again after a
restart, so their receivers must not mind.

All of this blocks: call it through `glance.streaming.threads`. What the messages are, their owner
knows.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from glance.common import exception, files, throttle
from glance.streaming import hub
from glance.streaming import segment as spool_segment
from glance.streaming.segment import Segment

LOG = logging.getLogger(__name__)

_SUFFIX = ".jsonl"
_numbers = itertools.count(1)


class Spooled(Protocol):
    """A message: `data` is its line, without the line feed.

    `settled` is set when it is delivered or given up; the spool uses `segment`, the file that has
    it.
    """

    data: bytes
    settled: bool
    segment: Segment | None


Kept = TypeVar("Kept", bound=Spooled)


class Spool(Generic[Kept]):
    """The files of this process in one directory, and those that earlier processes left.

    `limit` bounds the size of this process's own files in bytes. `parse` makes a message of its
    line and raises ValueError or RecursionError for anything else. `what` the messages are called
    begins the names of the files. With `sync` every write has reached the disk when it returns.
    Raises ConfigError, which names the `option`, for a directory that cannot be used.
    """

    def __init__(
        self,
        directory: str,
        limit: int,
        parse: Callable[[bytes], Kept],
        *,
        what: str,
        option: str,
        sync: bool = False,
    ):
        self._parse, self._what = parse, what.capitalize()
        self._prefix = f"{what}-"
        self.directory = directory
        self.limit = limit
        self.corrupt = 0
        self._sync = sync
        self._host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
        self._lock = hub.native_lock()
        #: Segments with messages that exist only there, oldest first; the last may still grow.
        self._stored: list[Segment] = []
        #: The segment for messages that are also in memory.
        self._ahead: Segment | None = None
        #: All segments that this process has locked.
        self._held: set[Segment] = set()
        self._size = 0
        self._complaints = throttle.RateLimiter(60.0)
        try:
            files.make_directories(directory, 0o700)
            with files.directory(directory):
                if not os.access(directory, os.W_OK | os.X_OK):
                    raise PermissionError(0, "it is not writable")
        except OSError as err:
            raise exception.ConfigError(
                f"option {option}: {directory} cannot be used: {err.strerror}"
            ) from err

    def total_bytes(self) -> int:
        """Return the size in bytes of all segments in the directory, whoever wrote them."""
        total = 0
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith(self._prefix) and entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_size
        return total

    # -- writing ---------------------------------------------------------------------------------

    def store(self, messages: Sequence[Kept]) -> list[Kept]:
        """Write messages that leave memory; return those that could not be written.

        A message cannot be written if the limit is reached or the disk fails, which is logged.
        """
        left = list(messages)
        with self._lock:
            try:
                while left:
                    if not self._stored or self._stored[-1].full:
                        self._stored.append(self._new())
                    part = self._fitting(left, self._stored[-1])
                    if not part:
                        break
                    self._write(self._stored[-1], part)
                    del left[: len(part)]
            except OSError as err:
                self._complain(err)
        return left

    def note(self, one: Kept) -> bool:
        """Write a message that also stays in memory, in case this process dies.

        Return False if that was not possible; see `store`.
        """
        with self._lock:
            if one.settled:
                return True
            try:
                if self._ahead is None or self._ahead.full:
                    self._ahead = self._new()
                if not self._fitting([one], self._ahead):
                    return False
                self._write(self._ahead, [one])
            except OSError as err:
                self._complain(err)
                return False
            self._ahead.unsettled += 1
            one.segment = self._ahead
            return True

    def _complain(self, err: OSError) -> None:
        if self._complaints.due():
            LOG.error("%s cannot be written to the spool: %s", self._what, err.strerror)

    def _fitting(self, messages: Sequence[Kept], segment: Segment) -> Sequence[Kept]:
        """Return the leading messages that fit into the segment and the limit."""
        room = self.limit - self._size
        size = segment.size
        for number, one in enumerate(messages):
            room -= len(one.data) + 1
            size += len(one.data) + 1
            if room < 0 or segment.count + number >= spool_segment.SEGMENT_MESSAGES:
                return messages[:number]
            if size >= spool_segment.SEGMENT_BYTES:
                return messages[: number + 1]
        return messages

    def _write(self, segment: Segment, messages: Sequence[Kept]) -> None:
        data = memoryview(b"".join(one.data + b"\n" for one in messages))
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(segment.fd, data[written:], segment.size + written)
            if self._sync:
                os.fdatasync(segment.fd)
        except OSError:
            # The next process must not send what is reported to the caller as not written.
            os.ftruncate(segment.fd, segment.size)
            raise
        segment.size += len(data)
        segment.count += len(messages)
        self._size += len(data)

    def _new(self) -> Segment:
        while True:
            # The names sort by age; hosts that share a directory ignore each other's files.
            name = f"{self._host}-{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}"
            path = os.path.join(self.directory, self._prefix + name + _SUFFIX)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            segment = _locked(path, files.open_fd(path, flags, 0o600))
            if segment is not None:
                break
        self._held.add(segment)
        if self._sync:
            with files.directory(self.directory) as directory:
                os.fsync(directory)
        return segment

    # -- reading ---------------------------------------------------------------------------------

    def claim(self) -> list[Segment]:
        """Lock and return what ended processes of this host left, oldest first.

        What cannot be read is logged, and stays.
        """
        found = []
        try:
            with files.directory(self.directory) as directory:
                names = sorted(os.listdir(directory))
        except OSError as err:
            LOG.error("%s in %s cannot be read: %s", self._what, self.directory, err.strerror)
            return []
        for name in names:
            if not name.startswith(f"{self._prefix}{self._host}-") or not name.endswith(_SUFFIX):
                continue
            path = os.path.join(self.directory, name)
            try:
                # SECURITY: whoever can write to the directory must not feed in messages.
                fd = files.open_fd(path, os.O_RDWR, owner=os.geteuid())
            except FileNotFoundError:
                continue
            except OSError as err:
                LOG.error("%s in %s cannot be read: %s", self._what, path, err.strerror)
                continue
            segment = _locked(path, fd)
            if segment is not None:
                segment.own = False
                found.append(segment)
        with self._lock:
            self._held.update(found)
        return found

    def next_stored(self) -> Segment | None:
        """Return the oldest segment of messages that are not in memory; it grows no more."""
        with self._lock:
            return self._stored.pop(0) if self._stored else None

    @property
    def has_stored(self) -> bool:
        return bool(self._stored)

    def read(self, segment: Segment) -> list[Kept]:
        """Return the messages of a segment; remove a segment that has none.

        Lines without a message (such as the last one before a crash) are skipped and counted.
        """
        messages = []
        corrupt = 0
        with open(segment.fd, "rb", closefd=False) as file:
            file.seek(0)
            for line in file:
                try:
                    one = self._parse(line)
                except (ValueError, RecursionError):
                    corrupt += 1
                    continue
                one.segment = segment
                messages.append(one)
        if corrupt:
            self.corrupt += corrupt
            LOG.warning("Skipped %s damaged lines of %s", corrupt, segment.path)
        with self._lock:
            segment.unsettled = len(messages)
            if not messages:
                self._remove(segment)
        return messages

    def settle(self, messages: Iterable[Kept]) -> None:
        """Note that messages are settled; remove files whose messages all are."""
        with self._lock:
            for one in messages:
                segment, one.segment = one.segment, None
                if segment not in self._held:
                    continue
                segment.unsettled -= 1
                if segment.unsettled:
                    continue
                if segment is self._ahead:
                    self._size -= segment.size
                    os.ftruncate(segment.fd, 0)
                    segment.size = segment.count = 0
                else:
                    self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        self._held.discard(segment)
        if segment.own:
            self._size -= segment.size
        try:
            files.unlink(segment.path)
        except OSError as err:
            # The messages may be sent again; those that come later must not wait for that.
            LOG.error("%s cannot be removed: %s", segment.path, err.strerror)
        finally:
            os.close(segment.fd)

    def close(self) -> None:
        """Close all files: those with messages wait for the next process."""
        with self._lock:
            for segment in list(self._held):
                if segment is self._ahead and not segment.size:
                    self._remove(segment)
                else:
                    os.close(segment.fd)
            self._held.clear()
            self._stored.clear()
            self._ahead = None


def _locked(path: str, fd: int) -> Segment | None:
    """Return the segment if no process has locked it and it still exists; else close `fd`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return Segment(path, fd)
    except BlockingIOError:
        pass
    os.close(fd)
    return None

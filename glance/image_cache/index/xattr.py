"""The index as extended attributes of the cached files: nothing to lose, nothing to repair.

An entry is a file in the place that its state has, with the attributes below. Times of reads are
an attribute, too, so that file systems mounted with noatime will do. What belongs to no file, the
prefetch queue and the counters, is one JSON file. Changes are made under a lock file.

Every question about all entries reads the directory: with more than some thousand images the
sqlite driver is the better one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from glance.common import exception
from glance.image_cache import layout
from glance.image_cache.index import driver
from glance.image_cache.index.driver import (
    COMPLETE,
    IN_PROGRESS,
    INCOMPLETE,
    INVALID,
    QUEUED,
    Access,
    CacheEntry,
    QueueItem,
)

LOG = logging.getLogger(__name__)

_LOCK = ".index-lock"
_STATE = ".index"
_TOPS = {COMPLETE: layout.ENTRIES, INCOMPLETE: layout.INCOMPLETE, INVALID: layout.INVALID}
#: Attributes by the field of an entry. Fields that are None have none.
_ATTRIBUTES = {
    "name": "user.image_name",
    "expected_size": "user.expected_size",
    "hits": "user.hits",
    "error": "user.error",
    "checksum": "user.checksum",
    "created_at": "user.created",
    "modified_at": "user.modified",
    "accessed_at": "user.accessed",
    "writer": "user.writer",
    "stamp": "user.stamp",
}
_NUMBERS = {
    "expected_size": int,
    "hits": int,
    "created_at": float,
    "modified_at": float,
    "accessed_at": float,
}


class XattrDriver(driver.Driver):
    """See the module."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        # The queue and the counters as running transactions see them, by thread.
        self._current: dict[int, dict[str, Any]] = {}

    def configure(self) -> None:
        with self._errors():
            probe = f"{layout.INCOMPLETE}/.probe.{uuid.uuid4().hex}"
            fd = self.directory.create(probe)
            try:
                os.setxattr(fd, "user.image_name", b"probe")
            except OSError as err:
                raise exception.CacheUnavailable(
                    "The file system of the image cache has no extended attributes: "
                    f"{err.strerror}"
                ) from err
            finally:
                os.close(fd)
                self.directory.unlink(probe)

    def stamp(self, status: os.stat_result) -> str:
        # NOTE: not the time of the last change, which attributes change.
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise exception.CacheUnavailable(
                f"The index of the image cache cannot be used: {err.strerror}"
            ) from err

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        me = threading.get_ident()
        with self._errors(), self.directory.lock(_LOCK, wait=True):
            before = self._load_state()
            self._current[me] = json.loads(json.dumps(before))
            try:
                yield
                if self._current[me] != before:
                    self._save_state(self._current[me])
            finally:
                del self._current[me]

    @contextlib.contextmanager
    def _atomic(self) -> Iterator[dict[str, Any]]:
        """Yield queue and counters inside the thread's transaction, or inside one of its own."""
        me = threading.get_ident()
        if me in self._current:
            yield self._current[me]
            return
        with self.transaction():
            yield self._current[me]

    def _load_state(self) -> dict[str, Any]:
        try:
            with open(self.directory.full(_STATE), encoding="utf-8") as stream:
                found = json.load(stream)
                return {"queue": list(found["queue"]), "counters": dict(found["counters"])}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as err:
            LOG.error(
                "The prefetch queue of the image cache is damaged; starting a new one: %s", err
            )
        return {"queue": [], "counters": {}}

    def _save_state(self, state: Mapping[str, Any]) -> None:
        new = f"{_STATE}.{uuid.uuid4().hex}"
        with open(self.directory.create(new), "w", encoding="utf-8") as stream:
            json.dump(state, stream)
        os.rename(self.directory.full(new), self.directory.full(_STATE))

    # -- attributes ------------------------------------------------------------------------------

    def _read(self, state: str, file: str) -> CacheEntry | None:
        """Return the entry that a file is, None for what is none."""
        path = self.directory.full(file)
        values: dict[str, Any] = {}
        try:
            for field, attribute in _ATTRIBUTES.items():
                with _absent():
                    raw = os.getxattr(path, attribute, follow_symlinks=False)
                    text = raw.decode("utf-8", "surrogateescape")
                    values[field] = _NUMBERS.get(field, str)(text)
            size = os.lstat(path).st_size
        except (OSError, ValueError) as err:
            if isinstance(err, OSError) and err.errno in (errno.EIO, errno.EACCES, errno.EMFILE):
                raise exception.CacheUnavailable(
                    f"The image cache cannot be read: {err.strerror}"
                ) from err
            return None
        if "created_at" not in values:
            return None
        image_id = os.path.basename(file)
        if state != COMPLETE:
            image_id = image_id.rpartition(".")[0]
        values.setdefault("expected_size", None)
        return CacheEntry(image_id, state, file, size=size, **values)

    def _write(self, file: str, entry: CacheEntry) -> None:
        path = self.directory.full(file)
        for field, attribute in _ATTRIBUTES.items():
            value = getattr(entry, field)
            if value is None:
                with _absent():
                    os.removexattr(path, attribute, follow_symlinks=False)
            else:
                raw = str(value).encode("utf-8", "surrogateescape")
                os.setxattr(path, attribute, raw, follow_symlinks=False)

    def _same(self, entry: CacheEntry) -> bool:
        """Return whether an entry is still what it was."""
        found = self._read(entry.state, entry.file)
        return found is not None and found.created_at == entry.created_at

    # -- entries ---------------------------------------------------------------------------------

    def lookup(self, image_id: str) -> CacheEntry | None:
        if not layout.is_key(image_id):
            return None
        with self._errors():
            return self._read(COMPLETE, self.directory.entry_file(image_id))

    def find(self, image_id: str) -> CacheEntry | None:
        found = self.lookup(image_id)
        if found is not None:
            return found
        incomplete = (entry for entry in self.entries(INCOMPLETE) if entry.image_id == image_id)
        return next(incomplete, None)

    def insert(self, entry: CacheEntry) -> bool:
        with self._atomic():
            if entry.state != INVALID and self.find(entry.image_id) is not None:
                return False
            if entry.state == INCOMPLETE:
                os.close(self.directory.create(entry.file))
            self._write(entry.file, entry)
        return True

    def create(self, entry: CacheEntry) -> int:
        return self.directory.open(entry.file, write=True)

    def progress(self, entry: CacheEntry, size: int) -> bool:
        with self._errors():
            return self._same(entry)

    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        with self._atomic() as state:
            if not self._same(entry):
                return False
            stamp = self.stamp(os.lstat(self.directory.full(entry.file)))
            self._write(entry.file, dataclasses.replace(done, stamp=stamp))
            self.directory.move(entry.file, done.file)
            state["queue"] = [item for item in state["queue"] if item["image_id"] != done.image_id]
        return True

    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        file = self.directory.invalid_file(entry.image_id)
        with self._atomic():
            if not self._same(entry):
                return None
            size = os.lstat(self.directory.full(entry.file)).st_size
            wrong = dataclasses.replace(
                entry,
                state=INVALID,
                file=file,
                size=size,
                error=error,
                writer=None,
                modified_at=time.time(),
            )
            self._write(entry.file, wrong)
            self.directory.move(entry.file, file)
        return wrong

    def restamp(self, entry: CacheEntry, stamp: str, checksum: str | None) -> None:
        with self._atomic():
            if self._same(entry):
                known = dataclasses.replace(entry, stamp=stamp, checksum=checksum)
                self._write(entry.file, known)

    def remove(self, entry: CacheEntry) -> bool:
        with self._atomic():
            return self._same(entry) and self.directory.unlink(entry.file)

    def touch(self, accesses: Iterable[Access]) -> None:
        with self._atomic():
            for access in accesses:
                entry = self.lookup(access.image_id)
                if entry is None:
                    continue
                used = dataclasses.replace(
                    entry,
                    hits=entry.hits + access.reads,
                    accessed_at=max(entry.accessed_at, access.when),
                )
                self._write(entry.file, used)

    def entries(self, state: str) -> list[CacheEntry]:
        with self._errors():
            found = (
                self._read(state, self.directory.relative(item.path))
                for item in self.directory.files(_TOPS[state])
            )
            entries = [entry for entry in found if entry is not None]
        return sorted(entries, key=lambda entry: (entry.accessed_at, entry.image_id, entry.file))

    def total_size(self) -> int:
        return sum(entry.room for state in driver.STATES for entry in self.entries(state))

    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        candidates = [
            *sorted(self.entries(INVALID), key=lambda entry: (entry.modified_at, -entry.size)),
            *sorted(
                self.entries(COMPLETE),
                key=lambda entry: (
                    entry.modified_at > young_since,
                    entry.accessed_at,
                    -entry.size,
                ),
            ),
        ]
        found = []
        for entry in candidates:
            if needed <= 0:
                break
            found.append(entry)
            needed -= entry.size
        return found

    # -- the prefetch queue ----------------------------------------------------------------------

    def queue_add(self, item: QueueItem) -> bool:
        with self._atomic() as state:
            if any(known["image_id"] == item.image_id for known in state["queue"]):
                return False
            state["queue"].append(dataclasses.asdict(item))
        return True

    def queue_list(self) -> list[QueueItem]:
        state = self._current.get(threading.get_ident())
        if state is None:
            with self._errors():
                state = self._load_state()
        items = [QueueItem(**item) for item in state["queue"]]
        return sorted(items, key=lambda item: (item.enqueued_at, item.image_id))

    def queue_take(self, owner: str, now: float) -> QueueItem | None:
        with self._atomic():
            for item in self.queue_list():
                if item.state == QUEUED and item.not_before <= now:
                    taken = dataclasses.replace(item, state=IN_PROGRESS, owner=owner)
                    self.queue_return(taken)
                    return taken
        return None

    def queue_return(self, item: QueueItem) -> None:
        with self._atomic() as state:
            state["queue"] = [
                dataclasses.asdict(item) if known["image_id"] == item.image_id else known
                for known in state["queue"]
            ]

    def queue_remove(self, image_id: str, *, only: str | None = None) -> bool:
        with self._atomic() as state:
            kept = [
                item
                for item in state["queue"]
                if item["image_id"] != image_id or (only is not None and item["state"] != only)
            ]
            removed = len(kept) < len(state["queue"])
            state["queue"] = kept
        return removed

    # -- counters --------------------------------------------------------------------------------

    def count(self, increments: Mapping[str, int]) -> None:
        with self._atomic() as state:
            for name, increment in increments.items():
                state["counters"][name] = state["counters"].get(name, 0) + increment

    def counters(self) -> dict[str, int]:
        with self._errors():
            found = self._load_state()["counters"]
        return {name: found.get(name, 0) for name in driver.COUNTERS}


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    """Let pass that a file has no such attribute."""
    try:
        yield
    except OSError as err:
        if err.errno != errno.ENODATA:
            raise

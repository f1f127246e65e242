"""Entries as files with attributes."""

from __future__ import annotations

import dataclasses
import os
import time

from glance.image_cache import layout
from glance.image_cache.index.counters import Access
from glance.image_cache.index.entries import (
    COMPLETE,
    INCOMPLETE,
    INVALID,
    STATES,
    CacheEntry,
    Entries,
)
from glance.image_cache.index.xattr import attributes
from glance.image_cache.index.xattr.state import SharedState, errors

_TOPS = {COMPLETE: layout.ENTRIES, INCOMPLETE: layout.INCOMPLETE, INVALID: layout.INVALID}


class XattrEntries(Entries):
    """See the module. All changes are made under the lock of the shared state."""

    def __init__(self, state: SharedState, directory: layout.CacheDirectory):
        super().__init__(directory)
        self._state = state

    def stamp(self, status: os.stat_result) -> str:
        # NOTE: not the time of the last change, which attributes change.
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"

    def _same(self, entry: CacheEntry) -> bool:
        """Return whether an entry is still what it was."""
        found = attributes.read(self.directory, entry.state, entry.file)
        return found is not None and found.created_at == entry.created_at

    def lookup(self, image_id: str) -> CacheEntry | None:
        if not layout.is_key(image_id):
            return None
        with errors():
            return attributes.read(self.directory, COMPLETE, self.directory.entry_file(image_id))

    def find(self, image_id: str) -> CacheEntry | None:
        found = self.lookup(image_id)
        if found is not None:
            return found
        incomplete = (entry for entry in self.in_state(INCOMPLETE) if entry.image_id == image_id)
        return next(incomplete, None)

    def insert(self, entry: CacheEntry) -> bool:
        with self._state.change():
            if entry.state != INVALID and self.find(entry.image_id) is not None:
                return False
            if entry.state == INCOMPLETE:
                os.close(self.directory.create(entry.file))
            attributes.write(self.directory, entry.file, entry)
        return True

    def create_file(self, entry: CacheEntry) -> int:
        return self.directory.open(entry.file, write=True)

    def progress(self, entry: CacheEntry, size: int) -> bool:
        with errors():
            return self._same(entry)

    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        with self._state.change():
            if not self._same(entry):
                return False
            stamp = self.stamp(os.lstat(self.directory.full(entry.file)))
            attributes.write(self.directory, entry.file, dataclasses.replace(done, stamp=stamp))
            self.directory.move(entry.file, done.file)
        return True

    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        file = self.directory.invalid_file(entry.image_id)
        with self._state.change():
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
            attributes.write(self.directory, entry.file, wrong)
            self.directory.move(entry.file, file)
        return wrong

    def restamp(self, entry: CacheEntry, stamp: str, checksum: str | None) -> None:
        with self._state.change():
            if self._same(entry):
                known = dataclasses.replace(entry, stamp=stamp, checksum=checksum)
                attributes.write(self.directory, entry.file, known)

    def remove(self, entry: CacheEntry) -> bool:
        with self._state.change():
            return self._same(entry) and self.directory.unlink(entry.file)

    def count_reads(self, access: Access) -> None:
        """Add reads to the complete entry of an image, if it has one. Inside a change only."""
        entry = self.lookup(access.image_id)
        if entry is None:
            return
        used = dataclasses.replace(
            entry,
            hits=entry.hits + access.reads,
            accessed_at=max(entry.accessed_at, access.when),
        )
        attributes.write(self.directory, entry.file, used)

    def in_state(self, state: str) -> list[CacheEntry]:
        with errors():
            found = (
                attributes.read(self.directory, state, self.directory.relative(item.path))
                for item in self.directory.files(_TOPS[state])
            )
            entries = [entry for entry in found if entry is not None]
        return sorted(entries, key=lambda entry: (entry.accessed_at, entry.image_id, entry.file))

    def total_size(self) -> int:
        return sum(entry.room for state in STATES for entry in self.in_state(state))

    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        candidates = [
            *sorted(self.in_state(INVALID), key=lambda entry: (entry.modified_at, -entry.size)),
            *sorted(
                self.in_state(COMPLETE),
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

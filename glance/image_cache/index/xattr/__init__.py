"""The index as extended attributes of the cached files: nothing to lose, nothing to repair.

An entry is a file in the place that its state has (`entries`), described by attributes
(`attributes`). What belongs to no file, the prefetch queue and the counters, is one JSON file
(`state`). Changes are made under a lock file.

Every question about all entries reads the directory: with more than some thousand images the
sqlite driver is the better one.
"""

from __future__ import annotations

import contextlib
import os
import uuid

from glance.common import config, exception
from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.xattr.counters import XattrCounters
from glance.image_cache.index.xattr.entries import XattrEntries
from glance.image_cache.index.xattr.queue import XattrQueue
from glance.image_cache.index.xattr.state import SharedState, errors


class XattrDriver(Index):
    """See the module. The parts share the lock and the JSON file."""

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory):
        super().__init__(conf, directory)
        self._state = SharedState(directory)
        entries = XattrEntries(self._state, directory)
        self.entries = entries
        self.queue = XattrQueue(self._state)
        self.counters = XattrCounters(self._state, entries)

    def configure(self) -> None:
        with errors():
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

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def tidy(self, before: float) -> None:
        """Do nothing: nothing is put aside."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._state.transaction()

"""What the parts share: the lock under which all change, and the JSON file of what has no file."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from glance.common import exception
from glance.image_cache import layout
from glance.streaming import staged_file

LOG = logging.getLogger(__name__)

_LOCK = ".index-lock"
_STATE = ".index"


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turn the OSErrors of a block into CacheUnavailable."""
    try:
        yield
    except OSError as err:
        raise exception.CacheUnavailable(
            f"The index of the image cache cannot be used: {err.strerror}"
        ) from err


class SharedState:
    """The queue and the counters of a cache directory: `queue`, a list, and `counters`, a dict.

    Raises CacheUnavailable for all trouble; a damaged file counts as an empty one.
    """

    def __init__(self, directory: layout.CacheDirectory):
        self.directory = directory
        # What running transactions have made of it, by thread.
        self._current: dict[int, dict[str, Any]] = {}

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock; write at the end what was changed, unless an error leaves the block."""
        me = threading.get_ident()
        with errors(), self.directory.lock(_LOCK, wait=True):
            before = self._load()
            self._current[me] = json.loads(json.dumps(before))
            try:
                yield
                if self._current[me] != before:
                    self._save(self._current[me])
            finally:
                del self._current[me]

    @contextlib.contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Yield it to be changed in the thread's transaction, or in one of its own."""
        me = threading.get_ident()
        if me in self._current:
            yield self._current[me]
            return
        with self.transaction():
            yield self._current[me]

    def read(self) -> Mapping[str, Any]:
        """Return it as the thread's transaction sees it, or as it is in the file."""
        current = self._current.get(threading.get_ident())
        if current is not None:
            return current
        with errors():
            return self._load()

    def _load(self) -> dict[str, Any]:
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

    def _save(self, state: Mapping[str, Any]) -> None:
        # PERF: not durable, because a queue that is lost costs nobody an image.
        path = self.directory.full(_STATE)
        staged_file.rewrite(path, json.dumps(state).encode(), layout.FILE_MODE, durable=False)

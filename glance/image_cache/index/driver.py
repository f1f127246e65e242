"""An index driver: the three parts of an index, and what holds them together.

Callers take the part that they need; those that change two of them in one step take the whole.
"""

from __future__ import annotations

import abc
import contextlib

from glance.common import config
from glance.image_cache import layout
from glance.image_cache.index.counters import CacheCounters
from glance.image_cache.index.entries import Entries
from glance.image_cache.index.queue import PrefetchQueue


class Index(abc.ABC):
    """The index of a cache directory that several processes share; a driver is a subclass.

    `entries`, `queue` and `counters` are its parts, which share what a driver keeps open. All that
    blocks here and there is called in native threads, and raises CacheUnavailable for trouble of
    the backend and nothing else.

    A change to one part is one step by itself. Two parts are changed in one step by
    `transaction`: a commit that takes its image off the queue, a look for an entry before an image
    is queued, an image that is forgotten in both.
    """

    entries: Entries
    queue: PrefetchQueue
    counters: CacheCounters

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory):
        """Read settings; nothing is opened. A driver sets its parts here."""
        self.conf = conf
        self.directory = directory

    @property
    def losses(self) -> int:
        """How often this object had to start an empty index because the old one was lost."""
        return 0

    @abc.abstractmethod
    def configure(self) -> None:
        """Make or open the index. CacheUnavailable if this driver cannot work here."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what is open; the driver opens again when it is used again."""

    @abc.abstractmethod
    def tidy(self, before: float) -> None:
        """Remove what the driver itself has put aside before that time (seconds)."""

    @abc.abstractmethod
    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Keep all other changers of the index out, in this process and in others.

        What the calling thread does inside, with any part, happens wholly, or not at all if an
        error leaves the block (files, and what a driver keeps in them, excepted). Does not nest.
        Never wait for image data inside.
        """

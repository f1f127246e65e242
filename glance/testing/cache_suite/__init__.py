"""The tests that every index driver of the image cache must pass, as a class to inherit from.

The test module of a driver only names it::

    class TestMyDriver(CacheDriverSuite):
        driver = "mypackage.mymodule.MyDriver"

It is parted as an index is (`glance.image_cache.index`): `EntriesSuite`, `QueueSuite` and
`CountersSuite` ask for what each part must guarantee, `TransactionSuite` for what holds them
together. Most tests use `ImageCache`, so they check what the services rely on.
"""

from __future__ import annotations

from glance.testing.cache_suite.counters import CountersSuite
from glance.testing.cache_suite.entries import EntriesSuite
from glance.testing.cache_suite.material import (
    fetched,
    files,
    ids,
    image_of,
    make_data,
    store,
    until,
    used,
)
from glance.testing.cache_suite.queue import QueueSuite
from glance.testing.cache_suite.transactions import TransactionSuite

__all__ = [
    "CacheDriverSuite",
    "CountersSuite",
    "EntriesSuite",
    "QueueSuite",
    "TransactionSuite",
    "fetched",
    "files",
    "ids",
    "image_of",
    "make_data",
    "store",
    "until",
    "used",
]


class CacheDriverSuite(EntriesSuite, QueueSuite, CountersSuite, TransactionSuite):
    """All parts; see the module."""

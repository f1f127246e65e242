"""What holds the parts of an index together."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import concurrent.futures
import contextlib
import time

import pytest

from glance.image_cache import (
    INCOMPLETE,
    CacheRefused,
    QueueItem,
)
from glance.testing.cache_suite.material import (
    DriverFixtures,
    image_of,
    make_data,
    store,
)


class TransactionSuite(DriverFixtures):
    """What is done to several parts in one step."""

    def test_an_error_undoes_what_was_done_to_all_parts(self, cache):
        index = cache.index
        index.queue.add(QueueItem("1", None, 1.0))
        with contextlib.suppress(ZeroDivisionError), index.transaction():
            index.queue.remove("1")
            index.queue.add(QueueItem("2", None, 1.0))
            index.counters.add({"hits": 1})
            # Who does it sees it.
            assert [item.image_id for item in index.queue.items()] == ["2"]
            assert index.counters.totals()["hits"] == 1
            raise ZeroDivisionError
        assert [item.image_id for item in index.queue.items()] == ["1"]
        assert index.counters.totals()["hits"] == 0

    def test_others_are_kept_out(self, make):
        indexes = [make().index for _ in range(4)]

        def add_if_empty(number: int) -> bool:
            index = indexes[number % 4]
            with index.transaction():
                if index.queue.items():
                    return False
                time.sleep(0.01)
                added: bool = index.queue.add(QueueItem(str(number), None, 1.0))
                return added

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(add_if_empty, range(8))) == 1
        assert len(indexes[0].queue.items()) == 1

    def test_an_image_that_does_not_get_cached_stays_in_the_queue(self, cache, make):
        with cache.begin(image_of(make_data(10))) as writer:
            cache.index.queue.add(QueueItem("1", None, 1.0))
            writer.write(make_data(10))
            cache.index.entries.remove(cache.entries(INCOMPLETE)[0])
            with pytest.raises(CacheRefused):
                writer.commit()
        assert [item.image_id for item in cache.queue_list()] == ["1"]

    def test_a_forgotten_image_leaves_entries_and_queue(self, cache):
        store(cache, make_data(10))
        cache.index.queue.add(QueueItem("1", None, 1.0))
        cache.invalidate(1)
        assert (cache.entries(), cache.queue_list()) == ([], [])

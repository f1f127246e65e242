"""The counters of use."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import concurrent.futures

from glance.image_cache.index.counters import COUNTERS, Access
from glance.testing.cache_suite.material import (
    DriverFixtures,
    fetched,
    make_data,
    store,
)


class CountersSuite(DriverFixtures):
    """Reads of entries, and counters."""

    def test_reads_are_written_down_later_and_seen_at_once_by_who_counted_them(self, cache):
        image = store(cache, make_data(10))
        committed = cache.entry(1).accessed_at
        for _ in range(3):
            fetched(cache, image)
        assert cache.index.entries.lookup("1").hits == 0
        assert [entry.hits for entry in cache.entries()] == [3]
        assert cache.entry(1).hits == cache.index.entries.lookup("1").hits == 3
        assert cache.entry(1).accessed_at > committed
        assert cache.stats()["hits"] == 3

    def test_a_body_of_which_nothing_was_sent_is_no_read(self, cache):
        found = cache.open(store(cache, make_data(10)))
        found.close()
        found.count_hit(0, False)
        cache.flush()
        assert cache.entry(1).hits == 0

    def test_counters_add_up_whoever_counts(self, make):
        caches = [make() for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(
                lambda number: caches[number % 4].index.counters.add({"hits": 1, "misses": 2}),
                range(16),
            ):
                pass
        totals = make().index.counters.totals()
        assert totals == {**dict.fromkeys(COUNTERS, 0), "hits": 16, "misses": 32}

    def test_the_time_of_the_last_use_never_goes_back(self, cache):
        store(cache, make_data(10))
        now = cache.entry(1).accessed_at
        for when in (now + 20, now + 10):
            cache.index.counters.add({}, [Access("1", 2, when), Access("unknown", 1, when)])
        assert (cache.entry(1).hits, cache.entry(1).accessed_at) == (4, now + 20)
        assert [entry.image_id for entry in cache.entries()] == ["1"]

"""The index in attributes: what of it can be damaged."""

import os

import pytest

from glance.image_cache import QueueItem
from glance.testing.cache_suite import fetched, make_data, store

pytestmark = pytest.mark.usefixtures("attributes")


@pytest.fixture
def cache(make):
    return make(image_cache_driver="xattr")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"queue": []}', '{"queue": 1, "counters": {}}'])
def test_damage_costs_queue_and_counters_but_no_entry(cache, caplog, text):
    image = store(cache, make_data(10))
    cache.index.queue.add(QueueItem("2", None, 1.0))
    with open(cache.directory.full(".index"), "w") as stream:
        stream.write(text)
    assert cache.queue_list() == []
    assert "prefetch queue of the image cache is damaged" in caplog.text
    assert fetched(cache, image) == make_data(10)
    assert cache.stats()["hits"] == 1


def test_what_only_looks_writes_nothing(cache):
    store(cache, make_data(10))
    cache.index.queue.add(QueueItem("2", None, 1.0))
    before = os.stat(cache.directory.full(".index"))
    cache.queue_list()
    with cache.index.transaction():
        assert cache.index.entries.find("1") is not None
        assert cache.index.queue.remove("1") is False
    assert os.path.samestat(before, os.stat(cache.directory.full(".index")))
    cache.index.queue.remove("2")
    assert not os.path.samestat(before, os.stat(cache.directory.full(".index")))

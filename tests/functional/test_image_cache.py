"""The image cache behind real daemons: hits, misses, what is never served, what is never lost."""

import concurrent.futures
import hashlib
import os

import pytest

from support import caching, faults
from support.faults import until

DATA = os.urandom((3 << 20) + 17)


def source(reply):
    return reply.header("Cache-Status")


def lasting(reply):
    """Return the headers that do not change from one answer to the next."""
    varying = {"date", "cache-status", "x-openstack-request-id"}
    return [(name, value) for name, value in reply.headers if name.lower() not in varying]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with caching.CachingSite(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def image_id(site):
    return faults.store(site, DATA)


def test_a_hit_looks_like_a_miss(site, image_id):
    miss = site.fetch(image_id)
    assert source(miss) == "glance; fwd=miss; stored"
    entry = site.until_cached(image_id)
    assert entry["hits"] == 0
    hit = site.fetch(image_id)
    assert source(hit) == "glance; hit"
    assert miss.body == hit.body == DATA
    assert lasting(hit) == lasting(miss)
    counted = until(lambda: site.rows()[image_id]["hits"] and site.rows()[image_id], "a hit")
    assert counted["hits"] == 1
    assert counted["accessed_at"] > entry["accessed_at"]
    assert counted["checksum"] == hashlib.md5(DATA).hexdigest()


def test_many_at_once_read_the_store_once(site, image_id):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: site.fetch(image_id), range(50)))
    assert all(reply.body == DATA for reply in replies)
    sources = [source(reply) for reply in replies]
    assert sources.count("glance; fwd=miss; stored") == 1
    assert not any("bypass" in word for word in sources), sources
    site.until_cached(image_id)
    assert not site.rows("incomplete")

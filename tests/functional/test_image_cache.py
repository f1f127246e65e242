"""The image cache behind real daemons: hits, misses, what is never served, what is never lost."""

import concurrent.futures
import hashlib
import os
import sqlite3

import pytest

from support import daemons, faults
from support.faults import until

PIPELINE = "versionnegotiation context cache apiv1app"
DATA = os.urandom((3 << 20) + 17)


class CachingSite(daemons.Site):
    """A site whose API caches; hits are written down at once."""

    def __init__(self, directory, *, api=None, **kwargs):
        self.cache_dir = directory / "cache"
        options = {
            "image_cache_enabled": True,
            "image_cache_dir": self.cache_dir,
            "image_cache_min_free_disk": 0,
            "image_cache_hit_flush_interval": 0.1,
            "image_cache_debug_header": True,
            **(api or {}),
        }
        kwargs.setdefault("api_pipeline", PIPELINE)
        super().__init__(directory, api=options, **kwargs)

    def rows(self, state="complete"):
        """Return the entries of the index in a state, by image id."""
        with sqlite3.connect(self.cache_dir / "cache.db") as index:
            index.row_factory = sqlite3.Row
            found = index.execute("SELECT * FROM entries WHERE state = ?", (state,)).fetchall()
        return {int(row["image_id"]): dict(row) for row in found}

    def files(self, below):
        return sorted(path for path in (self.cache_dir / below).rglob("*") if path.is_file())

    def until_cached(self, image_id):
        return until(lambda: self.rows().get(image_id), f"image {image_id} is cached")

    def fetch(self, image_id, **headers):
        return self.http.get(f"/v1/images/{image_id}", headers or None)


def source(reply):
    return reply.header("Cache-Status")


def lasting(reply):
    """Return the headers that do not change from one answer to the next."""
    varying = {"date", "cache-status", "x-openstack-request-id"}
    return [(name, value) for name, value in reply.headers if name.lower() not in varying]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("cache")) as running:
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

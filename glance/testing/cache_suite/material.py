"""What the tests of an index of the image cache share: caches, images, processes that die."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import time
from typing import Any, ClassVar

import pytest

from glance import image_cache
from glance.common.config import Conf
from glance.image_cache import (
    COMPLETE,
    Image,
    layout,
)
from glance.streaming import body

NAMES = [None, "", "web node", "Bücher \N{SNOWMAN}", "a" * 255]


def make_data(size: int, seed: object = 0) -> bytes:
    """Return `size` bytes that are the same in every run."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def image_of(data: bytes, image_id: object = 1, name: str | None = None) -> Image:
    """Return the image that a registry would describe for `data`."""
    return Image(str(image_id), len(data), hashlib.md5(data).hexdigest(), name)


def fetched(cache: image_cache.ImageCache, image: Image) -> bytes | None:
    """Return an image from the cache as a client gets it, None for a miss."""
    found = cache.open(image)
    if found is None:
        return None
    with found:
        data = b"".join(found)
    found.count_hit(len(data), True)
    return data


def store(
    cache: image_cache.ImageCache, data: bytes, image_id: object = 1, **fields: Any
) -> Image:
    """Store an image in the cache."""
    image = image_of(data, image_id, **fields)
    cache.store(image, body.IterBody([data[:7], data[7:]] if data else []))
    return image


def ids(cache: image_cache.ImageCache, state: str = COMPLETE) -> list[str]:
    return [entry.image_id for entry in cache.entries(state)]


def files(cache: image_cache.ImageCache, top: str) -> list[str]:
    return sorted(item.name for item in cache.directory.files(top))


def used(cache: image_cache.ImageCache) -> int:
    """Return the size in bytes of all files of the cache."""
    tops = (layout.ENTRIES, layout.INCOMPLETE, layout.INVALID)
    return sum(item.stat().st_size for top in tops for item in cache.directory.files(top))


class DriverFixtures:
    """What all parts of the suite need: caches with the driver, on one directory."""

    driver: ClassVar[str]

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> dict[str, Any]:
        return {
            "image_cache_enabled": True,
            "image_cache_dir": str(tmp_path / "cache"),
            "image_cache_driver": self.driver,
            "image_cache_max_size": 1000,
            "image_cache_percent_extra_to_free": 0.0,
            "image_cache_min_free_disk": 0,
        }

    @pytest.fixture
    def make(self, options):
        made = []

        def make(**changes: Any) -> image_cache.ImageCache:
            cache = image_cache.ImageCache(Conf({**options, **changes}))
            cache.configure()
            made.append(cache)
            return cache

        yield make
        for cache in made:
            cache.close()

    @pytest.fixture
    def cache(self, make):
        return make()


def until(happened: Any, seconds: float = 10) -> None:
    """Wait until `happened` returns something true."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def in_child(act: Any) -> None:
    """Run `act` in a separate process that dies without cleaning up."""
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def die_writing(cache: image_cache.ImageCache) -> None:
    """Leave half of image 1, as a killed process does."""

    def write() -> None:
        writer = cache.begin(image_of(make_data(10)))
        writer.write(make_data(5))
        os._exit(0)

    in_child(write)

import os

import pytest

from glance import image_cache
from glance.common.config import Conf


@pytest.fixture
def make(tmp_path):
    """Return a maker of configured caches on one directory."""
    made = []

    def make(**changes):
        options = {
            "image_cache_enabled": True,
            "image_cache_dir": str(tmp_path / "cache"),
            "image_cache_max_size": 1000,
            "image_cache_percent_extra_to_free": 0.0,
            "image_cache_min_free_disk": 0,
        }
        cache = image_cache.ImageCache(Conf({**options, **changes}))
        cache.configure()
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def cache(make):
    return make()


@pytest.fixture
def attributes(tmp_path):
    """Skip the test where files have no extended attributes."""
    path = tmp_path / "probe"
    path.touch()
    try:
        os.setxattr(path, "user.probe", b"1")
    except OSError:
        pytest.skip("the file system of the temporary directory has no extended attributes")

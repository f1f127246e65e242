"""The size limit under load: 20 GB of images through a cache of 5 GB, at a scale of 1:1000.

The processes are stopped for each look at the directory, so that what is measured is what was
there at one moment, and not what was counted while files came and went.
"""

import concurrent.futures
import os
import pathlib
import random
import threading
import time

import pytest

from support import faults
from support.caching import CachingSite, source

pytestmark = pytest.mark.full

SCALE = 1000
WORKING_SET = 20_000_000_000 // SCALE
LIMIT = 5_000_000_000 // SCALE
#: What the API reads at a time is 1 MiB; at this scale, the most that the limit may be passed by.
CHUNK = (1 << 20) // SCALE
IMAGES = 40
DOWNLOADS = 200
SAMPLES = 25
CLIENTS = 6


def sizes():
    """Return sizes of images, small and large, which make up the working set."""
    chooser = random.Random(20)
    parts = [chooser.uniform(0.2, 1.8) for _ in range(IMAGES)]
    return [int(WORKING_SET * part / sum(parts)) for part in parts]


class Sampler(threading.Thread):
    """Looks at the bytes in the cache directory again and again, until told to stop."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.site, self.samples, self.done = site, [], threading.Event()

    def run(self):
        while not self.done.is_set():
            with faults.stopped(self.site.api):
                # Every thread has to be at rest, not only told to be.
                faults.until(self.at_rest, "the processes have stopped")
                self.samples.append(sum(path.stat().st_size for path in self.site.files()))
            time.sleep(0.005)

    def at_rest(self):
        stats = [
            stat.read_text().rpartition(")")[2].split()[0]
            for pid in self.site.api.pids()
            for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
        ]
        return set(stats) == {"T"}


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_the_limit_is_never_passed(tmp_path_factory, fraction):
    options = {
        "image_cache_max_size": LIMIT,
        "image_cache_percent_extra_to_free": fraction,
        "image_cache_max_entry_size": WORKING_SET // 30,
    }
    site = CachingSite(tmp_path_factory.mktemp("limit"), workers=2, api=options)
    with site:
        faults.until(lambda: " serves http" in site.api.log(), "both workers are ready")
        images = []
        for size in sizes():
            data = os.urandom(size)
            images.append((faults.store(site, data), data))
        sampler = Sampler(site)
        sampler.start()
        # As in a real cloud, some images are wanted much more often than others.
        weights = [1 / (rank + 1) for rank in range(IMAGES)]
        chooser = random.Random(1)

        def download(image):
            image_id, data = image
            reply = site.fetch(image_id)
            assert reply.body == data
            return source(reply)

        sources = []
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            while len(sources) < DOWNLOADS or len(sampler.samples) < SAMPLES:
                assert sampler.is_alive()
                sources += pool.map(download, chooser.choices(images, weights, k=100))
        sampler.done.set()
        sampler.join()
        assert max(sampler.samples) <= LIMIT + CHUNK
        # The cache was full, did its work, and had to make room for it.
        assert max(sampler.samples) > LIMIT * 0.8
        assert sources.count("hit") > len(sources) / 10
        assert sources.count("stored") > len(site.rows())
        # Large images went past it, and all that is there is accounted for.
        assert "too large" in sources
        faults.until(lambda: not site.rows("incomplete"), "all copies have ended")
        assert sum(row["size"] for row in site.rows().values()) == sum(
            path.stat().st_size for path in site.files()
        )

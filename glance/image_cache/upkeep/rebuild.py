"""Rebuild a lost index from the files of the cache: glance-cache-manage rebuild-index.

A file is accepted only if it matches the registry's record of its image. The API does not do this
when its index is lost: reading a whole cache takes long, fetching the needed images again does
not.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable

from glance.common import exception
from glance.image_cache import COMPLETE, CacheEntry, Image, ImageCache, layout
from glance.image_cache.upkeep import cleaning
from glance.streaming import threads

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Rebuilt:
    """What was done with files that the index did not know, and how many entries it has now."""

    adopted: int = 0
    removed: int = 0
    entries: int = 0


def rebuild(cache: ImageCache, image_of: Callable[[str], Image | None]) -> Rebuilt:
    """Add the files of complete entries that the index of an open cache does not know.

    `image_of` returns the registry's image for an id, None if it is not active; what it raises
    ends the work, and the files that were not checked stay. Files that do not match are removed.
    Raises CacheUnavailable, and Error if the cache is being cleaned.
    """
    done = Rebuilt()
    with cache.directory.lock() as mine:
        if not mine:
            raise exception.Error("Another process is cleaning the cache; try again later")
        known = {entry.file for entry in cache.entries(COMPLETE)}
        for item in list(cache.directory.files(layout.ENTRIES)):
            file = cache.directory.relative(item.path)
            if file in known:
                continue
            image = image_of(item.name) if file == _expected(item.name) else None
            entry = None if image is None else threads.run(_read, cache, file, image)
            if entry is not None and cache.index.entries.insert(entry):
                done.adopted += 1
                LOG.info("Image %s is cached: its file was found", entry.image_id)
            elif cache.entry(item.name) is None:
                cache.directory.unlink(file)
                done.removed += 1
    done.entries = len(cache.entries(COMPLETE))
    return done


def _expected(name: str) -> str | None:
    return layout.CacheDirectory.entry_file(name) if layout.is_key(name) else None


def _read(cache: ImageCache, file: str, image: Image) -> CacheEntry | None:
    """Return the entry of a file, None if it does not match the registry's record. Blocks."""
    try:
        fd = cache.directory.open(file)
    except OSError as err:
        LOG.warning("Image %s: its file cannot be opened: %s", image.image_id, err.strerror)
        return None
    with open(fd, "rb", buffering=0) as stream:
        count, checksum = cleaning.read_all(stream)
        status = os.fstat(fd)
    if count != image.size or (image.checksum and checksum != image.checksum):
        return None
    return CacheEntry(
        image.image_id,
        COMPLETE,
        file,
        image.size,
        size=count,
        checksum=checksum,
        name=image.name,
        created_at=status.st_mtime,
        modified_at=status.st_mtime,
        accessed_at=status.st_mtime,
        stamp=cache.index.entries.stamp(status),
    )

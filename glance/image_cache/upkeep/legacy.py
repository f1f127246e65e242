"""The cache directory of Diablo or Essex, adopted once.

In such a directory every complete image is a file named by its id, next to directories of failed
and incomplete ones and of a prefetch queue. A file is adopted if it matches the registry's record
of its image; all others are removed, and queued images are queued again. The most recently used
files are adopted first, as long as there is room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Callable

from glance.image_cache import layout, prefetch_queue
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import COMPLETE, CacheEntry, CacheRefused, Image
from glance.image_cache.upkeep import cleaning
from glance.image_cache.upkeep import limits as cache_limits
from glance.streaming import threads

LOG = logging.getLogger(__name__)

#: Directories of empty files that are named by queued images.
_QUEUES = ("prefetching", "prefetch", "queue")
_INDEX = "cache.db"


@dataclasses.dataclass(slots=True)
class Adopted:
    """What was done with the files of an old directory, and how many images were queued."""

    adopted: int = 0
    removed: int = 0
    queued: int = 0


def is_legacy(directory: layout.CacheDirectory) -> bool:
    """Return whether a directory is from an older version. Blocks."""
    if directory.layout_version() is not None:
        return False
    try:
        names = os.listdir(directory.path)
    except OSError:
        return False
    return any(name in _QUEUES for name in names) or bool(_images(directory))


def _images(directory: layout.CacheDirectory) -> list[os.DirEntry[str]]:
    """Return what may be complete images, the most recently used first."""
    with os.scandir(directory.path) as found:
        items = [
            item
            for item in found
            if layout.is_key(item.name)
            and not item.name.startswith(_INDEX)
            and (item.is_file(follow_symlinks=False) or item.is_symlink())
        ]
    return sorted(items, key=_last_use, reverse=True)


def _last_use(item: os.DirEntry[str]) -> float:
    status = item.stat(follow_symlinks=False)
    return max(status.st_atime, status.st_mtime)


def prepare(directory: layout.CacheDirectory) -> None:
    """Move the index of Essex out of the way of glance's index. Blocks."""
    with contextlib.suppress(OSError):
        os.rename(directory.full(_INDEX), directory.full(f"{_INDEX}.old-{int(time.time())}"))


def adopt(
    directory: layout.CacheDirectory,
    index: Index,
    limits: cache_limits.Room,
    image_of: Callable[[str], Image | None],
) -> Adopted | None:
    """Adopt an old directory and mark its new layout; None if another process is doing so.

    `image_of` returns the registry's image for an id, None if it is not active; what it raises
    ends the work, which can be continued later. Raises CacheUnavailable, OSError.
    """
    done = Adopted()
    with directory.lock() as mine:
        if not mine:
            return None
        for name in _QUEUES:
            done.queued += _take_queue(directory, index, name, image_of)
        for item in threads.run(_images, directory):
            image = image_of(item.name)
            if image is not None and threads.run(_take, directory, index, limits, image):
                done.adopted += 1
                LOG.info("Image %s was moved into the new cache", item.name)
            else:
                threads.run(directory.unlink, item.name)
                done.removed += 1
        directory.mark()
    return done


def _take(
    directory: layout.CacheDirectory,
    index: Index,
    limits: cache_limits.Room,
    image: Image,
) -> bool:
    """Make an old file an entry if it matches the image and there is room. Blocks."""
    try:
        fd = directory.open(image.image_id)
    except OSError:
        return False
    with open(fd, "rb", buffering=0) as stream:
        os.fchmod(fd, layout.FILE_MODE)
        last_use = max(os.fstat(fd).st_atime, os.fstat(fd).st_mtime)
        count, checksum = cleaning.read_all(stream)
    if not count or count != image.size or (image.checksum and checksum != image.checksum):
        return False
    file = directory.entry_file(image.image_id)
    entry = CacheEntry(
        image.image_id,
        COMPLETE,
        file,
        image.size,
        size=count,
        checksum=checksum,
        name=image.name,
        created_at=last_use,
        modified_at=last_use,
        accessed_at=last_use,
    )
    with index.transaction():
        if not limits.has_room(count) or index.entries.find(image.image_id) is not None:
            return False
        directory.move(image.image_id, file)
        stamp = index.entries.stamp(os.lstat(directory.full(file)))
        return index.entries.insert(dataclasses.replace(entry, stamp=stamp))


def _take_queue(
    directory: layout.CacheDirectory,
    index: Index,
    name: str,
    image_of: Callable[[str], Image | None],
) -> int:
    """Queue the images of the old queue, and remove it."""
    try:
        found = sorted(os.scandir(directory.full(name)), key=lambda item: item.stat().st_mtime)
    except OSError:
        return 0
    count = 0
    for item in found:
        image = image_of(item.name)
        # Cached already, queued twice, or an invalid name: nothing to fetch.
        with contextlib.suppress(CacheRefused):
            if image is not None:
                threads.run(prefetch_queue.add, index, image.image_id, image.name)
                count += 1
    shutil.rmtree(directory.full(name), ignore_errors=True)
    return count

"""An entry as the extended attributes of its file.

Times of reads are an attribute, too, so that file systems mounted with noatime will do.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from glance.common import exception
from glance.image_cache import layout
from glance.image_cache.index.entries import COMPLETE, CacheEntry

#: Attributes by the field of an entry. Fields that are None have none.
_ATTRIBUTES = {
    "name": "user.image_name",
    "expected_size": "user.expected_size",
    "hits": "user.hits",
    "error": "user.error",
    "checksum": "user.checksum",
    "created_at": "user.created",
    "modified_at": "user.modified",
    "accessed_at": "user.accessed",
    "writer": "user.writer",
    "stamp": "user.stamp",
}
#: Errors that say nothing of the file.
_OF_THE_HOST = exception.OUT_OF_DESCRIPTORS | {errno.EIO, errno.EACCES}
_NUMBERS = {
    "expected_size": int,
    "hits": int,
    "created_at": float,
    "modified_at": float,
    "accessed_at": float,
}


def read(directory: layout.CacheDirectory, state: str, file: str) -> CacheEntry | None:
    """Return the entry that a file is, None for what is none. CacheUnavailable."""
    path = directory.full(file)
    values: dict[str, Any] = {}
    try:
        for field, attribute in _ATTRIBUTES.items():
            with _absent():
                raw = os.getxattr(path, attribute, follow_symlinks=False)
                text = raw.decode("utf-8", "surrogateescape")
                values[field] = _NUMBERS.get(field, str)(text)
        size = os.lstat(path).st_size
    except (OSError, ValueError) as err:
        if isinstance(err, OSError) and err.errno in _OF_THE_HOST:
            raise exception.CacheUnavailable(
                f"The image cache cannot be read: {err.strerror}"
            ) from err
        return None
    if "created_at" not in values:
        return None
    image_id = os.path.basename(file)
    if state != COMPLETE:
        image_id = image_id.rpartition(".")[0]
    values.setdefault("expected_size", None)
    return CacheEntry(image_id, state, file, size=size, **values)


def write(directory: layout.CacheDirectory, file: str, entry: CacheEntry) -> None:
    """Describe a file; its attributes do not change all at once. OSError."""
    path = directory.full(file)
    for field, attribute in _ATTRIBUTES.items():
        value = getattr(entry, field)
        if value is None:
            with _absent():
                os.removexattr(path, attribute, follow_symlinks=False)
        else:
            raw = str(value).encode("utf-8", "surrogateescape")
            os.setxattr(path, attribute, raw, follow_symlinks=False)


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    """Let pass that a file has no such attribute."""
    try:
        yield
    except OSError as err:
        if err.errno != errno.ENODATA:
            raise

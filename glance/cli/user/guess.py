"""The disk format of image data, guessed from its first bytes, for `glance add`.

The signatures of the formats are in `glance.inspect.signatures`.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from glance.cli.user.screen import notes
from glance.image import fields
from glance.inspect import signatures

#: How many bytes are needed to tell.
HEAD = signatures.NEEDED


class Ahead(io.RawIOBase):
    """A stream that cannot go back, with the bytes that were read of it already in front."""

    def __init__(self, head: bytes, rest: BinaryIO):
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._head[: len(buffer)] or self._rest.read(len(buffer)) or b""
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def disk_format(head: bytes) -> str | None:
    """Return the disk format of data that begins with `head`; None if nothing shows it."""
    return signatures.first(head, fields.DISK_FORMATS)


def peek(data: BinaryIO) -> tuple[bytes, BinaryIO]:
    """Return the first HEAD bytes, or all if there are fewer, and a stream of the same data.

    What can seek is put back to where it was. An OSError is left to who reads the data.
    """
    try:
        if data.seekable():
            start = data.tell()
            head = data.read(HEAD)
            data.seek(start)
            return head, data
        # A buffered reader waits until it has all of them, or the data ends.
        head = data.read(HEAD)
    except OSError:
        return b"", data
    return head, Ahead(head, data)  # type: ignore[return-value]  # what is read of it is the same


def checked(meta: dict[str, Any], data: BinaryIO | None, *, given: bool) -> BinaryIO | None:
    """Return `data`, or a stream with the same bytes, having compared it with the disk format.

    If the disk format was not `given`, it becomes the guessed one. A note on standard error says
    so, or that the data looks otherwise than it was said to.
    """
    if data is None:
        return None
    head, data = peek(data)
    found = disk_format(head)
    said = meta["disk_format"]
    if found is None or found == said:
        return data
    if given:
        notes.note(f"the data looks like {found}, but disk_format={said} is sent, as you said.")
    else:
        meta["disk_format"] = found
        notes.note(
            f"the data looks like {found}, so disk_format={found} is sent. To send another one, "
            f"such as {said}, say disk_format={said}"
        )
    return data

"""The rules of VHD: a fixed or dynamic disk without a parent, with a footer that is right.

The layout is that of Microsoft's "Virtual Hard Disk Image Format Specification" 1.0; numbers are
big-endian. A fixed disk has a footer at the end, a dynamic one a copy of it at the beginning, too.
"""

from __future__ import annotations

import struct

from glance.inspect import signatures
from glance.inspect.signatures import SECTOR
from glance.inspect.verdict import LARGEST, DiskFormat, End, rule

_COOKIE, _DYNAMIC_COOKIE = signatures.VHD_COOKIE, b"cxsparse"
_CHECKSUM = slice(64, 68)
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_DYNAMIC_BYTES = 1024
_PARENT_NAME = slice(64, 576)
#: Where the platform codes of the eight parent locators are; zero means that there is none.
_LOCATORS = range(576, 768, 24)


def _number(data: bytes, place: int, form: str = ">I") -> int:
    found: int = struct.unpack_from(form, data.ljust(SECTOR, b"\0"), place)[0]
    return found


def _place(footer: bytes) -> int:
    return _number(footer, 16, ">Q")


def _size(footer: bytes) -> int:
    return _number(footer, 48, ">Q")


def _type(footer: bytes) -> int:
    return _number(footer, 60)


def _is_valid(footer: bytes) -> bool:
    """Return whether a footer has its checksum: the complement of the sum of all other bytes."""
    total = sum(footer) - sum(footer[_CHECKSUM])
    return _number(footer, _CHECKSUM.start) == ~total & 0xFFFFFFFF


class Vhd(DiskFormat):
    """An image that may be VHD."""

    name = signatures.VHD

    def __init__(self, head: bytes):
        super().__init__(head)
        self._copy = head[:SECTOR] if self.begins else b""
        place = _place(self._copy)
        self._dynamic = head[place : place + _DYNAMIC_BYTES] if self._copy else b""

    def found(self, end: End) -> bool:
        return self.begins or any(
            end.at(place, len(_COOKIE)) == _COOKIE for place in self._places(end)
        )

    @staticmethod
    def _places(end: End) -> tuple[int, ...]:
        """Return where programs look for the footer: some round the size of a file up to sectors.

        The oldest images have a footer of 511 bytes.
        """
        rounded = -(-end.size // SECTOR) * SECTOR
        return end.size - SECTOR, end.size - SECTOR + 1, rounded - SECTOR

    @staticmethod
    def _footer(end: End) -> bytes:
        return end.at(end.size - SECTOR, SECTOR)

    def _footers(self, end: End) -> list[bytes]:
        return [self._footer(end), *([self._copy] if self._copy else [])]

    def virtual_size(self, end: End) -> int | None:
        footer = self._footer(end)
        return _size(footer) if footer.startswith(_COOKIE) else None

    @rule("does not end with a footer in a sector of its own", is_last=True)
    def vhd_footer(self, end: End) -> bool:
        return end.size % SECTOR != 0 or not self._footer(end).startswith(_COOKIE)

    @rule("is a differencing disk, which has a parent")
    def vhd_differencing(self, end: End) -> bool:
        return any(_type(footer) == _DIFFERENCING for footer in self._footers(end))

    @rule("is neither a fixed nor a dynamic disk")
    def vhd_type(self, end: End) -> bool:
        known = (_FIXED, _DYNAMIC, _DIFFERENCING)
        return any(_type(footer) not in known for footer in self._footers(end))

    @rule("has a footer with a wrong checksum")
    def vhd_checksum(self, end: End) -> bool:
        return not all(map(_is_valid, self._footers(end)))

    @rule("is larger than any disk can be")
    def vhd_virtual_size(self, end: End) -> bool:
        return _size(self._footer(end)) > LARGEST

    @rule("has no copy of the footer at its beginning, another one, or one too many")
    def vhd_copy(self, end: End) -> bool:
        footer = self._footer(end)
        if _type(footer) == _FIXED:
            return bool(self._copy)
        return any(read(footer) != read(self._copy) for read in (_place, _size, _type))

    @rule("has no header of a dynamic disk")
    def vhd_dynamic_header(self, end: End) -> bool:
        if _type(self._footer(end)) == _FIXED:
            return False
        is_whole = len(self._dynamic) == _DYNAMIC_BYTES
        return not (is_whole and self._dynamic.startswith(_DYNAMIC_COOKIE))

    @rule("says where its parent is")
    def vhd_parent_locator(self, end: End) -> bool:
        return any(any(self._dynamic[place : place + 4]) for place in _LOCATORS)

    @rule("names its parent")
    def vhd_parent_name(self, end: End) -> bool:
        return any(self._dynamic[_PARENT_NAME])

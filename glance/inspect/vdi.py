"""The rules of VDI, VirtualBox's format: a dynamic or static disk without a parent.

Numbers are little-endian; the header begins behind a text of 64 bytes.
"""

from __future__ import annotations

import struct

from glance.inspect import signatures
from glance.inspect.signatures import SECTOR
from glance.inspect.verdict import LARGEST, DiskFormat, End, rule

_VERSION = 0x00010001
_DYNAMIC, _STATIC, _UNDO, _DIFFERENCING = 1, 2, 3, 4
#: The identifiers of the parent, and of the parent's last change.
_PARENTS = slice(424, 456)


class Vdi(DiskFormat):
    """An image that may be VDI."""

    name = signatures.VDI

    def __init__(self, head: bytes):
        super().__init__(head)
        self._has_header = len(head) >= SECTOR
        header = head[:SECTOR].ljust(SECTOR, b"\0")
        numbers: tuple[int, ...] = struct.unpack_from("<III288xQ", header, 68)
        self._version, _, self._type, self._size = numbers
        self._has_parent = any(header[_PARENTS])

    def virtual_size(self, end: End) -> int:
        return self._size

    @rule("ends within its header", is_last=True)
    def vdi_header_cut(self, end: End) -> bool:
        return not self._has_header

    @rule("has a version other than 1.1", is_last=True)
    def vdi_version(self, end: End) -> bool:
        return self._version != _VERSION

    @rule("is a differencing or undo disk, which has a parent")
    def vdi_differencing(self, end: End) -> bool:
        return self._type in (_UNDO, _DIFFERENCING)

    @rule("is neither a dynamic nor a static disk")
    def vdi_type(self, end: End) -> bool:
        return self._type not in (_DYNAMIC, _STATIC, _UNDO, _DIFFERENCING)

    @rule("has the identifier of a parent")
    def vdi_parent(self, end: End) -> bool:
        return self._has_parent

    @rule("is larger than any disk can be")
    def vdi_virtual_size(self, end: End) -> bool:
        return self._size > LARGEST

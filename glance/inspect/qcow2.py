"""The rules of QCOW2: the image uses no other file, hides nothing, and its tables are inside it.

Offsets and numbers are from docs/interop/qcow2.txt of QEMU; numbers are big-endian.
"""

from __future__ import annotations

import struct

from glance.inspect import signatures
from glance.inspect.verdict import LARGEST, DiskFormat, End, rule

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_HEADER_3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
#: Where the extensions of a header begin in version 2, and the least length in version 3.
_LENGTH_2, _LENGTH_3 = _HEADER.size, _HEADER.size + _HEADER_3.size
_VERSIONS = (2, 3)
_CLUSTER_BITS = range(9, 22)

# Incompatible features, and the autoclear feature that says that the data file is raw.
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_RAW_DATA_FILE = 1 << 1

_END, _EXT_BACKING, _EXT_DATA_FILE, _EXT_ENCRYPTION = 0, 0xE2792ACA, 0x44415441, 0x0537BE77
_EXTENSIONS = 1024

# QEMU's own limits, in bytes.
_L1_BYTES, _REFCOUNT_BYTES = 32 * 1024**2, 8 * 1024**2


class Qcow2(DiskFormat):
    """An image that may be QCOW2."""

    name = signatures.QCOW2

    def __init__(self, head: bytes):
        super().__init__(head)
        self._has_header = len(head) >= _LENGTH_2
        padded = head[:_LENGTH_3].ljust(_LENGTH_3, b"\0")
        numbers: tuple[int, ...] = _HEADER.unpack_from(padded)
        self._version, self._backing_file, _, bits, self._size, self._encryption = numbers[1:7]
        self._l1_entries, self._l1_table, self._refcount_table = numbers[7:10]
        self._refcount_clusters, self._snapshots, _ = numbers[10:]
        self._incompatible = self._autoclear = 0
        length = _LENGTH_2
        if self._version > 2:
            numbers = _HEADER_3.unpack_from(padded, _LENGTH_2)
            self._incompatible, _, self._autoclear, _, length = numbers
            self._has_header = len(head) >= _LENGTH_3
        # NOTE: the number comes from the image and must not decide how much memory a shift takes.
        self._cluster = 1 << bits if bits in _CLUSTER_BITS else 0
        self._length_fits = length <= self._cluster and (self._version < 3 or length >= _LENGTH_3)
        self._extensions: set[int] = set()
        self._walk_ends = True
        if self.begins and self._length_fits:
            self._walk_ends = self._walk(head, length)

    def _walk(self, head: bytes, place: int) -> bool:
        """Note the types of the header's extensions; return whether the list ends as it must."""
        limit = min(self._cluster, len(head))
        for _ in range(_EXTENSIONS):
            if place + _EXTENSION.size > limit:
                return limit == self._cluster
            kind, length = _EXTENSION.unpack_from(head, place)
            if kind == _END:
                return True
            self._extensions.add(kind)
            place += _EXTENSION.size + (length + 7) // 8 * 8
            if place > limit:
                return False
        return False

    def virtual_size(self, end: End) -> int:
        return self._size

    @rule("ends within its header", is_last=True)
    def qcow2_header_cut(self, end: End) -> bool:
        return not self._has_header

    @rule("has a version other than 2 and 3", is_last=True)
    def qcow2_version(self, end: End) -> bool:
        return self._version not in _VERSIONS

    @rule("has clusters of an impossible size", "CVE-2015-5162", is_last=True)
    def qcow2_cluster_bits(self, end: End) -> bool:
        return not self._cluster

    @rule("names a backing file", "CVE-2015-5163")
    def qcow2_backing_file(self, end: End) -> bool:
        return self._backing_file != 0

    @rule("is larger than any disk can be", "CVE-2015-5162")
    def qcow2_virtual_size(self, end: End) -> bool:
        return self._size > LARGEST

    @rule("is encrypted")
    def qcow2_encryption(self, end: End) -> bool:
        return self._encryption != 0 or _EXT_ENCRYPTION in self._extensions

    @rule("is marked as dirty")
    def qcow2_dirty(self, end: End) -> bool:
        return bool(self._incompatible & _DIRTY)

    @rule("is marked as corrupt")
    def qcow2_corrupt(self, end: End) -> bool:
        return bool(self._incompatible & _CORRUPT)

    @rule("keeps its data in another file", "CVE-2024-32498", "CVE-2024-4467")
    def qcow2_data_file(self, end: End) -> bool:
        return bool(self._incompatible & _DATA_FILE) or bool(self._autoclear & _RAW_DATA_FILE)

    @rule("has an incompatible feature that is unknown")
    def qcow2_unknown_feature(self, end: End) -> bool:
        return bool(self._incompatible & ~_KNOWN)

    @rule("has a header of an impossible length")
    def qcow2_header_length(self, end: End) -> bool:
        return not self._length_fits

    @rule("has header extensions without an end inside its first cluster", "CVE-2015-5162")
    def qcow2_extensions(self, end: End) -> bool:
        return not self._walk_ends

    @rule("has a header extension that names a data file", "CVE-2024-32498", "CVE-2024-4467")
    def qcow2_data_file_name(self, end: End) -> bool:
        return _EXT_DATA_FILE in self._extensions

    @rule("has a header extension that names the format of a backing file", "CVE-2015-5163")
    def qcow2_backing_format(self, end: End) -> bool:
        return _EXT_BACKING in self._extensions

    @rule("has internal snapshots")
    def qcow2_snapshots(self, end: End) -> bool:
        return self._snapshots != 0

    @rule("has an L1 table that is not inside it", "CVE-2015-5162")
    def qcow2_l1_table(self, end: End) -> bool:
        length = self._l1_entries * 8
        return length > _L1_BYTES or self._is_outside(self._l1_table, length, end)

    @rule("has an L1 table that is too short for its virtual size")
    def qcow2_l1_size(self, end: End) -> bool:
        entry = 16 if self._incompatible & _EXTENDED_L2 else 8
        covered = self._cluster * (self._cluster // entry)
        return self._l1_entries * covered < self._size

    @rule("has a refcount table that is not inside it", "CVE-2015-5162")
    def qcow2_refcount_table(self, end: End) -> bool:
        length = self._refcount_clusters * self._cluster
        too_long = not 0 < length <= max(_REFCOUNT_BYTES, self._cluster)
        return too_long or self._is_outside(self._refcount_table, length, end)

    def _is_outside(self, place: int, length: int, end: End) -> bool:
        is_misplaced = place % self._cluster != 0 or place < self._cluster
        return (is_misplaced and length > 0) or place + length > end.size

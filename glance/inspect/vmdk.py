"""The rules of VMDK: one sparse extent in one file, and a descriptor that names nothing else.

The layout is that of VMware's "Virtual Disk Format 1.1"; numbers are little-endian, and places
count in sectors of 512 bytes. QEMU searches the descriptor for its keys anywhere, in comments and
values, too, so a key may be there once only.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from glance.inspect import signatures
from glance.inspect.signatures import SECTOR
from glance.inspect.verdict import LARGEST, DiskFormat, End, rule

_HEADER = struct.Struct("<4sIIQQQQIQQQ")
_MARKER = struct.Struct("<QII")
_VERSIONS = (1, 2, 3)
#: The place of a grain directory that says: see the footer at the end.
_SEE_FOOTER = 2**64 - 1
_FOOTER_MARKER, _END_MARKER = 3, 0
_DESCRIPTOR_SECTORS = range(1, 2049)
_SUBFORMATS = ("monolithicsparse", "streamoptimized")

_LINES = 4096
_KEY = re.compile(r"(\w+)[ \t]*=")
_DDB = re.compile(r"ddb\.[\w.]+[ \t]*=", re.I)
_EXTENT = re.compile(
    r'(rw|rdonly|noaccess)[ \t]+\d+[ \t]+(\w+)[ \t]+"([^"]*)"(?:[ \t]+\d+)?', re.I
)
_CREATE_TYPE, _PARENT_CID, _PARENT_HINT = "createtype", "parentcid", "parentfilenamehint"

#: What a text that stands alone can begin with, and what it can hold, to be a descriptor.
_TEXT_BYTES = 4096
_TITLE = signatures.VMDK_TEXT.lower()
_TEXT_KEY = re.compile(rb"^[ \t]*createtype[ \t]*=", re.I | re.M)
_TEXT_VERSION = re.compile(rb"version[ \t]*=[ \t]*[0-9]", re.I)


class SparseHeader(NamedTuple):
    """The numbers in the header of a sparse extent, and in the footer, that rules look at."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor: int
    descriptor_size: int
    entries: int
    redundant_directory: int
    directory: int
    overhead: int


def _header(data: bytes) -> SparseHeader:
    return SparseHeader(*_HEADER.unpack(data[: _HEADER.size].ljust(_HEADER.size, b"\0")))


def _marker(data: bytes) -> tuple[int, int, int]:
    """Return value, size and type of a marker."""
    value, size, kind = _MARKER.unpack(data[: _MARKER.size].ljust(_MARKER.size, b"\0"))
    return value, size, kind


def _judged(header: SparseHeader) -> tuple[bytes, int, int, int, int]:
    """Return what must be the same in a header and in the footer."""
    place, size = header.descriptor, header.descriptor_size
    return header.magic, header.version, header.capacity, place, size


def is_text_descriptor(head: bytes) -> bool:
    """Return whether data that begins with `head` is a descriptor without the data of a disk.

    QEMU takes text for one if `version=` is its first line that is no comment; bytes that are no
    text may be in a comment.
    """
    text = head[: end if (end := head.find(b"\0")) >= 0 else len(head)]
    if text[:_TEXT_BYTES].lstrip()[: len(_TITLE)].lower() == _TITLE:
        return True
    if b"createtype" in text.lower() and _TEXT_KEY.search(text):
        return True
    for line in head[:_TEXT_BYTES].split(b"\n"):
        line = line.strip()
        if line and not line.startswith(b"#"):
            return _TEXT_VERSION.match(line) is not None
    return False


class Descriptor:
    """The embedded text that says what a disk is made of; only short values of it are kept."""

    def __init__(self, data: bytes, *, is_whole: bool):
        data, nul, _ = data.partition(b"\0")
        self.is_cut = not (nul or is_whole)
        self.is_text = data.isascii()
        self.is_regular = True
        self.values: dict[str, str] = {}
        self.extents: list[tuple[str, str]] = []
        text = data.decode("ascii") if self.is_text else ""
        lowered = text.lower()
        self.counts = {
            key: lowered.count(key) for key in (_CREATE_TYPE, _PARENT_CID, _PARENT_HINT)
        }
        lines = text.split("\n", _LINES)
        self.is_regular = len(lines) <= _LINES
        for line in lines[:_LINES]:
            self._read(line.strip(" \t\r"))

    def _read(self, line: str) -> None:
        if not line.replace("\t", " ").isprintable():
            # NOTE: to another reader it may end a line.
            self.is_regular = False
        elif not line or line.startswith("#") or _DDB.match(line):
            return
        elif key := _KEY.match(line):
            name = key[1].lower()
            if name in self.counts:
                self.values[name] = line[key.end() :].strip(' \t"').lower()[:64]
        elif extent := _EXTENT.fullmatch(line):
            # Two are as wrong as a thousand.
            self.extents = [*self.extents[:1], (extent[2].lower(), extent[3][:255])]
        else:
            self.is_regular = False


class Vmdk(DiskFormat):
    """An image that may be VMDK."""

    name = signatures.VMDK

    def __init__(self, head: bytes):
        super().__init__(head)
        self._is_cowd = head.startswith(signatures.VMDK_ESX)
        is_sparse = head.startswith(signatures.VMDK_SPARSE)
        self._is_text = not (is_sparse or self._is_cowd) and is_text_descriptor(head)
        self.begins = self.begins or self._is_text
        self._has_header = len(head) >= SECTOR
        self._header = _header(head)
        length = self._header.descriptor_size * SECTOR
        self._is_placed = (
            self._header.descriptor == 1 and self._header.descriptor_size in _DESCRIPTOR_SECTORS
        )
        data = head[SECTOR : SECTOR + length] if is_sparse and self._is_placed else b""
        self._descriptor = Descriptor(data, is_whole=len(data) == length)

    def virtual_size(self, end: End) -> int | None:
        return None if self._is_text or self._is_cowd else self._header.capacity * SECTOR

    @rule("is a text that names the files of a disk", "CVE-2022-47951", is_last=True)
    def vmdk_text_descriptor(self, end: End) -> bool:
        return self._is_text

    @rule("is an extent of ESX, which needs a descriptor", "CVE-2022-47951", is_last=True)
    def vmdk_cowd(self, end: End) -> bool:
        return self._is_cowd

    @rule("ends within its header", is_last=True)
    def vmdk_header_cut(self, end: End) -> bool:
        return not self._has_header

    @rule("has a version other than 1, 2 and 3", is_last=True)
    def vmdk_version(self, end: End) -> bool:
        return self._header.version not in _VERSIONS

    @rule("has no capacity, or more than a disk can have", "CVE-2022-47951")
    def vmdk_capacity(self, end: End) -> bool:
        return not 0 < self._header.capacity * SECTOR <= LARGEST

    @rule("has no descriptor in its second sector, or a very long one", is_last=True)
    def vmdk_descriptor_place(self, end: End) -> bool:
        return not self._is_placed

    @rule("has a descriptor without an end in its first MiB", is_last=True)
    def vmdk_descriptor_cut(self, end: End) -> bool:
        return self._descriptor.is_cut

    @rule("has a descriptor with other characters than ASCII", is_last=True)
    def vmdk_descriptor_text(self, end: End) -> bool:
        return not self._descriptor.is_text

    @rule("has a descriptor with a line that no descriptor has", "CVE-2022-47951")
    def vmdk_descriptor_line(self, end: End) -> bool:
        return not self._descriptor.is_regular

    @rule(
        "is not of exactly one type, which is monolithicSparse or streamOptimized",
        "CVE-2022-47951",
        "CVE-2024-32498",
    )
    def vmdk_create_type(self, end: End) -> bool:
        return not self._is_once(_CREATE_TYPE, *_SUBFORMATS)

    @rule("has a parent, or does not say that it has none")
    def vmdk_parent_cid(self, end: End) -> bool:
        return not self._is_once(_PARENT_CID, "ffffffff")

    @rule("names the file of its parent")
    def vmdk_parent_hint(self, end: End) -> bool:
        return self._descriptor.counts[_PARENT_HINT] > 0

    @rule("does not have exactly one extent, a sparse one", "CVE-2022-47951", "CVE-2024-32498")
    def vmdk_extents(self, end: End) -> bool:
        return [kind for kind, _ in self._descriptor.extents] != ["sparse"]

    @rule("has an extent in another directory", "CVE-2022-47951")
    def vmdk_extent_name(self, end: End) -> bool:
        names = [name for _, name in self._descriptor.extents]
        return any(part in name for name in names for part in ("/", "\\", ".."))

    @rule("has a footer that is missing or differs from its header", "CVE-2024-32498")
    def vmdk_footer(self, end: End) -> bool:
        if self._header.directory != _SEE_FOOTER:
            return False
        # NOTE: others round the size of a file up to sectors and would look elsewhere.
        if end.size % SECTOR or end.size < 4 * SECTOR:
            return True
        marker, data, last = (end.at(end.size - n * SECTOR, SECTOR) for n in (3, 2, 1))
        footer = _header(data)
        return (
            _marker(marker)[1:] != (0, _FOOTER_MARKER)
            or _marker(last) != (0, 0, _END_MARKER)
            or footer.directory == _SEE_FOOTER
            or _judged(footer) != _judged(self._header)
        )

    def _is_once(self, key: str, *values: str) -> bool:
        """Return whether the descriptor has a key once, with one of the values."""
        return self._descriptor.counts[key] == 1 and self._descriptor.values.get(key) in values

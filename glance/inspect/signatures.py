"""Where the data of each disk format has which bytes, and how much of it an inspection reads.

PERF: the command line imports this module to guess a format; the rules are elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

#: The first and the last bytes of an image that are looked at; nothing else of it is.
HEAD_BYTES = 1024 * 1024
TAIL_BYTES = 2048
SECTOR = 512

# The names of the formats; those that an image may have are the same in `glance.image.fields`.
RAW = "raw"
QCOW2 = "qcow2"
VMDK = "vmdk"
VHD = "vhd"
VDI = "vdi"
ISO = "iso"
VHDX = "vhdx"
QED = "qed"
LUKS = "luks"
PLOOP = "ploop"
BOCHS = "bochs"
CLOOP = "cloop"
DMG = "dmg"


# Marks that the rules look for, too.
VMDK_SPARSE, VMDK_ESX, VMDK_TEXT = b"KDMV", b"COWD", b"# Disk DescriptorFile"
VHD_COOKIE, DMG_TRAILER = b"conectix", b"koly"


class Signature(NamedTuple):
    """Bytes at a place of the data: from its beginning, or before its end if that is negative."""

    format: str
    place: int
    magic: bytes


#: For iso: the first volume descriptor (ECMA-119, 8.1; ECMA-167, 2/9.1, for UDF), behind 32 KiB
#: that may hold a boot sector.
SIGNATURES = (
    Signature(QCOW2, 0, b"QFI\xfb"),
    Signature(VMDK, 0, VMDK_SPARSE),
    Signature(VMDK, 0, VMDK_ESX),
    Signature(VMDK, 0, VMDK_TEXT),
    Signature(VHD, 0, VHD_COOKIE),
    Signature(VHD, -SECTOR, VHD_COOKIE),
    Signature(VDI, 64, b"\x7f\x10\xda\xbe"),
    Signature(ISO, 32769, b"CD001"),
    Signature(ISO, 32769, b"BEA01"),
    Signature(ISO, 32769, b"NSR02"),
    Signature(ISO, 32769, b"NSR03"),
    Signature(VHDX, 0, b"vhdxfile"),
    Signature(QED, 0, b"QED\0"),
    Signature(LUKS, 0, b"LUKS\xba\xbe"),
    Signature(PLOOP, 0, b"WithoutFreeSpace"),
    Signature(PLOOP, 0, b"WithouFreSpacExt"),
    Signature(BOCHS, 0, b"Bochs Virtual HD Image"),
    Signature(CLOOP, 0, b"#!/bin/sh\n#V2.0 Format\n"),
    Signature(DMG, -SECTOR, DMG_TRAILER),
)

#: How many of the first bytes show every signature that is near the beginning.
NEEDED = max(row.place + len(row.magic) for row in SIGNATURES if row.place >= 0)


def begins(head: bytes, *formats: str) -> bool:
    """Return whether data that begins with `head` has a signature there of one of the formats."""
    # PERF: each format asks for itself, of every image that is uploaded.
    return any(head.startswith(row.magic, row.place) for row in _near_the_beginning(formats))


@functools.cache
def _near_the_beginning(formats: tuple[str, ...]) -> tuple[Signature, ...]:
    return tuple(row for row in SIGNATURES if row.place >= 0 and row.format in formats)


def first(head: bytes, formats: Iterable[str]) -> str | None:
    """Return the first of the formats with a signature in `head`, in the order of the table."""
    wanted = set(formats)
    for row in SIGNATURES:
        if row.format in wanted and row.place >= 0 and head.startswith(row.magic, row.place):
            return row.format
    return None

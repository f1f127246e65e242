"""The formats that are known by their marks only: iso, and those that are always refused."""

from __future__ import annotations

from glance.inspect import signatures
from glance.inspect.signatures import SECTOR
from glance.inspect.verdict import DiskFormat, End, rule


class Iso(DiskFormat):
    """An image that may be one of ISO 9660 or UDF, which can name no other file."""

    name = signatures.ISO

    def virtual_size(self, end: End) -> int:
        return -(-end.size // SECTOR) * SECTOR


class Vhdx(DiskFormat):
    """An image that may be VHDX."""

    name = signatures.VHDX

    @rule("is VHDX, which may have a parent")
    def vhdx_refused(self, end: End) -> bool:
        return True


class Qed(DiskFormat):
    """An image that may be QED."""

    name = signatures.QED

    @rule("is QED, which may have a backing file", "CVE-2015-5163")
    def qed_refused(self, end: End) -> bool:
        return True


class Luks(DiskFormat):
    """An image that may be LUKS."""

    name = signatures.LUKS

    @rule("is encrypted with LUKS")
    def luks_refused(self, end: End) -> bool:
        return True


class Ploop(DiskFormat):
    """An image that may be one of Parallels, whose other name is ploop."""

    name = signatures.PLOOP

    @rule("is a disk of Parallels, which may have a parent")
    def ploop_refused(self, end: End) -> bool:
        return True


class Bochs(DiskFormat):
    """An image that may be one of Bochs."""

    name = signatures.BOCHS

    @rule("is a disk of Bochs, which may have a parent")
    def bochs_refused(self, end: End) -> bool:
        return True


class Cloop(DiskFormat):
    """An image that may be a compressed loop device."""

    name = signatures.CLOOP

    @rule("is a compressed loop device, whose tables may be of any size", "CVE-2015-5162")
    def cloop_refused(self, end: End) -> bool:
        return True


class Dmg(DiskFormat):
    """An image that may be one of macOS, which has its mark at the end."""

    name = signatures.DMG

    def found(self, end: End) -> bool:
        return end.at(end.size - SECTOR, 4) == signatures.DMG_TRAILER

    @rule("is a disk image of macOS, whose tables may be of any size", "CVE-2015-5162")
    def dmg_refused(self, end: End) -> bool:
        return True

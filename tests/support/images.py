"""Real images: from Debian packages, in five disk formats made by qemu-img, with real content."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import NoReturn

import pytest

GRUB_DISK = pathlib.Path("/usr/lib/grub-rescue/grub-rescue-usb.img")
GRUB_CDROM = pathlib.Path("/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
IPXE_CDROM = pathlib.Path("/usr/lib/ipxe/ipxe.iso")
INSTALLER = pathlib.Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
KERNEL = INSTALLER / "linux"
RAMDISK = INSTALLER / "initrd.gz"

# disk_format -> the name that qemu-img has for it
QEMU_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc"}


def need(*things: str | pathlib.Path) -> None:
    """Skip the test without these programs and files; fail it where CI is set."""
    missing = [
        str(thing)
        for thing in things
        if not (shutil.which(thing) if isinstance(thing, str) else thing.exists())
    ]
    if missing:
        without(f"not installed: {', '.join(missing)}")


def without(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def make_disks(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return a bootable disk of tens of megabytes in each format: disk_format -> path.

    GRUB's rescue disk, followed by the installer's ramdisk as content that is real and does not
    compress.
    """
    need("qemu-img", GRUB_DISK, RAMDISK)
    raw = directory / "disk.raw"
    with raw.open("wb") as disk:
        for part in (GRUB_DISK, RAMDISK):
            disk.write(part.read_bytes())
        disk.truncate((disk.tell() + 0xFFFFF) & ~0xFFFFF)
    disks = {"raw": raw}
    for disk_format, name in QEMU_FORMATS.items():
        if disk_format != "raw":
            disks[disk_format] = directory / f"disk.{disk_format}"
            command = ["qemu-img", "convert", "-f", "raw", "-O", name, raw, disks[disk_format]]
            subprocess.run(command, check=True)
    return disks


def md5_of(path: pathlib.Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "md5").hexdigest()


def generated(size: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """Yield `size` bytes that do not compress, without holding more than a piece of them."""
    block = os.urandom(piece)
    while size > 0:
        yield block[:size]
        size -= piece

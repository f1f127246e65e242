"""The one table of what is converted into what, and how the tool is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from glance.common import exception
from glance.image import fields
from glance.inspect.signatures import RAW, VMDK

__all__ = ["FORMATS", "RAW", "VMDK", "Format", "check_pair", "of"]

#: disk_format; the tool's name of it; whether it has a backing link that must be overridden; the
#: options of an output; whether an output can be compressed on demand.
#:
#: NOTE: without force_size the driver of vhd rounds the size of the disk up to a geometry.
_TABLE = """
    raw    raw    -        -                               -
    qcow2  qcow2  backing  compat=1.1                      compress
    vmdk   vmdk   -        subformat=streamOptimized       -
    vdi    vdi    -        -                               -
    vhd    vpc    -        subformat=dynamic,force_size=on -
"""

#: The container that holds nothing but the disk; an empty container_format means the same.
CONTAINER = "bare"


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """One disk format: `driver` is the tool's name, `options` those of an output, "" for none.

    `has_backing` is whether the tool would follow a link to a backing file; `compresses` whether
    an output may be compressed on demand.
    """

    disk_format: str
    driver: str
    has_backing: bool
    options: str
    compresses: bool


def _parse(table: str) -> dict[str, Format]:
    found = {}
    for line in table.strip().splitlines():
        name, driver, backing, options, compress = (
            "" if word == "-" else word for word in line.split()
        )
        found[name] = Format(name, driver, bool(backing), options, bool(compress))
    return found


#: disk_format -> how it is converted, for inputs and outputs alike.
FORMATS: Mapping[str, Format] = _parse(_TABLE)


def of(disk_format: str | None) -> Format:
    """Return the row of a disk format. Raises Invalid if it is not one that is converted."""
    found = FORMATS.get(disk_format or "")
    if found is None:
        shown = f"The disk_format {disk_format}" if disk_format in fields.DISK_FORMATS else "That"
        raise exception.Invalid(
            f"{shown} is not converted; use one of {', '.join(FORMATS)} as disk_format"
        )
    return found


def check_pair(
    source: str | None,
    container_format: str | None,
    target: str | None,
    *,
    compress: bool = False,
    force: bool = False,
) -> None:
    """Raise Invalid unless an image of these formats can be converted into `target`.

    `container_format` is that of the source. `compress` asks for a compressed result; with
    `force` the source may have the format already.
    """
    if container_format not in (None, "", CONTAINER):
        raise exception.Invalid(
            f"An image is converted only if its container_format is {CONTAINER}"
        )
    of(source)
    row = of(target)
    if compress and not row.compresses:
        able = ", ".join(name for name, each in FORMATS.items() if each.compresses)
        raise exception.Invalid(f"compress is for the disk_format {able} only")
    if source == target and not compress and not force:
        raise exception.Invalid(
            f"The image has the disk_format {target} already; ask with force to write it anew"
        )

"""The options of conversions."""

from __future__ import annotations

import os
import re

from glance.common import config

#: The value of conversion_sandbox for none at all.
NO_SANDBOX = "none"
#: The kinds of VMDK that consist of one file, which the tool reads without opening another.
VMDK_SUBFORMATS = ("streamOptimized", "monolithicSparse")
#: qemu-img does not even start with less.
LEAST_ADDRESS_SPACE = 256 * 1024**2

_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}\Z")
_GIB = 1024**3


def absolute(value: str) -> str:
    """Convert the path of a file or directory, which must be absolute: `~` expanded."""
    found = config.path(value)
    if not os.path.isabs(found):
        raise ValueError("use an absolute path")
    return found


def version(value: str) -> str:
    """Convert the version of a program, such as 7.2."""
    found = value.strip()
    if not _VERSION.match(found):
        raise ValueError("use a version such as 7.2")
    return found


def subformats(value: str) -> tuple[str, ...]:
    """Convert a list of kinds of VMDK, in any case of their letters."""
    known = {name.lower(): name for name in VMDK_SUBFORMATS}
    found = config.words(value)
    if any(word.lower() not in known for word in found):
        # SECURITY: the other kinds consist of several files, whose names are in the image.
        raise ValueError(f"use some of {', '.join(VMDK_SUBFORMATS)}")
    return tuple(dict.fromkeys(known[word.lower()] for word in found))


def address_space(value: str) -> int:
    """Convert a number of bytes that the tool can start with."""
    number = config.integer(value)
    if number < LEAST_ADDRESS_SPACE:
        raise ValueError(f"use a number of at least {LEAST_ADDRESS_SPACE}")
    return number


#: What the service that takes requests has to know as well as the converter.
config.options(
    "conversions",
    config.Option(
        "conversion_enabled",
        config.boolean,
        False,
        help="Convert images into other disk formats for users who ask for it.",
    ),
    config.Option(
        "conversion_max_jobs_per_owner",
        config.integer,
        2,
        minimum=1,
        help="How many conversions of one owner may wait or run at the same time.",
    ),
    config.Option(
        "conversion_max_jobs",
        config.integer,
        100,
        minimum=1,
        help="How many conversions of all owners may wait or run at the same time.",
    ),
    config.Option(
        "conversion_max_input_size",
        config.integer,
        100 * _GIB,
        unit="bytes",
        minimum=1,
        help="Images larger than this are not converted.",
    ),
    config.Option(
        "conversion_max_virtual_size",
        config.integer,
        200 * _GIB,
        unit="bytes",
        minimum=1,
        help="Images of disks larger than this are not converted.",
    ),
    config.Option(
        "conversion_max_expansion",
        config.integer,
        50,
        minimum=1,
        help="How many times larger than its image a disk may be; disks up to 1 GiB are exempt.",
    ),
    config.Option(
        "conversion_job_retention",
        config.integer,
        7 * 86400,
        unit="seconds",
        minimum=0,
        help="How long a finished conversion can be looked up.",
    ),
    config.Option(
        "conversion_dropped_properties",
        config.words,
        ("kernel_id", "ramdisk_id"),
        help="Properties of the source that the result does not get, besides those whose names "
        "begin with conversion_.",
    ),
)
config.options(
    "conversion",
    config.Option(
        "conversion_workers",
        config.integer,
        2,
        minimum=1,
        help="How many images a converter works on at the same time.",
    ),
    config.Option(
        "conversion_work_dir",
        absolute,
        "/var/lib/glance/conversion/",
        help="Directory for images at work, which belongs to the converter's user and which "
        "nobody else may write to: an absolute path, not below /usr or /lib.",
    ),
    config.Option(
        "conversion_qemu_img",
        absolute,
        "/usr/bin/qemu-img",
        help="The program qemu-img: an absolute path.",
    ),
    config.Option(
        "conversion_min_qemu_version",
        version,
        "7.2",
        help="Oldest version of qemu-img that a converter starts with. Run a build that has the "
        "fix for CVE-2024-4467, which the version alone does not show.",
    ),
    config.Option(
        "conversion_info_address_space",
        address_space,
        _GIB,
        unit="bytes",
        help="Maximum address space of qemu-img while it reads what an image says of itself.",
    ),
    config.Option(
        "conversion_info_cpu",
        config.integer,
        30,
        unit="seconds",
        minimum=1,
        help="Maximum processor time of qemu-img while it reads what an image says of itself.",
    ),
    config.Option(
        "conversion_address_space",
        address_space,
        2 * _GIB,
        unit="bytes",
        help="Maximum address space of qemu-img while it converts.",
    ),
    config.Option(
        "conversion_cpu_base",
        config.integer,
        60,
        unit="seconds",
        minimum=1,
        help="Processor time that qemu-img may take to convert any image.",
    ),
    config.Option(
        "conversion_cpu_per_gib",
        config.integer,
        60,
        unit="seconds",
        minimum=0,
        help="Processor time that qemu-img may take in addition for each GiB of the disk.",
    ),
    config.Option(
        "conversion_wall_timeout",
        config.integer,
        7200,
        unit="seconds",
        minimum=1,
        help="How long all runs of qemu-img for one conversion may take together.",
    ),
    config.Option(
        "conversion_disk_reserve",
        config.integer,
        10 * _GIB,
        unit="bytes",
        minimum=0,
        help="How much of the file system of conversion_work_dir stays free. A conversion that "
        "would need some of it waits.",
    ),
    config.Option(
        "conversion_sandbox",
        default="bwrap",
        choices=("bwrap", NO_SANDBOX),
        help="What keeps qemu-img from the host's files, network and processes: bwrap (the "
        "program of that name, of the package bubblewrap), or none. Without it one mistake in "
        "the inspection of images gives the files of this host to users.",
    ),
    config.Option(
        "conversion_vmdk_subformats",
        subformats,
        VMDK_SUBFORMATS,
        help="The kinds of VMDK that may be converted.",
    ),
    config.Option(
        "conversion_compare",
        config.boolean,
        False,
        help="Compare each result with its source, byte by byte, before it is stored.",
    ),
    config.Option(
        "conversion_shutdown_grace",
        config.integer,
        30,
        unit="seconds",
        minimum=0,
        help="How long a converter that is told to stop lets its conversions go on.",
    ),
)

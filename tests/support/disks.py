"""Small disk images of every format that may be stored, made byte by byte, and how to spoil them.

Each is what its format asks for and no more: a header, tables, and hardly any data.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from glance.inspect import signatures

SECTOR = 512
CLUSTER = 65536
MIB = 1 << 20


def put(data: bytes, place: int, form: str, *values: Any) -> bytes:
    """Return `data` with values written over it at a place."""
    changed = bytearray(data)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


# -- QCOW2 ---------------------------------------------------------------------------------------


def qcow2(
    *,
    version: int = 3,
    size: int = 10 * MIB,
    extensions: tuple[tuple[int, bytes], ...] = ((0x6803F857, b"a table of features"),),
    end: bool = True,
    **fields: int,
) -> bytes:
    """Return a disk of `size` bytes; `fields` are those of the header, such as `l1_size`."""
    values = {
        "backing_file": 0,
        "backing_size": 0,
        "cluster_bits": 16,
        "encryption": 0,
        "l1_size": 1,
        "l1_table": 3 * CLUSTER,
        "refcount_table": CLUSTER,
        "refcount_clusters": 1,
        "snapshots": 0,
        "incompatible": 0,
        "autoclear": 0,
        "header_length": 112,
        **fields,
    }
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        values["backing_file"],
        values["backing_size"],
        values["cluster_bits"],
        size,
        values["encryption"],
        values["l1_size"],
        values["l1_table"],
        values["refcount_table"],
        values["refcount_clusters"],
        values["snapshots"],
        0,
    )
    if version > 2:
        numbers = (values["incompatible"], 0, values["autoclear"], 4, values["header_length"])
        head += struct.pack(">QQQII8x", *numbers)
    for kind, text in extensions:
        head += struct.pack(">II", kind, len(text)) + text + bytes(-len(text) % 8)
    head += bytes(8) if end else b""
    return head.ljust(3 * CLUSTER + 8, b"\0")


# -- VMDK ----------------------------------------------------------------------------------------

DESCRIPTOR = """\
# Disk DescriptorFile
version=1
CID=52f2a1c0
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 20480 SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "20"
"""
FOOTER = 2**64 - 1


def vmdk_header(
    *,
    magic: bytes = b"KDMV",
    version: int = 1,
    capacity: int = 10 * MIB // SECTOR,
    place: int = 1,
    size: int = 20,
    directory: int = 21,
) -> bytes:
    head = struct.pack(
        "<4sIIQQQQIQQQ", magic, version, 3, capacity, 128, place, size, 512, 0, directory, 128
    )
    return head.ljust(SECTOR, b"\0")


def vmdk(descriptor: str | bytes = DESCRIPTOR, **header: Any) -> bytes:
    """Return a sparse extent with its descriptor."""
    text = descriptor.encode() if isinstance(descriptor, str) else descriptor
    data = vmdk_header(**header) + text.ljust(20 * SECTOR, b"\0")
    return data.ljust(128 * SECTOR, b"\0")


def stream_vmdk(
    *, kind: int = 3, end: bytes = bytes(SECTOR), directory: int = 21, **footer: Any
) -> bytes:
    """Return a stream-optimized extent, whose grain directory the footer names."""
    text = DESCRIPTOR.replace("monolithicSparse", "streamOptimized")
    marker = struct.pack("<QII", 1, 0, kind).ljust(SECTOR, b"\0")
    data = vmdk(text, directory=FOOTER, version=3)
    return data + marker + vmdk_header(version=3, directory=directory, **footer) + end


# -- VHD -----------------------------------------------------------------------------------------


def vhd_footer(
    *, kind: int = 2, size: int = 10 * MIB, place: int = 2**64 - 1, checksum: int | None = None
) -> bytes:
    footer = struct.pack(">8sIIQ", b"conectix", 2, 0x10000, place).ljust(40, b"\0")
    footer += struct.pack(">QQII", size, size, 0x01290411, kind)
    footer = footer.ljust(SECTOR, b"\0")
    right = ~sum(footer) & 0xFFFFFFFF
    return put(footer, 64, ">I", right if checksum is None else checksum)


def vhd(**footer: Any) -> bytes:
    """Return a fixed disk."""
    return b"disk".ljust(8 * SECTOR, b"\0") + vhd_footer(**footer)


def dynamic_vhd(header: bytes | None = None, copy: bytes | None = None, **footer: Any) -> bytes:
    """Return a dynamic disk; `header` and `copy` take the place of what it would have."""
    made = vhd_footer(**{"kind": 3, "place": SECTOR, **footer})
    middle = vhd_dynamic_header() if header is None else header
    return (made if copy is None else copy) + middle + b"\xff" * SECTOR + made


def vhd_dynamic_header() -> bytes:
    return struct.pack(">8sQQIII", b"cxsparse", 2**64 - 1, 1536, 0x10000, 5, 2 * MIB).ljust(
        1024, b"\0"
    )


# -- VDI, ISO and those that are refused ---------------------------------------------------------


def vdi(*, version: int = 0x10001, kind: int = 1, size: int = 10 * MIB) -> bytes:
    head = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    head += struct.pack("<IIII", 0xBEDA107F, version, 400, kind)
    head = head.ljust(340, b"\0") + struct.pack("<II16x4xQ", 512, 1024, size)
    return head.ljust(392, b"\0") + b"uuid of the disk" + bytes(2 * MIB // 1024)


def iso(magic: bytes = b"CD001") -> bytes:
    return (bytes(32768) + b"\1" + magic + b"\1").ljust(20 * 2048, b"\0")


REFUSED = {
    "vhdx": b"vhdxfile",
    "qed": b"QED\0",
    "luks": b"LUKS\xba\xbe\0\1",
    "ploop": b"WithouFreSpacExt",
    "bochs": b"Bochs Virtual HD Image",
    "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0",
}


def dmg() -> bytes:
    return bytes(4 * SECTOR) + b"koly".ljust(SECTOR, b"\0")


#: Disk format -> images of it that are safe.
SAFE: dict[str, tuple[bytes, ...]] = {
    "qcow2": (qcow2(), qcow2(version=2, extensions=()), qcow2(incompatible=0x18)),
    "vmdk": (vmdk(), vmdk(DESCRIPTOR.replace("\n", "\r\n")), stream_vmdk()),
    "vhd": (vhd(), dynamic_vhd()),
    "vdi": (vdi(), vdi(kind=2)),
    "iso": (iso(), iso(b"NSR02"), iso(b"NSR03"), iso(b"BEA01")),
    "raw": (
        b"",
        b"data",
        bytes(MIB),
        # A master boot record, and a file system.
        bytes(510) + b"\x55\xaa" + bytes(MIB),
        put(bytes(2 * MIB), 1080, "<H", 0xEF53),
    ),
}

_TEXT = DESCRIPTOR.replace("monolithicSparse", "monolithicFlat").replace("SPARSE", "FLAT")

#: Rule of the inspector -> an image that breaks this one.
HOSTILE: dict[str, bytes] = {
    "qcow2_header_cut": qcow2()[:103],
    "qcow2_version": qcow2(version=1),
    "qcow2_cluster_bits": qcow2(cluster_bits=2**32 - 1),
    "qcow2_backing_file": qcow2(backing_file=600),
    "qcow2_virtual_size": qcow2(size=2**64 - 1),
    "qcow2_encryption": qcow2(encryption=1),
    "qcow2_dirty": qcow2(incompatible=1),
    "qcow2_corrupt": qcow2(incompatible=2),
    "qcow2_data_file": qcow2(incompatible=4),
    "qcow2_unknown_feature": qcow2(incompatible=1 << 63),
    "qcow2_header_length": qcow2(header_length=96),
    "qcow2_extensions": qcow2(extensions=((0x1234, b""),) * 9000, end=False),
    "qcow2_data_file_name": qcow2(extensions=((0x44415441, b"/etc/passwd"),)),
    "qcow2_backing_format": qcow2(extensions=((0xE2792ACA, b"raw"),)),
    "qcow2_snapshots": qcow2(snapshots=1),
    "qcow2_l1_table": qcow2(l1_table=1 << 40),
    "qcow2_l1_size": qcow2(size=1 << 40),
    "qcow2_refcount_table": qcow2(refcount_table=1 << 40),
    "vmdk_text_descriptor": _TEXT.encode(),
    "vmdk_cowd": b"COWD" + vmdk()[4:],
    "vmdk_header_cut": vmdk()[:500],
    "vmdk_version": vmdk(version=4),
    "vmdk_capacity": vmdk(capacity=0),
    "vmdk_descriptor_place": vmdk(place=2),
    "vmdk_descriptor_cut": vmdk(size=2048, descriptor=DESCRIPTOR.ljust(MIB, "\n")),
    "vmdk_descriptor_text": vmdk(DESCRIPTOR + "# caf\u00e9\n"),
    "vmdk_descriptor_line": vmdk(DESCRIPTOR + "a line of no kind\n"),
    "vmdk_create_type": vmdk(DESCRIPTOR.replace("monolithicSparse", "monolithicFlat")),
    "vmdk_parent_cid": vmdk(DESCRIPTOR.replace("=ffffffff", "=52f2a1bf")),
    "vmdk_parent_hint": vmdk(DESCRIPTOR + 'parentFileNameHint="/etc/passwd"\n'),
    "vmdk_extents": vmdk(DESCRIPTOR + 'RW 20480 FLAT "passwd" 0\n'),
    "vmdk_extent_name": vmdk(DESCRIPTOR.replace("disk.vmdk", "/etc/passwd")),
    "vmdk_footer": stream_vmdk(directory=FOOTER),
    "vhd_footer": dynamic_vhd()[:-1],
    "vhd_differencing": dynamic_vhd(kind=4),
    "vhd_type": dynamic_vhd(kind=5),
    "vhd_checksum": vhd(checksum=1),
    "vhd_virtual_size": vhd(size=2**64 - 1),
    "vhd_copy": dynamic_vhd(copy=vhd_footer(kind=3, place=SECTOR, size=MIB)),
    "vhd_dynamic_header": dynamic_vhd(header=bytes(1024)),
    "vhd_parent_locator": dynamic_vhd(put(vhd_dynamic_header(), 576 + 24, ">I", 0x57326B75)),
    "vhd_parent_name": dynamic_vhd(put(vhd_dynamic_header(), 64, ">4s", b"\0p\0a")),
    "vdi_header_cut": vdi()[:500],
    "vdi_version": vdi(version=1),
    "vdi_differencing": vdi(kind=4),
    "vdi_type": vdi(kind=0),
    "vdi_parent": put(vdi(), 440, "<Q", 1),
    "vdi_virtual_size": vdi(size=2**64 - 1),
    **{f"{name}_refused": magic.ljust(4096, b"\0") for name, magic in REFUSED.items()},
    "dmg_refused": dmg(),
}

#: More ways to break a rule: (rule, image).
FURTHER: tuple[tuple[str, bytes], ...] = (
    ("qcow2_header_cut", b"QFI\xfb"),
    ("qcow2_version", qcow2(version=4)),
    ("qcow2_cluster_bits", qcow2(cluster_bits=8)),
    ("qcow2_backing_file", qcow2(version=2, extensions=(), backing_file=2**64 - 1)),
    ("qcow2_encryption", qcow2(extensions=((0x0537BE77, bytes(16)),))),
    ("qcow2_data_file", qcow2(autoclear=2)),
    ("qcow2_header_length", qcow2(header_length=2**32 - 1)),
    ("qcow2_extensions", qcow2(extensions=((0x1234, b""),) * 1024, end=False)),
    # A name of a data file just behind what is looked at, in a cluster that goes on.
    (
        "qcow2_extensions",
        qcow2(
            cluster_bits=21, extensions=((0x1234, bytes(MIB - 120)), (0x44415441, b"/etc/passwd"))
        ),
    ),
    ("qcow2_extensions", qcow2(extensions=())[:112] + b"\0\0\0\1" + b"\xff" * 4 + bytes(300000)),
    ("qcow2_data_file_name", qcow2(version=2, extensions=((0x44415441, b"x"),))),
    ("qcow2_l1_table", qcow2(l1_table=3 * CLUSTER + 8)),
    ("qcow2_l1_table", qcow2(l1_size=2**32 - 1)),
    ("qcow2_l1_table", qcow2(l1_table=0)),
    ("qcow2_l1_size", qcow2(l1_size=0)),
    ("qcow2_l1_size", qcow2(size=512 * MIB, incompatible=16)),
    ("qcow2_refcount_table", qcow2(refcount_clusters=0)),
    ("qcow2_refcount_table", qcow2(refcount_clusters=2**32 - 1)),
    ("qcow2_refcount_table", qcow2(refcount_table=100)),
    ("vmdk_text_descriptor", b" \t\r\n" + _TEXT.upper().encode()),
    ("vmdk_text_descriptor", b"a=b\n  CREATETYPE = vmfs\n"),
    ("vmdk_text_descriptor", b"#\x01\n\n# b\r\n  \nversion=3\n" + bytes(600)),
    ("vmdk_text_descriptor", b"# Disk DescriptorFile\0"),
    ("vmdk_text_descriptor", b"# Disk\0\0\nversion=1\n"),
    ("vmdk_header_cut", b"KDMV"),
    ("vmdk_version", vmdk(version=0)),
    ("vmdk_capacity", vmdk(capacity=2**64 - 1)),
    ("vmdk_descriptor_place", vmdk(size=0)),
    ("vmdk_descriptor_place", vmdk(size=2049)),
    ("vmdk_descriptor_cut", vmdk(DESCRIPTOR.ljust(20 * SECTOR, "\n"))[: 10 * SECTOR]),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + "two words=1\n")),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + 'a=b\rRW 1 FLAT "/etc/passwd" 0\n')),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + '#\vRW 1 FLAT "/etc/passwd" 0\n')),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + '\fRW 1 SPARSE "b.vmdk"\n')),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + 'RW 20480 FLAT\n"/etc/passwd" 0\n')),
    ("vmdk_descriptor_line", vmdk(DESCRIPTOR + "\n" * 5000)),
    ("vmdk_create_type", vmdk(DESCRIPTOR + "# createType=monolithicFlat\n")),
    ("vmdk_create_type", vmdk(DESCRIPTOR + 'ddb.x = "CREATETYPE=vmfs"\n')),
    ("vmdk_create_type", vmdk(DESCRIPTOR.replace("createType", "type"))),
    ("vmdk_parent_cid", vmdk(DESCRIPTOR + "#parentCID=00000001\n")),
    ("vmdk_parent_cid", vmdk(DESCRIPTOR.replace("parentCID", "otherCID"))),
    ("vmdk_parent_hint", vmdk(DESCRIPTOR + '#PARENTFILENAMEHINT="a"\n')),
    ("vmdk_extents", vmdk(DESCRIPTOR + 'RW 20480 SPARSE "b.vmdk"\n')),
    ("vmdk_extents", vmdk(DESCRIPTOR.replace("SPARSE", "VMFS"))),
    ("vmdk_extents", vmdk(DESCRIPTOR.replace("RW ", "#RW "))),
    *(("vmdk_extent_name", vmdk(DESCRIPTOR.replace("disk", name))) for name in ("..", "a\\b")),
    ("vmdk_footer", stream_vmdk(kind=2)),
    ("vmdk_footer", stream_vmdk(end=b"\1" + bytes(511))),
    ("vmdk_footer", stream_vmdk(magic=b"VMDK")),
    ("vmdk_footer", stream_vmdk(capacity=0)),
    ("vmdk_footer", stream_vmdk(place=200)),
    ("vmdk_footer", stream_vmdk(size=21)),
    ("vmdk_footer", stream_vmdk() + b"\0"),
    ("vmdk_footer", stream_vmdk()[: 3 * SECTOR].replace(b"rw 20480", b"")),
    ("vhd_footer", vhd_footer(kind=3) + bytes(4096)),
    ("vhd_footer", bytes(1000) + vhd_footer()),
    ("vhd_footer", bytes(1024) + vhd_footer()[:511]),
    ("vhd_footer", b"conectix"),
    ("vhd_type", vhd(kind=0)),
    ("vhd_checksum", dynamic_vhd(copy=vhd_footer(kind=3, place=SECTOR, checksum=2))),
    ("vhd_copy", vhd_footer() + vhd()),
    ("vhd_copy", dynamic_vhd(copy=vhd_footer(place=SECTOR))),
    ("vhd_dynamic_header", dynamic_vhd(place=2**64 - 1)),
    ("vhd_dynamic_header", dynamic_vhd(place=1 << 21)),
    ("vhd_parent_locator", dynamic_vhd(put(vhd_dynamic_header(), 744, ">I", 1))),
    ("vdi_header_cut", vdi()[:68]),
    ("vdi_differencing", vdi(kind=3)),
    ("vdi_parent", put(vdi(), 424, "<Q", 1)),
)

#: Images with the marks of two formats.
AMBIGUOUS: dict[str, bytes] = {
    "iso and qcow2": put(qcow2(), 32769, ">5s", b"CD001"),
    "iso and vmdk": put(vmdk(), 32769, ">5s", b"NSR02"),
    "vhd around qcow2": qcow2().ljust(4 * CLUSTER, b"\0") + vhd_footer(),
    "vhd around vmdk": vmdk() + vhd_footer(),
    "vdi and qcow2": put(qcow2(), 64, "<I", 0xBEDA107F),
    "dmg and vdi": vdi() + b"koly".ljust(SECTOR, b"\0"),
}

#: All of these images.
EVERY = (
    *(data for each in SAFE.values() for data in each),
    *HOSTILE.values(),
    *AMBIGUOUS.values(),
)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return data with a few bytes changed, where headers are, or a part cut out or doubled."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        if not changed:
            break
        place = chance.choice(
            [chance.randrange(min(len(changed), 1024)), chance.randrange(len(changed))]
        )
        place = max(0, len(changed) - 1 - place) if chance.random() < 0.3 else place
        kind = chance.randrange(6)
        if kind == 0:
            changed[place] = chance.randrange(256)
        elif kind == 1:
            changed[place : place + 8] = chance.choice(
                [bytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7]
            )
        elif kind == 2:
            del changed[place : place + chance.choice([1, 7, 512])]
        elif kind == 3:
            changed[place:place] = changed[place : place + chance.choice([1, 8, 512])]
        elif kind == 4:
            row = chance.choice(signatures.SIGNATURES)
            changed[place : place + len(row.magic)] = row.magic
        else:
            changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)

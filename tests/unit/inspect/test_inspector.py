"""The inspector of disk images: a hostile image for each rule, and bounds that none moves."""

import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glance.image import fields
from glance.inspect import inspector, signatures, verdict
from glance.inspect.signatures import HEAD_BYTES, TAIL_BYTES

from support import disks, images

#: The variable is for long runs.
MUTANTS = int(os.environ.get("GLANCE_TEST_FUZZ_EXAMPLES", "300"))

RULES = {each.name: (kind.name, each) for kind in inspector.FORMATS for each in kind.rules}
SAFE = [(name, data) for name, each in disks.SAFE.items() for data in each]


class Counted(io.RawIOBase):
    """A file of which each byte that is read counts, wherever it is read."""

    def __init__(self, data):
        self._file = io.BytesIO(data)
        self.count = 0

    def read(self, size=-1):
        assert size >= 0
        part = self._file.read(size)
        self.count += len(part)
        return part

    def seek(self, place, whence=0):
        return self._file.seek(place, whence)


def inspect(data, declared=None, limits=inspector.NO_LIMITS):
    """Return the verdict on a file of the data, which reads no more than it may."""
    file = Counted(data)
    found = inspector.inspect_file(file, declared, limits)
    assert file.count <= HEAD_BYTES + TAIL_BYTES
    assert found.size == len(data)
    return found


def stream(data, piece, declared=None):
    """Return the verdict on the data as it comes piece by piece."""
    seen = inspector.Inspector(declared)
    for start in range(0, len(data), piece):
        seen.update(data[start : start + piece])
    return seen.verdict()


# -- the rules -----------------------------------------------------------------------------------


def test_each_rule_has_a_hostile_image():
    assert set(disks.HOSTILE) == set(RULES)
    assert {name for name, _ in disks.FURTHER} <= set(RULES)


@pytest.mark.parametrize("name", disks.HOSTILE)
def test_a_hostile_image_breaks_its_rule(name):
    kind, rule = RULES[name]
    found = inspect(disks.HOSTILE[name], kind)
    assert found.format == kind
    assert found.code == verdict.Refusal.UNSAFE_IMAGE == "unsafe_image"
    assert {each.code for each in found.reasons} == {found.code}
    assert name in {each.rule for each in found.reasons}
    assert rule.text in found.detail
    # What the owner of an image learns is the code, not the rule.
    assert found.message.startswith("unsafe_image: ") and rule.text not in found.message


@pytest.mark.parametrize(
    ("name", "data"),
    disks.FURTHER,
    ids=[f"{n}-{name}" for n, (name, _) in enumerate(disks.FURTHER)],
)
def test_a_rule_has_no_way_around_it(name, data):
    assert name in {each.rule for each in inspect(data, RULES[name][0]).reasons}


@pytest.mark.parametrize("name", disks.HOSTILE)
def test_without_its_rule_a_hostile_image_would_be_safe(name):
    """So the rule is needed: no other one sees it, but where a fault shows in two places."""
    both = {
        "vhd_differencing": {"vhd_differencing"},
        "vmdk_create_type": {"vmdk_create_type"},
        "qcow2_virtual_size": {"qcow2_virtual_size", "qcow2_l1_size"},
        "vhd_dynamic_header": {"vhd_dynamic_header"},
    }
    found = inspect(disks.HOSTILE[name], RULES[name][0])
    assert {each.rule for each in found.reasons} == both.get(name, {name})


@pytest.mark.parametrize(("name", "data"), SAFE, ids=[f"{n}-{s[0]}" for n, s in enumerate(SAFE)])
def test_images_without_a_fault_are_safe(name, data):
    assert name in fields.DISK_FORMATS
    for declared in (name, None, ""):
        found = inspect(data, declared)
        assert (found.format, found.code, found.detail, found.message) == (name, None, "", "")
        assert found.is_safe
    wanted = 10 << 20 if name in ("qcow2", "vmdk", "vhd", "vdi") else -(-len(data) // 512) * 512
    assert found.virtual_size == wanted


@pytest.mark.parametrize("name", disks.AMBIGUOUS)
def test_an_image_of_two_formats_is_ambiguous(name):
    for declared in (None, *fields.DISK_FORMATS):
        found = inspect(disks.AMBIGUOUS[name], declared)
        assert (found.code, found.format, found.virtual_size) == ("ambiguous_format", None, None)
        assert len(found.formats) == 2
        assert all(each in found.detail for each in found.formats)


@pytest.mark.parametrize("declared", fields.DISK_FORMATS)
@pytest.mark.parametrize("name", disks.SAFE)
def test_the_declared_format_must_be_that_of_the_data(name, declared):
    found = inspect(disks.SAFE[name][0], declared)
    # What Amazon calls aki, ari and ami has no marks.
    same = name == declared or (name == "raw" and declared in fields.AMAZON_FORMATS)
    assert found.code == (None if same else "format_mismatch")
    assert found.format == name
    assert same or found.detail == (
        f"format_mismatch: the data is {name}, {declared} was declared"
    )


@pytest.mark.parametrize("kind", [*disks.REFUSED, "dmg"])
def test_what_is_declared_raw_must_have_no_marks(kind):
    found = inspect(disks.HOSTILE[f"{kind}_refused"], "raw")
    assert [each.code for each in found.reasons] == ["format_mismatch", "unsafe_image"]


@pytest.mark.parametrize("declared", ["qed", "squashfs"])
def test_formats_of_the_operator_are_known_as_far_as_they_have_marks(declared):
    assert inspect(disks.qcow2(), declared).code == "format_mismatch"
    data = b"hsqs" + bytes(1000)
    assert inspect(data, declared).code == ("format_mismatch" if declared == "qed" else None)


def test_names_of_formats_are_those_of_the_records():
    known = {row.format for row in signatures.SIGNATURES} | {signatures.RAW}
    assert known == {signatures.RAW, *(kind.name for kind in inspector.FORMATS)}
    assert set(fields.DISK_FORMATS) - known == fields.AMAZON_FORMATS


@pytest.mark.parametrize("row", signatures.SIGNATURES, ids=lambda row: f"{row.format}-{row.place}")
def test_each_signature_is_seen(row):
    data = bytearray(100_000)
    start = row.place if row.place >= 0 else len(data) + row.place
    data[start : start + len(row.magic)] = row.magic
    data = bytes(data[: len(data) // 512 * 512 + (row.place < 0) * 512])
    size = len(data)
    if row.place < 0:
        data = bytes(1024) + row.magic.ljust(-row.place, b"\0")
        size = len(data)
    assert inspect(data[:size]).formats == (row.format,)
    assert inspect(data[:size], "raw").code == "format_mismatch"


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (verdict.Limits(), None),
        (verdict.Limits(virtual_size=10 << 20), None),
        (verdict.Limits(virtual_size=(10 << 20) - 1), "too_large"),
        (verdict.Limits(expansion=2), None),
    ],
)
def test_the_virtual_size_has_a_limit(limits, code):
    assert inspect(disks.qcow2(), "qcow2", limits).code == code


@pytest.mark.parametrize(("factor", "code"), [(1 << 13, None), ((1 << 13) - 1, "too_large")])
def test_a_large_disk_may_expand_so_far(factor, code):
    data = disks.qcow2(size=2 << 30, l1_size=4).ljust(4 * disks.CLUSTER, b"\0")
    found = inspect(data, "qcow2", verdict.Limits(expansion=factor))
    assert (found.code, found.virtual_size) == (code, 2 << 30)


def test_a_pebibyte_in_a_few_bytes_is_too_large():
    data = disks.vdi(size=1 << 50)
    assert inspect(data, "vdi").is_safe
    limits = verdict.Limits(virtual_size=200 << 30)
    assert inspect(data, "vdi", limits).code == "too_large"
    assert str(1 << 50) in inspect(data, "vdi", limits).detail


# -- files and streams, and their bounds ---------------------------------------------------------


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 22])
def test_a_stream_is_judged_as_a_file_is(piece):
    for data in disks.EVERY:
        assert stream(data, piece, "raw") == inspect(data, "raw")


def test_a_stream_of_single_bytes_is_judged_as_a_file_is():
    for data in (disks.vdi(), disks.dynamic_vhd(), b""):
        assert stream(data, 1) == inspect(data)


@pytest.mark.parametrize("size", [HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, HEAD_BYTES + 3000])
@pytest.mark.parametrize("over", [0, 1, TAIL_BYTES - 512, TAIL_BYTES, 5000])
def test_marks_at_the_end_are_seen_wherever_the_end_is(size, over):
    data = bytes(size + over + -(size + over) % 512) + disks.vhd_footer()
    assert inspect(data, "vhd").is_safe
    assert stream(data, 100_000, "vhd") == inspect(data, "vhd")


def test_a_stream_leaves_little_in_memory():
    piece = random.Random(1).randbytes(1 << 20)
    seen = inspector.Inspector()
    tracemalloc.start()
    try:
        for _ in range(20):
            seen.update(piece)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not seen.is_reading_head
    assert kept < 64 << 10
    assert peak < 6 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"createtype " * 100_000,
        b"#" * (1 << 20),
        b"# \n" * (1 << 19),
        b"createtype\n\t" * 100_000,
        disks.qcow2(cluster_bits=21, extensions=((1, b""),) * 130_000, end=False),
        disks.vmdk(b"a" * (1 << 20), size=2048),
        disks.vmdk(b'RW 1 SPARSE "' + b" " * (1 << 20), size=2048),
        disks.vmdk(b"createType=" * 95_000, size=2048),
        disks.vmdk(b"\n" * (1 << 20), size=2048),
        disks.vmdk(b"\xff" * (1 << 20), size=2048),
    ],
    ids=range(10),
)
def test_no_image_makes_the_inspector_work_hard(data):
    """It takes no more calls of Python than an ordinary one, and memory for a few copies."""
    steps = 0

    def count(*_):
        nonlocal steps
        steps += 1

    tracemalloc.start()
    sys.setprofile(count)
    try:
        inspect(data)
    finally:
        sys.setprofile(None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert steps < 60_000
    assert peak < 16 << 20


def test_a_file_that_is_cut_meanwhile_is_judged_by_what_was_read():
    class Cut(Counted):
        def seek(self, place, whence=0):
            found = super().seek(place, whence)
            return found if whence != 2 else found + (1 << 30)

    for data in disks.EVERY:
        inspector.inspect_file(Cut(data), "raw")


# -- noise ---------------------------------------------------------------------------------------


@settings(max_examples=100, database=None)
@given(
    data=st.binary(max_size=3000),
    start=st.sampled_from([row.magic for row in signatures.SIGNATURES]),
)
def test_any_bytes_behind_a_mark_have_a_verdict(data, start):
    for whole in (start + data, data + start.ljust(512, b"\0"), bytes(64) + start + data):
        found = inspect(whole, "raw")
        assert found == inspect(whole, "raw") == stream(whole, 700, "raw")
        assert found.code is None or found.code in set(verdict.Refusal)


def test_mutants_have_a_verdict_and_always_the_same():
    chance = random.Random(2024)
    for number in range(MUTANTS):
        data = disks.mutated(chance, chance.choice(disks.EVERY))
        found = inspect(data, "qcow2")
        assert found == stream(data, chance.choice([511, 4096, 1 << 20]), "qcow2"), number
        assert "\n" not in found.detail and found.detail.isprintable()


# -- real images ---------------------------------------------------------------------------------

QEMU = {
    "qcow2": ["-f", "qcow2"],
    "qcow2-0.10": ["-f", "qcow2", "-o", "compat=0.10"],
    "qcow2-small-clusters": ["-f", "qcow2", "-o", "cluster_size=512"],
    "qcow2-large-clusters": ["-f", "qcow2", "-o", "cluster_size=2M,lazy_refcounts=on"],
    "qcow2-zstd": ["-f", "qcow2", "-o", "extended_l2=on,compression_type=zstd"],
    "qcow2-preallocated": ["-f", "qcow2", "-o", "preallocation=metadata"],
    "vmdk": ["-f", "vmdk"],
    "vmdk-stream": ["-f", "vmdk", "-o", "subformat=streamOptimized"],
    "vdi": ["-f", "vdi"],
    "vdi-static": ["-f", "vdi", "-o", "static=on"],
    "vhd": ["-f", "vpc", "-o", "force_size=on"],
    "vhd-fixed": ["-f", "vpc", "-o", "subformat=fixed,force_size=on"],
    "raw": ["-f", "raw"],
}


def qemu(*words, cwd):
    subprocess.run(["qemu-img", *words], cwd=cwd, check=True, capture_output=True)


def judged(path, declared):
    with path.open("rb") as file:
        return inspector.inspect_file(file, declared)


@pytest.mark.peers
@pytest.mark.parametrize("name", QEMU)
def test_images_of_qemu_are_safe(name, tmp_path):
    images.need("qemu-img")
    qemu("create", "-q", *QEMU[name], "disk", "32M", cwd=tmp_path)
    found = judged(tmp_path / "disk", name.partition("-")[0])
    assert (found.detail, found.virtual_size) == ("", 32 << 20)


@pytest.mark.peers
def test_images_of_qemu_with_content_are_safe(tmp_path):
    for name, path in images.make_disks(tmp_path).items():
        # GRUB's disk is one that is a disc as well.
        name = "iso" if name == "raw" else name
        found = judged(path, name)
        assert (found.detail, found.format) == ("", name)


@pytest.mark.peers
def test_an_image_that_was_resized_and_had_snapshots_and_bitmaps_is_safe(tmp_path):
    images.need("qemu-img")
    for words in (
        ["create", "-q", "-f", "qcow2", "disk", "1G"],
        ["resize", "-q", "disk", "500G"],
        ["resize", "-q", "--shrink", "disk", "100G"],
        ["snapshot", "-c", "one", "disk"],
        ["bitmap", "--add", "disk", "two"],
    ):
        qemu(*words, cwd=tmp_path)
    assert judged(tmp_path / "disk", "qcow2").detail.endswith("(qcow2_snapshots)")
    qemu("snapshot", "-d", "one", "disk", cwd=tmp_path)
    assert judged(tmp_path / "disk", "qcow2").is_safe


@pytest.mark.peers
@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["-f", "qcow2", "-b", "base", "-F", "raw"], "qcow2_backing_file"),
        (["-f", "qcow2", "-b", "base", "-F", "raw"], "qcow2_backing_format"),
        (["-f", "qcow2", "-o", "data_file=data"], "qcow2_data_file"),
        (["-f", "qcow2", "-o", "data_file=data,data_file_raw=on"], "qcow2_data_file_name"),
        (
            ["--object", "secret,id=s,data=x", "-f", "qcow2"]
            + ["-o", "encrypt.format=aes,encrypt.key-secret=s"],
            "qcow2_encryption",
        ),
        (["-f", "qcow"], "qcow2_version"),
        (["-f", "vmdk", "-o", "subformat=monolithicFlat"], "vmdk_text_descriptor"),
        (["-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"], "vmdk_text_descriptor"),
        (["-f", "qed"], "qed_refused"),
        (["-f", "vhdx"], "vhdx_refused"),
        (["-f", "parallels"], "ploop_refused"),
    ],
)
def test_what_qemu_makes_of_several_parts_is_refused(words, rule, tmp_path):
    images.need("qemu-img")
    (tmp_path / "base").write_bytes(bytes(1 << 20))
    qemu("create", "-q", *words, "disk", "1M", cwd=tmp_path)
    assert rule in {each.rule for each in judged(tmp_path / "disk", RULES[rule][0]).reasons}


@pytest.mark.peers
def test_what_is_raw_here_is_raw_for_qemu_and_what_is_safe_names_no_file(tmp_path):
    images.need("qemu-img")
    chance = random.Random(7)
    seen = set()
    path = tmp_path / "disk"
    for _ in range(MUTANTS // 3):
        data = disks.mutated(chance, chance.choice(disks.EVERY))
        path.write_bytes(data)
        command = ["qemu-img", "info", "--output=json", "disk"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
        is_raw = inspect(data, "raw").is_safe
        if done.returncode:
            # It took the data for another format than raw, which can be opened always.
            assert not is_raw, data[:600]
            continue
        info = json.loads(done.stdout.decode(errors="replace"))
        name = {"vpc": "vhd"}.get(info["format"], info["format"])
        assert name == "raw" or not is_raw, data[:600]
        if inspect(data, name).is_safe:
            seen.add(name)
            assert "backing-filename" not in info and not info.get("encrypted")
            assert "data-file" not in info.get("format-specific", {}).get("data", {})
    assert {"raw", "qcow2"} <= seen


@pytest.mark.peers
@pytest.mark.parametrize(
    "path", [images.GRUB_CDROM, images.GRUB_DISK, images.IPXE_CDROM], ids=lambda p: p.name
)
def test_real_discs_are_iso(path):
    images.need(path)
    assert judged(path, "iso").is_safe
    assert judged(path, "raw").code == "format_mismatch"


@pytest.mark.peers
@pytest.mark.parametrize("path", [images.KERNEL, images.RAMDISK], ids=str)
def test_real_disks_and_kernels_are_raw(path):
    images.need(path)
    assert judged(path, "raw").is_safe


def test_the_package_needs_nothing_of_the_service():
    package = pathlib.Path(inspector.__file__).parent
    for path in package.glob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        ours = {
            line.split()[1] for line in lines if line.startswith(("from glance", "import glance"))
        }
        assert ours <= {"glance.inspect", "glance.inspect.signatures", "glance.inspect.verdict"}

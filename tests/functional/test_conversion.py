"""Conversions by a real qemu-img in a real sandbox: every pair, limits, hostile images."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from glance.common import exception
from glance.conversion import engine, errors, formats, options, qemu, sandbox

from support import conversions, daemons, faults, images
from support.conversions import MIB, Workshop

pytestmark = pytest.mark.peers

OTHERS = [name for name in formats.FORMATS if name != "raw"]


@pytest.fixture(autouse=True, scope="module")
def _programs():
    images.need("qemu-img", "bwrap", "prlimit")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """The sandbox, which one look at the start is enough for."""
    return Workshop(tmp_path_factory.mktemp("box")).box


@pytest.fixture
def shop(tmp_path, box):
    made = Workshop(tmp_path, box=box)
    yield made
    assert made.left() == []
    assert conversions.working_in(made.work) == set()


@pytest.fixture
def blind_shop(tmp_path, box):
    """A converter without an inspection."""
    made = Workshop(tmp_path, conversions.uninspected, box=box)
    yield made
    assert made.left() == []


@pytest.fixture(scope="module")
def disk():
    """A bootable disk: GRUB's, without the volume descriptors by which it is a CD, too."""
    images.need(images.GRUB_DISK)
    data = images.GRUB_DISK.read_bytes()
    return data[:32768] + bytes(8192) + data[40960:]


def info(path):
    said = conversions.run("qemu-img", "info", "--output=json", path)
    return json.loads(said)


# -- every pair ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_a_disk_comes_back_as_it_was(shop, disk, name):
    there = shop.convert(shop.put(disk), "raw", name)
    assert there.virtual_size == len(disk)
    assert there.bytes_in == len(disk)
    assert there.bytes_out == len(shop.result())
    assert info(shop.path_of(shop.stored[-1]))["format"] == formats.FORMATS[name].driver
    shop.convert(shop.stored[-1], name, "raw")
    assert shop.result() == disk


@pytest.mark.parametrize("first", OTHERS)
@pytest.mark.parametrize("second", OTHERS)
def test_each_structure_becomes_each_other(shop, first, second):
    data = conversions.noise(700_000).ljust(3 * MIB // 2, b"\0")
    (shop.directory / "raw").write_bytes(data)
    row = formats.FORMATS[first]
    made = shop.directory / "made"
    options_of = ("-o", row.options) if row.options else ()
    convert = ("qemu-img", "convert", "-f", "raw", "-O", row.driver, *options_of)
    conversions.run(*convert, shop.directory / "raw", made)
    shop.convert(shop.put(made.read_bytes()), first, second)
    again = ("qemu-img", "convert", "-f", formats.FORMATS[second].driver, "-O", "raw")
    conversions.run(*again, shop.path_of(shop.stored[-1]), shop.directory / "back")
    assert (shop.directory / "back").read_bytes() == data


def test_raw_may_be_written_anew(shop, disk):
    shop.convert(shop.put(disk), "raw", "raw")
    assert shop.result() == disk


@pytest.mark.parametrize("size", [512, 66_060_800, 3 * MIB + 512])
def test_the_disk_of_a_vhd_has_exactly_its_size(shop, size):
    source = shop.put(b"\0" * 512)
    with shop.path_of(source).open("r+b") as file:
        file.truncate(size)
    source = source._replace(size=size, checksum=None)
    result = shop.convert(source, "raw", "vhd", checksum=None)
    assert result.virtual_size == size
    assert info(shop.path_of(shop.stored[-1]))["virtual-size"] == size


def test_a_disk_is_filled_up_to_whole_sectors(shop):
    result = shop.convert(shop.put(b"x" * 1000), "raw", "vdi")
    assert result.virtual_size == 1024
    shop.convert(shop.stored[-1], "vdi", "raw")
    assert shop.result() == (b"x" * 1000).ljust(1024, b"\0")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_an_image_without_a_byte_is_settled_cleanly(shop, name):
    code = shop.code_of(shop.put(b""), name, "qcow2")
    assert code == (None if name == "raw" else "format_mismatch")


def test_the_options_of_outputs(shop, disk):
    shop.convert(shop.put(disk), "raw", "qcow2")
    details = info(shop.path_of(shop.stored[-1]))["format-specific"]["data"]
    assert details["compat"] == "1.1"
    plain = len(shop.result())
    shop.convert(shop.put(disk), "raw", "qcow2", compress=True)
    assert len(shop.result()) < plain * 0.8
    shop.convert(shop.put(disk), "raw", "vmdk")
    details = info(shop.path_of(shop.stored[-1]))["format-specific"]["data"]
    assert details["create-type"] == "streamOptimized"


def test_both_kinds_of_vmdk_are_sources(shop, disk, tmp_path):
    (tmp_path / "disk").write_bytes(disk)
    for kind in ("monolithicSparse", "streamOptimized"):
        made = tmp_path / kind
        convert = ("qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={kind}", "-f", "raw")
        conversions.run(*convert, tmp_path / "disk", made)
        shop.convert(shop.put(made.read_bytes()), "vmdk", "raw")
        assert shop.result() == disk


def test_a_fixed_vhd_and_a_static_vdi_are_sources(shop, disk, tmp_path):
    (tmp_path / "disk").write_bytes(disk)
    for name, driver, option in (
        ("vhd", "vpc", "subformat=fixed,force_size=on"),
        ("vdi", "vdi", "static=on"),
    ):
        made = tmp_path / name
        convert = ("qemu-img", "convert", "-f", "raw", "-O", driver, "-o", option)
        conversions.run(*convert, tmp_path / "disk", made)
        shop.convert(shop.put(made.read_bytes()), name, "raw")
        assert shop.result() == disk


def test_a_result_can_be_compared_before_it_is_stored(tmp_path, disk):
    shop = Workshop(tmp_path, conversion_compare=True)
    shop.convert(shop.put(disk), "raw", "qcow2")
    assert shop.left() == []


def test_a_comparison_finds_what_differs(shop, tmp_path, disk):
    place = tmp_path / "pair"
    place.mkdir(mode=0o700)
    (place / "source").write_bytes(disk)
    (place / "target").write_bytes(disk[:-1] + b"!")
    tool = qemu.Tool(shop.conf, shop.box, str(place), lambda: None)
    raw = formats.of("raw")
    with pytest.raises(errors.ConversionError) as caught:
        tool.compare(raw, raw, len(disk))
    assert caught.value.code is errors.Code.CONVERSION_FAILED


def test_holes_stay_holes(shop):
    """What is zero throughout takes next to no room, neither here nor in the result."""
    source = shop.put(b"begin")
    with shop.path_of(source).open("r+b") as file:
        file.truncate(256 * MIB)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    seen = []

    class Looking(engine.Observer):
        def began(self, phase):
            for path in shop.work.rglob("source"):
                seen.append(path.stat().st_blocks * 512)

    shop.convert(
        source._replace(size=256 * MIB), "raw", "qcow2", checksum=None, observer=Looking()
    )
    assert max(seen) < 2 * MIB
    assert len(shop.result()) < 2 * MIB


# -- progress ------------------------------------------------------------------------------------


class Recorder(engine.Observer):
    """Notes what it is told; `at` is called in turn with each phase that begins."""

    def __init__(self, at=lambda phase: None, on=lambda phase, percent: None):
        self.phases, self.percents = [], {}
        self._at, self._on = at, on

    def began(self, phase):
        self.phases.append(phase)
        self._at(phase)

    def progressed(self, percent, count):
        self.percents.setdefault(self.phases[-1], []).append((percent, count))
        self._on(self.phases[-1], percent)


def test_phases_and_progress(shop, disk, monkeypatch):
    monkeypatch.setattr(engine, "REPORT_INTERVAL", 0)
    told = Recorder()
    result = shop.convert(shop.put(disk * 20), "raw", "qcow2", observer=told)
    assert told.phases == list(engine.Phase)
    for phase in (engine.Phase.FETCHING, engine.Phase.CONVERTING, engine.Phase.UPLOADING):
        percents = [percent for percent, _ in told.percents[phase]]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        assert all(0 <= percent <= 100 for percent in percents)
    assert len(told.percents[engine.Phase.CONVERTING]) > 10
    assert told.percents[engine.Phase.CONVERTING][0] == (0, None)
    assert told.percents[engine.Phase.FETCHING][-1] == (100, len(disk) * 20)
    assert told.percents[engine.Phase.UPLOADING][-1] == (100, result.bytes_out)
    assert list(result.seconds) == list(engine.Phase)
    assert result.cpu > 0


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "size"), [("conversion_address_space", 40), ("conversion_info_address_space", 20)]
)
def test_too_little_memory(tmp_path, disk, option, size, monkeypatch):
    monkeypatch.setattr(options, "LEAST_ADDRESS_SPACE", 0)
    shop = Workshop(tmp_path, **{option: size * MIB})
    assert shop.code_of(shop.put(disk), "raw", "qcow2", compress=True) == "memory_limit"
    assert shop.left() == []


def test_the_least_memory_is_enough_for_a_small_disk(tmp_path, disk):
    least = options.LEAST_ADDRESS_SPACE
    shop = Workshop(tmp_path, conversion_address_space=least, conversion_info_address_space=least)
    shop.convert(shop.put(disk), "raw", "qcow2", compress=True)
    assert shop.left() == []


@pytest.fixture(scope="module")
def long_work():
    """What keeps the tool busy for some seconds."""
    return conversions.noise(MIB) * 160


def test_too_much_processor_time(tmp_path, long_work):
    shop = Workshop(tmp_path, conversion_cpu_base=1, conversion_cpu_per_gib=0)
    code = shop.code_of(shop.put(long_work), "raw", "qcow2", compress=True)
    assert code == "cpu_limit"
    assert shop.left() == []


def test_too_long(tmp_path, long_work):
    shop = Workshop(tmp_path, conversion_wall_timeout=1)
    assert shop.code_of(shop.put(long_work), "raw", "qcow2", compress=True) == "timeout"
    assert shop.left() == []
    assert conversions.working_in(shop.work) == set()


def test_too_large_a_file(shop, disk, monkeypatch):
    monkeypatch.setattr(qemu, "_SLACK", -len(disk))
    assert shop.code_of(shop.put(disk), "raw", "vdi") == "too_large"


def test_more_than_the_largest_input(tmp_path, disk):
    shop = Workshop(tmp_path, conversion_max_input_size=len(disk) - 1)
    source = shop.put(disk)
    assert shop.code_of(source, "raw", "qcow2") == "too_large"
    # The record may not say how large it is.
    assert shop.code_of(source, "raw", "qcow2", size=None) == "too_large"
    assert shop.left() == []


def test_too_large_a_disk(tmp_path):
    shop = Workshop(tmp_path)
    for size, code in (("1P", "too_large"), ("201G", "too_large"), ("20G", "too_large")):
        path = tmp_path / "large"
        conversions.run("qemu-img", "create", "-q", "-f", "qcow2", path, size)
        assert shop.code_of(shop.put(path.read_bytes()), "qcow2", "raw") == code
    assert shop.left() == []


def test_a_small_disk_may_be_any_number_of_times_larger_than_its_image(shop, tmp_path):
    conversions.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "small", "900M")
    source = shop.put((tmp_path / "small").read_bytes())
    assert shop.convert(source, "qcow2", "vmdk").virtual_size == 900 * MIB


@pytest.mark.parametrize("phase", [engine.Phase.FETCHING, engine.Phase.CONVERTING])
def test_the_disk_is_full(tmp_path, disk, phase, monkeypatch):
    monkeypatch.setattr(engine, "REPORT_INTERVAL", 0)
    with faults.small_filesystem(tmp_path / "work", 16 * MIB) as small:
        small.chmod(0o700)
        shop = Workshop(tmp_path)
        filler = small / "filler"

        def fill(now, percent):
            # After the look at the free space, of course.
            if now is phase and not filler.exists():
                with contextlib.suppress(OSError), filler.open("wb") as file:
                    while file.write(b"x" * 65536):
                        file.flush()

        told = Recorder(on=fill)
        assert shop.code_of(shop.put(disk), "raw", "vdi", observer=told) == "no_space"
        assert filler.exists()
        filler.unlink()
        assert shop.left() == []
        assert shop.code_of(shop.put(disk), "raw", "vdi") is None


def test_a_job_that_would_not_fit_waits(tmp_path, disk):
    with faults.small_filesystem(tmp_path / "work", 4 * MIB) as small:
        small.chmod(0o700)
        shop = Workshop(tmp_path)
        assert shop.code_of(shop.put(disk), "raw", "vdi") == "no_space"
        assert shop.left() == []


# -- hostile images ------------------------------------------------------------------------------

SECRET = b"the canary of another tenant, which nobody may see... "


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "elsewhere" / "canary"
    path.parent.mkdir()
    path.write_bytes((SECRET * (MIB // len(SECRET) + 1))[:MIB])
    return path


def hostile(kind, path, canary):
    """Make an image that refers to the canary; return its format."""
    if kind == "backing file":
        conversions.qcow2_with_backing(path, str(canary))
    elif kind == "relative backing file":
        conversions.qcow2_with_backing(path, f"../../{canary.parent.name}/{canary.name}")
    elif kind == "backing file by json":
        inner = {"driver": "raw", "file": {"driver": "file", "filename": str(canary)}}
        conversions.qcow2_with_backing(path, f"json:{json.dumps(inner)}")
    elif kind == "backing file by file:":
        conversions.qcow2_with_backing(path, f"file:{canary}")
    elif kind == "backing file by vvfat":
        conversions.qcow2_with_backing(path, f"fat:{canary.parent}")
    elif kind == "backing file by way of proc":
        conversions.qcow2_with_backing(path, f"/proc/1/root{canary}")
    elif kind == "data file":
        conversions.qcow2_with_data_file(path, canary)
    elif kind == "flat extent":
        conversions.vmdk_descriptor(path, str(canary))
        return "vmdk"
    elif kind == "relative flat extent":
        conversions.vmdk_descriptor(path, f"../../{canary.parent.name}/{canary.name}")
        return "vmdk"
    elif kind == "sparse extent":
        conversions.vmdk_descriptor(path, str(canary), "twoGbMaxExtentSparse")
        return "vmdk"
    elif kind == "qed":
        conversions.run("qemu-img", "create", "-q", "-f", "qed", path, MIB)
        conversions.run(
            *("qemu-img", "rebase", "-u", "-f", "qed", "-F", "raw", "-b", canary, path)
        )
        return "raw"
    return "qcow2"


HOSTILE = [
    "backing file",
    "relative backing file",
    "backing file by json",
    "backing file by file:",
    "backing file by vvfat",
    "backing file by way of proc",
    "data file",
    "flat extent",
    "relative flat extent",
    "sparse extent",
    "qed",
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_canary_is_not_in_what_an_uninspected_image_becomes(
    blind_shop, tmp_path, canary, kind
):
    path = tmp_path / "hostile"
    disk_format = hostile(kind, path, canary)
    source = blind_shop.put(path.read_bytes())
    code = blind_shop.code_of(source, disk_format, "raw" if disk_format != "raw" else "qcow2")
    assert code is not None or SECRET not in blind_shop.result()
    if kind.startswith(("backing", "data")):
        assert code == "unsafe_image", "the tool itself says so"
    elif kind != "qed":
        assert code in ("unsafe_image", "conversion_failed"), "it looks for the other file"


def alone(blind_shop, tmp_path, path, row):
    """Let the tool convert, with nothing before it; return the result."""
    place = tmp_path / "work" / "alone"
    place.mkdir(mode=0o700)
    (place / "source").write_bytes(path.read_bytes())
    (place / "target").touch()
    tool = qemu.Tool(blind_shop.conf, blind_shop.box, str(place), lambda: None)
    with contextlib.suppress(errors.ConversionError):
        tool.convert(row, formats.of("raw"), MIB)
    result = (place / "target").read_bytes()
    for each in place.iterdir():
        each.unlink()
    place.rmdir()
    return result


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_sandbox_alone_keeps_the_canary(blind_shop, tmp_path, canary, kind):
    """Neither the inspection nor what the tool says of the image stands before it."""
    path = tmp_path / "hostile"
    row = formats.of(hostile(kind, path, canary))
    assert SECRET not in alone(blind_shop, tmp_path, path, row)


@pytest.mark.parametrize("kind", ["data file", "flat extent"])
def test_without_all_of_it_the_canary_would_sing(tmp_path, canary, kind):
    """What the tests before this one show is not that the images are harmless."""
    blind_shop = Workshop(tmp_path, conversions.uninspected, conversion_sandbox="none")
    path = tmp_path / "hostile"
    row = formats.of(hostile(kind, path, canary))
    assert SECRET in alone(blind_shop, tmp_path, path, row)


def test_the_files_of_other_jobs_are_out_of_reach(blind_shop, tmp_path, canary):
    other = blind_shop.work / "3d6b8f8e-1f0d-4b52-9e6a-0f9b5a0c8f11"
    other.mkdir(mode=0o700)
    canary.rename(other / "source")
    path = tmp_path / "hostile"
    row = formats.of(hostile("flat extent", path, other / "source"))
    assert SECRET not in alone(blind_shop, tmp_path, path, row)
    assert blind_shop.work_dir.remove_leftovers() == [other.name]


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vdi", "vhd"])
@pytest.mark.parametrize("data", [b"x" * 40, b"conectix" * 64, b"\0" * 4096], ids=len)
def test_what_is_no_image_fails(blind_shop, name, data):
    code = blind_shop.code_of(blind_shop.put(data), name, "raw")
    assert code in ("conversion_failed", "format_mismatch", "too_large", "unsafe_image")


def test_snapshots_and_other_kinds_of_vmdk_are_refused_by_the_second_opinion(blind_shop, tmp_path):
    path = tmp_path / "image"
    conversions.run("qemu-img", "create", "-q", "-f", "qcow2", path, MIB)
    conversions.run("qemu-img", "snapshot", "-c", "one", path)
    assert blind_shop.code_of(blind_shop.put(path.read_bytes()), "qcow2", "raw") == "unsafe_image"
    sandboxed = Workshop(
        tmp_path / "strict", conversions.uninspected, conversion_vmdk_subformats="monolithicSparse"
    )
    conversions.run(
        *("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized"),
        *(path, MIB),
    )
    source = sandboxed.put(path.read_bytes())
    assert sandboxed.code_of(source, "vmdk", "raw") == "unsafe_image"


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_inspection_refuses_hostile_images(shop, tmp_path, canary, kind):
    path = tmp_path / "hostile"
    disk_format = hostile(kind, path, canary)
    code = shop.code_of(shop.put(path.read_bytes()), disk_format, "vdi")
    assert code == ("format_mismatch" if kind == "qed" else "unsafe_image")


def test_a_disk_that_is_a_cd_too_is_not_converted(shop):
    images.need(images.GRUB_DISK)
    source = shop.put(images.GRUB_DISK.read_bytes())
    assert shop.code_of(source, "raw", "vdi") == "format_mismatch"


def test_a_label_must_be_true(shop, tmp_path, disk):
    path = tmp_path / "image"
    conversions.run("qemu-img", "create", "-q", "-f", "qcow2", path, MIB)
    qcow2 = path.read_bytes()
    assert shop.code_of(shop.put(qcow2), "raw", "vdi") == "format_mismatch"
    assert shop.code_of(shop.put(disk), "qcow2", "vdi") == "format_mismatch"
    both = qcow2.ljust(40_000, b"\0")[:32769] + b"CD001" + bytes(2000)
    assert shop.code_of(shop.put(both), "qcow2", "raw") == "ambiguous_format"


def test_a_disk_that_begins_like_an_image_does_not_become_a_raw_one(shop, tmp_path):
    hidden = tmp_path / "hidden"
    conversions.run("qemu-img", "create", "-q", "-f", "qcow2", hidden, MIB)
    (tmp_path / "guest").write_bytes(hidden.read_bytes().ljust(MIB, b"\0"))
    outer = tmp_path / "outer"
    conversions.run("qemu-img", "convert", "-f", "raw", "-O", "vdi", tmp_path / "guest", outer)
    source = shop.put(outer.read_bytes())
    assert shop.code_of(source, "vdi", "raw") == "nested_format"
    assert shop.code_of(source, "vdi", "qcow2") is None


# -- the sandbox ---------------------------------------------------------------------------------


@pytest.fixture
def look(shop, tmp_path, monkeypatch):
    """Run a line of a shell in the place of the tool; return what it says."""

    def run(line, **more):
        place = shop.work / "look"
        place.mkdir(mode=0o700, exist_ok=True)
        limits = sandbox.RunLimits(1024 * MIB, 7, 5 * MIB)
        outer = list(shop.box._outer)
        for path in ("/usr/bin", "/bin"):
            outer += ["--ro-bind", path, path]
        monkeypatch.setattr(shop.box, "_outer", tuple(outer))
        prlimit, count, _ = shop.box._inner
        monkeypatch.setattr(shop.box, "_inner", (prlimit, count, "/bin/sh"))
        command = shop.box.command(str(place), limits, ("-c", line))
        done = subprocess.run(
            command, env=shop.box.environment(str(place)), capture_output=True, text=True
        )
        for each in place.iterdir():
            each.unlink()
        place.rmdir()
        return done.stdout

    return run


def test_what_is_in_the_sandbox(look, tmp_path):
    assert look("ls /").split() == ["bin", "dev", "etc", "job", "lib", "lib64", "proc", "usr"]
    assert look("ls /dev /etc").split() == ["/dev:", "null", "zero", "/etc:", "ld.so.cache"]
    assert look("pwd; ls -A").split() == ["/job"]


def test_nothing_can_be_written_but_the_directory_of_the_job(look):
    line = "for d in / /usr /usr/lib /dev /etc /proc /job; do touch $d/x && echo $d; done"
    assert look(line).split() == ["/job"]


def test_the_environment_of_the_tool(look):
    found = dict(line.split("=", 1) for line in look("/usr/bin/env").splitlines())
    # The shell and bwrap set these themselves.
    for name in ("PWD", "_", "SHLVL", "OLDPWD"):
        found.pop(name, None)
    assert found == {
        "LC_ALL": "C",
        "PATH": "/usr/bin:/bin",
        "TMPDIR": "/job",
        "MALLOC_ARENA_MAX": "2",
    }


def test_the_limits_of_the_tool(look):
    said = look("cat /proc/self/limits")
    found = {line[:26].strip(): line[26:].split()[:2] for line in said.splitlines()[1:]}
    assert found["Max address space"] == [str(1024 * MIB)] * 2
    assert found["Max cpu time"] == ["7", "12"]
    assert found["Max file size"] == [str(5 * MIB)] * 2
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max open files"] == ["64", "64"]
    assert found["Max processes"] == ["64", "64"]
    status = dict(line.split(":\t", 1) for line in look("cat /proc/self/status").splitlines())
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    # SIGPIPE and SIGXFSZ, which Python ignores.
    assert int(status["SigIgn"], 16) == 0
    assert int(status["SigBlk"], 16) == 0


def test_no_network_and_no_other_process_is_in_the_sandbox(look):
    devices = look("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    pids = look("cd /proc; ls -d [0-9]*").split()
    assert len(pids) <= 4
    here = {name: os.readlink(f"/proc/self/ns/{name}") for name in sandbox_namespaces()}
    inside = look("for n in user mnt pid ipc uts net; do /usr/bin/readlink /proc/self/ns/$n; done")
    assert not set(inside.split()) & set(here.values())
    assert len(inside.split()) == 6


def sandbox_namespaces():
    return ("user", "mnt", "pid", "ipc", "uts", "net")


def test_a_converter_without_bwrap_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_PATH", str(tmp_path))
    with pytest.raises(exception.ConfigError, match="install the package bubblewrap") as caught:
        Workshop(tmp_path)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    # Nobody is left without a way.
    Workshop(tmp_path, conversion_sandbox="none")


def test_a_converter_on_a_host_without_namespaces_says_what_to_do(tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sandbox, "_PATH", f"{fake.parent}:{sandbox._PATH}")
    with pytest.raises(exception.ConfigError, match="unprivileged user namespaces") as caught:
        Workshop(tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_sandbox_a_conversion_works_and_the_log_warns(tmp_path, disk, caplog):
    shop = Workshop(tmp_path, conversion_sandbox="none")
    assert "without a sandbox" in caplog.text
    shop.convert(shop.put(disk), "raw", "qcow2")
    shop.convert(shop.stored[-1], "qcow2", "raw")
    assert shop.result() == disk
    assert shop.left() == []


# -- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", list(engine.Phase), ids=lambda phase: phase.value)
def test_an_end_in_each_phase(tmp_path, box, long_work, phase, monkeypatch):
    how = "interrupt" if phase is engine.Phase.VERIFYING else "cancel"
    monkeypatch.setattr(engine, "REPORT_INTERVAL", 0)
    stop = engine.Stop()
    wanted = []

    def at(now, percent=0):
        # In the middle of the phase, where it has one; the tool runs then.
        middle = 1 if now is engine.Phase.CONVERTING else 0
        if now is phase and percent >= middle:
            if now is engine.Phase.CONVERTING:
                assert conversions.working_in(shop.work)
            wanted.append(now)
            getattr(stop, how)()

    def began(now):
        if now in (engine.Phase.INSPECTING, engine.Phase.VERIFYING):
            at(now)

    shop = Workshop(tmp_path, box=box)
    kind = errors.Cancelled if how == "cancel" else errors.ConversionError
    source = shop.put(long_work[: 40 * MIB])
    with pytest.raises(kind) as caught:
        shop.convert(
            *(source, "raw", "qcow2"),
            compress=phase is engine.Phase.CONVERTING,
            stop=stop,
            observer=Recorder(began, at),
        )
    assert wanted
    assert getattr(caught.value, "code", errors.Code.INTERRUPTED) is errors.Code.INTERRUPTED
    assert shop.left() == []
    assert conversions.working_in(shop.work) == set()


CHAOS = daemons.ROOT / "tests" / "chaos" / "conversions.py"


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_an_end_of_the_process_in_each_phase(tmp_path, signal):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", CHAOS, f"--signal={signal}", "--times=1"]
        + [f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        env=daemons.environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"5 times SIG{signal}" in done.stdout
    assert list(tmp_path.iterdir()) == []

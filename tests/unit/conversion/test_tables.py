"""The tables of conversions: formats, codes, options."""

import re

import pytest

from glance.common import config, exception
from glance.conversion import errors, formats, options
from glance.image import fields
from glance.inspect import inspector

from support import pages

#: What the options are unless the operator sets them.
DEFAULTS = {
    "conversion_enabled": False,
    "conversion_workers": 2,
    "conversion_max_jobs_per_owner": 2,
    "conversion_max_jobs": 100,
    "conversion_work_dir": "/var/lib/glance/conversion/",
    "conversion_qemu_img": "/usr/bin/qemu-img",
    "conversion_min_qemu_version": "7.2",
    "conversion_max_input_size": 107_374_182_400,
    "conversion_max_virtual_size": 214_748_364_800,
    "conversion_max_expansion": 50,
    "conversion_info_address_space": 1 << 30,
    "conversion_info_cpu": 30,
    "conversion_address_space": 2 << 30,
    "conversion_cpu_base": 60,
    "conversion_cpu_per_gib": 60,
    "conversion_wall_timeout": 7200,
    "conversion_disk_reserve": 10 << 30,
    "conversion_sandbox": "bwrap",
    "conversion_vmdk_subformats": ("streamOptimized", "monolithicSparse"),
    "conversion_compare": False,
    "conversion_shutdown_grace": 30,
    "conversion_job_retention": 604_800,
    "conversion_dropped_properties": ("kernel_id", "ramdisk_id"),
}


def test_the_defaults_of_the_options():
    conf = config.Conf({})
    assert {name: conf[name] for name in DEFAULTS} == DEFAULTS
    declared = [*config.GROUPS["conversions"], *config.GROUPS["conversion"]]
    assert set(DEFAULTS) == {option.name for option in declared}


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("conversion_workers", "0", "at least 1"),
        ("conversion_work_dir", "conversion", "use an absolute path"),
        ("conversion_qemu_img", "qemu-img", "use an absolute path"),
        ("conversion_min_qemu_version", "seven", "such as 7.2"),
        ("conversion_min_qemu_version", "7.2\u0663", "such as 7.2"),
        ("conversion_min_qemu_version", "7." * 9 + "2", "such as 7.2"),
        ("conversion_max_input_size", "0", "at least 1"),
        ("conversion_max_virtual_size", "-1", "at least 1"),
        ("conversion_max_expansion", "0", "at least 1"),
        ("conversion_max_expansion", "many", "whole number"),
        ("conversion_info_address_space", "1000000", "at least 268435456"),
        ("conversion_address_space", "2GiB", "whole number"),
        ("conversion_cpu_per_gib", "-1", "at least 0"),
        ("conversion_wall_timeout", "0", "at least 1"),
        ("conversion_sandbox", "docker", "bwrap, none"),
        ("conversion_vmdk_subformats", "monolithicFlat", "streamOptimized, monolithicSparse"),
        ("conversion_vmdk_subformats", "streamOptimized vmfs", "use some of"),
    ],
)
def test_options_have_bounds(name, value, hint):
    with pytest.raises(exception.ConfigError, match=hint):
        config.Conf({name: value}).check()


def test_kinds_of_vmdk_are_known_in_any_case():
    conf = config.Conf({"conversion_vmdk_subformats": "STREAMOPTIMIZED, streamOptimized"})
    assert conf.conversion_vmdk_subformats == ("streamOptimized",)
    assert DEFAULTS["conversion_vmdk_subformats"] == options.VMDK_SUBFORMATS


# -- formats -------------------------------------------------------------------------------------


def test_the_formats_are_formats_of_images_that_are_inspected():
    assert set(formats.FORMATS) < set(fields.DISK_FORMATS)
    inspected = {each.name for each in inspector.FORMATS} | {"raw"}
    assert set(formats.FORMATS) <= inspected
    assert list(formats.FORMATS) == ["raw", "qcow2", "vmdk", "vdi", "vhd"]


def test_what_the_tool_is_told():
    told = {name: (row.driver, row.options) for name, row in formats.FORMATS.items()}
    assert told == {
        "raw": ("raw", ""),
        "qcow2": ("qcow2", "compat=1.1"),
        "vmdk": ("vmdk", "subformat=streamOptimized"),
        "vdi": ("vdi", ""),
        "vhd": ("vpc", "subformat=dynamic,force_size=on"),
    }


@pytest.mark.parametrize("source", formats.FORMATS)
@pytest.mark.parametrize("target", formats.FORMATS)
def test_every_pair_but_a_format_with_itself(source, target):
    for container in (None, "", "bare"):
        formats.check_pair(source, container, target, force=source == target)
    if source == target:
        with pytest.raises(exception.Invalid, match=f"has the disk_format {source} already"):
            formats.check_pair(source, "bare", target)
    compressed = pytest.raises(exception.Invalid, match="compress is for the disk_format qcow2")
    if target == "qcow2":
        formats.check_pair(source, "bare", target, compress=True)
    else:
        with compressed:
            formats.check_pair(source, "bare", target, compress=True)


@pytest.mark.parametrize("name", ["iso", "aki", "ari", "ami"])
def test_formats_that_are_not_converted(name):
    for pair in ((name, "raw"), ("raw", name)):
        with pytest.raises(exception.Invalid, match=f"{name} is not converted; use one of raw"):
            formats.check_pair(pair[0], "bare", pair[1])


@pytest.mark.parametrize("name", [None, "", "vpc", "RAW", "raw ", "../raw", "q\u00e7ow2", "\0"])
def test_what_is_no_format_is_not_repeated(name):
    with pytest.raises(exception.Invalid, match="^That is not converted"):
        formats.check_pair("raw", "bare", name)
    with pytest.raises(exception.Invalid, match="^That is not converted"):
        formats.check_pair(name, "bare", "raw")


@pytest.mark.parametrize("container", ["ovf", "ami", "aki", "ari", "BARE", "\u00fc"])
def test_only_bare_images_are_converted(container):
    with pytest.raises(exception.Invalid, match="container_format is bare"):
        formats.check_pair("raw", container, "qcow2")


# -- codes ---------------------------------------------------------------------------------------


def test_the_codes():
    may_pass = {code.label for code in errors.Code if code.may_pass}
    assert may_pass == {
        *("no_space", "store_unavailable", "store_full", "host_failed", "interrupted"),
    }
    assert {code.label for code in errors.Code} - may_pass == {
        *("source_gone", "source_corrupt", "ambiguous_format", "format_mismatch"),
        *("unsafe_image", "nested_format", "too_large", "unsupported_format", "cpu_limit"),
        *("memory_limit", "timeout", "conversion_failed", "worker_lost", "quota_exceeded"),
    }


@pytest.mark.parametrize("code", list(errors.Code), ids=lambda code: code.label)
def test_the_text_of_a_code_is_a_sentence(code):
    assert code.text[0].isupper()
    assert code.text.endswith(".")
    assert code.name.lower() == code.label


def test_the_detail_is_for_the_log_alone():
    err = errors.ConversionError(errors.Code.UNSAFE_IMAGE, "it names /etc/shadow")
    assert "shadow" not in str(err)
    assert "shadow" in exception.described(err)


def test_the_page_has_every_code_and_every_format():
    text = pages.text("conversion")
    rows = dict(re.findall(r"^``(\w+)``  .*?(?:  (no|yes))$", text, re.MULTILINE))
    wanted = {code.label: "yes" if code.may_pass else "no" for code in errors.Code}
    assert rows == wanted
    assert re.findall(r"^``(\w+)``  ", text, re.MULTILINE)[: len(formats.FORMATS)] == list(
        formats.FORMATS
    )

"""Names of files for images, and the header that proposes them."""

import pathlib
import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.image import filenames


@pytest.mark.parametrize(
    ("name", "disk_format", "expected"),
    [
        ("debian-12", "qcow2", "debian-12.qcow2"),
        ("debian-12.qcow2", "qcow2", "debian-12.qcow2"),
        ("debian-12.QCOW2", "qcow2", "debian-12.qcow2"),
        ("jammy-amd64.img", "qcow2", "jammy-amd64.img"),
        ("Debian 12.5", "iso", "Debian 12.5.iso"),
        ("kernel", "aki", "kernel.aki"),
        ("no format", None, "no format"),
        ("strange", "../x", "strange.x"),
        (None, "raw", "image-5.raw"),
        ("", None, "image-5"),
        (".qcow2", "qcow2", "qcow2.qcow2"),
        ("...", "raw", "image-5.raw"),
        ("../../etc/passwd", None, "_.._etc_passwd"),
        ("/", "raw", "image-5.raw"),
        ("a/b\\c:d", "raw", "a_b_c_d.raw"),
        (".bashrc", "raw", "bashrc.raw"),
        ("-rf", "raw", "_-rf.raw"),
        ("con", "iso", "_con.iso"),
        ("NUL.tar", "iso", "_NUL.tar.iso"),
        ("a\r\nb\x00c\x7f", "raw", "abc.raw"),
        ("a \u2028 b\u00a0c", "raw", "a b c.raw"),
        ("gnp\u202e.exe", "raw", "gnp.exe.raw"),
        ("\u200b\ufeff", "raw", "image-5.raw"),
        ("\ud800", "raw", "image-5.raw"),
        ("B\u00fccher", "iso", "B\u00fccher.iso"),
        ("\u6771\u4eac", "iso", "\u6771\u4eac.iso"),
        ("x" * 255, "qcow2", "x" * 200 + ".qcow2"),
        ("\u6771" * 255, "qcow2", "\u6771" * 66 + ".qcow2"),
    ],
)
def test_the_name_of_an_image_with_its_format_is_a_file(name, disk_format, expected):
    assert filenames.file_name(5, name, disk_format) == expected


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("debian-12.qcow2", 'attachment; filename="debian-12.qcow2"'),
        ("Debian 12.iso", 'attachment; filename="Debian 12.iso"'),
        ("a;b.iso", 'attachment; filename="a;b.iso"'),
        (
            "B\u00fccher.iso",
            "attachment; filename=\"Bucher.iso\"; filename*=UTF-8''B%C3%BCcher.iso",
        ),
        (
            "\u6771\u4eac.iso",
            "attachment; filename=\"image.iso\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.iso",
        ),
        ("100%41.raw", "attachment; filename=\"100_41.raw\"; filename*=UTF-8''100%2541.raw"),
        ("it's.raw", 'attachment; filename="it\'s.raw"'),
        (
            "x\uff02; filename=\uff02y.raw",
            'attachment; filename="x_; filename=_y.raw"; '
            "filename*=UTF-8''x%EF%BC%82%3B%20filename%3D%EF%BC%82y.raw",
        ),
        ("\u2026", "attachment; filename=\"image\"; filename*=UTF-8''%E2%80%A6"),
    ],
)
def test_the_header_has_the_name_in_ascii_for_everybody_and_whole_for_others(name, header):
    assert filenames.disposition(name) == header


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("\uff0f..\uff0fetc\uff0fpasswd", "_.._etc_passwd"),
        ("a\uff3cb\u2100c", "a_ba_cc"),
        ("\u2025x.raw", "x.raw"),
        ("\uff23\uff2f\uff2e.raw", "_CON.raw"),
        ("\uff0drf", "_-rf"),
    ],
)
def test_wide_characters_become_nothing_that_counts(name, plain):
    assert filenames.disposition(name).startswith(f'attachment; filename="{plain}"; ')


#: Text in which characters are frequent whose plain forms mean something.
NAMES = st.text(st.characters() | st.sampled_from("\uff02\uff0f\uff3c\uff0e\uff0d\u2025\u2100%."))


@given(NAMES | st.none(), st.text(max_size=20) | st.none())
def test_no_name_leaves_its_directory_nor_its_header(name, disk_format):
    found = filenames.file_name(5, name, disk_format)
    assert pathlib.PurePosixPath(found).name == pathlib.PureWindowsPath(found).name == found
    assert not found.startswith((".", "-", " ")) and not found.endswith((".", " "))
    assert len(found.encode("utf-8")) <= 255
    header = filenames.disposition(found)
    assert re.fullmatch(r"[ -~]+", header)
    whole = re.fullmatch(
        r"""attachment; filename="([^"\\]+)"(?:; filename\*=UTF-8''(.+))?""", header
    )
    assert whole is not None
    assert (urllib.parse.unquote(whole[2]) if whole[2] else whole[1]) == found
    plain = whole[1]
    assert pathlib.PurePosixPath(plain).name == pathlib.PureWindowsPath(plain).name == plain
    assert not plain.startswith((".", "-", " "))

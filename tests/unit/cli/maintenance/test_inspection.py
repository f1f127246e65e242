"""glance-inspect: one line for each file, JSON for programs, and a code that tells them apart."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from glance.cli import start

from support import disks

ROOT = pathlib.Path(__file__).resolve().parents[4]
SAFE = "{}: qcow2, virtual size 10485760 bytes, safe\n"
BACKING = (
    "{}: qcow2, virtual size 10485760 bytes, refused: unsafe_image: the image names a backing "
    "file (qcow2_backing_file)\n"
)


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    """Return a function that runs the program beside a few images: -> (code, out, err)."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("good").write_bytes(disks.qcow2())
    pathlib.Path("bad").write_bytes(disks.HOSTILE["qcow2_backing_file"])
    pathlib.Path("both").write_bytes(disks.AMBIGUOUS["iso and qcow2"])
    pathlib.Path("text").write_bytes(disks.HOSTILE["vmdk_text_descriptor"])

    def run(*words):
        try:
            code = start.inspect(words)
        except SystemExit as leaving:
            code = leaving.code
        return code, *capsys.readouterr()

    return run


def test_a_safe_image_is_one_line(inspect):
    assert inspect("good") == (0, SAFE.format("good"), "")


def test_each_file_has_its_line_and_the_worst_decides(inspect):
    out = SAFE.format("good") + BACKING.format("bad") + SAFE.format("good")
    assert inspect("good", "bad", "good") == (1, out, "")


def test_a_file_that_cannot_be_read_is_no_image(inspect):
    os.mkdir("folder")
    code, out, err = inspect("nothing", "bad", "folder", "/dev/null")
    assert (code, out) == (2, BACKING.format("bad"))
    assert err.splitlines() == [
        "glance-inspect: cannot read nothing: No such file or directory",
        "glance-inspect: cannot read folder: Is a directory",
        "glance-inspect: cannot read /dev/null: it is a device without an end",
    ]


def test_images_of_no_or_of_several_formats(inspect):
    code, out, _ = inspect("both", "text")
    assert code == 1
    assert out.splitlines() == [
        "both: qcow2 and iso, virtual size unknown, refused: ambiguous_format: the data has the "
        "marks of qcow2 and iso",
        "text: vmdk, virtual size unknown, refused: unsafe_image: the image is a text that names "
        "the files of a disk (vmdk_text_descriptor)",
    ]


def test_the_declared_format_and_the_size_are_compared(inspect):
    assert inspect("--disk-format=qcow2", "good")[0] == 0
    code, out, _ = inspect("--disk-format=raw", "good")
    assert (code, "format_mismatch: the data is qcow2, raw was declared" in out) == (1, True)
    assert inspect("--max-virtual-size=10485760", "good")[0] == 0
    assert "too_large" in inspect("--max-virtual-size", "10485759", "good")[1]


def test_json_is_one_array(inspect):
    code, out, err = inspect("--format=json", "good", "bad", "nothing")
    good, bad, nothing = json.loads(out)
    assert code == 2 and err.count("\n") == 1
    assert good == {
        "file": "good",
        "format": "qcow2",
        "formats": ["qcow2"],
        "size": len(disks.qcow2()),
        "virtual_size": 10 << 20,
        "safe": True,
        "code": None,
        "reasons": [],
    }
    assert (bad["safe"], bad["code"]) == (False, "unsafe_image")
    assert [each["rule"] for each in bad["reasons"]] == ["qcow2_backing_file"]
    assert nothing == {"file": "nothing", "error": "No such file or directory"}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--disk-format=floppy", "good"),
        ("--max-virtual-size=-1", "good"),
        ("--x", "good"),
        ("-", "-"),
    ],
)
def test_wrong_arguments_are_a_usage_error(inspect, words):
    code, out, err = inspect(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: glance-inspect [options] <file>...\nglance-inspect: error: ")


@pytest.mark.parametrize("name", ["bild ü 日本", "new\nline", "a\x1b[31mb", os.fsdecode(b"\xff")])
def test_any_name_is_shown_on_one_line(inspect, name):
    os.rename("good", name)
    code, out, _ = inspect(f"./{name}")
    assert (code, out.count("\n"), "\x1b" in out) == (0, 1, False)
    assert json.loads(inspect("--format=json", f"./{name}")[1])[0]["file"] == f"./{name}"


def program(*words, **how):
    command = [sys.executable, "-W", "ignore", ROOT / "bin" / "glance-inspect", *words]
    return subprocess.run(command, capture_output=True, timeout=60, **how)


def test_standard_input_is_read_to_its_end(tmp_path):
    data = disks.dynamic_vhd(header=disks.vhd_dynamic_header() + bytes(3 << 20))
    done = program("--disk-format=vhd", "-", input=data)
    assert (done.returncode, done.stdout) == (0, b"-: vhd, virtual size 10485760 bytes, safe\n")
    path = tmp_path / "disk"
    path.write_bytes(disks.HOSTILE["vhd_parent_name"])
    with path.open("rb") as file:
        done = program("-", stdin=file)
    assert (done.returncode, b"vhd_parent_name" in done.stdout) == (1, True)


def test_a_closed_standard_input_is_said():
    done = program("-", stdin=subprocess.DEVNULL, preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"glance-inspect: cannot read -: standard input is closed\n"


def test_what_an_image_names_is_not_touched(tmp_path):
    """A pipe that nobody writes to would keep whoever opens it waiting."""
    os.mkfifo(tmp_path / "pipe")
    name = str(tmp_path / "pipe").encode()
    data = disks.qcow2(backing_file=512, backing_size=len(name))
    (tmp_path / "disk").write_bytes(data[:512] + name + data[512 + len(name) :])
    done = program(str(tmp_path / "disk"))
    assert (done.returncode, b"qcow2_backing_file" in done.stdout) == (1, True)

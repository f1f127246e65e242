"""The disk format that `glance add` sends: as it was said, else as the data begins."""

import contextlib
import os
import subprocess
import threading

import pytest

from glance.cli.user import guess
from glance.image import fields

from support import images

HEADS = {
    "qcow2": b"QFI\xfb\0\0\0\3",
    "vmdk": b"KDMV\1\0\0\0",
    "vhd": b"conectix\0\0\0\2",
    "vdi": b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe",
    "iso": bytes(32768) + b"\1CD001\1",
}
NOTE = (
    "Note: the data looks like qcow2, so disk_format=qcow2 is sent. To send another one, such as "
    "raw, say disk_format=raw\n"
)


@pytest.mark.parametrize("name", HEADS)
def test_formats_are_known_by_their_signatures(name):
    assert name in fields.DISK_FORMATS
    assert guess.disk_format(HEADS[name]) == name
    assert guess.disk_format(HEADS[name] + bytes(100)) == name
    assert guess.disk_format(b"x" + HEADS[name]) is None
    assert guess.disk_format(HEADS[name][: -len(HEADS[name]) // 2]) in (None, name)


@pytest.mark.parametrize("head", [b"", b"Q", b"image data", bytes(40000)])
def test_other_data_is_not_guessed(head):
    assert guess.disk_format(head) is None


@contextlib.contextmanager
def piped(data, piece):
    """A stream that cannot go back and gives a few bytes at a time."""
    reader, writer = os.pipe()

    def write():
        with os.fdopen(writer, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            for start in range(0, len(data), piece):
                file.write(data[start : start + piece])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        yield stream
    thread.join()


@pytest.mark.parametrize("size", [0, 1, guess.HEAD - 1, guess.HEAD, guess.HEAD + 1, 300_000])
@pytest.mark.parametrize("piece", [70_000, 1000])
def test_no_byte_of_a_pipe_is_lost(size, piece):
    data = os.urandom(size)
    with piped(data, piece) as pipe:
        head, stream = guess.peek(pipe)
        assert head == data[: guess.HEAD]
        found = b""
        while more := stream.read(10_000):
            found += more
    assert found == data


def test_a_file_is_put_back_to_where_it_was(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"skip" + HEADS["qcow2"])
    with path.open("rb") as file:
        file.seek(4)
        head, stream = guess.peek(file)
        assert stream is file
        assert (head, file.read()) == (HEADS["qcow2"], HEADS["qcow2"])


def test_what_cannot_be_read_is_left_to_the_upload():
    with open(os.devnull, "wb") as file:
        assert guess.peek(file) == (b"", file)


def sent(api):
    (seen,) = (seen for seen in api.server.requests if seen.method == "POST")
    return seen.headers["x-image-meta-disk-format"]


def test_the_guessed_format_is_sent_with_a_note(glance, api):
    done = glance("add", "name=web", stdin=HEADS["qcow2"])
    assert (done.code, done.out) == (0, "Added new image with ID: 1\n")
    assert NOTE in done.err
    assert sent(api) == "qcow2"
    assert api.images[1]["size"] == len(HEADS["qcow2"])


def test_the_format_that_was_said_is_sent_with_a_note(glance, api):
    done = glance("add", "name=web", "disk_format=raw", stdin=HEADS["qcow2"])
    assert done.err.startswith(
        "Note: the data looks like qcow2, but disk_format=raw is sent, as you said.\n"
    )
    assert sent(api) == "raw"


@pytest.mark.parametrize(
    ("words", "data"),
    [((), b"plain"), (("disk_format=qcow2",), HEADS["qcow2"]), (("disk_format=vhd",), b"plain")],
)
def test_nothing_is_said_without_a_contradiction(glance, api, words, data):
    assert "looks like" not in glance("add", "name=web", *words, stdin=data).err


@pytest.mark.peers
@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vdi", "vhd"])
def test_images_of_qemu_are_recognised(tmp_path, name):
    images.need("qemu-img")
    path = tmp_path / "image"
    kind = "vpc" if name == "vhd" else name
    subprocess.run(["qemu-img", "create", "-qf", kind, path, "1M"], check=True)
    assert guess.disk_format(path.read_bytes()) == name

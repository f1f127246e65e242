"""`glance download`: whole and right, or not there; and going on after a cut."""

import fcntl
import hashlib
import io
import os
import re
import sys

import pytest

from glance.cli.user import command
from glance.cli.user import download as image_download

DATA = bytes(range(256)) * 1200  # several chunks of 64 KiB
MD5 = hashlib.md5(DATA).hexdigest()


class Origin:
    """A server of image 7; `cuts` are the lengths after which its next answers break off."""

    def __init__(self, loopback):
        self.data, self.cuts, self.ranges = DATA, [], True
        self.meta = {
            "x-image-meta-id": "7",
            "x-image-meta-name": "web",
            "x-image-meta-status": "active",
            "x-image-meta-size": str(len(DATA)),
            "x-image-meta-checksum": MD5,
        }
        self.refusal = None
        self.server = loopback(self.script)

    def script(self, peer):
        while (seen := peer.request()) is not None:
            if seen.target != "/v1/images/7":
                peer.answer(404, b"404 Not Found\n\nNo such image.\n")
                continue
            if seen.method == "HEAD":
                peer.answer(200, b"", self.meta)
                continue
            if self.refusal:
                peer.answer(*self.refusal)
                continue
            start, status, headers = 0, 200, dict(self.meta)
            if self.ranges and "range" in seen.headers:
                start = int(re.fullmatch(r"bytes=(\d+)-", seen.headers["range"])[1])
                status = 206
                last = len(self.data) - 1
                headers["Content-Range"] = f"bytes {start}-{last}/{last + 1}"
            body = self.data[start:]
            if self.cuts:
                peer.answer(status, body[: self.cuts.pop(0)], headers, length=len(body))
                return
            peer.answer(status, body, headers)

    @property
    def asked(self):
        """The Range of each GET."""
        return [seen.headers.get("range") for seen in self.server.requests if seen.method == "GET"]


@pytest.fixture
def origin(loopback):
    return Origin(loopback)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses that would have been made."""
    made = []
    monkeypatch.setattr(image_download, "sleep", made.append)
    return made


@pytest.fixture
def download(glance, origin, tmp_path):
    """Run `glance download 7 --file FILE`."""

    def run(*args, **kw):
        return glance("download", "7", *args, f"--file={run.file}", port=origin.server.port, **kw)

    run.file = tmp_path / "disk.raw"
    run.part = tmp_path / "disk.raw.7.part"
    return run


@pytest.fixture
def to_stdout(glance, origin, monkeypatch):
    """Run `glance download 7` with a standard output of bytes; return the run and the bytes."""

    def run(*args, terminal=False):
        held = io.BytesIO()
        stream = io.TextIOWrapper(held, write_through=True)
        stream.isatty = lambda: terminal
        real = sys.stdout
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        place = ["-H", "127.0.0.1", "-p", str(origin.server.port)]
        code = command.main(["download", "7", *place, *args])
        monkeypatch.setattr(sys, "stdout", real)
        return code, held.getvalue()

    return run


def test_file_holds_the_data(download, tmp_path):
    done = download()
    assert (done.code, done.out, done.err) == (0, f"Downloaded image 7 to {download.file}\n", "")
    assert download.file.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [download.file]


def test_file_that_exists_is_replaced(download):
    download.file.write_bytes(b"old" * 500_000)
    assert download().code == 0
    assert download.file.read_bytes() == DATA


def test_standard_output_holds_the_data_and_nothing_else(to_stdout, capsys):
    assert to_stdout("-v") == (0, DATA)
    assert "Completed in" in capsys.readouterr().err


def test_data_is_not_thrown_at_a_terminal(to_stdout, origin, capsys):
    assert to_stdout(terminal=True) == (1, b"")
    assert capsys.readouterr().err == (
        "glance: Standard output is a terminal: use --file=FILE, or redirect standard output\n"
    )
    assert not origin.asked


def test_image_without_data(download, origin, tmp_path):
    origin.meta["x-image-meta-status"] = "queued"
    done = download()
    assert (done.code, done.out) == (1, "")
    assert done.err == "glance: Image 7 has no data: its status is queued\n"
    assert not list(tmp_path.iterdir())


def test_empty_image_is_an_empty_file(download, origin):
    origin.data = b""
    origin.meta |= {
        "x-image-meta-size": "0",
        "x-image-meta-checksum": hashlib.md5(b"").hexdigest(),
    }
    assert download().code == 0
    assert download.file.read_bytes() == b""


def test_absent_image(glance, origin, tmp_path):
    done = glance("download", "8", f"--file={tmp_path}/x", port=origin.server.port)
    assert (done.code, done.out, done.err) == (1, "", "glance: No image with ID 8 was found\n")
    assert not list(tmp_path.iterdir())


def test_absent_server_is_one_line(download, origin, waits):
    origin.server.stop()
    done = download()
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("glance: Unable to connect to server")
    assert done.err.count("\n") == 1
    assert not waits


@pytest.mark.parametrize("args", [(), ("7", "8")])
def test_one_id_is_needed(glance, origin, args):
    done = glance("download", *args, "--file=x", port=origin.server.port)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert not origin.server.requests


def test_dry_run_fetches_nothing(download, origin):
    done = download("--dry-run")
    assert (done.code, done.lines) == (
        0,
        [
            "Dry run. We would have done the following:",
            f"Download image 7 to {download.file}",
        ],
    )
    assert not origin.server.requests


# -- after a cut ---------------------------------------------------------------------------------


def test_transfer_goes_on_where_it_was_cut(download, origin, waits):
    origin.cuts = [100_000, 70_000]
    assert download().code == 0
    assert download.file.read_bytes() == DATA
    assert origin.asked == [None, "bytes=100000-", "bytes=170000-"]
    assert waits == [0.5, 0.5]


def test_standard_output_goes_on_where_it_was_cut(to_stdout, origin):
    origin.cuts = [100_000]
    assert to_stdout() == (0, DATA)


def test_server_that_ignores_ranges_is_no_obstacle(download, origin):
    origin.ranges, origin.cuts = False, [100_000]
    assert download().code == 0
    assert download.file.read_bytes() == DATA


def test_transfer_that_cannot_go_on_is_given_up_and_kept(download, origin, waits):
    origin.cuts = [100_000] + [0] * 20
    done = download()
    assert done.code == 1
    assert done.err.endswith(f"; {download.part} is kept for the next attempt\n")
    assert done.err.count("\n") == 1
    assert not download.file.exists()
    assert download.part.read_bytes() == DATA[:100_000]
    assert waits == [0.5, 1, 2, 4, 8]


def test_cut_before_the_first_byte_leaves_nothing(download, origin, tmp_path):
    origin.cuts = [0] * 20
    assert download().code == 1
    assert not list(tmp_path.iterdir())


def test_next_command_goes_on_with_what_was_kept(download, origin):
    download.part.write_bytes(DATA[:100_000])
    assert download().code == 0
    assert download.file.read_bytes() == DATA
    assert origin.asked == ["bytes=100000-"]
    assert not download.part.exists()


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_kept_data_that_is_whole_needs_no_transfer(download, origin, extra):
    download.part.write_bytes(DATA + extra)
    assert download().code == 0
    assert download.file.read_bytes() == DATA
    assert origin.asked == []


def test_kept_data_of_something_else_is_fetched_anew(download, origin):
    download.part.write_bytes(b"x" * 100_000)
    assert download().code == 0
    assert download.file.read_bytes() == DATA
    assert origin.asked == ["bytes=100000-", None]


def test_kept_data_is_not_trusted_without_a_checksum(download, origin):
    del origin.meta["x-image-meta-checksum"]
    download.part.write_bytes(b"x" * 100_000)
    assert download().code == 0
    assert download.file.read_bytes() == DATA


def test_damaged_data_never_gets_the_name(download, origin, tmp_path):
    download.file.write_bytes(b"old")
    origin.data = DATA[:-1] + b"?"
    done = download()
    assert (done.code, done.out) == (1, "")
    assert f"does not match its checksum {MD5}" in done.err
    assert download.file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [download.file]


def test_damaged_data_on_standard_output_is_told(to_stdout, origin, capsys):
    origin.data = DATA[:-1] + b"?"
    assert to_stdout()[0] == 1
    assert "checksum" in capsys.readouterr().err


BUSY = (503, b"503 Service Unavailable\n\nTry again later.\n")


def test_server_that_restarts_is_waited_for(download, origin, waits, monkeypatch):
    def wait(seconds):
        waits.append(seconds)
        origin.refusal = BUSY if len(waits) == 1 else None

    monkeypatch.setattr(image_download, "sleep", wait)
    origin.cuts = [100_000]
    assert download().code == 0
    assert waits == [0.5, 1.0]


def test_server_that_is_busy_from_the_start_is_told(download, origin, waits):
    origin.refusal = BUSY
    done = download()
    assert (done.code, done.err) == (1, "glance: Try again later.\n")
    assert not waits


def test_refusal_is_final(download, origin, waits):
    origin.refusal = (403, b"403 Forbidden\n\nYou are not allowed to do this.\n")
    done = download()
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("glance: You are not allowed to do this; no token was sent")
    assert not waits


# -- the file ------------------------------------------------------------------------------------


def test_two_programs_do_not_write_one_file(download):
    with download.part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = download()
    assert done.code == 1
    assert "Another program is downloading" in done.err
    assert not download.file.exists()


def test_directory_is_no_file(download):
    download.file.mkdir()
    done = download()
    assert done.err == f"glance: {download.file} is a directory: name a file in it\n"
    assert done.code == 1


def test_missing_directory_is_one_line(glance, origin, tmp_path):
    path = tmp_path / "none" / "disk"
    done = glance("download", "7", f"--file={path}", port=origin.server.port)
    assert (done.code, done.err) == (1, f"glance: No such file or directory: {path}\n")


def test_full_disk_is_one_line_and_keeps_what_came(download, monkeypatch):
    real = image_download.Target.write
    calls = []

    def write(target, chunk):
        calls.append(chunk)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(target, chunk)

    monkeypatch.setattr(image_download.Target, "write", write)
    done = download()
    assert done.code == 1
    assert done.err == (
        f"glance: No space left on device: {download.file}; {download.part} holds {2 * 65536} "
        "bytes: run the command again to resume, or remove it\n"
    )
    assert not download.file.exists()
    assert download.part.read_bytes() == DATA[: 2 * 65536]


def test_bytes_that_a_full_disk_does_not_take_even_at_the_end_are_no_traceback(
    download, monkeypatch
):
    class Full(io.BufferedRandom):
        def flush(self):
            raise OSError(28, "No space left on device")

        def write(self, data):
            raise OSError(28, "No space left on device")

    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda fd, mode: Full(real(fd, mode, 0)))
    done = download()
    assert (done.code, done.err) == (1, f"glance: No space left on device: {download.file}\n")
    assert not download.part.exists()


@pytest.mark.parametrize(
    ("checksum", "how"), [(MD5, "to resume"), ("", "to start again")], ids=["sum", "no-sum"]
)
def test_interrupted_download_says_what_is_kept(download, origin, monkeypatch, checksum, how):
    origin.meta["x-image-meta-checksum"] = checksum
    real = image_download.Target.write

    def write(target, chunk):
        real(target, chunk)
        raise KeyboardInterrupt

    monkeypatch.setattr(image_download.Target, "write", write)
    done = download()
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        f"glance: interrupted; {download.part} holds 65536 bytes: run the command again {how}, "
        "or remove it\n"
    )
    monkeypatch.undo()
    assert download().code == 0
    assert download.file.read_bytes() == DATA


def test_interrupted_download_before_the_first_byte_keeps_nothing(download, monkeypatch):
    def write(target, chunk):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_download.Target, "write", write)
    done = download()
    assert (done.code, done.err) == (130, "glance: interrupted\n")
    assert not download.part.exists()


def test_part_file_that_is_a_link_is_not_followed(download, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    download.part.symlink_to(tmp_path / "precious")
    done = download()
    assert done.code == 1
    assert done.err == (
        f"glance: {download.part} cannot be used: it is a symbolic link; remove it, or name "
        "another file\n"
    )
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["hard link", "pipe", "another user's"])
def test_part_file_that_another_user_could_change_is_not_taken_over(download, tmp_path, kind):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    if kind == "pipe":
        os.mkfifo(download.part)
    else:
        os.link(precious, download.part)
    if kind == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can act for another user")
        precious.unlink()
        os.chown(download.part, 65534, 65534)
    done = download()
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "remove it, or name another file" in done.err
    assert not download.file.exists()
    if kind != "pipe":
        assert download.part.read_bytes() == b"precious"


def test_device_is_written_to_and_not_replaced(glance, origin):
    done = glance("download", "7", "--file=/dev/null", port=origin.server.port)
    assert done.code == 0
    assert not os.path.isfile("/dev/null")


def test_person_sees_the_progress(download):
    done = download(watching=True)
    assert "100%  300 KiB of 300 KiB" in done.err

"""Spools and traces: what uploads to remote stores keep on the local disk."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from glance.common import exception
from glance.store import spool, upload_journal
from glance.streaming import threads


@pytest.fixture
def part(tmp_path):
    part = spool.UploadSpool(str(tmp_path))
    yield part
    part.close()


def everything(reader, size=7):
    return b"".join(iter(lambda: reader.read(size), b""))


def test_a_part_can_be_read_again_and_again(part):
    part.write(b"hello ")
    part.write(memoryview(b"world"))
    assert part.size == len(part.reader()) == 11
    reader = part.reader()
    assert everything(reader) == b"hello world"
    assert reader.tell() == 11
    reader.seek(0)
    assert reader.read() == b"hello world"
    assert reader.read() == reader.read(5) == b""
    reader.seek(-5, os.SEEK_END)
    assert reader.read(3) == b"wor"
    reader.seek(1, os.SEEK_CUR)
    assert reader.read(3) == b"d"


def test_a_large_part_comes_back_as_it_went_in(part):
    data = os.urandom(3 * 1024 * 1024 + 17)
    part.write(data)
    reader = part.reader()
    assert everything(reader, 65536) == data
    reader.seek(1024 * 1024 - 3)
    assert reader.read(10) == data[1024 * 1024 - 3 :][:10]


def test_a_cleared_spool_takes_the_next_part(part):
    part.write(b"first part")
    part.clear()
    assert part.size == 0
    part.write(b"second")
    assert everything(part.reader()) == b"second"


def test_a_spool_has_no_name_and_ends_once(part, tmp_path):
    part.write(b"data")
    assert os.listdir(tmp_path) == []
    reader = part.reader()
    part.close()
    part.close()
    with pytest.raises(ValueError):
        reader.read(1)


def test_a_file_system_without_unnamed_files_will_do(tmp_path, monkeypatch):
    real = os.open

    def open_fd(path, flags, mode=0o777, *, dir_fd=None):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, mode)

    monkeypatch.setattr(threads, "open_fd", open_fd)
    part = spool.UploadSpool(str(tmp_path))
    part.write(b"data")
    assert everything(part.reader()) == b"data"
    assert os.listdir(tmp_path) == []
    part.close()


def test_a_directory_that_is_not_there_is_named_early(tmp_path):
    with pytest.raises(OSError):
        spool.check_directory(str(tmp_path / "missing"))
    with pytest.raises(exception.BackendUnavailable):
        spool.UploadSpool(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, exception.StorageFull), (errno.EROFS, exception.StorageWriteDenied)],
)
def test_a_full_or_read_only_disk_is_told_as_such(part, monkeypatch, number, error):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(error):
        part.write(b"data")


# -- traces --------------------------------------------------------------------------------------


def test_the_trace_of_a_living_writer_is_not_found(tmp_path):
    living = upload_journal.begin(str(tmp_path), "x", image_id="1", parts=0)
    living.update(parts=2)
    assert upload_journal.find(str(tmp_path), "x", 0) == []
    living.leave()
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    assert found.values == {"image_id": "1", "parts": 2}
    assert upload_journal.find(str(tmp_path), "x", 0) == []
    found.remove()
    assert os.listdir(tmp_path) == []


def test_the_trace_of_a_killed_process_is_found(tmp_path):
    code = (
        "import os, sys; from glance.store import upload_journal; "
        "t = upload_journal.begin(sys.argv[1], 'x', image_id='7'); t.update(parts=1); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    assert found.values == {"image_id": "7", "parts": 1}
    found.leave()
    (again,) = upload_journal.find(str(tmp_path), "x", 0)
    again.remove()


def test_traces_of_other_stores_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "glance-x-upload").write_text("not ours")
    upload_journal.begin(str(tmp_path), "y", image_id="1").leave()
    assert upload_journal.find(str(tmp_path), "x", 0) == []
    assert len(os.listdir(tmp_path)) == 2


def test_a_half_written_line_does_not_count(tmp_path):
    upload_journal.begin(str(tmp_path), "x", image_id="1", parts=1).leave()
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"image_id": "1", "par')
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    assert found.values["parts"] == 1
    found.remove()


@pytest.mark.parametrize("step", ["pwrite", "fdatasync"])
def test_a_change_that_failed_does_not_spoil_the_next_one(tmp_path, monkeypatch, step):
    trace = upload_journal.begin(str(tmp_path), "x", image_id="1")
    real = getattr(os, step)
    calls = []

    def fail(fd, *args):
        calls.append(step)
        if step == "fdatasync" or len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, args[0][:5], *args[1:])

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(exception.StorageFull):
            trace.update(parts=12345)
    assert trace.values == {"image_id": "1"}
    trace.update(n=2)
    trace.leave()
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    assert found.values == {"image_id": "1", "n": 2}
    found.remove()


def test_a_file_that_is_no_trace_is_left_alone_and_hides_no_other(tmp_path, caplog):
    (tmp_path / "glance-x-upload.0123").write_text("not ours\n")
    upload_journal.begin(str(tmp_path), "x", image_id="1").leave()
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    assert found.values == {"image_id": "1"}
    found.remove()
    assert os.listdir(tmp_path) == ["glance-x-upload.0123"]
    assert "glance-x-upload.0123" in caplog.text


def test_a_trace_without_a_line_is_removed(tmp_path):
    (tmp_path / "glance-x-upload.0123").touch()
    assert upload_journal.find(str(tmp_path), "x", 0) == []
    assert os.listdir(tmp_path) == []


def test_a_trace_is_for_its_owner_only(tmp_path):
    begun = upload_journal.begin(str(tmp_path), "x", image_id="1")
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    begun.remove()
    begun.remove()
    assert upload_journal.find(str(tmp_path / "missing"), "x", 0) == []


def test_without_locks_the_age_decides(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    living = upload_journal.begin(str(tmp_path), "x", image_id="1")
    assert upload_journal.find(str(tmp_path), "x", 1000) == []
    (found,) = upload_journal.find(str(tmp_path), "x", 0)
    found.remove()
    living.leave()

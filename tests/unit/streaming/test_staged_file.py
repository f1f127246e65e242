"""Files that one process writes: made anew, locked by the living, found when their writer died."""

import errno
import fcntl
import itertools
import os
import resource
import stat
import subprocess
import sys

import pytest

from glance.streaming import disk, staged_file, threads
from glance.streaming.staged_file import LocalFile


@pytest.fixture
def begin(tmp_path):
    """Return a maker of open files in a directory of their own."""
    made = []

    def begin(name="a", **options):
        file = LocalFile(**options)
        file.create(str(tmp_path), lambda: name)
        made.append(file)
        return file

    yield begin
    for file in made:
        file.close()


def write(file, data):
    with file.held():
        return file.write(data)


def without_locks(monkeypatch):
    def refuse(fd, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def find(directory, max_age=0.0, **options):
    """Return the names of abandoned files, which stay as they are."""

    def adopt(file):
        file.close()
        return os.path.basename(file.path)

    return sorted(staged_file.take_abandoned(str(directory), max_age, adopt, **options))


# -- making --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_new_file_has_exactly_its_mode(tmp_path, mode):
    before = os.umask(0o077)
    try:
        os.close(staged_file.create_fd(str(tmp_path / "a"), mode))
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == mode


def test_a_mode_that_cannot_be_set_leaves_nothing(tmp_path, monkeypatch):
    def fchmod(fd, mode):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "fchmod", fchmod)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no"):
        staged_file.create_fd(str(tmp_path / "a"), 0o640)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_that_is_there_is_opened_and_no_link_followed(tmp_path, begin):
    (tmp_path / "old").write_bytes(b"old")
    os.symlink(tmp_path / "elsewhere", tmp_path / "dangling")
    for name in ("old", "dangling"):
        with pytest.raises(FileExistsError):
            begin(name)
    assert (tmp_path / "old").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_was_taken_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    real = fcntl.flock
    names = map(str, itertools.count())

    def flock(fd, operation):
        if os.listdir(tmp_path) == ["0"]:
            os.unlink(tmp_path / "0")
        return real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = LocalFile()
    file.create(str(tmp_path), lambda: next(names))
    assert os.listdir(tmp_path) == [os.path.basename(file.path)] == ["1"]
    file.close()


@pytest.mark.parametrize("code", [None, *sorted(staged_file.NO_SUPPORT), errno.EISDIR])
def test_an_unnamed_file_is_nowhere_to_be_found(tmp_path, monkeypatch, code):
    real = threads.open_fd

    def open_fd(path, flags, mode=0o777, *, dir_fd=None):
        if code and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real(path, flags, mode)

    monkeypatch.setattr(threads, "open_fd", open_fd)
    file = LocalFile()
    file.create_unnamed(str(tmp_path), "prefix.")
    write(file, b"data")
    with file.held() as fd:
        assert os.pread(fd, 10, 0) == b"data"
    assert os.listdir(tmp_path) == []
    assert file.path is None
    file.close()


def test_an_unnamed_file_needs_a_directory_that_can_be_written_to(tmp_path):
    with pytest.raises(FileNotFoundError):
        LocalFile().create_unnamed(str(tmp_path / "missing"), "prefix.")


# -- writing -------------------------------------------------------------------------------------


def test_short_writes_are_continued(tmp_path, begin, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    file = begin()
    write(file, b"hello ")
    write(file, memoryview(b"world"))
    assert file.count == 11
    assert (tmp_path / "a").read_bytes() == b"hello world"


def test_room_that_was_reserved_in_vain_is_given_back(tmp_path, begin):
    file = begin()
    with file.held():
        file.reserve(1000)
        assert (tmp_path / "a").stat().st_size == 1000
        file.write(b"data")
        file.sync()
    assert (tmp_path / "a").read_bytes() == b"data"


@pytest.mark.parametrize("code", [*sorted(staged_file.NO_SUPPORT), errno.ENOSPC])
def test_only_a_lack_of_room_is_an_error_of_reserving(begin, monkeypatch, code):
    def posix_fallocate(fd, offset, length):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    file = begin()
    with file.held():
        if code == errno.ENOSPC:
            with pytest.raises(OSError, match=os.strerror(code)):
                file.reserve(10)
        else:
            file.reserve(10)


@pytest.mark.parametrize(("reserved", "told"), [(0, True), (100, False)])
def test_writeback_begins_step_by_step(begin, monkeypatch, reserved, told):
    ranges = []
    monkeypatch.setattr(disk, "WRITEBACK_STEP", 10)
    monkeypatch.setattr(disk, "start_writeback", lambda fd, *what: ranges.append(what))
    file = begin(writeback=True)
    if reserved:
        with file.held():
            file.reserve(reserved)
    assert [write(file, b"x" * size) for size in (9, 3, 9, 1)] == [False, told, False, told]
    assert ranges == [(0, 12), (12, 10)]


def test_a_truncated_file_goes_on_from_there(tmp_path, begin):
    file = begin()
    write(file, b"hello world")
    with file.held():
        file.truncate(6)
        file.write(b"there")
    assert (tmp_path / "a").read_bytes() == b"hello there"


def test_what_others_write_is_noticed(tmp_path, begin):
    file = begin(watch=True)
    with file.held() as fd:
        file.require_untouched()
        file.write(b"data")
        file.require_untouched()
        reader = os.dup(fd)
    assert file.is_untouched(reader)
    os.utime(tmp_path / "a", (1, 1))
    assert not file.is_untouched(reader)
    os.close(reader)
    with file.held(), pytest.raises(OSError) as caught:
        file.require_untouched()
    assert caught.value.errno == errno.ESTALE


# -- naming --------------------------------------------------------------------------------------


def test_a_published_file_has_both_names_and_overwrites_nothing(tmp_path, begin):
    file = begin()
    (tmp_path / "old").write_bytes(b"old")
    with file.held():
        file.write(b"data")
        with pytest.raises(FileExistsError):
            file.publish(str(tmp_path / "old"))
        assert file.final is None
        file.publish(str(tmp_path / "final"))
    assert (tmp_path / "old").read_bytes() == b"old"
    file.remove(file.path)
    assert sorted(os.listdir(tmp_path)) == ["final", "old"]
    assert (tmp_path / "final").read_bytes() == b"data"


def test_a_name_that_is_not_durable_is_known(tmp_path, begin, monkeypatch):
    def fsync(fd):
        raise OSError(errno.EIO, "no")

    file = begin()
    monkeypatch.setattr(os, "fsync", fsync)
    with file.held(), pytest.raises(OSError, match="no"):
        file.publish(str(tmp_path / "final"))
    file.remove(file.final, file.path)
    assert os.listdir(tmp_path) == []


def test_the_directory_of_a_new_name_is_synced(tmp_path, begin, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "below").mkdir()
    final = tmp_path / "below" / "final"
    file = begin()
    write(file, b"data")
    with file.held():
        file.publish(str(final))
    assert synced == [str(tmp_path / "below")]
    assert final.read_bytes() == b"data"


@pytest.mark.parametrize("old", [None, b"old contents"])
def test_a_small_file_is_replaced_as_a_whole(tmp_path, old):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    staged_file.rewrite(str(path), b"new", 0o640)
    assert os.listdir(tmp_path) == ["a"]
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_small_file_that_finds_no_room_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            staged_file.rewrite(str(tmp_path / "a"), b"new contents")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_an_error_of_replacing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*arguments):
        raise OSError(errno.EIO, "no")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no"):
        staged_file.rewrite(str(tmp_path / "a"), b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("durable", [True, False])
def test_a_replaced_file_is_synced_with_its_directory_if_that_is_asked_for(
    tmp_path, monkeypatch, durable
):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    staged_file.rewrite(str(tmp_path / "a"), b"new", durable=durable)
    assert synced == ([False, True] if durable else [])


# -- ending --------------------------------------------------------------------------------------


def test_a_file_ends_once(tmp_path, begin):
    file = begin()
    assert file.is_open
    assert file.close() is True
    assert file.close() is False
    assert not file.is_open
    file.remove(file.path)
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(ValueError, match="closed"), file.held():
        pass


def test_the_names_after_one_that_stays_stay_too(tmp_path, begin):
    file = begin()
    (tmp_path / "below").mkdir()
    with pytest.raises(OSError):
        file.remove(None, str(tmp_path / "below"), file.path)
    assert not file.is_open
    assert sorted(os.listdir(tmp_path)) == ["a", "below"]
    assert find(tmp_path) == ["a"]


# -- what the dead left --------------------------------------------------------------------------


def test_the_file_of_a_living_writer_is_not_taken(tmp_path, begin):
    file = begin()
    with open(tmp_path / "a", "rb") as stream:
        assert staged_file.is_locked(stream.fileno())
        assert find(tmp_path) == []
        file.close()
        assert not staged_file.is_locked(stream.fileno())
    assert find(tmp_path) == ["a"]


def test_the_file_of_a_killed_process_is_taken_once(tmp_path):
    code = (
        "import os, sys; from glance.streaming.staged_file import LocalFile; f = LocalFile(); "
        "f.create(sys.argv[1], lambda: 'a'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (taken,) = staged_file.take_abandoned(str(tmp_path), 0, lambda file: file)
    assert find(tmp_path) == []
    taken.remove(taken.path)
    assert os.listdir(tmp_path) == []


def test_an_adopted_file_is_locked_like_one_of_its_own(tmp_path):
    path = str(tmp_path / "a")
    file = LocalFile()
    file.adopt(staged_file.create_fd(path), path)
    assert find(tmp_path) == []
    file.remove(file.path)
    assert os.listdir(tmp_path) == []


def test_only_files_with_the_prefix_and_of_the_owner_are_looked_at(tmp_path):
    for name in ("a.1", "a.2", "b.1"):
        (tmp_path / name).touch()
    assert find(tmp_path, prefix="a.") == ["a.1", "a.2"]
    assert find(tmp_path, owner=os.geteuid()) == ["a.1", "a.2", "b.1"]
    assert find(tmp_path, owner=os.geteuid() + 1) == []
    # Somebody else could have given a file of this user a second name.
    os.link(tmp_path / "b.1", tmp_path / "b.2")
    assert find(tmp_path, owner=os.geteuid()) == ["a.1", "a.2"]


@pytest.mark.parametrize(("max_age", "found"), [(1000, []), (0, ["a"])])
def test_without_locks_the_age_decides(tmp_path, begin, monkeypatch, max_age, found):
    without_locks(monkeypatch)
    begin()
    assert find(tmp_path, max_age) == found


def test_what_cannot_be_looked_at_is_logged_and_hides_nothing(tmp_path, caplog):
    (tmp_path / "file").touch()
    os.symlink(tmp_path / "file", tmp_path / "link")
    os.mkdir(tmp_path / "directory")
    assert find(tmp_path) == ["file"]
    assert "abandoned file link" in caplog.text
    assert "abandoned file directory" in caplog.text
    assert find(tmp_path / "missing") == []


def test_an_error_of_who_adopts_a_file_leaves_it_to_others(tmp_path, caplog):
    (tmp_path / "a").touch()

    def fail(file):
        raise OSError(errno.EIO, "cannot be read")

    assert staged_file.take_abandoned(str(tmp_path), 0, fail) == []
    assert "cannot be read" in caplog.text
    assert find(tmp_path) == ["a"]

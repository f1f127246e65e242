"""Files in directories of other users: no link of theirs is followed, nothing is taken over."""

import os
import stat

import pytest

from glance.common import files

NOBODY = 65534
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")


@pytest.fixture
def theirs(tmp_path):
    """Return a directory that belongs to another user."""
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


@pytest.fixture
def precious(tmp_path):
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


def write(path, data=b"data", flags=APPEND, **options):
    with open(files.open_fd(path, flags, **options), "wb") as stream:
        stream.write(data)


def as_nobody(link, path):
    os.symlink(path, link)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)


def test_a_file_is_made_appended_to_and_emptied(tmp_path):
    write(tmp_path / "a", b"1")
    write(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"12"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    write(tmp_path / "a", b"3", APPEND | os.O_TRUNC)
    assert (tmp_path / "a").read_bytes() == b"3"


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    write("below/../below/./a")
    assert (tmp_path / "below" / "a").read_bytes() == b"data"


def test_ones_own_links_are_followed(tmp_path):
    """As operators make them: a directory on another disk, a log with another name."""
    (tmp_path / "disk").mkdir()
    os.symlink("disk", tmp_path / "first")
    os.symlink(tmp_path / "first", tmp_path / "second")
    os.symlink("real", tmp_path / "disk" / "log")
    write(tmp_path / "second" / "log")
    assert (tmp_path / "disk" / "real").read_bytes() == b"data"


def test_a_circle_of_links_is_an_error(tmp_path):
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a")


@pytest.mark.parametrize("missing", ["no/file", "file/below"])
def test_what_is_not_there_is_told_with_the_whole_path(tmp_path, missing):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:
        write(tmp_path / missing)
    assert caught.value.filename == str(tmp_path / missing)


@needs_root
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_link_in_a_directory_of_another_user_is_refused(theirs, precious, owner):
    os.symlink(precious, theirs / "log")
    os.chown(theirs / "log", owner, owner, follow_symlinks=False)
    with pytest.raises(files.OpenRefused, match="directory of another user"):
        write(theirs / "log")
    assert precious.read_bytes() == b"precious"


@needs_root
def test_a_link_to_nothing_makes_nothing(theirs, tmp_path):
    as_nobody(theirs / "log", tmp_path / "new")
    with pytest.raises(files.OpenRefused):
        write(theirs / "log")
    assert not (tmp_path / "new").exists()


@needs_root
def test_a_directory_on_the_way_that_is_a_link_of_another_user_is_refused(theirs, tmp_path):
    (tmp_path / "etc").mkdir()
    as_nobody(theirs / "logs", tmp_path / "etc")
    for act in (
        lambda: write(theirs / "logs" / "log"),
        lambda: files.make_directories(theirs / "logs" / "new", 0o755),
        lambda: files.unlink(str(theirs / "logs" / "log")),
        lambda: files.directory(theirs / "logs").__enter__(),
    ):
        with pytest.raises(files.OpenRefused):
            act()
    assert not list((tmp_path / "etc").iterdir())


@needs_root
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_link_of_another_user_in_a_directory_of_everybody_is_refused(tmp_path, precious, mode):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(mode)
    as_nobody(tmp_path / "tmp" / "log", precious)
    with pytest.raises(files.OpenRefused):
        write(tmp_path / "tmp" / "log")


@needs_root
def test_a_hard_link_in_a_directory_of_another_user_is_refused(theirs, precious):
    os.link(precious, theirs / "log")
    with pytest.raises(files.OpenRefused, match="hard link"):
        write(theirs / "log", flags=APPEND | os.O_TRUNC)
    assert precious.read_bytes() == b"precious"


@needs_root
def test_a_pipe_in_a_directory_of_another_user_is_refused_without_waiting(theirs):
    os.mkfifo(theirs / "log")
    with open(os.open(theirs / "log", os.O_RDONLY | os.O_NONBLOCK), "rb"):
        with pytest.raises(files.OpenRefused, match="not a regular file"):
            write(theirs / "log")
    with pytest.raises(OSError):
        write(theirs / "log")


@needs_root
def test_a_new_file_in_a_directory_of_another_user(theirs):
    write(theirs / "log")
    write(theirs / "log")
    assert (theirs / "log").read_bytes() == b"datadata"


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_file_that_must_be_ones_own_is_a_regular_one_with_one_name(tmp_path, precious, kind):
    path = tmp_path / "part"
    {"link": os.symlink, "hard link": os.link, "pipe": lambda _, name: os.mkfifo(name)}[kind](
        precious, path
    )
    with pytest.raises(files.OpenRefused):
        write(path, flags=os.O_RDWR | os.O_CREAT, owner=os.geteuid())
    assert precious.read_bytes() == b"precious"


@needs_root
def test_a_file_of_another_user_is_not_taken_over(tmp_path, precious):
    os.chown(precious, NOBODY, NOBODY)
    with pytest.raises(files.OpenRefused, match="another user"):
        write(precious, owner=os.geteuid())


def test_devices_and_open_files_stay_usable(capfd):
    write("/dev/null")
    write("/dev/stdout", b"said\n")
    write("/proc/self/fd/2", b"complained\n")
    assert capfd.readouterr() == ("said\n", "complained\n")


def test_a_pipe_of_ones_own_waits_for_its_reader_when_it_is_full(tmp_path):
    os.mkfifo(tmp_path / "log")
    with open(os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK), "rb"):
        fd = files.open_fd(tmp_path / "log", APPEND)
        assert os.get_blocking(fd)
        os.close(fd)


def test_directories_are_made_with_those_above(tmp_path):
    files.make_directories(tmp_path / "a" / "b", 0o700)
    files.make_directories(tmp_path / "a" / "b", 0o755)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        files.make_directories(tmp_path / "file", 0o700)


def test_no_link_below_a_top_is_followed_whoever_made_it(tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "real").mkdir()
    os.symlink("real", tmp_path / "top" / "link")
    with files.below(str(tmp_path / "top"), "real/name") as (fd, name):
        assert os.path.samestat(os.fstat(fd), (tmp_path / "top" / "real").stat())
        assert name == "name"
    with pytest.raises(OSError), files.below(str(tmp_path / "top"), "link/name"):
        pass


def test_nothing_stays_open(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    os.symlink("b", tmp_path / "a")
    write(tmp_path / "a")
    files.make_directories(tmp_path / "c" / "d", 0o700)
    for missing in ("no/file", "b/file"):
        with pytest.raises(OSError):
            write(tmp_path / missing)
    with pytest.raises(OSError):
        write(tmp_path / "a", owner=os.geteuid())
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_pipe_is_opened_when_its_reader_comes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb") as reading:
        with open(files.open_special(str(tmp_path / "pipe"), os.O_WRONLY), "wb") as writing:
            writing.write(b"through the pipe")
        assert reading.read() == b"through the pipe"
    with open(files.open_special("/dev/null", os.O_WRONLY), "wb") as null:
        assert os.fstat(null.fileno()).st_rdev == os.makedev(1, 3)


@needs_root
@pytest.mark.parametrize("kind", ["link", "hard link", "own pipe", "pipe"])
def test_a_device_that_another_user_has_put_there_is_refused(tmp_path, kind):
    directory, device = tmp_path / "tmp", tmp_path / "device"
    directory.mkdir()
    directory.chmod(0o1777)
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    path = directory / "x"
    if kind == "link":
        as_nobody(path, device)
    elif kind == "hard link":
        os.link(device, path)
    else:
        os.mkfifo(path)
        os.chown(path, NOBODY if kind == "pipe" else 0, 0)
    if kind == "own pipe":
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb"):
            os.close(files.open_special(str(path), os.O_WRONLY))
        return
    with pytest.raises(files.OpenRefused):
        files.open_special(str(path), os.O_WRONLY)

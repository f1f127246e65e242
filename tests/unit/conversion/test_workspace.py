"""The directories of jobs: who may be where, what is left, and how much room there is."""

import os
import stat
import subprocess
import sys
import threading
import uuid

import pytest

from glance.common import config, exception
from glance.conversion import workspace
from glance.conversion.errors import Code, ConversionError

from support import faults

JOB = "0b5c9c64-6a0e-4d0c-b2d5-2f4f6f6d3f10"
OTHER = "6f1f7c8e-9b55-4d8d-8f3d-0a8f7d7d2a11"


def settings(path, **options):
    values = {"conversion_work_dir": path, "conversion_disk_reserve": 0, **options}
    return config.Conf({name: str(value) for name, value in values.items()})


@pytest.fixture
def work_dir(tmp_path):
    return workspace.WorkDir(settings(tmp_path / "work"))


@pytest.fixture
def space(work_dir):
    made = work_dir.space(JOB)
    made.open()
    yield made
    made.close()


def test_a_job_has_a_directory_of_its_own(work_dir, space):
    assert os.listdir(work_dir.path) == [JOB]
    assert stat.S_IMODE(os.stat(space.path).st_mode) == 0o700
    fd = space.create("source")
    os.write(fd, b"data")
    status = os.stat(f"{space.path}/source")
    assert (stat.S_IMODE(status.st_mode), status.st_size) == (0o600, 4)
    space.close()
    assert os.listdir(work_dir.path) == []
    with pytest.raises(OSError):
        os.fstat(fd)
    space.close()


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    old = os.umask(0)
    try:
        work_dir = workspace.WorkDir(settings(tmp_path / "a" / "work"))
        made = work_dir.space(JOB)
        made.open()
        fd = made.create("source")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(work_dir.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o700
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    made.close()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "source", JOB.upper(), JOB.replace("-", ""), f"{{{JOB}}}"]
    + [f"urn:uuid:{JOB}", f" {JOB}", f"{JOB}\n", f"{JOB}\0", "\u0660" * 8 + JOB[8:]],
)
def test_a_job_is_named_by_a_uuid(work_dir, name):
    assert not workspace.is_job_id(name)
    with pytest.raises(ValueError):
        work_dir.space(name)


@pytest.mark.parametrize("name", ["source", "target"])
def test_what_is_there_already_is_neither_followed_nor_used(space, tmp_path, name):
    (tmp_path / "victim").write_bytes(b"untouched")
    os.symlink(tmp_path / "victim", f"{space.path}/{name}")
    with pytest.raises(ConversionError) as caught:
        space.create(name)
    assert caught.value.code is Code.HOST_FAILED
    assert str(tmp_path) not in str(caught.value) + caught.value.detail
    assert (tmp_path / "victim").read_bytes() == b"untouched"


def test_a_job_that_is_at_work_is_not_begun_again(work_dir, space):
    with pytest.raises(ConversionError) as caught:
        work_dir.space(JOB).open()
    assert caught.value.code is Code.HOST_FAILED
    assert os.path.isdir(space.path)


def test_what_a_dead_worker_has_left_of_a_job_does_not_stop_it(work_dir):
    os.mkdir(f"{work_dir.path}/{JOB}")
    (open(f"{work_dir.path}/{JOB}/source", "w")).close()
    made = work_dir.space(JOB)
    made.open()
    assert os.listdir(made.path) == []
    made.close()


def test_a_link_in_the_place_of_a_directory_is_removed_not_followed(work_dir, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    os.symlink(victim, f"{work_dir.path}/{JOB}")
    made = work_dir.space(JOB)
    made.open()
    assert not os.path.islink(made.path)
    made.close()
    assert (victim / "file").exists()


# -- leftovers -----------------------------------------------------------------------------------


def test_only_what_dead_workers_have_left_is_removed(work_dir, space, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    left, leased = str(uuid.uuid4()), OTHER
    for name in (left, leased, "lost+found", "readme", JOB.upper()):
        os.mkdir(f"{work_dir.path}/{name}")
    os.symlink(victim, f"{work_dir.path}/{left}/out")
    assert work_dir.remove_leftovers({leased}) == [left]
    assert sorted(os.listdir(work_dir.path)) == sorted(
        [JOB, leased, "lost+found", "readme", JOB.upper()]
    )
    assert (victim / "file").exists()
    assert work_dir.remove_leftovers() == [leased]


def test_the_directory_of_a_living_process_stays(tmp_path):
    code = (
        "import sys, time\n"
        "from glance.common import config\n"
        "from glance.conversion import workspace\n"
        "work = workspace.WorkDir(config.Conf({'conversion_work_dir': sys.argv[1]}))\n"
        "space = work.space(sys.argv[2])\n"
        "space.open()\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    work_dir = workspace.WorkDir(settings(tmp_path / "work"))
    words = [sys.executable, "-W", "ignore", "-c", code, work_dir.path, JOB]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        assert work_dir.remove_leftovers() == []
        process.kill()
    assert work_dir.remove_leftovers() == [JOB]
    assert os.listdir(work_dir.path) == []


def test_deep_and_closed_directories_are_removed(work_dir, space, tmp_path):
    """What has broken out of the tool could have made them."""
    fd = os.open(space.path, os.O_RDONLY)
    for depth in range(1010):
        os.mkdir("d", 0o700, dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        if depth % 200 == 0:
            os.close(os.open("file", os.O_CREAT, 0, dir_fd=deeper))
            os.mkfifo("pipe", 0, dir_fd=deeper)
            os.symlink("/etc", "link", dir_fd=deeper)
            os.fchmod(fd, 0)
        os.close(fd)
        fd = deeper
    os.close(fd)
    for number in range(1010):
        open(f"{space.path}/{number}", "w").close()
    space.close()
    assert os.listdir(work_dir.path) == []


def test_nothing_is_raised_by_what_cannot_be_removed(work_dir, caplog, monkeypatch):
    os.mkdir(f"{work_dir.path}/{JOB}")

    def refuse(*args):
        raise PermissionError(13, "Permission denied", work_dir.path)

    monkeypatch.setattr(workspace, "remove_tree", refuse)
    assert work_dir.remove_leftovers() == []
    assert f"Job {JOB}: what is left of it cannot be removed: Permission denied" in caplog.text
    made = work_dir.space(OTHER)
    made.open()
    made.close()
    assert f"Job {OTHER}: its directory cannot be removed: Permission denied" in caplog.text
    assert work_dir.path not in caplog.text


def test_who_sweeps_and_who_begins_do_not_hurt_each_other(work_dir):
    """A directory that is being made is never taken for one that is left."""
    working = [True]
    problems = []

    def sweep():
        while working:
            work_dir.remove_leftovers()

    def work():
        for _ in range(60):
            made = work_dir.space(str(uuid.uuid4()))
            try:
                made.open()
                made.create("source")
                if not os.path.exists(f"{made.path}/source"):
                    problems.append("gone")
            except ConversionError as err:
                problems.append(err.detail)
            finally:
                made.close()

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    workers = [threading.Thread(target=work) for _ in range(2)]
    for thread in (*sweepers, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    working.clear()
    for thread in sweepers:
        thread.join()
    assert problems == []
    assert os.listdir(work_dir.path) == []


def test_a_directory_that_was_swept_before_it_was_locked_is_made_again(work_dir, monkeypatch):
    plain = workspace._take
    swept = []

    def take(fd):
        if not swept:
            swept.append(os.rmdir(f"{work_dir.path}/{JOB}"))
        return plain(fd)

    monkeypatch.setattr(workspace, "_take", take)
    made = work_dir.space(JOB)
    made.open()
    try:
        assert swept == [None]
        assert os.fstat(made._fd).st_ino == os.stat(made.path).st_ino
    finally:
        made.close()


# -- the directory of all ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/usr/lib/glance-conversion", "/lib/x", "/usr/local/lib"])
def test_the_directory_is_not_one_that_every_job_can_read(path):
    with pytest.raises(exception.ConfigError, match="every conversion can read"):
        workspace.WorkDir(settings(path))
    assert not os.path.exists("/usr/lib/glance-conversion")


def test_a_link_does_not_hide_such_a_directory(tmp_path):
    (tmp_path / "link").symlink_to("/usr/lib")
    with pytest.raises(exception.ConfigError, match="every conversion can read"):
        workspace.WorkDir(settings(tmp_path / "link"))


def test_others_may_not_write_to_the_directory(tmp_path):
    tmp_path.chmod(0o770)
    with pytest.raises(exception.ConfigError, match="chmod 700") as caught:
        workspace.WorkDir(settings(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", ["touch", "mkfifo"])
def test_what_is_no_directory_cannot_be_used(tmp_path, make):
    getattr(os, make, lambda path: open(path, "w").close())(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "work"):
        with pytest.raises(exception.ConfigError, match="is not a directory"):
            workspace.WorkDir(settings(path))


# -- room ----------------------------------------------------------------------------------------


def free(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def test_jobs_share_what_is_free(tmp_path):
    with faults.small_filesystem(tmp_path / "work", 10 << 20) as small:
        small.chmod(0o700)
        work_dir = workspace.WorkDir(settings(small, conversion_disk_reserve=2 << 20))
        work_dir.promise(JOB, 5 << 20)
        with pytest.raises(ConversionError) as caught:
            work_dir.promise(OTHER, 4 << 20)
        assert caught.value.code is Code.NO_SPACE
        work_dir.promise(OTHER, 2 << 20)
        # What is written is not promised any more.
        (small / "source").write_bytes(bytes(4 << 20))
        work_dir.spend(JOB, 4 << 20)
        work_dir.promise(OTHER, 2 << 20)
        # A new promise takes the place of the old one.
        work_dir.promise(JOB, 1 << 20)
        work_dir.forget(JOB)
        work_dir.promise(OTHER, free(small) - (2 << 20))
        with pytest.raises(ConversionError):
            work_dir.promise(JOB, 1)


def test_a_closed_job_has_no_promise(work_dir, space):
    work_dir.promise(JOB, free(work_dir.path) // 2 + 1)
    space.close()
    work_dir.promise(OTHER, free(work_dir.path) // 2 + 1)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_directory_without_permission(tmp_path, mode):
    if os.geteuid() == 0:
        pytest.skip("root may do all")
    tmp_path.chmod(mode)
    with pytest.raises(exception.ConfigError):
        workspace.WorkDir(settings(tmp_path))
    tmp_path.chmod(0o700)

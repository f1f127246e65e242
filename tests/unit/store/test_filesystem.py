"""The file store: the suite, and what only a file system can do wrong."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from glance.common import config, exception
from glance.common.config import Conf
from glance.store import base, filesystem
from glance.store.base import CHUNK
from glance.store.location import get_location_from_uri
from glance.streaming import threads
from glance.testing.store_suite import (
    Boom,
    ScriptedSource,
    WritableStoreSuite,
    failing_after,
    make_data,
)

AS_ROOT = os.geteuid() == 0


def make_store(datadir, **options):
    return filesystem.FilesystemStore(Conf({"filesystem_store_datadir": str(datadir), **options}))


def names(store):
    """Return every name under the data directory, those of uploads in progress included."""
    found = [name for name in os.listdir(store.datadir) if name != filesystem.INCOMING]
    return sorted(found + os.listdir(store.incoming))


def locate(path):
    return get_location_from_uri(f"file://{path}")


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "images")


class TestFileStore(WritableStoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return make_store(tmp_path / "images")

    def contents(self, store):
        return names(store)


# -- configuration --


def test_the_data_directory_is_made_with_its_parents_and_closed_to_others(tmp_path):
    store = make_store(tmp_path / "a" / "b")
    assert store.add_disabled is None
    assert stat.S_IMODE(os.stat(store.datadir).st_mode) & 0o027 == 0
    assert names(store) == []


def test_the_default_is_the_documented_directory():
    assert config.TABLE["filesystem_store_datadir"].default == "/var/lib/glance/images/"


@pytest.mark.parametrize("obstacle", ["a file", "no directory can be made"])
def test_a_directory_that_cannot_be_used_disables_adding_only(tmp_path, obstacle):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" if obstacle == "a file" else tmp_path / "file" / "images"
    store = make_store(path)
    assert "filesystem_store_datadir" in store.add_disabled
    with pytest.raises(exception.StoreAddDisabled) as caught:
        store.add("1", ScriptedSource(b"data"), 4)
    assert str(path) not in str(caught.value)
    with pytest.raises(exception.StoreObjectNotFound):
        store.get(locate(path / "1"))


def test_a_directory_without_hard_links_disables_adding(tmp_path, monkeypatch):
    def link(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    store = make_store(tmp_path / "images")
    assert store.add_disabled is not None
    assert names(store) == []


@pytest.mark.parametrize("text", ["0888", "9999", "rw", "0", "-1"])
def test_a_file_mode_must_be_octal(text):
    with pytest.raises(exception.ConfigError):
        Conf({"filesystem_store_file_mode": text}).filesystem_store_file_mode  # noqa: B018


def test_files_get_the_configured_mode_whatever_the_umask(tmp_path):
    store = make_store(tmp_path, filesystem_store_file_mode="0664")
    old = os.umask(0o077)
    try:
        store.add("1", ScriptedSource(b"data"), 4)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "1").st_mode) == 0o664


# -- writing --


def test_the_location_is_the_plain_path_of_the_image(tmp_path):
    store = make_store(f"{tmp_path}/")
    assert store.add("17", ScriptedSource(b"data"), 4).location == f"file://{tmp_path}/17"


def test_nothing_is_visible_under_the_id_before_the_commit(store):
    with store.stage("1", 4) as staged:
        staged.write(b"data")
        assert not os.path.exists(store.path_of("1"))
        assert len(os.listdir(store.incoming)) == 1
        staged.commit()
    assert names(store) == ["1"]


def test_a_reserved_but_unused_tail_is_cut_off(store):
    with store.stage("1", 10_000_000) as staged:
        staged.write(b"data")
        staged.commit()
    assert os.stat(store.path_of("1")).st_size == 4


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
def test_zeros_take_no_room_on_the_disk(store, known):
    data = b"begin" + bytes(8 * CHUNK) + make_data(CHUNK) + bytes(8 * CHUNK)
    result = store.add("1", ScriptedSource(data), len(data) if known else None)
    status = os.stat(store.path_of("1"))
    assert (result.size, status.st_size) == (len(data), len(data))
    assert CHUNK <= status.st_blocks * 512 <= 1.05 * CHUNK


def test_a_declared_size_must_fit_whatever_the_data(tmp_path):
    room = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    store = make_store(tmp_path)
    source = ScriptedSource(bytes(CHUNK))
    with pytest.raises(exception.StorageFull):
        store.add("1", source, 2 * room)
    assert source.count == 0
    assert names(store) == []


def test_a_file_that_appears_during_the_upload_is_not_replaced(store):
    with pytest.raises(exception.StoreObjectExists):
        with store.stage("1", 4) as staged:
            staged.write(b"mine")
            with open(store.path_of("1"), "wb") as other:
                other.write(b"theirs")
            staged.commit()
    assert names(store) == ["1"]
    with open(store.path_of("1"), "rb") as kept:
        assert kept.read() == b"theirs"


@pytest.mark.parametrize("kind", ["symlink", "directory"])
def test_anything_under_the_final_name_counts_as_a_duplicate(store, kind):
    if kind == "symlink":
        os.symlink("/nowhere", store.path_of("1"))
    else:
        os.mkdir(store.path_of("1"))
    with pytest.raises(exception.StoreObjectExists):
        store.add("1", ScriptedSource(b"data"), 4)


# -- a full disk --


def test_a_known_size_that_leaves_too_little_is_refused_before_reading(tmp_path):
    store = make_store(tmp_path, filesystem_store_min_free_bytes=str(1 << 62))
    source = ScriptedSource(b"data")
    with pytest.raises(exception.StorageFull):
        store.add("1", source, 4)
    assert source.count == 0
    assert names(store) == []


def test_an_upload_of_unknown_size_ends_when_too_little_is_left(store, monkeypatch):
    checks = []

    def check_room(wanted):
        checks.append(wanted)
        if len(checks) > 1:
            raise exception.StorageFull

    monkeypatch.setattr(store, "check_room", check_room)
    source = ScriptedSource(make_data(16 * CHUNK))
    with pytest.raises(exception.StorageFull):
        store.add("1", source, None)
    assert source.count < 16 * CHUNK
    assert names(store) == []


@pytest.mark.parametrize("size", [None, 8 * CHUNK], ids=["unknown size", "known size"])
def test_a_file_over_the_process_limit_counts_as_full(store, size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK + 5000, hard))
    try:
        with pytest.raises(exception.StorageFull) as caught:
            store.add("1", ScriptedSource(make_data(8 * CHUNK)), size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.__cause__.errno == errno.EFBIG
    assert names(store) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB; only root can mount one."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = AS_ROOT and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], stderr=subprocess.DEVNULL
    )
    if not mounted:
        pytest.skip("needs root and the right to mount")
    yield path
    subprocess.check_call(["umount", str(path)])


@pytest.mark.parametrize("size", [None, 8 * CHUNK], ids=["unknown size", "known size"])
def test_a_full_disk_leaves_nothing_and_room_for_the_next(small_disk, size):
    store = make_store(small_disk)
    source = ScriptedSource(make_data(8 * CHUNK))
    with pytest.raises(exception.StorageFull):
        store.add("1", source, size)
    assert (source.count == 0) is (size is not None)
    assert names(store) == []
    assert store.add("1", ScriptedSource(make_data(CHUNK)), None).size == CHUNK


# -- errors of system calls --

STEPS = ["open", "fallocate", "write", "fsync", "link", "directory fsync"]


def inject(monkeypatch, step, code):
    """Make one system call of an upload fail."""
    error = OSError(code, os.strerror(code))
    module = threads if step == "open" else os
    name = {
        "open": "open_fd",
        "fallocate": "posix_fallocate",
        "write": "pwrite",
        "directory fsync": "fsync",
    }.get(step, step)
    real = getattr(module, name)

    def call(*args, **kwargs):
        if step.endswith("fsync"):
            is_directory = stat.S_ISDIR(os.fstat(args[0]).st_mode)
            if is_directory is not (step == "directory fsync"):
                return real(*args, **kwargs)
        if step == "open" and filesystem.INCOMING not in str(args[0]):
            return real(*args, **kwargs)
        raise error

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, exception.StorageFull),
        (errno.EDQUOT, exception.StorageFull),
        (errno.EFBIG, exception.StorageFull),
        (errno.EACCES, exception.StorageWriteDenied),
        (errno.EPERM, exception.StorageWriteDenied),
        (errno.EROFS, exception.StorageWriteDenied),
        (errno.EIO, exception.BackendUnavailable),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_an_error_at_any_step_is_translated_and_leaves_nothing(
    store, monkeypatch, step, code, expected
):
    with monkeypatch.context() as patch:
        inject(patch, step, code)
        with pytest.raises(expected) as caught:
            store.add("1", ScriptedSource(b"data"), 4)
    assert caught.value.__cause__.errno == code
    assert store.datadir not in str(caught.value)
    assert names(store) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_reserves_nothing_will_do(store, monkeypatch, code):
    inject(monkeypatch, "fallocate", code)
    assert store.add("1", ScriptedSource(b"data"), 4).size == 4


def test_a_short_write_is_continued(store, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
    data = make_data(10_500)
    store.add("1", ScriptedSource(data), None)
    with open(store.path_of("1"), "rb") as stored:
        assert stored.read() == data


@pytest.mark.skipif(AS_ROOT, reason="nothing is denied to root; the injected EACCES covers it")
def test_a_directory_without_write_permission_is_denied(store):
    os.chmod(store.incoming, 0o500)
    try:
        with pytest.raises(exception.StorageWriteDenied):
            store.add("1", ScriptedSource(b"data"), 4)
    finally:
        os.chmod(store.incoming, 0o700)


def test_a_directory_that_turned_read_only_is_denied(tmp_path):
    if not AS_ROOT:
        pytest.skip("needs root and the right to mount")
    store = make_store(tmp_path / "images")
    path = store.datadir
    if subprocess.call(["mount", "--bind", path, path], stderr=subprocess.DEVNULL):
        pytest.skip("needs the right to mount")
    try:
        subprocess.check_call(["mount", "-o", "remount,ro,bind", path])
        with pytest.raises(exception.StorageWriteDenied):
            store.add("1", ScriptedSource(b"data"), 4)
        with pytest.raises(exception.StorageWriteDenied):
            store.check()
        assert make_store(path).add_disabled is not None
    finally:
        subprocess.check_call(["umount", path])


def test_the_check_misses_a_disk_that_is_not_mounted(store):
    store.check()
    shutil.move(store.datadir, store.datadir + ".away")
    with pytest.raises(exception.BackendUnavailable):
        store.check()
    # The mount point remains, and is empty.
    os.mkdir(store.datadir)
    with pytest.raises(exception.BackendUnavailable):
        store.check()
    os.rmdir(store.datadir)
    shutil.move(store.datadir + ".away", store.datadir)
    store.check()


@pytest.mark.parametrize("name", ["datadir", "incoming"])
def test_the_check_misses_the_right_to_write(store, monkeypatch, name):
    denied = getattr(store, name)
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied)
    with pytest.raises(exception.StorageWriteDenied):
        store.check()


def test_abort_never_raises(store, monkeypatch, caplog):
    staged = store.stage("1", 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda path: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
        staged.abort()
    assert "interrupted upload of image 1" in caplog.text
    assert sweep_away(store) == ["1"]


def test_a_kill_that_arrives_during_the_commit_takes_the_image_back(store, monkeypatch):
    class Killed(BaseException):
        pass

    real = threads.run

    def run(fn, *args):
        result = real(fn, *args)
        if fn.__name__ == "_publish":
            raise Killed
        return result

    with store.stage("1", 4) as staged:
        staged.write(b"data")
        monkeypatch.setattr(threads, "run", run)
        with pytest.raises(Killed):
            staged.commit()
    assert names(store) == []


# -- containment --


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"root:x:0:0")
    return path


def assert_out_of_reach(store, location):
    for operation in (store.get, store.get_size, store.delete):
        with pytest.raises(exception.StoreForbidden):
            operation(location)


def test_a_file_outside_of_the_data_directory_is_out_of_reach(store, secret):
    assert_out_of_reach(store, locate(secret))
    assert not store.owns(locate(secret), "secret")
    assert secret.exists()


def test_a_directory_with_the_same_beginning_is_outside(store, tmp_path):
    other = tmp_path / "images-of-others"
    other.mkdir()
    (other / "1").write_bytes(b"x")
    assert_out_of_reach(store, locate(other / "1"))


def test_a_symbolic_link_does_not_lead_out(store, secret):
    os.symlink(secret, store.path_of("1"))
    os.symlink(secret.parent, store.path_of("dir"))
    assert_out_of_reach(store, locate(store.path_of("1")))
    assert_out_of_reach(store, locate(f"{store.datadir}/dir/secret"))
    assert secret.exists()


def test_uploads_in_progress_are_out_of_reach(store):
    with store.stage("1", 4):
        (name,) = os.listdir(store.incoming)
        assert_out_of_reach(store, locate(f"{store.incoming}/{name}"))


@pytest.mark.parametrize("path", ["", "/", "/.", "/.incoming"])
def test_the_directories_themselves_are_out_of_reach(store, path):
    assert_out_of_reach(store, locate(store.datadir + path))


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_only_regular_files_are_read_and_deleted(store, kind):
    path = store.path_of("1")
    if kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif not AS_ROOT:
        pytest.skip("only root makes devices")
    else:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert_out_of_reach(store, locate(path))
    assert os.path.lexists(path)


def test_a_data_directory_reached_by_a_symbolic_link_works(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = make_store(tmp_path / "link")
    location = get_location_from_uri(store.add("1", ScriptedSource(b"data"), 4).location)
    assert str(location) == f"file://{tmp_path}/link/1"
    assert store.owns(location, "1")
    assert store.owns(locate(tmp_path / "real" / "1"), "1")
    store.delete(location)
    assert names(store) == []


# -- reading --


def test_a_file_that_shrinks_while_it_is_read_is_noticed(store):
    location = get_location_from_uri(
        store.add("1", ScriptedSource(make_data(5 * CHUNK)), None).location
    )
    with store.get(location) as body:
        chunks = iter(body)
        next(chunks)
        os.truncate(store.path_of("1"), 2 * CHUNK)
        with pytest.raises(exception.BackendCorrupt):
            for _ in chunks:
                pass


def test_a_body_offers_its_descriptor_and_position(store):
    location = get_location_from_uri(store.add("1", ScriptedSource(b"0123456789"), 10).location)
    with store.get(location, 3, 4) as body:
        assert (body.offset, body.length, body.size) == (3, 4, 10)
        assert os.pread(body.fileno(), body.length, body.offset) == b"3456"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOENT, exception.StoreObjectNotFound),
        (errno.ENOTDIR, exception.StoreObjectNotFound),
        (errno.EACCES, exception.StoreForbidden),
        (errno.ELOOP, exception.StoreForbidden),
        (errno.EIO, exception.BackendUnavailable),
        (errno.EMFILE, exception.BackendUnavailable),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_an_error_of_opening_is_translated(store, monkeypatch, code, expected):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(threads, "open_fd", fail)
    with pytest.raises(expected):
        store.get(locate(store.path_of("1")))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EACCES, exception.StoreForbidden),
        (errno.EPERM, exception.StoreForbidden),
        (errno.EROFS, exception.StoreForbidden),
        (errno.EIO, exception.BackendUnavailable),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_a_deletion_that_is_refused_is_translated(store, monkeypatch, code, expected):
    store.add("1", ScriptedSource(b"data"), 4)

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with pytest.raises(expected):
            store.delete(locate(store.path_of("1")))
    assert names(store) == ["1"]


# -- registering --


def test_file_locations_need_the_option_an_administrator_and_the_directory(tmp_path, secret):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "disk").write_bytes(b"data")
    closed = make_store(tmp_path / "images", file_locations_dir=str(shared))
    opened = make_store(
        tmp_path / "images", file_locations_dir=str(shared), allow_file_locations="True"
    )
    location = locate(shared / "disk")
    opened.check_registerable(location, is_admin=True)
    with opened.get(location) as body:
        assert b"".join(body) == b"data"
    with pytest.raises(exception.StoreDeleteNotSupported):
        opened.delete(location)
    with pytest.raises(exception.StoreForbidden):
        closed.delete(location)
    for store, where, is_admin in [
        (closed, location, True),
        (opened, location, False),
        (opened, locate(secret), True),
        (opened, locate(opened.path_of("1")), True),
    ]:
        with pytest.raises(exception.BadStoreUri):
            store.check_registerable(where, is_admin=is_admin)


# -- sweeping --

WRITER = """
import sys, time
from glance.common.config import Conf
from glance.store import filesystem
store = filesystem.FilesystemStore(Conf({"filesystem_store_datadir": sys.argv[1]}))
staged = store.stage("41", 1000)
staged.write(b"half an image")
print("ready", flush=True)
sys.stdin.read()
staged.commit()
print("committed", flush=True)
"""


@pytest.fixture
def writer(store):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, store.datadir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def sweep_away(store):
    """Sweep, discard what was found, and return the ids of the images."""
    found = store.sweep()
    for left in found:
        left.discard()
    return [left.image_id for left in found]


def test_a_sweep_spares_an_upload_of_another_living_process(store, writer):
    assert sweep_away(store) == []
    out, _ = writer.communicate()
    assert out == "committed\n"
    assert names(store) == ["41"]


def test_a_sweep_removes_at_once_what_a_killed_process_left(store, writer):
    assert len(os.listdir(store.incoming)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert sweep_away(store) == ["41"]
    assert names(store) == []


def test_a_swept_half_image_takes_no_room_while_it_waits_to_be_settled(store, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = store.sweep()
    assert not left.committed
    (name,) = os.listdir(store.incoming)
    assert os.stat(os.path.join(store.incoming, name)).st_size == 0
    assert store.sweep() == []
    left.leave()
    assert [again.image_id for again in store.sweep()] == ["41"]


@pytest.mark.parametrize(("settle", "kept"), [("keep", ["41"]), ("discard", [])])
def test_a_writer_that_died_after_its_commit(store, settle, kept):
    script = WRITER + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run(
        [sys.executable, "-c", script, store.datadir],
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert "committed" in done.stdout
    (left,) = store.sweep()
    assert left.committed
    getattr(left, settle)()
    assert names(store) == kept
    assert os.listdir(store.incoming) == []


def test_a_sweep_never_empties_a_file_that_has_a_second_name(store):
    store.add("1", ScriptedSource(b"data"), 4)
    # The name of an image whose id is too long for the staged name to hold all of it.
    os.link(store.path_of("1"), os.path.join(store.incoming, "other.0123456789abcdef"))
    assert sweep_away(store) == ["other"]
    assert store.get_size(locate(store.path_of("1"))) == 4
    assert names(store) == ["1"]


def test_a_writer_whose_new_file_a_sweep_took_makes_another(store, monkeypatch):
    real = fcntl.flock
    calls = []

    def flock(fd, operation):
        if not calls:
            calls.append(fd)
            with monkeypatch.context() as patch:
                patch.setattr(fcntl, "flock", real)
                assert sweep_away(store) == ["1"]
        return real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert store.add("1", ScriptedSource(b"data"), 4).size == 4
    assert names(store) == ["1"]


@pytest.mark.parametrize(("age", "swept"), [(0, []), (90_000, ["7"])], ids=["young", "old"])
def test_without_locks_only_old_files_are_swept(store, monkeypatch, age, swept):
    def flock(fd, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    path = os.path.join(store.incoming, "7.0123456789abcdef")
    with open(path, "wb") as file:
        file.write(b"half")
    then = os.stat(path).st_mtime - age
    os.utime(path, (then, then))
    assert sweep_away(store) == swept
    assert os.path.exists(path) is (not swept)


def test_a_sweep_follows_no_link_and_survives_odd_things(store, secret, caplog):
    os.symlink(secret, os.path.join(store.incoming, "link"))
    os.mkdir(os.path.join(store.incoming, "directory"))
    with open(os.path.join(store.incoming, ".probe.1.x"), "wb"):
        pass
    assert sweep_away(store) == []
    assert secret.exists()
    assert sorted(os.listdir(store.incoming)) == ["directory", "link"]
    os.unlink(os.path.join(store.incoming, "link"))
    os.rmdir(os.path.join(store.incoming, "directory"))


def test_a_sweep_without_a_directory_does_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert sweep_away(make_store(tmp_path / "file")) == []


# -- under eventlet --


def green(script, *args):
    """Run a script in a process whose sockets are patched; return what it printed."""
    prelude = "import eventlet; eventlet.monkey_patch()\n"
    return subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", prelude + textwrap.dedent(script), *map(str, args)],
        text=True,
        timeout=60,
    )


def test_a_killed_greenthread_leaves_nothing_at_any_moment(tmp_path):
    out = green(
        """
        import os, random, sys, time
        from glance.common.config import Conf
        from glance.store import filesystem
        store = filesystem.FilesystemStore(Conf({"filesystem_store_datadir": sys.argv[1]}))
        block = os.urandom(1 << 20)
        dice = random.Random(5)

        class Endless:
            left = 20
            def read(self, size):
                eventlet.sleep(0)
                self.left -= 1
                return block if self.left >= 0 else b""

        outcomes = set()
        for number in range(25):
            before = len(os.listdir("/proc/self/fd"))
            thread = eventlet.spawn(store.add, str(number), Endless(), 20 << 20)
            eventlet.sleep(dice.random() * 0.04)
            thread.kill()
            try:
                thread.wait()
                outcomes.add("done")
            except BaseException as err:
                outcomes.add(type(err).__name__)
            left = os.listdir(store.incoming)
            assert not left, left
            if number > 5:
                assert len(os.listdir("/proc/self/fd")) <= before, number
        stored = [name for name in os.listdir(sys.argv[1]) if name[0] != "."]
        print(sorted(outcomes), len(stored) > 0 or "done" not in outcomes)
        """,
        tmp_path,
    )
    assert "GreenletExit" in out
    assert out.endswith("True\n")


def test_an_upload_does_not_stop_the_hub(tmp_path):
    out = green(
        """
        import os, sys, time
        from glance.streaming import threads
        from glance.common.config import Conf
        from glance.store import filesystem
        store = filesystem.FilesystemStore(Conf({"filesystem_store_datadir": sys.argv[1]}))
        ticks = 0

        def tick():
            global ticks
            while True:
                ticks += 1
                eventlet.sleep(0)

        eventlet.spawn(tick)
        real = os.fsync
        started = []

        def fsync(fd):
            started.append(ticks)
            while ticks < started[0] + 100:
                eventlet.patcher.original("time").sleep(0.001)
            real(fd)

        os.fsync = fsync
        with store.stage("1", 4) as staged:
            staged.write(b"data")
            staged.commit()
        print("the hub ran")
        """,
        tmp_path,
    )
    assert out == "the hub ran\n"


def test_the_error_of_a_reader_reaches_the_caller_unchanged(store):
    error = Boom("mine")
    with pytest.raises(Boom) as caught:
        store.add("1", ScriptedSource(make_data(3 * CHUNK), failing_after(CHUNK, error)), None)
    assert caught.value is error


def test_all_digests_that_are_asked_for_are_computed(store):
    data = make_data(3 * CHUNK)
    with store.stage("1", None) as staged:
        received = base.transfer(ScriptedSource(data), staged, ("md5", "sha256"))
    assert set(received.digests) == {"md5", "sha256"}
    assert received.digests["md5"] == received.checksum


# -- listing --


def test_a_list_leaves_out_what_the_store_did_not_write(store, tmp_path):
    store.add("1", ScriptedSource(b"data"), 4)
    os.mkdir(os.path.join(store.datadir, "2"))
    os.symlink(os.path.join(store.datadir, "1"), os.path.join(store.datadir, "3"))
    for name in (".hidden", "a b", "x~"):
        with open(os.path.join(store.datadir, name), "w"):
            pass
    with store.stage("4", None) as staged:
        staged.write(b"on its way")
        assert [entry.image_id for entry in store.list_objects()] == ["1"]


def test_a_long_list_comes_whole_and_survives_deletions_meanwhile(store, monkeypatch):
    monkeypatch.setattr(filesystem, "_LIST_STEP", 3)
    for number in range(10):
        store.add(str(number), ScriptedSource(b"x"), 1)
    found = store.list_objects()
    first = next(found)
    os.unlink(os.path.join(store.datadir, first.image_id))
    assert {entry.image_id for entry in found} == set(map(str, range(10))) - {first.image_id}


def test_a_directory_that_is_away_cannot_be_listed(store):
    os.rename(store.datadir, store.datadir + ".away")
    with pytest.raises(exception.BackendUnavailable):
        list(store.list_objects())

"""Log files on disks that fill up, go away and come back."""

import errno
import logging
import os
import subprocess
import sys

import pytest

from glance.common import files, log_file

FULL = "The log cannot be written: No space left on device\n"


@pytest.fixture
def disk(tmp_path):
    """Return a directory, and functions that mount a small file system there and take it off."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(size="16k"):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount file systems")

    def unmount():
        subprocess.run(["umount", "-l", str(path)], capture_output=True)

    yield path, mount, unmount
    while os.path.ismount(path):
        unmount()


@pytest.fixture
def logger(monkeypatch):
    """Return a maker of loggers with one file each."""
    monkeypatch.setattr(log_file, "_reported", log_file._reported)
    monkeypatch.setattr(logging.Handler, "handleError", logging.Handler.handleError)
    monkeypatch.setattr(logging.FileHandler, "_open", logging.FileHandler._open)
    log_file.harden()
    made = []

    def make(path, **options):
        handler = log_file.LogFile(str(path), **options)
        logger = logging.Logger("glance.test")
        logger.addHandler(handler)
        made.append(handler)
        return logger

    yield make
    for handler in made:
        handler.close()


def fill(path):
    """Leave no room on the disk of a file."""
    with open(path, "wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(b"x" * 4096)


def test_a_log_goes_on_when_its_disk_has_room_again(disk, logger, capfd):
    path, mount, _ = disk
    mount()
    log = logger(path / "x.log")
    log.error("before")
    fill(path / "filler")
    for number in range(500):
        log.error("%s %s", number, "x" * 50)
    assert capfd.readouterr().err == FULL
    written = (path / "x.log").read_text().splitlines()
    assert written[0] == "before"
    (path / "filler").unlink()
    log.error("after")
    lines = (path / "x.log").read_text().splitlines()
    # The last line for which there was not enough room may be cut.
    lost = 500 - sum(line.endswith("x" * 50) for line in written)
    note = f"{lost} lines before this one could not be written: No space left on device"
    assert lines[-2:] == [note, "after"]
    assert lines[: len(written)] == written
    fill(path / "filler")
    for _ in range(100):
        log.error("x" * 50)
    assert capfd.readouterr().err == FULL


def test_a_log_goes_on_when_its_file_system_was_replaced(disk, logger, capfd):
    path, mount, unmount = disk
    mount()
    log = logger(path / "x.log")
    log.error("first")
    fill(path / "filler")
    for _ in range(200):
        log.error("x" * 50)
    mount()
    log.error("second")
    assert "second" in (path / "x.log").read_text()
    assert os.stat(path / "x.log").st_dev == os.stat(path).st_dev
    unmount()
    unmount()
    log.error("third")
    assert (path / "x.log").read_text() == "third\n"
    assert capfd.readouterr().err == FULL


@pytest.mark.parametrize("change", ["deleted", "moved", "replaced", "with its directory"])
def test_a_log_goes_on_when_its_file_has_changed(tmp_path, logger, change):
    path = tmp_path / "logs" / "x.log"
    path.parent.mkdir()
    log = logger(path)
    log.error("first")
    if change == "deleted":
        path.unlink()
    elif change == "replaced":
        (tmp_path / "new").touch()
        os.rename(tmp_path / "new", path)
    elif change == "moved":
        path.rename(tmp_path / "old")
    else:
        path.unlink()
        path.parent.rmdir()
        log.error("while it is away")
        path.parent.mkdir()
    log.error("second")
    assert path.read_text() == "second\n"
    if change == "moved":
        assert (tmp_path / "old").read_text() == "first\n"


def test_the_old_file_is_used_until_the_new_one_can_be_opened(
    tmp_path, logger, monkeypatch, capfd
):
    """As after a switch to another user, who may not make files in the directory."""
    log = logger(tmp_path / "x.log")
    (tmp_path / "x.log").rename(tmp_path / "old.log")
    with monkeypatch.context() as patched:

        def refused(*_, **__):
            raise PermissionError(13, "Permission denied")

        patched.setattr(files, "open_fd", refused)
        log.error("first")
        log.error("second")
        err = capfd.readouterr().err
        assert err == f"A log file cannot be reopened: Permission denied: {tmp_path}/x.log\n" * 2
    log.error("third")
    assert (tmp_path / "old.log").read_text() == "first\nsecond\n"
    assert (tmp_path / "x.log").read_text() == "third\n"


def test_processes_of_a_daemon_report_a_problem_once(logger, capfd):
    log = logger("/dev/full")
    for _ in range(2):
        pid = os.fork()
        if not pid:
            log.error("from a worker")
            sys.stderr.flush()
            os._exit(0)
        os.waitpid(pid, 0)
    log.error("from the parent")
    assert capfd.readouterr().err == FULL


class Broken:
    """A file that takes so many bytes, and fails then."""

    def __init__(self, real, room, code):
        self.real, self.room, self.code = real, room, code

    def write(self, data):
        data = data[: self.room]
        if not data:
            raise OSError(self.code, os.strerror(self.code))
        self.room -= len(data)
        return self.real.write(data)

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EROFS, errno.EBADF])
def test_after_an_error_of_the_disk_the_file_is_opened_anew(tmp_path, logger, code):
    log = logger(tmp_path / "x.log")
    (handler,) = log.handlers
    handler.stream = broken = Broken(handler.stream, 0, code)
    log.error("lost")
    log.error("kept")
    assert handler.stream is not broken
    assert (tmp_path / "x.log").read_text().splitlines() == [
        f"1 lines before this one could not be written: {os.strerror(code)}",
        "kept",
    ]


def test_a_line_that_was_cut_does_not_run_into_the_next(tmp_path, logger):
    log = logger(tmp_path / "x.log")
    (handler,) = log.handlers
    handler.stream = Broken(handler.stream, 3, errno.ENOSPC)
    log.error("0123456789")
    handler.stream = handler.stream.real
    log.error("after")
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("012", "after", 3)


def test_a_line_is_written_with_one_call(tmp_path, logger):
    log = logger(tmp_path / "x.log")
    (handler,) = log.handlers
    calls = []

    class Counting(Broken):
        def write(self, data):
            calls.append(data)
            return self.real.write(data)

    handler.stream = Counting(handler.stream, 0, 0)
    log.error("é" * 100_000)
    assert calls == [("é" * 100_000 + "\n").encode()]


def test_a_fault_in_a_message_is_shown_as_the_standard_library_shows_it(tmp_path, logger, capfd):
    log = logger(tmp_path / "x.log")
    log.error("%d", "no number")
    log.error("kept")
    assert (tmp_path / "x.log").read_text() == "kept\n"
    assert "TypeError" in capfd.readouterr().err


@pytest.mark.parametrize("delay", [False, True])
def test_a_file_that_is_to_be_emptied_is_so_once(tmp_path, logger, delay):
    path = tmp_path / "x.log"
    path.write_text("old")
    log = logger(path, mode="w", delay=delay)
    log.error("first")
    (handler,) = log.handlers
    handler.stream = Broken(handler.stream, 0, errno.EIO)
    log.error("lost")
    log.error("second")
    assert [path.read_text().splitlines()[number] for number in (0, -1)] == ["first", "second"]


def test_files_of_a_logging_configuration_are_of_this_kind(tmp_path, logger):
    from glance.common import config, log

    (tmp_path / "logging.conf").write_text(
        "[loggers]\nkeys=root,x\n[handlers]\nkeys=a,b\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=\n[logger_x]\nqualname=glance.test_files\nhandlers=a,b\n"
        f"[handler_a]\nclass=FileHandler\nargs=('{tmp_path}/a.log', 'w')\n"
        f"[handler_b]\nclass=handlers.WatchedFileHandler\nargs=('{tmp_path}/b.log',)\n"
    )
    root = logging.getLogger()
    old = list(root.handlers)
    try:
        log.setup(config.Conf({"log_config": str(tmp_path / "logging.conf")}), "glance-test")
    finally:
        root.handlers[:] = old
    handlers = logging.getLogger("glance.test_files").handlers
    try:
        assert [type(handler) for handler in handlers] == [log_file.LogFile] * 2
    finally:
        for handler in list(handlers):
            logging.getLogger("glance.test_files").removeHandler(handler)
            handler.close()
        logging.setLogRecordFactory(logging.LogRecord)

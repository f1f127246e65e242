"""The list of records that a process has begun: what the next process finds if it is killed."""

import errno
import json
import os

import pytest

from glance.registry import unfinished
from glance.registry.unfinished import Note
from glance.store import base
from glance.streaming import staged_file

ONE, TWO, COPY = Note("1" * 32), Note("2" * 32), Note("3" * 32, 7)


@pytest.fixture
def notes(tmp_path):
    return unfinished.Unfinished(str(tmp_path))


def files(directory):
    return sorted(directory.iterdir())


def die(notes):
    """End a process that has `notes` without letting it do anything."""
    if notes._file is not None:
        notes._file.close()


def left(directory):
    """Return what the next process finds, and end the files."""
    found = unfinished.take(str(directory), 0)
    told = [note for each in found for note in each.notes]
    for each in found:
        each.remove()
    return told


def test_a_killed_process_leaves_what_it_has_not_struck_out(notes, tmp_path):
    first = notes.keep(ONE)
    notes.keep(TWO)
    notes.keep(COPY)
    first.strike()
    die(notes)
    assert left(tmp_path) == [TWO, COPY]
    assert files(tmp_path) == []


def test_there_is_a_file_only_while_something_is_noted(notes, tmp_path):
    for _ in range(3):
        with notes.keep(ONE):
            (path,) = files(tmp_path)
            assert path.name.startswith(base.UNFINISHED_PREFIX)
            assert path.stat().st_mode & 0o777 == 0o600
        assert files(tmp_path) == []


def test_an_error_strikes_the_note_out_too(notes, tmp_path):
    with pytest.raises(ZeroDivisionError), notes.keep(ONE):
        raise ZeroDivisionError
    assert files(tmp_path) == []


def test_nobody_takes_the_file_of_a_living_process(notes, tmp_path):
    with notes.keep(ONE):
        assert unfinished.take(str(tmp_path), 3600) == []
    assert files(tmp_path) == []


def test_a_file_that_is_left_is_found_again(notes, tmp_path):
    notes.keep(ONE)
    die(notes)
    (found,) = unfinished.take(str(tmp_path), 0)
    assert unfinished.take(str(tmp_path), 3600) == []
    found.leave()
    assert left(tmp_path) == [ONE]


def test_a_note_is_written_before_the_block_that_goes_on_with_it(notes, tmp_path):
    kept = notes.room()
    assert files(tmp_path) == []
    with kept.replacing(COPY):
        assert len(files(tmp_path)) == 1
    with kept.replacing(ONE):
        pass
    notes.keep(TWO)
    with kept.striking():
        pass
    # That costs nothing again.
    with kept.striking():
        kept.strike()
    die(notes)
    assert left(tmp_path) == [TWO]


def test_striking_twice_does_nothing(notes, tmp_path):
    kept = notes.keep(ONE)
    notes.keep(TWO)
    kept.strike()
    kept.strike()
    die(notes)
    assert left(tmp_path) == [TWO]


def test_a_long_life_does_not_make_the_file_grow_for_ever(notes, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "REWRITE_AT", 1000)
    notes.keep(COPY)
    for _ in range(100):
        with notes.keep(ONE):
            pass
    (path,) = files(tmp_path)
    assert path.stat().st_size < 1200
    die(notes)
    assert left(tmp_path) == [COPY]


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[1]", b'[1, {"x": 2}]', b'[2, {"attempt"', b"\xff\xfe"],
    ids=str,
)
def test_a_line_that_cannot_be_read_costs_no_other(notes, tmp_path, line, caplog):
    notes.keep(ONE)
    die(notes)
    (path,) = files(tmp_path)
    with path.open("ab") as stream:
        stream.write(line + b"\n" + json.dumps([9, {"attempt": "x", "image_id": 3}]).encode())
        # The last line has no end: its writer was killed while it wrote.
    assert left(tmp_path) == [ONE]
    assert "cannot be read" in caplog.text


def test_a_full_disk_ends_no_upload(notes, tmp_path, caplog):
    os.rmdir(tmp_path)
    with notes.keep(ONE):
        pass
    assert "cannot be noted" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("written", [0, 10])
def test_a_line_that_could_not_be_written_costs_no_other(notes, tmp_path, monkeypatch, written):
    notes.keep(ONE)
    write = staged_file.LocalFile.write

    def fail(file, data):
        write(file, data[:written])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(staged_file.LocalFile, "write", fail)
        lost = notes.keep(TWO)
    assert len(files(tmp_path)) == 1
    kept = notes.keep(COPY)
    assert len(files(tmp_path)) == 1
    lost.strike()
    kept.replace(Note(COPY.attempt, 8))
    die(notes)
    assert left(tmp_path) == [ONE, Note(COPY.attempt, 8)]


def test_a_name_that_stays_makes_nobody_take_a_living_upload(notes, tmp_path, monkeypatch):
    def refuse(file, *names):
        file.close()
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(staged_file.LocalFile, "remove", refuse)
        with notes.keep(ONE):
            pass
    assert len(files(tmp_path)) == 1
    assert left(tmp_path) == []


def test_a_full_disk_is_told_once_until_there_is_room(notes, tmp_path, caplog):
    os.rmdir(tmp_path)
    first = notes.keep(ONE)
    notes.keep(TWO)
    assert caplog.text.count("cannot be noted") == 1
    os.mkdir(tmp_path)
    first.strike()
    die(notes)
    assert left(tmp_path) == [TWO]


def test_without_a_directory_nothing_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = unfinished.Unfinished(None)
    with notes.keep(ONE):
        copy = notes.keep(COPY)
        copy.replace(TWO)
        assert list(tmp_path.iterdir()) == []
    copy.strike()

"""Records that wait for data which only this process brings, noted on the disk of this host.

A process that is killed leaves such records behind, and staged writes do not tell of all: not of a
record whose creation, or whose change to saving, it had just sent to the registry, and not of
copies that wait for their turn. So the process notes each before it begins, and strikes it out at
the end; the file is there only while something is noted. `glance.api.recovery` takes the files of
dead processes at the start of the next one, `glance.scrubber.uploads` where none starts.

The file outlives the process, not a power failure: nothing waits for the disk. What is lost then,
`glance-scrubber` finds by the age of the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import secrets
import time
from typing import Any, Self

from glance.image import uploads
from glance.store import base
from glance.streaming import hub, staged_file, threads
from glance.streaming.staged_file import LocalFile

LOG = logging.getLogger(__name__)

#: A file in which most lines are struck out is written anew at this size, in bytes.
REWRITE_AT = 1 << 20
#: Seconds after which the registry has carried out whatever a dead process sent to it.
LATE_CALL = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """One record: the `attempt` that creates it, and its id as soon as its caller knows it.

    `queued_size` is the size in bytes with which it is queued again if its data does not come;
    with None it is killed then.
    """

    attempt: str
    image_id: int | None = None
    queued_size: int | None = None

    @property
    def outcome(self) -> uploads.Outcome:
        """What becomes of the record if its data does not come."""
        if self.queued_size is None:
            return uploads.KILLED
        return uploads.queued_again(self.queued_size)


_NAMES = tuple(field.name for field in dataclasses.fields(Note))


class Kept:
    """A note of this process, until it is struck out: call `strike`, or leave the block.

    The note stays, for the next process, if this one is killed. PERF: `replacing` and `striking`
    write it together with the next thing that their block does to a file.
    """

    def __init__(self, notes: Unfinished, number: int):
        self._notes, self._number = notes, number

    def replace(self, note: Note) -> None:
        """Put another note in the place of this one."""
        self._notes.write(self._number, note)

    def replacing(self, note: Note) -> contextlib.AbstractContextManager[None]:
        """Put another note in the place of this one, before the block does anything to a file."""
        return self._notes.writing(self._number, note)

    def strike(self) -> None:
        """Strike the note out; idempotent."""
        self._notes.write(self._number, None)

    def striking(self) -> contextlib.AbstractContextManager[None]:
        """Strike the note out, before the block does anything to a file."""
        return self._notes.writing(self._number, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.strike()


class Unfinished:
    """The notes of one process, in `directory`; with None for it, nothing is noted.

    An error of the disk is logged: it must not end a request that can go on without a note.
    """

    def __init__(self, directory: str | None):
        self._directory = directory
        self._file: LocalFile | None = None
        self._notes: dict[int, Note] = {}
        self._numbers = itertools.count(1)
        self._fails = False
        # NOTE: for native threads, in which files are written.
        self._lock = hub.native_lock()

    @property
    def count(self) -> int:
        """How many records are noted now."""
        return len(self._notes)

    def keep(self, note: Note) -> Kept:
        """Note a record; the caller strikes the note out."""
        kept = self.room()
        kept.replace(note)
        return kept

    def room(self) -> Kept:
        """Return room for a note, in which there is none yet; the caller strikes it out."""
        return Kept(self, next(self._numbers))

    def write(self, number: int, note: Note | None) -> None:
        """Put a note under a number, or strike out what is there."""
        if self._changes(number, note):
            threads.run(self._change, number, note)

    def writing(self, number: int, note: Note | None) -> contextlib.AbstractContextManager[None]:
        """Do as `write` does, in a block and with what that does to files."""
        if not self._changes(number, note):
            return contextlib.nullcontext()
        return threads.joined(lambda: self._change(number, note))

    def _changes(self, number: int, note: Note | None) -> bool:
        return self._directory is not None and (note is not None or number in self._notes)

    def close(self) -> None:
        """Leave what is still noted to the next process; nothing is noted any more."""
        self._directory = None
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _change(self, number: int, note: Note | None) -> None:
        with self._lock:
            if note is not None:
                self._notes[number] = note
            elif self._notes.pop(number, None) is None:
                return
            try:
                self._save(number, note)
                self._fails = False
            except OSError as err:
                # Once, until it works again: with a full disk this comes with every request.
                level = logging.DEBUG if self._fails else logging.ERROR
                LOG.log(level, "What this process begins cannot be noted: %s", err.strerror)
                self._fails = True

    def _save(self, number: int, note: Note | None) -> None:
        if not self._notes:
            self._take_over(None)
        elif self._file is None or self._fails or self._file.count > REWRITE_AT:
            # NOTE: after a failure lines are missing, or the last one has no end.
            self._take_over(self._new_file())
        else:
            with self._file.held():
                self._file.write(_line(number, note))

    def _new_file(self) -> LocalFile:
        assert self._directory is not None
        file = LocalFile()
        file.create(self._directory, lambda: base.UNFINISHED_PREFIX + secrets.token_hex(8))
        try:
            with file.held():
                file.write(b"".join(map(_line, self._notes, self._notes.values())))
        except BaseException:
            file.remove(file.path)
            raise
        return file

    def _take_over(self, new: LocalFile | None) -> None:
        """Put a new file in the place of the old one: there is never a moment without either."""
        old, self._file = self._file, new
        if old is not None:
            # NOTE: should its name stay, nobody must take what this process brings for abandoned.
            with old.held():
                old.truncate()
            old.remove(old.path)


class Left:
    """The file of a dead process, which no other one can take meanwhile: its `notes`.

    `age` is the time in seconds since the process wrote the last one.
    """

    def __init__(self, file: LocalFile, notes: list[Note], age: float):
        self._file = file
        self.notes, self.age = notes, age

    def remove(self) -> None:
        """Remove the file: everything in it is settled. An OSError is logged."""
        try:
            threads.run(self._file.remove, self._file.path)
        except OSError as err:
            LOG.warning("A list of unfinished records cannot be removed: %s", err.strerror)

    def leave(self) -> None:
        """Let go of the file, for a later process."""
        self._file.close()


def take(directory: str, max_age: float) -> list[Left]:
    """Return the files of dead processes in `directory`; the caller ends each.

    Where the file system has no locks, those that did not change for `max_age` seconds count.
    Raises nothing: what cannot be read is logged.
    """
    # SECURITY: the directory may be one that everybody can write to.
    owner = os.geteuid()
    return threads.run(
        lambda: staged_file.take_abandoned(
            directory, max_age, _adopt, prefix=base.UNFINISHED_PREFIX, owner=owner
        )
    )


def _adopt(file: LocalFile) -> Left:
    with file.held() as fd:
        status = os.fstat(fd)
        lines = os.pread(fd, status.st_size, 0).split(b"\n")[:-1]
    notes: dict[int, Note] = {}
    for line in lines:
        try:
            number, values = json.loads(line)
            if values is None:
                notes.pop(number, None)
            else:
                notes[number] = Note(**values)
        except (ValueError, TypeError):
            LOG.warning("A line about unfinished records cannot be read")
    return Left(file, list(notes.values()), max(0.0, time.time() - status.st_mtime))


def _line(number: int, note: Note | None) -> bytes:
    values: dict[str, Any] | None = None
    if note is not None:
        values = {name: getattr(note, name) for name in _NAMES}
    return json.dumps([number, values]).encode() + b"\n"

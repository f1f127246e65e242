"""What happened in a run, and what may have happened: requests with their times, and checks.

A history is judged as Jepsen judges a register or a set. Each value is written only once, so that
a read tells which write it saw, and there is an order of all operations in which every read
returns the last write exactly if no two of them contradict each other (Gibbons and Korach,
"Testing shared memories", 1997). A write whose outcome is unknown may have taken effect at any
time later.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """When an operation began and ended; it took effect in between."""

    begin: float
    end: float


class Write(NamedTuple):
    value: object
    span: Span
    is_certain: bool = True


class Read(NamedTuple):
    value: object
    span: Span


@dataclasses.dataclass
class Register:
    """A value that clients write and read; `describe` is its name in violations."""

    name: str
    writes: list[Write] = dataclasses.field(default_factory=list)
    reads: list[Read] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Element:
    """Something that is added to a set once, and removed from it once if at all."""

    name: str
    added: Span
    removed: Span = Span(math.inf, math.inf)


@dataclasses.dataclass
class Collection:
    """A set that clients change and read."""

    name: str
    elements: dict[str, Element] = dataclasses.field(default_factory=dict)
    reads: list[tuple[list[str], Span]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Life:
    """One image: who got what when it was created, filled, used and deleted."""

    image_id: str
    created: list[tuple[int, Span]] = dataclasses.field(default_factory=list)
    filled: list[tuple[int, Span]] = dataclasses.field(default_factory=list)
    used: list[tuple[int, Span, str]] = dataclasses.field(default_factory=list)
    deleted: list[tuple[int, Span]] = dataclasses.field(default_factory=list)


class History:
    """Everything that the clients of a run were told. Safe to use from many threads."""

    def __init__(self) -> None:
        self.registers: dict[str, Register] = {}
        self.collections: dict[str, Collection] = {}
        self.lives: dict[str, Life] = {}
        self.statuses: collections.Counter[tuple[str, object]] = collections.Counter()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def note(self, operation: str, status: object) -> None:
        with self._lock:
            self.statuses[operation, status] += 1

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def write(self, name: str, value: object, span: Span, *, is_certain: bool = True) -> None:
        with self._lock:
            register = self.registers.setdefault(name, Register(name))
            register.writes.append(Write(value, span, is_certain))

    def read(self, name: str, value: object, span: Span) -> None:
        with self._lock:
            self.registers.setdefault(name, Register(name)).reads.append(Read(value, span))

    def collection(self, name: str) -> Collection:
        with self._lock:
            return self.collections.setdefault(name, Collection(name))

    def life(self, image_id: str) -> Life:
        with self._lock:
            return self.lives.setdefault(image_id, Life(image_id))

    def violations(self) -> list[str]:
        """Return what cannot have happened, in words."""
        found = list(self.problems)
        for register in self.registers.values():
            found += check_register(register)
        for life in self.lives.values():
            found += check_life(life)
        for collection in self.collections.values():
            found += check_collection(collection)
        return found


def check_collection(collection: Collection) -> Iterator[str]:
    """Yield what a read showed twice, or too early, or too late, or not at all."""
    elements = list(collection.elements.values())
    for shown, span in collection.reads:
        counted = collections.Counter(shown)
        for name, count in counted.items():
            if count > 1:
                yield f"{collection.name}: a read showed {name} {count} times"
            if name not in collection.elements:
                yield f"{collection.name}: a read showed {name}, which nobody added"
        for element in elements:
            is_shown = element.name in counted
            was_there = element.added.end < span.begin and span.end < element.removed.begin
            was_away = span.end < element.added.begin or element.removed.end < span.begin
            if was_there and not is_shown:
                yield f"{collection.name}: a read did not show {element.name}, which was there"
            if was_away and is_shown:
                yield f"{collection.name}: a read showed {element.name}, which was not there"


class _Cluster:
    """A write and the reads that saw it: it was the value from `low` to `high` for certain.

    If `low` is after `high`, the whole of it may have been one moment between the two.
    """

    def __init__(self, write: Write, reads: list[Read]):
        end = write.span.end if write.is_certain else math.inf
        self.value = write.value
        self.low = min([end, *(read.span.end for read in reads)])
        self.high = max([write.span.begin, *(read.span.begin for read in reads)])

    @property
    def is_forward(self) -> bool:
        return self.low < self.high


def check_register(register: Register) -> list[str]:
    """Return why there is no order of the operations in which each read sees the last write."""
    found = []
    reads: dict[object, list[Read]] = collections.defaultdict(list)
    for read in register.reads:
        reads[read.value].append(read)
    written = collections.Counter(write.value for write in register.writes)
    for value, count in written.items():
        if count > 1:
            found.append(f"{register.name}: {value!r} was written twice")
    for value in reads.keys() - written:
        found.append(f"{register.name}: {value!r} was read, and never written")
    clusters = []
    for write in register.writes:
        seen = reads.get(write.value, [])
        if any(read.span.end < write.span.begin for read in seen):
            found.append(f"{register.name}: {write.value!r} was read before it was written")
        if write.is_certain or seen:
            clusters.append(_Cluster(write, seen))
    forward = sorted((c for c in clusters if c.is_forward), key=lambda cluster: cluster.low)
    for one, other in zip(forward, forward[1:], strict=False):
        if other.low < one.high:
            found.append(
                f"{register.name}: {one.value!r} and {other.value!r} replaced each other in turn"
            )
    found += _lost(register.name, forward, [c for c in clusters if not c.is_forward])
    return found


def _lost(name: str, forward: list[_Cluster], moments: list[_Cluster]) -> Iterator[str]:
    """Yield the writes that must have been the value at some moment when another one was."""
    moments.sort(key=lambda cluster: cluster.high)
    position = 0
    for kept in forward:
        while position < len(moments) and moments[position].high <= kept.low:
            position += 1
        for moment in moments[position:]:
            if moment.high >= kept.high:
                break
            if moment.low < kept.high:
                yield f"{name}: {moment.value!r} was written while {kept.value!r} remained"


def check_life(life: Life) -> list[str]:
    """Return what was done to an image that cannot all have been done."""
    found = []
    for what, outcomes, success, refusal in (
        ("created", life.created, 201, 409),
        ("filled", life.filled, 200, 409),
        ("deleted", life.deleted, 200, 404),
    ):
        statuses = [status for status, _ in outcomes]
        if statuses.count(success) != 1 and statuses:
            found.append(f"image {life.image_id} was {what} by {statuses.count(success)} clients")
        strange = set(statuses) - {success, refusal}
        # An upload, too, finds that the image has gone.
        if strange - ({404, 412} if what == "filled" and life.deleted else set()):
            found.append(f"image {life.image_id}: {what}: {sorted(strange)}")
    ends = [span.end for status, span in life.deleted if status == 200]
    begins = [span.begin for _, span in life.deleted]
    for status, span, what in life.used:
        if status == 404 and not any(begin < span.end for begin in begins):
            found.append(f"image {life.image_id} was not there for {what}")
        if status < 300 and any(end < span.begin for end in ends):
            found.append(f"image {life.image_id} was deleted, and there for {what}")
    return found

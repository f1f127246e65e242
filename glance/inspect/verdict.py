"""What an inspection is made of: limits, rules, reasons and the verdict.

A format (`DiskFormat`) takes from the first bytes of an image what its rules need, a few hundred
bytes at most, and judges once the end is known.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

from glance.inspect import signatures
from glance.inspect.signatures import SECTOR

#: No disk of any format has more bytes: offsets are signed numbers of 64 bits.
LARGEST = 2**63 - SECTOR
#: Disks up to this size may expand without a limit, in bytes: small ones are often empty.
FREE_EXPANSION = 1024**3

M = TypeVar("M", bound=Callable[..., bool])


class Refusal(enum.StrEnum):
    """Why an image is refused, in the order in which that is found out."""

    AMBIGUOUS_FORMAT = "ambiguous_format"
    FORMAT_MISMATCH = "format_mismatch"
    UNSAFE_IMAGE = "unsafe_image"
    TOO_LARGE = "too_large"


#: What the owner of an image can do after a refusal.
ADVICE = {
    Refusal.AMBIGUOUS_FORMAT: "convert it to one format anew",
    Refusal.FORMAT_MISMATCH: "declare the format that it has",
    Refusal.UNSAFE_IMAGE: "convert it to one that stands alone, without backing files, other "
    "parts, snapshots or encryption",
    Refusal.TOO_LARGE: "use a smaller disk",
}
#: What the owner may know of an image that breaks a rule.
_UNSAFE = "the data is not a self-contained image that is safe to open"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The largest permitted virtual size, in bytes, and in sizes of the data; None: any."""

    virtual_size: int | None = None
    expansion: int | None = None

    def exceeded(self, virtual_size: int, size: int) -> bool:
        """Return whether the virtual size of data of `size` bytes is too large.

        `expansion` does not count for disks of up to 1 GiB.
        """
        if self.virtual_size is not None and virtual_size > self.virtual_size:
            return True
        if self.expansion is None or virtual_size <= FREE_EXPANSION:
            return False
        return virtual_size > size * self.expansion


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What an image must not be; `name` begins with the format.

    `text` says it of the image, with the image as its subject. `identifiers` are the CVE numbers
    of what such images have done. Where `is_last`, nothing else can be said of an image that
    breaks the rule.
    """

    name: str
    text: str
    identifiers: tuple[str, ...] = ()
    is_last: bool = False


class Reason(NamedTuple):
    """A reason of a refusal; `rule` is None for what is no rule of a format.

    SECURITY: of a rule, `rule` and `text` are for operators, not for the owner of an image.
    """

    code: Refusal
    rule: str | None
    text: str


class End(NamedTuple):
    """The last bytes of an image, TAIL_BYTES or all of it, and its size in bytes."""

    tail: bytes
    size: int

    def at(self, place: int, length: int) -> bytes:
        """Return bytes near the end; fewer, or none, where there are none or they are unknown."""
        start = place - (self.size - len(self.tail))
        return self.tail[start : start + length] if start >= 0 else b""


def rule(text: str, *identifiers: str, is_last: bool = False) -> Callable[[M], M]:
    """Make a method of a format, which returns whether an image breaks it, one of its rules."""

    def decorate(method: M) -> M:
        made = Rule(method.__name__, text, identifiers, is_last)
        setattr(method, "rule", made)  # noqa: B010 - no attribute that a type checker knows
        return method

    return decorate


class DiskFormat:
    """Data that may be in one format. `found` and the rules may be called once the end is known.

    A subclass sets `name`, reads what it needs in `__init__`, and has a method for each rule.
    """

    name: ClassVar[str]
    rules: ClassVar[tuple[Rule, ...]] = ()
    _checks: ClassVar[tuple[tuple[Rule, Callable[[Any, End], bool]], ...]] = ()

    def __init_subclass__(cls) -> None:
        methods = [method for method in vars(cls).values() if hasattr(method, "rule")]
        cls._checks = tuple((method.rule, method) for method in methods)
        cls.rules = tuple(made for made, _ in cls._checks)

    def __init__(self, head: bytes):
        """Take what is needed from the first HEAD_BYTES of an image, or from all of it."""
        self.begins = signatures.begins(head, self.name)

    def found(self, end: End) -> bool:
        """Return whether the data has the marks of this format."""
        return self.begins

    def virtual_size(self, end: End) -> int | None:
        """Return the size of the disk in bytes, None if that is unknown."""
        return None

    def broken(self, end: End) -> list[Rule]:
        """Return the rules that the image breaks."""
        broken = []
        for each, breaks in self._checks:
            if breaks(self, end):
                broken.append(each)
                if each.is_last:
                    break
        return broken


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What an inspection has found.

    `formats` are those whose marks the data has, `declared` is what its owner said, `size` counts
    the bytes of the data. `virtual_size` is that of the disk, in bytes; None if it is unknown.
    `reasons` has every reason to refuse the image, the one that counts first.
    """

    formats: tuple[str, ...]
    declared: str | None
    size: int
    virtual_size: int | None
    reasons: tuple[Reason, ...]

    @property
    def format(self) -> str | None:
        """The one format of the data, None if there is more than one."""
        if len(self.formats) > 1:
            return None
        return self.formats[0] if self.formats else signatures.RAW

    @property
    def is_safe(self) -> bool:
        return not self.reasons

    @property
    def code(self) -> Refusal | None:
        """The reason of the refusal; None for an image that is safe."""
        return self.reasons[0].code if self.reasons else None

    @property
    def message(self) -> str:
        """The reason as the owner of the image may know it; empty for an image that is safe."""
        if not self.reasons:
            return ""
        code, rule, text = self.reasons[0]
        return f"{code}: {_UNSAFE if rule else text}; {ADVICE[code]}"

    @property
    def detail(self) -> str:
        """Every reason, for operators: one line; empty for an image that is safe."""
        return "; ".join(
            f"{each.code}: {each.text}{f' ({each.rule})' if each.rule else ''}"
            for each in self.reasons
        )

"""Ranges of bytes as HTTP writes them (RFC 9110 §14): parsed and formatted here for everybody.

The API parses the Range headers of its clients; stores and the client library send such headers
and parse the Content-Range of the response. What does not belong here: which part anybody should
get.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from glance.common import exception

# RFC 9110 §14.1.1: the unit, and a list whose elements may be empty (§5.6.1.2).
_UNIT = re.compile(r"bytes=", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)", re.ASCII)
#: A number that is larger than any size.
_HUGE = 10**19
#: Ranges that lie at most so many bytes apart are sent as one (RFC 9110 §14.2): the head of a part
#: would be larger than what lies between them.
NEAR = 80
# NOTE: no more digits than 64 bits have, so that nobody makes us work on huge numbers.
_CONTENT_RANGE = re.compile(
    r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE
)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,19})", re.ASCII | re.IGNORECASE)


class Range(NamedTuple):
    """A part of an image: the position of its first byte, and how many bytes it has.

    An empty part is possible, but HTTP cannot express it: `request` and `content_range` raise
    ValueError then.
    """

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.offset + self.length

    @property
    def request(self) -> str:
        """The Range header that asks for this part."""
        return f"bytes={self._interval()}"

    def content_range(self, total: int) -> str:
        """Return the Content-Range of a response with this part of `total` bytes."""
        return f"bytes {self._interval()}/{total}"

    def _interval(self) -> str:
        if self.length < 1:
            raise ValueError("HTTP cannot express an empty range")
        return f"{self.offset}-{self.end - 1}"


def clip(total: int, offset: int, length: int | None = None) -> Range:
    """Return what `total` bytes have of `length` bytes (None: all) from `offset`.

    The part is empty if `offset` is right behind the last byte, and RangeNotSatisfiable is raised
    if it lies further behind.
    """
    if offset > total:
        raise exception.RangeNotSatisfiable(total)
    rest = total - offset
    return Range(offset, rest if length is None else min(length, rest))


def format_range(offset: int, length: int | None = None) -> str | None:
    """Return the Range header for `length` bytes (not 0; None: all) from `offset`.

    None if that is everything.
    """
    if length is not None:
        return Range(offset, length).request
    return f"bytes={offset}-" if offset else None


def parse_range(header: str | None, total: int, most: int = 1) -> Range | None:
    """Return the part of `total` bytes that a Range header asks for, None for the whole.

    A header may ask for up to `most` ranges: those that overlap, or lie at most NEAR bytes apart,
    are one part; if two parts or more are left, the whole is to be sent, because a response with
    several is what attackers ask for, and nobody else (RFC 9110 §14.2, §17.15). More ranges, other
    units and malformed headers are ignored. Raises RangeNotSatisfiable if all of the ranges begin
    behind the last byte.
    """
    specs = _specs(header, most)
    if specs is None:
        return None
    found = sorted(span for span in (_span(spec, total) for spec in specs) if span is not None)
    if not found:
        raise exception.RangeNotSatisfiable(total)
    first, end = found[0]
    for start, stop in found[1:]:
        if start > end + NEAR:
            return None
        end = max(end, stop)
    return Range(first, end - first)


def _specs(header: str | None, most: int) -> list[tuple[int | None, int | None]] | None:
    """Return (first, last) of each range; (None, n) for the last n bytes. None if not usable."""
    header = header.strip(" \t") if header else ""
    unit = _UNIT.match(header)
    if unit is None or header[unit.end() :].startswith((" ", "\t")):
        return None
    specs: list[tuple[int | None, int | None]] = []
    for element in header[unit.end() :].split(","):
        text = element.strip(" \t")
        if not text:
            continue
        match = _SPEC.fullmatch(text)
        if match is None or len(specs) >= most:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            specs.append((None, _number(suffix)))
            continue
        start, end = _number(first), _number(last) if last else None
        # NOTE: by the digits, because numbers that are larger than any size count as one.
        if end is not None and (len(last.lstrip("0")), end) < (len(first.lstrip("0")), start):
            return None
        specs.append((start, end))
    return specs or None


def _number(digits: str) -> int:
    # PERF: nobody makes us work on huge numbers.
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else _HUGE


def _span(spec: tuple[int | None, int | None], total: int) -> tuple[int, int] | None:
    """Return what of `total` bytes a range has, as (start, stop); None if that is nothing."""
    first, last = spec
    if first is None:
        first, last = total - min(last or 0, total), None
    return None if first >= total else (first, total if last is None else min(last + 1, total))


def parse_content_range(header: str | None) -> tuple[Range, int | None] | None:
    """Return what a Content-Range says: the part, and the size of the whole (None if unknown).

    None for a header that is missing or makes no sense.
    """
    match = _CONTENT_RANGE.fullmatch(header.strip(" \t")) if header else None
    if match is None or int(match[1]) > int(match[2]):
        return None
    first, last = int(match[1]), int(match[2])
    size = None if match[3] == "*" else int(match[3])
    if size is not None and last >= size:
        return None
    return Range(first, last - first + 1), size


def parse_unsatisfied(header: str | None) -> int | None:
    """Return the size of the whole that the Content-Range of a 416 response names, or None."""
    match = _UNSATISFIED.fullmatch(header.strip(" \t")) if header else None
    return int(match[1]) if match else None

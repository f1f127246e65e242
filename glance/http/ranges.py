"""Ranges of bytes as HTTP writes them (RFC 9110 §14): parsed and formatted here for everybody.

The API parses the Range headers of its clients; stores and the client library send such headers
and parse the Content-Range of the response. What does not belong here: which part anybody should
get.
"""

from __future__ import annotations

import dataclasses
import re

from glance.common import exception

# The one form of RFC 9110 §14.1.2 without blanks in it.
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.ASCII | re.IGNORECASE)
# NOTE: no more digits than 64 bits have, so that nobody makes us work on huge numbers.
_CONTENT_RANGE = re.compile(
    r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE
)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,19})", re.ASCII | re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
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


def parse_range(header: str | None, total: int) -> Range | None:
    """Return the part of `total` bytes that a Range header asks for, None for the whole.

    One range of bytes is honoured; several, other units and malformed ones are ignored. Raises
    RangeNotSatisfiable for a range that begins behind the last byte.
    """
    match = _RANGE.fullmatch(header.strip(" \t")) if header and len(header) < 100 else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), total)
        if length == 0:
            raise exception.RangeNotSatisfiable(total)
        return Range(total - length, length)
    start = int(first)
    stop = min(int(last) + 1, total) if last else total
    if last and int(last) < start:
        return None
    if start >= total:
        raise exception.RangeNotSatisfiable(total)
    return Range(start, stop - start)


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

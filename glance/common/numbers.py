"""Numbers as protocols and files write them, for every part of glance that reads one.

Python's `int` and `float` also take signs, blanks, underscores and the digits of all scripts, and
`str.isdigit` is true for superscripts, which `int` rejects. Another reader of the same text, such
as a proxy, may read another number there, or none.
"""

from __future__ import annotations

import re

#: The digits that a number of 64 bits has at most.
MAX_DIGITS = 19

_WHOLE = re.compile(r"[0-9]+")
_SIGNED = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def whole(text: str, digits: int = MAX_DIGITS) -> int | None:
    """Return the number that `text` is if it consists of 1 to `digits` digits 0-9, None if not."""
    return int(text) if len(text) <= digits and _WHOLE.fullmatch(text) else None


def signed(text: str, digits: int = MAX_DIGITS) -> int | None:
    """Return the number as `whole`, with a sign or without."""
    return int(text) if len(text) <= digits + 1 and _SIGNED.fullmatch(text) else None


def real(text: str) -> float | None:
    """Return the decimal number that `text` is, None if it is none (nor are nan and inf)."""
    return float(text) if len(text) <= 100 and _REAL.fullmatch(text) else None

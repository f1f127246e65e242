"""Names that are one typing error away from known ones."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the first known name that is one typing error away from `name`, None without one.

    A typing error is a missing, additional or wrong character, or two swapped characters.
    """
    for candidate in known:
        if abs(len(candidate) - len(name)) <= 1 and is_one_edit(candidate, name):
            return candidate
    return None


def is_one_edit(one: str, other: str) -> bool:
    """Return whether one typing error, or none, leads from one text to the other."""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    return swapped or a[1:] == b or a == b[1:] or a[1:] == b[1:]

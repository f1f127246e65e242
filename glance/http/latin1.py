"""Text in header fields, query strings and paths: UTF-8 that travels as latin-1.

WSGI (PEP 3333) and the standard library hand the bytes of a header over as latin-1 text. `decode`
and `encode` change between that form and the text that was meant.
"""

from __future__ import annotations

from glance.common import exception


def decode(value: str, what: str) -> str:
    """Return the text behind a WSGI string; Invalid, naming `what`, if it is not UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise exception.Invalid(f"A {what} is not valid UTF-8") from None


def encode(value: str) -> str:
    """Return `value` as the wire carries it: its UTF-8 bytes as latin-1 text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("latin-1")

"""Text in header fields, query strings and paths: UTF-8 that travels as latin-1.

WSGI (PEP 3333) and the standard library present the bytes of a header as latin-1 text. `decode`
and `encode` convert between that form and the intended text.
"""

from __future__ import annotations

from glance.common import exception


def decode(value: str, what: str) -> str:
    """Return the text of a WSGI string. Raises Invalid, naming `what`, if it is not UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise exception.Invalid(f"A {what} is not valid UTF-8") from None


def encode(value: str) -> str:
    """Return `value` as it is sent: its UTF-8 bytes as latin-1 text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("latin-1")

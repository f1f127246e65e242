"""Text in header fields, query strings and paths: UTF-8 that travels as latin-1.

WSGI (PEP 3333) and the standard library present the bytes of a header as latin-1 text. `decode`
and `encode` convert between that form and the intended text, `reference` makes it a URI.
"""

from __future__ import annotations

import urllib.parse

from glance.common import exception

_ASCII = "".join(map(chr, range(0x80)))


def decode(value: str, what: str) -> str:
    """Return the text of a WSGI string. Raises Invalid, naming `what`, if it is not UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise exception.Invalid(f"A {what} is not valid UTF-8") from None


def reference(value: str) -> str:
    """Return the URI in a field such as Location, with each byte that is no ASCII as `%XX`.

    Servers send such bytes as they are, most of them as UTF-8; a URI has none (RFC 3986 §2). What
    is encoded already stays as it is.
    """
    if value.isascii():
        return value
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        # A library has decoded it already.
        data = value.encode("utf-8", "surrogateescape")
    return urllib.parse.quote(data, safe=_ASCII)


def encode(value: str) -> str:
    """Return `value` as it is sent: its UTF-8 bytes as latin-1 text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("latin-1")

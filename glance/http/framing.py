"""The chunked coding of bodies (RFC 9112 §7.1): its lines, and how much of them is accepted.

The server reads requests by these rules, and the client responses. Pure functions over bytes.
"""

from __future__ import annotations

import re

#: The characters of a token (RFC 9110 §5.6.2), as a set in a regular expression.
TOKEN = r"!#$%&'*+\-.^_`|~0-9A-Za-z"

#: Longest line of the coding: a size with its extensions, or a trailer (bytes, without CR LF).
MAX_LINE = 4096
#: What all extensions of a body may have together, in bytes.
MAX_EXTENSIONS = 64 * 1024
#: What all trailers of a body may have together, in bytes and in fields.
MAX_TRAILERS = 64 * 1024
MAX_TRAILER_FIELDS = 256

_SIZE = r"([0-9A-Fa-f]{1,15})"
# PERF: the possessive repetitions keep the time for any line proportional to its length.
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rf"[ \t]*+;[ \t]*+[{TOKEN}]++(?:[ \t]*+=[ \t]*+(?:[{TOKEN}]++|{_QUOTED}))?+"
_SIZE_LINE = re.compile(rf"{_SIZE}(?:{_EXTENSION})*+".encode())
_TRAILER = re.compile(rf"[{TOKEN}\x80-\xff]++:[\t -~\x80-\xff]*+".encode("latin-1"))
#: What lies between the data of one chunk and that of the next, if that one has no extension.
NEXT_CHUNK = re.compile(rf"\r\n{_SIZE}\r\n".encode())


class MalformedChunk(ValueError):
    """The sender violated the chunked coding; the connection cannot be used further."""


class Framing:
    """Reads the lines of one body and counts what may not grow without limit."""

    def __init__(self) -> None:
        self._extensions = 0
        self._trailers = 0
        self._fields = 0

    def size(self, line: bytes) -> int:
        """Return the size that the first line of a chunk announces, in bytes; 0 for the last.

        `line` has no CR LF. Raises MalformedChunk.
        """
        match = _SIZE_LINE.fullmatch(line) if len(line) <= MAX_LINE else None
        if match is None:
            raise MalformedChunk("a chunk has no valid size")
        digits: bytes = match[1]
        self._extensions += len(line) - len(digits)
        if self._extensions > MAX_EXTENSIONS:
            raise MalformedChunk("the chunks have too many extensions")
        return int(digits, 16)

    def trailer(self, line: bytes) -> bool:
        """Check a line behind the last chunk; return False for the empty one, which ends the body.

        Raises MalformedChunk.
        """
        if not line:
            return False
        self._fields += 1
        self._trailers += len(line) + 2
        if self._trailers > MAX_TRAILERS or self._fields > MAX_TRAILER_FIELDS:
            raise MalformedChunk("the body has too many trailers")
        if len(line) > MAX_LINE or not _TRAILER.fullmatch(line):
            raise MalformedChunk("a trailer of the body is malformed")
        return True

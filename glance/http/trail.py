"""The trail of a request: which images led to it, so that none can lead back to itself.

The data of an image may lie at a web address where an image service, this or another one,
responds with the data of its own image, and so on. Each service that requests such data sends the
trail on with a mark of its image, as a proxy does with Via (RFC 9110 §7.6.3), and refuses a
request whose trail has that mark already, or is too long. The mark is of the image, not of the
service: all hosts of a service make the same one, and one image of a service may lead to another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from glance.common import exception

HEADER = "X-Glance-Trail"
#: How many images may lead to each other until the data of the last one.
MAX_LENGTH = 5

#: Marks, first to last.
Trail = tuple[str, ...]

_MARK = re.compile(r"[0-9a-f]{16}", re.ASCII)


def of(environ: Mapping[str, Any]) -> Trail:
    """Return the trail of a request; () for one that no image led to.

    What is no mark counts as one of unknown origin. Of a trail that is too long only so much is
    read that `extended` refuses it.
    """
    header = environ.get("HTTP_X_GLANCE_TRAIL")
    if header is None:
        # NOTE: clients of Swift sign in by a GET with this header; an image whose Swift is this
        # service would lead back here, and that request has no room for a trail.
        return ("swift",) * MAX_LENGTH if "HTTP_X_AUTH_KEY" in environ else ()
    marks = [part.strip(" \t") for part in header.split(",", MAX_LENGTH + 1)]
    return tuple(mark if _MARK.fullmatch(mark) else "unknown" for mark in marks if mark)


def mark(*facts: object) -> str:
    """Return the mark of an image with these facts, which distinguish it from those elsewhere."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:16]


def extended(trail: Trail, by: str) -> Trail:
    """Return a trail with one more mark.

    Raises LocationLoop if the trail has that mark already, or would be too long.
    """
    if by in trail or len(trail) >= MAX_LENGTH:
        raise exception.LocationLoop()
    return (*trail, by)


def headers(trail: Trail) -> dict[str, str]:
    """Return the header that sends a trail on; none for an empty one."""
    return {HEADER: ", ".join(trail)} if trail else {}

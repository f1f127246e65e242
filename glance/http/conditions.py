"""Conditions of requests (RFC 9110 §13): decided here for every method and for hits of the cache.

What does not belong here: what the validators of a resource are, and how a response looks.
"""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from glance.common import exception
from glance.http import dates, etags

#: A date is a strong validator when it is at least so many seconds past (RFC 9110 §8.8.2.2).
_STRONG_AFTER = 60

_IF_MATCH, _IF_UNMODIFIED = "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"
_IF_NONE_MATCH, _IF_MODIFIED = "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"


class Validators(NamedTuple):
    """What a condition is compared with: the state of a resource that exists.

    `tag` is the text of its ETag, which is a strong one; None or "" without one. `modified` is the
    time of its last change as ISO 8601 text in UTC, None if that is not known.
    """

    tag: str | None
    modified: str | None = None

    def seconds(self) -> int | None:
        """Return `modified` in whole seconds since the epoch, as Last-Modified shows it.

        Never later than now (RFC 9110 §8.8.2.1). None if it is not known or not a time.
        """
        moment = _seconds_of(self.modified or "")
        return None if moment is None else min(moment, int(time.time()))


# PERF: most requests are for few images.
@functools.lru_cache(maxsize=1024)
def _seconds_of(text: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())


def evaluate(environ: Mapping[str, Any], current: Validators) -> bool:
    """Evaluate the conditions of a request in the order of RFC 9110 §13.2.2.

    Call it when nothing else stands against the request, and before anything is done. Returns
    True if the response is to be 304, for GET and HEAD only. Raises PreconditionFailed if a
    condition does not hold. A date that is not valid is ignored, and so is every date if the time
    of the last change is not known.
    """
    # PERF: hardly a request has any of them.
    if not (
        _IF_MATCH in environ
        or _IF_NONE_MATCH in environ
        or _IF_MODIFIED in environ
        or _IF_UNMODIFIED in environ
    ):
        return False
    if _IF_MATCH in environ:
        if not _names(environ[_IF_MATCH], current, weak=False):
            raise exception.PreconditionFailed("If-Match")
    elif _is_newer(current, environ.get(_IF_UNMODIFIED)):
        raise exception.PreconditionFailed("If-Unmodified-Since")
    reads = environ["REQUEST_METHOD"] in ("GET", "HEAD")
    if _IF_NONE_MATCH in environ:
        if not _names(environ[_IF_NONE_MATCH], current, weak=True):
            return False
        if not reads:
            raise exception.PreconditionFailed("If-None-Match")
        return True
    return reads and _is_newer(current, environ.get(_IF_MODIFIED)) is False


def range_of(environ: Mapping[str, Any], current: Validators) -> str | None:
    """Return the Range header of a GET request if its If-Range lets it count, else None.

    If-Range counts for the range only with one strong tag that is the current one, or with the
    very date of the last change if that is a strong validator (RFC 9110 §13.1.5). Anything else,
    such as a weak tag, `*` or a list, asks for the whole.
    """
    wanted: str | None = environ.get("HTTP_RANGE")
    condition = environ.get("HTTP_IF_RANGE")
    if wanted is None or condition is None:
        return wanted
    tag = etags.parse_etag(condition)
    if tag is not None:
        return wanted if current.tag and not tag.weak and tag.value == current.tag else None
    date = dates.parse_date(condition)
    if date is None or date != current.seconds() or time.time() - date < _STRONG_AFTER:
        return None
    return wanted


def _names(header: str, current: Validators, *, weak: bool) -> bool:
    """Return whether a list of tags names the current one, or `*` any resource that exists."""
    condition = etags.parse_etags(header)
    return condition.wildcard or condition.match(current.tag, weak=weak)


def _is_newer(current: Validators, header: str | None) -> bool | None:
    """Return whether the last change is later than a date; None if there is nothing to compare."""
    date = dates.parse_date(header) if header is not None else None
    modified = current.seconds() if date is not None else None
    return None if date is None or modified is None else modified > date

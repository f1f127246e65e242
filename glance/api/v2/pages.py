"""The links of a page in a list: to its beginning, and to what follows."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable

MARKER = "marker"


def links(
    path: str, parameters: Iterable[tuple[str, str]], last: str | None = None
) -> dict[str, str]:
    """Return `first`, and with `last` also `next`: links relative to the root of the service.

    `parameters` are those of the request. The links carry all of them in their order, repeated
    ones too, so that the next page is a page of the same list; the marker is replaced by `last`,
    the id of the last image on the page, None if no other follows.
    """
    kept = [(name, value) for name, value in parameters if name != MARKER]
    found = {"first": _link(path, kept)}
    if last is not None:
        found["next"] = _link(path, [*kept, (MARKER, last)])
    return found


def _link(path: str, parameters: list[tuple[str, str]]) -> str:
    if not parameters:
        return path
    return f"{path}?{urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote, safe='')}"

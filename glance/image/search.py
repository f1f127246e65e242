"""The query of a list of version 2 of the Images API, parsed once for API and registry.

The parameters that a client sends are also the form in which a query goes from the API to the
registry: both parse it here, so that no caller of the registry gets round a rule.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glance.common import exception
from glance.image import fields, listing

#: Filters that take one value, or a list of values after `in:`.
LISTED = ("id", "name", "status", "disk_format", "container_format")
#: Filters that take one text, and one number.
TEXTS = ("owner", "checksum", "os_hash_algo", "os_hash_value")
NUMBERS = ("min_ram", "min_disk", "size")
TIMES = ("created_at", "updated_at")

SORTABLE = (
    *listing.SORT_KEYS,
    *("owner", "visibility", "protected", "os_hidden", "min_disk", "min_ram"),
)
DEFAULT_SORT = "created_at"

#: Visibilities that a list can be asked for, besides the default, and statuses of memberships.
SCOPES = ("public", "private", "shared", "community", "all")
MEMBER_STATUSES = ("accepted", "pending", "rejected", "all")

#: How many values a list after `in:` may have.
MAX_LISTED = 200
#: How many filters by tag, and by each time, a request may have.
MAX_TAG_FILTERS = MAX_TIME_FILTERS = listing.MAX_PROPERTY_FILTERS

_IN = "in:"
_REPEATED = frozenset({"tag", "sort_key", "sort_dir", *TIMES})
_SECOND = datetime.timedelta(seconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A range of times, which are naive and in UTC: from `since` on, before `until`."""

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to list.

    `parameters` are those of the request; all else comes from them. `equal` holds equality tests
    on columns, `among` lists of values of which a column must have one; `id` is the uuid there,
    in lower case. `size_min` and `size_max` are inclusive, in bytes. A time must be in the span of
    its column and not in one of `outside`, spans that are a second long. Every one of `tags` must
    be there, and each of `properties` must have its value.

    `visibility` is one of SCOPES, None for the default; `member_status` one of MEMBER_STATUSES.
    `sort` has keys, each once, and whether they are descending. `marker` is the uuid after which
    the page starts. `limit` counts images; None means the registry's default.
    """

    parameters: tuple[tuple[str, str], ...] = ()
    equal: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    among: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    size_min: int | None = None
    size_max: int | None = None
    spans: Mapping[str, Span] = dataclasses.field(default_factory=dict)
    outside: tuple[tuple[str, Span], ...] = ()
    tags: tuple[str, ...] = ()
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    visibility: str | None = None
    member_status: str = "accepted"
    os_hidden: bool = False
    sort: tuple[tuple[str, bool], ...] = ((DEFAULT_SORT, True),)
    marker: str | None = None
    limit: int | None = None

    def to_wire(self) -> str:
        """Return the text that `from_wire` turns into an equal query."""
        return json.dumps(self.parameters, ensure_ascii=False, separators=(",", ":"))


#: The JSON schema of the text that `to_wire` returns.
WIRE_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
}


def from_wire(text: str) -> SearchQuery:
    """Return the query in the text of another process. Raises Invalid as `parse` does."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(map(_is_pair, found)):
        raise exception.Invalid("The query must be a JSON array of pairs of texts")
    return parse((name, value) for name, value in found)


def _is_pair(found: Any) -> bool:
    return (
        isinstance(found, list)
        and len(found) == 2
        and all(isinstance(part, str) for part in found)
    )


def parse(parameters: Iterable[tuple[str, str]]) -> SearchQuery:
    """Return the typed query of a request; raises Invalid, with a hint, for a bad one.

    `parameters` are names and values in the order of the request. Of a repeated one the last
    counts, but for tags, sort keys with their directions, and times, which all count. A parameter
    that has no other meaning is the name of a custom property with its value.
    """
    return _parse(tuple(parameters))


# PERF: clients ask for the first page again and again, in the same way. What this keeps is bounded
# because a request line is.
@functools.lru_cache(maxsize=64)
def _parse(pairs: tuple[tuple[str, str], ...]) -> SearchQuery:
    for name, value in pairs:
        fields.check_text("filter name", name, fields.MAX_PROPERTY_VALUE)
        fields.check_text(f"filter {name}"[:80], value, fields.MAX_PROPERTY_VALUE)
    given = dict(pairs)
    repeated = {name: [v for n, v in pairs if n == name] for name in _REPEATED & given.keys()}
    if "changes-since" in given:
        raise exception.Invalid(
            "changes-since is no filter of this version: use updated_at=gte:TIME"
        )
    equal, among = _texts(given)
    if "protected" in given:
        equal["protected"] = listing.choice("protected", given["protected"], listing.BOOLEANS)
    for name in NUMBERS:
        if name in given:
            equal[name] = listing.count(name, given[name])
    spans, outside = _times(repeated)
    return SearchQuery(
        parameters=pairs,
        equal=equal,
        among=among,
        size_min=listing.count("size_min", given["size_min"]) if "size_min" in given else None,
        size_max=listing.count("size_max", given["size_max"]) if "size_max" in given else None,
        spans=spans,
        outside=outside,
        tags=_bounded("tag", tuple(dict.fromkeys(repeated.get("tag", ()))), MAX_TAG_FILTERS),
        properties=_properties(given),
        visibility=_word("visibility", given.get("visibility"), SCOPES),
        member_status=_word("member_status", given.get("member_status"), MEMBER_STATUSES)
        or "accepted",
        os_hidden=listing.choice("os_hidden", given.get("os_hidden", "false"), listing.BOOLEANS),
        sort=_sort(given.get("sort"), repeated),
        marker=_marker(given.get("marker")),
        limit=_limit(given.get("limit")),
    )


_OPERATORS = ("gte", "gt", "lte", "lt", "eq", "neq")
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_ORDER = f"({'|'.join(SORTABLE)})(:({'|'.join(listing.SORT_DIRS)}))?"


def _listed_schema(name: str) -> dict[str, Any]:
    about = f"Images with this {name}, or, after in:, one of a list separated by commas."
    return {"type": "string", "description": about}


def _time_schema(name: str) -> dict[str, Any]:
    about = f"Images whose {name} is OPERATOR:TIME; repeated filters must all hold."
    item = {"type": "string", "pattern": f"^(({'|'.join(_OPERATORS)}):)?{_TIME}$"}
    return {"type": "array", "items": item, "maxItems": MAX_TIME_FILTERS, "description": about}


def _repeated_schema(values: Sequence[str], about: str) -> dict[str, Any]:
    item = {"type": "string", "enum": list(values)}
    return {"type": "array", "items": item, "description": about}


#: Every parameter that is no custom property -> the JSON schema of its value.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    **{name: _listed_schema(name) for name in LISTED},
    **{name: {"type": "string", "description": f"Images with this {name}."} for name in TEXTS},
    **{name: {**listing.COUNT, "description": f"Images with this {name}."} for name in NUMBERS},
    **{name: _time_schema(name) for name in TIMES},
    **{name: listing.PARAMETERS[name] for name in ("protected", "size_min", "size_max", "limit")},
    "tag": {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": MAX_TAG_FILTERS,
        "description": "Images that have all of these tags.",
    },
    "visibility": {
        "type": "string",
        "enum": list(SCOPES),
        "description": "Images with this visibility; all includes community images of others.",
    },
    "member_status": {
        "type": "string",
        "enum": list(MEMBER_STATUSES),
        "description": "What the caller has said to the images that are shared with it.",
    },
    "os_hidden": {
        **listing.words_schema(listing.BOOLEANS),
        "description": "Hidden images instead of others.",
    },
    "marker": {"type": "string", "format": "uuid", "description": "The image before the page."},
    "sort": {
        "type": "string",
        "pattern": f"^{_ORDER}(,{_ORDER})*$",
        "description": "The order: KEY:DIRECTION, more of them after commas.",
    },
    "sort_key": _repeated_schema(SORTABLE, "The order; cannot be used with sort."),
    "sort_dir": _repeated_schema(listing.SORT_DIRS, "Its direction."),
}

#: The JSON schema of all filters by property as one object.
PROPERTIES: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "maxProperties": listing.MAX_PROPERTY_FILTERS,
    "description": "Images with these custom properties: NAME with the value.",
}


def _bounded(what: str, found: tuple[str, ...], most: int) -> tuple[str, ...]:
    if len(found) > most:
        raise exception.Invalid(
            f"The request filters by {len(found)} values of {what}; at most {most} are allowed"
        )
    return found


def _word(name: str, value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise exception.Invalid(f"{name} must be one of {', '.join(allowed)}")
    return value


def _properties(given: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in given.items() if name not in PARAMETERS}
    if len(found) > listing.MAX_PROPERTY_FILTERS:
        raise exception.Invalid(
            f"The request filters by {len(found)} properties; at most "
            f"{listing.MAX_PROPERTY_FILTERS} are allowed"
        )
    return found


# -- values --------------------------------------------------------------------------------------


def _texts(given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    equal: dict[str, Any] = {name: given[name] for name in TEXTS if name in given}
    among: dict[str, tuple[str, ...]] = {}
    for name in LISTED:
        if name not in given:
            continue
        value = given[name]
        if value.startswith(_IN):
            among[name] = _bounded(name, _listed(name, value.removeprefix(_IN)), MAX_LISTED)
        else:
            equal[name] = value
    if "id" in equal:
        equal["id"] = equal["id"].lower()
    if "id" in among:
        among["id"] = tuple(dict.fromkeys(one.lower() for one in among["id"]))
    return equal, among


def _listed(name: str, text: str) -> tuple[str, ...]:
    """Return the values, each once, in a list that is separated by commas.

    A value may stand in double quotes, in which a backslash makes a quote, or a backslash, part of
    the value. An empty list has no values.
    """
    found: dict[str, None] = {}
    at = 0
    while at < len(text):
        if text[at] == '"':
            value, at = _quoted(name, text, at + 1)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            value, at = text[at:end], end
            if '"' in value:
                raise exception.Invalid(
                    f'A quote inside a value of {name} must be quoted: "a\\"b"'
                )
        if at < len(text) and text[at] != ",":
            raise exception.Invalid(f"After a quoted value of {name} there must be a comma")
        at += 1
        found[value] = None
    return tuple(found)


def _quoted(name: str, text: str, at: int) -> tuple[str, int]:
    """Return the value that begins behind a quote, and where the text goes on behind its end."""
    value = ""
    while at < len(text):
        if text[at] == '"':
            return value, at + 1
        if text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
        value += text[at]
        at += 1
    raise exception.Invalid(f"A value of {name} has no closing quote")


def _times(
    repeated: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Span], tuple[tuple[str, Span], ...]]:
    """Return the span of each time, and those seconds in which it must not be.

    Times are compared at whole seconds, which is what responses show.
    """
    spans: dict[str, Span] = {}
    outside: dict[tuple[str, Span], None] = {}
    for name in TIMES:
        for value in _bounded(name, tuple(repeated.get(name, ())), MAX_TIME_FILTERS):
            operator, second = _time(name, value)
            if operator == "neq":
                outside[name, second] = None
                continue
            since, until = {
                "eq": (second.since, second.until),
                "gte": (second.since, None),
                "gt": (second.until, None),
                "lt": (None, second.since),
                "lte": (None, second.until),
            }[operator]
            old = spans.get(name, Span())
            spans[name] = Span(
                max(filter(None, (old.since, since)), default=None),
                min(filter(None, (old.until, until)), default=None),
            )
    return spans, tuple(outside)


def _time(name: str, value: str) -> tuple[str, Span]:
    """Return the operator of a filter by time, and the second of which it speaks."""
    operator, colon, text = value.partition(":")
    if not colon or operator not in _OPERATORS:
        operator, text = "eq", value
    found = listing.instant(text)
    if found is None:
        raise exception.Invalid(
            f"{name} must be OPERATOR:TIME, with one of the operators {', '.join(_OPERATORS)} and "
            "an ISO 8601 time such as 2011-09-22T10:11:12Z"
        )
    begin = found.replace(microsecond=0)
    try:
        return operator, Span(begin, begin + _SECOND)
    except OverflowError:
        return operator, Span(begin, datetime.datetime.max)


# -- the page ------------------------------------------------------------------------------------


def _limit(value: str | None) -> int | None:
    if value is None:
        return None
    number = listing.integer("limit", value)
    if number < 0:
        raise exception.Invalid("limit must not be negative")
    return number


def _marker(value: str | None) -> str | None:
    if value is None:
        return None
    uuid = fields.parse_uuid(value)
    if uuid is None:
        raise exception.Invalid("The marker image was not found")
    return uuid


def _directed(text: str) -> tuple[str, str]:
    key, colon, direction = text.partition(":")
    return key, direction if colon else "desc"


def _sort(text: str | None, repeated: Mapping[str, Sequence[str]]) -> tuple[tuple[str, bool], ...]:
    """Return the keys of the order, each once, and whether it is descending."""
    keys, directions = repeated.get("sort_key", ()), repeated.get("sort_dir", ())
    if text is not None:
        if keys or directions:
            raise exception.Invalid("Use either sort, or sort_key and sort_dir")
        words = [_directed(one) for one in text.split(",")]
    else:
        keys = keys or (DEFAULT_SORT,)
        if len(directions) not in (0, 1, len(keys)):
            raise exception.Invalid("Give as many sort_dir as sort_key, or one for all, or none")
        directions = [*(directions or ("desc",))]
        directions = directions * len(keys) if len(directions) == 1 else directions
        words = list(zip(keys, directions, strict=True))
    found: dict[str, bool] = {}
    for key, way in words:
        _word("sort key", key, SORTABLE)
        _word("sort direction", way, listing.SORT_DIRS)
        found.setdefault(key, way == "desc")
    return tuple(found.items())

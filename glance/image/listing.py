"""The parameters of a list request: filters, page and order, parsed once for API and registry.

The API forwards the parameters it recognises (`forwardable`); the registry turns them into one
typed `ListQuery`, which the database layer translates into a statement.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

from glance.common import exception, numbers
from glance.image import fields

SORT_KEYS = (
    "name",
    "status",
    "container_format",
    "disk_format",
    "size",
    "id",
    "created_at",
    "updated_at",
)
SORT_DIRS = ("asc", "desc")
TEXT_FILTERS = ("name", "status", "container_format", "disk_format")
NUMBER_FILTERS = ("min_ram", "min_disk")
PROPERTY_PREFIX = "property-"

#: The words of a boolean in a query string, and of `is_public`.
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_SCOPES = {"none": None, **BOOLEANS}

#: A number in a query, as `count` takes it.
COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0, "maximum": fields.MAX_BIGINT}


def words_schema(words: Iterable[str]) -> dict[str, Any]:
    """Return the JSON schema of a text that is one of `words`, in any case of their letters."""
    spelled = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in w) for w in words)
    return {"type": "string", "pattern": f"^({'|'.join(spelled)})$"}


def _text_filter(name: str) -> dict[str, Any]:
    return {"type": "string", "description": f"Images with this {name}."}


#: Every parameter but the filters by property -> the JSON schema of its value.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    **{name: _text_filter(name) for name in TEXT_FILTERS},
    **{name: {**COUNT, "description": f"Images with this {name}."} for name in NUMBER_FILTERS},
    "size_min": {**COUNT, "description": "Images of at least so many bytes."},
    "size_max": {**COUNT, "description": "Images of at most so many bytes."},
    "is_public": {
        **words_schema(_SCOPES),
        "description": "For administrators: images that are public (true), are not (false), or "
        "both (none).",
    },
    "protected": {
        **words_schema(BOOLEANS),
        "description": "Images that are protected from deletion, or are not.",
    },
    "deleted": {
        "type": "string",
        "description": "For administrators: deleted images (true) instead of others.",
    },
    "changes-since": {
        "type": "string",
        "format": "date-time",
        "description": "Images that have changed since, deleted ones included; ISO 8601.",
    },
    "limit": {
        "type": "integer",
        "minimum": 0,
        "description": "How many images at most; the deployment may allow fewer.",
    },
    "marker": {"type": "string", "description": "The id of the image before the page."},
    "sort_key": {"type": "string", "enum": list(SORT_KEYS), "description": "The order."},
    "sort_dir": {"type": "string", "enum": list(SORT_DIRS), "description": "Its direction."},
}
RECOGNISED = frozenset(PARAMETERS)

#: How many filters by property a request may have. Each one costs the database a search for every
#: image that the others let through; people filter by one or two.
MAX_PROPERTY_FILTERS = 32

#: The JSON schema of all filters by property as one object.
PROPERTIES: Mapping[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": f"^{PROPERTY_PREFIX}"},
    "additionalProperties": {"type": "string"},
    "maxProperties": MAX_PROPERTY_FILTERS,
    "description": f"Images with these custom properties: {PROPERTY_PREFIX}NAME with the value.",
}

#: A blank where a `+` stood before form decoding: `…T10:00:00 02:00`.
_LOST_PLUS = re.compile(r"(T[0-9:.,]+) ([0-9]{2}:?[0-9]{2})\Z", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class ListQuery:
    """What to list.

    `filters` holds equality tests on columns; `properties` equality tests on live properties.
    `is_public`: True means what an ordinary user sees, False only images that are not public, None
    all. `deleted`: False means live rows, True deleted rows, None both. `changes_since` is a naive
    UTC instant. `size_min` and `size_max` are inclusive, in bytes. `marker` is the id after which
    the page starts; `limit` counts images.
    """

    filters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    size_min: int | None = None
    size_max: int | None = None
    is_public: bool | None = True
    changes_since: datetime.datetime | None = None
    deleted: bool | None = False
    include_killed: bool = False
    marker: int | None = None
    limit: int = 25
    sort_key: str = "created_at"
    sort_dir: str = "desc"


def forwardable(params: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that the registry supports; drop all others.

    Raises Invalid for more than MAX_PROPERTY_FILTERS.
    """
    found = {
        name: value
        for name, value in params.items()
        if name in RECOGNISED or name.startswith(PROPERTY_PREFIX)
    }
    # PERF: most requests have fewer parameters of all kinds.
    if len(found) > MAX_PROPERTY_FILTERS:
        count = len(found.keys() - RECOGNISED)
        if count > MAX_PROPERTY_FILTERS:
            raise exception.Invalid(
                f"The request filters by {count} properties; at most {MAX_PROPERTY_FILTERS} are "
                "allowed"
            )
    return found


def parse(
    params: Mapping[str, str],
    *,
    is_admin: bool,
    sees_deleted: bool | None = None,
    default_limit: int = 25,
    max_limit: int = 1000,
) -> ListQuery:
    """Return the typed form of list parameters. Raises Invalid, with a hint, for a bad one.

    Unknown parameters are ignored. Those for administrators are checked for all callers but take
    effect for administrators only; for `deleted`, `sees_deleted` decides instead, if it is given.
    """
    params = forwardable(params)
    for name, value in params.items():
        fields.check_text("filter name", name, fields.MAX_PROPERTY_VALUE)
        fields.check_text(f"filter {name}"[:80], value, fields.MAX_PROPERTY_VALUE)
    filters: dict[str, Any] = {name: params[name] for name in TEXT_FILTERS if name in params}
    for name in NUMBER_FILTERS:
        if name in params:
            filters[name] = count(name, params[name])
    if "protected" in params:
        filters["protected"] = choice("protected", params["protected"], BOOLEANS)
    changes_since = _changes_since(params.get("changes-since"))
    deleted = _deleted(params.get("deleted"), is_admin if sees_deleted is None else sees_deleted)
    if deleted is None and changes_since is None:
        deleted = False
    return ListQuery(
        filters=filters,
        properties=_properties(params),
        size_min=count("size_min", params["size_min"]) if "size_min" in params else None,
        size_max=count("size_max", params["size_max"]) if "size_max" in params else None,
        is_public=_is_public(params.get("is_public"), is_admin),
        changes_since=changes_since,
        deleted=deleted,
        include_killed=changes_since is not None or deleted is True,
        marker=_marker(params.get("marker")),
        limit=page_size(params.get("limit"), default_limit, max_limit),
        sort_key=_word("sort_key", params.get("sort_key", "created_at"), SORT_KEYS),
        sort_dir=_word("sort_dir", params.get("sort_dir", "desc"), SORT_DIRS),
    )


def _properties(params: Mapping[str, str]) -> dict[str, str]:
    """Fold property names like request headers, so that a filter finds what was sent."""
    start = len(PROPERTY_PREFIX)
    return {
        name[start:].replace("-", "_").lower(): value
        for name, value in params.items()
        if name.startswith(PROPERTY_PREFIX)
    }


def integer(name: str, value: str) -> int:
    """Return the integer in the value of a parameter. Raises Invalid with the parameter's name."""
    number = numbers.signed(value, 30)
    # NOTE: a plus sign in a query string is a blank, which is no part of a number.
    if number is None or value.startswith("+"):
        raise exception.Invalid(f"{name} must be an integer")
    return number


def count(name: str, value: str) -> int:
    """Return the whole number, 0 to MAX_BIGINT, in the value of a parameter. Raises Invalid."""
    number = integer(name, value)
    if not 0 <= number <= fields.MAX_BIGINT:
        raise exception.Invalid(f"{name} must be a whole number, 0 or greater")
    return number


def page_size(value: str | None, default: int = 25, maximum: int = 1000) -> int:
    """Return the value of the parameter `limit`, at most `maximum`. Raises Invalid."""
    if value is None:
        return min(default, maximum)
    number = integer("limit", value)
    if number < 0:
        raise exception.Invalid("limit must be positive")
    return min(number, maximum)


def _marker(value: str | None) -> int | None:
    if value is None:
        return None
    integer("marker", value)
    number = fields.parse_id(value)
    if number is None:
        raise exception.Invalid("The marker image was not found")
    return number


def choice(name: str, value: str, meanings: Mapping[str, Any]) -> Any:
    """Return what a word means, in any case of its letters. Raises Invalid with all words."""
    try:
        return meanings[value.lower()]
    except KeyError:
        raise exception.Invalid(f"{name} must be one of {', '.join(meanings)}") from None


def _word(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise exception.Invalid(f"{name} must be one of {', '.join(allowed)}")
    return value


def _is_public(value: str | None, is_admin: bool) -> bool | None:
    if value is None:
        return True
    scope: bool | None = choice("is_public", value, _SCOPES)
    return scope if is_admin else True


def _deleted(value: str | None, sees_deleted: bool) -> bool | None:
    if value is None or not sees_deleted:
        return None
    return value.strip().lower() in fields.TRUE_HEADER_WORDS


def instant(value: str) -> datetime.datetime | None:
    """Return an ISO 8601 time as naive UTC, None for other text; without a zone it is UTC."""
    text = _LOST_PLUS.sub(r"\1+\2", value.strip())
    try:
        found = datetime.datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return found


def _changes_since(value: str | None) -> datetime.datetime | None:
    if value is None:
        return None
    found = instant(value)
    if found is None:
        raise exception.Invalid(
            "changes-since must be an ISO 8601 time such as 2011-09-22T10:11:12Z"
        )
    return found

"""Parameters that several resources of the registry take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance.common import exception, numbers
from glance.http import openapi
from glance.identity.context import CallerRequest
from glance.image import fields, listing
from glance.registry import client, trust
from glance.registry.db import attempts

_PUBLIC_SHAPE = "HTTP_" + client.PUBLIC_SHAPE.upper().replace("-", "_")
_STATUSES_OF_DELETE = ("deleted", "pending_delete")

#: The form of the name of an error's class, as a whole.
ERROR_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"

#: Descriptions of parameters, for the operations that take them.
LIST = openapi.query({**listing.PARAMETERS, "properties": listing.PROPERTIES})
PUBLIC = openapi.headers(
    {
        client.PUBLIC_SHAPE: {
            "type": "string",
            "description": "true has the list in the form that the Images API shows.",
        }
    }
)
_SECONDS = {"type": "integer", "minimum": 0, "maximum": fields.MAX_INT}
REMOVAL = openapi.query(
    {
        "status": {
            "type": "string",
            "enum": list(_STATUSES_OF_DELETE),
            "description": "For glance-api: whether the data is still to be removed.",
        },
        "due_in": {**_SECONDS, "description": "After how many seconds to remove the data."},
        "lease": {**_SECONDS, "description": "For how long only glance-api removes it."},
    }
)
ATTEMPT: openapi.Schema = {
    "type": "string",
    "pattern": attempts.PATTERN,
    "description": "The name of what the caller does; a call with it may be repeated.",
}
REPEATED: openapi.Schema = {
    "type": "boolean",
    "description": "Whether the call was sent before, and its response lost.",
}


def removal(request: CallerRequest) -> dict[str, Any]:
    """Return `status`, `due_in` and `lease` of a DELETE of an image, checked.

    Raises Forbidden if another caller than the API sends one, Invalid for an impossible value.
    """
    query = request.query()
    trust.require_api(request, {"status", "due_in", "lease"} & query.keys())
    status = query.get("status")
    if not trust.is_from_api(request):
        # The scrubber removes the data, which the API would have done.
        status = "pending_delete"
    if status is not None and status not in _STATUSES_OF_DELETE:
        raise exception.Invalid(f"status must be one of {', '.join(_STATUSES_OF_DELETE)}")
    return {
        "status": status,
        "due_in": _seconds(query, "due_in"),
        "lease": _seconds(query, "lease"),
    }


def wants_public_shape(request: CallerRequest) -> bool:
    """Return whether the caller wants a list in the form in which the public API shows it."""
    return bool(request.environ.get(_PUBLIC_SHAPE) == "true")


def attempt(body: Mapping[str, Any]) -> str | None:
    """Return the name of what the caller does, as `glance.registry.db.attempts` has it."""
    name: str | None = body.get("attempt")
    if name is not None and not attempts.is_attempt(name):
        raise exception.Invalid("attempt must be 32 lower-case hexadecimal digits")
    return name


def is_repeated(body: Mapping[str, Any]) -> bool:
    """Return whether the caller has sent the same before and lost the response."""
    return body.get("repeated") is True


def _seconds(query: Mapping[str, str], name: str) -> int:
    number = numbers.whole(query.get(name, "0"), 10)
    if number is None or number > fields.MAX_INT:
        raise exception.Invalid(f"{name} must be a number of seconds")
    return number

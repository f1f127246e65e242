"""Parameters that several resources of the registry take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance.common import exception, numbers
from glance.identity.context import CallerRequest
from glance.image import fields
from glance.registry import client, trust
from glance.registry.db import attempts

_STATUSES_OF_DELETE = ("deleted", "pending_delete")


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
    return bool(request.headers.get(client.PUBLIC_SHAPE) == "true")


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

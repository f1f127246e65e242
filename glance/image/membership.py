"""Memberships of an image in requests: their JSON form, for the API and the registry.

A membership is a pair of member and `can_share`. If `can_share` is None the request does not set
it, and an existing membership keeps its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from glance.common import exception
from glance.image import fields

Membership = tuple[str, bool | None]

_WORDS = {"true": True, "false": False}


def parse_list(entries: Any) -> list[Membership]:
    """Return the memberships in a list of JSON objects.

    Raises Invalid for anything else, for an entry without a member_id, and for a member that is
    named twice.
    """
    if not isinstance(entries, list):
        raise exception.Invalid(
            'memberships must be a list of objects such as {"member_id": "tenant1"}'
        )
    found: dict[str, bool | None] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or "member_id" not in entry:
            raise exception.Invalid("Each membership must be an object with a member_id")
        member = member_id(entry["member_id"])
        if member in found:
            raise exception.Invalid(f"Member {member} is named twice")
        found[member] = can_share(entry)
    return list(found.items())


def to_json(memberships: Iterable[Membership]) -> dict[str, Any]:
    """Return the JSON that `parse_list` reads, under the key `memberships`."""
    return {
        "memberships": [
            {"member_id": member} | ({} if flag is None else {"can_share": flag})
            for member, flag in memberships
        ]
    }


def member_id(value: Any) -> str:
    """Return a member's id. Raises Invalid for an impossible one."""
    name = fields.check_text("member_id", value)
    if not name:
        raise exception.Invalid("A member_id must not be empty")
    return name


def can_share(values: Mapping[str, Any]) -> bool | None:
    """Return `can_share` of an object, None if it is not set. Invalid for an unclear value."""
    value = values.get("can_share")
    if isinstance(value, str):
        value = _WORDS.get(value.lower(), value)
    if value is None or isinstance(value, bool):
        return value
    raise exception.Invalid("can_share must be true or false")

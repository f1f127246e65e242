"""Members of an image: who it is shared with. The registry decides; this passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api, registry
from glance.api.v1 import images
from glance.common import exception, wsgi

_TRUTH = {"true": True, "false": False}


class Controller:
    """Handlers of `/images/{id}/members…` and `/shared-images/{member}`."""

    def __init__(self, service: api.Service):
        self.conf = service.conf

    def index(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """GET /images/{id}/members: as many memberships as the caller may know of."""
        members = registry.get_image_members(self.conf, request.context, images.image_id(id))
        return wsgi.json_response({"members": members})

    def shared_images(self, request: wsgi.Request, member: str) -> wsgi.Response:
        """GET /shared-images/{member}: images shared with a member."""
        shared = registry.get_member_images(self.conf, request.context, wsgi.segment(member))
        return wsgi.json_response({"shared_images": shared})

    def add(self, request: wsgi.Request, id: str, member: str) -> wsgi.Response:
        """PUT /images/{id}/members/{member}: add or change one membership."""
        api.require_write(request.context)
        can_share = _can_share_of(request.read_json()) if request.has_body() else None
        with _HidingRefusal():
            registry.add_member(
                self.conf,
                request.context,
                images.image_id(id),
                wsgi.segment(member),
                can_share,
            )
        return wsgi.Response(204)

    def replace(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """PUT /images/{id}/members: make the members exactly those in the body."""
        api.require_write(request.context)
        number = images.image_id(id)
        memberships = parse_memberships(request.read_json())
        with _HidingRefusal():
            registry.replace_members(
                self.conf, request.context, number, {"memberships": memberships}
            )
        return wsgi.Response(204)

    def delete(self, request: wsgi.Request, id: str, member: str) -> wsgi.Response:
        """DELETE /images/{id}/members/{member}: also when there is no such membership."""
        api.require_write(request.context)
        with _HidingRefusal():
            registry.delete_member(
                self.conf, request.context, images.image_id(id), wsgi.segment(member)
            )
        return wsgi.Response(204)


class _HidingRefusal:
    """Show a refused change of members as 404, with the registry's reason.

    SECURITY: who may not share an image is not told whether it could be shared by others.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, exception.Forbidden):
            raise exception.NotFound(str(err)) from err


def parse_memberships(document: Any) -> list[dict[str, Any]]:
    """Return the memberships in the body of a replacement.

    Accepted are `{"memberships": [...]}`, a bare list, and one membership object, which shipped
    clients send. Raises Invalid for anything else, for an entry without member_id, and for a
    member named twice.
    """
    entries = document
    if isinstance(document, Mapping):
        entries = document.get("memberships", [document])
    if not isinstance(entries, list):
        raise exception.Invalid("memberships must be a list of objects with a member_id")
    seen: dict[str, dict[str, Any]] = {}
    for entry in entries:
        member = entry.get("member_id") if isinstance(entry, Mapping) else None
        if not isinstance(member, str) or not member:
            raise exception.Invalid("Each membership must be an object with a member_id")
        if member in seen:
            raise exception.Invalid(f"Member {member} is named twice")
        seen[member] = {"member_id": member}
        can_share = _truth(entry.get("can_share"))
        if can_share is not None:
            seen[member]["can_share"] = can_share
    return list(seen.values())


def _can_share_of(document: Any) -> bool | None:
    if not isinstance(document, Mapping):
        raise exception.Invalid('The body must be an object such as {"member": {…}}')
    member = document.get("member")
    if member is None:
        return None
    if not isinstance(member, Mapping):
        raise exception.Invalid('member must be an object such as {"can_share": true}')
    return _truth(member.get("can_share"))


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    try:
        return _TRUTH[value.lower()]
    except (KeyError, AttributeError):
        raise exception.Invalid("can_share must be true or false") from None

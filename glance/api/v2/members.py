"""With whom an image is shared, and what they say to it: `/images/{id}/members…`.

The registry decides who may see and change what; this checks the requests and forwards them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from glance import api
from glance.api import purging, repeating
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import entity, fields, membership, types

_MEMBER_SCHEMA: Final = f"{entity.ROOT}/schemas/member"
_MEMBERS_SCHEMA: Final = f"{entity.ROOT}/schemas/members"

_MEMBER = openapi.json_of("Member", "The membership.")


class MemberResource:
    """Handlers of `/images/{id}/members` and `/images/{id}/members/{member}`."""

    def __init__(self, service: api.ImageService):
        self.registry = service.registry
        self.events = service.events

    @openapi.operation(
        "list_members", responses={200: openapi.json_of("Members", "The memberships.")}
    )
    def index(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/members: all members for the owner, for a member only itself."""
        found = self.registry.get_record_members(request.context, fields.path_uuid(id))
        members = [member_json(member) for member in found]
        return wsgi.json_response({"members": members, "schema": _MEMBERS_SCHEMA})

    @openapi.operation("show_member", responses={200: _MEMBER})
    def show(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """GET /images/{id}/members/{member}: one membership."""
        uuid, name = fields.path_uuid(id), wsgi.segment(member)
        return _member(self.registry.get_record_member(request.context, uuid, name))

    @openapi.operation(
        "add_member",
        body=openapi.json_of("MemberName", "Whom to share the image with."),
        responses={200: _MEMBER},
        errors=(exception.Conflict,),
    )
    def add(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/members: share the image with the member that the body names."""
        context = request.context
        context.require_write()
        uuid = fields.path_uuid(id)
        name = membership.member_id(_text_of(request, "member"))
        added = repeating.add_member(self.registry, context, uuid, name)
        self._emit(request, "image.member.create", added)
        return _member(added)

    @openapi.operation(
        "update_member",
        body=openapi.json_of("MemberStatus", "What the member has decided."),
        responses={200: _MEMBER},
        errors=(exception.Conflict,),
    )
    def update(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """PUT /images/{id}/members/{member}: the member accepts or rejects the image."""
        context = request.context
        context.require_write()
        uuid, name = fields.path_uuid(id), wsgi.segment(member)
        status = _text_of(request, "status")
        if status not in entity.MEMBER_STATUSES:
            raise exception.Invalid(
                f"The status of a member must be one of {', '.join(entity.MEMBER_STATUSES)}"
            )
        changed = repeating.set_member_status(self.registry, context, uuid, name, status)
        self._emit(request, "image.member.update", changed)
        return _member(changed)

    @openapi.operation(
        "remove_member", responses={204: openapi.nothing("The member has no right to the image.")}
    )
    def delete(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """DELETE /images/{id}/members/{member}: take the image from a member.

        Raises NotFound if there is no such member.
        """
        context = request.context
        context.require_write()
        uuid, name = fields.path_uuid(id), wsgi.segment(member)
        request.require_no_body()
        # HTTP caches know an image by its number.
        purged = self.registry.get_record(context, uuid)["id"] if _purges(request) else None
        repeating.remove_member(self.registry, context, uuid, name)
        if purged is not None:
            purging.unshared(request.environ, purged, uuid)
        self._emit(request, "image.member.delete", {"image_id": uuid, "member_id": name})
        return wsgi.Response(204)

    def _emit(self, request: CallerRequest, event: str, member: Mapping[str, Any]) -> None:
        """Emit an event about a membership, with the id of the image by which events name it."""
        if not self.events.is_enabled(event):
            return
        try:
            image = self.registry.get_record(request.context, member["image_id"])
        except exception.Error:
            # It was deleted, or the registry went away, after the change.
            return
        self.events.member_changed(request.context, event, image, member)


def _purges(request: CallerRequest) -> bool:
    return purging.of(request.environ) is not None


def _member(member: types.MemberRecord) -> wsgi.Response:
    return wsgi.json_response(member_json(member))


def member_json(member: types.MemberRecord) -> dict[str, Any]:
    """Return the JSON object of a membership."""
    return {
        "image_id": member["image_id"],
        "member_id": member["member_id"],
        "status": member["status"],
        "created_at": entity.shown_time(member["created_at"]),
        "updated_at": entity.shown_time(member["updated_at"]),
        "schema": _MEMBER_SCHEMA,
    }


def _text_of(request: CallerRequest, name: str) -> str:
    """Return the text under a name in the JSON object that is the body; Invalid without one."""
    document = request.read_json()
    value = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(value, str):
        raise exception.Invalid(f'The body must be an object such as {{"{name}": "text"}}')
    return value

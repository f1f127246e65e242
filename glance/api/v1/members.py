"""Members of an image: who it is shared with. The registry decides; this passes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from glance import api
from glance.common import exception
from glance.http import wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import fields, membership, types


class MembersController:
    """Handlers of `/images/{id}/members…` and `/shared-images/{member}`."""

    def __init__(self, service: api.ImageService):
        self.registry = service.registry
        self.events = service.events

    def index(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/members: as many memberships as the caller may know of."""
        members = self.registry.get_image_members(request.context, fields.path_id(id))
        return wsgi.json_response({"members": members})

    def shared_images(self, request: CallerRequest, member: str) -> wsgi.Response:
        """GET /shared-images/{member}: images shared with a member."""
        shared = self.registry.get_member_images(request.context, wsgi.segment(member))
        return wsgi.json_response({"shared_images": shared})

    def add(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """PUT /images/{id}/members/{member}: add or change one membership."""
        request.context.require_write()
        can_share = _can_share_of(request.read_json()) if request.has_body() else None
        number, name = fields.path_id(id), wsgi.segment(member)
        with _HidingRefusal(), self._telling(request.context, number, name):
            self.registry.add_member(request.context, number, name, can_share)
        return wsgi.Response(204)

    def replace(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}/members: make the members exactly those in the body."""
        request.context.require_write()
        number = fields.path_id(id)
        memberships = parse_memberships(request.read_json())
        with _HidingRefusal(), self._telling(request.context, number):
            self.registry.replace_members(request.context, number, membership.to_json(memberships))
        return wsgi.Response(204)

    def delete(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """DELETE /images/{id}/members/{member}: also when there is no such membership."""
        request.context.require_write()
        number, name = fields.path_id(id), wsgi.segment(member)
        with _HidingRefusal(), self._telling(request.context, number, name):
            self.registry.delete_member(request.context, number, name)
        return wsgi.Response(204)

    @contextlib.contextmanager
    def _telling(
        self, context: RequestContext, image_id: int, only: str | None = None
    ) -> Iterator[None]:
        """Tell which memberships are other than before, of one member or of all.

        The registry is asked for them around the change, and only if somebody wants to know.
        """
        if not self.events.is_enabled("image.member.update"):
            yield
            return
        before = self._members(context, image_id, only)
        yield
        after = self._members(context, image_id, only)
        if before is not None and after is not None:
            self.events.members_changed(context, image_id, before, after)

    def _members(
        self, context: RequestContext, image_id: int, only: str | None
    ) -> list[types.Member] | None:
        """Return memberships, None if the registry does not say."""
        try:
            members = self.registry.get_image_members(context, image_id)
        except exception.Error:
            # The change itself will say what is wrong, or has worked.
            return None
        return [one for one in members if only in (None, one["member_id"])]


class _HidingRefusal:
    """Show a refused change of members as 404, with the registry's reason.

    SECURITY: who may not share an image is not told whether it could be shared by others.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, exception.Forbidden):
            raise exception.NotFound(str(err)) from err


def parse_memberships(document: Any) -> list[membership.Membership]:
    """Return the memberships in the body of a replacement.

    Accepted are `{"memberships": [...]}`, a bare list, and one membership object, which shipped
    clients send. Raises Invalid for anything else.
    """
    if isinstance(document, Mapping):
        document = document.get("memberships", [document])
    return membership.parse_list(document)


def _can_share_of(document: Any) -> bool | None:
    """Return what the body for one member says, None if nothing."""
    values = document.get("member", {}) if isinstance(document, Mapping) else None
    if values is None and isinstance(document, Mapping):
        return None
    if not isinstance(values, Mapping):
        raise exception.Invalid(
            'The body must be an object such as {"member": {"can_share": true}}'
        )
    return membership.can_share(values)

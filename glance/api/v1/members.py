"""Members of an image: with whom it is shared. The registry decides; this forwards requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from glance import api
from glance.api import lookup, purging
from glance.common import exception
from glance.http import wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import fields, member_operations, membership, types


class MembersController:
    """Handlers of `/images/{id}/members…` and `/shared-images/{member}`."""

    def __init__(self, service: api.ImageService):
        self.registry = service.registry
        self.events = service.events

    @member_operations.list_members
    def index(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/members: the memberships that the caller may see."""
        number = lookup.number(self.registry, request.context, id)
        members = self.registry.get_image_members(request.context, number)
        return wsgi.json_response({"members": members})

    @member_operations.list_shared_images
    def shared_images(self, request: CallerRequest, member: str) -> wsgi.Response:
        """GET /shared-images/{member}: images shared with a member."""
        shared = self.registry.get_member_images(request.context, wsgi.segment(member))
        return wsgi.json_response({"shared_images": shared})

    @member_operations.add_member
    def add(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """PUT /images/{id}/members/{member}: add or change one membership."""
        request.context.require_write()
        can_share = _can_share_of(request.read_json()) if request.has_body() else None
        number = lookup.number(self.registry, request.context, id)
        name = wsgi.segment(member)
        with (
            self._hiding_refusals(request.context, number),
            self._emitting_changes(request.context, number, name),
        ):
            self.registry.add_member(request.context, number, name, can_share)
        return wsgi.Response(204)

    @member_operations.replace_members
    def replace(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}/members: make the members exactly those in the body."""
        request.context.require_write()
        number = lookup.number(self.registry, request.context, id)
        memberships = parse_memberships(request.read_json())
        with (
            self._hiding_refusals(request.context, number),
            self._emitting_changes(request.context, number),
        ):
            self.registry.replace_members(request.context, number, membership.to_json(memberships))
            purging.unshared(request.environ, number, fields.parse_uuid(id) or "")
        return wsgi.Response(204)

    @member_operations.remove_member
    def delete(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """DELETE /images/{id}/members/{member}: remove a member, if it is one."""
        request.context.require_write()
        number = lookup.number(self.registry, request.context, id)
        name = wsgi.segment(member)
        with (
            self._hiding_refusals(request.context, number),
            self._emitting_changes(request.context, number, name),
        ):
            self.registry.delete_member(request.context, number, name)
            purging.unshared(request.environ, number, fields.parse_uuid(id) or "")
        return wsgi.Response(204)

    @contextlib.contextmanager
    def _hiding_refusals(self, context: RequestContext, image_id: int) -> Iterator[None]:
        """Turn a refused change of members into 404, with the registry's reason.

        SECURITY: a caller that may not share an image must not learn whether others could. Nobody
        but its owner and administrators see a private image, so they are told what to do (403).
        """
        try:
            yield
        except exception.Forbidden as err:
            if self._is_private(context, image_id):
                raise
            raise exception.NotFound(str(err)) from err

    def _is_private(self, context: RequestContext, image_id: int) -> bool:
        """Return whether an image is private by version 2 of the API and the caller sees it."""
        try:
            record = self.registry.get_image_metadata(context, image_id)
        except exception.Error:
            return False
        return record.get("visibility") == "private"

    @contextlib.contextmanager
    def _emitting_changes(
        self, context: RequestContext, image_id: int, only: str | None = None
    ) -> Iterator[None]:
        """Emit events for the memberships that the block changed, of one member or of all.

        It reads them from the registry before and after the change, and only if events are sent.
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
        """Return memberships, None if the registry does not return them."""
        try:
            members = self.registry.get_image_members(context, image_id)
        except exception.Error:
            # The change itself reports the error, or has succeeded.
            return None
        return [one for one in members if only in (None, one["member_id"])]


def parse_memberships(document: Any) -> list[membership.Membership]:
    """Return the memberships in the body of a replacement.

    Accepts `{"memberships": [...]}`, a bare list, and one membership object, which released
    clients send. Raises Invalid for anything else.
    """
    if isinstance(document, Mapping):
        document = document.get("memberships", [document])
    return membership.parse_list(document)


def _can_share_of(document: Any) -> bool | None:
    """Return `can_share` from the body for one member, None if it is not set."""
    values = document.get("member", {}) if isinstance(document, Mapping) else None
    if values is None and isinstance(document, Mapping):
        return None
    if not isinstance(values, Mapping):
        raise exception.Invalid(
            'The body must be an object such as {"member": {"can_share": true}}'
        )
    return membership.can_share(values)

"""The registry's resource of memberships: with whom an image is shared.

Only `glance.registry.server` calls it. Every write is checked in the same order: read-only caller,
caller without owner, image not visible, image not sharable, body.
"""

from __future__ import annotations

from glance.common import config, exception
from glance.http import wsgi
from glance.identity.context import CallerRequest
from glance.image import fields, member_operations, membership, types
from glance.registry.db import api, engine

config.options(
    "registry",
    config.Option(
        "image_member_quota",
        config.integer,
        128,
        help="Maximum number of members of an image; 0 or a negative number means no limit.",
    ),
)


class MembershipsController:
    """The resources `/images/{id}/members` and `/shared-images/{member}`."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.member_quota: int = conf.image_member_quota

    @member_operations.list_members
    def index(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/members: the memberships that the caller may see."""
        found = api.member_list(self.db, request.context, fields.path_id(id))
        shown: list[types.Member] = [
            {"member_id": row["member"], "can_share": row["can_share"]} for row in found
        ]
        return wsgi.json_response({"members": shown})

    @member_operations.list_shared_images
    def shared_images(self, request: CallerRequest, member: str) -> wsgi.Response:
        """GET /shared-images/{member}: images that are shared with a member."""
        found = api.member_images(self.db, request.context, wsgi.segment(member))
        return wsgi.json_response({"shared_images": found})

    @member_operations.replace_members
    def replace(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}/members: replace all members by those in the body."""
        number = self._may_share(request, id)
        body = request.read_json()
        entries = body.get("memberships") if isinstance(body, dict) else None
        api.member_replace(
            self.db,
            request.context,
            number,
            membership.parse_list(entries),
            member_quota=self.member_quota,
        )
        return wsgi.Response(204)

    @member_operations.add_member
    def add(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """PUT /images/{id}/members/{member}: add a member, or change its right to share."""
        number = self._may_share(request, id)
        name = membership.member_id(wsgi.segment(member))
        can_share = None
        if request.has_body():
            body = request.read_json()
            values = body.get("member") if isinstance(body, dict) else None
            if not isinstance(values, dict) or values.get("can_share") is None:
                raise exception.Invalid(
                    'The body must be an object such as {"member": {"can_share": true}}'
                )
            can_share = membership.can_share(values)
        api.member_add(
            self.db,
            request.context,
            number,
            name,
            can_share,
            member_quota=self.member_quota,
        )
        return wsgi.Response(204)

    @member_operations.remove_member
    def remove(self, request: CallerRequest, id: str, member: str) -> wsgi.Response:
        """DELETE /images/{id}/members/{member}: remove a member, if it is one."""
        number = self._may_share(request, id)
        api.member_delete(self.db, request.context, number, wsgi.segment(member))
        return wsgi.Response(204)

    def _may_share(self, request: CallerRequest, id: str) -> int:
        """Return the image's number after all checks that precede the body."""
        request.context.require_write()
        number = fields.path_id(id)
        api.member_check(self.db, request.context, number)
        return number

"""The resource `/v2/images/{uuid}/members` of the registry."""

from __future__ import annotations

from glance.common import config, exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import entity, fields, membership, types
from glance.registry.db import engine, member_records

_MEMBER = openapi.json_of("MemberResponse", "The membership.")


class FullMembersController:
    """Memberships with a status; `glance.registry.db.member_records` says who may do what."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.quota: int = conf.image_member_quota

    @openapi.operation(
        "list_members_by_uuid", responses={200: openapi.json_of("FullMembers", "The memberships.")}
    )
    def index(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """GET /v2/images/{uuid}/members: those that the caller may see, oldest first."""
        wanted = fields.path_uuid(uuid)
        found = member_records.members_of(self.db, request.context, wanted)
        return wsgi.json_response({"members": [_shown(wanted, row) for row in found]})

    @openapi.operation("show_member", responses={200: _MEMBER})
    def show(self, request: CallerRequest, uuid: str, member: str) -> wsgi.Response:
        """GET /v2/images/{uuid}/members/{member}: one membership."""
        wanted, name = fields.path_uuid(uuid), wsgi.segment(member)
        found = member_records.member_of(self.db, request.context, wanted, name)
        return _response(wanted, found)

    @openapi.operation(
        "add_pending_member",
        body=openapi.json_of("MemberName", "Whom to share the image with."),
        responses={200: _MEMBER},
        errors=(exception.Conflict,),
    )
    def add(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """POST /v2/images/{uuid}/members: share the image; the membership is pending.

        The body is `{"member": M}`.
        """
        request.context.require_write()
        wanted = fields.path_uuid(uuid)
        body = request.read_json()
        name = membership.member_id(body.get("member") if isinstance(body, dict) else None)
        added = member_records.add(self.db, request.context, wanted, name, member_quota=self.quota)
        return _response(wanted, added)

    @openapi.operation(
        "set_member_status",
        body=openapi.json_of("MemberStatus", "What the member has decided."),
        responses={200: _MEMBER},
        errors=(exception.Conflict,),
    )
    def set_status(self, request: CallerRequest, uuid: str, member: str) -> wsgi.Response:
        """PUT /v2/images/{uuid}/members/{member}: note what the member has decided.

        The body is `{"status": S}`.
        """
        request.context.require_write()
        wanted, name = fields.path_uuid(uuid), wsgi.segment(member)
        body = request.read_json()
        status = body.get("status") if isinstance(body, dict) else None
        if status not in entity.MEMBER_STATUSES:
            words = ", ".join(entity.MEMBER_STATUSES)
            raise exception.Invalid(f"The status of a member must be one of {words}")
        changed = member_records.set_status(self.db, request.context, wanted, name, status)
        return _response(wanted, changed)

    @openapi.operation(
        "remove_member_by_uuid", responses={204: openapi.nothing("There is no such member.")}
    )
    def remove(self, request: CallerRequest, uuid: str, member: str) -> wsgi.Response:
        """DELETE /v2/images/{uuid}/members/{member}: take the image from a member."""
        request.context.require_write()
        wanted, name = fields.path_uuid(uuid), wsgi.segment(member)
        member_records.remove(self.db, request.context, wanted, name)
        return wsgi.Response(204)


def _shown(uuid: str, row: types.StoredMembership) -> types.MemberRecord:
    return {
        "image_id": uuid,
        "member_id": row["member"],
        "status": row["status"],
        "created_at": fields.timestamp(row["created_at"]),
        "updated_at": fields.timestamp(row["updated_at"]),
    }


def _response(uuid: str, row: types.StoredMembership) -> wsgi.Response:
    return wsgi.json_response({"member": _shown(uuid, row)})

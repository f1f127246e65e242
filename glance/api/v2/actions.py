"""What can be done to an image as a whole: `/images/{id}/actions/…`."""

from __future__ import annotations

from glance import api
from glance.api import repeating, serving
from glance.api.v2.data import require_mutable
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import fields

_ACTIVE, _DEACTIVATED = "active", "deactivated"


class ActionResource:
    """Handlers of `/images/{id}/actions/deactivate` and `…/reactivate`.

    Nobody but administrators can read the data of a deactivated image. What an administrator has
    deactivated, its owner cannot reactivate.
    """

    def __init__(self, service: api.ImageService):
        self.service = service
        self.registry = service.registry

    @openapi.operation(
        "deactivate_image",
        responses={204: openapi.nothing("Nobody but administrators can download it.")},
        errors=(exception.Conflict,),
    )
    def deactivate(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/actions/deactivate: stop downloads; no error if it has no effect."""
        return self._change(request, id, "deactivate", _DEACTIVATED)

    @openapi.operation(
        "reactivate_image",
        responses={204: openapi.nothing("The image can be downloaded.")},
        errors=(exception.Conflict,),
    )
    def reactivate(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/actions/reactivate: allow downloads; no error if it has no effect."""
        return self._change(request, id, "reactivate", _ACTIVE)

    def _change(self, request: CallerRequest, id: str, rule: str, status: str) -> wsgi.Response:
        """Give the image a status that it may have already.

        Raises NotFound for an image that the caller cannot see, and Forbidden for one that it may
        not change, or that is neither active nor deactivated.
        """
        context = request.context
        context.require_write()
        before = self.registry.get_record(context, fields.path_uuid(id))
        require_mutable(context, before)
        self.service.policy.require(rule, context)
        request.require_no_body()
        if before["status"] not in (_ACTIVE, _DEACTIVATED):
            raise exception.Forbidden(
                f"Only an active image can be deactivated; this one is {before['status']}"
            )
        states = (_ACTIVE, _DEACTIVATED)
        after = repeating.set_state(self.registry, context, before["uuid"], states, status)
        if before["status"] != after["status"]:
            serving.forget_copy(request, before, after)
            self.service.events.updated(context, before, after)
        return wsgi.Response(204)

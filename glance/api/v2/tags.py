"""The tags of an image one by one: `/images/{id}/tags/{tag}`."""

from __future__ import annotations

from glance import api
from glance.api import repeating
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import entity, fields


class TagResource:
    """Handlers of `/images/{id}/tags/{tag}`; the registry decides who may use them."""

    def __init__(self, service: api.ImageService):
        self.registry = service.registry

    @openapi.operation(
        "add_tag",
        responses={204: openapi.nothing("The image has the tag.")},
        errors=(exception.Conflict, exception.LimitExceeded),
    )
    def add(self, request: CallerRequest, id: str, tag: str) -> wsgi.Response:
        """PUT /images/{id}/tags/{tag}: give the image a tag; it may have it already.

        Raises Invalid for a tag that no image can have, and what the registry raises.
        """
        repeating.add_tag(self.registry, request.context, *self._named(request, id, tag))
        return wsgi.Response(204)

    @openapi.operation(
        "remove_tag",
        responses={204: openapi.nothing("The image does not have the tag.")},
        errors=(exception.Conflict,),
    )
    def delete(self, request: CallerRequest, id: str, tag: str) -> wsgi.Response:
        """DELETE /images/{id}/tags/{tag}: take a tag from the image.

        Raises NotFound if the image does not have it.
        """
        repeating.remove_tag(self.registry, request.context, *self._named(request, id, tag))
        return wsgi.Response(204)

    @staticmethod
    def _named(request: CallerRequest, id: str, tag: str) -> tuple[str, str]:
        """Return the uuid and the tag in a path, for a caller that may write."""
        request.context.require_write()
        uuid = fields.path_uuid(id)
        request.require_no_body()
        return uuid, entity.check_tag(wsgi.segment(tag))

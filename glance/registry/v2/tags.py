"""The resource `/v2/images/{uuid}/tags/{tag}` of the registry."""

from __future__ import annotations

from glance.common import config, exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import entity, fields
from glance.registry.db import engine, full_records

config.options(
    "registry",
    config.Option(
        "image_tag_quota",
        config.integer,
        128,
        help="Maximum number of tags of an image; 0 or a negative number means no limit.",
    ),
)


class TagsController:
    """Tags of an image, one at a time."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.quota: int = conf.image_tag_quota

    @openapi.operation(
        "add_tag",
        responses={204: openapi.nothing("The image has the tag.")},
        errors=(exception.Conflict, exception.LimitExceeded),
    )
    def add(self, request: CallerRequest, uuid: str, tag: str) -> wsgi.Response:
        """PUT /v2/images/{uuid}/tags/{tag}: give the image a tag; it may have it already."""
        request.context.require_write()
        wanted, text = fields.path_uuid(uuid), entity.check_tag(wsgi.segment(tag))
        full_records.tag_add(self.db, request.context, wanted, text, self.quota)
        return wsgi.Response(204)

    @openapi.operation(
        "remove_tag",
        responses={204: openapi.nothing("The image does not have the tag.")},
        errors=(exception.Conflict,),
    )
    def remove(self, request: CallerRequest, uuid: str, tag: str) -> wsgi.Response:
        """DELETE /v2/images/{uuid}/tags/{tag}: take a tag from the image.

        Raises NotFound if the image does not have it.
        """
        request.context.require_write()
        wanted, text = fields.path_uuid(uuid), entity.check_tag(wsgi.segment(tag))
        full_records.tag_remove(self.db, request.context, wanted, text)
        return wsgi.Response(204)

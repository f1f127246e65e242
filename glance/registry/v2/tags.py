"""The resource `/v2/images/{uuid}/tags/{tag}` of the registry."""

from __future__ import annotations

from glance.common import config
from glance.http import wsgi
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

    def add(self, request: CallerRequest, uuid: str, tag: str) -> wsgi.Response:
        """PUT /v2/images/{uuid}/tags/{tag}: succeeds also if the image has the tag."""
        request.context.require_write()
        wanted, text = fields.path_uuid(uuid), entity.check_tag(wsgi.segment(tag))
        full_records.tag_add(self.db, request.context, wanted, text, self.quota)
        return wsgi.Response(204)

    def remove(self, request: CallerRequest, uuid: str, tag: str) -> wsgi.Response:
        """DELETE /v2/images/{uuid}/tags/{tag}; NotFound if the image does not have it."""
        request.context.require_write()
        wanted, text = fields.path_uuid(uuid), entity.check_tag(wsgi.segment(tag))
        full_records.tag_remove(self.db, request.context, wanted, text)
        return wsgi.Response(204)

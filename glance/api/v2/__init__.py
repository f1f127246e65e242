"""Version 2 of the Images API: its routes and its paste factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api
from glance.api import caching, describing, mounting, purging, startup, versions
from glance.api.v2 import actions, data, description, images, members, schemas, tags
from glance.common import config
from glance.http import openapi
from glance.image import formats


class ImagesAPIv2(caching.ApiRouter):
    """The routes, relative to the version prefix."""

    def __init__(self, service: api.ImageService):
        environ = {purging.ENVIRON: purging.create(service.conf)}
        super().__init__(service.cache_rules, environ, strict=True, mount="/v2")
        image = images.ImageResource(service)
        self.add("/images", GET=image.index, POST=image.create)
        self.add(
            "/images/{id}",
            GET=image.show,
            HEAD=image.show,
            PATCH=image.update,
            DELETE=image.delete,
        )
        for path, show in schemas.Schemas(formats.from_conf(service.conf)).handlers().items():
            self.add(path, GET=show)
        file = data.DataResource(service)
        member = members.MemberResource(service)
        tag = tags.TagResource(service)
        action = actions.ActionResource(service)
        self.add("/images/{id}/file", HEAD=file.meta, GET=file.show, PUT=file.upload)
        self.add("/images/{id}/members", GET=member.index, POST=member.add)
        self.add(
            "/images/{id}/members/{member}",
            GET=member.show,
            PUT=member.update,
            DELETE=member.delete,
        )
        self.add("/images/{id}/tags/{tag}", PUT=tag.add, DELETE=tag.delete)
        self.add("/images/{id}/actions/deactivate", POST=action.deactivate)
        self.add("/images/{id}/actions/reactivate", POST=action.reactivate)
        self.description = describing.description(
            service.conf,
            lambda: description.api(service.conf),
            lambda: (*versions.routes(), *self.routes()),
            mounting.V2,
        )
        self.add(openapi.PATH, GET=self.description.show)


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> ImagesAPIv2:
    """Paste app factory of `[app:apiv2app]`; runs once in each worker process."""
    conf = config.from_paste(global_conf, local_conf)
    return ImagesAPIv2(startup.service_for(conf, mounting.V2))

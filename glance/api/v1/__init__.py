"""Version 1 of the Images API: its routes and its paste factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api
from glance.api import cached_images, caching, describing, mounting, purging, startup
from glance.api.middleware import cache_manage
from glance.api.v1 import conversions, description, images, members
from glance.common import config, exception
from glance.http import openapi


class ImagesAPI(caching.ApiRouter):
    """The routes, relative to the version prefix."""

    def __init__(self, service: api.ImageService):
        environ = {purging.ENVIRON: purging.create(service.conf)}
        super().__init__(service.cache_rules, environ, mount="/v1")
        image = images.ImagesController(service)
        member = members.MembersController(service)
        conversion = conversions.JobsController(service)
        self.add("/", GET=image.index)
        self.add("/images", GET=image.index, POST=image.create)
        self.add("/images/detail", GET=image.detail)
        self.add(
            "/images/{id}",
            HEAD=image.meta,
            GET=image.show,
            PUT=image.update,
            DELETE=image.delete,
        )
        # Clients of version 2 download from there, whatever version the service has.
        self.add("/images/{id}/file", HEAD=image.meta, GET=image.show)
        self.add("/images/{id}/restore", POST=image.restore)
        self.add("/images/{id}/members", GET=member.index, PUT=member.replace)
        self.add("/images/{id}/members/{member}", PUT=member.add, DELETE=member.delete)
        self.add("/images/{id}/conversions", GET=conversion.of_image)
        self.add("/conversions", GET=conversion.index, POST=conversion.create)
        self.add("/conversions/formats", GET=conversion.formats)
        self.add("/conversions/{job}", GET=conversion.show, DELETE=conversion.delete)
        self.add("/shared-images/{member}", GET=member.shared_images)
        self.description = describing.description(
            service.conf,
            lambda: description.api(service.conf),
            lambda: (*self.routes(), *cached_images.routes()),
            mounting.V1,
        )
        self.add(openapi.PATH, GET=self.description.show)

    def missing(self, path: str) -> exception.NotFound:
        """Return the error for a path without a route, which may be one of a filter."""
        if path.lstrip("/").partition("/")[0] in cache_manage.OWN:
            return exception.MethodUnknown(cache_manage.NOT_ENABLED)
        return super().missing(path)


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> ImagesAPI:
    """Paste app factory of `[app:apiv1app]`; runs once in each worker process."""
    conf = config.from_paste(global_conf, local_conf)
    return ImagesAPI(startup.service_for(conf, mounting.V1))

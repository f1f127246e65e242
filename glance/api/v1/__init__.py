"""Version 1 of the Images API: its routes and its paste factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api, store
from glance.api import caching, purging, recovery
from glance.api.middleware import cache_manage
from glance.api.v1 import images, members
from glance.common import config, exception
from glance.http import health
from glance.image import cipher
from glance.registry import link

#: How long it counts that the default store could be used, in seconds. Requests to it may cost.
_KEEP_STORE = 5.0
#: How long the default store may take to respond, in seconds: the first request signs in.
_STORE_PATIENCE = 10.0


class ImagesAPI(caching.ApiRouter):
    """The routes, relative to the version prefix."""

    def __init__(self, service: api.ImageService):
        super().__init__(service.cache_rules, {purging.ENVIRON: purging.create(service.conf)})
        image = images.ImagesController(service)
        member = members.MembersController(service)
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
        self.add("/shared-images/{member}", GET=member.shared_images)

    def missing(self, path: str) -> exception.NotFound:
        """Return the error for a path without a route, which may be one of a filter."""
        if path.lstrip("/").partition("/")[0] in cache_manage.OWN:
            return exception.MethodUnknown(cache_manage.NOT_ENABLED)
        return super().missing(path)


def _require(service: api.ImageService) -> None:
    """Have the health checks of this process probe for the registry and the default store."""
    health.require(health.Need(health.REGISTRY, service.registry.missing, limit=link.CHECK_LIMIT))
    health.require(
        health.Need(
            health.STORE,
            service.stores.check,
            keep=_KEEP_STORE,
            limit=link.CHECK_LIMIT,
            patience=_STORE_PATIENCE,
        )
    )


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> ImagesAPI:
    """Paste app factory of `[app:apiv1app]`; runs once in each worker process."""
    conf = config.from_paste(global_conf, local_conf)
    stores = store.create_stores(conf)
    stores.check_default()
    if not cipher.is_configured(conf):
        stores.warn_of_credentials()
    service = api.ImageService(conf, stores)
    recovery.start(service)
    _require(service)
    return ImagesAPI(service)

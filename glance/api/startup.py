"""What the application of each version of the API needs when it is made: the shared service."""

from __future__ import annotations

from glance import api, store
from glance.api import mounting, recovery
from glance.common import config, metrics
from glance.http import health
from glance.image import cipher
from glance.registry import link
from glance.store import base

#: How long it counts that the default store could be used, in seconds. Requests to it may cost.
_KEEP_STORE = 5.0
#: How long the default store may take to respond, in seconds: the first request signs in.
_STORE_PATIENCE = 10.0


def service_for(conf: config.Conf, version: str) -> api.ImageService:
    """Return the service for the application of `version`; runs once in each worker process.

    The applications of one composite share it. It begins to settle what dead processes left, and
    the health checks of this process probe for the registry and the default store. Raises
    ConfigError for settings that cannot be used.
    """
    mounting.announce(conf, version)
    return mounting.shared(conf, lambda: _start(conf))


def _start(conf: config.Conf) -> api.ImageService:
    stores = store.create_stores(conf)
    stores.check_default()
    if not cipher.is_configured(conf):
        stores.warn_of_credentials()
    service = api.ImageService(conf, stores)
    recovery.start(service)
    _require(service)
    _measure(service)
    return service


def _measure(service: api.ImageService) -> None:
    """Begin what the metrics of this process count."""
    metrics.sample(lambda: metrics.UNFINISHED.set(service.unfinished.count))
    metrics.begin(metrics.UPLOADS, ("client", "copy"), ("stored", "refused", "failed"))
    metrics.begin(metrics.DOWNLOADS, ("cache", "store"), ("whole", "cut"))
    names = [each.name for each in service.stores]
    metrics.begin(metrics.STORE_CALLS, names, ("get",), base.OUTCOMES)


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

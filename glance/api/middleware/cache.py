"""The image cache in the pipeline: requests that pass this filter are served through it.

The filter opens the cache once per process and passes it on in the environ
(`glance.image_cache.ENVIRON`); the images resource gets the data from it after it has loaded the
record from the registry. So the record is requested once, permissions are checked before the cache
is used, and the head of the response is made in one place, whether its body comes from the cache
or not. A filter that sent the response itself would have to repeat all three.

NOTE: the filter stands between the context filter and the application. It changes nothing when
`image_cache_enabled` is off or the cache cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance import image_cache
from glance.api import cache_maintenance
from glance.common import config
from glance.http import wsgi


class CacheFilter:
    """The middleware; see the module."""

    def __init__(self, app: wsgi.WSGIApp, cache: image_cache.ImageCache):
        self.app = app
        self.cache = cache

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        environ[image_cache.ENVIRON] = self.cache
        return self.app(environ, start_response)


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], wsgi.WSGIApp]:
    """Paste filter factory of `[filter:cache]`; runs once in each worker process."""
    conf = config.from_paste(global_conf, local_conf)
    return lambda app: filtered(app, conf)


def filtered(app: wsgi.WSGIApp, conf: config.Conf) -> wsgi.WSGIApp:
    """Return `app` wrapped with the cache, or `app` itself if there is none."""
    cache = image_cache.open_cache(conf)
    if cache is None:
        return app
    cache_maintenance.start(cache, conf)
    return CacheFilter(app, cache)

"""The filter for management of the image cache: the routes of `glance.api.cached_images`.

It stands between the context filter and the application. Caching is done by another filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance.api import cached_images, mounting
from glance.common import config
from glance.http import wsgi

#: First segments of the paths that are handled here.
OWN = frozenset({"cached_images", "queued_images", "cache_stats"})
#: What a server without this filter says about them.
NOT_ENABLED = (
    "Management of the image cache is not switched on: add the filter cachemanage to the pipeline "
    "in the server's glance-api.conf"
)


class CacheManage:
    """The middleware; see the module."""

    def __init__(self, app: wsgi.WSGIApp, conf: config.Conf):
        self.app = app
        self.router = cached_images.CachedImagesController(conf).router()

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        first = environ.get("PATH_INFO", "").lstrip("/").partition("/")[0]
        # The paths are those of version 1.
        is_own = first in OWN and environ.get(mounting.VERSION) != mounting.V2
        chosen = self.router if is_own else self.app
        return chosen(environ, start_response)


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], CacheManage]:
    """Paste filter factory of `[filter:cachemanage]`, once called `[filter:imagecache]`."""
    conf = config.from_paste(global_conf, local_conf)
    return lambda app: CacheManage(app, conf)

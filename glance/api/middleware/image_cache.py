"""The filter that old files call `imagecache`: the image cache and its management interface.

In Diablo the filter provided the interface only, and `image_cache_enabled` alone switched caching
on. A file of that time still gets both from this filter. New files name `cache` and `cachemanage`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glance.api.middleware import cache, cache_manage
from glance.common import config
from glance.http import wsgi


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], wsgi.WSGIApp]:
    """Paste filter factory of `[filter:imagecache]`."""
    conf = config.from_paste(global_conf, local_conf)
    return lambda app: cache.filtered(cache_manage.CacheManage(app, conf), conf)

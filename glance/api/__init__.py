"""glance-api: the public Images API.

`versions` and `middleware` come first in the pipeline, `mounting` joins the versions, `v1` and
`v2` hold their resources, `upload` and `download` move the bytes. This module holds what the
resources share: the API's own options, and the rules about which parts of an image a caller may
see.
"""

from __future__ import annotations

import dataclasses
from typing import cast

from glance import store
from glance.api import caching, data_log
from glance.api.mounting import root_app_factory as root_app_factory  # named in paste files
from glance.common import config
from glance.http import wsgi
from glance.identity import context as request_context
from glance.identity import policy
from glance.image import fields, types
from glance.notifier import events
from glance.registry import unfinished
from glance.registry.link import RegistryLink
from glance.registry.service_account import ServiceAccount
from glance.store import location as store_location
from glance.streaming import digest

config.options(
    "images API",
    config.Option(
        "public_endpoint",
        config.url,
        help="URL of this service as clients reach it, for links in responses. Unset: the "
        "scheme and host of the request, and the path below which a paste composite mounts the "
        "service.",
    ),
    config.Option(
        "expose_location",
        default="admin",
        choices=("admin", "never"),
        help="Who sees the location of an image's data: administrators (admin) or nobody "
        "(never). Credentials are always removed.",
    ),
    config.Option(
        "upload_idle_timeout",
        config.real,
        60.0,
        unit="seconds",
        minimum=0,
        help="Abort an upload that has sent no data for this long; 0 means no timeout.",
    ),
    config.Option(
        "strict_locations",
        config.boolean,
        False,
        help="Refuse to register a location if the size of its data cannot be determined.",
    ),
    config.Option(
        "require_formats",
        config.boolean,
        False,
        help="Reject image data and locations for an image that has no disk format or no "
        "container format.",
    ),
    config.Option(
        "delayed_delete",
        config.boolean,
        False,
        help="Keep the data of deleted images for scrub_time; glance-scrubber then removes it.",
    ),
)
config.options(
    "image data",
    config.Option(
        "image_size_cap",
        config.integer,
        1024**4,
        unit="bytes",
        minimum=0,
        help="Maximum size of an image; 0 means no limit.",
    ),
    config.Option(
        "hashing_algorithm",
        digest.algorithm,
        "sha256",
        may_be_empty=True,
        help="Algorithm of the second digest, beside the MD5, of data that comes through version "
        "2 of the Images API; whoever downloads the image verifies it. Any algorithm of Python's "
        "hashlib with at most 128 hexadecimal digits; empty: no second digest.",
    ),
    config.Option(
        "hash_v1_uploads",
        config.boolean,
        False,
        help="Compute the digest of hashing_algorithm also of data that comes through version 1 "
        "of the Images API.",
    ),
)

_HIDDEN = frozenset({"location", "tags", *fields.INTERNAL_KEYS})


@dataclasses.dataclass(frozen=True, slots=True)
class ImageService:
    """What all resources of one API process share."""

    conf: config.Conf
    stores: store.Stores
    policy: policy.Policy = dataclasses.field(init=False)
    registry: RegistryLink = dataclasses.field(init=False)
    account: ServiceAccount = dataclasses.field(init=False)
    events: events.Events = dataclasses.field(init=False)
    unfinished: unfinished.Unfinished = dataclasses.field(init=False)
    data_log: data_log.DataLog = dataclasses.field(init=False)
    cache_rules: caching.CacheRules = dataclasses.field(init=False)
    exposes_location: bool = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        # NOTE: the way to set a field of a frozen dataclass.
        object.__setattr__(self, "policy", policy.from_conf(self.conf))
        object.__setattr__(self, "registry", RegistryLink(self.conf))
        object.__setattr__(self, "account", ServiceAccount(self.conf, self.registry))
        object.__setattr__(self, "events", events.create(self.conf))
        directory = next(iter(self.stores.local_directories()), None)
        object.__setattr__(self, "unfinished", unfinished.Unfinished(directory))
        object.__setattr__(self, "data_log", data_log.DataLog(self.stores))
        object.__setattr__(self, "cache_rules", caching.CacheRules(self.conf))
        # PERF: to read an option takes a microsecond.
        exposes = self.conf.expose_location != "never"
        object.__setattr__(self, "exposes_location", exposes)

    def shown_location(
        self, context: request_context.RequestContext, image: types.ImageRecord
    ) -> str | None:
        """Return the location as `context` may see it: administrators only, no credentials."""
        location = image.get("location")
        if not location or not context.is_admin or not self.exposes_location:
            return None
        return store_location.public_uri(location)

    def shown(
        self, context: request_context.RequestContext, image: types.ImageRecord
    ) -> types.DetailedImage:
        """Return the JSON form of one image for `context`."""
        public = hide_location(image)
        location = self.shown_location(context, image)
        if location is not None:
            public["location"] = location
        return public

    def image_url(self, request: wsgi.Request, image_id: object, version: str = "/v1") -> str:
        """Return the absolute URL of an image, as the client of `request` reaches it.

        `version` is the first segment of the paths of the API, `/v1` or `/v2`.
        """
        return self.url(request, f"images/{image_id}", version)

    def url(self, request: wsgi.Request, path: str, version: str = "/v1") -> str:
        """Return the absolute URL of a path below the API's, which has no slash before it."""
        endpoint = self.conf.public_endpoint
        root = (
            f"{endpoint.rstrip('/')}{version}" if endpoint else request.application_root(version)
        )
        return f"{root}/{path}"


def hide_location(image: types.ImageRecord) -> types.DetailedImage:
    """Return an image as lists show it to all callers: without what only the API may see."""
    shown = {name: value for name, value in image.items() if name not in _HIDDEN}
    shown["status"] = fields.v1_status(image["status"])
    return cast(types.DetailedImage, shown)

"""The registry's paths below `/v2`: records as version 2 of the Images API needs them.

Images are named by uuid. For glance-api only, as all of the registry; a caller that sees an image
and may not change it gets 403 here, and 404 below the other paths.
"""

from __future__ import annotations

from glance.common import config
from glance.http import wsgi
from glance.identity.context import CallerRequest
from glance.registry.db import engine
from glance.registry.v2 import members, records, tags

#: The schemas of the bodies that these paths read.
schemas = records.schemas


def add_routes(router: wsgi.Router[CallerRequest], conf: config.Conf, db: engine.Database) -> None:
    """Add the resources to the router of the registry."""
    images = records.FullRecordsController(conf, db)
    sharing = members.FullMembersController(conf, db)
    tagging = tags.TagsController(conf, db)
    router.add("/v2/images", GET=images.index, POST=images.create)
    router.add("/v2/images/{uuid}", GET=images.show, PATCH=images.patch, DELETE=images.delete)
    router.add("/v2/images/{uuid}/state", POST=images.set_state)
    router.add("/v2/images/{uuid}/members", GET=sharing.index, POST=sharing.add)
    router.add(
        "/v2/images/{uuid}/members/{member}",
        GET=sharing.show,
        PUT=sharing.set_status,
        DELETE=sharing.remove,
    )
    router.add("/v2/images/{uuid}/tags/{tag}", PUT=tagging.add, DELETE=tagging.remove)

"""The registry as the API sees it: functions that ask it on behalf of one caller.

All take the settings and the caller's request context first, and are thin wrappers over
`glance.registry.link.RegistryLink`, which says what they return and raise. A program that makes
many calls holds a link itself, as glance's own applications do. The registry server is in
`glance.registry.server`.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from glance.identity.context import RequestContext
from glance.image import types
from glance.registry import client
from glance.registry.link import RegistryLink

# The links of those settings that still exist; weak, so that a link goes with its settings.
_LINKS: dict[int, tuple[weakref.ref[Any], RegistryLink]] = {}


def _link(conf: Mapping[str, Any]) -> RegistryLink:
    """Return the link that belongs to these settings; a new one for a plain dictionary."""
    key = id(conf)
    found = _LINKS.get(key)
    if found is not None and found[0]() is conf:
        return found[1]
    link = RegistryLink(conf)
    try:
        _LINKS[key] = weakref.ref(conf, lambda _: _LINKS.pop(key, None)), link
    except TypeError:
        pass  # A dictionary has no weak references.
    return link


def get_registry_client(conf: Mapping[str, Any], context: RequestContext) -> client.RegistryClient:
    """Return a client that speaks for the caller of `context`; cheap, over shared connections."""
    return _link(conf).client_for(context)


def get_images_list(
    conf: Mapping[str, Any], context: RequestContext, **kwargs: Any
) -> list[types.BriefImage]:
    """Return a page of short records; `kwargs`: filters, marker, limit, sort_key, sort_dir."""
    return _link(conf).get_images_list(context, **kwargs)


def get_images_detail(
    conf: Mapping[str, Any], context: RequestContext, **kwargs: Any
) -> list[types.ImageRecord]:
    """Return a page of full records, `location` included; arguments as `get_images_list`."""
    return _link(conf).get_images_detail(context, **kwargs)


def get_image_metadata(
    conf: Mapping[str, Any], context: RequestContext, image_id: object
) -> types.ImageRecord:
    """Return the full record of a visible image; NotFound otherwise."""
    return _link(conf).get_image_metadata(context, image_id)


def add_image_metadata(
    conf: Mapping[str, Any], context: RequestContext, image_meta: Mapping[str, Any]
) -> types.ImageRecord:
    """Create a record and return it; Duplicate for a taken id, Invalid for bad values."""
    return _link(conf).add_image_metadata(context, image_meta)


def update_image_metadata(
    conf: Mapping[str, Any],
    context: RequestContext,
    image_id: object,
    image_meta: Mapping[str, Any],
    purge_props: bool = False,
    from_state: str | None = None,
) -> types.ImageRecord:
    """Change a record and return it."""
    return _link(conf).update_image_metadata(
        context, image_id, image_meta, purge_props, from_state
    )


def delete_image_metadata(
    conf: Mapping[str, Any],
    context: RequestContext,
    image_id: object,
    status: str | None = None,
    **waiting: int,
) -> dict[str, Any]:
    """Delete a record, leaving it in `status` (deleted, pending_delete), and return it."""
    return _link(conf).delete_image_metadata(context, image_id, status, **waiting)


def get_image_members(
    conf: Mapping[str, Any], context: RequestContext, image_id: object
) -> list[types.Member]:
    """Return the memberships of an image that the caller may see: member_id, can_share."""
    return _link(conf).get_image_members(context, image_id)


def get_member_images(
    conf: Mapping[str, Any], context: RequestContext, member_id: object
) -> list[types.SharedImage]:
    """Return what is shared with a member, as far as the caller may see it."""
    return _link(conf).get_member_images(context, member_id)


def replace_members(
    conf: Mapping[str, Any], context: RequestContext, image_id: object, member_data: Any
) -> bool:
    """Make the members of an image exactly those given."""
    return _link(conf).replace_members(context, image_id, member_data)


def add_member(
    conf: Mapping[str, Any],
    context: RequestContext,
    image_id: object,
    member_id: object,
    can_share: bool | None = None,
) -> bool:
    """Make or change one membership."""
    return _link(conf).add_member(context, image_id, member_id, can_share)


def delete_member(
    conf: Mapping[str, Any], context: RequestContext, image_id: object, member_id: object
) -> bool:
    """End one membership; no error if there is none."""
    return _link(conf).delete_member(context, image_id, member_id)

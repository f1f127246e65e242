"""The image that a path of version 1 names: by its number, or by the uuid of version 2."""

from __future__ import annotations

from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import fields, types
from glance.registry.link import RegistryLink


def image(registry: RegistryLink, context: RequestContext, text: str) -> types.ImageRecord:
    """Return the record of a visible image; NotFound for any text that names none."""
    uuid = fields.parse_uuid(text)
    if uuid is not None:
        return registry.get_record(context, uuid)
    return registry.get_image_metadata(context, fields.path_id(text))


def number(registry: RegistryLink, context: RequestContext, text: str) -> int:
    """Return the number of an image. Raises NotFound for any text that can name none.

    A number is returned as it is; only for a uuid the registry is asked, and the image has to be
    visible.
    """
    uuid = fields.parse_uuid(text)
    return fields.path_id(text) if uuid is None else registry.get_record(context, uuid)["id"]


def marker(registry: RegistryLink, context: RequestContext, text: str) -> str:
    """Return the marker of a list with the number in place of a uuid.

    Raises Invalid for a uuid that names no visible image. Any other text is left to whoever reads
    the list.
    """
    if fields.parse_uuid(text) is None:
        return text
    try:
        return str(number(registry, context, text))
    except exception.NotFound as err:
        raise exception.Invalid("The marker image was not found") from err

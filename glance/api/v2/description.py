"""What version 2 of the Images API says of itself: its OpenAPI document, without its routes.

The routes are described where their handlers are, and images by the schemas that are served.
"""

from __future__ import annotations

from typing import Any, Final

from glance.api import describing, versions
from glance.api.v2 import patch, schemas
from glance.common import config, httperror
from glance.http import openapi
from glance.identity import context as identity
from glance.image import described, entity, fields, formats

_ABOUT: Final = """\
Disk images over HTTP: the metadata of an image is a JSON object, its data is below `/file`.

Keys of the object that are no fields of an image are its custom properties. Errors are JSON for \
a client whose Accept names `application/json`.
"""
_TEXT_KEYS: Final = ("name", "links")


def api(conf: config.Conf) -> openapi.Api:
    """Return what all operations have in common."""
    return openapi.Api(
        title="Images API, version 2",
        version=versions.IDS["v2"][0].removeprefix("v"),
        about=_ABOUT,
        variables={
            "id": {
                "type": "string",
                "pattern": entity.UUID_PATTERN,
                "description": "The id of the image.",
            },
            "member": described.MEMBER,
            "tag": {"type": "string", "maxLength": entity.MAX_TAG, "description": "The tag."},
        },
        schemas=components(formats.from_conf(conf)),
        tags={
            "versions": "Which versions of the API there are.",
            "images": "Images: their metadata.",
            "schemas": "JSON schemas of what the service sends.",
            "data": "The data of images.",
            "members": "With whom an image is shared.",
            "tags": "Tags of images.",
            "actions": "What can be done to an image as a whole.",
            "openapi": "This document.",
        },
        error_types=describing.JSON_ERRORS,
        errors=describing.ERRORS,
        token=identity.needs_token(conf),
    )


def components(allowed: fields.Formats) -> dict[str, openapi.Schema]:
    """Return the schemas of all bodies by name; `allowed` are the formats of the deployment."""
    image = _plain(schemas.image_schema(allowed))
    shown = dict(image["properties"])
    for name in entity.FORMAT_FIELDS:
        # What an image has was allowed when it was made.
        shown[name] = {key: value for key, value in shown[name].items() if key != "enum"}
    hidden = {field.name for field in entity.ATTRIBUTES if not field.shown} | {"locations"}
    member = _plain(schemas.member_schema())
    return {
        "Error": httperror.JSON_SCHEMA,
        "Versions": versions.SCHEMA,
        "Image": {
            **image,
            "properties": shown,
            "required": [name for name in shown if name not in hidden],
        },
        "ImageToCreate": {
            **image,
            "properties": {
                field.name: image["properties"][field.name]
                for field in entity.ATTRIBUTES
                if field.write != entity.READ_ONLY
            },
        },
        "Images": _page(schemas.images_schema(allowed), "images", "Image", "next"),
        "Patch": patch.SCHEMAS[patch.V21],
        "PatchOfVersion20": patch.SCHEMAS[patch.V20],
        "Member": {**member, "required": list(member["properties"])},
        "Members": _page(schemas.members_schema(), "members", "Member"),
        **described.member_requests(),
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a served schema without what is not JSON Schema."""
    kept = {key: value for key, value in schema.items() if key not in _TEXT_KEYS}
    return {"type": "object", **kept}


def _page(schema: dict[str, Any], name: str, item: str, *optional: str) -> dict[str, Any]:
    """Return the schema of a page in the same form, with a reference to its items."""
    properties = {**schema["properties"], name: {"type": "array", "items": openapi.ref(item)}}
    required = [key for key in properties if key not in optional]
    return {**_plain(schema), "properties": properties, "required": required}

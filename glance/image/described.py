"""JSON schemas of images, the headers about them and memberships, made from their tables.

For descriptions of the service; nothing is checked with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from glance.http import openapi
from glance.image import conversion_job, fields, types
from glance.image import headers as image_headers

#: The state of a job, and the parameter of a list.
CONVERSION_STATUS: openapi.Schema = {
    "type": "string",
    "enum": [status.value for status in conversion_job.Status],
    "description": "The state of the conversion.",
}
#: Names of custom properties in headers (RFC 9110 §5.1).
PROPERTY_PATTERN = f"^{image_headers.PROPERTY_PREFIX}[!#$%&'*+.^_`|~0-9A-Za-z-]+$"

_BY_NAME = {field.name: field for field in fields.FIELDS}
_PROPERTIES: openapi.Schema = {
    "type": "object",
    "description": "Custom properties.",
    "additionalProperties": {
        "type": ["string", "null"],
        "maxLength": fields.MAX_PROPERTY_VALUE,
    },
}


def value(name: str) -> dict[str, Any]:
    """Return the schema of a field's value in JSON."""
    field = _BY_NAME[name]
    schema = dict(field.schema)
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return {**schema, "description": field.about}


def record(keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return the schema of a JSON object with these fields, `properties` among them or not.

    All but the `optional` ones are always there.
    """
    shown = {key: _PROPERTIES if key == "properties" else value(key) for key in keys}
    missing = set(optional)
    return {
        "type": "object",
        "properties": shown,
        "required": [key for key in shown if key not in missing],
    }


def given(names: Iterable[str]) -> dict[str, Any]:
    """Return the schema of an object with values of fields in a request to the registry.

    Unknown names are ignored.
    """
    shown = {key: _PROPERTIES if key == "properties" else value(key) for key in names}
    return {"type": "object", "properties": shown}


_MEMBER: openapi.Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": fields.MAX_NAME,
    "description": "The project that an image is shared with.",
}


def memberships(*, strict: bool) -> dict[str, openapi.Schema]:
    """Return the schemas of the memberships of version 1, and of the bodies that have them.

    A `strict` service wants the right of a single member in a body, or no body at all.
    """
    can_share = {
        "type": ["boolean", "null"],
        "description": "Whether the member may share the image on; null changes nothing.",
    }
    right = {**can_share, "type": "boolean"} if strict else can_share
    rights = {"type": "object", "properties": {"can_share": right}}
    to_add = {"type": "object", "properties": {"member": rights}}
    if strict:
        to_add = openapi.object_of({"member": openapi.object_of({"can_share": right})})
    one = openapi.object_of({"member_id": _MEMBER, "can_share": can_share}, "member_id")
    return {
        "Member": openapi.schema_of(types.Member),
        "Members": openapi.list_of("members", openapi.ref("Member")),
        "Memberships": openapi.list_of("memberships", one),
        "MemberToAdd": to_add,
        "SharedImages": openapi.list_of("shared_images", openapi.schema_of(types.SharedImage)),
    }


def conversions() -> dict[str, openapi.Schema]:
    """Return the schemas of jobs of conversions, and of the bodies that have them."""
    job = openapi.schema_of(types.Conversion)
    job["properties"]["status"] = CONVERSION_STATUS
    return {
        "Conversion": job,
        "Conversions": openapi.list_of("conversions", openapi.ref("Conversion")),
        "ConversionResponse": openapi.object_of({"conversion": openapi.ref("Conversion")}),
    }


def member_requests() -> dict[str, openapi.Schema]:
    """Return the schemas of the bodies that change a membership in version 2."""
    return {
        "MemberName": openapi.object_of({"member": _MEMBER}),
        "MemberStatus": openapi.object_of(
            {"status": {"type": "string", "enum": list(fields.MEMBER_STATUSES)}}
        ),
    }


#: A member in a path: those that no image is shared with are found nowhere, whatever their form.
MEMBER: openapi.Schema = {"type": "string", "description": _MEMBER["description"]}


def request_headers() -> dict[str, openapi.Schema]:
    """Return the headers that set a field, name -> schema."""
    return {
        image_headers.HEADER_PREFIX + field.name: _sent(field)
        for field in fields.FIELDS
        if field.settable
    }


def _sent(field: fields.Field) -> openapi.Schema:
    if field.kind is bool:
        words = ", ".join(sorted(fields.TRUE_HEADER_WORDS))
        about = f"{field.about} True is one of {words}; every other word means false."
        return {"type": "string", "description": about}
    schema = dict(field.schema)
    if field.name == "id":
        # A client may choose the id of either version.
        schema = {"anyOf": [schema, {"type": "string", "format": "uuid"}]}
    return {**schema, "description": field.about}


def response_headers() -> dict[str, openapi.Schema]:
    """Return the headers with the fields of an image, name -> schema."""
    return {
        image_headers.HEADER_PREFIX + name: _shown(_BY_NAME[name])
        for name in fields.DETAIL_KEYS
        if name != "properties"
    }


def _shown(field: fields.Field) -> openapi.Schema:
    schema: dict[str, Any] = {"type": "string", "description": field.about}
    if field.kind is bool:
        schema["enum"] = ["True", "False"]
    elif field.kind is int:
        schema["pattern"] = "^[0-9]*$"
    return schema

"""The JSON schemas of version 2: made from the table of fields.

Clients draw from them which fields there are, which of them they may set, and which formats the
service accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glance.api import describing
from glance.http import documents, openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import entity, fields

_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", list: "array"}
_LINKS = [
    {"rel": "self", "href": "{self}"},
    {"rel": "enclosure", "href": "{file}"},
    {"rel": "describedby", "href": "{schema}"},
]
_PAGE_LINKS = [
    {"rel": "first", "href": "{first}"},
    {"rel": "next", "href": "{next}"},
    {"rel": "describedby", "href": "{schema}"},
]


class Schemas:
    """The handlers of `/schemas/…`. `formats` are those that the deployment allows."""

    def __init__(self, formats: fields.Formats):
        self._schemas = {
            "image": _Schema(lambda: image_schema(formats)),
            "images": _Schema(lambda: images_schema(formats)),
            "member": _Schema(member_schema),
            "members": _Schema(members_schema),
        }

    def handlers(self) -> dict[str, Callable[[CallerRequest], wsgi.Response]]:
        """Return path -> the handler of GET."""
        return {f"/schemas/{name}": schema.show for name, schema in self._schemas.items()}


class _Schema:
    """One schema; it is made when it is first wanted."""

    def __init__(self, make: Callable[[], dict[str, Any]]):
        self._document = documents.Document(lambda root: make())

    @openapi.operation(
        "show_schema",
        parameters=describing.IF_NONE_MATCH,
        responses={
            200: openapi.Content({openapi.JSON: {"type": "object"}}, "The schema."),
            304: openapi.nothing("The client has the schema already."),
        },
    )
    def show(self, request: CallerRequest) -> wsgi.Response:
        """GET /schemas/NAME: the JSON schema of a resource."""
        return self._document.response(request)


def image_schema(formats: fields.Formats) -> dict[str, Any]:
    """Return the schema of an image: exactly the fields of the table, and properties of text."""
    properties = {field.name: _of_field(field, formats) for field in entity.ATTRIBUTES}
    properties["locations"] = {
        "type": "array",
        "readOnly": True,
        "items": {"type": "object"},
        "description": "Locations of the data; never shown.",
    }
    return {
        "name": "image",
        "properties": properties,
        "additionalProperties": {"type": "string"},
        "links": _LINKS,
    }


def _of_field(field: entity.Attribute, formats: fields.Formats) -> dict[str, Any]:
    kind = _KINDS[field.kind]
    schema: dict[str, Any] = {
        "type": ["null", kind] if field.nullable else kind,
        "description": field.about,
    }
    if field.write == entity.READ_ONLY:
        schema["readOnly"] = True
    choices = entity.choices_of(field, formats)
    if choices:
        schema["enum"] = [None, *choices] if field.nullable else list(choices)
    if field.kind is list:
        schema["items"] = {"type": "string", "maxLength": field.maximum}
    elif field.kind is int:
        schema["minimum"] = 0
        if field.maximum is not None:
            schema["maximum"] = field.maximum
    elif field.maximum is not None:
        schema["maxLength"] = field.maximum
    if field.pattern is not None:
        schema["pattern"] = field.pattern
    return schema


def member_schema() -> dict[str, Any]:
    """Return the schema of a membership."""
    text = {"type": "string"}
    return {
        "name": "member",
        "properties": {
            "member_id": {**text, "description": "Project that the image is shared with."},
            "image_id": {
                **text,
                "pattern": entity.UUID_PATTERN,
                "description": "Identifier of the image.",
            },
            "status": {
                **text,
                "enum": list(entity.MEMBER_STATUSES),
                "description": "What the member has decided.",
            },
            "created_at": {**text, "readOnly": True, "description": "When it was made, in UTC."},
            "updated_at": {**text, "readOnly": True, "description": "Its last change, in UTC."},
            "schema": {**text, "readOnly": True, "description": "Path of this schema."},
        },
    }


def images_schema(formats: fields.Formats) -> dict[str, Any]:
    """Return the schema of a page of images."""
    return _page_schema("images", "images", image_schema(formats), paged=True)


def members_schema() -> dict[str, Any]:
    """Return the schema of all members of an image."""
    return _page_schema("members", "members", member_schema(), paged=False)


def _page_schema(name: str, key: str, item: dict[str, Any], *, paged: bool) -> dict[str, Any]:
    text = {"type": "string"}
    ends = {"first": text, "next": text} if paged else {}
    links = _PAGE_LINKS if paged else [_PAGE_LINKS[-1]]
    properties = {key: {"type": "array", "items": item}, **ends, "schema": text}
    return {"name": name, "properties": properties, "links": links}

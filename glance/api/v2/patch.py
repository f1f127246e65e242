"""The body of PATCH: a subset of JSON Patch (RFC 6902) in one of two forms, and what it changes.

An operation adds, replaces or removes one field or one custom property as a whole. All operations
together become one change, which the registry makes or refuses as a whole.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from glance.common import exception
from glance.image import entity, fields, types

#: `{"op": "replace", "path": "/name", "value": "x"}`, and `{"replace": "/name", "value": "x"}`.
V21: Final = "application/openstack-images-v2.1-json-patch"
V20: Final = "application/openstack-images-v2.0-json-patch"
MEDIA_TYPES: Final = (V21, V20)

ADD, REPLACE, REMOVE = "add", "replace", "remove"
_OPS: Final = (ADD, REPLACE, REMOVE)
_OF_LOCATIONS: Final = "locations/"
#: The JSON schemas of the body in each form.
SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    V21: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "op": {"type": "string", "enum": list(_OPS)},
                "path": {
                    "type": "string",
                    "pattern": "^/([^/~]|~[01])+$",
                    "description": "A JSON pointer of one segment, such as /name.",
                },
                "value": {"description": "The value; not for remove."},
            },
            "required": ["op", "path"],
        },
    },
    V20: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                **{op: {"type": "string", "pattern": "^/([^/~]|~[01])+$"} for op in _OPS},
                "value": {"description": "The value; not for remove."},
            },
            "oneOf": [{"required": [op]} for op in _OPS],
        },
    },
}
_BAD_ESCAPE = re.compile(r"~(?![01])")


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `value` is None for REMOVE."""

    op: str
    name: str
    value: Any = None


def parse(media_type: str, document: Any) -> list[Operation]:
    """Return the operations in the body of a request, in their order.

    Raises Invalid for a body that is not in the form of its media type.
    """
    if not isinstance(document, list):
        raise exception.Invalid("The body must be a JSON array of operations")
    form = _FORMS[media_type]
    return [_operation(form, entry, number) for number, entry in enumerate(document, 1)]


def _operation(
    form: Callable[[Mapping[str, Any]], tuple[Any, Any]], entry: Any, number: int
) -> Operation:
    try:
        if not isinstance(entry, Mapping):
            raise exception.Invalid("it is not an object")
        op, path = form(entry)
        name = _name(path)
        if op != REMOVE and "value" not in entry:
            raise exception.Invalid("it has no value")
    except exception.Invalid as err:
        raise exception.Invalid(f"Operation {number} is not valid: {err}") from None
    return Operation(op, name, None if op == REMOVE else entry["value"])


def _form_21(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    op = entry.get("op")
    if op not in _OPS:
        raise exception.Invalid(f"op must be one of {', '.join(_OPS)}")
    return op, entry.get("path")


def _form_20(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    named = [op for op in _OPS if op in entry]
    if len(named) != 1 or "op" in entry:
        raise exception.Invalid(f"it must have exactly one of the keys {', '.join(_OPS)}")
    return named[0], entry[named[0]]


_FORMS = {V21: _form_21, V20: _form_20}


def _name(path: Any) -> str:
    """Return the one segment of a JSON pointer (RFC 6901 §3, §4)."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise exception.Invalid('its path must be text that begins with "/"')
    segment = path[1:]
    if segment.startswith(_OF_LOCATIONS):
        # WIRE: Nova uploads a snapshot when it may not add a location (403), and gives up on 400.
        return "locations"
    if "/" in segment:
        raise exception.Invalid("its path may have one segment only; tags are changed as a whole")
    if not segment:
        raise exception.Invalid("its path names no attribute")
    if _BAD_ESCAPE.search(segment):
        raise exception.Invalid('in its path, "~" must be followed by 0 or 1')
    return segment.replace("~1", "/").replace("~0", "~")


class Patch:
    """What operations change in an image, applied one after the other.

    `record` is the image as the caller knows it, `is_admin` whether the caller is an
    administrator; `formats` are those of the deployment. `change` is what the registry is to do,
    empty if there is nothing to do.
    """

    def __init__(self, record: types.FullRecord, *, is_admin: bool, formats: fields.Formats):
        self._record: Mapping[str, Any] = record
        self._is_admin, self._formats = is_admin, formats
        self._before = entity.properties_of(record)
        self._values: dict[str, Any] = {}
        self._properties: dict[str, str] = {}
        self._removed: dict[str, None] = {}
        self._needed: dict[str, None] = {}

    def apply(self, operation: Operation) -> None:
        """Apply one operation.

        Raises Invalid for a value that the attribute cannot have, Forbidden for an attribute that
        the caller may not change, or not now, and Conflict for a property that is not there.
        """
        if operation.name in entity.BY_NAME:
            self._apply_to_field(operation)
        else:
            self._apply_to_property(operation)

    def _apply_to_field(self, operation: Operation) -> None:
        name, field = operation.name, entity.BY_NAME[operation.name]
        if field.write in (entity.READ_ONLY, entity.ON_CREATE):
            raise exception.Forbidden(f"Attribute {name} is read-only")
        if operation.op == REMOVE:
            raise exception.Forbidden(f"Attribute {name} cannot be removed")
        value = entity.check(name, operation.value, self._formats)
        if field.write == entity.OWNER and not self._is_admin:
            self._require_equal(name, value, "Only an administrator may change the owner")
        elif field.write == entity.WITHOUT_DATA and self._record["status"] != "queued":
            self._require_equal(name, value, f"The {name} of an image with data cannot be changed")
        else:
            self._values[name] = value

    def _require_equal(self, name: str, value: Any, refusal: str) -> None:
        if value != (self._record[name] or None):
            raise exception.Forbidden(refusal)

    def _apply_to_property(self, operation: Operation) -> None:
        name = operation.name
        if operation.op == ADD:
            value = entity.check(name, operation.value)
            self._set(name, value)
            return
        if name not in entity.MISLEADING:
            entity.check_property_name(name)
        if name not in self._properties:
            if name not in self._before or name in self._removed:
                raise exception.Conflict(f"The image has no property {name}")
            self._needed[name] = None
        if operation.op == REPLACE:
            self._set(name, entity.check(name, operation.value))
            return
        self._properties.pop(name, None)
        if name in self._before:
            self._removed[name] = None

    def _set(self, name: str, value: str) -> None:
        self._properties[name] = value
        self._removed.pop(name, None)

    def change(self) -> types.Change:
        """Return what the registry is to do, all of it or nothing."""
        values = dict(self._values)
        change = types.Change()
        if "tags" in values:
            change["tags"] = values.pop("tags")
        if values:
            change["set"] = values
        if self._properties:
            change["properties"] = self._properties
        if self._removed:
            change["remove"] = list(self._removed)
        if self._needed:
            change["must_exist"] = list(self._needed)
        if not values.keys().isdisjoint(entity.FORMAT_FIELDS):
            # An upload may have begun since the record was read.
            change["from_state"] = ["queued"]
        return change

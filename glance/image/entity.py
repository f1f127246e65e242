"""The image as version 2 of the Images API writes it: one JSON object, described by a table.

One row per field says what values it has, who may write it, and which field of a record it shows;
the JSON of an image, the schemas and the checks of what a client sends are all made from it. Every
other key of the object is a custom property, whose value is text. Nothing here knows HTTP, the
registry or a policy.

A *record* is `glance.image.types.FullRecord`; bounds and formats are those of
`glance.image.fields`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Final

from glance.common import exception
from glance.image import fields, types

ROOT: Final = "/v2"
MEMBER_STATUSES: Final = fields.MEMBER_STATUSES
#: Those in which an image has data whose size is known.
_WITH_SIZE = fields.WITH_DATA | {"uploading", "importing"}
_WITH_DATA = fields.WITH_DATA
MAX_TAG: Final = 255

#: The JSON schema of the tags of an image.
TAGS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
}

UUID_PATTERN: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

# Who may write a field: nobody; the creator of the image and nobody later; everybody who may
# change the image, at any time, or as long as it has no data; administrators.
READ_ONLY, ON_CREATE, ALWAYS, WITHOUT_DATA, OWNER = (
    "read-only",
    "on create",
    "always",
    "without data",
    "owner",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """One field of an image.

    `kind` is the type of its JSON value, `nullable` whether it may also be null. `maximum` is the
    length of text, or the largest number; numbers are not negative. `choices` are the values that
    a text may have, empty for any; those of the formats are `fields.Formats`. `shown` is false for
    a field that this service never shows.
    """

    name: str
    kind: type
    write: str
    about: str
    nullable: bool = False
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    shown: bool = True


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("id", str, ON_CREATE, "Identifier of the image.", pattern=UUID_PATTERN),
    Attribute("name", str, ALWAYS, "Name of the image.", True, fields.MAX_NAME),
    Attribute("status", str, READ_ONLY, "Status of the image.", choices=fields.STATUSES),
    Attribute(
        "visibility",
        str,
        ALWAYS,
        "Who may use the image: everybody (public, and community, which lists leave out), its "
        "owner (private), or its owner and members (shared).",
        choices=fields.VISIBILITIES,
    ),
    Attribute("protected", bool, ALWAYS, "Whether the image is protected from deletion."),
    Attribute("os_hidden", bool, ALWAYS, "Whether lists leave the image out unless asked for it."),
    Attribute("owner", str, OWNER, "Owner of the image.", True, fields.MAX_NAME),
    Attribute("disk_format", str, WITHOUT_DATA, "Format of the disk.", True),
    Attribute("container_format", str, WITHOUT_DATA, "Format of the container.", True),
    Attribute("min_disk", int, ALWAYS, "Disk that the image needs, in GB.", False, fields.MAX_INT),
    Attribute(
        "min_ram", int, ALWAYS, "Memory that the image needs, in MB.", False, fields.MAX_INT
    ),
    Attribute("size", int, READ_ONLY, "Size of the data, in bytes.", True),
    Attribute("virtual_size", int, READ_ONLY, "Size of the disk in the data, in bytes.", True),
    Attribute("checksum", str, READ_ONLY, "MD5 of the data.", True, 32),
    Attribute("os_hash_algo", str, READ_ONLY, "Algorithm of os_hash_value.", True, 64),
    Attribute("os_hash_value", str, READ_ONLY, "Digest of the data, in hex.", True, 128),
    Attribute("created_at", str, READ_ONLY, "When the image was created, in UTC."),
    Attribute("updated_at", str, READ_ONLY, "When the image was last changed, in UTC."),
    Attribute("tags", list, ALWAYS, "Tags of the image.", False, MAX_TAG),
    Attribute("self", str, READ_ONLY, "Path of the image."),
    Attribute("file", str, READ_ONLY, "Path of the data."),
    Attribute("schema", str, READ_ONLY, "Path of the schema of an image."),
    Attribute("direct_url", str, READ_ONLY, "Location of the data; never shown.", shown=False),
    Attribute("stores", str, READ_ONLY, "Stores that have the data.", shown=False),
)
BY_NAME: Final[Mapping[str, Attribute]] = {field.name: field for field in ATTRIBUTES}
FORMAT_FIELDS: Final = ("disk_format", "container_format")

#: The property by which the service records what it has found in the data of an image.
INSPECTION_RESULT: Final = "inspection_result"
#: Properties of a record that the service sets; they are shown with RESERVED_PREFIX.
_OF_SERVICE = fields.READ_ONLY_PROPERTIES | {INSPECTION_RESULT}
#: Names that no custom property may have, because the service uses them.
RESERVED: Final = frozenset({"deleted", "deleted_at", "location", "locations"}) | _OF_SERVICE
RESERVED_PREFIX: Final = "os_glance_"
# SECURITY: a public image with a text under `metadata` would break the lists of all clients that
# are made with gophercloud; `properties` and `links` confuse others.
MISLEADING: Final = frozenset({"metadata", "properties", "links"})


_OWN = BY_NAME.keys() | RESERVED | MISLEADING


def is_own(name: str) -> bool:
    """Return whether a name is that of a field, or kept for the service: no custom property."""
    return name in _OWN or name.startswith(RESERVED_PREFIX)


# -- what a client sends -------------------------------------------------------------------------


def check(name: str, value: Any, formats: fields.Formats = fields.FORMATS) -> Any:
    """Return the value that a client sends for a field as records have it.

    `name` is that of a field in the table or of a custom property. Raises Forbidden for a field
    that only the service sets and for a reserved name, and Invalid, with the name and the reason,
    for a value that the field cannot have.
    """
    field = BY_NAME.get(name)
    if field is None:
        return _check_property(name, value)
    if field.write == READ_ONLY:
        raise exception.Forbidden(f"Attribute {name} is read-only")
    if value is None:
        if field.nullable:
            return None
        raise exception.Invalid(f"Image attribute {name} must not be null")
    return _CHECKS[field.kind](field, value, formats)


def _check_text(field: Attribute, value: Any, formats: fields.Formats) -> str:
    maximum = field.maximum or fields.MAX_NAME
    text = fields.check_text(field.name, value, maximum)
    assert text is not None
    if field.name == "id":
        uuid = fields.parse_uuid(text)
        if uuid is None:
            raise exception.Invalid(
                "Image attribute id must be a UUID, such as 5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
            )
        return uuid
    choices = choices_of(field, formats)
    if choices and text not in choices:
        raise exception.Invalid(
            f"Image attribute {field.name} cannot be {text!r}: use one of {', '.join(choices)}"
        )
    return text


def _check_integer(field: Attribute, value: Any, formats: fields.Formats) -> int:
    maximum = field.maximum or fields.MAX_BIGINT
    # To Python, true is an integer.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise exception.Invalid(
            f"Image attribute {field.name} must be a whole number from 0 to {maximum}"
        )
    return value


def _check_boolean(field: Attribute, value: Any, formats: fields.Formats) -> bool:
    if not isinstance(value, bool):
        raise exception.Invalid(f"Image attribute {field.name} must be true or false")
    return value


def _check_tags(field: Attribute, value: Any, formats: fields.Formats) -> list[str]:
    if not isinstance(value, list):
        raise exception.Invalid(f"Image attribute {field.name} must be an array of texts")
    return sorted({check_tag(tag) for tag in value})


_CHECKS = {str: _check_text, int: _check_integer, bool: _check_boolean, list: _check_tags}


def check_tag(tag: Any) -> str:
    """Return a tag: text of 1 to MAX_TAG characters without controls. Raises Invalid."""
    checked = fields.check_text("tag", tag, MAX_TAG)
    if not checked:
        raise exception.Invalid("A tag must be text and must not be empty")
    return checked


def check_property_name(name: str) -> None:
    """Raise Forbidden or Invalid for a name that no custom property can have."""
    if not name:
        raise exception.Invalid("A property needs a name")
    fields.check_text("property name", name)
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise exception.Forbidden(f"Attribute {name} is reserved")
    if name in MISLEADING:
        raise exception.Invalid(f"A property cannot have the name {name}: clients misread it")


def _check_property(name: str, value: Any) -> str:
    check_property_name(name)
    if not isinstance(value, str):
        raise exception.Invalid(f"The value of property {name} must be text")
    checked = fields.check_text(f"property {name}", value, fields.MAX_PROPERTY_VALUE)
    assert checked is not None
    return checked


def choices_of(field: Attribute, formats: fields.Formats) -> tuple[str, ...]:
    """Return the values that a text field may have, empty for any."""
    if field.name == "disk_format":
        return tuple(formats.disk)
    if field.name == "container_format":
        return tuple(formats.container)
    return field.choices


def parse(
    document: Any, formats: fields.Formats = fields.FORMATS
) -> tuple[dict[str, Any], dict[str, str], list[str] | None]:
    """Return the fields, the custom properties and the tags of an image to create.

    `document` is the decoded body of the request. The tags are None if it has none. Raises as
    `check` does, and Invalid for a body that is no object.
    """
    if not isinstance(document, Mapping):
        raise exception.Invalid("The body must be a JSON object with the attributes of the image")
    values: dict[str, Any] = {}
    properties: dict[str, str] = {}
    for name, value in document.items():
        target = values if name in BY_NAME else properties
        target[name] = check(name, value, formats)
    tags: list[str] | None = values.pop("tags", None)
    return values, properties, tags


# -- what the service shows ----------------------------------------------------------------------

_EPOCH = "1970-01-01T00:00:00Z"


def path_of(uuid: str) -> str:
    """Return the path of an image, relative to the root of the service."""
    return f"{ROOT}/images/{uuid}"


def shown_time(value: str | datetime.datetime | None) -> str:
    """Return a record's time as version 2 shows it (RFC 3339 §5.6): UTC, in whole seconds.

    It is ISO 8601 text, or naive in UTC.

    WIRE: clients made with gophercloud need a time, so one that cannot be read is the epoch.
    """
    if isinstance(value, datetime.datetime):
        # PERF: three times as fast as with `timespec`.
        value = value.isoformat()
    return f"{value[:19]}Z" if value else _EPOCH


def to_json(record: types.FullRecord | types.StoredRecord) -> dict[str, Any]:
    """Return the JSON object of an image, without its location."""
    status, path = record["status"], path_of(record["uuid"])
    has_data = status in _WITH_DATA
    shown: dict[str, Any] = {
        "id": record["uuid"],
        "name": record["name"],
        "status": status,
        "visibility": record["visibility"],
        "protected": record["protected"],
        "os_hidden": record["os_hidden"],
        "owner": record["owner"],
        "disk_format": record["disk_format"] or None,
        "container_format": record["container_format"] or None,
        "min_disk": record["min_disk"] or 0,
        "min_ram": record["min_ram"] or 0,
        "size": record["size"] if status in _WITH_SIZE else None,
        "virtual_size": record["virtual_size"] if has_data else None,
        "checksum": (record["checksum"] or None) if has_data else None,
        "os_hash_algo": record["os_hash_algo"],
        "os_hash_value": record["os_hash_value"],
        "created_at": shown_time(record["created_at"]),
        "updated_at": shown_time(record["updated_at"]),
        "tags": record["tags"],
        "self": path,
        "file": f"{path}/file",
        "schema": f"{ROOT}/schemas/image",
    }
    for name, value in record["properties"].items():
        # WIRE: a null, or a key that is a field's, would make clients unable to change the image.
        if not is_own(name):
            shown[name] = value or ""
        elif name in _OF_SERVICE:
            # WIRE: Terraform removes every property that its user has not set, except those with
            # this prefix.
            shown[RESERVED_PREFIX + name] = value or ""
    return shown


def properties_of(record: types.FullRecord) -> dict[str, str]:
    """Return the custom properties of an image that version 2 shows and can change."""
    return {name: value or "" for name, value in record["properties"].items() if not is_own(name)}

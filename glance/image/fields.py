"""The field table of an image, and the form in which the registry writes one.

One row per field defines its type, bounds, who may write it and its form on the wire; the headers
of version 1 of the API (`glance.image.headers`) and the registry's JSON are derived from it. Also
here, because they are rules about the record only: the statuses and the transitions between
them, the formats, and the Amazon rule. Nothing here knows HTTP routing, a store or a database.

An *image mapping* has the keys of `DETAIL_KEYS`, or of `RECORD_KEYS` in the registry and on its
way to the API; `properties` maps lower-case names to text or
None. Times are naive UTC datetimes inside the registry and ISO 8601 text everywhere else.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, cast

from glance.common import exception, numbers
from glance.image import types

MAX_INT = 2**31 - 1
MAX_BIGINT = 2**63 - 1
MAX_NAME = 255
MAX_PROPERTY_VALUE = 65535
MAX_LOCATION = 65535

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
AMAZON_FORMATS = frozenset({"ami", "ari", "aki"})

#: The status machine: each status with those that may follow it, apart from itself.
TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset(
        {"saving", "uploading", "importing", "active", "killed", "deleted", "pending_delete"}
    ),
    "saving": frozenset({"queued", "active", "killed", "deleted", "pending_delete"}),
    "uploading": frozenset({"queued", "importing", "deleted", "pending_delete"}),
    "importing": frozenset({"queued", "active", "deleted", "pending_delete"}),
    "active": frozenset({"deactivated", "deleted", "pending_delete"}),
    "deactivated": frozenset({"active", "deleted", "pending_delete"}),
    "killed": frozenset({"deleted", "pending_delete"}),
    "pending_delete": frozenset({"deleted", "active"}),
    "deleted": frozenset(),
}
STATUSES = tuple(TRANSITIONS)
#: Those that version 2 of the API alone gives to an image.
V2_STATUSES = frozenset({"uploading", "importing", "deactivated"})
#: Those of a live image whose data is complete.
WITH_DATA = frozenset({"active", "deactivated"})

# To those who know version 1 alone, data that is on its way in any other way is being saved.
_V1_STATUSES = {"uploading": "saving", "importing": "saving"}
#: Those that version 1 shows as `saving`.
SAVING = ("saving", *_V1_STATUSES)

#: Who may use an image: everybody; everybody who knows of it; the owner and members; the owner.
VISIBILITIES = ("public", "community", "shared", "private")
MEMBER_STATUSES = ("pending", "accepted", "rejected")

#: Words that mean true in a header; every other word means false.
TRUE_HEADER_WORDS = frozenset({"true", "1", "t", "yes", "y", "on"})
FALSE_WORDS = frozenset({"false", "0", "f", "no", "n", "off"})

#: The properties of an image that the service alone sets: what it was converted from and how, by
#: which job (`glance.image.conversion_job`), and why that failed.
CONVERTED_FROM = "converted_from"
CONVERSION_SOURCE_CHECKSUM = "conversion_source_checksum"
CONVERSION_JOB = "conversion_job"
CONVERSION_VIRTUAL_SIZE = "conversion_virtual_size"
CONVERSION_ERROR = "conversion_error"
READ_ONLY_PROPERTIES = frozenset(
    {
        CONVERTED_FROM,
        CONVERSION_SOURCE_CHECKSUM,
        CONVERSION_JOB,
        CONVERSION_VIRTUAL_SIZE,
        CONVERSION_ERROR,
    }
)
#: The form of a time in JSON and headers: naive and in UTC.
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}$"

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NO_IMAGE = "No image with this ID was found"
_ID = re.compile(r"0|[1-9][0-9]{0,18}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MD5 = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


#: What turns the value of a field into its type, and the JSON schema of that.
Form = tuple[Callable[[str, Any], Any], Mapping[str, Any]]


# -- converting one value ------------------------------------------------------------------------


def check_text(label: str, value: Any, maximum: int = MAX_NAME) -> str | None:
    """Return `value` if it is text that fits a header and a column. Raises Invalid otherwise."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise exception.Invalid(f"Image attribute {label} must be text")
    if CONTROL.search(value):
        raise exception.Invalid(f"Image attribute {label} must not contain control characters")
    if len(value) > maximum:
        raise exception.Invalid(
            f"Image attribute {label} is too long: use at most {maximum} characters"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise exception.Invalid(f"Image attribute {label} is not valid Unicode") from None
    return value


def parse_id(value: str) -> int | None:
    """Return the number in a canonical decimal image id, None for any other text.

    An image has one id, so `01` is none: no digits but 0-9, and no zero before others.
    """
    if not _ID.fullmatch(value):
        return None
    number = int(value)
    return number if number <= MAX_BIGINT else None


def path_id(text: str) -> int:
    """Return the number of the image id in a path. Raises NotFound for an impossible id."""
    number = parse_id(text)
    if number is None:
        raise exception.NotFound(_NO_IMAGE)
    return number


def parse_uuid(text: str) -> str | None:
    """Return a UUID of 36 characters (RFC 9562 §4) in lower case, None for any other text."""
    lowered = text.lower()
    return lowered if len(text) == 36 and _UUID.fullmatch(lowered) else None


def path_uuid(text: str) -> str:
    """Return the uuid of an image in a path, in lower case. Raises NotFound for other text."""
    uuid = parse_uuid(text)
    if uuid is None:
        raise exception.NotFound(_NO_IMAGE)
    return uuid


def _integer(
    low: int,
    high: int,
    null: int | None,
    parse: Callable[[str], int | None] = numbers.whole,
) -> Form:
    def convert(label: str, value: Any) -> int | None:
        if value is None or value == "":
            return null
        if isinstance(value, str):
            value = parse(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise exception.Invalid(
                f"Image attribute {label} must be a whole number from {low} to {high}"
            )
        return value

    return convert, {"type": "integer", "minimum": low, "maximum": high}


def _text(maximum: int) -> Form:
    def convert(label: str, value: Any) -> str | None:
        return check_text(label, value, maximum) or None

    return convert, {"type": "string", "maxLength": maximum}


def _name(label: str, value: Any) -> str | None:
    # NOTE: the only text field with a filter for empty values, so the registry keeps them.
    return check_text(label, value)


def _owner(label: str, value: Any) -> str | None:
    checked = check_text(label, value)
    # WIRE: as the manual says, a client clears an owner by sending the word null.
    return None if not checked or checked.lower() == "null" else checked


def _checksum(label: str, value: Any) -> str | None:
    checked = check_text(label, value)
    if not checked:
        return None
    if not _MD5.fullmatch(checked):
        raise exception.Invalid("Image attribute checksum must be an MD5 of 32 hex digits")
    return checked.lower()


def _strict_boolean(label: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, str | int) else ""
    if word in TRUE_HEADER_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise exception.Invalid(f"Image attribute {label} must be true or false")


def _uuid(label: str, value: Any) -> str:
    uuid = parse_uuid(value) if isinstance(value, str) else None
    if uuid is None:
        raise exception.Invalid(f"Image attribute {label} must be a UUID")
    return uuid


def _one_of(*words: str, null: bool = False) -> Form:
    def convert(label: str, value: Any) -> str | None:
        if value is None and null:
            return None
        if not isinstance(value, str) or value not in words:
            raise exception.Invalid(f"Image attribute {label} must be one of {_list(words)}")
        return value

    return convert, {"type": "string", "enum": list(words)}


def _time(label: str, value: Any) -> Any:
    return value


_NAME: Form = _name, {"type": "string", "maxLength": MAX_NAME}
_OWNER: Form = _owner, {"type": "string", "maxLength": MAX_NAME}
_CHECKSUM: Form = _checksum, {"type": "string", "maxLength": MAX_NAME}
_BOOLEAN: Form = _strict_boolean, {"type": "boolean"}
_UUID_FORM: Form = _uuid, {"type": "string", "format": "uuid"}
_TIME: Form = _time, {"type": "string", "pattern": TIME_PATTERN}


def set_once(values: dict[str, Any], name: str, value: Any, what: str) -> None:
    """Set a value that may be given more than once. Raises Invalid if another one is."""
    if values.setdefault(name, value) != value:
        raise exception.Invalid(f"{what} {name} is given twice, with different values")


# -- the table -----------------------------------------------------------------------------------


class Field(NamedTuple):
    """One field of an image.

    `convert(label, value)` returns the typed value of JSON or header text and raises Invalid.
    `writable` fields may be set through the registry; `settable` ones are read from the headers
    of an API request (some, like `store`, are instructions to the API and never stored). `brief`
    fields appear in short lists; `internal` ones go from the registry to the API and no further.
    `kind` is how a client reads the header. `schema` is the JSON schema of the value, which may
    be null as well if the field is `nullable`, and `about` a sentence about it.
    """

    name: str
    kind: type
    convert: Callable[[str, Any], Any]
    schema: Mapping[str, Any]
    about: str
    nullable: bool = False
    writable: bool = True
    settable: bool = True
    stored: bool = True
    brief: bool = False
    internal: bool = False


FIELDS: tuple[Field, ...] = (
    Field(
        "id",
        int,
        *_integer(1, MAX_INT, None, parse_id),
        "Number of the image.",
        brief=True,
    ),
    Field("name", str, *_NAME, "Name of the image.", True, brief=True),
    Field(
        "size",
        int,
        *_integer(0, MAX_BIGINT, None),
        "Size of the data, in bytes.",
        True,
        brief=True,
    ),
    Field("status", str, *_text(30), "Status of the image."),
    Field("is_public", bool, *_BOOLEAN, "Whether everybody may use the image."),
    Field("protected", bool, *_BOOLEAN, "Whether the image is protected from deletion."),
    Field("location", str, *_text(MAX_LOCATION), "Where the data is, as a URI.", True),
    Field("disk_format", str, *_text(20), "Format of the disk.", True, brief=True),
    Field("container_format", str, *_text(20), "Format of the container.", True, brief=True),
    Field("checksum", str, *_CHECKSUM, "MD5 of the data.", True, brief=True),
    Field("min_disk", int, *_integer(0, MAX_INT, 0), "Disk that the image needs, in GB."),
    Field("min_ram", int, *_integer(0, MAX_INT, 0), "Memory that the image needs, in MB."),
    Field("owner", str, *_OWNER, "Owner of the image.", True),
    Field(
        "created_at",
        datetime.datetime,
        *_TIME,
        "When the image was created, in UTC.",
        True,
        writable=False,
        settable=False,
    ),
    Field(
        "updated_at",
        datetime.datetime,
        *_TIME,
        "When the image was last changed, in UTC.",
        True,
        writable=False,
        settable=False,
    ),
    Field(
        "deleted_at",
        datetime.datetime,
        *_TIME,
        "When the image was deleted, in UTC.",
        True,
        writable=False,
        settable=False,
    ),
    Field(
        "deleted",
        bool,
        *_BOOLEAN,
        "Whether the image is deleted.",
        writable=False,
        settable=False,
    ),
    Field(
        "activated_at",
        datetime.datetime,
        *_TIME,
        "When the data became complete, in UTC.",
        True,
        writable=False,
        settable=False,
        internal=True,
    ),
    # NOTE: of these, `glance.image.entity` describes what clients of version 2 may write.
    Field(
        "uuid",
        str,
        *_UUID_FORM,
        "Id of the image in version 2.",
        writable=False,
        settable=False,
        internal=True,
    ),
    Field(
        "visibility",
        str,
        *_one_of(*VISIBILITIES),
        "Who may use the image.",
        writable=False,
        settable=False,
        internal=True,
    ),
    Field(
        "os_hidden",
        bool,
        *_BOOLEAN,
        "Whether lists of version 2 leave the image out.",
        writable=False,
        settable=False,
        internal=True,
    ),
    Field(
        "os_hash_algo",
        str,
        *_text(64),
        "Algorithm of os_hash_value.",
        True,
        settable=False,
        internal=True,
    ),
    Field(
        "os_hash_value",
        str,
        *_text(128),
        "Digest of the data, in hex.",
        True,
        settable=False,
        internal=True,
    ),
    Field(
        "virtual_size",
        int,
        *_integer(0, MAX_BIGINT, None),
        "Size of the disk in the data, in bytes.",
        True,
        settable=False,
        internal=True,
    ),
    Field(
        "deactivated_by_admin",
        bool,
        *_BOOLEAN,
        "Whether an administrator has deactivated the image.",
        writable=False,
        settable=False,
        internal=True,
    ),
    Field(
        "upload_via",
        str,
        *_one_of("v1", "v2", "import", null=True),
        "The API by which the data came or comes.",
        True,
        settable=False,
        internal=True,
    ),
    Field(
        "store",
        str,
        *_text(MAX_NAME),
        "Name of the store for the data.",
        writable=False,
        stored=False,
    ),
)

BY_NAME = {field.name: field for field in FIELDS}
INTERNAL_KEYS = tuple(field.name for field in FIELDS if field.internal)
#: Keys of a record of the registry, `properties` last.
RECORD_KEYS = (*(field.name for field in FIELDS if field.stored), "properties")
#: Those of an image that the API shows in full.
DETAIL_KEYS = tuple(key for key in RECORD_KEYS if key not in INTERNAL_KEYS)
BRIEF_KEYS = tuple(field.name for field in FIELDS if field.brief)
WRITABLE_KEYS = frozenset(field.name for field in FIELDS if field.writable)
_TIME_KEYS = frozenset(field.name for field in FIELDS if field.kind is datetime.datetime)


# -- JSON -> typed values (the registry) ---------------------------------------------------------


def coerce(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the writable attributes in the JSON of a request, typed and bounded.

    Unknown and read-only names are dropped, but for the `uuid` of an image to create.
    `properties`, when present, becomes lower-case names with text or None; numbers and booleans
    become text. Raises Invalid for a value that cannot be stored as sent.
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name == "properties":
            result[name] = coerce_properties(value)
        elif name in WRITABLE_KEYS or name == "uuid":
            result[name] = BY_NAME[name].convert(name, value)
    return result


def convert(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of fields, given by their names, typed and bounded. Raises Invalid."""
    return {name: BY_NAME[name].convert(name, value) for name, value in values.items()}


def coerce_properties(value: Any) -> dict[str, str | None]:
    """Return the properties of a JSON object; None means no properties."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise exception.Invalid("Image properties must be an object of names and values")
    properties: dict[str, str | None] = {}
    for raw_name, raw in value.items():
        name = raw_name.lower()
        if not name:
            raise exception.Invalid("A property needs a name")
        check_text("property name", name)
        if isinstance(raw, bool | int | float):
            raw = str(raw)
        checked = check_text(f"property {name}", raw, MAX_PROPERTY_VALUE)
        set_once(properties, name, checked, "Property")
    return properties


# -- properties of the service -------------------------------------------------------------------


def is_read_only(name: str) -> bool:
    """Return whether only the service sets a property, or one that version 1 shows as the same.

    SECURITY: version 1 shows names in lower case and clients read hyphens as underscores, so that
    `Converted-From` would look like the service's own.
    """
    return name.lower().replace("-", "_") in READ_ONLY_PROPERTIES


def check_read_only(
    before: Mapping[str, str | None],
    given: Mapping[str, str | None],
    removed: Iterable[str] = (),
) -> None:
    """Raise Forbidden if properties that only the service sets would change.

    `before` are those of the image, `given` those to add or replace, `removed` names others to
    remove. Clients may send such a property back as they have read it.
    """
    changed = [name for name in given if name not in before or before[name] != given[name]]
    for name in (*changed, *removed):
        if is_read_only(name):
            raise exception.Forbidden(
                f"Property {name} is read-only: only the service sets it; leave it out"
            )


def count_own(names: Collection[str]) -> int:
    """Return how many of the properties of an image are its owner's, and count towards a quota."""
    return len(names) - sum(name in READ_ONLY_PROPERTIES for name in names)


# -- rules about a whole record ------------------------------------------------------------------


class Formats(NamedTuple):
    """The disk and container formats that a deployment accepts."""

    disk: tuple[str, ...] = DISK_FORMATS
    container: tuple[str, ...] = CONTAINER_FORMATS


FORMATS = Formats()


def validate(record: Mapping[str, Any], formats: Formats = FORMATS) -> dict[str, Any]:
    """Return a copy of a complete (merged) record that obeys the rules, or raise Invalid.

    The checks come in a fixed order and the first failure wins. If one of the two formats is an
    Amazon kind and the other is missing, the other is filled in: the two must be equal.
    """
    status = record.get("status")
    if not status:
        raise exception.Invalid("Image status is required")
    if status not in TRANSITIONS:
        raise exception.Invalid(f"Invalid image status '{status}': use one of {_list(STATUSES)}")
    disk, container = record.get("disk_format"), record.get("container_format")
    if disk and disk not in formats.disk:
        raise exception.Invalid(f"Invalid disk format '{disk}': use one of {_list(formats.disk)}")
    if container and container not in formats.container:
        raise exception.Invalid(
            f"Invalid container format '{container}': use one of {_list(formats.container)}"
        )
    checked = dict(record)
    if AMAZON_FORMATS & {disk, container}:
        disk, container = disk or container, container or disk
        if disk != container:
            raise exception.Invalid(
                f"Invalid mix of disk format '{disk}' and container format '{container}': for "
                "the Amazon formats aki, ari and ami, both must be the same"
            )
        checked["disk_format"], checked["container_format"] = disk, container
    return checked


def v1_status(status: str) -> str:
    """Return the status by which version 1 of the API shows an image in this one."""
    return _V1_STATUSES.get(status, status)


def check_transition(old: str, new: str) -> None:
    """Raise Conflict if an image in status `old` may not become `new`."""
    if old != new and new not in TRANSITIONS.get(old, frozenset()):
        raise exception.Conflict(f"An image in status {old} cannot become {new}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


# -- mapping -> JSON -----------------------------------------------------------------------------


# PERF: the images of a page have most of their times in common with those of the last one.
@functools.lru_cache(maxsize=4096)
def timestamp(value: datetime.datetime | None) -> str | None:
    """Return a naive UTC datetime in the API's form: six digits of fraction, no zone."""
    if value is None:
        return None
    # PERF: three times as fast as with `timespec`.
    return value.isoformat() if value.microsecond else f"{value.isoformat()}.000000"


def to_json(image: types.StoredImage) -> types.ImageRecord:
    """Return the full JSON form of a record, with all that only the API may see."""
    return cast(types.ImageRecord, _with_text_times(image))


def to_public_json(image: types.StoredImage) -> types.DetailedImage:
    """Return the full JSON form of a record as everybody may see it: no `location`."""
    shown = _with_text_times(image)
    del shown["location"]
    for name in INTERNAL_KEYS:
        shown.pop(name, None)
    shown["status"] = v1_status(shown["status"])
    return cast(types.DetailedImage, shown)


def _with_text_times(image: types.StoredImage) -> dict[str, Any]:
    shown: dict[str, Any] = dict(image)
    for name in _TIME_KEYS:
        time = shown.get(name)
        if time is not None:
            shown[name] = timestamp(time)
    return shown

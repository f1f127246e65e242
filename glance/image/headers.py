"""An image in the headers of HTTP, as version 1 of the API has it: both sides of the wire.

The API reads those of requests and writes those of responses, the client the other way round. All
are made from the table in `glance.image.fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from glance.common import exception, numbers
from glance.http import latin1
from glance.image import fields, types

HEADER_PREFIX = "x-image-meta-"
PROPERTY_PREFIX = HEADER_PREFIX + "property-"
_HEADER_KEY = HEADER_PREFIX.replace("-", "_")

_NOT_TOKEN = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z\x80-\xff-]")


# -- request headers -> mapping (the API) --------------------------------------------------------


def image_headers_of(items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of a request's headers that are about an image, as they are."""
    return [item for item in items if fold(item[0]).replace("_", "-").startswith(HEADER_PREFIX)]


def parse_headers(
    items: Iterable[tuple[str, str]],
    decode: Callable[[str], str] | None = None,
    decode_location: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Return the image attributes in a request's headers, typed and checked.

    `items` are (name, value) pairs as WSGI gives them, bytes as latin-1 text; both are read as
    UTF-8. `decode` reverses a client's own encoding of the names and values, `decode_location`
    that of a location (None: as `decode`); see `glance.image.percent`. The result has the keys
    that were sent, `uuid` for an id of version 2 of the API, and always `properties`. Hyphens and
    underscores in names are equivalent: an attribute may be given more than once, with one value.
    Unknown names are ignored. Raises Invalid for anything that cannot be stored as sent.
    """
    meta: dict[str, Any] = {}
    properties: dict[str, str | None] = {}
    for raw_name, raw_value in items:
        lowered = fold(raw_name).replace("_", "-")
        if not lowered.startswith(HEADER_PREFIX):
            continue
        value = latin1.decode(raw_value, "header value")
        # NOTE: names are folded after decoding, so that letters outside ASCII fold too.
        name = latin1.decode(raw_name, "header name").replace("-", "_").lower()
        if decode is not None:
            name = decode(name)
            is_location = name == f"{_HEADER_KEY}location"
            value = (decode_location if is_location and decode_location else decode)(value)
        if lowered.startswith(PROPERTY_PREFIX):
            _add_property(properties, name[len(PROPERTY_PREFIX) :], value)
            continue
        name = name[len(HEADER_PREFIX) :]
        if name == "id" and (uuid := fields.parse_uuid(value.strip(" \t"))):
            fields.set_once(meta, "uuid", uuid, "Image attribute")
            continue
        field = fields.BY_NAME.get(name)
        if field is None or not field.settable:
            fields.check_text("header", value, fields.MAX_PROPERTY_VALUE)
            continue
        if field.kind is bool:
            converted = value.strip(" \t").lower() in fields.TRUE_HEADER_WORDS
        else:
            converted = field.convert(name, value.strip(" \t") or None)
        fields.set_once(meta, name, converted, "Image attribute")
    meta["properties"] = properties
    return meta


def _add_property(properties: dict[str, str | None], name: str, value: str) -> None:
    if not name:
        raise exception.Invalid("A property needs a name after x-image-meta-property-")
    fields.check_text("property name", name)
    checked = fields.check_text(f"property {name}", value, fields.MAX_PROPERTY_VALUE) or None
    fields.set_once(properties, name, checked, "Property")


def fold(name: str) -> str:
    """Return a header name in WSGI form with its ASCII letters in lower case.

    NOTE: `str.lower` would also change bytes of UTF-8 that look like letters in latin-1.
    """
    return name.lower() if name.isascii() else name.encode("latin-1").lower().decode("latin-1")


def sent_name(name: str) -> str:
    """Return a header name as the client sends it: folded; one of an image with hyphens only.

    NOTE: a proxy such as nginx drops a request header with an underscore in its name, and says
    nothing. The API reads hyphens as underscores (`parse_headers`), so that nothing is lost.
    """
    folded = fold(name)
    return folded.replace("_", "-") if folded.startswith(HEADER_PREFIX) else folded


def is_v1_name(name: str) -> bool:
    """Return whether version 1 shows a property under its very name, and reads it back so.

    It does not for names with capitals, which headers lose, with hyphens, which it reads as
    underscores, and for those that cannot be a part of a header name (RFC 9110 §5.1).
    """
    return name == name.lower() and "-" not in name and not _NOT_TOKEN.search(latin1.encode(name))


# -- mapping -> response headers (the API) -------------------------------------------------------


_HEADERS = tuple((key, HEADER_PREFIX + key) for key in fields.DETAIL_KEYS if key != "properties")
#: Of these there is no header without a value.
_LEFT_OUT = frozenset({"location", "checksum"})


def image_headers(image: types.ImageRecord, location: str | None = None) -> list[tuple[str, str]]:
    """Return the metadata headers of a response, in WSGI form.

    `image` is a record as the registry sends it. `location` is included only if given: the caller
    decides who may see it and has removed credentials. Null fields have an empty value, but a null
    checksum is left out, because clients would compare it with the empty text.
    """
    shown: dict[str, Any] = {**image, "location": location}
    shown["status"] = fields.v1_status(str(shown.get("status")))
    headers = [
        (header, _shown(shown.get(name)))
        for name, header in _HEADERS
        if name not in _LEFT_OUT or shown.get(name)
    ]
    for name, value in (image.get("properties") or {}).items():
        safe = latin1.encode(name.lower())
        # SECURITY: such a name, of version 2 or another program, would break the header block.
        if not _NOT_TOKEN.search(safe):
            headers.append((PROPERTY_PREFIX + safe, _shown(value)))
    return headers


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    # PERF: nearly all values of the 20 headers are such text.
    if text.isascii() and text.isprintable():
        return text
    return latin1.encode(fields.CONTROL.sub(" ", text))


# -- the client's side of the headers ------------------------------------------------------------


def client_headers(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers for `meta`, for http.client (UTF-8 bytes as latin-1).

    Every key is sent: the server ignores unknown ones. Raises Invalid for control characters,
    which would break the header block, and for names that are the same as header names, in which
    neither case nor hyphen and underscore differ.
    """
    headers: dict[str, str] = {}

    def add(prefix: str, key: str, value: Any) -> None:
        name = (prefix + str(key).lower()).replace("_", "-")
        text = "" if value is None else str(value)
        if _NOT_TOKEN.search(latin1.encode(name)):
            raise exception.Invalid(f"Image attribute {key!r} cannot be sent as a header")
        if fields.CONTROL.search(text):
            raise exception.Invalid(
                f"The value of {key!r} cannot be sent: it holds a line break or another control "
                "character"
            )
        if name in headers:
            raise exception.Invalid(f"Image attribute {key} is given twice")
        headers[latin1.encode(name)] = latin1.encode(text)

    for key, value in meta.items():
        if key == "properties":
            for name, text in (value or {}).items():
                add(PROPERTY_PREFIX, name, text)
        elif key == "is_public":
            add(HEADER_PREFIX, key, str(value).lower() in fields.TRUE_HEADER_WORDS)
        else:
            add(HEADER_PREFIX, key, value)
    return headers


def client_meta(items: Iterable[tuple[str, str]]) -> types.DetailedImage:
    """Return the image mapping in a response's headers; typed, always with `properties`.

    An attribute that the server does not send is missing; null ones are None.
    """
    meta: dict[str, Any] = {"properties": {}}
    for raw_name, raw_value in items:
        name = fold(raw_name)
        if not name.startswith(HEADER_PREFIX):
            continue
        value: str | None = _lenient(raw_value) or None
        if name.startswith(PROPERTY_PREFIX):
            key = _lenient(name[len(PROPERTY_PREFIX) :]).replace("-", "_")
            meta["properties"][key] = value
            continue
        key = name[len(HEADER_PREFIX) :].replace("-", "_")
        meta[key] = _typed(key, value)
    return cast(types.DetailedImage, meta)


def _typed(key: str, value: str | None) -> Any:
    field = fields.BY_NAME.get(key)
    if field is None or value is None:
        return value
    if field.kind is bool:
        return value.lower() == "true"
    if field.kind is int:
        number = numbers.whole(value)
        return value if number is None else number
    return value


def _lenient(value: str) -> str:
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return value

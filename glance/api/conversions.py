"""Requests for conversions: the checks that each has to pass before the registry makes a job.

The work is done elsewhere: this process never opens an image in order to convert it, and never
runs the tool. The formats are those of `glance.conversion.formats`; jobs are in the registry
(`glance.registry.conversion_calls`). The routes are in `glance.api.v1.conversions`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from glance import api
from glance.api import lookup, repeating, sources
from glance.common import exception
from glance.conversion import formats
from glance.conversion import options as options  # for the options that are read here
from glance.identity.context import CallerRequest, RequestContext
from glance.image import conversion_job, fields, types
from glance.registry import link
from glance.registry.conversion_calls import Accepted

#: The header of a request that may be sent again (draft-ietf-httpapi-idempotency-key-header).
KEY_HEADER = "idempotency-key"
#: How long its value may be.
MAX_KEY = 255
#: How soon it makes sense to look at a job again, in seconds.
LOOK_AGAIN = 5

#: What a request may hold. The first two it must hold.
KEYS: Final = (
    "source_image_id",
    "disk_format",
    "name",
    "is_public",
    "compress",
    "force",
    "store",
    "properties",
)
_REQUIRED: Final = KEYS[:2]
_SWITCHES: Final = ("is_public", "compress", "force")

DISABLED = "This server does not convert images: conversion_enabled is off in its glance-api.conf"


class Conversions:
    """Takes requests for conversions, whatever form they have."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf = service.conf
        self.registry = service.registry
        self.sources = sources.Sources(service)

    def check_caller(self, context: RequestContext) -> None:
        """Refuse what no request of this caller can have. Reads nothing of the request.

        Raises ReadOnly, ServiceUnavailable where conversions are switched off, and Forbidden.
        """
        context.require_write()
        if not self.conf.conversion_enabled:
            raise exception.ServiceUnavailable(DISABLED)
        self.service.policy.require("convert_image", context)

    def start(self, request: CallerRequest, values: Mapping[str, Any]) -> Accepted:
        """Start a conversion for a caller of whom `check_caller` approves.

        `values` are some of KEYS, with the types of JSON. Raises, in this order: Invalid for
        values that no image could be converted with, Forbidden for a public result, NotFound,
        Conflict and Invalid for the source, LimitExceeded for one that is too large, and what
        `create_conversion` of the registry raises.
        """
        context = request.context
        wanted = _checked(values)
        key = idempotency_key(request)
        self.service.policy.require_all(context, publicize_image=wanted["is_public"])
        self.sources.target(wanted["store"])
        source = lookup.image(self.registry, context, wanted["source_image_id"])
        self._check_source(source, wanted)
        order: types.ConversionRequest = {
            "source_image_id": str(source["id"]),
            "source_format": source["disk_format"],
            "disk_format": wanted["disk_format"],
            "name": wanted["name"],
            "is_public": wanted["is_public"],
            "compress": wanted["compress"],
            "store": wanted["store"],
            "properties": wanted["properties"],
            "idempotency_key": key,
            "limits": {
                "max_jobs": self.conf.conversion_max_jobs,
                "max_jobs_per_owner": self.conf.conversion_max_jobs_per_owner,
                "max_input_size": self.conf.conversion_max_input_size,
                "dropped_properties": list(self.conf.conversion_dropped_properties),
            },
        }
        creation = link.OnceCall()
        accepted = repeating.create(
            self.service,
            context,
            creation,
            functools.partial(self.registry.create_conversion, context, order),
        )
        if accepted.is_new:
            self.service.events.created(context, accepted.image)
        return accepted

    def _check_source(self, source: types.ImageRecord, wanted: Mapping[str, Any]) -> None:
        """Raise Conflict, Invalid or LimitExceeded for a source that cannot be converted."""
        number = source["id"]
        if source["status"] != "active":
            status = fields.v1_status(source["status"])
            raise exception.Conflict(
                f"Image {number} is {status}; only active images are converted"
            )
        formats.check_pair(
            source["disk_format"],
            source["container_format"],
            wanted["disk_format"],
            compress=wanted["compress"],
            force=wanted["force"],
        )
        maximum = self.conf.conversion_max_input_size
        size = source["size"] or 0
        if size > maximum:
            raise exception.LimitExceeded(
                f"Image {number} has {size} bytes; images of more than {maximum} bytes are not "
                "converted"
            )

    def shown_formats(self) -> dict[str, Any]:
        """Return the formats and the limits, as JSON. Sizes are in bytes, times in seconds."""
        conf = self.conf
        rows = []
        for name in fields.DISK_FORMATS:
            row = formats.FORMATS.get(name)
            known = row is not None
            rows.append(
                {
                    "disk_format": name,
                    "input": known,
                    "output": known,
                    "compress": row is not None and row.compresses,
                }
            )
        return {
            "enabled": conf.conversion_enabled,
            "container_format": formats.CONTAINER,
            "formats": rows,
            "limits": {
                "max_input_size": conf.conversion_max_input_size,
                "max_virtual_size": conf.conversion_max_virtual_size,
                "max_expansion": conf.conversion_max_expansion,
                "max_jobs": conf.conversion_max_jobs,
                "max_jobs_per_owner": conf.conversion_max_jobs_per_owner,
                "job_retention": conf.conversion_job_retention,
            },
        }


def is_final(job: types.Conversion) -> bool:
    """Return whether a job has ended."""
    try:
        return conversion_job.Status(job["status"]).is_final
    except ValueError:
        # The registry is of a later release.
        return False


def idempotency_key(request: CallerRequest) -> str | None:
    """Return the value of the header Idempotency-Key, None without it. Raises Invalid."""
    value = request.single_header(KEY_HEADER)
    if value is None:
        return None
    if not (0 < len(value) <= MAX_KEY and value.isascii() and value.isprintable()):
        raise exception.Invalid(
            f"The header Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters"
        )
    return value


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a request, all of KEYS, with the types of JSON. Raises Invalid.

    Null means the same as no value.
    """
    given = {name: value for name, value in values.items() if value is not None}
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise exception.Invalid(
            f"A conversion has no {_quoted(unknown[0])}; use some of {', '.join(KEYS)}"
        )
    for name in _REQUIRED:
        if given.get(name) in (None, ""):
            raise exception.Invalid(f"A conversion needs a value of {name}")
    checked: dict[str, Any] = {
        "source_image_id": _reference("source_image_id", given["source_image_id"]),
        "disk_format": _text("disk_format", given["disk_format"]),
        "name": fields.check_text("name", given.get("name")),
        "store": _text("store", given.get("store")),
        "properties": _properties(given.get("properties")),
    }
    if checked["store"] == "":
        raise exception.Invalid("The store is empty; name a store, or leave it out")
    for name in _SWITCHES:
        value = given.get(name, False)
        if not isinstance(value, bool):
            raise exception.Invalid(f"{name} must be true or false")
        checked[name] = value
    formats.of(checked["disk_format"])
    return checked


def _properties(value: Any) -> dict[str, str]:
    """Return properties with names as version 1 of the API has them, and values that are text."""
    found: dict[str, str] = {}
    for name, text in fields.coerce_properties(value).items():
        folded = name.replace("-", "_")
        if found.setdefault(folded, text or "") != (text or ""):
            raise exception.Invalid(f"Property {folded} is given twice, with different values")
    return found


def _reference(name: str, value: Any) -> str:
    """Return an id of an image: text, or a number of JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _text(name, value)
    assert text is not None
    return text


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise exception.Invalid(f"{name} must be text")
    return value


def _quoted(name: str) -> str:
    """Return a name that a client has made up, as part of a message."""
    return repr(name[:40])

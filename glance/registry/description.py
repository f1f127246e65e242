"""What the registry says of itself: its OpenAPI document, without its routes.

The routes are described where their handlers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from glance import version
from glance.common import config
from glance.http import openapi
from glance.identity import context as identity
from glance.image import described, entity, fields, types
from glance.registry import parameters

_ABOUT: Final = """\
The records of images and of their members, for glance-api only.

Paths below `/v2` name images by uuid, and serve no client but that of glance-api, which sends \
`User-Agent: glance-registry-client`. Where `registry_shared_secret` is set, each request needs \
it in `X-Glance-Registry-Secret`.
"""
#: What lists do not have, nor a record for others than glance-api.
_OPTIONAL: Final = frozenset({"location", *fields.INTERNAL_KEYS})


def api(conf: config.Conf, others: Mapping[str, openapi.Schema]) -> openapi.Api:
    """Return what all operations have in common; `others` are further schemas of bodies."""
    return openapi.Api(
        title="Glance registry",
        version=version.version_string(),
        about=_ABOUT,
        variables={
            "id": {
                **described.value("id"),
                "maximum": fields.MAX_BIGINT,
            },
            "uuid": {
                "type": "string",
                "pattern": entity.UUID_PATTERN,
                "description": "The id of the image in version 2.",
            },
            "member": described.MEMBER,
            "tag": {"type": "string", "maxLength": entity.MAX_TAG, "description": "The tag."},
            "attempt": parameters.ATTEMPT,
        },
        schemas={**schemas(), **others},
        tags={
            "server": "Records, by the number of an image.",
            "records": "Records, by the uuid of an image.",
            "conversions": "Jobs of conversions, for glance-api and glance-converter.",
            "members": "With whom an image is shared.",
            "tags": "Tags of images.",
            "openapi": "This document.",
        },
        error_types={"text/plain": openapi.TEXT, "text/html": openapi.TEXT},
        token=identity.needs_token(conf),
    )


def schemas() -> dict[str, openapi.Schema]:
    """Return the schemas of all bodies by name."""
    record = described.record(fields.RECORD_KEYS, _OPTIONAL)
    tags = {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": entity.MAX_TAG},
    }
    full = {**record, "properties": {**record["properties"], "tags": tags}}
    written = [*sorted(fields.WRITABLE_KEYS - {"store"}), "uuid", "properties"]
    call = {"attempt": parameters.ATTEMPT, "repeated": parameters.REPEATED}
    return {
        "BriefImages": openapi.list_of("images", described.record(fields.BRIEF_KEYS)),
        "DetailedImages": openapi.list_of("images", openapi.ref("Record")),
        "Record": record,
        "RecordResponse": openapi.object_of({"image": openapi.ref("Record")}),
        "RecordToCreate": openapi.object_of({"image": described.given(written), **call}, "image"),
        "RecordToUpdate": openapi.object_of(
            {
                "image": described.given(written),
                "from_state": {
                    "type": ["string", "null"],
                    "enum": [*fields.STATUSES, None],
                },
                "attempt": parameters.ATTEMPT,
            },
            "image",
        ),
        "Leftover": openapi.object_of({"scrub": _leftover()}),
        "FullRecord": full,
        "FullRecords": {
            "anyOf": [
                openapi.object_of(
                    {
                        "images": {"type": "array", "items": openapi.ref("FullRecord")},
                        "has_more": {"type": "boolean"},
                    }
                ),
                {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": "As version 2 of the Images API shows them.",
                },
            ]
        },
        "FullRecordResponse": openapi.object_of({"image": openapi.ref("FullRecord")}),
        "MemberResponse": openapi.object_of({"member": openapi.ref("FullMember")}),
        "FullMember": openapi.schema_of(types.MemberRecord),
        "FullMembers": openapi.list_of("members", openapi.ref("FullMember")),
        **described.memberships(strict=True),
        **described.member_requests(),
    }


def _leftover() -> openapi.Schema:
    return openapi.object_of(
        {
            "error": {"type": "string", "pattern": f"^{parameters.ERROR_NAME}$"},
            "dead": {"type": "boolean", "description": "Whether no attempt can succeed."},
            "location": {"type": ["string", "null"], "maxLength": fields.MAX_LOCATION},
        },
        "error",
    )

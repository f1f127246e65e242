"""The resource `/v2/images/{uuid}` of the registry: full records, deltas and steps of the status.

SECURITY: the API checks what it passes on by its own rules; a tenant who can reach the registry
must not get round them, so that everything is checked here again that is not the caller's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from glance.common import config, exception
from glance.http import openapi, wsgi
from glance.identity import policy
from glance.identity.context import CallerRequest
from glance.image import described, entity, fields, formats, search, types
from glance.registry import client, parameters, trust
from glance.registry.db import api, engine, full_records, image_search, lenient

LOG = logging.getLogger(__name__)

#: Fields that a change may set, and those that come with a step of the status.
SETTABLE = frozenset(
    {
        "name",
        "visibility",
        "protected",
        "os_hidden",
        "owner",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
    }
)
OF_STATE = frozenset(
    {
        "size",
        "checksum",
        "location",
        "os_hash_algo",
        "os_hash_value",
        "virtual_size",
        "upload_via",
    }
)
#: Statuses that an image is never given by a step: they come with its deletion, or by version 1.
_NO_STEPS = frozenset({"deleted", "pending_delete", "killed"})
#: Those that a step may end in.
STEPS = frozenset(fields.STATUSES) - _NO_STEPS

_RECORD = openapi.json_of("FullRecordResponse", "The record.")


def schemas() -> dict[str, openapi.Schema]:
    """Return the schemas of the bodies that are read here, by name."""
    texts = {"type": "array", "items": {"type": "string"}}
    properties = {"type": "object", "additionalProperties": {"type": "string"}}
    image = described.given([*sorted(SETTABLE), "uuid"])
    image["properties"] |= {"properties": properties, "tags": entity.TAGS_SCHEMA}
    state = openapi.object_of(
        {
            "from": texts,
            "to": {"type": "string", "enum": sorted(STEPS)},
            "values": described.given(sorted(OF_STATE)),
        },
        *("from", "to"),
    )
    changes = {
        "set": described.given(sorted(SETTABLE)),
        "properties": properties,
        # Null says what a missing key says.
        "tags": {**entity.TAGS_SCHEMA, "type": ["array", "null"]},
        **dict.fromkeys(("remove", "must_exist"), texts),
        "from_state": {**texts, "type": ["array", "null"]},
        "repeated": parameters.REPEATED,
    }
    return {
        "FullRecordToCreate": openapi.object_of(
            {
                "image": image,
                "attempt": parameters.ATTEMPT,
                "repeated": parameters.REPEATED,
            },
            "image",
        ),
        "Change": {"type": "object", "properties": changes},
        "State": openapi.object_of({"state": state}),
    }


class FullRecordsController:
    """Images by uuid."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.policy = policy.from_conf(conf)
        self.storage_quota: int = conf.user_storage_quota
        self.default_limit: int = conf.limit_param_default
        self.max_limit: int = conf.api_limit_max
        self.limits: dict[str, Any] = {
            "property_quota": conf.image_property_quota,
            "tag_quota": conf.image_tag_quota,
            "formats": formats.from_conf(conf),
        }

    @openapi.operation("show_record", responses={200: _RECORD})
    def show(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """GET /v2/images/{uuid}: a full record with tags."""
        wanted = fields.path_uuid(uuid)
        return _record(request, full_records.record_get(self.db, request.context, wanted))

    @openapi.operation(
        "find_records",
        parameters=(
            *openapi.query(
                {
                    "q": {
                        "type": "string",
                        "contentMediaType": openapi.JSON,
                        "contentSchema": search.WIRE_SCHEMA,
                        "description": "Parameters of a list of version 2, as a JSON array of "
                        "pairs of texts.",
                    }
                }
            ),
            *parameters.PUBLIC,
        ),
        responses={
            200: openapi.json_of(
                "FullRecords",
                "A page of records.",
                {client.LAST: {**openapi.TEXT, "description": "The last, if others follow."}},
            )
        },
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /v2/images: one page of full records, and whether others follow.

        `q` is a query of `glance.image.search` in its wire form; without it all parameters are the
        default.

        With `client.PUBLIC_SHAPE` the response is the array of images that the API shows.
        """
        query = search.from_wire(request.query().get("q", "[]"))
        limits = {"default_limit": self.default_limit, "max_limit": self.max_limit}
        if parameters.wants_public_shape(request):
            public, has_more = image_search.find_shown(self.db, request.context, query, **limits)
            headers = [(client.PUBLIC_SHAPE, "true")]
            if has_more:
                headers.append((client.LAST, public[-1]["id"]))
            return wsgi.json_response(public, headers=headers, default=lenient.text)
        images, has_more = image_search.find(self.db, request.context, query, **limits)
        shown = [_shown(request, image) for image in images]
        return wsgi.json_response({"images": shown, "has_more": has_more}, default=lenient.text)

    @openapi.operation(
        "create_record",
        body=openapi.json_of("FullRecordToCreate", "The record."),
        responses={200: _RECORD},
        errors=(exception.Conflict,),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /v2/images: insert a queued record.

        The body is `{"image": {...}}`, with fields, `uuid`, `properties` and `tags`; `attempt` and
        `repeated` as below `/images`.
        """
        context = request.context
        context.require_write()
        body = request.read_json()
        given = _object(body, "image")
        values = _values(given, SETTABLE | {"uuid"})
        properties = _properties(given.get("properties", {}))
        if not context.is_admin or "owner" not in values:
            values["owner"] = context.owner
        self._check_policy(request, values)
        image = full_records.record_create(
            self.db,
            context,
            {**values, "status": "queued", "properties": properties},
            _tags(given.get("tags", [])),
            storage_quota=self.storage_quota,
            attempt=parameters.attempt(body),
            is_repeated=parameters.is_repeated(body),
            **self.limits,
        )
        LOG.info("Image %s was created", image["uuid"])
        return _record(request, image)

    @openapi.operation(
        "patch_record",
        body=openapi.json_of("Change", "What to change."),
        responses={200: _RECORD},
        errors=(exception.Conflict,),
    )
    def patch(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """PATCH /v2/images/{uuid}: apply a delta, all of it or nothing.

        It is a `glance.image.types.Change`. With `repeated`, a delta that has been applied is no
        conflict.
        """
        request.context.require_write()
        wanted = fields.path_uuid(uuid)
        body = request.read_json()
        change = _change(body)
        self._check_policy(request, change.get("set", {}))
        image = full_records.record_patch(
            self.db,
            request.context,
            wanted,
            change,
            is_repeated=parameters.is_repeated(body),
            **self.limits,
        )
        # SECURITY: values must not be logged.
        LOG.debug("Image %s was changed", wanted)
        return _record(request, image)

    @openapi.operation(
        "delete_record",
        parameters=parameters.REMOVAL,
        responses={200: openapi.json_of("FullRecordResponse", "The record that is deleted.")},
        errors=(exception.Conflict,),
    )
    def delete(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """DELETE /v2/images/{uuid}: soft-delete; 403 for a visible image of another."""
        context = request.context
        context.require_write()
        found = full_records.record_get(self.db, context, fields.path_uuid(uuid))
        any_owner = self.policy.allows("delete_any_image", context)
        if not context.is_image_deletable(found, any_owner):
            raise exception.Forbidden(f"You are not allowed to delete image {found['uuid']}")
        waiting = parameters.removal(request)
        deleted = api.image_delete(self.db, context, found["id"], any_owner=any_owner, **waiting)
        LOG.info("Image %s was deleted", found["uuid"])
        left: Any = {**found, **deleted, "properties": found["properties"]}
        return _record(request, left)

    @openapi.operation(
        "set_state",
        body=openapi.json_of("State", "The step."),
        responses={200: _RECORD},
        errors=(exception.Conflict,),
    )
    def set_state(self, request: CallerRequest, uuid: str) -> wsgi.Response:
        """POST /v2/images/{uuid}/state: one step of the status, as a compare-and-set.

        The body is `{"state": {"from": [...], "to": "...", "values": {...}}}`.
        """
        request.context.require_write()
        wanted = fields.path_uuid(uuid)
        trust.require_api(request, {"status"})
        state = _object(request.read_json(), "state")
        expected, to = _words(state.get("from"), "from"), state.get("to")
        if not isinstance(to, str) or to not in STEPS:
            raise exception.Invalid("to must be a status of an image that is not deleted")
        image = full_records.record_set_state(
            self.db,
            request.context,
            wanted,
            expected,
            to,
            _values(_object(state, "values", missing=True), OF_STATE),
            storage_quota=self.storage_quota,
        )
        LOG.info("Image %s is %s", wanted, to)
        return _record(request, image)

    def _check_policy(self, request: CallerRequest, values: Mapping[str, Any]) -> None:
        """Raise Forbidden for what the policy does not permit a caller who is not the API."""
        if trust.is_from_api(request):
            return
        visibility = values.get("visibility")
        self.policy.require_all(
            request.context,
            choose_uuid="uuid" in values,
            publicize_image=visibility == "public",
            communitize_image=visibility == "community",
        )


# -- what a request has --------------------------------------------------------------------------


def _object(body: Any, name: str, *, missing: bool = False) -> Mapping[str, Any]:
    """Return the object under a name in a JSON body; {} if it may be missing and is."""
    found = body.get(name) if isinstance(body, dict) else None
    if found is None and missing:
        return {}
    if not isinstance(found, dict):
        raise exception.Invalid(f'The body must be an object such as {{"{name}": {{}}}}')
    return found


def _words(given: Any, name: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise exception.Invalid(f"{name} must be a list of texts")
    return given


def _values(given: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the typed values of those fields that are among `names`; others are ignored."""
    return fields.convert({name: given[name] for name in names & given.keys()})


def _properties(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise exception.Invalid("Image properties must be an object of names and values")
    for name in given.keys() & entity.BY_NAME.keys():
        raise exception.Forbidden(f"{name} is no custom property")
    return {name: entity.check(name, value) for name, value in given.items()}


def _tags(given: Any) -> list[str]:
    return sorted({entity.check_tag(tag) for tag in _words(given, "tags")})


def _change(body: Any) -> types.Change:
    """Return the delta in a body, checked."""
    given = _object({"change": body}, "change")
    change: types.Change = {
        "set": _values(_object(given, "set", missing=True), SETTABLE),
        "properties": _properties(_object(given, "properties", missing=True)),
        "remove": _words(given.get("remove", []), "remove"),
        "must_exist": _words(given.get("must_exist", []), "must_exist"),
    }
    if given.get("tags") is not None:
        change["tags"] = _tags(given["tags"])
    if given.get("from_state") is not None:
        change["from_state"] = _words(given["from_state"], "from_state")
    return change


def _record(request: CallerRequest, image: types.StoredRecord) -> wsgi.Response:
    return wsgi.json_response({"image": _shown(request, image)}, default=lenient.text)


def _shown(request: CallerRequest, image: types.StoredRecord) -> dict[str, Any]:
    shown: dict[str, Any] = dict(fields.to_json(image))
    if not trust.is_from_api(request):
        # SECURITY: a location may carry the credentials of the store.
        del shown["location"]
    return shown

"""The resource `/conversions` of the registry: jobs, for users and for converters.

SECURITY: only glance-api starts a conversion, because the limits come with the request. What a
converter does is for the service's own account: it gets locations, and says that data is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from glance.common import config, exception, numbers
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest
from glance.image import fields, formats, types
from glance.image.conversion_codes import Code
from glance.image.conversion_job import WORKER_PATTERN, Outcome, Phase, Status, check_worker
from glance.registry import parameters, trust
from glance.registry.db import conversion_jobs, conversion_leases, engine, lenient

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: How many jobs a list has by default, and at most; no converter leases or holds more.
DEFAULT_LIMIT = 25
MAX_LIMIT = 1000
MAX_KEY = 255

_CODES = {code.label: code for code in Code}
_IMAGE_PARAMETERS = ("source_image_id", "image_id", "either_image_id")
_PARAMETERS = ("status", "limit", "marker", *_IMAGE_PARAMETERS)

_CONVERSION = openapi.json_of("ConversionResponse", "The job.")
_OF_WORK = (exception.Conflict,)


class ConversionsController:
    """The jobs of a registry."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.limits: dict[str, Any] = {
            "property_quota": conf.image_property_quota,
            "formats": formats.from_conf(conf),
        }

    # -- for users -------------------------------------------------------------------------------

    @openapi.operation(
        "create_conversion",
        body=openapi.json_of("ConversionToCreate", "The job."),
        responses={
            200: openapi.json_of(
                "ConversionCreated", "The job and its result, or that no converter runs."
            )
        },
        errors=(exception.NotFound, exception.Conflict, exception.TooManyRequests),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /conversions: make a job and the record of its result, unless no converter runs.

        The body is `{"conversion": {...}}`, a `types.ConversionRequest`; `attempt` and `repeated`
        as for images.
        """
        context = request.context
        context.require_write()
        trust.require_api(request, ["conversions"], "start")
        if context.owner is None and not context.is_admin:
            raise exception.Forbidden("A conversion needs an owner: use a token with a tenant")
        body = request.read_json()
        wanted = _request(_given(body, "conversion", _REQUEST))
        try:
            created = conversion_jobs.create(
                self.db,
                context,
                wanted,
                attempt=parameters.attempt(body),
                is_repeated=parameters.is_repeated(body),
                **self.limits,
            )
        except exception.NoConverter:
            # NOTE: not a 503, which would mean that this registry is in trouble.
            return wsgi.json_response({"no_converter": True})
        job = created.job
        if created.is_new:
            LOG.info("Conversion %s makes image %s", job.id, job.image_id)
        document = {
            "conversion": job.to_json(),
            "image": fields.to_json(created.image),
            "is_new": created.is_new,
        }
        return wsgi.json_response(document, default=lenient.text)

    @openapi.operation(
        "list_conversions",
        parameters=openapi.query(
            {
                "status": {"type": "string", "enum": list(Status)},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
                "marker": {**openapi.TEXT, "description": "The job before the page."},
                **{
                    name: {**openapi.TEXT, "description": f"With this {name}."}
                    for name in _IMAGE_PARAMETERS
                },
            }
        ),
        responses={200: openapi.json_of("Conversions", "A page of jobs.")},
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /conversions: jobs that the caller may see, newest first."""
        query = request.query()
        for name in query:
            if name not in _PARAMETERS:
                raise exception.Invalid(
                    f"Unknown parameter; use some of {', '.join(sorted(_PARAMETERS))}"
                )
        wanted: dict[str, Any] = {"limit": _limit(query.get("limit"))}
        if "marker" in query:
            wanted["marker"] = fields.parse_uuid(query["marker"]) or ""
        if "status" in query:
            wanted["status"] = _one_of(Status, query["status"], "status").value
        for name in _IMAGE_PARAMETERS:
            if name in query:
                number = fields.parse_id(query[name])
                if number is None or number > fields.MAX_INT:
                    return wsgi.json_response({"conversions": []})
                wanted[name] = number
        found = conversion_jobs.find(self.db, request.context, **wanted)
        return wsgi.json_response({"conversions": [job.to_json() for job in found]})

    @openapi.operation("show_conversion", responses={200: _CONVERSION})
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /conversions/{id}: one job."""
        job = conversion_jobs.get(self.db, request.context, _job_id(id))
        return wsgi.json_response({"conversion": job.to_json()})

    @openapi.operation(
        "cancel_conversion",
        parameters=openapi.query(
            {
                "forget": {
                    "type": "string",
                    "enum": ["true", "false"],
                    "description": "true forgets a job that has ended, and cancels none.",
                }
            }
        ),
        responses={200: _CONVERSION, 204: openapi.nothing("It had ended and is forgotten.")},
        errors=_OF_WORK,
    )
    def cancel(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /conversions/{id}: cancel a job, or forget one that has ended.

        One that has ended stays as it is without `forget=true`, and one that has not is not
        forgotten.

        NOTE: two requests, because a client may send one twice: it must not forget what it has
        just cancelled.
        """
        request.context.require_write()
        job_id = _job_id(id)
        if request.query().get("forget") == "true":
            conversion_jobs.forget(self.db, request.context, job_id)
            return wsgi.Response(204)
        job = conversion_jobs.cancel(self.db, request.context, job_id)
        LOG.info("Conversion %s is %s", job.id, job.status)
        return wsgi.json_response({"conversion": job.to_json()})

    # -- for converters --------------------------------------------------------------------------

    @openapi.operation(
        "lease_conversions",
        body=openapi.json_of("Lease", "Who asks for how many."),
        responses={200: openapi.json_of("Work", "The jobs to work on.")},
        errors=_OF_WORK,
    )
    def lease(self, request: CallerRequest) -> wsgi.Response:
        """POST /conversions/leases: lease jobs to a converter.

        The body is `{"lease": {"worker", "count", "held", "retention"}}`.
        """
        _require_converter(request)
        given = _given(request.read_json(), "lease", _LEASE)
        held = given.get("held")
        if held is not None:
            held = frozenset(_texts(held, "held", MAX_LIMIT))
        found = conversion_leases.lease(
            self.db,
            _worker(given),
            _number(given, "count", MAX_LIMIT),
            held=held,
            retention=_number(given, "retention", fields.MAX_INT),
        )
        work = [
            {
                "conversion": leased.job.to_json(),
                "source": fields.to_json(leased.source),
                "image": fields.to_json(leased.image),
                "store": leased.job.store,
                "compress": leased.job.compress,
            }
            for leased in found
        ]
        for leased in found:
            LOG.info("Conversion %s begins, attempt %d", leased.job.id, leased.job.attempts)
        return wsgi.json_response({"work": work}, default=lenient.text)

    @openapi.operation(
        "report_progress",
        body=openapi.json_of("Progress", "How far it has come."),
        responses={200: _CONVERSION},
        errors=_OF_WORK,
    )
    def report(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /conversions/{id}/progress: what a job is at; renews its lease."""
        _require_converter(request)
        given = _given(request.read_json(), "progress", _PROGRESS)
        phase = given.get("phase")
        numbers_given = {name: _optional(given, name, most) for name, most in _SIZES.items()}
        job = conversion_leases.report(
            self.db,
            _worker(given),
            _job_id(id),
            phase=None if phase is None else _one_of(Phase, phase, "phase"),
            progress=_optional(given, "progress", 100),
            **numbers_given,
        )
        return wsgi.json_response({"conversion": job.to_json()})

    @openapi.operation(
        "end_conversion",
        body=openapi.json_of("End", "The outcome."),
        responses={200: _CONVERSION},
        errors=_OF_WORK,
    )
    def end(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /conversions/{id}/end: how the work on a job has ended."""
        _require_converter(request)
        given = _given(request.read_json(), "end", _END)
        outcome = _one_of(Outcome, given.get("outcome"), "outcome")
        code, result = given.get("code"), given.get("result")
        if code is not None and not (isinstance(code, str) and code in _CODES):
            raise exception.Invalid(f"code must be one of {', '.join(_CODES)}")
        if (outcome is Outcome.FAILED) != (code is not None):
            raise exception.Invalid("A code goes with the outcome failed, and with no other")
        if (outcome is Outcome.SUCCEEDED) != (result is not None):
            raise exception.Invalid("A result goes with the outcome succeeded, and with no other")
        sizes = None
        if result is not None:
            checked = _given({"result": result}, "result", frozenset(_SIZES))
            sizes = {name: _number(checked, name, most) for name, most in _SIZES.items()}
        job = conversion_leases.end(
            self.db,
            _worker(given),
            _job_id(id),
            outcome,
            code=None if code is None else _CODES[code],
            result=cast("types.ConversionResult | None", sizes),
        )
        why = "" if job.error is None else f": {job.error.label}"
        LOG.info("Conversion %s has ended its work; it is %s%s", job.id, job.status, why)
        return wsgi.json_response({"conversion": job.to_json()})


def _require_converter(request: CallerRequest) -> None:
    request.context.require_write()
    trust.require_api(request, ["conversions"], "work on")
    if not request.context.is_admin:
        raise exception.Forbidden("Only the account of the service may work on conversions")


# -- what a request has --------------------------------------------------------------------------

_REQUEST = types.ConversionRequest.__annotations__.keys()
_LIMITS = types.ConversionLimits.__annotations__.keys()
_LEASE = frozenset({"worker", "count", "held", "retention"})
_SIZES = dict.fromkeys(("bytes_in", "bytes_out", "virtual_size"), fields.MAX_BIGINT)
_PROGRESS = frozenset({"worker", "phase", "progress", *_SIZES})
_END = frozenset({"worker", "outcome", "code", "result"})


def _job_id(text: str) -> str:
    found = fields.parse_uuid(text)
    if found is None:
        raise exception.NotFound("No conversion with this ID was found")
    return found


def _given(body: Any, name: str, known: Any) -> Mapping[str, Any]:
    """Return the object under a name in a JSON body, which has known keys only."""
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise exception.Invalid(f'The body must be an object such as {{"{name}": {{}}}}')
    for key in found:
        if key not in known:
            raise exception.Invalid(f"{name} has an unknown key; use {', '.join(sorted(known))}")
    return found


def _request(given: Mapping[str, Any]) -> types.ConversionRequest:
    """Return a request of the API with checked values."""
    checked: dict[str, Any] = {}
    for name in ("source_image_id", "disk_format"):
        text = fields.check_text(name, given.get(name))
        if not text:
            raise exception.Invalid(f"A conversion needs a {name}")
        checked[name] = text
    for name in ("source_format", "name", "store", "idempotency_key"):
        if given.get(name) is not None:
            checked[name] = fields.check_text(name, given[name])
    if checked.get("idempotency_key") == "":
        raise exception.Invalid(f"An Idempotency-Key has 1 to {MAX_KEY} characters")
    for name in ("is_public", "compress"):
        value = given.get(name, False)
        if not isinstance(value, bool):
            raise exception.Invalid(f"{name} must be true or false")
        checked[name] = value
    checked["properties"] = fields.coerce_properties(given.get("properties"))
    limits = _given({"limits": given.get("limits") or {}}, "limits", _LIMITS)
    checked["limits"] = {
        name: _texts(limits[name], name, MAX_LIMIT)
        if name == "dropped_properties"
        else _number(limits, name, fields.MAX_BIGINT)
        for name in limits
    }
    return cast(types.ConversionRequest, checked)


def _limit(text: str | None) -> int:
    number = DEFAULT_LIMIT if text is None else numbers.whole(text, 10)
    if number is None or not 1 <= number <= MAX_LIMIT:
        raise exception.Invalid(f"limit must be a number from 1 to {MAX_LIMIT}")
    return number


def _number(given: Mapping[str, Any], name: str, most: int) -> int:
    number = _optional(given, name, most)
    if number is None:
        raise exception.Invalid(f"{name} is required")
    return number


def _optional(given: Mapping[str, Any], name: str, most: int) -> int | None:
    value = given.get(name)
    # To Python, true is an integer.
    if value is not None and (type(value) is not int or not 0 <= value <= most):
        raise exception.Invalid(f"{name} must be a whole number from 0 to {most}")
    return value


def _texts(given: Any, name: str, most: int) -> list[str]:
    is_list = isinstance(given, list) and len(given) <= most
    if not is_list or not all(isinstance(text, str) for text in given):
        raise exception.Invalid(f"{name} must be a list of at most {most} texts")
    return cast("list[str]", given)


def _worker(given: Mapping[str, Any]) -> str:
    name = given.get("worker")
    try:
        return check_worker(name if isinstance(name, str) else "")
    except ValueError as err:
        raise exception.Invalid(f"worker cannot be right: {err}") from err


def _one_of(words: Callable[[Any], T], value: Any, name: str) -> T:
    try:
        return words(value)
    except ValueError:
        known = ", ".join(word.value for word in cast(Any, words))
        raise exception.Invalid(f"{name} must be one of {known}") from None


def schemas() -> dict[str, openapi.Schema]:
    """Return the schemas of the bodies here, by name."""
    sizes: dict[str, openapi.Schema] = {
        name: {"type": "integer", "minimum": 0, "maximum": most} for name, most in _SIZES.items()
    }
    maybe = {name: {**size, "type": ["integer", "null"]} for name, size in sizes.items()}
    count: openapi.Schema = {"type": "integer", "minimum": 0, "maximum": MAX_LIMIT}
    worker: openapi.Schema = {"type": "string", "pattern": WORKER_PATTERN}
    job = openapi.ref("Conversion")
    image = openapi.ref("Record")
    lease = {
        "worker": worker,
        "count": count,
        "held": {
            "type": ["array", "null"],
            "items": openapi.TEXT,
            "maxItems": MAX_LIMIT,
        },
        "retention": {"type": "integer", "minimum": 0, "maximum": fields.MAX_INT},
    }
    progress = {
        "worker": worker,
        "phase": {"enum": [*(phase.value for phase in Phase), None]},
        "progress": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
        **maybe,
    }
    end = {
        "worker": worker,
        "outcome": {"type": "string", "enum": list(Outcome)},
        "code": {"enum": [*_CODES, None]},
        "result": {"anyOf": [_closed(sizes, *sizes), {"type": "null"}]},
    }
    work = {
        "conversion": job,
        "source": image,
        "image": image,
        "store": {"type": ["string", "null"]},
        "compress": {"type": "boolean"},
    }
    return {
        "Conversion": openapi.schema_of(types.Conversion),
        "ConversionResponse": openapi.object_of({"conversion": job}),
        "Conversions": openapi.list_of("conversions", job),
        "ConversionToCreate": openapi.object_of(
            {
                "conversion": {
                    **openapi.schema_of(types.ConversionRequest),
                    "additionalProperties": False,
                },
                "attempt": parameters.ATTEMPT,
                "repeated": parameters.REPEATED,
            },
            "conversion",
        ),
        "ConversionCreated": {
            "anyOf": [
                openapi.object_of(
                    {"conversion": job, "image": image, "is_new": {"type": "boolean"}}
                ),
                openapi.object_of({"no_converter": {"type": "boolean"}}),
            ]
        },
        "Lease": openapi.object_of({"lease": _closed(lease, "worker", "count", "retention")}),
        "Work": openapi.list_of("work", openapi.object_of(work)),
        "Progress": openapi.object_of({"progress": _closed(progress, "worker")}),
        "End": openapi.object_of({"end": _closed(end, "worker", "outcome")}),
    }


def _closed(properties: Mapping[str, openapi.Schema], *required: str) -> dict[str, Any]:
    return {**openapi.object_of(properties, *required), "additionalProperties": False}

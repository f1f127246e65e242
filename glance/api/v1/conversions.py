"""The conversions resource: start, list, show, cancel; and the formats that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api
from glance.api import conversions, describing, lookup
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import conversion_job, fields, listing, types

#: Parameters with the id of an image.
_REFERENCES = ("source_image_id", "image_id")

_AGAIN: Mapping[str, openapi.Schema] = {
    "Retry-After": {**openapi.TEXT, "description": "When to look again, until it has ended."}
}
_LOCATED = {**describing.location_header("The URL of the job."), **_AGAIN}
_PAGE: Mapping[str, openapi.Schema] = {
    "status": {
        "type": "string",
        "enum": list(conversion_job.Status),
        "description": "Conversions in this state.",
    },
    "limit": listing.PARAMETERS["limit"],
    "marker": {"type": "string", "description": "The id of the conversion before the page."},
}
_FOUND = openapi.json_of("Conversions", "A page of conversions.")


class ConversionsController:
    """Handlers of `/conversions…` and `/images/{id}/conversions`."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.registry = service.registry
        self.conversions = conversions.Conversions(service)

    @openapi.operation(
        "create_conversion",
        parameters=openapi.headers(
            {
                "Idempotency-Key": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": conversions.MAX_KEY,
                    "description": "The same for a request that is sent again.",
                }
            }
        ),
        body=openapi.json_of("ConversionToCreate", "What is to be converted into what."),
        responses={
            200: openapi.json_of("ConversionResponse", "The same work under way.", _LOCATED),
            202: openapi.json_of("ConversionResponse", "The conversion.", _LOCATED),
        },
        errors=(exception.NotFound, exception.Conflict),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /conversions: start a conversion, or find the same work under way."""
        self.conversions.check_caller(request.context)
        accepted = self.conversions.start(request, _values(request.read_json()))
        return self._job(request, accepted.job, 202 if accepted.is_new else 200, located=True)

    @openapi.operation(
        "list_conversions",
        parameters=openapi.query(
            {
                **_PAGE,
                **{
                    name: {"type": "string", "description": f"With this {name}."}
                    for name in _REFERENCES
                },
            }
        ),
        responses={200: _FOUND},
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /conversions: those of the caller, for administrators all; newest first."""
        params = request.query()
        try:
            arguments = {
                name: str(lookup.number(self.registry, request.context, params[name]))
                for name in _REFERENCES
                if name in params
            }
        except exception.NotFound:
            arguments = None
        return self._list(request.context, params, arguments)

    @openapi.operation(
        "list_conversions_of_image", parameters=openapi.query(_PAGE), responses={200: _FOUND}
    )
    def of_image(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/conversions: those with this source or this result."""
        image = lookup.image(self.registry, request.context, id)
        return self._list(request.context, request.query(), {"either_image_id": str(image["id"])})

    def _list(
        self,
        context: RequestContext,
        params: Mapping[str, str],
        arguments: Mapping[str, str] | None,
    ) -> wsgi.Response:
        """Return a page of the jobs with these arguments; None: of no jobs."""
        limit = listing.page_size(params.get("limit"))
        status = params.get("status")
        if status is not None and status not in tuple(conversion_job.Status):
            raise exception.Invalid(f"status must be one of {', '.join(conversion_job.Status)}")
        found: list[types.Conversion] = []
        if limit and arguments is not None:
            found = self.registry.find_conversions(
                context, status=status, limit=limit, marker=params.get("marker"), **arguments
            )
        return wsgi.json_response({"conversions": found})

    @openapi.operation(
        "show_conversion_formats",
        responses={200: openapi.json_of("ConversionFormats", "The formats, and the limits.")},
    )
    def formats(self, request: CallerRequest) -> wsgi.Response:
        """GET /conversions/formats: what is converted into what, and the limits."""
        return wsgi.json_response(self.conversions.shown_formats())

    @openapi.operation(
        "show_conversion",
        responses={200: openapi.json_of("ConversionResponse", "The conversion.", _AGAIN)},
    )
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /conversions/{id}: one conversion."""
        return self._job(request, self.registry.get_conversion(request.context, _job_id(id)))

    @openapi.operation(
        "cancel_conversion",
        responses={
            202: openapi.json_of("ConversionResponse", "The job that is being cancelled.", _AGAIN),
            204: openapi.nothing("The job had ended; it is forgotten."),
        },
        errors=(exception.Conflict,),
    )
    def delete(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /conversions/{id}: cancel a job, or forget one that has ended."""
        request.context.require_write()
        job = self.registry.cancel_conversion(request.context, _job_id(id))
        return wsgi.Response(204) if job is None else self._job(request, job, 202)

    def _job(
        self,
        request: CallerRequest,
        job: types.Conversion,
        status: int = 200,
        *,
        located: bool = False,
    ) -> wsgi.Response:
        headers = []
        if located:
            headers.append(("Location", self.service.url(request, f"conversions/{job['id']}")))
        if not conversions.is_final(job):
            headers.append(("Retry-After", str(conversions.LOOK_AGAIN)))
        return wsgi.json_response({"conversion": job}, status, headers)


def _job_id(text: str) -> str:
    """Return the id of a job in a path, a UUID in lower case. Raises NotFound for other text."""
    found = fields.parse_uuid(text)
    if found is None:
        raise exception.NotFound("No conversion with this ID was found")
    return found


def _values(document: Any) -> Mapping[str, Any]:
    """Return the values in the body of a request. Raises Invalid for another document."""
    values = document.get("conversion") if isinstance(document, Mapping) else None
    if not isinstance(values, Mapping) or len(document) != 1:
        raise exception.Invalid(
            "The body must be an object such as "
            '{"conversion": {"source_image_id": "1", "disk_format": "raw"}}'
        )
    return values


def schemas() -> dict[str, openapi.Schema]:
    """Return the schemas of the bodies here, by name."""
    null_or_text = {"type": ["string", "null"]}
    flag = {"type": ["boolean", "null"]}
    wanted: dict[str, openapi.Schema] = {
        "source_image_id": {
            "type": ["string", "integer"],
            "description": "The number or the uuid of the image to convert.",
        },
        "disk_format": {**openapi.TEXT, "description": "The format of the result."},
        "name": {**null_or_text, "description": "The name of the result."},
        "is_public": flag,
        "compress": flag,
        "force": flag,
        "store": {**null_or_text, "description": "The name of the store for the result."},
        "properties": {"type": ["object", "null"], "description": "Of the result."},
    }
    order = openapi.object_of(
        {name: wanted[name] for name in conversions.KEYS}, *conversions.REQUIRED
    )
    number: openapi.Schema = {"type": "number", "minimum": 0}
    row = openapi.object_of(
        {
            "disk_format": openapi.TEXT,
            **dict.fromkeys(("input", "output", "compress"), {"type": "boolean"}),
        }
    )
    return {
        "Conversion": openapi.schema_of(types.Conversion),
        "ConversionResponse": openapi.object_of({"conversion": openapi.ref("Conversion")}),
        "Conversions": openapi.list_of("conversions", openapi.ref("Conversion")),
        "ConversionToCreate": {
            **openapi.object_of({"conversion": {**order, "additionalProperties": False}}),
            "additionalProperties": False,
        },
        "ConversionFormats": openapi.object_of(
            {
                "enabled": {"type": "boolean"},
                "container_format": openapi.TEXT,
                "formats": {"type": "array", "items": row},
                "limits": {"type": "object", "additionalProperties": number},
            }
        ),
    }

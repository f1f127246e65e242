"""The conversions resource: start, list, show, cancel; and the formats that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance import api
from glance.api import conversions, describing, lookup
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import conversion_job, described, fields, listing, types

#: Parameters with the id of an image.
_REFERENCES = ("source_image_id", "image_id")

_PAGE = {
    "status": described.CONVERSION_STATUS,
    "limit": listing.PARAMETERS["limit"],
    "marker": {
        **openapi.TEXT,
        "format": "uuid",
        "description": "The id of the conversion after which the page begins.",
    },
}
_PAGE_PARAMETERS = openapi.query(_PAGE)
_LIST_PARAMETERS = openapi.query(
    {
        "source_image_id": {**openapi.TEXT, "description": "Conversions of this image."},
        "image_id": {**openapi.TEXT, "description": "The conversion with this result."},
        **_PAGE,
    }
)
_KEY = openapi.headers(
    {
        "Idempotency-Key": {
            **openapi.TEXT,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
            "maxLength": conversions.MAX_KEY,
            "description": "A name of the request, by which it may be sent again for 24 hours.",
        }
    }
)
_LOOK_AGAIN: Mapping[str, openapi.Schema] = {
    "Retry-After": {
        **openapi.TEXT,
        "description": "After how many seconds to look again, unless the conversion has ended.",
    }
}
_STARTED = {**describing.location_header("The URL of the conversion."), **_LOOK_AGAIN}
_LISTED = openapi.json_of("Conversions", "A page of the conversions, newest first.")


class JobsController:
    """Handlers of `/conversions…` and `/images/{id}/conversions`."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.registry = service.registry
        self.conversions = conversions.Conversions(service)

    @openapi.operation(
        "convert_image",
        parameters=_KEY,
        body=openapi.json_of("ConversionRequest", "What to convert into what."),
        responses={
            202: openapi.json_of("ConversionResponse", "The conversion waits.", _STARTED),
            200: openapi.json_of("ConversionResponse", "It has begun already.", _STARTED),
        },
        errors=(exception.NotFound, exception.Conflict, exception.TooManyRequests),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /conversions: start a conversion, or find the same work under way."""
        self.conversions.check_caller(request.context)
        accepted = self.conversions.start(request, _values(request.read_json()))
        return self._job(request, accepted.job, 202 if accepted.is_new else 200, located=True)

    @openapi.operation("list_conversions", parameters=_LIST_PARAMETERS, responses={200: _LISTED})
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
        "list_conversions_of_image", parameters=_PAGE_PARAMETERS, responses={200: _LISTED}
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
        responses={200: openapi.json_of("ConversionFormats", "The formats and limits.")},
    )
    def formats(self, request: CallerRequest) -> wsgi.Response:
        """GET /conversions/formats: what is converted into what, and the limits."""
        return wsgi.json_response(self.conversions.shown_formats())

    @openapi.operation(
        "show_conversion",
        responses={200: openapi.json_of("ConversionResponse", "The conversion.", _LOOK_AGAIN)},
    )
    def show(self, request: CallerRequest, job: str) -> wsgi.Response:
        """GET /conversions/{job}: one conversion."""
        return self._job(request, self.registry.get_conversion(request.context, _job_id(job)))

    @openapi.operation(
        "cancel_conversion",
        responses={
            202: openapi.json_of(
                "ConversionResponse", "It is cancelled, or will be.", _LOOK_AGAIN
            ),
            204: openapi.nothing("It had ended, and is forgotten."),
        },
        errors=(exception.Conflict,),
    )
    def delete(self, request: CallerRequest, job: str) -> wsgi.Response:
        """DELETE /conversions/{job}: cancel a conversion, or forget one that has ended."""
        request.context.require_write()
        found = self.registry.cancel_conversion(request.context, _job_id(job))
        return wsgi.Response(204) if found is None else self._job(request, found, 202)

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

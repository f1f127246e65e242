"""The registry application: image records as JSON over HTTP, for glance-api only.

Controllers check the request and call `glance.registry.db.api`, which holds the rules about what a
caller may see and change. Records are served complete, with raw locations: end users must never be
able to reach the registry.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance.common import config, exception, metrics, numbers
from glance.http import health, openapi, wsgi
from glance.identity import policy
from glance.identity.context import CallerRequest, RequestContext
from glance.image import fields, formats, listing, types
from glance.registry import (
    client,
    conversions,
    description,
    members,
    parameters,
    trust,
    v2,
    wrong_port,
)
from glance.registry.db import (
    api,
    attempts,
    engine,
    full_records,
    lenient,
    migration,
    scrub_queue,
)

LOG = logging.getLogger(__name__)

#: How often the metrics look at the scrub queue, in seconds.
_QUEUE_PAUSE = 60.0


def page_size(fallback: int) -> Callable[[str], int]:
    """Return an option type: a whole number, or `fallback` for other text."""

    def convert(text: str) -> int:
        number = numbers.signed(text.strip())
        if number is None:
            # WIRE: daemons with such text in their file started, with the default limit.
            LOG.debug("A page size that is no number counts as %d", fallback)
        return fallback if number is None else number

    return convert


config.options(
    "registry",
    config.Option(
        "limit_param_default",
        page_size(25),
        25,
        unit="images",
        minimum=0,
        help="Number of images in a list if the request gives no limit.",
    ),
    config.Option(
        "api_limit_max",
        page_size(1000),
        1000,
        unit="images",
        minimum=1,
        help="Maximum number of images in a list.",
    ),
    config.Option(
        "image_property_quota",
        config.integer,
        # NOTE: with the other 24 headers of a response, this leaves room for those of proxies.
        60,
        help="Maximum number of custom properties of an image; 0 or a negative number means no "
        "limit. Each is a header of the response, and HTTP clients that are written in Python "
        "accept no more than 100 headers. Images that have more keep them.",
    ),
    config.Option(
        "user_storage_quota",
        config.integer,
        0,
        unit="bytes",
        help="Maximum total size of the images of one owner, uploads in progress included; 0 or "
        "a negative number means no limit. Images without an owner are not counted.",
    ),
)

#: What a change of a record may be refused for.
_CHANGE_ERRORS = (exception.Conflict,)
_RECORD = openapi.json_of("RecordResponse", "The record.")

_SEEING_DELETED = RequestContext(is_admin=True, show_deleted=True)


class RecordsController:
    """The resource `/images` and its items."""

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.db = db
        self.policy = policy.from_conf(conf)
        self.default_limit: int = conf.limit_param_default
        self.max_limit: int = conf.api_limit_max
        self.limits: dict[str, Any] = {
            "property_quota": conf.image_property_quota,
            "storage_quota": conf.user_storage_quota,
            "formats": formats.from_conf(conf),
        }

    @openapi.operation(
        "list_images",
        parameters=(*parameters.LIST, *parameters.PUBLIC),
        responses={200: openapi.json_of("BriefImages", "A page of records.")},
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /images: a page of short records."""
        return self._public_page(request, detail=False)

    @openapi.operation(
        "list_images_in_detail",
        parameters=(*parameters.LIST, *parameters.PUBLIC),
        responses={200: openapi.json_of("DetailedImages", "A page of records.")},
    )
    def detail(self, request: CallerRequest) -> wsgi.Response:
        """GET /images/detail: a page of full records."""
        if not _shows_locations(request):
            return self._public_page(request, detail=True)
        images = api.image_list(self.db, request.context, self._query(request))
        document = {"images": [fields.to_json(image) for image in images]}
        return wsgi.json_response(document, default=lenient.text)

    def _public_page(self, request: CallerRequest, *, detail: bool) -> wsgi.Response:
        """Return a page as everybody may see it, confirming that to those who want it so."""
        query = self._query(request)
        document = api.public_page(self.db, request.context, query, detail=detail)
        headers = [("Content-Type", "application/json")]
        if parameters.wants_public_shape(request):
            headers.append((client.PUBLIC_SHAPE, "true"))
        return wsgi.Response(200, headers, document)

    @openapi.operation("show_image", responses={200: _RECORD})
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}: a full record."""
        try:
            image = api.image_get(self.db, request.context, fields.path_id(id))
        except exception.ImageNotFound:
            LOG.info("Image %s is not visible to user %s", id, request.context.user)
            raise
        return _record(request, image)

    @openapi.operation(
        "create_image",
        body=openapi.json_of("RecordToCreate", "The record."),
        responses={200: _RECORD},
        errors=_CHANGE_ERRORS,
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /images: insert a record.

        An `attempt` names what the caller does; with `repeated`, the record that it may have
        inserted before is returned.
        """
        context = request.context
        context.require_write()
        values, body = self._body(request)
        if not context.is_admin or "owner" not in values:
            values["owner"] = context.owner
        trust.require_api(request, trust.API_ONLY & values.keys())
        self._check_policy(request, values)
        values.setdefault("status", "active" if trust.is_from_api(request) else "queued")
        image = api.image_create(
            self.db,
            context,
            values,
            attempt=parameters.attempt(body),
            is_repeated=parameters.is_repeated(body),
            **self.limits,
        )
        LOG.info("Image %s was created", image["id"])
        return _record(request, image)

    @openapi.operation(
        "update_image",
        parameters=openapi.headers(
            {
                client.PURGE_PROPERTIES: {
                    "type": "string",
                    "description": "true removes the custom properties that the body lacks.",
                }
            }
        ),
        body=openapi.json_of("RecordToUpdate", "What to change."),
        responses={
            200: openapi.json_of(
                "RecordResponse",
                "The record.",
                {
                    client.ROOM: {
                        "type": "string",
                        "pattern": "^[0-9]+$",
                        "description": "How many bytes the image may have.",
                    }
                },
            )
        },
        errors=_CHANGE_ERRORS,
    )
    def update(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}: change some attributes, with `from_state` as a compare-and-set.

        With an `attempt` a change of the status may be repeated: it is made once.
        """
        context = request.context
        context.require_write()
        number = fields.path_id(id)
        values, body = self._body(request)
        trust.require_api(request, trust.API_ONLY & values.keys())
        # NOTE: the id of an image cannot be changed.
        self._check_policy(request, {"is_public": values.get("is_public")})
        from_state = body.get("from_state")
        if from_state is not None and from_state not in fields.STATUSES:
            raise exception.Invalid(f"from_state must be one of {', '.join(fields.STATUSES)}")
        if not context.is_admin:
            values.pop("owner", None)
        image = api.image_update(
            self.db,
            context,
            number,
            values,
            purge_props=request.headers.get(client.PURGE_PROPERTIES) == "true",
            from_state=from_state,
            attempt=parameters.attempt(body),
            **self.limits,
        )
        # SECURITY: values, above all the location, must not be logged.
        LOG.debug("Image %s was changed: %s", number, ", ".join(sorted(values)))
        response = _record(request, image)
        if image["status"] == "saving":
            room = api.image_room(self.db, image, self.limits["storage_quota"])
            if room is not None:
                response.headers.append((client.ROOM, str(room)))
        return response

    @openapi.operation(
        "delete_image",
        parameters=parameters.REMOVAL,
        responses={200: openapi.json_of("RecordResponse", "The record that is deleted.")},
        errors=_CHANGE_ERRORS,
    )
    def delete(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /images/{id}?status=: soft-delete and return the resulting record.

        With `status=pending_delete` the data is due for removal in `due_in` seconds, and for
        `lease` seconds only the API removes it. With `status=deleted`, an image that is deleted
        and still pending_delete is settled: the API removes the data between two such calls.
        """
        context = request.context
        context.require_write()
        any_owner = self.policy.allows("delete_any_image", context)
        number = fields.path_id(id)
        waiting = parameters.removal(request)
        try:
            image = api.image_delete(self.db, context, number, any_owner=any_owner, **waiting)
        except exception.ImageNotFound:
            if waiting["status"] != "deleted":
                raise
            image = api.image_settle(self.db, context, number, any_owner=any_owner)
        LOG.info("Image %s was deleted", number)
        return _record(request, image)

    @openapi.operation("withdraw_image", responses={200: _RECORD}, errors=_CHANGE_ERRORS)
    def withdraw(self, request: CallerRequest, attempt: str) -> wsgi.Response:
        """DELETE /attempts/{attempt}: delete the unused record that a lost creation left."""
        context = request.context
        context.require_write()
        if not attempts.is_attempt(attempt):
            raise exception.NotFound("No attempt has this name")
        image = api.image_withdraw(self.db, context, attempt)
        LOG.info("Image %s was withdrawn: the response to its creation was lost", image["id"])
        return _record(request, image)

    @openapi.operation("show_restorable_image", responses={200: _RECORD})
    def restorable(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/restore: the record of an image that may be deleted, for the API.

        The API looks after the data before it restores the image.
        """
        self._require_restore(request)
        uuid = fields.parse_uuid(id)
        if uuid is not None:
            found = full_records.record_get(self.db, _SEEING_DELETED, uuid)
            return _record(request, found)
        image = api.image_get(self.db, _SEEING_DELETED, fields.path_id(id))
        return _record(request, image)

    @openapi.operation("restore_image", responses={200: _RECORD}, errors=_CHANGE_ERRORS)
    def restore(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/restore: make a deleted image active again and return its record.

        Raises ImageNotFound, and Conflict if it is not deleted, or its data is gone or being
        removed now.
        """
        request.context.require_write()
        self._require_restore(request)
        image = api.image_restore(self.db, fields.path_id(id))
        LOG.info("Image %s was restored", image["id"])
        return _record(request, image)

    def _require_restore(self, request: CallerRequest) -> None:
        self.policy.require("restore_image", request.context)
        # Nobody else has looked after the data.
        trust.require_api(request, ["a deleted image"], "restore")

    @openapi.operation(
        "postpone_removal",
        body=openapi.json_of("Leftover", "Why the data could not be removed."),
        responses={204: openapi.nothing("The scrubber will remove it.")},
        errors=_CHANGE_ERRORS,
    )
    def postpone(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/scrub: queue data that the API could not remove for the scrubber.

        The body names the class of the `error`; `dead` means that no further attempt can succeed.
        With a `location` the data is what a failed upload of the image left there, without one the
        data of the image, which is deleted.
        """
        context = request.context
        context.require_write()
        trust.require_api(request, ["data"], "leave to the scrubber")
        any_owner = self.policy.allows("delete_any_image", context)
        number = fields.path_id(id)
        left = _leftover(request.read_json())
        api.image_postpone(self.db, context, number, any_owner=any_owner, **left)
        return wsgi.Response(204)

    def _check_policy(self, request: CallerRequest, values: Mapping[str, Any]) -> None:
        """Raise Forbidden for what the policy does not permit a caller who is not the API.

        SECURITY: the API checks what it passes on by its own rules; tenants who can reach the
        registry must not get round them.
        """
        if trust.is_from_api(request):
            return
        self.policy.require_all(
            request.context,
            choose_id=values.get("id") is not None,
            choose_uuid=values.get("uuid") is not None,
            publicize_image=bool(values.get("is_public")),
        )

    def _query(self, request: CallerRequest) -> listing.ListQuery:
        return listing.parse(
            request.query(),
            is_admin=request.context.is_admin,
            sees_deleted=self.policy.allows("see_deleted", request.context),
            default_limit=self.default_limit,
            max_limit=self.max_limit,
        )

    def _body(self, request: CallerRequest) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return the typed attributes of a JSON body, and the body."""
        body = request.read_json()
        image = body.get("image") if isinstance(body, dict) else None
        if not isinstance(image, dict):
            raise exception.Invalid('The body must be an object such as {"image": {"name": "x"}}')
        return fields.coerce(image), body


def _leftover(body: Any) -> dict[str, Any]:
    """Return error, dead and location of a body `{"scrub": {...}}`, checked."""
    given = body.get("scrub") if isinstance(body, dict) else None
    if not isinstance(given, dict):
        raise exception.Invalid('The body must be an object such as {"scrub": {"error": "X"}}')
    error, dead = given.get("error"), given.get("dead", False)
    location = given.get("location")
    if not isinstance(error, str) or not re.fullmatch(parameters.ERROR_NAME, error):
        raise exception.Invalid("error must be the name of a class")
    if not isinstance(dead, bool):
        raise exception.Invalid("dead must be true or false")
    if location is not None and not isinstance(location, str):
        raise exception.Invalid("location must be text")
    if location and len(location.encode()) > fields.MAX_LOCATION:
        raise exception.Invalid(f"A location may have at most {fields.MAX_LOCATION} bytes")
    return {"error": error, "dead": dead, "location": location}


def _shows_locations(request: CallerRequest) -> bool:
    # SECURITY: a location may carry the credentials of the store.
    return trust.is_from_api(request) and not parameters.wants_public_shape(request)


def _record(request: CallerRequest, image: types.StoredImage) -> wsgi.Response:
    form = fields.to_json if trust.is_from_api(request) else fields.to_public_json
    return wsgi.json_response({"image": form(image)}, default=lenient.text)


class RegistryAPI:
    """The registry as a WSGI application; paths may begin with `/v1/`.

    Requests that are meant for the API get the response of `glance.registry.wrong_port`.

    If `registry_shared_secret` is set, a request without it gets 401. `glance.registry.trust` says
    what only glance-api may do.
    """

    def __init__(self, conf: config.Conf, db: engine.Database):
        self.trust = trust.ApiTrust(conf)
        self.router = wsgi.Router(CallerRequest)
        images = RecordsController(conf, db)
        sharing = members.MembershipsController(conf, db)
        self.router.add("/", GET=images.index)
        self.router.add("/images", GET=images.index, POST=images.create)
        self.router.add("/images/detail", GET=images.detail)
        self.router.add("/images/{id}", GET=images.show, PUT=images.update, DELETE=images.delete)
        self.router.add("/attempts/{attempt}", DELETE=images.withdraw)
        self.router.add("/images/{id}/restore", GET=images.restorable, POST=images.restore)
        self.router.add("/images/{id}/scrub", POST=images.postpone)
        self.router.add("/images/{id}/members", GET=sharing.index, PUT=sharing.replace)
        self.router.add("/images/{id}/members/{member}", PUT=sharing.add, DELETE=sharing.remove)
        self.router.add("/shared-images/{member}", GET=sharing.shared_images)
        v2.add_routes(self.router, conf, db)
        jobs = conversions.ConversionsController(conf, db)
        self.router.add("/conversions", GET=jobs.index, POST=jobs.create)
        self.router.add("/conversions/leases", POST=jobs.lease)
        self.router.add("/conversions/{id}", GET=jobs.show, DELETE=jobs.cancel)
        self.router.add("/conversions/{id}/progress", PUT=jobs.report)
        self.router.add("/conversions/{id}/end", POST=jobs.end)
        self.description = openapi.Description(
            lambda: description.api(conf, {**v2.schemas(), **conversions.schemas()}),
            self.router.routes,
            lambda request: openapi.path_of(request.service_url),
        )
        self.router.add(openapi.PATH, GET=self.description.show)

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        if stray := wrong_port.stray_response(environ):
            return stray(environ, start_response)
        if not self.trust.admits(environ):
            # SECURITY: the value may be the secret with a typing error, so it must not be logged.
            LOG.warning("A request without the registry_shared_secret was refused")
            refusal = exception.NotAuthorized("The registry serves only its own image API")
            return wsgi.fail(refusal, environ, start_response)
        self.trust.mark(environ)
        path = environ.get("PATH_INFO", "")
        if path.startswith("/v1/"):
            environ = {**environ, "PATH_INFO": path[3:]}
        return self.router(environ, start_response)


def _look_at_queue(db: engine.Database) -> None:
    if metrics.is_first():
        waiting, failed = scrub_queue.lengths(db)
        metrics.SCRUB_QUEUE.set(waiting, "waiting")
        metrics.SCRUB_QUEUE.set(failed, "failed")


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> RegistryAPI:
    """Paste factory of `[app:registryapp]`.

    Raises DatabaseMigrationError, with advice, when the schema does not have the required version
    and may not be created.
    """
    conf = config.from_paste(global_conf, local_conf)
    db = engine.from_conf(conf)
    migration.prepare(conf, db)
    health.require(health.Need(health.DATABASE, db.check))
    metrics.begin(metrics.DATABASE_ERRORS, engine.FAILURES)
    metrics.sample(db.look)
    metrics.sample(lambda: _look_at_queue(db), _QUEUE_PAUSE)
    return RegistryAPI(conf, db)

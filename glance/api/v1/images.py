"""The images resource: list, show, create, update, delete.

Each handler first checks what it can check without the registry, then what it can check without
the data; only then does it change anything.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from glance import api
from glance.api import (
    caching,
    conversions,
    copies,
    deletion,
    describing,
    download,
    inspection,
    lookup,
    repeating,
    serving,
    sources,
    upload,
)
from glance.api.v1 import image_requests
from glance.api.v1.image_requests import ImageRequest
from glance.common import config, exception, httperror
from glance.http import conditions, latin1, openapi, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import described, fields, listing, types
from glance.image import headers as image_headers
from glance.registry import link, unfinished
from glance.store import base

#: The job that converts another image into this one.
CONVERSION_HEADER = "x-glance-api-conversion"
#: The id of the image in version 2, for those who use both.
UUID_HEADER = "X-Openstack-Image-Uuid"
#: Parameters that the registry client takes by name; all others are filters.
PAGE_PARAMETERS = ("limit", "marker", "sort_key", "sort_dir")

_LIST_PARAMETERS = openapi.query({**listing.PARAMETERS, "properties": listing.PROPERTIES})
_UUID_HEADERS: Mapping[str, openapi.Schema] = {
    UUID_HEADER: {**openapi.TEXT, "description": "The id of the image in version 2."}
}
_IMAGE_HEADERS: Mapping[str, openapi.Schema] = {
    **described.response_headers(),
    f"{image_headers.PROPERTY_PREFIX}*": {
        **openapi.TEXT,
        "description": "Custom properties: a header for each, with its name for the asterisk.",
    },
    **_UUID_HEADERS,
}
_MADE_HEADERS: Mapping[str, openapi.Schema] = {
    **describing.location_header("The URL of the image."),
    **_UUID_HEADERS,
    CONVERSION_HEADER: {
        **openapi.TEXT,
        "format": "uuid",
        "description": "The id of the conversion that will fill the image.",
    },
}
_FILL_ERRORS = (*describing.UPLOAD_ERRORS, exception.Gone, exception.NotFound)


class ImagesController:
    """Handlers of `/images`, `/images/{id}`, and `/images/{id}/file`, which is only read."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf: config.Conf = service.conf
        self.registry = service.registry
        self.sources = sources.Sources(service)
        self.copies = copies.Copies(service.conf)
        self.conversions = conversions.Conversions(service)

    # -- reading -----------------------------------------------------------------------------

    @openapi.operation(
        "list_images",
        parameters=_LIST_PARAMETERS,
        responses={200: openapi.json_of("BriefImages", "A page of the images.")},
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /images: a page of images in brief."""
        return self._list(request, detail=False)

    @openapi.operation(
        "list_images_in_detail",
        parameters=_LIST_PARAMETERS,
        responses={200: openapi.json_of("DetailedImages", "A page of the images.")},
    )
    def detail(self, request: CallerRequest) -> wsgi.Response:
        """GET /images/detail: a page of images in full, without locations for any caller."""
        return self._list(request, detail=True)

    def _list(self, request: CallerRequest, detail: bool) -> wsgi.Response:
        arguments = _list_arguments(request)
        if "marker" in arguments:
            found = lookup.marker(self.registry, request.context, arguments["marker"])
            arguments["marker"] = found
        document = self.registry.get_public_images(request.context, detail=detail, **arguments)
        return wsgi.Response(200, [("Content-Type", "application/json")], document)

    @openapi.operation(
        "show_metadata",
        parameters=describing.IF_CHANGED,
        responses=describing.head(_IMAGE_HEADERS),
        errors=(exception.PreconditionFailed,),
    )
    def meta(self, request: CallerRequest, id: str) -> wsgi.Response:
        """HEAD /images/{id}: the metadata of an image in any status; no store is contacted."""
        image = self._image(request, id)
        headers = self._metadata(request.context, image)
        return serving.head_response(self.service, request, image, headers)

    @openapi.operation(
        "download_image",
        parameters=(*describing.IF_CHANGED, *describing.RANGES),
        responses=describing.data(_IMAGE_HEADERS),
        errors=describing.DATA_ERRORS,
    )
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}: metadata and data of an image with data, whole or one range."""
        image = self._image(request, id)
        if image["status"] not in download.WITH_DATA:
            raise exception.NotFound(
                f"Image {image['id']} is {image['status']} and has no data to download"
            )
        headers = self._metadata(request.context, image)
        return serving.data_response(self.service, request, image, headers)

    def _image(self, request: CallerRequest, id: str) -> types.ImageRecord:
        return lookup.image(self.registry, request.context, id)

    def _metadata(
        self, context: RequestContext, image: types.ImageRecord
    ) -> list[tuple[str, str]]:
        headers = image_headers.image_headers(image, self.service.shown_location(context, image))
        headers.extend(_identifying(image))
        return headers

    # -- creating ----------------------------------------------------------------------------

    @openapi.operation(
        "create_image",
        parameters=(*image_requests.SET_HEADERS, *image_requests.CONVERT_FROM),
        body=image_requests.DATA,
        responses={
            201: openapi.json_of(
                "ImageResponse", "The image as far as it has come.", _MADE_HEADERS
            ),
            200: openapi.json_of(
                "ImageResponse", "The image of a conversion that has begun already.", _MADE_HEADERS
            ),
        },
        errors=(*_FILL_ERRORS, exception.ImageDeleted, exception.TooManyRequests),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /images: upload, register a location, copy or convert, or only reserve."""
        context = request.context
        context.require_write()
        convert_from = request.single_header(image_requests.CONVERT_FROM_HEADER)
        if convert_from is not None:
            return self._convert(request, convert_from)
        image_request = ImageRequest.of(request, self.conf.glanceclient_encoding)
        target = self._target(image_request)
        values = {
            **image_request.meta,
            "status": "queued",
            "size": image_request.meta.get("size") or 0,
        }
        self._check_policy(context, image_request)
        self._check_fill(request, image_request, values)
        if image_request.location:
            values.update(
                self.sources.registration(
                    context, image_request.location, image_request.meta.get("size")
                )
            )
        if image_request.copy_from:
            self.sources.check_registerable(context, image_request.copy_from)
        creation = link.OnceCall()
        owner = values.get("owner") if context.is_admin and "owner" in values else context.owner
        with contextlib.ExitStack() as held:
            copy = held.enter_context(self._place(image_request, owner))
            kept = None
            if target is not None:
                note = unfinished.Note(creation.attempt)
                kept = held.enter_context(self.service.unfinished.keep(note))
            image = repeating.create(
                self.service,
                context,
                creation,
                functools.partial(self.registry.add_image_metadata, context, values),
            )
            request.environ[httperror.RECORDED] = image["id"]
            self.service.events.created(context, image)
            if image_request.location:
                self.service.events.activated(context, image)
            if target is not None:
                run = self._upload(context, image_request, image, target)
                run.beginning, run.is_new = link.OnceCall(creation.attempt), True
                run.kept = kept
                try:
                    image = self._fill(request, image_request, image, run, copy)
                finally:
                    if run.gone:
                        del request.environ[httperror.RECORDED]
        url = self.service.image_url(request, image["id"])
        return wsgi.json_response(
            {"image": self.service.shown(context, image)},
            status=201,
            headers=[("Location", url), *_identifying(image)],
        )

    def _convert(self, request: CallerRequest, convert_from: str) -> wsgi.Response:
        """Have the image that a header names converted into a new one, which is queued."""
        context = request.context
        self.conversions.check_caller(context)
        image_request = ImageRequest.of(request, self.conf.glanceclient_encoding)
        if image_request.fills():
            raise exception.Invalid(
                f"The data comes from the image in {image_requests.CONVERT_FROM_HEADER}: send no "
                "body, location or copy-from source with it"
            )
        values = image_requests.conversion_values(image_request, context)
        source = latin1.decode(convert_from, "header value").strip()
        accepted = self.conversions.start(request, {"source_image_id": source, **values})
        image = accepted.image
        headers = [
            ("Location", self.service.image_url(request, image["id"])),
            (CONVERSION_HEADER, accepted.job["id"]),
            *_identifying(image),
        ]
        return wsgi.json_response(
            {"image": self.service.shown(context, image)},
            status=201 if accepted.is_new else 200,
            headers=headers,
        )

    def _place(
        self, image_request: ImageRequest, owner: str | None
    ) -> contextlib.AbstractContextManager[Callable[[upload.Upload, str], None] | None]:
        """Hold a place for a copy in the background, if the request wants one."""
        if not image_request.copy_from:
            return contextlib.nullcontext()
        return self.copies.place(owner)

    def _target(self, image_request: ImageRequest) -> base.Store | None:
        """Return the store for the data; refuse a read-only store."""
        if image_request.has_data or image_request.copy_from:
            return self.sources.target(image_request.store)
        self.sources.check_store(image_request.store)
        return None

    def _check_policy(
        self,
        context: RequestContext,
        image_request: ImageRequest,
        image: types.ImageRecord | None = None,
    ) -> None:
        """Raise Forbidden for what the policy does not permit; `image` is the unchanged record."""
        was_public = image is not None and image["is_public"]
        self.service.policy.require_all(
            context,
            publicize_image=bool(image_request.meta.get("is_public")) and not was_public,
            choose_id=image is None and image_request.meta.get("id") is not None,
            choose_uuid=image is None and image_request.meta.get("uuid") is not None,
            set_location=bool(image_request.location),
            copy_from=bool(image_request.copy_from),
        )

    def _check_fill(
        self, request: CallerRequest, image_request: ImageRequest, merged: Mapping[str, Any]
    ) -> None:
        """Refuse data for an image without formats, and data that is announced as too large."""
        if not image_request.fills():
            return
        self.sources.check_formats(merged)
        length = sources.body_length(request) if image_request.has_data else None
        self.sources.check_size(image_request.meta.get("size"), length)

    def _upload(
        self,
        context: RequestContext,
        image_request: ImageRequest,
        image: types.ImageRecord,
        target: base.Store,
    ) -> upload.Upload:
        return upload.Upload(
            self.service,
            context,
            image["id"],
            target,
            size=image_request.meta.get("size") or image.get("size") or None,
            checksum=image_request.meta.get("checksum") or image.get("checksum"),
            algorithm=self.conf.hashing_algorithm if self.conf.hash_v1_uploads else "",
            disk_format=inspection.declared_format({**image, **image_request.meta}),
        )

    def _fill(
        self,
        request: CallerRequest,
        image_request: ImageRequest,
        image: types.ImageRecord,
        run: upload.Upload,
        copy: Callable[[upload.Upload, str], None] | None,
    ) -> types.ImageRecord:
        """Fill a queued image with data: at once from the body, or with `copy` in the background.

        Returns the record as far as it has come.
        """
        if image_request.copy_from:
            assert copy is not None
            copy(run, image_request.copy_from)
            return image.copy()
        return run.receive(request.environ["wsgi.input"], sources.body_length(request))

    # -- changing ----------------------------------------------------------------------------

    @openapi.operation(
        "update_image",
        parameters=(
            *image_requests.SET_HEADERS,
            openapi.Parameter(
                image_requests.PURGE_HEADER,
                "header",
                {
                    **openapi.TEXT,
                    "description": "Whether custom properties that the request does not name are "
                    "removed; the default is true.",
                },
            ),
            *describing.IF_CHANGED,
        ),
        body=image_requests.DATA,
        responses={200: openapi.json_of("ImageResponse", "The image.", _UUID_HEADERS)},
        errors=(*_FILL_ERRORS, exception.PreconditionFailed),
    )
    def update(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}: change metadata, or fill a queued image with data."""
        context = request.context
        context.require_write()
        events = self.service.events
        # The upload itself handles a refused body.
        refused = events.reporting_failure(
            "image.update", context, fields.parse_id(id), only=exception.Invalid
        )
        with contextlib.ExitStack() as held:
            with refused:
                image_request = ImageRequest.of(request, self.conf.glanceclient_encoding)
                target = self._target(image_request)
                before = image = self._image(request, id)
                # SECURITY: a caller that may not change an image learns nothing of its state.
                if not context.is_image_mutable(image):
                    raise exception.ImageNotFound(image["id"])
                self._check_policy(context, image_request, image)
                values = self._changes(context, image_request, image)
                self._check_fill(request, image_request, {**image, **values})
                conditions.evaluate(request.environ, caching.record_validators(image))
                copy = held.enter_context(self._place(image_request, image["owner"]))
                if image_request.location:
                    declared = image_request.meta.get("size") or image["size"] or None
                    values.update(
                        self.sources.registration(context, image_request.location, declared)
                    )
                    image = self._update(
                        context, image, values, image_request.purge, from_state="queued"
                    )
                    events.activated(context, image)
                elif image_request.copy_from:
                    self.sources.check_registerable(context, image_request.copy_from)
                    image = self._update(context, image, values, purge=False, from_state="queued")
                elif not image_request.has_data:
                    image = self._update(context, image, values, image_request.purge)
                    serving.forget_copy(request, before, image)
            if target is not None:
                run = self._upload(context, image_request, image, target)
                if image_request.has_data:
                    run.values = values
                image = self._fill(request, image_request, image, run, copy)
        events.updated(context, before, image)
        return wsgi.json_response(
            {"image": self.service.shown(context, image)}, headers=_identifying(image)
        )

    def _update(
        self,
        context: RequestContext,
        image: types.ImageRecord,
        values: Mapping[str, Any],
        purge: bool,
        from_state: str | None = None,
    ) -> types.ImageRecord:
        if from_state is None:
            return self.registry.update_image_metadata(context, image["id"], values, purge)
        call = link.OnceCall()
        return call.make(
            lambda: self.registry.update_image_metadata(
                context, image["id"], values, purge, from_state, call.attempt
            ),
            upload.ACTIVATION_BACKOFF,
        )

    def _changes(
        self, context: RequestContext, image_request: ImageRequest, image: types.ImageRecord
    ) -> dict[str, Any]:
        """Return the attributes to change; refuse those that only the service may set."""
        values = dict(image_request.meta)
        stored: Mapping[str, object] = image
        for name, what in (("id", "id"), ("uuid", "id"), ("status", "status")):
            requested = values.pop(name, None)
            current = fields.v1_status(image["status"]) if name == "status" else stored.get(name)
            if requested is not None and requested != current:
                raise exception.Forbidden(f"The {what} of an image cannot be changed")
        queued = image["status"] == "queued"
        for name in ("size", "checksum"):
            if name not in values or queued:
                continue
            if values[name] == stored[name]:
                del values[name]
            elif not context.is_admin:
                raise exception.Forbidden(f"The {name} of an image with data cannot be changed")
        if image_request.fills() and not queued:
            if image_request.location:
                raise exception.Invalid(
                    "The location can only be set while an image is queued; "
                    f"image {image['id']} is {image['status']}"
                )
            raise exception.Conflict(
                f"Unable to upload image data to an image which is {image['status']}; "
                "create a new image"
            )
        return values

    # -- deleting ----------------------------------------------------------------------------

    @openapi.operation(
        "delete_image",
        parameters=describing.IF_CHANGED,
        responses={200: openapi.nothing("The image is deleted.")},
        errors=(exception.Conflict, exception.PreconditionFailed),
    )
    def delete(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /images/{id}: delete an image; its data may be removed later."""
        context = request.context
        context.require_write()
        image = self._image(request, id)
        any_owner = self.service.policy.allows("delete_any_image", context)
        if not context.is_image_deletable(image, any_owner):
            raise exception.ImageNotFound(image["id"])
        conditions.evaluate(request.environ, caching.record_validators(image))
        deletion.delete(self.service, context, image)
        serving.forget_copy(request, image)
        return wsgi.Response(200)

    # -- restoring ---------------------------------------------------------------------------

    @openapi.operation(
        "restore_image",
        responses={200: openapi.json_of("ImageResponse", "The image.", _UUID_HEADERS)},
        errors=(exception.Conflict, exception.Gone),
    )
    def restore(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/restore: make a deleted image active again, with its data.

        Raises ImageNotFound if there never was such an image or its record was purged, Conflict if
        it is not deleted, or its data is incomplete or being removed now, Gone if its data has
        been removed (RFC 9110 §15.5.11), and BackendUnavailable if the store cannot tell.
        """
        context = request.context
        context.require_write()
        self.service.policy.require("restore_image", context)
        named = fields.parse_uuid(id) or fields.path_id(id)
        before = self.registry.get_restorable_image(context, named)
        self._check_restorable(before)
        image = self.registry.restore_image(context, before["id"])
        self.service.events.updated(context, before, image)
        return wsgi.json_response(
            {"image": self.service.shown(context, image)}, headers=_identifying(image)
        )

    def _check_restorable(self, image: types.ImageRecord) -> None:
        """Raise Conflict or Gone unless an image is deleted and all of its data is still there."""
        number, location = image["id"], image["location"]
        if not image["deleted"]:
            raise exception.Conflict(f"Image {number} is {image['status']}, and not deleted")
        gone = f"The data of image {number} has been removed, so that it cannot be restored"
        if image["status"] != "pending_delete" or not location:
            raise exception.Gone(gone)
        try:
            size = self.sources.fetch_size(location)
        except exception.StoreObjectNotFound as err:
            raise exception.Gone(gone) from err
        except exception.UnknownScheme as err:
            raise exception.Conflict(
                f"The store with the data of image {number} is not enabled on this server"
            ) from err
        # NOTE: an attempt to remove it that failed may have removed a part.
        if size is not None and image["size"] is not None and size != image["size"]:
            raise exception.Conflict(
                f"Image {number} had {image['size']} bytes, {size} of them are left"
            )


def _identifying(image: types.ImageRecord) -> list[tuple[str, str]]:
    """Return the header with the uuid of an image."""
    stored: Mapping[str, Any] = image
    # The registry of an earlier release sends none.
    uuid = stored.get("uuid")
    return [(UUID_HEADER, uuid)] if uuid else []


def _list_arguments(request: CallerRequest) -> dict[str, Any]:
    params = listing.forwardable(request.query())
    arguments: dict[str, Any] = {
        name: params.pop(name) for name in PAGE_PARAMETERS if name in params
    }
    return {"filters": params, **arguments}

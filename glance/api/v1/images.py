"""The images resource: list, show, create, update, delete.

Each handler first checks what it can check without the registry, then what it can check without
the data; only then does it change anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from glance import api, image_cache
from glance.api import caching, copies, deletion, download, recovery, upload
from glance.common import config, exception, hooks, httperror
from glance.http import conditions, latin1, trail, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import fields, listing, percent, types
from glance.registry import link, unfinished
from glance.store import base
from glance.streaming import body, tasks

LOG = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
PURGE_HEADER = "x-glance-registry-purge-props"
COPY_FROM_HEADER = "x-glance-api-copy-from"
#: Fields whose change invalidates a copy in the image cache.
CACHED_BY: Final = ("status", "size", "checksum", "is_public", "owner")
#: How long to wait for a store to return the size of a location that is being registered.
PROBE_SECONDS = 20
#: Parameters that the registry client takes by name; all others are filters.
PAGE_PARAMETERS = ("limit", "marker", "sort_key", "sort_dir")


@dataclasses.dataclass(slots=True)
class ImageRequest:
    """What a POST or PUT requests, read from its headers.

    `meta` holds the attributes to store. At most one source of data is set: `has_data`,
    `location` or `copy_from`. `store` is the name of the requested store, if any.
    """

    meta: dict[str, Any]
    has_data: bool
    location: str | None
    copy_from: str | None
    store: str | None
    purge: bool

    @classmethod
    def of(cls, request: CallerRequest, encoding: str) -> ImageRequest:
        """Read and check the headers of `request`.

        `encoding` is the option `glanceclient_encoding`. Raises Invalid for an impossible request,
        and UnsupportedCoding for data with a content coding.
        """
        request.check_representation()
        raw_copy_from = request.single_header(COPY_FROM_HEADER) or ""
        headers = request.raw_headers
        decode = percent.decoder(
            encoding,
            request.environ.get("HTTP_USER_AGENT", ""),
            [*fields.image_headers_of(headers), (COPY_FROM_HEADER, raw_copy_from)],
        )
        meta = fields.parse_headers(headers, decode, percent.decode_location)
        copy_from = latin1.decode(raw_copy_from, "header value")
        purge = (request.single_header(PURGE_HEADER) or "true").lower()
        if "store" in meta and not meta["store"]:
            raise exception.Invalid(
                "The header x-image-meta-store is empty; name a store, or omit the header"
            )
        image_request = cls(
            meta=meta,
            has_data=request.has_body(),
            location=meta.pop("location", None),
            copy_from=(percent.decode_location(copy_from) if decode else copy_from).strip()
            or None,
            store=meta.pop("store", None),
            purge=purge not in fields.FALSE_WORDS,
        )
        image_request._check_sources(request)
        return image_request

    def _check_sources(self, request: CallerRequest) -> None:
        if [self.has_data, bool(self.location), bool(self.copy_from)].count(True) > 1:
            raise exception.Invalid(
                "Give image data, a location or a copy-from source, but only one of them"
            )
        if not self.has_data:
            return
        content_type = request.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if content_type != OCTETS:
            raise exception.Invalid(
                f"Image data needs the header Content-Type: {OCTETS}, "
                f"not {content_type or 'an empty one'!r}"
            )

    def fills(self) -> bool:
        """Return whether this request provides data for the image."""
        return self.has_data or bool(self.location) or bool(self.copy_from)


class ImagesController:
    """Handlers of `/images`, `/images/{id}`, and `/images/{id}/file`, which is only read."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf: config.Conf = service.conf
        self.registry = service.registry
        self.copies = copies.Copies(service.conf)
        self.rules = caching.CacheRules(service.conf)

    # -- reading -----------------------------------------------------------------------------

    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /images: the brief list."""
        return self._list(request, detail=False)

    def detail(self, request: CallerRequest) -> wsgi.Response:
        """GET /images/detail: the full list, without locations for any caller."""
        return self._list(request, detail=True)

    def _list(self, request: CallerRequest, detail: bool) -> wsgi.Response:
        document = self.registry.get_public_images(
            request.context, detail=detail, **_list_arguments(request)
        )
        return wsgi.Response(200, [("Content-Type", "application/json")], document)

    def meta(self, request: CallerRequest, id: str) -> wsgi.Response:
        """HEAD /images/{id}: the metadata of an image in any status; no store is contacted."""
        image = self._image(request, id)
        validators = caching.validators(image)
        headers = self._metadata(request.context, image)
        headers.extend(self.rules.image_headers(image, validators))
        is_active = image["status"] == "active"
        is_foreign = is_active and download.is_foreign(self.service, image)
        # NOTE: of foreign data, only the place where it lies could tell.
        if not is_foreign:
            headers.append(_accept_ranges(download.serves_ranges(self.service, image)))
        if is_active and conditions.evaluate(request.environ, validators):
            return wsgi.Response(304, headers)
        headers.append(("Content-Type", OCTETS))
        size = download.known_size(image) if is_active else 0
        if size is not None:
            headers.append(("Content-Length", str(size)))
        if is_active:
            headers.extend(caching.file_headers(image))
        return wsgi.Response(200, headers)

    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}: metadata and data of an active image, whole or one range."""
        image = self._image(request, id)
        if image["status"] != "active":
            raise exception.NotFound(
                f"Image {image['id']} is {image['status']} and has no data to download"
            )
        headers = self._metadata(request.context, image)
        validators = caching.validators(image)
        if conditions.evaluate(request.environ, validators):
            headers.extend(self.rules.image_headers(image, validators))
            headers.append(_accept_ranges(download.serves_ranges(self.service, image)))
            return wsgi.Response(304, headers)
        if download.is_foreign(self.service, image):
            range_header = request.environ.get("HTTP_RANGE")
        else:
            range_header = conditions.range_of(request.environ, validators)
        cache = image_cache.of(request.environ)
        opened = download.open_image(
            self.service,
            image,
            range_header,
            cache,
            trail.of(request.environ),
            functools.partial(_range_counts, request.environ),
        )
        is_hit = opened.source == image_cache.HIT
        request.environ[image_cache.SERVED] = is_hit
        if isinstance(opened.body, image_cache.CachedBody):
            hooks.after_response(request.environ, opened.body.count_hit)
        hooks.on_failure(request.environ, functools.partial(self._lost, image))
        headers.append(("Content-Type", OCTETS))
        if cache is not None and cache.debug_header:
            headers.append(("Cache-Status", _cache_status(opened.source)))
        if opened.length is not None:
            headers.append(("Content-Length", str(opened.length)))
        headers.extend(self.rules.image_headers(image, validators, opened.etag))
        headers.append(_accept_ranges(opened.takes_ranges))
        headers.extend(caching.file_headers(image))
        self.service.events.sending(
            request.environ,
            request.context,
            image,
            opened.length,
            opened.content_range,
            from_cache=is_hit,
        )
        if opened.content_range is not None:
            headers.append(("Content-Range", opened.content_range))
            return wsgi.Response(206, headers, opened.body)
        return wsgi.Response(200, headers, opened.body)

    def _lost(self, image: types.ImageRecord, err: BaseException, sent: int) -> None:
        self.service.data_log.lost(image["id"], image["location"] or "", err, sent)

    def _image(self, request: CallerRequest, id: str) -> types.ImageRecord:
        return self.registry.get_image_metadata(request.context, fields.path_id(id))

    def _metadata(
        self, context: RequestContext, image: types.ImageRecord
    ) -> list[tuple[str, str]]:
        return fields.image_headers(image, self.service.shown_location(context, image))

    # -- creating ----------------------------------------------------------------------------

    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /images: upload, register a location, copy from a location, or only reserve."""
        context = request.context
        context.require_write()
        image_request = ImageRequest.of(request, self.conf.glanceclient_encoding)
        target = self._target(image_request)
        values = {
            **image_request.meta,
            "status": "queued",
            "size": image_request.meta.get("size") or 0,
        }
        self._check_policy(context, image_request)
        self._check_fill(image_request, values)
        self._check_size(request, image_request)
        if image_request.location:
            values.update(
                self._registration(context, image_request.location, image_request.meta.get("size"))
            )
        if image_request.copy_from:
            self.service.stores.check_registerable(
                image_request.copy_from, is_admin=context.is_admin
            )
        creation = link.OnceCall()
        owner = values.get("owner") if context.is_admin and "owner" in values else context.owner
        with contextlib.ExitStack() as held:
            copy = held.enter_context(self._place(image_request, owner))
            kept = None
            if target is not None:
                note = unfinished.Note(creation.attempt)
                kept = held.enter_context(self.service.unfinished.keep(note))
            image = self._create(context, values, creation)
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
            headers=[("Location", url)],
        )

    def _create(
        self, context: RequestContext, values: Mapping[str, Any], creation: link.OnceCall
    ) -> types.ImageRecord:
        """Make the record; what the registry may have made without a response is withdrawn."""
        try:
            return creation.make(
                lambda: self.registry.add_image_metadata(
                    context, values, creation.attempt, creation.undecided
                ),
                upload.ACTIVATION_BACKOFF,
            )
        except BaseException:
            if creation.undecided:
                recovery.withdraw_later(self.service, context, creation.attempt)
            raise

    def _place(
        self, image_request: ImageRequest, owner: str | None
    ) -> contextlib.AbstractContextManager[Callable[[upload.Upload, str], None] | None]:
        """Hold a place for a copy in the background, if the request wants one."""
        if not image_request.copy_from:
            return contextlib.nullcontext()
        return self.copies.place(owner)

    def _target(self, image_request: ImageRequest) -> base.Store | None:
        """Return the store for the data; refuse a read-only store."""
        stores = self.service.stores
        if not image_request.has_data and not image_request.copy_from:
            if image_request.store:
                _known_store(stores.for_scheme, image_request.store)
            return None
        if image_request.store:
            return _known_store(stores.writable, image_request.store)
        return stores.writable()

    def _check_policy(
        self,
        context: RequestContext,
        image_request: ImageRequest,
        image: types.ImageRecord | None = None,
    ) -> None:
        """Raise Forbidden for what the policy does not permit; `image` is the unchanged record."""
        rules = self.service.policy
        if image_request.meta.get("is_public") and not (image and image["is_public"]):
            rules.require("publicize_image", context)
        if image is None and image_request.meta.get("id") is not None:
            rules.require("choose_id", context)
        if image_request.location:
            rules.require("set_location", context)
        if image_request.copy_from:
            rules.require("copy_from", context)

    def _check_fill(self, image_request: ImageRequest, merged: Mapping[str, Any]) -> None:
        if not (image_request.fills() and self.conf.require_formats):
            return
        if not merged.get("disk_format") or not merged.get("container_format"):
            raise exception.Invalid(
                "This server requires a disk format and a container format with the data"
            )

    def _check_size(self, request: CallerRequest, image_request: ImageRequest) -> None:
        """Refuse data whose announced size exceeds the cap, before a byte of it is read."""
        announced = [image_request.meta.get("size") or 0]
        if image_request.has_data and "HTTP_TRANSFER_ENCODING" not in request.environ:
            announced.append(request.content_length or 0)
        if image_request.fills():
            body.check_cap(max(announced), self.conf.image_size_cap)

    def _registration(
        self, context: RequestContext, location: str, declared: int | None
    ) -> dict[str, Any]:
        """Return the values that make an image active with data at a registered location."""
        self.service.stores.check_registerable(location, is_admin=context.is_admin)
        probed = self._probe(location)
        body.check_cap(probed or 0, self.conf.image_size_cap)
        if declared and probed is not None and probed != declared:
            raise exception.Conflict(
                f"The location has {probed} bytes, but {declared} were declared"
            )
        return {
            "status": "active",
            "location": location,
            "size": declared or probed or 0,
        }

    def _fetch_size(self, location: str) -> int | None:
        """Return the size of a location as `Stores.get_size`, within PROBE_SECONDS."""
        found: list[int | exception.StoreError | None] = []

        def request_size() -> None:
            try:
                found.append(self.service.stores.get_size(location))
            except exception.StoreError as err:
                found.append(err)

        # NOTE: in the background, because requests to an unavailable store are repeated.
        tasks.spawn(request_size).join(PROBE_SECONDS)
        late = exception.BackendUnavailable().of(self.service.stores.for_uri(location).name)
        size = found[0] if found else late
        if isinstance(size, exception.StoreError):
            raise size
        return size

    def _probe(self, location: str) -> int | None:
        size, cause = None, "its server does not report it"
        try:
            size = self._fetch_size(location)
        except exception.NotFound as err:
            if self.conf.strict_locations:
                raise
            cause = exception.described(err)
        except exception.LocationLoop as err:
            raise exception.Invalid(
                "The location leads to an image that leads back to itself; register another one"
            ) from err
        except exception.StoreError as err:
            if self.conf.strict_locations:
                raise exception.Invalid(
                    "The size of the data at the location cannot be determined"
                ) from err
            cause = exception.described(err)
        if size is None:
            if self.conf.strict_locations:
                raise exception.Invalid(
                    "The size of the data at the location cannot be determined"
                )
            LOG.warning(
                "The size of the data at a location to register cannot be determined; the "
                "declared one, or 0, is recorded: %s",
                cause,
            )
        return size

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
        chunked = "HTTP_TRANSFER_ENCODING" in request.environ
        length = None if chunked else request.content_length
        return run.receive(request.environ["wsgi.input"], length)

    # -- changing ----------------------------------------------------------------------------

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
                self._check_fill(image_request, {**image, **values})
                self._check_size(request, image_request)
                conditions.evaluate(request.environ, caching.record_validators(image))
                copy = held.enter_context(self._place(image_request, image["owner"]))
                if image_request.location:
                    declared = image_request.meta.get("size") or image["size"] or None
                    values.update(self._registration(context, image_request.location, declared))
                    image = self._update(
                        context, image, values, image_request.purge, from_state="queued"
                    )
                    events.activated(context, image)
                elif image_request.copy_from:
                    self.service.stores.check_registerable(
                        image_request.copy_from, is_admin=context.is_admin
                    )
                    image = self._update(context, image, values, purge=False, from_state="queued")
                elif not image_request.has_data:
                    image = self._update(context, image, values, image_request.purge)
                    self._forget_copy(request, before, image)
            if target is not None:
                run = self._upload(context, image_request, image, target)
                if image_request.has_data:
                    run.values = values
                image = self._fill(request, image_request, image, run, copy)
        events.updated(context, before, image)
        return wsgi.json_response({"image": self.service.shown(context, image)})

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

    @staticmethod
    def _forget_copy(
        request: CallerRequest, before: types.ImageRecord, after: types.ImageRecord | None = None
    ) -> None:
        """Delete the cached copy of an image that was deleted, or whose fields changed."""
        cache = image_cache.of(request.environ)
        if cache is None or before["status"] != "active":
            return
        if after is None or any(before[name] != after[name] for name in CACHED_BY):
            cache.invalidate(before["id"])

    def _changes(
        self, context: RequestContext, image_request: ImageRequest, image: types.ImageRecord
    ) -> dict[str, Any]:
        """Return the attributes to change; refuse those that only the service may set."""
        values = dict(image_request.meta)
        stored: Mapping[str, object] = image
        for name in ("id", "status"):
            requested = values.pop(name, None)
            if requested is not None and requested != stored[name]:
                raise exception.Forbidden(f"The {name} of an image cannot be changed")
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

    def delete(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /images/{id}."""
        context = request.context
        context.require_write()
        image = self._image(request, id)
        any_owner = self.service.policy.allows("delete_any_image", context)
        if not context.is_image_deletable(image, any_owner):
            raise exception.ImageNotFound(image["id"])
        conditions.evaluate(request.environ, caching.record_validators(image))
        deletion.delete(self.service, context, image)
        self._forget_copy(request, image)
        return wsgi.Response(200)

    # -- restoring ---------------------------------------------------------------------------

    def restore(self, request: CallerRequest, id: str) -> wsgi.Response:
        """POST /images/{id}/restore: make a deleted image active again, with its data.

        Raises ImageNotFound if there never was such an image or its record was purged, Conflict if
        it is not deleted, or its data is incomplete or being removed now, Gone if its data has
        been removed (RFC 9110 §15.5.11), and BackendUnavailable if the store cannot tell.
        """
        context = request.context
        context.require_write()
        self.service.policy.require("restore_image", context)
        before = self.registry.get_restorable_image(context, fields.path_id(id))
        self._check_restorable(before)
        image = self.registry.restore_image(context, before["id"])
        self.service.events.updated(context, before, image)
        return wsgi.json_response({"image": self.service.shown(context, image)})

    def _check_restorable(self, image: types.ImageRecord) -> None:
        """Raise Conflict or Gone unless an image is deleted and all of its data is still there."""
        number, location = image["id"], image["location"]
        if not image["deleted"]:
            raise exception.Conflict(f"Image {number} is {image['status']}, and not deleted")
        gone = f"The data of image {number} has been removed, so that it cannot be restored"
        if image["status"] != "pending_delete" or not location:
            raise exception.Gone(gone)
        try:
            size = self._fetch_size(location)
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


def _known_store(find: Callable[[str], base.Store], name: str) -> base.Store:
    """Return `find(name)`; raise Invalid for a store that is unknown or read-only."""
    try:
        return find(name)
    except exception.UnknownScheme as err:
        raise exception.Invalid(f"Store {name!r} is not available on this server") from err
    except exception.StoreError as err:
        raise exception.Invalid(f"Store {name!r} does not accept new images") from err


def _list_arguments(request: CallerRequest) -> dict[str, Any]:
    params = listing.forwardable(request.query())
    arguments: dict[str, Any] = {
        name: params.pop(name) for name in PAGE_PARAMETERS if name in params
    }
    return {"filters": params, **arguments}


def _cache_status(source: str | None) -> str:
    """Return where an image came from, in the terms of RFC 9211."""
    if source == image_cache.HIT:
        return "glance; hit"
    if source == image_cache.MISS:
        return "glance; fwd=miss; stored"
    if source == image_cache.FOLLOW:
        return "glance; fwd=miss; collapsed"
    return f'glance; fwd=bypass; detail="{source}"'


def _range_counts(environ: Mapping[str, Any], tag: str) -> bool:
    return conditions.range_of(environ, conditions.Validators(tag)) is not None


def _accept_ranges(can: bool) -> tuple[str, str]:
    return "Accept-Ranges", "bytes" if can else "none"

"""The images resource: list, show, create, update, delete.

Each handler checks first whatever can be checked without the registry, then what can be checked
without the bytes; only then is something changed.
"""

from __future__ import annotations

import dataclasses
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from glance import api, image_cache, registry
from glance.api import deletion, download, upload
from glance.common import config, exception, hooks
from glance.http import latin1, wsgi
from glance.identity.context import RequestContext
from glance.image import fields, listing
from glance.store import base
from glance.streaming import offload

LOG = logging.getLogger(__name__)

OCTETS = "application/octet-stream"
PURGE_HEADER = "HTTP_X_GLANCE_REGISTRY_PURGE_PROPS"
COPY_FROM_HEADER = "HTTP_X_GLANCE_API_COPY_FROM"
#: Fields whose change makes a copy in the image cache worthless.
CACHED_BY = ("status", "size", "checksum", "is_public", "owner")
#: Seconds for which a store is asked for the size of a location that is being registered.
PROBE_SECONDS = 20
#: Parameters that the registry client takes by name; all others are filters.
PAGE_PARAMETERS = ("limit", "marker", "sort_key", "sort_dir")


@dataclasses.dataclass(slots=True)
class ImageRequest:
    """What a POST or PUT asks for, taken from its headers.

    `meta` holds the attributes to store. At most one source of data is set: `has_data`,
    `location` or `copy_from`. `store` is the name of the wanted store, if any.
    """

    meta: dict[str, Any]
    has_data: bool
    location: str | None
    copy_from: str | None
    store: str | None
    purge: bool

    @classmethod
    def of(cls, request: wsgi.Request) -> ImageRequest:
        """Read and check the headers of `request`; raise Invalid for what cannot be done."""
        decode = _decoder(request.environ.get("HTTP_USER_AGENT", ""))
        meta = fields.parse_headers(request.raw_headers, decode)
        copy_from = latin1.decode(request.environ.get(COPY_FROM_HEADER, ""), "header value")
        purge = request.environ.get(PURGE_HEADER, "true").strip().lower()
        if "store" in meta and not meta["store"]:
            raise exception.Invalid(
                "The header x-image-meta-store is empty; name a store, or omit the header"
            )
        image_request = cls(
            meta=meta,
            has_data=request.has_body(),
            location=meta.pop("location", None),
            copy_from=(decode(copy_from) if decode else copy_from).strip() or None,
            store=meta.pop("store", None),
            purge=purge not in fields.FALSE_WORDS,
        )
        image_request._check_sources(request)
        return image_request

    def _check_sources(self, request: wsgi.Request) -> None:
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
        """Return whether this request brings data to the image."""
        return self.has_data or bool(self.location) or bool(self.copy_from)


def _decoder(user_agent: str) -> Any:
    # WIRE: python-glanceclient percent-encodes every value; all other clients mean what they send.
    if not user_agent.startswith("python-glanceclient"):
        return None

    def decode(text: str) -> str:
        try:
            return urllib.parse.unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise exception.Invalid("A header value is not valid UTF-8") from None

    return decode


class ImagesController:
    """Handlers of `/images` and `/images/{id}`."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf: config.Conf = service.conf

    # -- reading -----------------------------------------------------------------------------

    def index(self, request: wsgi.Request) -> wsgi.Response:
        """GET /images: the brief list."""
        return self._list(request, detail=False)

    def detail(self, request: wsgi.Request) -> wsgi.Response:
        """GET /images/detail: the full list, without locations for everybody."""
        return self._list(request, detail=True)

    def _list(self, request: wsgi.Request, detail: bool) -> wsgi.Response:
        document = registry.get_public_images(
            self.conf, request.context, detail=detail, **_list_arguments(request)
        )
        return wsgi.Response(200, [("Content-Type", "application/json")], document)

    def meta(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """HEAD /images/{id}: the metadata of an image in any status; no store is asked."""
        image = self._image(request, id)
        if _matches(request.environ.get("HTTP_IF_NONE_MATCH"), image["checksum"]):
            return wsgi.Response(304, _etag(image))
        headers = self._metadata(request.context, image)
        headers.append(("Content-Type", OCTETS))
        if image["status"] == "active" and image["size"]:
            headers.append(("Content-Length", str(image["size"])))
        if download.serves_ranges(self.service, image):
            headers.append(("Accept-Ranges", "bytes"))
        return wsgi.Response(200, headers)

    def show(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """GET /images/{id}: metadata and data of an active image, whole or one range."""
        image = self._image(request, id)
        if image["status"] != "active":
            raise exception.NotFound(
                f"Image {image['id']} is {image['status']} and has no data to download"
            )
        headers = self._metadata(request.context, image)
        if _matches(request.environ.get("HTTP_IF_NONE_MATCH"), image["checksum"]):
            return wsgi.Response(304, _etag(image))
        wanted = request.environ.get("HTTP_RANGE")
        condition = request.environ.get("HTTP_IF_RANGE")
        if condition is not None and not _matches(condition, image["checksum"]):
            wanted = None
        cache = image_cache.of(request.environ)
        opened = download.open_image(self.service, image, wanted, cache)
        is_hit = opened.source == image_cache.HIT
        request.environ[image_cache.SERVED] = is_hit
        if isinstance(opened.body, image_cache.CachedBody):
            hooks.after_answer(request.environ, opened.body.answered)
        headers.append(("Content-Type", OCTETS))
        if cache is not None and cache.debug_header:
            headers.append(("Cache-Status", _cache_status(opened.source)))
        if opened.length is not None:
            headers.append(("Content-Length", str(opened.length)))
        if download.serves_ranges(self.service, image):
            headers.append(("Accept-Ranges", "bytes"))
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

    def _image(self, request: wsgi.Request, id: str) -> dict[str, Any]:
        return registry.get_image_metadata(self.conf, request.context, fields.path_id(id))

    def _metadata(
        self, context: RequestContext, image: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        headers = fields.image_headers(image, self.service.shown_location(context, image))
        headers.extend(_etag(image))
        return headers

    # -- creating ----------------------------------------------------------------------------

    def create(self, request: wsgi.Request) -> wsgi.Response:
        """POST /images: upload, register a location, copy from a location, or only reserve."""
        context = request.context
        context.require_write()
        image_request = ImageRequest.of(request)
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
        image = registry.add_image_metadata(self.conf, context, values)
        self.service.events.created(context, image)
        if image_request.location:
            self.service.events.activated(context, image)
        if target is not None:
            image = self._fill(request, image_request, image, target)
        url = self.service.image_url(request.host_url, image["id"])
        return wsgi.json_response(
            {"image": self.service.shown(context, image)},
            status=201,
            headers=[("Location", url), *_etag(image)],
        )

    def _target(self, image_request: ImageRequest) -> base.Store | None:
        """Return the store that the data goes to; refuse a store that takes none."""
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
        image: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise Forbidden for what the operator lets others do only; `image` is as it was."""
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

    def _check_size(self, request: wsgi.Request, image_request: ImageRequest) -> None:
        """Refuse data whose announced size is above the cap, before a byte of it is read."""
        cap = self.conf.image_size_cap
        announced = [image_request.meta.get("size") or 0]
        if image_request.has_data and "HTTP_TRANSFER_ENCODING" not in request.environ:
            announced.append(request.content_length or 0)
        if cap and image_request.fills() and max(announced) > cap:
            raise exception.ImageSizeLimitExceeded(f"An image may have at most {cap} bytes")

    def _registration(
        self, context: RequestContext, location: str, declared: int | None
    ) -> dict[str, Any]:
        """Return the values that make an image active with data that lies elsewhere."""
        self.service.stores.check_registerable(location, is_admin=context.is_admin)
        probed = self._probe(location)
        if declared and probed is not None and probed != declared:
            raise exception.Conflict(
                f"The location has {probed} bytes, but {declared} were declared"
            )
        return {
            "status": "active",
            "location": location,
            "size": declared or probed or 0,
        }

    def _ask_size(self, location: str) -> int | None:
        """Return the size of a location as `Stores.get_size`, within PROBE_SECONDS."""
        found: list[int | exception.StoreError | None] = []

        def ask() -> None:
            try:
                found.append(self.service.stores.get_size(location))
            except exception.StoreError as err:
                found.append(err)

        # NOTE: in the background, because a store that is away may be asked again and again.
        offload.spawn(ask).join(PROBE_SECONDS)
        size = found[0] if found else exception.BackendUnavailable()
        if isinstance(size, exception.StoreError):
            raise size
        return size

    def _probe(self, location: str) -> int | None:
        try:
            size = self._ask_size(location)
        except exception.NotFound:
            if self.conf.strict_locations:
                raise
            size = None
        except exception.StoreError as err:
            if self.conf.strict_locations:
                raise exception.Invalid(
                    "The size of the data at the location cannot be determined"
                ) from err
            size = None
        if size is None:
            if self.conf.strict_locations:
                raise exception.Invalid(
                    "The size of the data at the location cannot be determined"
                )
            LOG.warning(
                "The size of the data at a registered location cannot be determined; 0 is recorded"
            )
        return size

    def _fill(
        self,
        request: wsgi.Request,
        image_request: ImageRequest,
        image: Mapping[str, Any],
        target: base.Store,
        values: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Bring data to a queued image: at once from the body, or in the background."""
        run = upload.Upload(
            self.service,
            request.context,
            image["id"],
            target,
            size=image_request.meta.get("size") or image.get("size") or None,
            checksum=image_request.meta.get("checksum") or image.get("checksum"),
            values=values or {},
        )
        if image_request.copy_from:
            upload.copy_in_background(run, image_request.copy_from)
            return dict(image)
        chunked = "HTTP_TRANSFER_ENCODING" in request.environ
        length = None if chunked else request.content_length
        return run.receive(request.environ["wsgi.input"], length)

    # -- changing ----------------------------------------------------------------------------

    def update(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """PUT /images/{id}: change metadata, or bring data to a queued image."""
        context = request.context
        context.require_write()
        events = self.service.events
        # A body that is refused is a matter of the upload's own.
        refused = events.reporting_failure(
            "image.update", context, fields.parse_id(id), only=exception.Invalid
        )
        with refused:
            image_request = ImageRequest.of(request)
            target = self._target(image_request)
            before = image = self._image(request, id)
            # SECURITY: who may not change an image learns nothing of its state.
            if not context.is_image_mutable(image):
                raise exception.ImageNotFound(image["id"])
            self._check_policy(context, image_request, image)
            values = self._changes(context, image_request, image)
            self._check_fill(image_request, {**image, **values})
            self._check_size(request, image_request)
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
            stored_with_it = values if image_request.has_data else None
            image = self._fill(request, image_request, image, target, stored_with_it)
        events.updated(context, before, image)
        return wsgi.json_response(
            {"image": self.service.shown(context, image)}, headers=_etag(image)
        )

    def _update(
        self,
        context: RequestContext,
        image: Mapping[str, Any],
        values: Mapping[str, Any],
        purge: bool,
        from_state: str | None = None,
    ) -> dict[str, Any]:
        return registry.update_image_metadata(
            self.conf,
            context,
            image["id"],
            values,
            purge_props=purge,
            from_state=from_state,
        )

    @staticmethod
    def _forget_copy(
        request: wsgi.Request, before: Mapping[str, Any], after: Mapping[str, Any] | None = None
    ) -> None:
        """Drop the cache's copy of an image that was deleted, or changed in what it depends on."""
        cache = image_cache.of(request.environ)
        if cache is None or before["status"] != "active":
            return
        if after is None or any(before[name] != after[name] for name in CACHED_BY):
            cache.invalidate(before["id"])

    def _changes(
        self, context: RequestContext, image_request: ImageRequest, image: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the attributes to change; refuse those that only the service may set."""
        values = dict(image_request.meta)
        for name in ("id", "status"):
            wanted = values.pop(name, None)
            if wanted is not None and wanted != image[name]:
                raise exception.Forbidden(f"The {name} of an image cannot be changed")
        queued = image["status"] == "queued"
        for name in ("size", "checksum"):
            if name not in values or queued:
                continue
            if values[name] == image[name]:
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

    def delete(self, request: wsgi.Request, id: str) -> wsgi.Response:
        """DELETE /images/{id}."""
        context = request.context
        context.require_write()
        image = self._image(request, id)
        any_owner = self.service.policy.allows("delete_any_image", context)
        if not context.is_image_deletable(image, any_owner):
            raise exception.ImageNotFound(image["id"])
        deletion.delete(self.service, context, image)
        self._forget_copy(request, image)
        return wsgi.Response(200)


def _known_store(find: Callable[[str], base.Store], name: str) -> base.Store:
    """Return `find(name)`; a store that is unknown or takes no data is the caller's mistake."""
    try:
        return find(name)
    except exception.UnknownScheme as err:
        raise exception.Invalid(f"Store {name!r} is not available on this server") from err
    except exception.StoreError as err:
        raise exception.Invalid(f"Store {name!r} does not accept new images") from err


def _list_arguments(request: wsgi.Request) -> dict[str, Any]:
    params = listing.forwardable(request.query())
    arguments: dict[str, Any] = {
        name: params.pop(name) for name in PAGE_PARAMETERS if name in params
    }
    return {"filters": params, **arguments}


def _cache_status(source: str | None) -> str:
    """Return where an image came from in the words of RFC 9211."""
    if source == image_cache.HIT:
        return "glance; hit"
    if source == image_cache.MISS:
        return "glance; fwd=miss; stored"
    if source == image_cache.FOLLOW:
        return "glance; fwd=miss; collapsed"
    return f'glance; fwd=bypass; detail="{source}"'


def _etag(image: Mapping[str, Any]) -> list[tuple[str, str]]:
    # WIRE: the checksum unquoted, as clients compare it raw; no ETag rather than an empty one.
    checksum = image.get("checksum")
    return [("ETag", checksum)] if checksum else []


def _matches(condition: str | None, checksum: str | None) -> bool:
    """Return whether If-None-Match or If-Range names the checksum, quoted or not, weak or not."""
    if condition is None or not checksum:
        return False
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in condition.split(","))
    return any(tag in ("*", checksum) for tag in tags)

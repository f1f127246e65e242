"""The data of an image: `/images/{id}/file`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from glance import api
from glance.api import describing, download, inspection, serving, sources, upload
from glance.api.v2.images import V1_ID_HEADER, V1_ID_HEADERS
from glance.common import exception, numbers
from glance.http import latin1, openapi, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import fields, types
from glance.store import base

#: Header with the size of the data in bytes, which may be sent before data of unknown length.
SIZE_HEADER: Final = "x-openstack-image-size"
#: Header with the name of the store for the data.
STORE_HEADER: Final = "x-image-meta-store"

_NO_DATA: Final = {204: openapi.nothing("The image has no data.")}
_MD5: Final[Mapping[str, openapi.Schema]] = {
    "Content-MD5": {**openapi.TEXT, "description": "MD5 of all of the data, in hex."}
}


class DataResource:
    """Handlers of `/images/{id}/file`."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf = service.conf
        self.registry = service.registry
        self.sources = sources.Sources(service)

    # -- downloading -----------------------------------------------------------------------------

    @openapi.operation(
        "download_image",
        parameters=(*describing.IF_CHANGED, *describing.RANGES),
        responses={**describing.data({**V1_ID_HEADERS, **_MD5}), **_NO_DATA},
        errors=describing.DATA_ERRORS,
    )
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET /images/{id}/file: the data, whole or one range; 204 for an image without data.

        Raises NotFound for an image that the caller cannot see, and what
        `serving.data_response` raises.
        """
        image = self._visible(request, id)
        if image["status"] not in download.WITH_DATA:
            return wsgi.Response(204)
        response = serving.data_response(self.service, request, image, _v1_id(image))
        if response.status == 200:
            # NOTE: of a part it would be the MD5 of other bytes than those that are sent.
            response.headers.extend(_content_md5(image))
        return response

    @openapi.operation(
        "show_data_headers",
        parameters=describing.IF_CHANGED,
        responses={**describing.head({**V1_ID_HEADERS, **_MD5}), **_NO_DATA},
        errors=(exception.PreconditionFailed,),
    )
    def meta(self, request: CallerRequest, id: str) -> wsgi.Response:
        """HEAD /images/{id}/file: the headers of the data; no store is contacted."""
        image = self._visible(request, id)
        if image["status"] not in download.WITH_DATA:
            return wsgi.Response(204)
        serving.check_download(self.service, request.context, image)
        headers = [*_v1_id(image), *_content_md5(image)]
        return serving.head_response(self.service, request, image, headers)

    def _visible(self, request: CallerRequest, id: str) -> types.FullRecord:
        return self.registry.get_record(request.context, fields.path_uuid(id))

    # -- uploading -------------------------------------------------------------------------------

    @openapi.operation(
        "upload_image",
        parameters=openapi.headers(
            {
                SIZE_HEADER: {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": fields.MAX_BIGINT,
                    "description": "The size of the data in bytes.",
                },
                STORE_HEADER: {**openapi.TEXT, "description": "The name of the store for it."},
            }
        ),
        body=openapi.Content({openapi.OCTETS: openapi.BINARY}, "The data.", required=False),
        responses={204: openapi.nothing("The image is active.")},
        errors=(*describing.UPLOAD_ERRORS, exception.UnsupportedMediaType, exception.Gone),
    )
    def upload(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PUT /images/{id}/file: make a queued image active with the data in the body.

        All that can be checked without the data is checked before any of it is read. Raises
        NotFound and Forbidden for an image that the caller cannot see or change,
        UnsupportedMediaType, Invalid, Conflict for an image that is not queued, LimitExceeded,
        Gone for a store that takes no data and for an image that was deleted meanwhile, and what
        `Upload.receive` raises. After any error the image is queued, and no data is left.
        """
        context = request.context
        context.require_write()
        image = self._visible(request, id)
        require_mutable(context, image)
        _check_media_type(request)
        request.check_representation()
        length = sources.body_length(request)
        size = _declared_size(request, length)
        store = latin1.decode(request.single_header(STORE_HEADER) or "", "header value") or None
        self.sources.check_store(store)
        _check_fillable(image)
        self.sources.check_size(size, length)
        run = upload.Upload(
            self.service,
            context,
            image["id"],
            self._target(store),
            size=size,
            disk_format=inspection.declared_format(image),
            algorithm=self.conf.hashing_algorithm,
            queued_size=image["size"] or 0,
        )
        with _refusing():
            run.receive(request.environ["wsgi.input"], length)
        return wsgi.Response(204)

    def _target(self, name: str | None) -> base.Store:
        """Return the store for the data. Raises Gone if it takes none."""
        try:
            return self.service.stores.writable(name)
        except (exception.StoreAddDisabled, exception.StorageWriteDenied) as err:
            raise exception.Gone(str(err)) from err


def require_mutable(context: RequestContext, image: types.FullRecord) -> None:
    """Raise Forbidden unless the caller may change an image that it can see."""
    if not context.is_image_mutable(image):
        raise exception.Forbidden("You are not allowed to change this image")


def _check_media_type(request: CallerRequest) -> None:
    found = sources.media_type(request)
    if found != sources.OCTETS:
        raise exception.UnsupportedMediaType(
            f"Image data needs the header Content-Type: {sources.OCTETS}, "
            f"not {found or 'an empty one'!r}"
        )


def _declared_size(request: CallerRequest, length: int | None) -> int | None:
    """Return the size that a header declares, None without it."""
    text = request.single_header(SIZE_HEADER)
    if text is None:
        return None
    size = numbers.whole(text, 19)
    if size is None or size > fields.MAX_BIGINT:
        raise exception.Invalid(f"The header {SIZE_HEADER} must be a whole number of bytes")
    if length is not None and length != size:
        raise exception.ImageSizeMismatch(
            f"The header {SIZE_HEADER} declares {size} bytes, but Content-Length {length}"
        )
    return size


def _check_fillable(image: types.FullRecord) -> None:
    """Refuse data for an image that lacks a format or is not queued."""
    if not image["disk_format"] or not image["container_format"]:
        raise exception.Invalid(
            "Image data needs a disk format and a container format: set both, and upload again"
        )
    if image["status"] != "queued":
        raise exception.Conflict(
            f"Image data can only be uploaded to a queued image; this one is {image['status']}"
        )


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Raise the errors of an upload as this version of the API reports them.

    A store that denies writing may have taken some of the data, so a client must not repeat the
    request by itself, as it does after a 503.
    """
    try:
        yield
    except exception.ImageDeleted as err:
        raise exception.Gone(str(err)) from err
    except (exception.StorageWriteDenied, exception.StoreForbidden) as err:
        raise exception.Forbidden(str(err)) from err


def _v1_id(image: types.FullRecord) -> list[tuple[str, str]]:
    return [(V1_ID_HEADER, str(image["id"]))]


def _content_md5(image: types.FullRecord) -> list[tuple[str, str]]:
    # WIRE: hex, not base64 as in RFC 1864 §2, because every client compares it with hex.
    checksum = image["checksum"]
    return [("Content-MD5", checksum)] if checksum else []

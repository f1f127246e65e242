"""The Python API of the image service: `from glance.client import Client`.

A `Client` uses Images API v1 of one glance-api, and asks version 2 for what only that knows of an
image. Importing it loads the standard library and
`glance` modules only, and patches nothing; it works in threads and in green threads.
`glance.image.fields` describes image attributes, `glance.common.exception` errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from glance.client import base as base_client
from glance.common import exception
from glance.http import ranges
from glance.http.client import connection
from glance.http.client import payload as payload_module
from glance.image import fields as image_fields
from glance.image import headers as image_headers
from glance.image import types

ImageBodyIterator = base_client.ImageBodyIterator
Progress = base_client.Progress

_OCTETS = {"content-type": "application/octet-stream"}
_JSON = {"content-type": "application/json"}
#: Where version 1 says which id an image has in version 2.
_UUID_HEADER = "x-openstack-image-uuid"
_V2 = "v2"
_NO_V2 = "The server does not serve version 2 of the Images API"
_INVALID = {"status": "invalid"}
_INCOMPLETE = {"status": "incomplete"}

Listed = TypeVar("Listed", types.BriefImage, types.DetailedImage)


class V1Client(base_client.BaseClient):
    """Images API v1 of one server.

    An image id is a number, or the UUID that version 2 shows. It may be an int, text, or a URI
    that ends in /images/ID, of which only the id is used; Invalid is raised, and nothing sent, for
    an id that is empty, holds a slash, or consists of dots. The id of a member may be any text
    that is not empty. Calls that return JSON keep its types; `get_image` and `get_image_meta` read
    headers and return the same types. Times are ISO 8601 text in UTC.

    Results have what version 1 of the API sends and no more, because programs of that time compare
    them whole, and send them back in updates. With `with_uuid=True` a result has a `uuid` besides,
    unless the server knows none.

    In addition to the errors of each method, all raise NotAuthorized (401), Forbidden (403),
    Invalid (400, as BadRequest), LimitExceeded (413), ServiceUnavailable (503), ServerError (500),
    UnexpectedStatus, and ClientConnectionError without a usable response.
    """

    DEFAULT_PORT = 9292
    DEFAULT_DOC_ROOT = "/v1"
    HEEDS_ENVIRONMENT = True

    @property
    def is_default_service(self) -> bool:
        """Whether the service is at the port and under the path of one that nobody moved."""
        root = (self.doc_root or "").rstrip("/")
        return (self.port, root) == (self.DEFAULT_PORT, self.DEFAULT_DOC_ROOT)

    # -- images ----------------------------------------------------------------------------------

    def image_uri(self, image_id: object) -> str:
        """Return the URI of an image of this server: scheme, host, port, path with its version.

        A port that is the default of the scheme is left out (RFC 3986 §6.2.3).
        """
        scheme, default = ("https", 443) if self.use_ssl else ("http", 80)
        place = connection.authority(self.host, self.port, default)
        root = (self.doc_root or "").rstrip("/")
        return f"{scheme}://{place}{root}/images/{base_client.segment(image_id)}"

    def get_images(self, **kwargs: Any) -> list[types.BriefImage]:
        """Return a page of images: id, name, size, formats, checksum and uri of each.

        Keywords: `filters` (mapping of attribute or property-NAME to value), `marker` (id that
        the page follows), `limit`, `sort_key`, `sort_dir` (asc, desc). Others are ignored.
        """
        images: list[types.BriefImage] = self._images("/images", kwargs)
        return [self._with_uri(image) for image in images]

    def get_images_detailed(self, **kwargs: Any) -> list[types.DetailedImage]:
        """Return a page of images with all attributes except the location; see `get_images`."""
        images: list[types.DetailedImage] = self._images("/images/detail", kwargs)
        return [self._with_uri(image) for image in images]

    def get_image(
        self,
        image_id: object,
        *,
        verify: bool = False,
        progress: Progress | None = None,
        start: int = 0,
        with_uuid: bool = False,
    ) -> tuple[types.DetailedImage, ImageBodyIterator]:
        """Return an image's attributes and its data in chunks.

        The caller iterates over the chunks to the end, or closes them. `verify` compares the MD5
        at the end (ChecksumMismatch). `progress(done, total)` is called after each chunk, in
        bytes. With `start` the data begins at that byte, which continues an interrupted transfer;
        only whole data can be verified. Raises NotFound if there is no such image, or it has no
        data yet.
        """
        if verify and start:
            raise ValueError("only the data from its first byte on can be verified")
        range_header = ranges.format_range(start)
        headers = {"range": range_header} if range_header else None
        response = self.do_request("GET", _image(image_id), headers=headers)
        content_range = ranges.parse_content_range(response.getheader("content-range"))
        if response.status == 206 and (content_range is None or content_range[0].offset != start):
            response.close()
            raise exception.ClientConnectionError(
                "The server sent another part of the image than it was asked for"
            )
        meta = _named(image_headers.client_meta(response.getheaders()), response, with_uuid)
        checksum = meta.get("checksum") if verify else None
        return meta, ImageBodyIterator(response, checksum, progress=progress, start=start)

    def get_image_meta(self, image_id: object, *, with_uuid: bool = False) -> types.DetailedImage:
        """Return an image's attributes, `properties` and `uri`. Raises NotFound without one."""
        path = _image(image_id)
        try:
            with self.do_request("HEAD", path) as response:
                meta = image_headers.client_meta(response.getheaders())
                return self._with_uri(_named(meta, response, with_uuid))
        except exception.NotFound as err:
            if err.body:
                raise
            # A response to HEAD has no body that could say it.
            missing = exception.ImageNotFound(base_client.image_reference(image_id))
            missing.status, missing.body = err.status, err.body
            raise missing from err

    def get_image_v2(self, image_id: object) -> dict[str, Any]:
        """Return an image as version 2 of the API shows it: one mapping, whose `id` is the UUID.

        It has `visibility`, `tags` (a list), `os_hidden`, `os_hash_algo` and `os_hash_value`
        besides the attributes of version 1, and its custom properties as further keys, each with
        text. Takes one request for a UUID, two for a number. Raises NotFound if there is no such
        image, and MultipleChoices if the server does not serve version 2.
        """
        reference = base_client.image_reference(image_id)
        uuid = image_fields.parse_uuid(reference)
        if uuid is None:
            uuid = self.get_image_meta(reference, with_uuid=True).get("uuid")
        if uuid is None:
            raise exception.MultipleChoices(_NO_V2)
        try:
            response = self.do_request("GET", f"/images/{uuid}", beside=_V2)
        except (exception.NotFound, exception.MultipleChoices) as err:
            # NOTE: without version negotiation, an unknown version is a 404, too.
            if isinstance(err, exception.NotFound) and self._serves_v2():
                raise
            unserved = exception.MultipleChoices(_NO_V2)
            unserved.status, unserved.body = err.status, err.body
            raise unserved from err
        found = base_client.read_json(response)
        if not isinstance(found, dict) or found.get("id") != uuid:
            raise base_client.unexpected("not the expected JSON")
        return found

    def add_image(
        self,
        image_meta: Mapping[str, Any] | None = None,
        image_data: base_client.Body | None = None,
        *,
        progress: Progress | None = None,
        with_uuid: bool = False,
    ) -> types.DetailedImage:
        """Register an image, upload its data if it is given, and return its attributes.

        `image_data` is bytes, text, or a binary file object; the latter is sent from its current
        position, with its size if it can seek, and is not closed. A text file is sent as the bytes
        behind it; NotBytes is raised, and nothing sent, for every other source of text. Without
        data, the image is `queued`, or `active` if `image_meta` has a `location`. `progress(done,
        total)` is called as bytes are sent; total is None for a pipe. Raises Duplicate if the id
        exists. If the record of the image was made before the failure, the error has its id as
        `recorded_id`.
        """
        return self._write("POST", "/images", image_meta, image_data, {}, progress, with_uuid)

    def update_image(
        self,
        image_id: object,
        image_meta: Mapping[str, Any] | None = None,
        image_data: base_client.Body | None = None,
        *,
        purge_props: bool = True,
        progress: Progress | None = None,
        with_uuid: bool = False,
    ) -> types.DetailedImage:
        """Change attributes, or upload data into a queued image; return the attributes.

        `image_data` is as for `add_image`. Properties that are not given are removed unless
        `purge_props` is false. Raises NotFound if there is no such image, Duplicate if data is
        sent for an image that is not queued.
        """
        headers = {} if purge_props else {"x-glance-registry-purge-props": "false"}
        path = _image(image_id)
        return self._write("PUT", path, image_meta, image_data, headers, progress, with_uuid)

    def delete_image(self, image_id: object) -> bool:
        """Delete an image. Raises NotFound if there is none that the caller may delete."""
        return self._done("DELETE", _image(image_id))

    def restore_image(self, image_id: object, *, with_uuid: bool = False) -> types.DetailedImage:
        """Make a deleted image active again and return its attributes; for administrators.

        Raises NotFound if there is no such image, Duplicate if it is not deleted, or its data is
        incomplete or being removed now, and Gone if its data has been removed.
        """
        response = self.do_request("POST", f"{_image(image_id)}/restore")
        return _named(_read_image(response), response, with_uuid)

    # -- conversions -----------------------------------------------------------------------------

    def convert_image(
        self,
        image_id: object,
        disk_format: str,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> types.Conversion:
        """Have the server convert an image into a new one, and return the job.

        `image_id` is the source, which stays as it is; the job has the id of the new image, which
        is queued, as `image_id`. `fields` are those of the request: `name`, `is_public`,
        `compress`, `force`, `store`, and `properties`, a mapping. If the same work is waiting or
        running already, that job is returned. With an `idempotency_key` (printable ASCII, at most
        255 characters) a request that is sent again within 24 hours returns the job of the first
        one.

        Raises NotFound if there is no such source, Duplicate if it is not active, Invalid for
        what cannot be converted, Forbidden, LimitExceeded if the source is too large,
        TooManyRequests if too many conversions wait or run, and ServiceUnavailable if the server
        does not convert images, or nothing works on them now.
        """
        source = base_client.image_reference(image_id)
        values = {"source_image_id": source, "disk_format": disk_format, **fields}
        headers = dict(_JSON)
        if idempotency_key is not None:
            headers["idempotency-key"] = _header_value(idempotency_key)
        data = json.dumps({"conversion": values}).encode()
        return _read_conversion(self.do_request("POST", "/conversions", data, headers))

    def get_conversions(
        self,
        *,
        status: str | None = None,
        source_image_id: object = None,
        image_id: object = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[types.Conversion]:
        """Return a page of conversions, newest first: the caller's; an administrator's are all.

        `status`, `source_image_id` and `image_id` (the result) select some of them. `marker` is
        the id of the job that the page follows; without `limit` the server sends 25, and never
        more than 1000. Raises Invalid for a marker that is no job of the caller's.
        """
        params = {"status": status, "limit": limit, "marker": marker}
        for name, reference in (("source_image_id", source_image_id), ("image_id", image_id)):
            if reference is not None:
                params[name] = base_client.image_reference(reference)
        response = self.do_request("GET", "/conversions", params=params)
        return base_client.read_rows(response, "conversions")

    def get_conversion(self, conversion_id: object) -> types.Conversion:
        """Return a conversion. Raises NotFound if the caller has none with this id."""
        return _read_conversion(self.do_request("GET", _conversion(conversion_id)))

    def cancel_conversion(self, conversion_id: object) -> types.Conversion | None:
        """Cancel a conversion and return it; one that has ended is forgotten: None.

        The job may be at work for some more seconds, with the status `cancelling`. Images stay,
        but the result of a conversion that was cancelled is killed. Raises NotFound if the caller
        has no conversion with this id.
        """
        response = self.do_request("DELETE", _conversion(conversion_id))
        if response.status == 204:
            response.close()
            return None
        return _read_conversion(response)

    # -- members ---------------------------------------------------------------------------------

    def get_image_members(self, image_id: object) -> list[types.Member]:
        """Return the members of an image: `member_id` and `can_share` of each."""
        response = self.do_request("GET", f"{_image(image_id)}/members")
        return base_client.read_rows(response, "members")

    def get_member_images(self, member_id: object) -> list[types.SharedImage]:
        """Return the images shared with a member: `image_id` and `can_share` of each."""
        response = self.do_request(
            "GET", f"/shared-images/{base_client.member_segment(member_id)}"
        )
        return base_client.read_rows(response, "shared_images")

    def replace_members(self, image_id: object, *assocs: Mapping[str, Any]) -> bool:
        """Replace the members of an image by those given; none removes all.

        Each has a `member_id` (else KeyError) and may have `can_share`; without it a member
        keeps its right, and a new one has none.
        """
        members = []
        for assoc in assocs:
            member = {"member_id": assoc["member_id"]}
            if assoc.get("can_share") is not None:
                member["can_share"] = bool(assoc["can_share"])
            members.append(member)
        return self._done("PUT", f"{_image(image_id)}/members", members)

    def add_member(
        self, image_id: object, member_id: object, can_share: bool | None = None
    ) -> bool:
        """Share an image with a member; without `can_share` a member keeps its right."""
        body = None if can_share is None else {"member": {"can_share": bool(can_share)}}
        return self._done("PUT", _member(image_id, member_id), body)

    def delete_member(self, image_id: object, member_id: object) -> bool:
        """Stop sharing an image with a member; no error if it is not a member."""
        return self._done("DELETE", _member(image_id, member_id))

    # -- the server's image cache ----------------------------------------------------------------

    def get_cached_images(self, **kwargs: Any) -> list[types.CachedImage]:
        """Return the entries of the server's cache. Raises NotFound if it is not managed."""
        return self._cached(None, kwargs)

    def get_invalid_cached_images(self, **kwargs: Any) -> list[types.CachedImage]:
        """Return the invalid cache entries."""
        return self._cached("invalid", kwargs)

    def get_incomplete_cached_images(self, **kwargs: Any) -> list[types.CachedImage]:
        """Return the cache entries that are being written."""
        return self._cached("incomplete", kwargs)

    def get_prefetching_cache_images(self, **kwargs: Any) -> list[types.QueuedImage]:
        """Return the images that are being prefetched, or wait to be."""
        return self._cached("prefetching", kwargs)

    def purge_cached_image(self, image_id: object) -> bool:
        """Remove one image from the cache."""
        return self._done("DELETE", _cached_image(image_id))

    def clear_cached_images(self) -> int:
        """Empty the cache; return how many images were removed."""
        return self._count("num_purged", {})

    def reap_invalid_cached_images(self, *, grace: float | None = None, **kwargs: Any) -> int:
        """Remove the invalid cache entries older than `grace` seconds; return how many."""
        params = {**base_client.listing_params(kwargs), **_INVALID, "grace": grace}
        return self._count("num_reaped", params)

    def reap_stalled_cached_images(self, *, grace: float | None = None, **kwargs: Any) -> int:
        """Remove the cache entries whose writing has stalled for `grace` seconds, or for the
        server's stall time; return how many.
        """
        params = {**base_client.listing_params(kwargs), **_INCOMPLETE, "grace": grace}
        return self._count("num_reaped", params)

    def prefetch_cache_image(self, image_id: object) -> bool:
        """Make the server fetch an image into its cache; Invalid if it is cached or queued."""
        self.get_image_meta(image_id)
        return self._done("PUT", _cached_image(image_id))

    def queue_image_for_caching(self, image_id: object) -> bool:
        """Make the server fetch an image into its cache, as `prefetch_cache_image` does.

        Raises NotFound if there is no such image or the cache is not managed.
        """
        return self._done("PUT", _queued_image(image_id))

    def get_queued_images(self, **kwargs: Any) -> list[types.QueuedImage]:
        """Return the images that wait to be fetched into the cache, or are being fetched."""
        params = {**base_client.listing_params(kwargs), "detail": "true"}
        response = self.do_request("GET", "/queued_images", params=params)
        return base_client.read_rows(response, "queued_images")

    def delete_cached_image(self, image_id: object) -> int:
        """Remove one image from the cache; return how many were removed, 0 or 1."""
        return self._deleted(_cached_image(image_id))

    def delete_queued_image(self, image_id: object) -> int:
        """Remove an image from the queue unless it is being fetched; return 0 or 1."""
        return self._deleted(_queued_image(image_id))

    def delete_all_queued_images(self) -> int:
        """Remove all images from the queue that are not being fetched; return how many."""
        return self._deleted("/queued_images")

    def get_cache_stats(self) -> dict[str, int]:
        """Return sizes in bytes, numbers of entries, and the counters of the cache."""
        return dict(base_client.read_json(self.do_request("GET", "/cache_stats")))

    # -- shared helpers --------------------------------------------------------------------------

    def _images(self, action: str, keywords: Mapping[str, Any]) -> list[Any]:
        params = base_client.listing_params(keywords)
        response = self.do_request("GET", action, params=params)
        return base_client.read_rows(response, "images")

    def _serves_v2(self) -> bool:
        """Return whether the version document of the service lists version 2."""
        try:
            with self.do_request("GET", "/versions", beside="") as response:
                text = response.read(base_client.MAX_ERROR_BODY).decode("utf-8", "replace")
        except exception.MultipleChoices as err:
            text = err.body or ""
        except exception.NotFound:
            return False
        try:
            entries = json.loads(text)["versions"]
            return any(str(entry["id"]).startswith(f"{_V2}.") for entry in entries)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def _with_uri(self, image: Listed) -> Listed:
        if not image.get("uri"):
            image["uri"] = self.image_uri(image.get("id"))
        return image

    def _write(
        self,
        method: str,
        action: str,
        image_meta: Mapping[str, Any] | None,
        image_data: base_client.Body | None,
        headers: Mapping[str, str],
        progress: Progress | None,
        with_uuid: bool,
    ) -> types.DetailedImage:
        fields = {**image_headers.client_headers(image_meta or {}), **headers}
        body = None
        if image_data is not None and image_data != b"" and image_data != "":
            body = payload_module.Payload(image_data)
            body.require_bytes()
            fields.update(_OCTETS)
            if body.length and body.data is None:
                fields.setdefault("x-image-meta-size", str(body.length))
        response = self._sent(method, action, body, fields, progress)
        return _named(_read_image(response), response, with_uuid)

    def _sent(
        self,
        method: str,
        action: str,
        body: payload_module.Payload | None,
        fields: Mapping[str, str],
        progress: Progress | None,
    ) -> base_client.Response:
        """Send a request that may upload; an upload that stops here names the record it leaves.

        The exception that stopped it, be it KeyboardInterrupt, has the id as `recorded_id` then.
        """
        heard: list[str | None] = []
        if body is not None:
            body.parting = lambda response: heard.append(base_client.recorded_id(response))
        try:
            return self.do_request(method, action, body, fields, progress=progress)
        except BaseException as err:
            if heard:
                vars(err)["recorded_id"] = heard[-1]
            raise

    def _done(self, method: str, action: str, body: Any = None) -> bool:
        data = None if body is None else json.dumps(body).encode()
        headers = None if body is None else _JSON
        with self.do_request(method, action, data, headers) as response:
            start = response.read(base_client.MAX_ERROR_BODY)
        if start.lstrip().startswith(b"<"):
            # A web server may have a page for every path; then nothing has been done.
            raise base_client.unexpected("a page of HTML")
        return True

    def _cached(self, status: str | None, keywords: Mapping[str, Any]) -> list[Any]:
        params = {**base_client.listing_params(keywords), "status": status}
        response = self.do_request("GET", "/cached_images", params=params)
        return base_client.read_rows(response, "cached_images")

    def _deleted(self, action: str) -> int:
        return int(base_client.read_json(self.do_request("DELETE", action), "num_deleted"))

    def _count(self, key: str, params: Mapping[str, Any]) -> int:
        response = self.do_request("DELETE", "/cached_images", params=params)
        return int(base_client.read_json(response, key))


def _named(
    image: types.DetailedImage, response: base_client.Response, with_uuid: bool
) -> types.DetailedImage:
    """Return an image, with its uuid if that is wanted and the server tells one.

    Other services number no images: an id of version 1 is a UUID there.
    """
    told = (response.getheader(_UUID_HEADER), str(image.get("id"))) if with_uuid else ()
    found = [uuid for text in told if (uuid := image_fields.parse_uuid(text or ""))]
    if found:
        image["uuid"] = found[0]
    return image


def _read_image(response: base_client.Response) -> types.DetailedImage:
    return cast(types.DetailedImage, base_client.read_object(response, "image"))


def _read_conversion(response: base_client.Response) -> types.Conversion:
    return cast(types.Conversion, base_client.read_object(response, "conversion"))


def _conversion(conversion_id: object) -> str:
    """Return the path of a conversion. Raises Invalid for an id that is empty."""
    text = str(conversion_id)
    if not text:
        raise exception.Invalid("A conversion ID must not be empty")
    return f"/conversions/{base_client.segment(text)}"


def _header_value(text: str) -> str:
    """Return text that a header carries as it is. Raises Invalid for other text."""
    if not (text.isascii() and text.isprintable()):
        raise exception.Invalid("An idempotency key must be printable ASCII")
    return text


def _image(reference: object) -> str:
    return f"/images/{base_client.segment(base_client.image_reference(reference))}"


def _member(reference: object, member_id: object) -> str:
    return f"{_image(reference)}/members/{base_client.member_segment(member_id)}"


def _cached_image(reference: object) -> str:
    return f"/cached_images/{base_client.segment(base_client.image_reference(reference))}"


def _queued_image(reference: object) -> str:
    return f"/queued_images/{base_client.segment(base_client.image_reference(reference))}"


Client = V1Client

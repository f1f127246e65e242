"""Where an image's data is to come from: the checks that every request with data has to pass.

A request brings its data, or names a location to register or to copy from. What it may bring, and
into which store, does not depend on the version of the API that it speaks. How the data gets into
the image is `glance.api.upload`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from glance import api
from glance.common import exception
from glance.identity.context import CallerRequest, RequestContext
from glance.store import base
from glance.streaming import body, tasks

LOG = logging.getLogger(__name__)

#: The media type of image data.
OCTETS = "application/octet-stream"
#: How long to wait for a store to return the size of a location that is being registered.
PROBE_SECONDS = 20


def media_type(request: CallerRequest) -> str:
    """Return the media type of a request's body in lower case, without its parameters."""
    content_type: str = request.environ.get("CONTENT_TYPE", "")
    return content_type.partition(";")[0].strip().lower()


def body_length(request: CallerRequest) -> int | None:
    """Return the announced length of a request's body in bytes, None for a chunked one."""
    if "HTTP_TRANSFER_ENCODING" in request.environ:
        return None
    length: int | None = request.content_length
    return length


class Sources:
    """The data that requests bring or name, and the stores that it may go to."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.conf = service.conf

    def target(self, name: str | None) -> base.Store:
        """Return the store for new data: the one of this name, or the default store.

        Raises Invalid for a named store that is unknown or read-only, and StoreAddDisabled for a
        default store that is read-only.
        """
        stores = self.service.stores
        return _known_store(stores.writable, name) if name else stores.writable()

    def check_store(self, name: str | None) -> None:
        """Raise Invalid for the name of a store that this server does not have."""
        if name:
            _known_store(self.service.stores.for_scheme, name)

    def check_formats(self, image: Mapping[str, Any]) -> None:
        """Raise Invalid for an image to be filled without the formats that this server wants."""
        if self.conf.require_formats:
            check_formats(image)

    def check_size(self, declared: int | None, length: int | None) -> None:
        """Refuse data whose announced size exceeds the cap, before a byte of it is read.

        `declared` is the size of the image as the request gives it, `length` that of its body.
        """
        body.check_cap(max(declared or 0, length or 0), self.conf.image_size_cap)

    def check_registerable(self, context: RequestContext, location: str) -> None:
        """Raise what `Stores.check_registerable` raises for a location that the caller names."""
        self.service.stores.check_registerable(location, is_admin=context.is_admin)

    def registration(
        self, context: RequestContext, location: str, declared: int | None
    ) -> dict[str, Any]:
        """Return the values that make an image active with data at a registered location."""
        self.check_registerable(context, location)
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

    def fetch_size(self, location: str) -> int | None:
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
            size = self.fetch_size(location)
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


def check_formats(image: Mapping[str, Any]) -> None:
    """Raise Invalid for an image that lacks its disk format or its container format."""
    if not image.get("disk_format") or not image.get("container_format"):
        raise exception.Invalid(
            "This server requires a disk format and a container format with the data"
        )


def _known_store(find: Callable[[str], base.Store], name: str) -> base.Store:
    """Return `find(name)`; raise Invalid for a store that is unknown or read-only."""
    try:
        return find(name)
    except exception.UnknownScheme as err:
        raise exception.Invalid(f"Store {name!r} is not available on this server") from err
    except exception.StoreError as err:
        raise exception.Invalid(f"Store {name!r} does not accept new images") from err

"""What a store is: the contract of drivers, the staged write, and the transfer loop.

A driver subclasses `Store`, says what it can do in `capabilities`, and implements `get`,
`get_size`, `stage`, `delete` and `list_objects` as far as it declared them. `add` is written once,
here, over `stage`. Drivers raise the store errors of `glance.common.exception` only; what their
backend's library raises is translated inside the driver. What does not belong here: choosing a
store, HTTP.
"""

from __future__ import annotations

import enum
import logging
import re
import types
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple, Self

from glance.common import exception, hooks
from glance.common.config import Conf
from glance.store import host_rules, location
from glance.streaming import body, digest, offload

LOG = logging.getLogger(__name__)

_IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")

# PERF: 1 GiB into the file store took 1.08 times what MD5 alone takes (2 cores shared with others,
# best of 8). Chunks of 1 MiB: 1.5 times; 4 MiB: 1.09 times, for twice the memory; 64 KiB: twice.
# Writing in a thread of its own beside reading, too, is slower (1.4 times): three busy threads and
# the kernel's flusher on two cores keep preempting whoever holds the interpreter.
CHUNK = 2 * 1024 * 1024
IN_FLIGHT = 4


class Capability(enum.Flag):
    """What a store can do. Everything else is refused before anything changes."""

    READ = enum.auto()
    RANDOM_READ = enum.auto()
    SIZE = enum.auto()
    WRITE = enum.auto()
    DELETE = enum.auto()
    REGISTERABLE = enum.auto()
    CREDENTIALS_IN_URI = enum.auto()
    LIST = enum.auto()


class AddResult(NamedTuple):
    """What `Store.add` stored: the storage URI (may hold secrets), bytes, MD5 in hex."""

    location: str
    size: int
    checksum: str


class StoredObject(NamedTuple):
    """What `Store.list_objects` found: an object that this service stored, or a part of one.

    `image_id` is the id that its name carries, `location` the URI to delete it by (may hold
    secrets), `size` its bytes with all parts, `modified` when it was written, in seconds since the
    epoch. `size` and `modified` are None where the backend does not tell.
    """

    image_id: str
    location: str
    size: int | None
    modified: float | None


class Received(NamedTuple):
    """What `transfer` moved: bytes, MD5 in hex, and the digests of all algorithms by name."""

    size: int
    checksum: str
    digests: Mapping[str, str]


class StagedWrite:
    """Bytes on their way into a store, which nobody sees before `commit`.

    A context manager: leaving the block without having committed aborts; leaving it after `commit`
    says that the record of the image is settled, whatever its end. After any error, and after the
    greenthread that writes was killed, nothing is left behind; after the death of the process, a
    sweep finds what was not settled.
    """

    def write(self, data: bytes) -> None:
        """Append all of `data`. Raises StorageFull, StorageWriteDenied, BackendUnavailable."""
        raise NotImplementedError

    def commit(self) -> str:
        """Make the bytes visible under the image id and return their storage URI.

        Durable on return. Raises StoreObjectExists if the id has data already, and what `write`
        raises. After an error the stage is gone.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Remove what was written, after `commit` only the traces of writing it. Never raises."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Return the storage URIs of what could not be removed, once the write has ended.

        Segments or parts that a failed or aborted write left because the backend was in trouble.
        `Store.delete` must be able to remove each; the caller hands them to the scrubber.
        """
        return []

    def abandon(self) -> AbandonedWrite:
        """Hand committed data over to be settled later, as a sweep would find it.

        For a writer that cannot find out whether a record points to the data. The staged write has
        ended then.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.abort()


class AbandonedWrite:
    """What a writer that died left of a staged write; no other process can take it meanwhile.

    `committed` tells that the data is visible under `image_id`: the writer died before it heard
    that the image's record says so, or just after. Settle it with exactly one of the methods, none
    of which raises.
    """

    image_id: str

    @property
    def committed(self) -> bool:
        raise NotImplementedError

    def discard(self) -> None:
        """Remove everything, committed data too: no record needs it."""
        raise NotImplementedError

    def keep(self) -> None:
        """Keep the committed data, which a record points to, and remove the traces."""
        raise NotImplementedError

    def leave(self) -> None:
        """Leave everything to a later sweep."""
        raise NotImplementedError


class Store:
    """One kind of backend. An instance serves all requests of a process at once.

    Making an instance reads options and, to find out whether it may write, looks at local disks;
    it opens no connection. `name` is the store's own name, `schemes` the URI schemes (and store
    names) it answers to, `location_class` what parses their URIs.
    """

    name: ClassVar[str] = ""
    schemes: ClassVar[tuple[str, ...]] = ()
    location_class: ClassVar[type[location.StoreLocation]] = location.StoreLocation
    capabilities: ClassVar[Capability] = Capability.READ

    def __init__(self, conf: Conf):
        self.conf = conf
        self.add_disabled: str | None = None
        """Why `stage` and `add` are refused; None if they work."""
        try:
            self.configure()
            if Capability.WRITE in self.capabilities:
                self.configure_add()
            else:
                self.add_disabled = "the store is read-only"
        except exception.BadStoreConfiguration as err:
            self.add_disabled = getattr(err, "reason", None) or str(err)
            level = hooks.level_at_start(logging.ERROR)
            if self.is_configured():
                LOG.log(level, "Store %s does not accept images: %s", self.name, self.add_disabled)
            else:
                level = min(level, logging.INFO)
                LOG.log(level, "Store %s is not configured; it does not accept images", self.name)

    # -- for drivers to write --------------------------------------------------------------------

    def configure(self) -> None:
        """Read what getting and deleting need. Raises BadStoreConfiguration."""

    def configure_add(self) -> None:
        """Read and check what adding needs. Raises BadStoreConfiguration."""

    def is_configured(self) -> bool:
        """Return whether the operator set any option of this store up."""
        return True

    def get(
        self, location: location.Location, offset: int = 0, length: int | None = None
    ) -> body.Body:
        """Return the bytes from `offset`, `length` of them or all that follow.

        The body's `size` is the size of the whole object, None if the backend does not tell. The
        caller closes it. Raises StoreObjectNotFound, StoreForbidden, BackendUnavailable, and
        RangeNotSatisfiable if `offset` lies behind the end.
        """
        raise NotImplementedError

    def get_size(self, location: location.Location) -> int | None:
        """Return the size in bytes, None if the backend does not tell. Raises like `get`."""
        raise NotImplementedError

    def stage(self, image_id: str, size: int | None = None) -> StagedWrite:
        """Begin to write the data of an image; `size` in bytes as far as it is known.

        The size is a hint to reserve room and to refuse early; what arrives counts. Raises
        StoreObjectExists, StorageFull, StorageWriteDenied, BackendUnavailable, StoreAddDisabled.
        """
        raise exception.StoreAddDisabled()

    def delete(self, location: location.Location) -> None:
        """Remove an object. Raises StoreObjectNotFound, StoreForbidden, BackendUnavailable."""
        raise exception.StoreDeleteNotSupported()

    def check_registerable(self, location: location.Location, *, is_admin: bool) -> None:
        """Raise BadStoreUri or Forbidden if a caller may not register this location."""
        if Capability.REGISTERABLE not in self.capabilities:
            raise exception.BadStoreUri(
                reason=f"locations of the {self.name} store cannot be registered; upload the data"
            )
        if location.store_location.has_credentials and not is_admin:
            raise exception.Forbidden(
                "Only an administrator may register a location that contains credentials"
            )

    def check_object(
        self, location: location.Location, *, is_admin: bool, at_home: bool, host: str, port: int
    ) -> None:
        """Raise like `check_registerable`, for stores that have an account of their own.

        SECURITY: what the configured account opens may belong to anybody, so that only an
        administrator may register it. Elsewhere, `host` must be one that this service may be sent
        to, and the location must bring credentials.
        """
        if not is_admin:
            raise exception.Forbidden(
                f"Only an administrator may register a location of the {self.name} store"
            )
        if at_home:
            return
        if not location.store_location.has_credentials:
            raise exception.BadStoreUri(
                reason="it does not belong to this server's own service, and has no credentials"
            )
        host_rules.HostRules.from_conf(self.conf).check(host, port)

    def owns(self, location: location.Location, image_id: str) -> bool:
        """Return whether this store would have put the data of `image_id` at `location`.

        False means that somebody registered the location: its data is not ours to delete.
        """
        return Capability.WRITE in self.capabilities

    def sweep(self) -> list[AbandonedWrite]:
        """Return the staged writes whose writers died, for the caller to settle each.

        Raises nothing: what cannot be looked at is logged.
        """
        return []

    def drop_stale_uploads(self) -> int:
        """Remove unfinished writes of any host from the backend; return how many there were.

        For the scrubber, now and then: for what no sweep finds because the host of the writer is
        gone. Writes that somebody may still go on with stay. Raises nothing: what cannot be
        removed is logged.
        """
        return 0

    def list_objects(self) -> Iterator[StoredObject]:
        """Yield everything of images that lies in the backend, in any order, page by page.

        For stores with the capability LIST. What belongs to an object (segments behind a manifest)
        is counted into it; what belongs to none, as a broken upload leaves it, is yielded by
        itself, and so are objects of images that the registry does not know. Staged writes in
        progress are left out where they can be told from others. Objects whose name this store
        would never give are not ours and left out. Raises StoreForbidden, BackendUnavailable.
        """
        raise NotImplementedError

    # -- written once ----------------------------------------------------------------------------

    def add(
        self, image_id: str, image_file: body.Readable, image_size: int | None = None
    ) -> AddResult:
        """Store the data of an image: stage, transfer, commit.

        `image_size` None or 0 means unknown. Raises what `stage`, `image_file.read` and the
        staged write raise; after an error nothing is left.
        """
        with self.stage(image_id, image_size or None) as staged:
            received = transfer(image_file, staged)
            return AddResult(staged.commit(), received.size, received.checksum)

    def require_add(self) -> None:
        """Raise StoreAddDisabled if this store takes no images."""
        if self.add_disabled is not None:
            raise exception.StoreAddDisabled(
                f"Images cannot be added to the {self.name} store of this server"
            )


def is_image_id(text: str) -> bool:
    """Return whether `text` may be an image id: a plain name of 1 to 255 characters."""
    return bool(_IMAGE_ID.match(text))


def check_image_id(image_id: str) -> str:
    """Return `image_id`; ValueError if it could be more than a plain name.

    SECURITY: ids become file and object names. A wrong one is an error of the program, not of its
    user, because ids are checked when they come in.
    """
    if not isinstance(image_id, str) or not is_image_id(image_id):
        raise ValueError("an image id must be text of letters, digits, '.', '_' and '-'")
    return image_id


def transfer(
    reader: body.Readable, staged: StagedWrite, algorithms: tuple[str, ...] = (digest.MD5,)
) -> Received:
    """Move everything from `reader` into `staged`, digesting on the way. Commits nothing.

    The digest is worked out in a native thread while the next chunks are read and written; at most
    `IN_FLIGHT` chunks wait for it. Raises what reading and writing raise; on return or error
    nothing uses `staged` any more. `algorithms` must contain MD5.
    """
    digester = digest.Digester(*algorithms)
    first = reader.read(CHUNK)
    second = reader.read(CHUNK) if first else b""
    if not second:
        # PERF: most images of tests and many kernels fit in one chunk, which is not worth a lane.
        if first:
            offload.run(digester.update, first)
            staged.write(first)
        return _received(digester)
    with offload.Fanout([digester.update], IN_FLIGHT) as fanout:
        chunk = first
        while chunk:
            fanout.put(chunk)
            staged.write(chunk)
            chunk, second = second or reader.read(CHUNK), b""
        fanout.join()
    return _received(digester)


def _received(digester: digest.Digester) -> Received:
    return Received(digester.count, digester.hexdigest(), digester.hexdigests())

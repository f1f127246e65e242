"""The contract of store drivers, the staged write, and the transfer loop.

A driver subclasses `Store`, declares what it can do in `capabilities`, and implements `get`,
`get_size`, `stage`, `delete` and `list_objects` accordingly. `add` is implemented once, here, with
`stage`. Drivers raise the store errors of `glance.common.exception` only; they translate the
errors of their backend's library. What does not belong here: the choice of a store, HTTP.
"""

from __future__ import annotations

import enum
import functools
import inspect
import logging
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

from glance.common import exception, hooks, metrics
from glance.common.config import Conf
from glance.store import host_rules, location
from glance.streaming import body, digest, threads
from glance.streaming.fanout import Fanout

LOG = logging.getLogger(__name__)

_IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")

# PERF: 1 GiB into the file store took 1.08 times the time of MD5 alone (2 shared cores, best of
# 8). Chunks of 1 MiB: 1.5 times; 4 MiB: 1.09 times, for twice the memory; 64 KiB: twice. A
# separate thread for writing is slower, too (1.4 times): three busy threads and the kernel's
# flusher on two cores keep preempting the thread that holds the interpreter lock.
CHUNK = 2 * 1024 * 1024
IN_FLIGHT = 4

#: The methods of a store that raise store errors.
_RAISING = (
    "get",
    "get_size",
    "stage",
    "delete",
    "check_registerable",
    "list_objects",
    "add",
    "check",
    "require_add",
)

#: The methods of a store and of its staged writes that take the data of an upload.
WRITING = frozenset({"stage", "write", "commit"})


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
    """A result of `Store.list_objects`: an object that this service stored, or a part of one.

    `image_id` is the id in its name, `location` the URI to delete it by (may hold secrets), `size`
    its size in bytes with all parts, `modified` when it was written, in seconds since the epoch.
    `size` and `modified` are None if the backend does not report them.
    """

    image_id: str
    location: str
    size: int | None
    modified: float | None


class Received(NamedTuple):
    """What `transfer` moved: size in bytes, MD5 in hex, and the digests of all algorithms."""

    size: int
    checksum: str
    digests: Mapping[str, str]


#: The methods of a store and of its staged writes that the metrics count as calls.
_MEASURED = frozenset({"get", "get_size", "stage", "commit", "delete", "check"})
#: How such a call can end, in the words of the metrics.
OUTCOMES = ("ok", "missing", "refused", "unavailable", "failed")


class _Naming:
    """Names the store and its method in the store errors that leave its block."""

    def __init__(self, store_name: str | None, method: str):
        self._store_name, self._method = store_name, method

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, exception.StoreError):
            err.of(self._store_name)
            err.during = err.during or self._method


def _name_errors(cls: type, methods: Iterable[str]) -> None:
    """Have those of the methods that `cls` itself defines name the store in their errors.

    The class has `store_name`. A body or a staged write that a method returns takes the name on.
    """
    for name in methods:
        method = cls.__dict__.get(name)
        if method is None:
            continue
        naming = _naming_each if inspect.isgeneratorfunction(method) else _naming
        setattr(cls, name, naming(method))


def _naming(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def named(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _Naming(self.store_name, method.__name__):
            result = method(self, *args, **kwargs)
        if isinstance(result, body.Body | StagedWrite):
            result.store_name = self.store_name
        return result

    return _measuring(named) if method.__name__ in _MEASURED else named


def _measuring(method: Callable[..., Any]) -> Callable[..., Any]:
    name = method.__name__

    def labels(store: Any, *_: Any, **__: Any) -> tuple[str, str]:
        return store.store_name or "-", name

    return metrics.timed(method, metrics.STORE_CALLS, metrics.STORE_SECONDS, labels, _outcome)


def _outcome(err: BaseException) -> str:
    """Return the word of the metrics for how a call has failed."""
    if isinstance(err, exception.StoreObjectNotFound):
        return "missing"
    if isinstance(err, exception.BackendUnavailable | exception.ServiceUnavailable):
        return "unavailable"
    return "refused" if isinstance(err, exception.Error) else "failed"


def _naming_each(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def named(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with _Naming(self.store_name, method.__name__):
            yield from method(self, *args, **kwargs)

    return named


#: Begins the names of the API's own files in a `Store.local_directory`.
UNFINISHED_PREFIX = "glance-unfinished."


class StagedWrite:
    """A staged write: bytes on the way into a store, which are not visible before `commit`.

    A context manager: leaving the block without a commit aborts; leaving it after `commit` means
    that the record of the image is settled, successfully or not. After any error, and after a kill
    of the writing greenthread, nothing is left behind; after the death of the process, a sweep
    finds what was not settled. `store_name` is the store that it writes to.

    `whole_md5` is set before the first `write` by a caller who computes the MD5 of all data
    anyway. It returns that in hex, from the last `write` on, so that a driver that compares it
    with what the backend received need not compute it again.
    """

    store_name: str | None = None
    whole_md5: Callable[[], str] | None = None
    #: Whether `write` uses no socket or lock of the event loop, so that any thread may call it.
    writes_in_threads: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _name_errors(cls, ("write", "commit"))

    def write(self, data: bytes) -> None:
        """Append all of `data`. Raises StorageFull, StorageWriteDenied, BackendUnavailable."""
        raise NotImplementedError

    def commit(self) -> str:
        """Make the bytes visible under the image id and return their storage URI.

        Durable on return. Raises StoreObjectExists if the id has data already, and what `write`
        raises. After an error the staged write has ended.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Remove what was written; after `commit` only temporary files. Never raises."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Return the storage URIs of what could not be removed, once the write has ended.

        These are segments or parts that a failed or aborted write left because the backend failed.
        `Store.delete` must be able to remove each; the caller passes them to the scrubber.
        """
        return []

    def abandon(self) -> AbandonedWrite:
        """Leave committed data to be settled later, in the form in which a sweep finds it.

        For a writer that cannot find out whether a record points to the data. This ends the staged
        write.
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
    """What a dead writer left of a staged write; no other process can claim it meanwhile.

    `committed` means that the data is visible under `image_id`: the writer died before, or just
    after, it learned the outcome of the record's update. Settle it with exactly one of the
    methods, none of which raises.
    """

    image_id: str

    @property
    def committed(self) -> bool:
        raise NotImplementedError

    def discard(self) -> None:
        """Remove everything, including committed data: no record needs it."""
        raise NotImplementedError

    def keep(self) -> None:
        """Keep the committed data, which a record points to, and remove temporary files."""
        raise NotImplementedError

    def leave(self) -> None:
        """Leave everything to a later sweep."""
        raise NotImplementedError


class Store:
    """One kind of backend. One instance serves all requests of a process concurrently.

    Creating an instance reads options and checks local disks, to find out whether it may write; it
    opens no connection. `name` is the store's own name, `schemes` the URI schemes (and store
    names) that it handles, `location_class` the class that parses their URIs.

    A driver raises store errors without a name: whatever leaves one of its methods, a body that it
    returned, or a staged write of its own, gets the store's name here.
    """

    name: ClassVar[str] = ""
    schemes: ClassVar[tuple[str, ...]] = ()
    location_class: ClassVar[type[location.StoreLocation]] = location.StoreLocation
    capabilities: ClassVar[Capability] = Capability.READ

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _name_errors(cls, _RAISING)

    @property
    def store_name(self) -> str:
        """Return `name`, as bodies and staged writes of this store carry it."""
        return self.name

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

    # -- to be implemented by drivers ------------------------------------------------------------

    @property
    def local_directory(self) -> str | None:
        """The directory of this host where the store keeps what is not in the backend yet.

        None if there is none. Names that begin with UNFINISHED_PREFIX are not the store's.
        """
        return None

    def configure(self) -> None:
        """Read the options for getting and deleting. Raises BadStoreConfiguration."""

    def configure_add(self) -> None:
        """Read and check the options for adding. Raises BadStoreConfiguration."""

    def is_configured(self) -> bool:
        """Return whether the operator has set any option of this store."""
        return True

    def get(
        self, location: location.Location, offset: int = 0, length: int | None = None
    ) -> body.Body:
        """Return the bytes from `offset` on: `length` of them, or all.

        The body's `size` is the size of the whole object, None if the backend does not report it.
        The caller closes it. Raises StoreObjectNotFound, StoreForbidden, BackendUnavailable, and
        RangeNotSatisfiable if `offset` is past the end.
        """
        raise NotImplementedError

    def get_size(self, location: location.Location) -> int | None:
        """Return the size in bytes, None if the backend does not report it. Raises like `get`."""
        raise NotImplementedError

    def stage(self, image_id: str, size: int | None = None) -> StagedWrite:
        """Begin to write the data of an image; `size` is in bytes, None if unknown.

        The size is a hint to reserve space and to refuse early; the actual data counts. Raises
        StoreObjectExists, StorageFull, StorageWriteDenied, BackendUnavailable, StoreAddDisabled.
        """
        raise exception.StoreAddDisabled().of(self.name)

    def uri_of(self, image_id: str) -> str | None:
        """Return the storage URI that an upload of an image gets (may hold secrets).

        None if unknown. Whether there is anything is another question.
        """
        return None

    def place_of(self, image_id: str) -> str | None:
        """Return where uploads put the data of an image, without secrets; None if unknown."""
        return None

    def delete(self, location: location.Location) -> None:
        """Remove an object. Raises StoreObjectNotFound, StoreForbidden, BackendUnavailable."""
        raise exception.StoreDeleteNotSupported().of(self.name)

    def check_registerable(self, location: location.Location, *, is_admin: bool) -> None:
        """Raise BadStoreUri or Forbidden if a caller may not register this location."""
        if Capability.REGISTERABLE not in self.capabilities:
            raise exception.LocationRefused(
                reason=f"locations of the {self.name} store cannot be registered; upload the data"
            ).of(self.name)
        if location.store_location.has_credentials and not is_admin:
            raise exception.Forbidden(
                "Only an administrator may register a location that contains credentials"
            )

    def check_object(
        self, location: location.Location, *, is_admin: bool, at_home: bool, host: str, port: int
    ) -> None:
        """Raise like `check_registerable`, for stores with a configured account.

        SECURITY: what the configured account can read may belong to any tenant, so only an
        administrator may register it. Elsewhere, `host` must be one that callers may make this
        service contact, and the location must include credentials.
        """
        if not is_admin:
            raise exception.Forbidden(
                f"Only an administrator may register a location of the {self.name} store"
            )
        if at_home:
            return
        if not location.store_location.has_credentials:
            raise exception.LocationRefused(
                reason="it does not belong to this server's own service, and has no credentials"
            ).of(self.name)
        host_rules.HostRules.from_conf(self.conf).check(host, port)

    def check(self) -> None:
        """Raise BackendUnavailable or StorageWriteDenied if the store cannot be used right now.

        The health checks of the API call it every few seconds for a default store that accepts
        images, so one request has to be enough; it never writes. A driver that cannot tell has no
        such method.
        """

    def owns(self, location: location.Location, image_id: str) -> bool:
        """Return whether this store would have put the data of `image_id` at `location`.

        False means that a caller registered the location: this service must not delete its data.
        """
        return Capability.WRITE in self.capabilities

    def sweep(self) -> list[AbandonedWrite]:
        """Return the staged writes whose writers died, for the caller to settle each.

        Never raises: what cannot be read is logged.
        """
        return []

    def drop_stale_uploads(self) -> int:
        """Remove unfinished writes of any host from the backend; return how many there were.

        The scrubber calls it periodically, for writes that no sweep finds because the host of the
        writer is gone. Writes that may still continue stay. Never raises: what cannot be removed
        is logged.
        """
        return 0

    def list_objects(self) -> Iterator[StoredObject]:
        """Yield all objects of images in the backend, in any order, page by page.

        For stores with the capability LIST. Parts of an object (segments of a manifest) are
        counted into it; parts without an object, which a broken upload leaves, are yielded
        separately, and so are objects of images that the registry does not know. Staged writes in
        progress are excluded if they can be recognised. Objects with names that this store never
        gives are excluded. Raises StoreForbidden, BackendUnavailable.
        """
        raise NotImplementedError

    # -- common to all drivers -------------------------------------------------------------------

    def add(
        self, image_id: str, image_file: body.Readable, image_size: int | None = None
    ) -> AddResult:
        """Store the data of an image: stage, transfer, commit.

        `image_size` None or 0 means unknown. Raises what `stage`, `image_file.read` and the staged
        write raise; after an error nothing is left.
        """
        with self.stage(image_id, image_size or None) as staged:
            received = transfer(image_file, staged)
            return AddResult(staged.commit(), received.size, received.checksum)

    def require_add(self) -> None:
        """Raise StoreAddDisabled if this store is read-only."""
        if self.add_disabled is not None:
            raise exception.StoreAddDisabled().of(self.name)


def is_image_id(text: str) -> bool:
    """Return whether `text` may be an image id: a plain name of 1 to 255 characters."""
    return bool(_IMAGE_ID.match(text))


def check_image_id(image_id: str) -> str:
    """Return `image_id`. Raises ValueError if it is not a plain name.

    SECURITY: ids become file and object names. A wrong one is a programming error, not an error of
    the user, because ids are checked when they are received.
    """
    if not isinstance(image_id, str) or not is_image_id(image_id):
        raise ValueError("an image id must be text of letters, digits, '.', '_' and '-'")
    return image_id


def transfer(
    reader: body.Readable, staged: StagedWrite, algorithms: tuple[str, ...] = (digest.MD5,)
) -> Received:
    """Move all data from `reader` into `staged` and compute its digests. Does not commit.

    Native threads compute each digest while the next chunks are read and written; at most
    `IN_FLIGHT` chunks wait for the slowest. Raises what reading and writing raise; on return or
    error nothing uses `staged` or a thread any more. `algorithms` must contain MD5.
    """
    digesters = [digest.Digester(name) for name in dict.fromkeys(algorithms)]
    staged.whole_md5 = lambda: _received(digesters).checksum
    first = reader.read(CHUNK)
    second = reader.read(CHUNK) if first else b""
    if not second:
        # PERF: most images of tests and many kernels fit in one chunk, which needs no thread.
        if first and staged.writes_in_threads:
            threads.run(_take_whole, digesters, staged, first)
        elif first:
            threads.run(_update_all, digesters, first)
            staged.write(first)
        return _received(digesters)
    begun = [second, first]
    del first, second
    with Fanout([digester.update for digester in digesters], IN_FLIGHT) as fanout:
        while chunk := begun.pop() if begun else reader.read(CHUNK):
            fanout.put(chunk)
            staged.write(chunk)
            # NOTE: the client may stall for long; what it has sent is not kept meanwhile.
            chunk = b""
        fanout.join()
    return _received(digesters)


def _take_whole(digesters: Iterable[digest.Digester], staged: StagedWrite, data: bytes) -> None:
    _update_all(digesters, data)
    staged.write(data)


def _update_all(digesters: Iterable[digest.Digester], data: bytes) -> None:
    for digester in digesters:
        digester.update(data)


def _received(digesters: Iterable[digest.Digester]) -> Received:
    count, digests = 0, {}
    for digester in digesters:
        count = digester.count
        digests.update(digester.hexdigests())
    return Received(count, digests[digest.MD5], digests)

"""Writing to S3: one part at a time on a local disk, in one request or as a multipart upload.

What fits into one part becomes an object by one request. More becomes a multipart upload, of which
nobody sees anything before its last step. A trace on the local disk says what the backend may hold
of an upload; every object carries the token of the upload that wrote it, so that after an error, a
lost answer or a crash it can be told whose it is. Where the answers lead is in the table of
failures in doc/source/stores.rst.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from glance.common import exception
from glance.http.client.payload import Payload
from glance.store import base, spool, upload_journal
from glance.store.location import S3Location
from glance.store.s3.errors import S3Error, S3Refused, writing
from glance.streaming import digest, offload

if TYPE_CHECKING:
    from glance.store.s3.client import Info, S3Client

LOG = logging.getLogger(__name__)

NAME = "s3"
MIB = 1024 * 1024
MIN_PART = 5 * MIB
MAX_PART = 5 * 1024 * MIB
MAX_PARTS = 10_000
MAX_OBJECT = 5 * 1024 * 1024 * MIB
#: Parts of an upload of unknown size double after so many.
_DOUBLING = 1000

#: Statuses of a publishing request that an earlier try, or somebody else, may have caused.
_TAKEN = frozenset({404, 409, 412})


#: Statuses of a publishing request that an earlier try, or somebody else, may have caused.
_TAKEN = frozenset({404, 409, 412})


class S3Backend(Protocol):
    """What a staged write needs of its store."""

    large_size: int
    part_size: int
    directory: str
    publishing: offload.NamedLocks
    #: How many seconds a service may go on with a request that nobody waits for.
    patience: float

    def client_for(self, location: S3Location, *, hurried: bool = False) -> S3Client: ...


def part_size(configured: int, size: int | None, number: int) -> int:
    """Return the bytes of part `number` (from 1) of an upload of `size` bytes, None if unknown."""
    if size is None:
        return min(configured << (number - 1) // _DOUBLING, MAX_PART)
    needed = -(-size // MAX_PARTS)
    return min(max(configured, -(-needed // MIB) * MIB), MAX_PART)


class _Part:
    """The part at hand, as a source for `S3Client`: spooled and digested."""

    def __init__(self, directory: str):
        self._spool = spool.UploadSpool(directory)
        self._digester = digest.Digester("md5", "sha256")

    def add(self, data: memoryview) -> None:
        offload.run(self._add, data)

    def _add(self, data: memoryview) -> None:
        self._spool.write(data)
        self._digester.update(data)

    @property
    def count(self) -> int:
        return self._digester.count

    @property
    def md5(self) -> str:
        return self._digester.hexdigest("md5")

    @property
    def sha256(self) -> str:
        return self._digester.hexdigest("sha256")

    def payload(self) -> Payload:
        return Payload(self._spool.reader())

    def clear(self) -> None:
        self._spool.clear()
        self._digester = digest.Digester("md5", "sha256")

    def close(self) -> None:
        self._spool.close()


class StagedObject(base.StagedWrite):
    """The write of a living writer."""

    def __init__(self, store: S3Backend, location: S3Location, size: int | None):
        """Begin; `location` (without credentials) is where the object will be."""
        self._store = store
        self._client = store.client_for(location)
        self._location = location
        self._total = 0
        self._size = size if size is not None and size >= store.large_size else None
        #: How much the first part takes: a small image of known size goes in one request.
        small = size is not None and self._size is None
        self._limit = store.large_size if small else part_size(store.part_size, self._size, 1)
        self._etags: list[str] = []
        self._committed = False
        self._left: list[str] = []
        self._part: _Part | None = None
        self._trace: upload_journal.UploadJournal | None = upload_journal.begin(
            store.directory,
            NAME,
            image_id=location.key,
            location=location.uri(),
            token=secrets.token_hex(16),
        )
        try:
            self._part = _Part(store.directory)
        except BaseException:
            self.abort()
            raise

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        part, _ = self._require_open()
        view = memoryview(data)
        while view:
            if part.count >= self._limit:
                self._send_part()
            taken = view[: self._limit - part.count]
            part.add(taken)
            view = view[len(taken) :]

    def _send_part(self) -> None:
        """Send the part at hand and make room for the next one."""
        part, left = self._require_open()
        number = len(self._etags) + 1
        if number > MAX_PARTS or self._total + part.count > MAX_OBJECT:
            LOG.error("Image %s is larger than S3 can store", self._location.key)
            raise exception.StorageFull()
        with writing():
            if "upload_id" not in left.values:
                left.update(multipart=True)
                left.update(upload_id=self._initiate())
            with self._noting_doubt():
                etag = self._client.put_part(self._location.key, self._upload_id, number, part)
        self._etags.append(etag)
        self._total += part.count
        part.clear()
        self._limit = part_size(self._store.part_size, self._size, number + 1)

    def _initiate(self) -> str:
        """Begin the multipart upload; once more if the answer got lost."""
        key = self._location.key
        try:
            return self._client.initiate(key, self._token)
        except S3Error as err:
            if not err.doubtful:
                raise
        drop_uploads(self._client, key)
        return self._client.initiate(key, self._token)

    @property
    def _token(self) -> str:
        return str(self._require_open()[1].values["token"])

    @property
    def _upload_id(self) -> str:
        return str(self._require_open()[1].values["upload_id"])

    def commit(self) -> str:
        try:
            self._commit()
        except BaseException:
            # NOTE: the object may be visible already; nobody would ever learn of it, so it goes.
            self.abort()
            raise
        self._committed = True
        return self._location.uri(secret=True)

    def _commit(self) -> None:
        part, left = self._require_open()
        key = self._location.key
        if self._etags and part.count:
            self._send_part()
        self._total += part.count
        # NOTE: services look whether the object is there when the request begins, if at all: of
        # two requests at once both would pass. Other processes are kept apart by the registry.
        with self._store.publishing.hold(key):
            with writing():
                if self._info() is not None:
                    raise exception.StoreObjectExists()
            left.update(publishing=True)
            if self._etags:
                self._publish(lambda: self._client.complete(key, self._upload_id, self._etags))
                self._check()
            else:
                self._publish(lambda: self._client.put(key, part, self._token))

    def _check(self) -> None:
        """Make sure that the object is ours and whole."""
        with writing():
            info = self._info()
        if info is None or info.token != self._token:
            raise exception.StoreObjectExists()
        if info.size != self._total:
            LOG.error(
                "S3 stored %d of %d bytes of image %s", info.size, self._total, self._location.key
            )
            raise exception.BackendCorrupt()

    def _publish(self, request: Callable[[], None]) -> None:
        """Send the request that makes the object visible; find out what became of it."""
        with writing():
            try:
                with self._noting_doubt():
                    request()
            except S3Error as err:
                # NOTE: an earlier try may have been carried out although its answer was lost: the
                # next one finds the object there, or its upload gone.
                taken = isinstance(err, S3Refused) and err.status in _TAKEN
                if not ((err.doubtful or taken) and self._was_carried_out()):
                    raise

    def _was_carried_out(self) -> bool:
        info = self._info()
        if info is None or info.token != self._token:
            return False
        if info.size != self._total:
            raise exception.BackendCorrupt()
        return True

    @contextlib.contextmanager
    def _noting_doubt(self) -> Iterator[None]:
        """Enter into the trace that the service may still be at work on a failed request."""
        try:
            yield
        except S3Error as err:
            if err.doubtful:
                self._require_open()[1].update(doubtful=True)
            raise
        except exception.Error:
            raise
        except BaseException:
            # Killed in the middle of it.
            self._require_open()[1].update(doubtful=True)
            raise

    def _info(self) -> Info | None:
        """Return what lies under the image's name, None if there is nothing."""
        try:
            return self._client.head(self._location.key)
        except S3Refused as err:
            if err.status == 404:
                return None
            raise

    # -- ending ----------------------------------------------------------------------------------

    def abort(self) -> None:
        left, self._trace = self._trace, None
        self._close()
        if left is None:
            return
        if self._committed:
            left.remove()
            return
        remains = AbandonedObject(self._store, left)
        gone = remains.clean_up()
        if not gone and left.values.get("publishing"):
            self._left = [self._location.uri(secret=True)]
        if gone and not left.values.get("doubtful"):
            left.remove()
        else:
            # NOTE: the service may still be at work on a request that nobody waits for, or be
            # back soon. If this process ends meanwhile, a sweep finds the trace.
            offload.spawn(_look_again, remains, self._store.patience)

    def leftovers(self) -> list[str]:
        return self._left

    def abandon(self) -> AbandonedObject:
        _, left = self._require_open()
        self._trace = None
        self._close()
        return AbandonedObject(self._store, left)

    def _close(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.close()

    def _require_open(self) -> tuple[_Part, upload_journal.UploadJournal]:
        if self._trace is None or self._part is None:
            raise ValueError("the staged write has ended")
        return self._part, self._trace

    def __del__(self) -> None:
        left = getattr(self, "_trace", None)
        if left is None:
            return
        self._trace = None
        self._close()
        # NOTE: garbage collection must not wait for a network; what the backend holds waits for
        # the next sweep.
        if self._committed or not AbandonedObject.may_hold(left):
            left.remove()
        else:
            left.leave()


class AbandonedObject(base.AbandonedWrite):
    """What the trace of a writer says; the backend is asked when it has to be known."""

    def __init__(self, store: S3Backend, left: upload_journal.UploadJournal):
        self.image_id = str(left.values["image_id"])
        self._store, self._trace = store, left
        self._is_there: bool | None = None

    @staticmethod
    def may_hold(left: upload_journal.UploadJournal) -> bool:
        """Return whether the backend may hold anything of an upload."""
        return bool(left.values.get("multipart") or left.values.get("publishing"))

    @property
    def committed(self) -> bool:
        if not self._trace.values.get("publishing"):
            return False
        if self._is_there is None:
            try:
                self._is_there = self._is_ours()
            except (S3Error, exception.Error) as err:
                LOG.warning("Image %s: it is not known what S3 holds: %s", self.image_id, err)
                return True
        return self._is_there

    def discard(self) -> None:
        self._trace.remove() if self.clean_up() else self._trace.leave()

    def keep(self) -> None:
        self._trace.remove()

    def leave(self) -> None:
        self._trace.leave()

    def clean_up(self) -> bool:
        """Remove everything from the backend; return whether that worked. The trace stays."""
        values = self._trace.values
        try:
            if values.get("upload_id"):
                drop_upload(self._client, self.image_id, values["upload_id"])
            elif values.get("multipart"):
                # The answer that named the upload got lost.
                drop_uploads(self._client, self.image_id)
            # NOTE: in this order. Once its upload is gone, nothing can become visible any more.
            if values.get("publishing") and self._is_ours():
                self._client.delete(self.image_id)
        except (S3Error, exception.Error) as err:
            LOG.warning(
                "Image %s: what its upload left in S3 remains for now: %s", self.image_id, err
            )
            return False
        return True

    def _is_ours(self) -> bool:
        try:
            return self._client.head(self.image_id).token == self._trace.values["token"]
        except S3Refused as err:
            if err.status != 404:
                raise
            return False

    @property
    def _client(self) -> S3Client:
        location = S3Location.parse(self._trace.values["location"])
        return self._store.client_for(location, hurried=True)


def _look_again(remains: AbandonedObject, pause: float) -> None:
    offload.sleep(pause)
    remains.discard()


def drop_uploads(client: S3Client, key: str) -> None:
    """Abort all multipart uploads of an image, which nobody else writes. Raises `Failed`."""
    for found in list(client.uploads(key)):
        if found.key == key:
            drop_upload(client, key, found.upload_id)


def drop_upload(client: S3Client, key: str, upload_id: str) -> None:
    """Abort a multipart upload, if there is one (still). Raises `Failed`."""
    try:
        client.abort(key, upload_id)
    except S3Refused as err:
        if err.status != 404:
            raise

"""Write to S3: each part is spooled to a local disk; one request or a multipart upload.

Data that fits into one part becomes an object by one request. More data becomes a multipart
upload, of which nothing is visible before its last step: one part is sent in the background while
the next one is gathered, so that an upload has at most two parts on the disk and one request in
flight. An upload journal on the local disk
records what the backend may hold of an upload; every object has the token of the upload that wrote
it, so that its writer is known after an error, a lost response or a crash. The table of failures
in doc/source/how-to/s3.rst shows the outcomes.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from glance.common import exception
from glance.http.client.payload import Payload
from glance.store import base, spool, upload_journal
from glance.store.location import S3Location
from glance.store.s3.errors import S3Error, S3Refused, writing
from glance.store.s3.sending import BackgroundPart, recording_doubt
from glance.streaming import digest, hub, tasks, threads

if TYPE_CHECKING:
    from glance.store.s3.client import Info, S3Client

LOG = logging.getLogger(__name__)

NAME = "s3"
MIB = 1024 * 1024
MAX_PART = 5 * 1024 * MIB
MAX_PARTS = 10_000
MAX_OBJECT = 5 * 1024 * 1024 * MIB
#: The part size of an upload of unknown size doubles after so many parts.
_DOUBLING = 1000

#: Statuses of a publishing request that an earlier attempt, or another writer, may have caused.
_TAKEN = frozenset({404, 409, 412})


class S3Backend(Protocol):
    """What a staged write needs of its store."""

    large_size: int
    part_size: int
    directory: str
    publishing: hub.NamedLocks
    #: Seconds for which a service may continue with a request that was given up.
    settle_delay: float

    def client_for(self, location: S3Location, *, hurried: bool = False) -> S3Client: ...


def part_size(configured: int, size: int | None, number: int) -> int:
    """Return the size of part `number` (from 1) of an upload of `size` bytes (None: unknown)."""
    if size is None:
        return min(configured << (number - 1) // _DOUBLING, MAX_PART)
    needed = -(-size // MAX_PARTS)
    return min(max(configured, -(-needed // MIB) * MIB), MAX_PART)


class _Part:
    """One part, as a source for `S3Client`: spooled and digested."""

    def __init__(self, directory: str):
        self._spool = spool.UploadSpool(directory)
        self._digester = digest.Digester("md5", "sha256")

    def add(self, data: memoryview) -> None:
        threads.run(self._add, data)

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
    """A staged write into S3."""

    def __init__(self, store: S3Backend, location: S3Location, size: int | None):
        """Begin; `location` (without credentials) is where the object will be."""
        self._store = store
        self._client = store.client_for(location)
        self._location = location
        self._total = 0
        self._size = size if size is not None and size >= store.large_size else None
        #: Size of the first part: a small image of known size is sent in one request.
        small = size is not None and self._size is None
        self._limit = store.large_size if small else part_size(store.part_size, self._size, 1)
        self._etags: list[str] = []
        self._committed = False
        self._left: list[str] = []
        #: The part that is gathered, the one that is sent meanwhile, and an empty one between.
        self._part: _Part | None = None
        self._sending: BackgroundPart[_Part] | None = None
        self._spare: _Part | None = None
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
        if self._sending is not None:
            with writing():
                self._sending.check()
        view = memoryview(data)
        while view:
            if part.count >= self._limit:
                self._send_part()
                part, _ = self._require_open()
            taken = view[: self._limit - part.count]
            part.add(taken)
            view = view[len(taken) :]

    def _send_part(self) -> None:
        """Begin to send the current part, after the one before; gather the next one meanwhile."""
        self._finish_part()
        part, left = self._require_open()
        number = len(self._etags) + 1
        if number > MAX_PARTS or self._total + part.count > MAX_OBJECT:
            raise exception.StorageFull().because("the image is larger than S3 can store")
        if "upload_id" not in left.values:
            with writing():
                left.update(multipart=True)
                left.update(upload_id=self._initiate())
        if self._spare is None:
            self._spare = _Part(self._store.directory)
        # NOTE: the request must not hold this object, whose end cancels it.
        self._sending = BackgroundPart(
            functools.partial(self._client.put_part, self._location.key, self._upload_id, number),
            part,
            left,
        )
        self._part, self._spare = self._spare, None
        self._limit = part_size(self._store.part_size, self._size, number + 1)

    def _finish_part(self) -> None:
        """Wait for the end of the part that is being sent, if there is one."""
        sending = self._sending
        if sending is None:
            return
        # NOTE: after an error it stays, so that no later call can go on without that part.
        with writing():
            etag = sending.finish()
        self._etags.append(etag)
        self._total += sending.part.count
        self._sending, self._spare = None, sending.part
        self._spare.clear()

    def _initiate(self) -> str:
        """Begin the multipart upload; once more if the response was lost."""
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
            # NOTE: the object may be visible already; no record will point to it, so remove it.
            self.abort()
            raise
        self._committed = True
        return self._location.uri(secret=True)

    def _commit(self) -> None:
        self._finish_part()
        part, left = self._require_open()
        key = self._location.key
        if self._etags:
            if part.count:
                self._send_part()
                self._finish_part()
        else:
            self._total = part.count
        # NOTE: services check whether the object exists at the start of the request, if at all:
        # two simultaneous requests would both pass. The registry excludes other processes.
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
        """Check that this upload wrote the object and that it is complete."""
        with writing():
            info = self._info()
        if info is None or info.token != self._token:
            raise exception.StoreObjectExists()
        if info.size != self._total:
            detail = f"S3 stored {info.size} of {self._total} bytes"
            raise exception.BackendCorrupt().because(detail)

    def _publish(self, request: Callable[[], None]) -> None:
        """Send the request that makes the object visible; find out its outcome."""
        with writing():
            try:
                with recording_doubt(self._require_open()[1]):
                    request()
            except S3Error as err:
                # NOTE: an earlier attempt may have succeeded although its response was lost: the
                # next one finds that the object exists, or that its upload is gone.
                taken = isinstance(err, S3Refused) and err.status in _TAKEN
                if not ((err.doubtful or taken) and self._has_succeeded()):
                    raise

    def _has_succeeded(self) -> bool:
        info = self._info()
        if info is None or info.token != self._token:
            return False
        if info.size != self._total:
            raise exception.BackendCorrupt()
        return True

    def _info(self) -> Info | None:
        """Return information about the object of the image, None if there is none."""
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
            # NOTE: the service may still be executing a request that was given up, or be back
            # soon. If this process ends meanwhile, a sweep finds the journal.
            tasks.spawn(_clean_up_later, remains, self._store.settle_delay)

    def leftovers(self) -> list[str]:
        return self._left

    def abandon(self) -> AbandonedObject:
        _, left = self._require_open()
        self._trace = None
        self._close()
        return AbandonedObject(self._store, left)

    def _close(self) -> None:
        """Close the parts; a request in flight is cancelled and waited for."""
        sending = self._drop()
        if sending is not None:
            sending.cancel()

    def _drop(self) -> BackgroundPart[_Part] | None:
        """Close the parts that are not being sent; return the request, whose end closes its own.

        The request goes on.
        """
        for part in (self._part, self._spare):
            if part is not None:
                part.close()
        sending, self._sending = self._sending, None
        self._part = self._spare = None
        if sending is not None:
            sending.when_ended(sending.part.close)
        return sending

    def _require_open(self) -> tuple[_Part, upload_journal.UploadJournal]:
        if self._trace is None or self._part is None:
            raise ValueError("the staged write has ended")
        return self._part, self._trace

    def __del__(self) -> None:
        left = getattr(self, "_trace", None)
        if left is None:
            return
        self._trace = None
        # NOTE: garbage collection must not wait for a network; the next sweep removes what the
        # backend holds.
        sending = self._drop()
        if sending is not None:
            sending.give_up()
            sending.when_ended(left.leave)
        elif self._committed or not AbandonedObject.may_hold(left):
            left.remove()
        else:
            left.leave()


class AbandonedObject(base.AbandonedWrite):
    """What the journal of a writer records; the backend is queried only when necessary."""

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
        """Remove everything from the backend; return whether that succeeded. The journal stays."""
        values = self._trace.values
        try:
            if values.get("upload_id"):
                drop_upload(self._client, self.image_id, values["upload_id"])
            elif values.get("multipart"):
                # The response that named the upload was lost.
                drop_uploads(self._client, self.image_id)
            # NOTE: in this order: once its upload is gone, nothing can become visible any more.
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
            return bool(self._client.head(self.image_id).token == self._trace.values["token"])
        except S3Refused as err:
            if err.status != 404:
                raise
            return False

    @property
    def _client(self) -> S3Client:
        location = S3Location.parse(self._trace.values["location"])
        return self._store.client_for(location, hurried=True)


def _clean_up_later(remains: AbandonedObject, pause: float) -> None:
    hub.sleep(pause)
    remains.discard()


def drop_uploads(client: S3Client, key: str) -> None:
    """Abort all multipart uploads of an image without another writer. Raises `S3Error`."""
    for found in list(client.uploads(key)):
        if found.key == key:
            drop_upload(client, key, found.upload_id)


def drop_upload(client: S3Client, key: str, upload_id: str) -> None:
    """Abort a multipart upload, if it still exists. Raises `S3Error`."""
    try:
        client.abort(key, upload_id)
    except S3Refused as err:
        if err.status != 404:
            raise

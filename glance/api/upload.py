"""The upload transaction: from a reserved record and a stream of bytes to an active image.

The steps, in order; nothing is visible before the last one:

1. the store opens a staged write under the image id;
2. the record goes from queued to saving (compare and set: of two uploads one wins here);
3. the bytes flow through the digest into the staged write;
4. size and checksum are compared with what the caller declared, and so is what the data is;
5. the staged write is committed, durable on return;
6. one registry call sets checksum, size, location and status active.

After any failure the staged data is removed, the record is set to killed (version 1 of the API)
or queued again (version 2), and the error goes to the caller; `glance.api.recovery` later sends to
the registry what it could not be sent now.
`doc/source/explanation/architecture.rst` has the table of failures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glance import api
from glance.api import deletion, inspection, recovery
from glance.common import exception, httperror, metrics
from glance.identity.context import RequestContext
from glance.image import types, uploads
from glance.registry import link, unfinished
from glance.registry.link import AWAY
from glance.store import base
from glance.streaming import body, digest, retry

LOG = logging.getLogger(__name__)

#: An upload of an owner with a quota reports how far it has come after this many bytes at least.
REPORT_BYTES = 4 * 1024 * 1024
#: Between attempts of calls to the registry that are safe to repeat; somebody waits for them.
ACTIVATION_BACKOFF = retry.Backoff(0.25, 4.0, retries=3, factor=4, jitter=0.2)


@dataclasses.dataclass(slots=True)
class Upload:
    """One run of the transaction.

    `size` (bytes) and `checksum` (MD5 hex) are what the caller declared, None for not declared; a
    size of 0 is one, too. `disk_format` is what the data must be in, None for any format
    (`inspection.declared_format`).
    `values` are attributes to store together with the status saving. `status` is the last known
    status of the record, which decides how a failure ends; `undecided` means that an activating
    call was sent and its outcome is unknown. `beginning` is the call that sets the status saving,
    under the name of the caller's attempt. `is_copy` is true for data copied from elsewhere, false
    for data that the caller sends; `is_new` is true for a record that the same request has made.
    `kept` is the place of the note that this process brings the data, None if there is none yet.
    `gone` is whether a failure has left no record: this upload has withdrawn it, or somebody has
    deleted it.
    `algorithm` is that of a digest beside MD5, "" for none.

    With `queued_size` a failed upload leaves the record queued, with that size in bytes, so that
    the data can be uploaded again; with None, the default, it leaves the record killed.
    """

    service: api.ImageService
    context: RequestContext
    image_id: int
    target: base.Store
    size: int | None = None
    checksum: str | None = None
    disk_format: str | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_copy: bool = False
    is_new: bool = False
    beginning: link.OnceCall = dataclasses.field(default_factory=link.OnceCall)
    kept: unfinished.Kept | None = None
    algorithm: str = ""
    queued_size: int | None = None
    status: str = "queued"
    undecided: bool = dataclasses.field(default=False, init=False)
    gone: bool = dataclasses.field(default=False, init=False)

    def receive(self, stream: body.Readable, length: int | None) -> types.ImageRecord:
        """Store the bytes of `stream` and return the record of the active image.

        `length` is the announced length of the stream in bytes, None if there is none. Raises what
        the guarded reader (`UploadReader`), the store and the registry raise, ChecksumMismatch,
        and ImageDeleted when the image was deleted meanwhile. After any error no data is left. The
        caller closes the stream. An event is emitted for success and failure; if the outcome is
        not known yet, later.
        """
        metrics.UPLOADS_IN_PROGRESS.inc()
        outcome = "failed"
        try:
            with self._noting():
                record = self._receive(stream, length)
            outcome = "stored"
        except BaseException as err:
            if isinstance(err, exception.Error) and httperror.status_of(err) < 500:
                outcome = "refused"
            if not self.undecided:
                self.emit_failed(err)
            raise
        finally:
            metrics.UPLOADS_IN_PROGRESS.inc(by=-1)
            metrics.UPLOADS.inc("copy" if self.is_copy else "client", outcome)
        self.emit_completed(record)
        return record

    @property
    def outcome(self) -> uploads.Outcome:
        """What becomes of the record if the upload fails."""
        if self.queued_size is None:
            return uploads.KILLED
        return uploads.queued_again(self.queued_size)

    def _noting(self) -> contextlib.AbstractContextManager[object]:
        """Return a block, before or after which there is no note of the caller's."""
        if self.kept is not None:
            return contextlib.nullcontext()
        self.kept = self.service.unfinished.room()
        return self.kept

    def emit_completed(self, record: types.ImageRecord) -> None:
        """Emit the event that the image is active now."""
        events = self.service.events
        (events.activated if self.is_copy else events.uploaded)(self.context, record)

    def emit_failed(self, err: BaseException) -> None:
        """Emit the event that the upload has failed."""
        self.service.events.failed("image.upload", self.context, self.image_id, err)

    def _receive(self, stream: body.Readable, length: int | None) -> types.ImageRecord:
        conf = self.service.conf
        reader = body.UploadReader(
            stream,
            length=length,
            cap=conf.image_size_cap,
            expected=self.size,
            takes_zero=self.size == 0,
            idle_timeout=conf.upload_idle_timeout,
        )
        size = self.size or length
        with self._killing():
            body.check_cap(size or 0, conf.image_size_cap)
            return self._store(reader, size)

    def _store(self, reader: body.UploadReader, size: int | None) -> types.ImageRecord:
        with self._staging(size) as staged:
            room = self._begin(size)
            source = reader if room is None else Rationed(reader, room, self._report)
            mode = self.service.conf.inspect_on_upload
            inspected = inspection.Inspected(source, self.disk_format, mode)
            algorithms = (digest.MD5, self.algorithm) if self.algorithm else (digest.MD5,)
            received = base.transfer(inspected, staged, algorithms)
            self._check(received.checksum)
            properties = inspected.judge(self.image_id)
            location = staged.commit()
            with self._undoing(staged, location):
                return self._activate(received, location, properties)

    @contextlib.contextmanager
    def _staging(self, size: int | None) -> Iterator[base.StagedWrite]:
        """Open the staged write; pass what it cannot remove after a failure to the scrubber.

        While it is open, there is a note that this process brings the data, in case it is killed.
        """
        assert self.kept is not None
        note = unfinished.Note(self.beginning.attempt, self.image_id, self.queued_size)
        with self.kept.replacing(note):
            staged = self.target.stage(str(self.image_id), size)
        try:
            try:
                yield staged
            except BaseException:
                staged.abort()
                raise
            # The image is active.
            with self.kept.striking():
                staged.abort()
        finally:
            deletion.free_later(self.service, self.context, self.image_id, staged.leftovers())

    def _check(self, checksum: str) -> None:
        if self.checksum is not None and checksum != self.checksum.lower():
            raise exception.ChecksumMismatch(
                f"The image has the MD5 {checksum}, but {self.checksum} was declared; "
                "upload it again"
            )

    def _begin(self, size: int | None) -> int | None:
        """Begin to store data of `size` bytes; return how many there may be at most.

        None means unknown, and any number.
        """
        values = {**self.values, **uploads.begun(self.outcome)}
        if size:
            values["size"] = size
        room = self.beginning.make(
            lambda: self.service.registry.report_upload(
                self.context, self.image_id, values, "queued", self.beginning.attempt
            ),
            ACTIVATION_BACKOFF,
        )
        self.status = "saving"
        return room

    def _report(self, count: int) -> int | None:
        """Tell the registry how many bytes have come; return how many there may be at most."""
        try:
            return self.service.registry.report_upload(
                self.context, self.image_id, {"size": max(count, self.size or 0)}, "saving"
            )
        except exception.NotFound as err:
            raise exception.ImageDeleted("The image was deleted during the upload") from err
        except (*AWAY, exception.NotAuthorized) as err:
            # Whether they fit is found out at the next report, or at the end.
            LOG.warning("Image %s: no room is known: %s", self.image_id, type(err).__name__)
            return None

    def _activate(
        self, received: base.Received, location: str, properties: Mapping[str, str]
    ) -> types.ImageRecord:
        values = {
            "status": "active",
            "size": received.size,
            "checksum": received.checksum,
            "location": location,
        }
        if self.algorithm:
            values["os_hash_algo"] = self.algorithm
            values["os_hash_value"] = received.digests[self.algorithm]
        if properties:
            values["properties"] = properties

        def activate() -> types.ImageRecord:
            try:
                return self._update(values, "saving")
            except exception.NotFound as err:
                raise exception.ImageDeleted("The image was deleted during the upload") from err
            except exception.NotAuthorized as err:
                # NOTE: the token was valid at the start. A registry with anonymous access treats a
                # caller without a valid token as anonymous, who must not write.
                raise exception.NotAuthorized(
                    "The token expired during the upload; upload again with a new token"
                ) from err
            except exception.Duplicate:
                # NOTE: an earlier attempt may have succeeded although its response was lost.
                record = self.service.registry.get_image_metadata(self.context, self.image_id)
                if record["status"] == "active" and record["location"] == location:
                    return record
                raise
            except AWAY as err:
                self.undecided = self.undecided or link.may_be_done(err)
                raise

        try:
            record = retry.retry(
                activate,
                ACTIVATION_BACKOFF,
                on=AWAY,
                report=lambda err: LOG.warning(
                    "Image %s: the registry is unavailable; retrying", self.image_id
                ),
            )
        except exception.LimitExceeded:
            if not properties:
                raise
            # NOTE: the quota of properties may have no room for ours, which is no fault of the
            # data; if it is another quota, this is refused again.
            return self._activate(received, location, {})
        self.status = "active"
        return record

    def _update(
        self, values: Mapping[str, Any], from_state: str, attempt: str | None = None
    ) -> types.ImageRecord:
        return self.service.registry.update_image_metadata(
            self.context,
            self.image_id,
            values,
            from_state=from_state,
            attempt=attempt,
        )

    @contextlib.contextmanager
    def _undoing(self, staged: base.StagedWrite, location: str) -> Iterator[None]:
        """Remove committed data again if its record cannot be made active.

        If the registry may have activated the record without our knowledge, or may still do so,
        the data stays until its status is known: an active record must have its data.
        """
        try:
            yield
        except Exception:
            if self.undecided:
                left = staged.abandon()
                recovery.settle_later(
                    self.service, left, self.context, self.emit_completed, self.outcome
                )
            else:
                self._remove(location)
            raise
        except BaseException:
            # Killed during the call: the next start settles it.
            self.undecided = True
            staged.abandon().leave()
            raise

    def _remove(self, location: str) -> None:
        try:
            self.service.stores.delete(location)
        except exception.StoreObjectNotFound:
            LOG.debug("Image %s: its data is gone already", self.image_id)
        except Exception as err:  # the first error is raised
            LOG.error("Image %s: its data was not removed: %s", self.image_id, type(err).__name__)
            deletion.free_later(self.service, self.context, self.image_id, [location])

    @contextlib.contextmanager
    def _killing(self) -> Iterator[None]:
        """Set the record to killed after a failure, if this upload still owns it."""
        try:
            yield
        except BaseException as err:
            self.gone = isinstance(err, exception.ImageDeleted)
            if isinstance(err, exception.StoreError):
                self.service.data_log.refused(self.image_id, self.target, err)
            if self._must_withdraw(err):
                self.gone = True
                self._withdraw(err)
            elif self._must_kill(err):
                self.kill(err)
            raise

    def _must_withdraw(self, err: BaseException) -> bool:
        """Return whether the record can go: nothing was begun, and nobody knows of it."""
        if not self.is_new or self.is_copy or self.status != "queued" or self.beginning.undecided:
            return False
        if isinstance(err, exception.OutOfDescriptors):
            return True
        # The record of what a store or a quota refuses stays, and so does that of another upload.
        told = (exception.StoreError, exception.LimitExceeded)
        return not isinstance(err, (*told, exception.NotFound, exception.Duplicate))

    def _withdraw(self, reason: BaseException) -> None:
        level = logging.INFO if _is_logged(reason) else logging.WARNING
        LOG.log(level, "Image %s is withdrawn: %s", self.image_id, type(reason).__name__)
        record = (self.service, self.context, self.beginning.attempt)
        try:
            recovery.withdraw(*record)
        except (exception.ServiceUnavailable, exception.NotAuthorized) as err:
            LOG.error("Image %s will be withdrawn later: %s", self.image_id, type(err).__name__)
            recovery.withdraw_later(*record)
        except Exception as err:
            LOG.error("Image %s could not be withdrawn: %s", self.image_id, type(err).__name__)

    def _must_kill(self, err: BaseException) -> bool:
        if isinstance(err, exception.ImageDeleted) or self.undecided:
            return False
        if self.status == "queued" and not self.beginning.undecided:
            # Nothing was begun: either the registry refused the transition, and another upload
            # owns the record, or the store or a quota has no room. A store that permits no writing
            # may do so again later, and not one byte was read: the caller can repeat the upload.
            # Nobody repeats a copy: its caller waits for the image to leave the status queued.
            if self.is_copy:
                return True
            if self.queued_size is not None:
                return False
            refused = isinstance(err, exception.StoreError | exception.LimitExceeded)
            passing = exception.StorageWriteDenied | exception.OutOfDescriptors
            return refused and not isinstance(err, passing)
        return True

    def kill(self, reason: BaseException) -> bool:
        """Set the record to `outcome`, if it is still as this upload left it; never raises.

        Returns whether that is done; otherwise it is tried again in the background.
        """
        # NOTE: of a failed copy `_copy` reports the cause.
        level = logging.INFO if _is_logged(reason) else logging.WARNING
        level = logging.DEBUG if self.is_copy else level
        status = self.outcome["status"]
        LOG.log(level, "Image %s is %s: %s", self.image_id, status, exception.described(reason))
        attempt = self.beginning.attempt if self.beginning.undecided else None
        record = (self.service, self.context, self.image_id, self.status, attempt, self.outcome)
        try:
            recovery.kill(*record)
        except (exception.ServiceUnavailable, exception.NotAuthorized) as err:
            LOG.error("Image %s will be %s later: %s", self.image_id, status, type(err).__name__)
            # NOTE: this call may have queued the image, and another upload begun since.
            attempt = self.beginning.attempt if self.status == "saving" else attempt
            recovery.kill_later(*record[:4], attempt, self.outcome)
            return False
        except Exception as err:
            LOG.error("Image %s could not be %s: %s", self.image_id, status, type(err).__name__)
        return True


def _is_logged(err: BaseException) -> bool:
    return isinstance(err, exception.Error) and err.is_logged


class Rationed:
    """Reads an upload as far as the quota of its owner has room.

    `room` is how many bytes it may have now. Other uploads of the owner take room meanwhile, so
    `report`, called with the number of bytes so far, returns it anew (None: unchanged); it is
    called the more often the less room is left. `read` raises QuotaExceeded as soon as there is
    more than there is room for, and what `report` raises.
    """

    def __init__(self, reader: body.UploadReader, room: int, report: Callable[[int], int | None]):
        self._reader, self._room, self._report = reader, room, report
        self._next = self._step()

    def _step(self) -> int:
        count = self._reader.count
        return count + max(REPORT_BYTES, (self._room - count) // 4)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" only at the end."""
        # One byte too many is enough to see that there is no room.
        data = self._reader.read(min(size, self._room + 1 - self._reader.count))
        if self._reader.count >= self._next:
            room = self._report(self._reader.count)
            self._room = self._room if room is None else room
            self._next = self._step()
        if self._reader.count > self._room:
            raise exception.QuotaExceeded(
                f"The owner of the image may store {self._room} more bytes: delete images that "
                "are not needed"
            )
        return data

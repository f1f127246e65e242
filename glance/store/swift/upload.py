"""Write images to Swift: one object, or segments and then a manifest.

A small image is spooled and sent at the end; a larger one is sent segment by segment, each from
the spool, so that a failure costs a segment and not the image. An image of known size between the
two, larger than a segment but below the threshold, is streamed into one object. After a crash, the
upload journal shows what was written. What does not belong here: reading and deleting images.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from glance.common import exception
from glance.http import etags
from glance.store import base, spool, upload_journal
from glance.store.swift import objects
from glance.store.swift.stream import BackgroundRequest
from glance.streaming import hub, retry, tasks, threads

if TYPE_CHECKING:
    from glance.store.swift.client import SwiftClient

LOG = logging.getLogger(__name__)

#: How often a part is sent if it arrives in Swift with another digest.
TRIES = 3
#: Seconds after which the removal of what a failed upload wrote is left to the scrubber.
CLEANUP_SECONDS = 30
#: While Swift's listings do not yet show all segments of a dynamic manifest.
LISTING_BACKOFF = retry.Backoff(0.25, 4.0, retries=5, jitter=0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The layout of images; sizes are in bytes.

    `threshold` is the size from which an image is segmented, `segment` the size of a segment,
    `static` how many segments a static manifest may have; with more, or if it is 0, the manifest
    is dynamic, unless `dynamic` is False.
    """

    threshold: int
    segment: int
    static: int
    dynamic: bool

    def for_size(self, size: int | None) -> Plan:
        """Return the plan for an image of `size`, with segments that are large enough."""
        most = objects.MAX_SEGMENTS if self.dynamic else self.static
        smallest = -(-(size or 0) // most)
        return dataclasses.replace(self, segment=max(self.segment, smallest))


class SwiftBackend(Protocol):
    """What an upload needs from its store."""

    container: str
    spool_dir: str

    def connect(self, retries: int | None = None, *, patient: bool = False) -> SwiftClient: ...

    def location_of(self, image_id: str) -> str: ...

    def identity(self) -> str: ...

    def forget(self) -> None: ...


class SwiftUpload(base.StagedWrite):
    """The upload of one image. Call `begin`, then use it as a staged write."""

    def __init__(self, store: SwiftBackend, image_id: str, plan: Plan):
        self._store, self._image_id, self._plan = store, image_id, plan
        self._upload = secrets.token_hex(16)
        self._open = False
        self._committed = False
        self._sent = False
        self._count = 0
        self._parts: list[tuple[str, int]] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._client: SwiftClient | None = None
        self._spool: spool.UploadSpool | None = None
        self._stream: BackgroundRequest | None = None
        self._trace: upload_journal.UploadJournal | None = None
        self._left: list[str] = []

    def begin(self, size: int | None) -> None:
        """Create spool and journal; `size` decides whether the image is streamed."""
        self._open = True
        # NOTE: Swift has responded to the checks before, so it can only be away for a moment, and
        # by the first request the sender may have sent all of its data.
        self._client = self._store.connect(patient=True)
        self._trace = upload_journal.begin(
            self._store.spool_dir,
            "swift",
            image_id=self._image_id,
            owner=self._store.identity(),
            upload=self._upload,
            segments=0,
            committed=False,
        )
        if size is not None and self._plan.segment < size < self._plan.threshold:
            # NOTE: no length is sent. The declared size is a hint; the digest shows whether
            # everything arrived. A reader that cannot go back makes every failure final: no
            # retries.
            connect = functools.partial(self._store.connect, retries=0)
            container, marks = self._store.container, self._marks()
            self._sent = True
            self._stream = BackgroundRequest(
                functools.partial(_send_stream, connect, container, self._image_id, marks)
            )
        else:
            self._spool = spool.UploadSpool(self._store.spool_dir)

    def _marks(self, **more: str) -> dict[str, str]:
        return {objects.UPLOAD: self._upload, **more}

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self._open or self._committed:
            raise ValueError("the staged write has ended")
        if self._stream is not None:
            self._stream.put(data)
            if self.whole_md5 is None:
                threads.run(self._md5.update, data)
        else:
            view = memoryview(data)
            while view:
                if self._spooled.size >= self._plan.segment:
                    self._send_segment()
                room = self._plan.segment - self._spooled.size
                threads.run(self._take, view[:room])
                view = view[room:]
        self._count += len(data)

    @property
    def _spooled(self) -> spool.UploadSpool:
        assert self._spool is not None
        return self._spool

    def _take(self, data: memoryview) -> None:
        self._spooled.write(data)
        self._md5.update(data)

    def _send_segment(self) -> None:
        number = len(self._parts) + 1
        if number > objects.MAX_SEGMENTS or not self._plan.dynamic and number > self._plan.static:
            raise exception.StorageFull().because(
                "the image needs more segments than a manifest may have; raise "
                "swift_store_large_object_chunk_size"
            )
        assert self._trace is not None
        self._trace.update(segments=number)
        name = objects.segment_name(self._image_id, number)
        digest = self._send_spooled(name, **{objects.PART_OF: self._image_id})
        self._parts.append((digest, self._spooled.size))
        self._spooled.clear()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def _send_spooled(self, name: str, **marks: str) -> str:
        """Write the spooled data as one object; return its MD5."""
        digest = self._md5.hexdigest()
        contents = self._spooled.reader() if self._spooled.size else b""
        headers = self._marks(**marks) | {"ETag": digest}
        for last in (False,) * (TRIES - 1) + (True,):
            if self._put(name, contents, self._spooled.size, headers) == digest:
                return digest
            LOG.warning("Image %s: a part did not arrive intact", self._image_id)
            if not last and contents:
                contents = self._spooled.reader()
        raise exception.BackendCorrupt()

    def _put(
        self,
        name: str,
        contents: Any,
        length: int,
        headers: Mapping[str, str],
        query: str | None = None,
    ) -> str | None:
        """Write an object and return its ETag in Swift.

        If it differs from what was sent it is removed again, and None is returned.
        """
        assert self._client is not None
        container = self._store.container
        self._sent = True
        try:
            etag = self._client.put(
                container, name, contents, length=length, headers=headers, query=query
            )
        except exception.BackendCorrupt:
            return None
        except exception.StorageWriteDenied:
            # The container may be gone, and may be created again before the next upload.
            self._store.forget()
            raise
        except exception.StoreObjectExists:
            # NOTE: an earlier attempt may have succeeded although its response was lost.
            found = self._client.head(container, name)
            if found.get(objects.UPLOAD) != self._upload:
                raise
            etag = etags.opaque(found.get("etag"))
        expected = headers.get("ETag")
        if expected is not None and etag != expected:
            self._client.delete(container, name)
            return None
        return etag

    # -- ending ----------------------------------------------------------------------------------

    def commit(self) -> str:
        if not self._open or self._committed:
            raise ValueError("the staged write has ended")
        assert self._trace is not None
        try:
            self._finish()
            self._trace.update(committed=True)
        except BaseException:
            # NOTE: a kill can arrive when the object exists already; no record will point to it,
            # so remove it.
            self._discard()
            raise
        self._committed = True
        self._close()
        return self._store.location_of(self._image_id)

    def _finish(self) -> None:
        assert self._client is not None
        if self._stream is not None:
            etag = self._stream.finish()
            sent = self.whole_md5() if self.whole_md5 else self._md5.hexdigest()
            if etag != sent:
                raise exception.BackendCorrupt()
            return
        if not self._parts and self._count < self._plan.threshold:
            self._send_spooled(self._image_id)
            return
        if self._spooled.size:
            self._send_segment()
        if len(self._parts) <= self._plan.static:
            self._put_static_manifest()
        else:
            self._put_dynamic_manifest()
        self._check_whole()

    def _put_static_manifest(self) -> None:
        container = self._store.container
        entries = [
            {
                "path": f"/{container}/{objects.segment_name(self._image_id, number)}",
                "etag": digest,
                "size_bytes": size,
            }
            for number, (digest, size) in enumerate(self._parts, 1)
        ]
        manifest = json.dumps(entries).encode()
        self._put_manifest(manifest, {}, "multipart-manifest=put")

    def _put_dynamic_manifest(self) -> None:
        # NOTE: with the hyphen; otherwise the prefix would match other images' segments too.
        prefix = f"{self._store.container}/{self._image_id}-"
        self._put_manifest(b"", {"X-Object-Manifest": urllib.parse.quote(prefix)}, None)

    def _put_manifest(self, manifest: bytes, headers: dict[str, str], query: str | None) -> None:
        marks = self._marks(**{objects.SEGMENTS: str(len(self._parts))})
        if self._put(self._image_id, manifest, len(manifest), marks | headers, query) is None:
            raise exception.BackendCorrupt()

    def _check_whole(self) -> None:
        """Raise BackendCorrupt unless the manifest has exactly the segments of this upload."""
        client = self._client
        assert client is not None
        digests = "".join(digest for digest, _ in self._parts).encode()
        expected = hashlib.md5(digests, usedforsecurity=False).hexdigest()

        def is_whole() -> bool:
            found = client.head(self._store.container, self._image_id)
            if found.get("content-length") != str(self._count):
                return False
            # NOTE: Swift computes no ETag of more segments than fit into one listing.
            if (etags.opaque(found.get("etag")) or expected) != expected:
                raise exception.BackendCorrupt()
            return True

        if not retry.wait_until(is_whole, LISTING_BACKOFF):
            raise exception.BackendCorrupt()

    def abort(self) -> None:
        if not self._open:
            return
        if not self._committed:
            self._discard()
        else:
            self._open = False
            assert self._trace is not None
            self._trace.remove()

    def leftovers(self) -> list[str]:
        return list(self._left)

    def abandon(self) -> AbandonedUpload:
        if not self._open:
            raise ValueError("the staged write has ended")
        assert self._trace is not None
        self._close()
        self._open, found, self._trace = False, self._trace, None
        return AbandonedUpload(self._store, found)

    def _discard(self) -> None:
        """Remove everything that was written."""
        self._open = False
        self._close()
        if self._trace is None:
            return
        if not self._sent:
            self._trace.remove()
        elif not _remove(self._store, self._trace):
            self._left.append(self._store.location_of(self._image_id))

    def _close(self) -> None:
        """Close local files and connections; idempotent."""
        if self._stream is not None:
            self._stream.abort()
        if self._spool is not None:
            self._spool.close()
        if self._client is not None:
            self._client.close()

    def __del__(self) -> None:
        if not self._open:
            return
        if hub.may_wait():
            self.abort()
        else:
            # Garbage collection inside the event loop, which must not wait for Swift.
            tasks.spawn(self.abort)


class AbandonedUpload(base.AbandonedWrite):
    """An upload of a dead writer, known from its journal."""

    def __init__(self, store: SwiftBackend, found: upload_journal.UploadJournal):
        self.image_id = found.values["image_id"]
        self._store, self._trace = store, found

    @property
    def committed(self) -> bool:
        return bool(self._trace.values["committed"])

    def discard(self) -> None:
        _remove(self._store, self._trace)

    def keep(self) -> None:
        self._trace.remove()

    def leave(self) -> None:
        self._trace.leave()


def _remove(store: SwiftBackend, found: upload_journal.UploadJournal) -> bool:
    """Remove what a journal records, and the journal; return whether all of it is gone.

    If something cannot be removed now, the journal stays for the next sweep. Never raises.
    """
    values = found.values
    try:
        with hub.deadline(CLEANUP_SECONDS, "Swift does not respond"):
            objects.remove_upload(
                functools.partial(store.connect, retries=1),
                store.container,
                values["image_id"],
                values["upload"],
                values["segments"],
            )
    except Exception as err:
        # Whatever the error is, the caller must get the failure of the image.
        LOG.warning(
            "Image %s: parts of an interrupted upload remain in Swift for now: %s",
            values["image_id"],
            type(err).__name__,
        )
        found.leave()
        return False
    found.remove()
    return True


def _send_stream(
    connect: Callable[[], SwiftClient],
    container: str,
    name: str,
    headers: Mapping[str, str],
    reader: BackgroundRequest,
) -> str:
    with connect() as client:
        return client.put(container, name, reader, headers=headers)

"""One bucket of an S3 service: its objects and multipart uploads, parsed with boto.

What does not belong here: images, locations, handling of failures.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import logging
import types
import urllib.parse
import xml.sax
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar
from xml.sax import saxutils

from glance.common import exception
from glance.http import etags, ranges
from glance.http.client import response as http_response
from glance.store.s3.connection import (
    BotoServerError,
    MultiPartUpload,
    OrdinaryCallingFormat,
    SigningConnection,
    SubdomainCallingFormat,
)
from glance.store.s3.endpoint import DEFAULT_REGION, Endpoint
from glance.store.s3.errors import S3Refused, Unreachable
from glance.store.s3.exchange import Keys, PayloadSource, S3Exchange, S3Response, Sending, Settings

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: The upload that wrote an object: stored with the object as x-amz-meta-...
TOKEN = "glance-upload"


@dataclasses.dataclass(frozen=True)
class Info:
    """What the service reports about an object. `token` names the upload that wrote it."""

    size: int
    etag: str
    token: str | None


@dataclasses.dataclass(frozen=True)
class Object:
    """An object in a listing."""

    key: str
    size: int
    modified: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class OpenUpload:
    """A multipart upload that has not ended."""

    key: str
    upload_id: str
    initiated: datetime.datetime | None


class S3Client:
    """Requests to one bucket of one service. Safe for concurrent use by greenthreads.

    Every method raises `S3Refused` or `Unreachable`. `keep` is whether connections are kept for
    the next request. With `keys` None requests are not signed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        bucket: str,
        keys: Keys | None,
        settings: Settings,
        *,
        region: str | None = None,
        by_host: bool = False,
        keep: bool = False,
    ):
        self.endpoint, self.bucket, self.settings = endpoint, bucket, settings
        self.region = region or endpoint.region
        self._conditional = True
        style = OrdinaryCallingFormat()
        host = endpoint.host
        if by_host:
            style = SubdomainCallingFormat()
            host = f"{bucket}.{host}"
        exchange = S3Exchange(endpoint, host, settings, keep=keep)
        self._connection = SigningConnection(endpoint, self.region, keys, exchange, style)
        self._bucket = self._connection.get_bucket(bucket, validate=False)

    def __repr__(self) -> str:
        return f"<Client of {self.endpoint.address}/{self.bucket}>"

    # -- objects ---------------------------------------------------------------------------------

    def head(self, key: str) -> Info:
        """Return the information about an object."""
        response = self._request("HEAD", key)
        size = http_response.parse_length(response.getheader("content-length"))
        if size is None:
            raise Unreachable("the response to HEAD has no length")
        return Info(size, etags.opaque(response.etag), response.getheader(f"x-amz-meta-{TOKEN}"))

    def get(
        self,
        key: str,
        offset: int,
        length: int | None,
        etag: etags.ETag | None = None,
        extra: Mapping[str, str] = types.MappingProxyType({}),
    ) -> http_response.ClientResponse:
        """Return the response with the bytes from `offset` on: `length` of them (not 0), or all.

        With `etag` only from that version of the object. `extra` headers are added. The caller
        closes the response.
        """
        range_header = ranges.format_range(offset, length)
        headers = {**extra, **({"Range": range_header} if range_header else {})}
        if etag:
            headers["If-Match"] = str(etag)
        response: http_response.ClientResponse = self._request(
            "GET", key, headers=headers, sending=Sending(streaming=True)
        )
        return response

    def put(self, key: str, source: PayloadSource, token: str) -> None:
        """Store an object that must not exist; 412 if it does and the service checks that.

        Raises BackendCorrupt if the service has stored something else than was sent.
        """
        token_header = {f"x-amz-meta-{TOKEN}": token}
        response = self._exclusively(
            lambda only: self._put(key, source, {**token_header, **only}, None)
        )
        if _is_encrypted(response) and self.head(key).size != source.count:
            self._corrupt()

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it does not exist."""
        self._request("DELETE", key)

    def _put(
        self, key: str, source: PayloadSource, headers: dict[str, str], query: str | None
    ) -> S3Response:
        """Send `source` and return the response; verify what the service received by its ETag."""
        headers |= {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(source.count),
            "Content-MD5": base64.b64encode(bytes.fromhex(source.md5)).decode("ascii"),
        }
        if self.settings.signature == 4:
            headers["x-amz-content-sha256"] = source.sha256
        response: S3Response = self._request(
            "PUT", key, headers=headers, query=query, sending=Sending(source=source)
        )
        if not _is_encrypted(response) and etags.opaque(response.etag).lower() != source.md5:
            self._corrupt()
        return response

    def _corrupt(self) -> NoReturn:
        LOG.error("S3 at %s received different data than was sent", self.endpoint.address)
        raise exception.BackendCorrupt()

    def objects(self) -> Iterator[Object]:
        """Return all objects of the bucket, page by page, in the order of their names."""
        marker = ""
        while True:
            with _parsed():
                page = self._bucket.get_all_keys(marker=marker)
            for found in page:
                yield Object(found.name, int(found.size), _time(found.last_modified))
            if not page.is_truncated or not page:
                return
            marker = page[-1].name

    # -- multipart uploads -----------------------------------------------------------------------

    def initiate(self, key: str, token: str) -> str:
        """Begin a multipart upload; return its id.

        Not retried after a doubtful failure, which may have begun one.
        """
        headers = {"Content-Type": "application/octet-stream"}
        with _parsed():
            upload = self._bucket.initiate_multipart_upload(
                key, headers=headers, metadata={TOKEN: token}
            )
        if not isinstance(upload.id, str) or not upload.id:
            raise Unreachable("the response names no upload")
        return upload.id

    def put_part(self, key: str, upload_id: str, number: int, source: PayloadSource) -> str:
        """Send a part, numbered from 1; return its ETag. Raises BackendCorrupt like `put`."""
        query = f"partNumber={number}&uploadId={_quote(upload_id)}"
        return self._put(key, source, {}, query).etag

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        """Join the parts to an object that must not exist; 412 if it does, as with `put`."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{saxutils.escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        text = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        with _parsed():
            done = self._exclusively(
                lambda only: self._bucket.complete_multipart_upload(
                    key, _quote(upload_id), text, dict(only)
                )
            )
        if not done.etag:
            # NOTE: the status was sent before the work; boto looks for an error only after an XML
            # declaration.
            raise Unreachable("the response names no object")

    def abort(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload and remove its parts; 404 if it has ended already."""
        with _parsed():
            self._bucket.cancel_multipart_upload(key, _quote(upload_id))

    def uploads(self, prefix: str = "") -> Iterator[OpenUpload]:
        """Return the open multipart uploads of keys that begin with `prefix`."""
        marks: dict[str, str] = {}
        while True:
            with _parsed():
                page = self._bucket.get_all_multipart_uploads(prefix=prefix, **marks)
            for found in page:
                yield OpenUpload(found.key_name, found.id, _time(found.initiated))
            marks = {
                "key_marker": page.next_key_marker or "",
                "upload_id_marker": page.next_upload_id_marker or "",
            }
            if not page.is_truncated or not marks["key_marker"]:
                return

    def last_part(self, upload: OpenUpload) -> datetime.datetime | None:
        """Return when the newest part of an upload arrived, None if it has none."""
        parts = MultiPartUpload(self._bucket)
        parts.key_name, parts.id = upload.key, _quote(upload.upload_id)
        with _parsed():
            times = [_time(part.last_modified) for part in parts]
        return max(filter(None, times), default=None)

    def _exclusively(self, request: Callable[[Mapping[str, str]], T]) -> T:
        """Send a request that must not replace an object, if the service can ensure that."""
        if self._conditional:
            try:
                return request({"If-None-Match": "*"})
            except S3Refused as err:
                if err.status != 501 and err.code != "NotImplemented":
                    raise
            LOG.warning("S3 at %s does not support conditional writes", self.endpoint.address)
            self._conditional = False
        return request({})

    # -- the bucket ------------------------------------------------------------------------------

    def head_bucket(self) -> None:
        """Raise unless the bucket exists and may be used."""
        self._request("HEAD", "")

    def create_bucket(self) -> None:
        """Create the bucket; it is no error if the account owns it already."""
        location = "" if self.region == DEFAULT_REGION else self.region
        try:
            with _parsed():
                self._connection.create_bucket(self.bucket, location=location)
        except S3Refused as err:
            if err.code != "BucketAlreadyOwnedByYou":
                raise

    # -- one request -----------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: str | None = None,
        sending: Sending | None = None,
    ) -> Any:
        try:
            return self._connection.make_request(
                method,
                self.bucket,
                key,
                headers=dict(headers or {}),
                query_args=query,
                sender=sending,
            )
        except UnicodeEncodeError as err:
            # Names in S3 are UTF-8, so nothing has this name.
            raise S3Refused(404, "NoSuchKey") from err


@contextlib.contextmanager
def _parsed() -> Iterator[None]:
    """Translate the errors of boto's parsers for responses that look successful.

    SECURITY: boto's own errors quote the response, which can repeat what was signed.
    """
    try:
        yield
    except BotoServerError as err:
        code = err.error_code if isinstance(err.error_code, str) else ""
        raise S3Refused(err.status, code) from None
    except (xml.sax.SAXException, UnicodeError, ValueError, AttributeError) as err:
        raise Unreachable(f"the response is not XML of S3 ({type(err).__name__})") from None


def _is_encrypted(response: S3Response) -> bool:
    """Return whether the ETag of an object is not its MD5, because it is encrypted by a key."""
    kind = response.getheader("x-amz-server-side-encryption", "") or ""
    customer = response.getheader("x-amz-server-side-encryption-customer-algorithm")
    return kind.startswith("aws:kms") or bool(customer)


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _time(text: str | None) -> datetime.datetime | None:
    """Return a time of S3's XML, which is UTC; None if it is malformed."""
    try:
        moment = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or datetime.UTC)

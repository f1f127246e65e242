"""The border to boto: one S3 service and bucket, its requests and its answers.

boto names buckets, signs requests and reads XML. What goes over the wire is sent by glance's own
HTTP client, so that time-outs, repetition, TLS and the log are in our hands. Only this module
imports boto, and it is only imported once an S3 store is used.

Nothing that boto would find by itself counts: no /etc/boto.cfg, no ~/.boto, no environment. What
does not belong here: images, locations, what to do about a failure.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import logging
import os
import random
import re
import ssl
import urllib.parse
import xml.sax
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar
from xml.sax import saxutils

from glance.common import exception, httppool, httpreply, httpwire, offload
from glance.common.payload import Payload
from glance.store.s3.endpoint import DEFAULT_REGION, Endpoint
from glance.store.s3.errors import Failed, Refused, Unreachable

LOG = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
#: An answer other than an image is never larger.
MAX_ANSWER = 16 * 1024 * 1024
MAX_ERROR = 64 * 1024
#: Bytes per second below which sending a body counts as stalled.
SLOWEST = 16 * 1024
#: The longest pause before a request is sent again, in seconds.
MAX_PAUSE = 20.0
#: Which upload wrote an object: kept with the object as x-amz-meta-...
TOKEN = "glance-upload"

_AGAIN = frozenset({429, 500, 502, 503, 504})
#: Codes of a 400 that speak of the way here, not of the request.
_AGAIN_CODES = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"}
)
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")


class _NoSecrets(logging.Filter):
    """Drops what boto says at debug level: headers, signatures and what was signed.

    SECURITY: also where the operator's own logging configuration turns that level on.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Keep boto from reading files of settings, which it does while it is imported."""
    names = ("BOTO_CONFIG", "AWS_CREDENTIAL_FILE")
    saved = {name: os.environ.pop(name, None) for name in names}
    os.environ["BOTO_CONFIG"] = os.devnull
    try:
        yield
    finally:
        del os.environ["BOTO_CONFIG"]
        os.environ.update({name: value for name, value in saved.items() if value is not None})


logging.getLogger("boto").addFilter(_NoSecrets())
with _without_settings():
    import boto.exception
    import boto.provider
    from boto.s3 import connection as boto_connection
    from boto.s3 import multipart as boto_multipart


class Source(Protocol):
    """Bytes to send, as often as it takes: their number, digests in hex, and a fresh payload."""

    @property
    def count(self) -> int: ...

    @property
    def md5(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def payload(self) -> Payload: ...


@dataclasses.dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access: str
    secret: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to talk to a service: time-out in seconds, how often to try again, what to trust."""

    timeout: float
    retries: int
    signature: int
    tls: ssl.SSLContext


@dataclasses.dataclass(frozen=True)
class Info:
    """What the service tells of an object. `token` names the upload that wrote it."""

    size: int
    etag: str
    token: str | None


@dataclasses.dataclass(frozen=True)
class Object:
    """An object as a list shows it."""

    key: str
    size: int
    modified: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class OpenUpload:
    """A multipart upload that has not ended."""

    key: str
    upload_id: str
    initiated: datetime.datetime | None


class _Provider(boto.provider.Provider):
    """The keys, and nothing from files, environment or the host's metadata service."""

    def __init__(self, keys: Keys | None):
        self.name = "aws"
        self.host = self.port = self.host_header = None
        self.access_key = keys.access if keys else None
        self.secret_key = keys.secret if keys else None
        self.security_token = self.profile_name = None
        self.acl_class = self.AclClassMap[self.name]
        self.canned_acls = self.CannedAclsMap[self.name]
        self._credential_expiry_time = None
        self.configure_headers()
        self.configure_errors()


@dataclasses.dataclass(frozen=True)
class _Answer:
    """A complete answer, in the shape that boto's own parsers ask for."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes

    @property
    def etag(self) -> str:
        """Return the ETag as it was written, quotes included."""
        return self.headers.get("etag", "")

    def read(self) -> bytes:
        return self.data

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return self.headers.get(name.lower(), default)

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self.headers.items())


@dataclasses.dataclass(frozen=True)
class _Sending:
    """What travels through boto to `_mexe` as the `sender` of a request."""

    source: Source | None = None
    streaming: bool = False


class _Connection(boto_connection.S3Connection):
    """boto's connection, whose requests are carried out by a `Client`.

    It keeps nothing between requests, so that many greenthreads may use it at once.
    """

    def __init__(self, client: Client, keys: Keys | None, style: Any):
        endpoint = client.endpoint
        self._client = client
        self._signature = client.settings.signature
        super().__init__(
            is_secure=endpoint.secure,
            port=endpoint.effective_port,
            host=endpoint.host,
            path=f"{endpoint.prefix}/",
            calling_format=style,
            provider=_Provider(keys),
            suppress_consec_slashes=False,
            anon=keys is None,
        )
        # NOTE: settings of boto's own could have changed these.
        self.is_secure, self.protocol = endpoint.secure, "https" if endpoint.secure else "http"
        if keys is not None and self._signature == 4:
            self.auth_region_name = client.region

    def _required_auth_capability(self) -> list[str]:
        if self.anon:
            return ["anon"]
        return ["hmac-v4-s3"] if self._signature == 4 else ["s3"]

    def handle_proxy(self, *settings: Any) -> None:
        """Use no proxy: boto would look for one in the environment, and print advice."""
        self.proxy = self.proxy_port = self.proxy_user = self.proxy_pass = None
        self.no_proxy, self.use_proxy = "", False

    def server_name(self, port: int | None = None) -> str:
        """Return the bare host: the signer of version 4 adds the port itself."""
        return str(self.host)

    def _mexe(
        self,
        request: Any,
        sender: Any = None,
        override_num_retries: Any = None,
        retry_handler: Any = None,
    ) -> Any:
        return self._client.carry_out(self, request, sender or _Sending())


class Client:
    """Requests to one bucket of one service. Safe to use from many greenthreads at once.

    Every method raises `Refused` or `Unreachable`. `keep` tells whether connections are kept for
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
        style = boto_connection.OrdinaryCallingFormat()
        host = endpoint.host
        if by_host:
            style = boto_connection.SubdomainCallingFormat()
            host = f"{bucket}.{host}"
        self._connection = _Connection(self, keys, style)
        self._bucket = self._connection.get_bucket(bucket, validate=False)
        self._pool = httppool.ConnectionPool(
            host.strip("[]"),
            endpoint.effective_port,
            context=settings.tls if endpoint.secure else None,
            max_idle=16 if keep else 0,
            connect_timeout=min(CONNECT_TIMEOUT, settings.timeout),
            read_timeout=settings.timeout,
        )

    def __repr__(self) -> str:
        return f"<Client of {self.endpoint.address}/{self.bucket}>"

    # -- objects ---------------------------------------------------------------------------------

    def head(self, key: str) -> Info:
        """Return what is known of an object."""
        answer = self._request("HEAD", key)
        size = answer.getheader("content-length", "")
        if not (size.isascii() and size.isdigit()) or len(size) > 19:
            raise Unreachable("the answer to HEAD has no length")
        return Info(int(size), answer.etag.strip('"'), answer.getheader(f"x-amz-meta-{TOKEN}"))

    def get(
        self, key: str, offset: int, length: int | None, etag: str | None = None
    ) -> httpreply.Response:
        """Return the answer with the bytes from `offset`, `length` (not 0) or all that follow.

        With `etag` only from that version of the object. The caller closes the answer.
        """
        headers = {}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        if etag:
            headers["If-Match"] = f'"{etag}"'
        response: httpreply.Response = self._request(
            "GET", key, headers=headers, sending=_Sending(streaming=True)
        )
        return response

    def put(self, key: str, source: Source, token: str) -> None:
        """Store an object that must not be there yet; 412 if it is and the service looks.

        Raises BackendCorrupt if the service holds something else than was sent.
        """
        token_header = {f"x-amz-meta-{TOKEN}": token}
        answer = self._exclusively(
            lambda only: self._put(key, source, {**token_header, **only}, None)
        )
        if _is_encrypted(answer) and self.head(key).size != source.count:
            self._corrupt()

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""
        self._request("DELETE", key)

    def _put(
        self, key: str, source: Source, headers: dict[str, str], query: str | None
    ) -> _Answer:
        """Send `source` and return the answer; compare what the service received by its ETag."""
        headers |= {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(source.count),
            "Content-MD5": base64.b64encode(bytes.fromhex(source.md5)).decode("ascii"),
        }
        if self.settings.signature == 4:
            headers["x-amz-content-sha256"] = source.sha256
        answer: _Answer = self._request(
            "PUT", key, headers=headers, query=query, sending=_Sending(source=source)
        )
        if not _is_encrypted(answer) and answer.etag.strip('"').lower() != source.md5:
            self._corrupt()
        return answer

    def _corrupt(self) -> NoReturn:
        LOG.error("S3 at %s received other data than was sent", self.endpoint.address)
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

        Not tried again after a doubtful failure, which may have begun one.
        """
        headers = {"Content-Type": "application/octet-stream"}
        with _parsed():
            upload = self._bucket.initiate_multipart_upload(
                key, headers=headers, metadata={TOKEN: token}
            )
        if not isinstance(upload.id, str) or not upload.id:
            raise Unreachable("the answer names no upload")
        return upload.id

    def put_part(self, key: str, upload_id: str, number: int, source: Source) -> str:
        """Send a part, numbered from 1; return its ETag. Raises BackendCorrupt like `put`."""
        query = f"partNumber={number}&uploadId={_quote(upload_id)}"
        return self._put(key, source, {}, query).etag

    def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Make the parts an object that must not be there yet; 412 if it is, as with `put`."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{saxutils.escape(etag)}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        text = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        with _parsed():
            done = self._exclusively(
                lambda only: self._bucket.complete_multipart_upload(
                    key, _quote(upload_id), text, dict(only)
                )
            )
        if not done.etag:
            # NOTE: the status was sent before the work; boto looks for an error only behind a
            # declaration of XML.
            raise Unreachable("the answer tells of no object")

    def abort(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload and its parts; 404 if it has ended already."""
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
        """Return when the newest part of an upload came, None if it has none."""
        parts = boto_multipart.MultiPartUpload(self._bucket)
        parts.key_name, parts.id = upload.key, _quote(upload.upload_id)
        with _parsed():
            times = [_time(part.last_modified) for part in parts]
        return max(filter(None, times), default=None)

    def _exclusively(self, request: Callable[[Mapping[str, str]], T]) -> T:
        """Make a request that must replace nothing, as far as the service can promise that."""
        if self._conditional:
            try:
                return request({"If-None-Match": "*"})
            except Refused as err:
                if err.status != 501 and err.code != "NotImplemented":
                    raise
            LOG.warning("S3 at %s does not know conditional writes", self.endpoint.address)
            self._conditional = False
        return request({})

    # -- the bucket ------------------------------------------------------------------------------

    def head_bucket(self) -> None:
        """Do nothing if the bucket is there and may be used."""
        self._request("HEAD", "")

    def create_bucket(self) -> None:
        """Make the bucket; it is no error if it is ours already."""
        location = "" if self.region == DEFAULT_REGION else self.region
        try:
            with _parsed():
                self._connection.create_bucket(self.bucket, location=location)
        except Refused as err:
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
        sending: _Sending | None = None,
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
            # Names in S3 are UTF-8, so that nothing has this one.
            raise Refused(404, "NoSuchKey") from err

    def carry_out(self, connection: _Connection, request: Any, sending: _Sending) -> Any:
        """Sign and send a request of boto's until it is answered; return a good answer.

        Only for `_Connection`. Redirects are not followed: a signature is meant for one host.
        """
        # NOTE: sent twice it would make two uploads, one of which nobody knew.
        once = request.method == "POST" and request.path.endswith("?uploads")
        doubtful = False
        attempt = 0
        while True:
            try:
                return self._try(connection, request, sending)
            except Failed as err:
                doubtful = err.doubtful = doubtful or err.doubtful
                if once and doubtful:
                    raise
                if isinstance(err, Unreachable) and err.stale:
                    # It costs no try that a kept connection had been closed.
                    continue
                if attempt == self.settings.retries or not _may_help(err):
                    raise
                LOG.warning(
                    "S3 at %s: %s failed (%s), trying again",
                    self.endpoint.address,
                    request.method,
                    err,
                )
            offload.sleep(min(MAX_PAUSE, 0.5 * 2**attempt) * random.uniform(0.5, 1))
            attempt += 1

    def _try(self, connection: _Connection, request: Any, sending: _Sending) -> Any:
        # NOTE: version 2 signs the date of the first try for ever otherwise.
        request.headers.pop("Date", None)
        try:
            request.authorize(connection=connection)
            fields = request.headers.items()
            headers = {name: value for name, value in fields if name.lower() != "host"}
            head = httpwire.request_head(
                request.method, request.path, self._pool.host_header, headers
            )
        except (UnicodeError, exception.Invalid) as err:
            raise Refused(400, "InvalidURI") from err
        source = sending.source
        payload = source.payload() if source is not None and source.count else None
        if payload is None and request.body:
            payload = Payload(request.body)
        size = payload.length or 0 if payload is not None else 0
        # NOTE: services take minutes to join thousands of parts, and send blanks all the while.
        patience = (10 if request.method == "POST" else 2) * self.settings.timeout + size / SLOWEST
        # NOTE: a kept connection may be about to close. What must not be sent twice by mistake
        # goes over a new one.
        wire = self._pool.take() if request.method in _IDEMPOTENT else self._pool.new()
        try:
            with offload.deadline(patience, "the answer did not come in time"):
                response = wire.exchange(request.method, head, payload, None, self._pool.put)
                if sending.streaming and response.status < 300:
                    return response
                return _digested(response)
        except (httpreply.Broken, OSError) as err:
            raise self._unreachable(err, wire.reused) from err

    def _unreachable(self, err: Exception, reused: bool) -> Unreachable:
        cause = err.__cause__ or err
        if isinstance(cause, ssl.SSLCertVerificationError):
            LOG.error(
                "S3 at %s is not who it should be: %s", self.endpoint.address, cause.verify_message
            )
            return Unreachable("its certificate is not trusted", doubtful=False, hopeless=True)
        broken = isinstance(err, httpreply.Broken) and not isinstance(err, httpreply.TimedOut)
        return Unreachable(
            type(cause).__name__,
            doubtful=not isinstance(cause, ConnectionRefusedError),
            stale=reused and broken and not err.answered,  # type: ignore[attr-defined]
        )


def _may_help(err: Failed) -> bool:
    """Tell whether to send a request again after this."""
    if isinstance(err, Refused):
        return err.status in _AGAIN or err.code in _AGAIN_CODES
    return not (isinstance(err, Unreachable) and err.hopeless)


def _digested(response: httpreply.Response) -> _Answer:
    """Return an answer with its body read; Refused if it is an error."""
    with response:
        if response.status >= 300:
            found = _CODE.search(response.read(MAX_ERROR))
            raise Refused(response.status, found[1].decode("ascii") if found else "")
        data = response.read(MAX_ANSWER + 1)
        if len(data) > MAX_ANSWER:
            raise httpreply.BadAnswer("the answer is too long", True)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return _Answer(response.status, response.reason, headers, data)


@contextlib.contextmanager
def _parsed() -> Iterator[None]:
    """Translate what boto's parsers raise about answers that look like a success.

    SECURITY: boto's own errors quote the answer, which can repeat what was signed.
    """
    try:
        yield
    except boto.exception.BotoServerError as err:
        code = err.error_code if isinstance(err.error_code, str) else ""
        raise Refused(err.status, code) from None
    except (xml.sax.SAXException, UnicodeError, ValueError, AttributeError) as err:
        raise Unreachable(f"the answer is no XML of S3 ({type(err).__name__})") from None


def _is_encrypted(answer: _Answer) -> bool:
    """Tell whether the ETag of an object is no MD5, because a managed key encrypts it."""
    kind = answer.getheader("x-amz-server-side-encryption", "") or ""
    customer = answer.getheader("x-amz-server-side-encryption-customer-algorithm")
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

"""Send requests to S3 with glance's own client: with a deadline, and again if that may help.

`glance.store.s3.connection` passes on the requests of boto. Nothing here knows the purpose of a
request, or boto's modules.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from glance.common import exception
from glance.http.client import connection as http_connection
from glance.http.client import pool
from glance.http.client import response as http_response
from glance.http.client.payload import Payload
from glance.store.s3.endpoint import Endpoint
from glance.store.s3.errors import S3Error, S3Refused, Unreachable
from glance.streaming import hub, retry

LOG = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
#: Largest response other than an image, in bytes.
MAX_RESPONSE = 16 * 1024 * 1024
MAX_ERROR = 64 * 1024
#: Bytes per second below which sending a body counts as stalled.
SLOWEST = 16 * 1024
#: Before a request is sent again; how often, is in the settings.
BACKOFF = retry.Backoff(0.5, 20.0)

_AGAIN = frozenset({429, 500, 502, 503, 504})
#: Codes of a 400 that are about the transmission, not the request.
_AGAIN_CODES = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"}
)
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")


class PayloadSource(Protocol):
    """Bytes to send, repeatedly if needed: their number, digests in hex, and a new payload."""

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
    """How to connect to a service: timeout in seconds, number of retries, what to trust."""

    timeout: float
    retries: int
    signature: int
    tls: ssl.SSLContext


@dataclasses.dataclass(frozen=True)
class S3Response:
    """A complete response, in the form that boto's parsers need."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes

    @property
    def etag(self) -> str:
        """Return the ETag as it was sent, including quotes."""
        return self.headers.get("etag", "")

    def read(self) -> bytes:
        return self.data

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return self.headers.get(name.lower(), default)

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self.headers.items())


@dataclasses.dataclass(frozen=True)
class Sending:
    """The body of a request, and whether its response is an object to stream."""

    source: PayloadSource | None = None
    streaming: bool = False


class S3Exchange:
    """Sends requests to one host of a service. Safe for concurrent use by greenthreads.

    `host` is that of the endpoint or of a bucket. `keep` is whether connections are kept for the
    next request.
    """

    def __init__(self, endpoint: Endpoint, host: str, settings: Settings, *, keep: bool):
        self.endpoint, self.settings = endpoint, settings
        self._pool = pool.ConnectionPool(
            host.strip("[]"),
            endpoint.effective_port,
            context=settings.tls if endpoint.secure else None,
            max_idle=16 if keep else 0,
            connect_timeout=min(CONNECT_TIMEOUT, settings.timeout),
            read_timeout=settings.timeout,
        )

    def carry_out(self, connection: Any, request: Any, sending: Sending) -> Any:
        """Sign and send a request of boto, with retries; return a successful response.

        That is an `S3Response`, or the `ClientResponse` itself if it is `streaming`. Raises
        `S3Error`. Redirects are not followed: a signature is valid for one host.
        """
        # NOTE: sent twice it would create two uploads, one of them unknown to glance.
        once = request.method == "POST" and request.path.endswith("?uploads")
        doubtful = False

        def attempt() -> Any:
            nonlocal doubtful
            while True:
                try:
                    return self._try(connection, request, sending)
                except S3Error as err:
                    doubtful = err.doubtful = doubtful or err.doubtful
                    # A closed kept connection does not count as an attempt.
                    stale = isinstance(err, Unreachable) and err.stale
                    if not stale or (once and doubtful):
                        raise

        return retry.retry(
            attempt,
            dataclasses.replace(BACKOFF, retries=self.settings.retries),
            on=S3Error,
            retryable=lambda err: _may_help(err) and not (once and doubtful),
            report=lambda err: LOG.warning(
                "S3 at %s: %s failed (%s); retrying",
                self.endpoint.address,
                request.method,
                err,
            ),
        )

    def _try(self, connection: Any, request: Any, sending: Sending) -> Any:
        # NOTE: otherwise version 2 would sign the date of the first attempt each time.
        request.headers.pop("Date", None)
        try:
            request.authorize(connection=connection)
            fields = request.headers.items()
            headers = {name: value for name, value in fields if name.lower() != "host"}
            head = http_connection.request_head(
                request.method, request.path, self._pool.host_header, headers
            )
        except (UnicodeError, exception.Invalid) as err:
            raise S3Refused(400, "InvalidURI") from err
        source = sending.source
        payload = source.payload() if source is not None and source.count else None
        if payload is None and request.body:
            payload = Payload(request.body)
        size = payload.length or 0 if payload is not None else 0
        # NOTE: services take minutes to join thousands of parts, and send blanks meanwhile.
        timeout = (10 if request.method == "POST" else 2) * self.settings.timeout + size / SLOWEST
        # NOTE: a kept connection may be about to close. Requests that must not be sent twice use a
        # new one.
        wire = self._pool.take() if request.method in _IDEMPOTENT else self._pool.new()
        try:
            with hub.deadline(timeout, "the response did not arrive in time"):
                response = wire.exchange(request.method, head, payload, None, self._pool.put)
                if sending.streaming and response.status < 300:
                    return response
                return _digested(response)
        except (http_response.ConnectionBroken, OSError) as err:
            raise self._unreachable(err, wire.reused) from err

    def _unreachable(self, err: Exception, reused: bool) -> Unreachable:
        cause = err.__cause__ or err
        if isinstance(cause, ssl.SSLCertVerificationError):
            LOG.error(
                "The certificate of S3 at %s is not trusted: %s",
                self.endpoint.address,
                cause.verify_message,
            )
            return Unreachable("its certificate is not trusted", doubtful=False, hopeless=True)
        broken = None
        if isinstance(err, http_response.ConnectionBroken):
            broken = None if isinstance(err, http_response.ConnectionTimedOut) else err
        # NOTE: it is `ConnectionTimedOut` only after the connection has been established.
        unmade = isinstance(cause, ConnectionRefusedError | socket.gaierror) or (
            broken is not None and isinstance(cause, TimeoutError)
        )
        return Unreachable(
            type(cause).__name__,
            doubtful=not unmade,
            stale=reused and broken is not None and not broken.answered,
        )


def _may_help(err: Exception) -> bool:
    """Return whether to send a request again after this error."""
    if isinstance(err, S3Refused):
        return err.status in _AGAIN or err.code in _AGAIN_CODES
    return not (isinstance(err, Unreachable) and err.hopeless)


def _digested(response: http_response.ClientResponse) -> S3Response:
    """Return a response with its body read. Raises S3Refused if it is an error."""
    with response:
        if response.status >= 300:
            found = _CODE.search(response.read(MAX_ERROR))
            raise S3Refused(response.status, found[1].decode("ascii") if found else "")
        data = response.read(MAX_RESPONSE + 1)
        if len(data) > MAX_RESPONSE:
            raise http_response.BadResponse("the response is too long", True)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return S3Response(response.status, response.reason, headers, data)

"""Requests to S3 on their way: sent in time by glance's own client, and again where that may help.

`glance.store.s3.connection` hands requests of boto's over. Nothing here knows what a request is
for, nor boto's modules.
"""

from __future__ import annotations

import dataclasses
import logging
import random
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
from glance.streaming import offload

LOG = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
#: An answer other than an image is never larger.
MAX_ANSWER = 16 * 1024 * 1024
MAX_ERROR = 64 * 1024
#: Bytes per second below which sending a body counts as stalled.
SLOWEST = 16 * 1024
#: The longest pause before a request is sent again, in seconds.
MAX_PAUSE = 20.0

_AGAIN = frozenset({429, 500, 502, 503, 504})
#: Codes of a 400 that speak of the way here, not of the request.
_AGAIN_CODES = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"}
)
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")


class PayloadSource(Protocol):
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
class S3Response:
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
class Sending:
    """What goes along with a request: its body, and whether its answer is an object to stream."""

    source: PayloadSource | None = None
    streaming: bool = False


class S3Exchange:
    """Sends the requests to one host of a service. Safe to use from many greenthreads at once.

    `host` is the endpoint's, or that of a bucket. `keep` tells whether connections are kept for
    the next request.
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
        """Sign and send a request of boto's until it is answered; return a good answer.

        That is an `S3Response`, or the `ClientResponse` itself if it is `streaming`. Raises
        `S3Error`. Redirects are not followed: a signature is meant for one host.
        """
        # NOTE: sent twice it would make two uploads, one of which nobody knew.
        once = request.method == "POST" and request.path.endswith("?uploads")
        doubtful = False
        attempt = 0
        while True:
            try:
                return self._try(connection, request, sending)
            except S3Error as err:
                doubtful = err.doubtful = doubtful or err.doubtful
                if once and doubtful:
                    raise
                if isinstance(err, Unreachable) and err.stale:
                    # It costs no try that a kept connection had been closed.
                    continue
                if attempt == self.settings.retries or not _may_help(err):
                    raise
                LOG.warning(
                    "S3 at %s: %s failed (%s); retrying",
                    self.endpoint.address,
                    request.method,
                    err,
                )
            offload.sleep(min(MAX_PAUSE, 0.5 * 2**attempt) * random.uniform(0.5, 1))
            attempt += 1

    def _try(self, connection: Any, request: Any, sending: Sending) -> Any:
        # NOTE: version 2 signs the date of the first try for ever otherwise.
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
        # NOTE: services take minutes to join thousands of parts, and send blanks all the while.
        patience = (10 if request.method == "POST" else 2) * self.settings.timeout + size / SLOWEST
        # NOTE: a kept connection may be about to close. What must not be sent twice by mistake
        # goes over a new one.
        wire = self._pool.take() if request.method in _IDEMPOTENT else self._pool.new()
        try:
            with offload.deadline(patience, "the response did not arrive in time"):
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
        broken = isinstance(err, http_response.ConnectionBroken) and not isinstance(
            err, http_response.ConnectionTimedOut
        )
        # NOTE: it is `ConnectionTimedOut` only once the connection has been made.
        unmade = isinstance(cause, ConnectionRefusedError | socket.gaierror) or (
            broken and isinstance(cause, TimeoutError)
        )
        return Unreachable(
            type(cause).__name__,
            doubtful=not unmade,
            stale=reused and broken and not err.answered,  # type: ignore[attr-defined]
        )


def _may_help(err: S3Error) -> bool:
    """Return whether to send a request again after this."""
    if isinstance(err, S3Refused):
        return err.status in _AGAIN or err.code in _AGAIN_CODES
    return not (isinstance(err, Unreachable) and err.hopeless)


def _digested(response: http_response.ClientResponse) -> S3Response:
    """Return an answer with its body read; Refused if it is an error."""
    with response:
        if response.status >= 300:
            found = _CODE.search(response.read(MAX_ERROR))
            raise S3Refused(response.status, found[1].decode("ascii") if found else "")
        data = response.read(MAX_ANSWER + 1)
        if len(data) > MAX_ANSWER:
            raise http_response.BadResponse("the response is too long", True)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return S3Response(response.status, response.reason, headers, data)

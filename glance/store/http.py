"""The http store: images that lie on a web server (`http:`, `https:`). It reads only.

Each operation makes its own connection, with `glance.http.client`, to an address that
`glance.store.host_rules` has judged. Every response is checked: status, range, length.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import logging
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import ClassVar, NoReturn

from glance.common import config, exception, httperror
from glance.http import etags, latin1, ranges, trail
from glance.http.client import connection as http_connection
from glance.http.client import response as http_response
from glance.store import base, host_rules
from glance.store.base import Capability
from glance.store.location import HttpLocation, Location
from glance.streaming import body, hub

LOG = logging.getLogger(__name__)

MAX_REDIRECTS = 5
PROBE_TIMEOUT = 10
USER_AGENT = "glance"

OPTIONS = config.options(
    "http store",
    config.Option(
        "http_store_connect_timeout",
        config.real,
        default=10.0,
        minimum=0.1,
        unit="seconds",
        help="How long to wait for a connection to a web server that holds an image.",
    ),
    config.Option(
        "http_store_read_timeout",
        config.real,
        default=60.0,
        minimum=0.1,
        unit="seconds",
        help="How long to wait for the response of such a server to begin, and for more data.",
    ),
    config.Option(
        "http_store_allow_insecure_auth",
        config.boolean,
        default=False,
        help="Send credentials in a location over plain http as well.",
    ),
    config.Option(
        "http_store_ca_file",
        config.path,
        help="CA certificates that https servers are verified against, in PEM format. Unset: "
        "those of the system.",
    ),
    config.Option(
        "http_store_insecure",
        config.boolean,
        default=False,
        help="Do not verify the certificates of https servers. For tests only.",
    ),
)


class HttpStore(base.Store):
    name: ClassVar[str] = "http"
    schemes: ClassVar[tuple[str, ...]] = HttpLocation.schemes
    location_class = HttpLocation
    capabilities = (
        Capability.READ | Capability.RANDOM_READ | Capability.SIZE | Capability.REGISTERABLE
    )

    def configure(self) -> None:
        self._rules = host_rules.HostRules.from_conf(self.conf)
        self._connect_timeout = self.conf.http_store_connect_timeout
        self._read_timeout = self.conf.http_store_read_timeout

    def check_registerable(self, location: Location, *, is_admin: bool) -> None:
        super().check_registerable(location, is_admin=is_admin)
        where = _parts(location)
        self._rules.check(where.host, where.effective_port)

    def get(self, location: Location, offset: int = 0, length: int | None = None) -> body.Body:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        if length == 0:
            return body.IterBody((), 0, size=self.get_size(location))
        wanted = ranges.format_range(offset, length)
        try:
            opened = self._request("GET", location, wanted, self._read_timeout)
        except exception.RangeNotSatisfiable as err:
            if err.size != offset:
                raise
            # HTTP has no empty range, but what follows the last byte is just nothing.
            return body.IterBody((), 0, size=err.size)
        try:
            data = opened.body(offset, length)
            data.etag = etags.strong(opened.response.getheader("ETag"))
            return data
        except BaseException:
            opened.close()
            raise

    def get_size(self, location: Location) -> int | None:
        timeout = min(self._read_timeout, PROBE_TIMEOUT)
        try:
            with self._request("HEAD", location, None, timeout) as opened:
                if (size := opened.response.declared_length) is not None:
                    return size
        except (exception.StoreForbidden, exception.BackendUnavailable) as err:
            # NOTE: besides 405 and 501: signed URLs are good for one method, so HEAD gets 403.
            if err.status not in (400, 401, 403, 405, 501):
                raise
        try:
            with self._request("GET", location, ranges.format_range(0, 1), timeout) as opened:
                if opened.response.status == 206:
                    return opened.content_range()[1]
                return opened.response.declared_length
        except exception.RangeNotSatisfiable:
            # Not even the first byte is there.
            return 0

    # -- one request -----------------------------------------------------------------------------

    def _request(
        self, method: str, location: Location, wanted: str | None, timeout: float
    ) -> _ImageResponse:
        """Return a successful response (200, or 206), after redirects; the caller closes it.

        The headers of the response are there within `timeout` seconds after the connections were
        made.
        """
        deadline = time.monotonic() + self._connect_timeout + timeout
        where = _parts(location)
        headers = trail.headers(location.trail)
        if wanted is not None:
            headers["Range"] = wanted
        for _ in range(MAX_REDIRECTS + 1):
            opened = self._request_once(method, where, headers, deadline)
            try:
                if opened.response.status not in (301, 302, 303, 307, 308):
                    opened.check(wanted)
                    return opened
                target = opened.response.getheader("Location") or ""
                LOG.debug("%s redirects (%d)", where, opened.response.status)
                where = _redirected(where, target)
            except BaseException:
                opened.close()
                raise
            opened.close()
        raise exception.BackendUnavailable().because(f"more than {MAX_REDIRECTS} redirects")

    def _request_once(
        self, method: str, location: HttpLocation, extra: Mapping[str, str], deadline: float
    ) -> _ImageResponse:
        addresses = self._rules.addresses(location.host, location.effective_port)
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
            "Connection": "close",
            **extra,
        }
        withheld = location.user is not None and not self._authorize(location, headers)
        host, port = location.host.strip("[]"), location.effective_port
        tls = location.scheme == "https"
        with _translated(location):
            connection = http_connection.new_connection(
                *(host, port, self._connect_timeout, self._read_timeout),
                context=self._tls if tls else None,
                addresses=addresses,
            )
            shown = http_connection.authority(host, port, 443 if tls else 80)
            head = http_connection.request_head(method, location.target, shown, headers)
            # NOTE: under eventlet the handshake of TLS keeps no deadline of its own.
            with hub.deadline(deadline - time.monotonic()):
                response = connection.exchange(method, head, deadline=deadline)
        return _ImageResponse(location, response, withheld)

    def _authorize(self, location: HttpLocation, headers: dict[str, str]) -> bool:
        """Add the credentials of a location to the headers; False if they must not be sent."""
        if location.scheme != "https" and not self.conf.http_store_allow_insecure_auth:
            return False
        pair = f"{location.user}:{location.password}".encode("utf-8", "surrogateescape")
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        return True

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        ca_file, insecure = self.conf.http_store_ca_file, self.conf.http_store_insecure
        return http_connection.TLS(ca_file=ca_file, insecure=insecure).context()


@dataclasses.dataclass
class _ImageResponse:
    """A response whose headers have come; it owns the connection that its body comes from.

    `withheld`: the request had none of the credentials that the location has.
    """

    location: HttpLocation
    response: http_response.ClientResponse
    withheld: bool = False

    def check(self, wanted: str | None) -> None:
        """Raise unless the status is one whose body is (a part of) the image."""
        status = self.response.status
        if status == 200 or (status == 206 and wanted is not None):
            return
        if status == httperror.status_of(exception.LocationLoop()):
            raise exception.LocationLoop()
        detail = f"{self.location.origin_text} returned status {status}"
        if self.withheld:
            detail += "; the credentials were not sent, because the location is plain http"
        if status in (404, 410):
            raise exception.StoreObjectNotFound().because(detail)
        if status == 416 and wanted is not None:
            told = ranges.parse_unsatisfied(self.response.getheader("Content-Range"))
            raise exception.RangeNotSatisfiable(told or 0)
        refused = status in (401, 403)
        error = exception.StoreForbidden() if refused else exception.BackendUnavailable()
        error.status = status
        raise error.because(detail)

    def body(self, offset: int, length: int | None) -> body.Body:
        """Return the wanted part as a body that owns the connection."""
        if self.response.status == 206:
            part, size = self.content_range()
            if part.offset != offset or (length is not None and part.length > length):
                self._useless("another range than requested")
            if self.response.length not in (None, part.length):
                self._useless("a length that contradicts its range")
            return body.IterBody(self._chunks(), part.length, self.close, size=size)
        size = self.response.length
        if size is None:
            chunks = self._chunks()
            if offset or length is not None:
                chunks = _window(chunks, offset, length)
            return body.IterBody(chunks, None, self.close)
        part = ranges.clip(size, offset, length)
        whole = body.IterBody(self._chunks(), size, self.close, size=size)
        return whole if part.length == size else whole.slice(part.offset, part.end)

    def content_range(self) -> tuple[ranges.Range, int | None]:
        """Return the part that a 206 response has, and the size of all (None if unknown)."""
        told = ranges.parse_content_range(self.response.getheader("Content-Range"))
        if told is None:
            self._useless("no usable Content-Range")
        return told

    def _useless(self, what: str) -> NoReturn:
        detail = f"{self.location.origin_text} returned {what}"
        raise exception.BackendUnavailable().because(detail)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            with _translated(self.location):
                chunk = self.response.read1()
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        self.response.close()

    def __enter__(self) -> _ImageResponse:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _window(chunks: Iterator[bytes], offset: int, length: int | None) -> Iterator[bytes]:
    """Yield a part of a stream of unknown length: as much of it as there is."""
    for chunk in chunks:
        part = chunk[offset:] if length is None else chunk[offset : offset + length]
        offset = max(0, offset - len(chunk))
        if part:
            yield part
        if length is not None:
            length -= len(part)
            if not length:
                return


def _parts(location: Location) -> HttpLocation:
    parts = location.store_location
    assert isinstance(parts, HttpLocation)
    return parts


def _redirected(location: HttpLocation, target: str) -> HttpLocation:
    """Return where a redirect leads; BackendUnavailable if it must not be followed."""
    try:
        target = latin1.reference(target)
        goal = HttpLocation.parse(urllib.parse.urljoin(location.public_uri(), target))
    except (exception.BadStoreUri, ValueError) as err:
        detail = f"{location.origin_text} redirects to something that is not a web address"
        raise exception.BackendUnavailable().because(detail) from err
    if location.scheme == "https" and goal.scheme != "https":
        detail = f"{location.origin_text} redirects from https to http"
        raise exception.BackendUnavailable().because(detail)
    # SECURITY: credentials stay with the server they were given for.
    same = goal.origin == location.origin
    return dataclasses.replace(
        goal,
        user=location.user if same else None,
        password=location.password if same else "",
    )


@contextlib.contextmanager
def _translated(location: HttpLocation) -> Iterator[None]:
    """Turn errors of the HTTP client into BackendUnavailable, a short body into BackendCorrupt."""
    try:
        yield
    except (
        OSError,
        exception.ClientConnectionError,
        exception.BadInputError,
        exception.Invalid,
    ) as err:
        cause = type(err.__cause__ or err).__name__
        detail = f"reading from {location.origin_text} failed: {cause}"
        if isinstance(err, http_response.BodyTruncated):
            raise exception.BackendCorrupt().because(detail) from err
        raise exception.BackendUnavailable().because(detail) from err

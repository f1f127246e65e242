"""The base of every client in glance: base client, image iterator, errors of responses.

`glance.client` and `glance.registry.client` build on `BaseClient`; other programs rarely need more
than those. It uses pooled connections (`glance.http.client.pool`), sockets and framing
(`glance.http.client.connection` and `glance.http.client.response`), request bodies
(`glance.http.client.payload`) and sign-in (`glance.identity.strategies`, which loads keystoneauth
for it). Otherwise it needs the standard library only; nothing is patched.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from glance.common import exception, hosts, httperror
from glance.http.client import connection, proxy
from glance.http.client import payload as payload_module
from glance.http.client import pool as http_pool
from glance.http.client import response as http_response
from glance.identity import catalog, strategies
from glance.image import headers as image_headers

Body = bytes | bytearray | memoryview | str | payload_module.ReadableFile
ConnectionPool = http_pool.ConnectionPool
Progress = connection.Progress
Response = http_response.ClientResponse


CHUNKSIZE = 65536
MAX_ERROR_BODY = 65536
PROBE_SECONDS = 3.0

#: How the registry begins to tell that a request was meant for the image API.
_REGISTRY_SAYS = "This is the glance registry"
#: A response to HEAD that would have a longer body (bytes) than the usual one about a missing
#: image, or that does not say, is worth a look at that body.
_LONG_404 = 120

_SUCCESS = frozenset({200, 201, 202, 204, 206})
_PLAIN_SEGMENT = re.compile(r"[0-9A-Za-z_-]+", re.ASCII)
_PLAIN_TARGET = re.compile(r"[!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*", re.ASCII)
_IMAGE_PATH = re.compile(r"(?:.*)/images/([^/]+)/?")
_TAG = re.compile(r"<(style|script|title)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def segment(value: object) -> str:
    """Return `value` percent-encoded (UTF-8) as one segment of a path.

    Raises Invalid for text that UTF-8 has no form for, such as a word that was not UTF-8.
    """
    text = str(value)
    if _PLAIN_SEGMENT.fullmatch(text):
        return text
    try:
        quoted = urllib.parse.quote(text, safe="")
    except UnicodeEncodeError:
        raise exception.Invalid(f"This is not UTF-8 text: {text!r}") from None
    # SECURITY: a segment of dots only would mean the parent directory.
    return quoted.replace(".", "%2E" if not text.strip(".") else ".")


def image_reference(reference: object) -> str:
    """Return the image id in an id (int or text) or in a URI whose path ends in /images/ID.

    Scheme and host of a URI are ignored: requests go to the client's own server. Raises Invalid
    for a URI of another form, and for an id that no image has because a path would change its
    meaning: one that is empty, holds a slash, or consists of dots (RFC 3986 §3.3).
    """
    text = str(reference)
    if "://" not in text:
        return _image_id(text)
    # NOTE: urlsplit drops line breaks and tabs, which would make another id of this one.
    match = _IMAGE_PATH.fullmatch(urllib.parse.urlsplit(text).path) if text.isprintable() else None
    if match is None:
        raise exception.Invalid("An image URI must have a path that ends in /images/ID")
    return _image_id(urllib.parse.unquote(match[1]))


def _image_id(text: str) -> str:
    if not text.strip("."):
        raise exception.Invalid("An image ID must not be empty, nor consist of dots")
    if "/" in text:
        raise exception.Invalid("An image ID must not hold a slash")
    return text


def member_segment(member_id: object) -> str:
    """Return a member's id as one segment of a path. Raises Invalid for an empty one."""
    text = str(member_id)
    if not text:
        raise exception.Invalid("A member ID must not be empty")
    return segment(text)


def listing_params(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of a list call: the entries of `filters` and the paging keywords.

    All other keywords are ignored, and so are `filters` that are no mapping.
    """
    filters = keywords.get("filters")
    params = dict(filters) if isinstance(filters, Mapping) else {}
    for name in ("marker", "limit", "sort_key", "sort_dir"):
        if keywords.get(name) is not None:
            params[name] = keywords[name]
    return params


class ImageBodyIterator:
    """An image's data in chunks of 64 KiB; can be iterated over once.

    It owns the response and closes it at the end of the data, after any error, by `close()` and as
    a context manager. `length` is the number of bytes to come, None if unknown. Raises
    ClientConnectionError if the data ends early, and ChecksumMismatch after the last chunk if
    `checksum` (an MD5 in hex) is given and differs.

    `start` is the offset in the image of the first byte to return: if the server responds with the
    whole image, the bytes before it are dropped. `progress` counts from the beginning of the
    image.
    """

    def __init__(
        self,
        response: Response,
        checksum: str | None = None,
        chunk_size: int = CHUNKSIZE,
        progress: Progress | None = None,
        start: int = 0,
    ):
        self._skip = 0 if response.status == 206 else start
        length = response.length
        self.length = None if length is None else max(0, length - self._skip)
        self._total = None if self.length is None else start + self.length
        self._response = response
        self._chunk_size = chunk_size
        self._checksum = checksum
        self._digest = None
        if checksum:
            import hashlib  # PERF: for data only; it loads OpenSSL

            self._digest = hashlib.md5(usedforsecurity=False)
        self._progress = progress
        self._count = start

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._skip > 0:
            dropped = self._response.read(min(self._skip, self._chunk_size))
            if not dropped:
                break
            self._skip -= len(dropped)
        chunk = self._response.read(self._chunk_size)
        if not chunk:
            self._response.close()
            self._verify()
            raise StopIteration
        if self._digest is not None:
            self._digest.update(chunk)
        self._count += len(chunk)
        if self._progress is not None:
            self._progress(self._count, self._total)
        return chunk

    def _verify(self) -> None:
        digest, self._digest = self._digest, None
        if digest is None or self._checksum is None:
            return
        if digest.hexdigest() != self._checksum.lower():
            raise exception.ChecksumMismatch(
                f"The image data has the MD5 {digest.hexdigest()}, not {self._checksum}: "
                "fetch it again"
            )

    def close(self) -> None:
        """Discard the rest of the data; may be called twice."""
        self._digest = None
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BaseClient:
    """Sends requests to one server, and signs in if necessary; the base of all clients.

    `creds` may hold strategy, username, password, tenant, auth_url and region. `timeout`
    (seconds) bounds connecting and every wait for the server. `configure_via_auth` false keeps
    host and port when the sign-in returns a catalogue. `pool` shares connections between clients
    of one server, which makes a client cheap to create. `proxies` maps http, https and all to URLs
    of proxies, and no to the hosts that need none; without it, a client for users follows the
    variables http_proxy and so on, and a client inside a server uses no proxy.
    """

    DEFAULT_PORT: ClassVar[int] = 80
    DEFAULT_DOC_ROOT: ClassVar[str | None] = None
    #: Whether proxies named in the environment are used.
    HEEDS_ENVIRONMENT: ClassVar[bool] = False
    USER_AGENT: ClassVar[str | None] = "glance-client"

    def __init__(
        self,
        host: str,
        port: int | None = None,
        use_ssl: bool = False,
        auth_tok: str | None = None,
        creds: Mapping[str, Any] | None = None,
        doc_root: str | None = None,
        *,
        timeout: float | None = None,
        key_file: str | None = None,
        cert_file: str | None = None,
        ca_file: str | None = None,
        insecure: bool = False,
        configure_via_auth: bool = True,
        pool: ConnectionPool | None = None,
        proxies: Mapping[str, str] | None = None,
    ):
        self.host = host = hosts.bare(host)
        self.port = int(port or self.DEFAULT_PORT)
        self.use_ssl = use_ssl
        self.auth_tok = auth_tok
        self.doc_root = self.DEFAULT_DOC_ROOT if doc_root is None else doc_root
        self.timeout = timeout
        self.configure_via_auth = configure_via_auth
        self._proxies = {} if proxies is None and not self.HEEDS_ENVIRONMENT else proxies
        self._tls = connection.TLS(key_file, cert_file, ca_file, insecure)
        self.creds: Mapping[str, Any] = {} if creds is None else creds
        self.auth_plugin = self.make_auth_plugin(self.creds)
        self._pool = pool
        self._pool_of: tuple[str, int, bool] | None = (host, self.port, use_ssl)

    # -- address and identity --------------------------------------------------------------------

    def set_auth_token(self, auth_tok: str | None) -> None:
        """Replace the token."""
        self.auth_tok = auth_tok

    def make_auth_plugin(self, creds: Mapping[str, Any]) -> strategies.BaseStrategy:
        """Return the sign-in strategy that `creds` names. Raises Error for an unknown one."""
        strategy = strategies.get_plugin_from_strategy(creds.get("strategy") or "noauth")
        return strategy(creds, timeout=self.timeout, tls=self._tls, proxies=self._proxies)

    def configure_from_url(self, url: str) -> None:
        """Set scheme, host, port and document root from `url`."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise exception.BadInputError("A server URL must look like http://host:port/path")
        self.use_ssl = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.use_ssl else 80)
        self.doc_root = parts.path

    def get_connection_type(self) -> type[connection.ClientConnection]:
        """Return the class of this client's connections."""
        return connection.TLSConnection if self.use_ssl else connection.ClientConnection

    @staticmethod
    def get_status_code(response: Any) -> int:
        """Return the status of a response: glance's own, or a test's with `status_int`."""
        return int(response.status_int if hasattr(response, "status_int") else response.status)

    def _connections(self) -> ConnectionPool:
        place = (self.host, self.port, self.use_ssl)
        if self._pool is None or self._pool_of != place:
            self._pool = ConnectionPool(
                self.host,
                self.port,
                context=self._tls.context() if self.use_ssl else None,
                connect_timeout=self.timeout or http_pool.CONNECT_TIMEOUT,
                read_timeout=self.timeout or http_pool.READ_TIMEOUT,
                proxy=proxy.choose(self.use_ssl, self.host, self.port, self._proxies),
            )
            self._pool_of = place
        return self._pool

    def certificate_names(self) -> list[str] | None:
        """Return the host names and addresses that the server's certificate is for.

        Opens a connection of its own, for at most PROBE_SECONDS. The list is empty if the
        certificate is not trusted, None if the server does not speak TLS. Nothing is sent to it.
        """
        end = time.monotonic() + min(self.timeout or PROBE_SECONDS, PROBE_SECONDS)
        for insecure in (False, True):
            seconds = end - time.monotonic()
            if seconds <= 0:
                break
            context = self._tls._replace(insecure=insecure).context()
            context.check_hostname = False
            on_the_way = proxy.choose(True, self.host, self.port, self._proxies)
            probe = connection.TLSConnection(
                self.host, self.port, seconds, seconds, context, on_the_way
            )
            try:
                probe.connect()
                return probe.certificate_names()
            except exception.ClientConnectionError:
                continue
            finally:
                probe.close()
        return None

    def close(self) -> None:
        """Close the idle connections; the client stays usable."""
        if self._pool is not None:
            self._pool.close()

    # -- one request -----------------------------------------------------------------------------

    def do_request(
        self,
        method: str,
        action: str,
        body: Body | payload_module.Payload | None = None,
        headers: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        beside: str | None = None,
    ) -> Response:
        """Send one request, signing in first if there is no token; return the unread response.

        `action` is the path below the document root, or below what stands `beside` its version:
        `v2` is another version of the same service, and empty text the service itself. `params`
        become the query, without those that are None. A body with `read` is streamed: with its
        length if it is known, chunked otherwise. After a 401 the request is sent once more, if the
        strategy has a fresh token and the body can be sent again. Raises the class of
        `glance.common.httperror` for every status except 200, 201, 202 and 204, and
        ClientConnectionError without a usable response.
        """
        method = method.upper()
        if body is None or isinstance(body, payload_module.Payload):
            payload = body
        else:
            payload = payload_module.Payload(body)
        fields = {
            image_headers.sent_name(str(name)): str(value)
            for name, value in (headers or {}).items()
        }
        if self.USER_AGENT is not None:
            fields.setdefault("user-agent", self.USER_AGENT)
        if method in ("POST", "PUT") or payload is not None:
            self._frame(payload, fields)
        own_token = "x-auth-token" in fields
        if not own_token:
            if not self.auth_tok:
                self._sign_in()
            if self.auth_tok:
                fields["x-auth-token"] = self.auth_tok
        given = self.auth_tok
        try:
            return self._send(method, action, payload, fields, params, progress, beside)
        except exception.NotAuthorized as err:
            if err.status != 401 or own_token or not self._refresh(payload):
                raise
        fields["x-auth-token"] = str(self.auth_tok)
        try:
            return self._send(method, action, payload, fields, params, progress, beside)
        except exception.NotAuthorized:
            # NOTE: a given token is replaced only by a fresh one.
            self.auth_tok = given
            raise

    @staticmethod
    def _frame(payload: payload_module.Payload | None, fields: dict[str, str]) -> None:
        """Set exactly one of Content-Length and Transfer-Encoding in the headers."""
        fields.pop("transfer-encoding", None)
        fields.pop("content-length", None)
        if payload is None:
            fields["content-length"] = "0"
        elif payload.length or payload.data is not None:
            fields["content-length"] = str(payload.length)
        else:
            # WIRE: an empty stream is chunked as well: its existence makes the request an upload.
            fields["transfer-encoding"] = "chunked"

    def _send(
        self,
        method: str,
        action: str,
        payload: payload_module.Payload | None,
        fields: Mapping[str, str],
        params: Mapping[str, Any] | None,
        progress: Progress | None,
        beside: str | None,
    ) -> Response:
        # NOTE: the address may be that of the catalog, which is not known before the sign-in.
        target = self._target(action, params, beside)
        response = self._connections().request(method, target, fields, payload, progress)
        if response.status in _SUCCESS:
            return response
        with response:
            error = status_error(response)
            length = response.declared_length
            odd = response.status == 404 and (length is None or length > _LONG_404)
        if method == "HEAD" and odd:
            told = self._connections().request("GET", target, fields)
            with told:
                error = status_error(told) if told.status == 404 else error
        raise error

    def _target(
        self, action: str, params: Mapping[str, Any] | None, beside: str | None = None
    ) -> str:
        target, root = action, self.doc_root
        if beside is not None:
            root = f"{catalog.VERSION.sub('', root or '').rstrip('/')}/{beside}"
        if root:
            target = f"{root.rstrip('/')}/{action.lstrip('/')}"
        if not target.startswith("/"):
            target = f"/{target}"
        if isinstance(params, Mapping):
            query = urllib.parse.urlencode({k: v for k, v in params.items() if v is not None})
            if query:
                target = f"{target}{'&' if '?' in target else '?'}{query}"
        if not _PLAIN_TARGET.fullmatch(target):
            target = urllib.parse.quote(target, safe="!$%&'()*+,./:;=?@~")
        return target

    def _sign_in(self) -> None:
        plugin = self.auth_plugin
        if not plugin.is_authenticated:
            plugin.authenticate()
        self._adopt()

    def _adopt(self) -> None:
        """Take token and address from the strategy; keep the token if the strategy has none.

        Raises AuthorizationFailure if the address would be the catalog's, which lacks it.
        """
        plugin = self.auth_plugin
        if plugin.missing and self.configure_via_auth:
            # SECURITY: the token must not go to another address than the one that was meant.
            raise exception.AuthorizationFailure(plugin.missing)
        if plugin.auth_token:
            self.auth_tok = plugin.auth_token
        if plugin.tls is not None and plugin.tls != self._tls:
            self._tls, self._pool_of = plugin.tls, None
        if plugin.management_url and self.configure_via_auth:
            self.configure_from_url(plugin.management_url)

    def _refresh(self, payload: payload_module.Payload | None) -> bool:
        """Get a fresh token for a second attempt; False without one or if the body is consumed."""
        plugin = self.auth_plugin
        if not plugin.renews or (payload is not None and not payload.rewind()):
            return False
        try:
            plugin.authenticate()
        except exception.Error:
            # NOTE: the caller gets the more useful error: the server refused the token.
            return False
        if not plugin.auth_token or plugin.auth_token == self.auth_tok:
            return False
        self._adopt()
        return True


def status_error(response: Response) -> exception.Error:
    """Return the error for a response that is not a success; reads (part of) its body."""
    try:
        body = response.read(MAX_ERROR_BODY).decode("utf-8", "replace")
    except exception.ClientConnectionError:
        body = ""
    text = body
    if "html" in (response.getheader("content-type") or "").lower():
        text = _TAG.sub(" ", body)
    error = httperror.from_status(response.status, text)
    if response.status == 404 and text.startswith(_REGISTRY_SAYS):
        error = exception.WrongService(httperror.explanation(404, text))
        error.status = 404
    error.body, error.is_repeated = body, response.is_repeated
    error.recorded_id = recorded_id(response)
    return error


def recorded_id(response: Response) -> str | None:
    """Return the id of the image whose record a request to add it has made; None if unknown."""
    if response.status == 201:
        place = response.getheader("location") or ""
        return urllib.parse.unquote(place.rpartition("/images/")[2]) or None
    return response.getheader(httperror.RECORDED_HEADER) if response.status >= 300 else None


def read_json(response: Response, key: str | None = None) -> Any:
    """Return the JSON of a response, or its value of `key`; the response is read to its end.

    Raises ClientConnectionError if the response is not such JSON.
    """
    data = response.read()
    try:
        value = json.loads(data)
        return value if key is None else value[key]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise unexpected("not the expected JSON") from err


def read_rows(response: Response, key: str) -> list[Any]:
    """Return the list of objects that the JSON of a response has for `key`.

    Raises ClientConnectionError if it is not such JSON.
    """
    rows = read_json(response, key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise unexpected("not the expected JSON")
    return rows


def read_object(response: Response, key: str) -> dict[str, Any]:
    """Return the object that the JSON of a response has for `key`; raises as `read_rows` does."""
    found = read_json(response, key)
    if not isinstance(found, dict):
        raise unexpected("not the expected JSON")
    return found


def unexpected(what: str) -> exception.ClientConnectionError:
    """Return the error for a success that glance-api would not send."""
    return exception.ClientConnectionError(
        f"The response of the server is {what}: is it glance-api?"
    )

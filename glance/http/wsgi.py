"""Requests, responses and routing for both WSGI applications.

A controller method takes a `Request` and the variables of its path and returns a `Response`;
errors it raises are rendered here by the table of `glance.common.httperror`. Knows nothing of
images. The server that runs an application is `glance.http.server`.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, Generic, TypeVar

import routes
import webob

from glance.common import exception, httperror, metrics
from glance.common.statuses import status_line
from glance.http import latin1

LOG = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
WSGIApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

#: Key of the environ: SCRIPT_NAME before a version segment was moved there from the path.
MOUNT = "glance.mount"
# What stands in a path as it is (RFC 3986 §3.3).
_PATH_SAFE = "/!$&'()*+,;=:@~"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
MAX_JSON_BODY = 1024 * 1024
#: Parameters of a query string: several times as many as any resource has.
MAX_PARAMETERS = 256


class Request(webob.Request):  # type: ignore[misc]  # webob ships no hints
    """webob's request with what glance's controllers need.

    The one that knows its caller is `glance.identity.context.CallerRequest`.
    """

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """The request's headers in order, names as sent.

        NOTE: the WSGI environ folds `_` into `-` and some servers drop names that hold one, which
        released clients send; glance's server passes the unchanged pairs in the environ.
        """
        pairs = self.environ.get("headers_raw")
        if pairs is not None:
            return list(pairs)
        return [
            (name[5:].replace("_", "-"), value)
            for name, value in self.environ.items()
            if name.startswith("HTTP_")
        ]

    @property
    def service_url(self) -> str:
        """The URL of the service as the client reached it: scheme, host, and where it is mounted.

        Without a version and without a slash at its end. A paste composite may mount the service
        below a prefix; see also `application_root`.
        """
        return self._url_of(self.environ.get(MOUNT, self.environ.get("SCRIPT_NAME", "")))

    def application_root(self, version: str) -> str:
        """Return the URL that the paths of the application's routes are relative to.

        Behind a version negotiation it ends in `version`, such as `/v1`, also if the request named
        another version or none; without one it is where the application is mounted.
        """
        mount = self.environ.get(MOUNT)
        if mount is None:
            return self._url_of(self.environ.get("SCRIPT_NAME", ""))
        return self._url_of(mount) + version

    def _url_of(self, path: str) -> str:
        """Return the URL of a path, which is WSGI text (bytes as latin-1)."""
        environ = self.environ
        scheme = environ["wsgi.url_scheme"]
        host = environ.get("HTTP_HOST", "")
        if not host or host.startswith(":"):
            # The host of a Host header may be empty (RFC 9112 §3.2).
            name = environ["SERVER_NAME"]
            host = f"[{name}]" if ":" in name else name
            host += f":{environ['SERVER_PORT']}"
        host = host.removesuffix(_DEFAULT_PORTS.get(scheme, "")).removesuffix(":")
        quoted = urllib.parse.quote(path.rstrip("/").encode("latin-1"), safe=_PATH_SAFE)
        return f"{scheme}://{host}{quoted}"

    def single_header(self, name: str) -> str | None:
        """Return the value of a header that has one value (bytes as latin-1), None without it.

        `name` is in lower case, with hyphens; underscores are equivalent. The header may be
        repeated with the same value. Raises Invalid for different ones.
        """
        values = {
            value.strip(" \t")
            for raw_name, value in self.raw_headers
            if raw_name.lower().replace("_", "-") == name
        }
        if len(values) > 1:
            raise exception.Invalid(f"The header {name} is given twice, with different values")
        return values.pop() if values else None

    def query(self) -> dict[str, str]:
        """Return the query parameters; the last of repeated ones wins. Raises as `query_pairs`."""
        return dict(self.query_pairs())

    def query_pairs(self) -> list[tuple[str, str]]:
        """Return the query parameters, names and values, in their order.

        Raises Invalid for text that is not UTF-8 and for more than MAX_PARAMETERS.
        """
        query = latin1.decode(self.query_string, "query string")
        if query.count("&") >= MAX_PARAMETERS:
            raise exception.Invalid(
                f"The query string has too many parameters; at most {MAX_PARAMETERS} are allowed"
            )
        try:
            # NOTE: webob's own parser also takes ";" as a separator, although it is part of a
            # value.
            return urllib.parse.parse_qsl(query, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise exception.Invalid("The query string is not valid UTF-8") from None

    def has_body(self) -> bool:
        """Return whether a body is announced: a Transfer-Encoding or a length above zero."""
        if "HTTP_TRANSFER_ENCODING" in self.environ:
            return True
        return (self.content_length or 0) > 0

    def require_no_body(self) -> None:
        """Raise Invalid for a request whose body has data, where none belongs.

        A length of zero and an empty chunked body are fine. Reads at most one byte.
        """
        if not self.has_body():
            return
        if "HTTP_TRANSFER_ENCODING" in self.environ and not _read(self.environ["wsgi.input"], 1):
            return
        raise exception.Invalid("This request takes no body")

    def check_representation(self) -> None:
        """Refuse a body that is not a whole thing as it is.

        A recipient that ignores Content-Range takes a part for the whole, so it has to be an error
        (RFC 9110 §14.5); so has a content coding that is not undone (§8.4). Raises Invalid for the
        first, even without a body, and UnsupportedCoding for the second. Reads nothing.
        """
        if "HTTP_CONTENT_RANGE" in self.environ:
            raise exception.Invalid(
                "A part (Content-Range) cannot be stored; send the whole without that header"
            )
        codings = self.environ.get("HTTP_CONTENT_ENCODING", "").lower().split(",")
        if self.has_body() and not {coding.strip(" \t") for coding in codings} <= {"", "identity"}:
            raise exception.UnsupportedCoding()

    def read_json(self, maximum: int = MAX_JSON_BODY) -> Any:
        """Return the decoded JSON body.

        Raises LimitExceeded for a body above `maximum` bytes, Invalid for one that is missing, cut
        short, or not JSON, and what `check_representation` raises.
        """
        self.check_representation()
        if not self.has_body():
            raise exception.Invalid("A JSON body is required")
        length = None if "HTTP_TRANSFER_ENCODING" in self.environ else self.content_length
        if length is not None and length > maximum:
            raise exception.LimitExceeded(f"The body may have at most {maximum} bytes")
        data = _read(self.environ["wsgi.input"], maximum + 1 if length is None else length)
        if len(data) > maximum:
            raise exception.LimitExceeded(f"The body may have at most {maximum} bytes")
        if length is not None and len(data) < length:
            raise exception.UploadTruncated("The body is shorter than its Content-Length")
        try:
            return _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
        except (ValueError, RecursionError):
            raise exception.Invalid("The body is not valid JSON") from None


def _no_json(word: str) -> None:
    """Refuse NaN and the infinities, which Python reads although JSON has none (RFC 8259 §6)."""
    raise ValueError(word)


# PERF: to make one takes as long as to read a record.
_DECODER = json.JSONDecoder(parse_constant=_no_json)


def _read(stream: Any, size: int) -> bytes:
    """Read up to `size` bytes or to the end; a broken stream raises UploadTruncated."""
    chunks = []
    try:
        while size > 0:
            chunk = stream.read(size)
            if not chunk:
                break
            chunks.append(chunk)
            size -= len(chunk)
    except (OSError, ValueError) as err:
        raise exception.UploadTruncated("The body was interrupted") from err
    return b"".join(chunks)


class Response:
    """One response, itself a WSGI application.

    `body` is bytes, or an iterable that owns what it reads (a `glance.streaming.body.Body`), which
    is passed to the server unchanged; the sender closes it. Content-Length is added for bytes
    unless the headers hold one. HEAD sends no body, closes it, and gets no computed length.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
    ):
        self.status = status
        self.headers = list(headers)
        self.body = body

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = self.body
        if environ["REQUEST_METHOD"] == "HEAD":
            close(body)
            start_response(status_line(self.status), self.headers)
            return []
        if not isinstance(body, bytes):
            start_response(status_line(self.status), self.headers)
            return body
        # WIRE: 204 and 304 have no body and so no length (RFC 9110 §8.6).
        has_length = any(name.lower() == "content-length" for name, _ in self.headers)
        if self.status not in (204, 304) and not has_length:
            self.headers.append(("Content-Length", str(len(body))))
        start_response(status_line(self.status), self.headers)
        return [body] if body else []


def close(thing: Any) -> None:
    """Close `thing` if it can be closed."""
    closer = getattr(thing, "close", None)
    if closer is not None:
        closer()


def json_response(
    value: Any,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    default: Callable[[Any], Any] | None = None,
) -> Response:
    """Return `value` as JSON with exactly one Content-Type.

    `default` returns what to write for a value that JSON has no form for, as in `json.dumps`.
    """
    return Response(
        status, [("Content-Type", "application/json"), *headers], _encoder(default)(value).encode()
    )


@functools.lru_cache(maxsize=16)
def _encoder(default: Callable[[Any], Any] | None) -> Callable[[Any], str]:
    # PERF: made once; and what is written here was made from rows, and has no circles.
    return json.JSONEncoder(default=default, check_circular=False).encode


def fail(
    error: BaseException, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """Return the response for a request that raised `error`; log failures of the server once."""
    line, headers, data = httperror.render(error, environ)
    if not isinstance(error, exception.Error):
        LOG.error(
            "%s failed in request %s",
            environ.get("REQUEST_METHOD"),
            environ.get("glance.request_id", "-"),
            exc_info=error,
        )
    elif httperror.status_of(error) >= 500 or isinstance(error, exception.StoreObjectNotFound):
        # The path names the image.
        LOG.log(
            logging.DEBUG if error.is_logged else logging.WARNING,
            "%s %s returned %s, request %s: %s",
            environ.get("REQUEST_METHOD"),
            urllib.parse.quote(environ.get("PATH_INFO", ""), encoding="latin-1"),
            line,
            environ.get("glance.request_id", "-"),
            exception.described(error),
        )
    start_response(line, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [data]


RequestT = TypeVar("RequestT", bound=Request)
#: Takes a request and the variables of the path, as text.
Handler = Callable[Concatenate[RequestT, ...], Response]


# A percent sign without two digits, and a slash that is part of a segment, which is not the one
# between two segments (RFC 3986 §2.1, §2.2).
_MALFORMED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNLIKE_DECODED = re.compile(r"%(?:2[Ff]|(?![0-9A-Fa-f]{2}))")
#: Stands for a slash within a segment while a path is matched; no decoded path (latin-1) has it.
_INNER_SLASH = "\ue000"
#: Paths whose routes a router remembers, and the characters of the longest of them.
_REMEMBERED = 1024
_SHORT = 128


def _as_sent(path: str, raw_path: str) -> str | None:
    """Return `path` with _INNER_SLASH for each slash that was sent as part of a segment (`%2F`).

    `path` is the end of the decoded `raw_path`: a version or a mount point is taken off before.
    None if the path as sent names nothing: a percent sign lacks its digits, or one of the slashes
    that ended what was taken off was part of a segment.
    """
    if _MALFORMED.search(raw_path):
        return None
    segments = raw_path.split("/")
    found: list[str] = []
    length = 0
    while len(segments) > 1 and length < len(path):
        found.append(urllib.parse.unquote(segments.pop(), "latin-1"))
        length += 1 + len(found[-1])
    found.reverse()
    if path != "".join(f"/{segment}" for segment in found):
        return None
    if any(_UNLIKE_DECODED.search(segment) for segment in segments):
        return None
    return "".join(f"/{segment.replace('/', _INNER_SLASH)}" for segment in found)


class Router(Generic[RequestT]):
    """Dispatch by path and method, with 405, 404 and 501 as the HTTP rules say.

    Paths are Routes patterns (`/images/{id}`), whose variables stand for one segment that is not
    empty and is decoded after the match, so that it may hold a slash; one trailing slash is
    tolerated, unless the router is `strict`. A path with handlers for some methods returns 405
    with Allow for the others, and from a strict router 200 with Allow for OPTIONS (RFC 9110
    §9.3.7). Handlers are given requests of `request_class`. `mount` is where the paths are, for
    the metrics, which count requests by route.
    """

    def __init__(
        self, request_class: type[RequestT], *, strict: bool = False, mount: str = ""
    ) -> None:
        self._request_class = request_class
        self._mount = mount
        self._strict = strict
        self._mapper = routes.Mapper(explicit=True)
        self._mapper.minimization = False
        # PERF: Routes tries one regular expression after the other. Most requests are for few
        # paths, which are remembered, in both daemons.
        self._remembered = functools.lru_cache(maxsize=_REMEMBERED)(self._mapper.match)
        self._tables: dict[str, Mapping[str, Handler[RequestT]]] = {}

    def add(self, path: str, **handlers: Handler[RequestT]) -> None:
        """Route `path`; keywords are methods: `add("/images", GET=index, POST=create)`."""
        self._mapper.connect(None, path, controller=path)
        self._tables[path] = handlers

    def routes(self) -> Iterable[tuple[str, Mapping[str, Handler[RequestT]]]]:
        """Return each path with its handlers by method, in the order of `add`."""
        return self._tables.items()

    def missing(self, path: str) -> exception.NotFound:
        """Return the error for a path without a route."""
        return exception.MethodUnknown("The resource was not found")

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            response = self._dispatch(environ)
            return response(environ, start_response)
        except Exception as err:  # the outermost frame: every error becomes a response here
            return fail(err, environ, start_response)

    def _dispatch(self, environ: dict[str, Any]) -> Response:
        method = environ["REQUEST_METHOD"]
        if method not in KNOWN_METHODS:
            raise exception.NotImplementedMethod("This service does not support the method")
        handlers, variables = self._match(environ)
        handler = handlers.get(method)
        if handler is None:
            allowed = sorted({*handlers, "OPTIONS"} if self._strict else handlers)
            if method == "OPTIONS" and self._strict:
                return Response(200, [("Allow", ", ".join(allowed))])
            raise exception.MethodNotAllowed(allowed)
        return handler(self._request_class(environ), **variables)

    def _match(
        self, environ: Mapping[str, Any]
    ) -> tuple[Mapping[str, Handler[RequestT]], dict[str, str]]:
        """Return the handlers of the request's path and its variables."""
        path = environ.get("PATH_INFO") or "/"
        raw_path = environ.get("RAW_PATH_INFO", "")
        is_rewritten = "%" in raw_path and _UNLIKE_DECODED.search(raw_path) is not None
        if is_rewritten:
            # SECURITY: the path as sent decides: an id that holds a slash leads to no other route.
            sent = _as_sent(path, raw_path)
            if sent is None:
                raise self.missing(path)
            path = sent
        if len(path) > 1 and path.endswith("/") and not self._strict:
            path = path[:-1]
        # NOTE: to Routes, `$` is also the place before a line feed at the end.
        if not path.endswith("\n"):
            find = self._remembered if len(path) <= _SHORT else self._mapper.match
            match = find(path)
            if match is not None:
                variables = dict(match)
                template = variables.pop("controller")
                if metrics.ROUTE in environ:
                    metrics.took(environ, self._mount + template)
                if is_rewritten:
                    variables = {
                        name: value.replace(_INNER_SLASH, "/") for name, value in variables.items()
                    }
                return self._tables[template], variables
        raise self.missing(path)


def segment(value: str) -> str:
    """Return a path variable (bytes as latin-1) as text. Raises Invalid if it is not UTF-8."""
    return latin1.decode(value, "path segment")

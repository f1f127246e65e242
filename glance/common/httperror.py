"""The one table that pairs errors with HTTP status codes.

Servers look up the row of the raised class (along its MRO: the most specific class wins) and
render it; clients look up the class of a status with `from_status`. No other module knows the
status code of an error. The page errors.rst is generated from the same rows. The phrases of the
statuses are in `glance.common.statuses`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from glance.common import exception, numbers, statuses


class Row(NamedTuple):
    """One pairing.

    `text` replaces the error's own message when `own_text` is false, or when the error has none.
    `retry_after` (seconds) becomes a Retry-After header. `client` marks the class that clients
    raise for the status.
    """

    error: type[Exception]
    status: int
    text: str
    own_text: bool = True
    retry_after: int | None = None
    client: bool = False


TABLE: tuple[Row, ...] = (
    Row(exception.MultipleChoices, 300, "Choose one of the versions.", client=True),
    Row(exception.VersionUnknown, 300, "Choose one of the versions."),
    Row(exception.Invalid, 400, "The request is not valid."),
    Row(exception.BadRequest, 400, "The request is not valid.", client=True),
    Row(exception.BadInputError, 400, "The request is not valid."),
    Row(exception.MissingArgumentError, 400, "A required argument is missing."),
    Row(exception.StoreAddDisabled, 400, "This store does not accept new images."),
    Row(exception.NotAuthorized, 401, "A valid token is required.", client=True),
    Row(exception.AuthorizationFailure, 401, "Authentication failed."),
    Row(exception.Forbidden, 403, "You are not allowed to do this.", client=True),
    Row(exception.NotFound, 404, "The resource was not found.", client=True),
    Row(exception.MethodNotAllowed, 405, "This resource does not support the method."),
    Row(exception.Duplicate, 409, "The resource already exists.", client=True),
    Row(exception.NotEmpty, 409, "The resource is not empty."),
    Row(exception.Gone, 410, "The data of the image has been removed.", client=True),
    Row(exception.ImageDeleted, 412, "The image was deleted during the upload."),
    Row(exception.PreconditionFailed, 412, "The resource is in another state."),
    Row(exception.LimitExceeded, 413, "The request would exceed a limit.", client=True),
    Row(exception.UriTooLong, 414, "The path and query are too long.", client=True),
    Row(exception.UnsupportedCoding, 415, "The body has a content coding."),
    Row(exception.UnsupportedMediaType, 415, "The body is of another media type.", client=True),
    Row(exception.RangeNotSatisfiable, 416, "The range is outside the image."),
    Row(exception.Misdirected, 421, "Another service serves this request.", client=True),
    Row(
        exception.TooManyRequests,
        429,
        "Too much of this is being done at the moment; try again later.",
        retry_after=30,
        client=True,
    ),
    Row(exception.HeadersTooLarge, 431, "The headers are too long.", client=True),
    Row(exception.ServerError, 500, "The server failed.", client=True),
    Row(exception.ApiError, 500, "The server failed.", own_text=False),
    Row(exception.UnexpectedStatus, 500, "The server failed.", own_text=False),
    Row(exception.RedirectException, 500, "The server failed.", own_text=False),
    Row(
        exception.ConfigError,
        500,
        "The server is not configured correctly.",
        own_text=False,
    ),
    Row(exception.DatabaseMigrationError, 500, "The server failed.", own_text=False),
    Row(exception.GlanceException, 500, "The server failed.", own_text=False),
    Row(exception.NotImplementedMethod, 501, "This service does not support the method."),
    Row(
        exception.ServiceUnavailable,
        503,
        "The service is temporarily unavailable; try again later.",
        retry_after=30,
        client=True,
    ),
    Row(
        exception.ClientConnectionError,
        503,
        "A service that this server needs cannot be reached; try again later.",
        own_text=False,
        retry_after=30,
    ),
    Row(
        exception.NoConverter,
        503,
        "No converter is running at the moment; try again later.",
        retry_after=30,
    ),
    Row(
        exception.LocationLoop,
        508,
        "The location of the image leads back to the image itself.",
        client=True,
    ),
)

#: The key of the WSGI environ with the id of an image whose record the request has made; an error
#: names it in the header below, so that the caller knows what is left.
RECORDED = "glance.recorded_id"
RECORDED_HEADER = "X-Image-Meta-Id"
#: The key of the WSGI environ that is set for a request of Images API v2: its errors are JSON for
#: a client that asks for JSON.
JSON_ERRORS = "glance.json_errors"

#: Has no cache keep a response (RFC 9111 §5.2.2.5). An error must not be kept: caches may keep a
#: 404 of their own accord (RFC 9110 §15.1), but the image may come, or be shared, any moment.
NO_STORE = ("Cache-Control", "no-store")

#: What `render` adds to an error: status -> the headers besides those of every error, each with a
#: sentence about it.
HEADERS_OF: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Where to get a token."},
    405: {"Allow": "The methods that the resource supports."},
    415: {
        "Accept-Encoding": "Sent if a content coding is the reason.",
        "Accept-Patch": "The media types of a patch.",
    },
    416: {"Content-Range": "The size of the data, such as bytes */1024."},
    429: {"Retry-After": "After how many seconds to try again."},
    503: {"Retry-After": "After how many seconds to try again."},
}
HEADERS_OF_ALL: Mapping[str, str] = {
    NO_STORE[0]: "An error must not be kept by caches.",
    RECORDED_HEADER: "The id of an image whose record the request has made before it failed.",
}
#: The JSON schema of an error in version 2.
JSON_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer", "description": "The status."},
                "title": {"type": "string", "description": "Its phrase."},
                "message": {"type": "string", "description": "What is wrong, on one line."},
            },
            "required": ["code", "title", "message"],
        }
    },
    "required": ["error"],
}

_BY_CLASS: dict[type, Row] = {row.error: row for row in TABLE}
_BY_STATUS: dict[int, type[Exception]] = {row.status: row.error for row in TABLE if row.client}
_UNKNOWN = Row(
    Exception, 500, "The server failed. The request id identifies this failure in its log."
)


def row_for(error: BaseException) -> Row:
    """Return the row of the most specific class of `error`; the 500 row if there is none.

    An error of the operating system that the process may open no more files is a 503.
    """
    if isinstance(error, OSError) and error.errno in exception.OUT_OF_DESCRIPTORS:
        return _BY_CLASS[exception.ServiceUnavailable]
    return _row_of(type(error))


def _row_of(kind: type[BaseException]) -> Row:
    for cls in kind.__mro__:
        row = _BY_CLASS.get(cls)
        # NOTE: a class with two bases (StorageFull) must not stop at the catch-all of one base.
        if row is not None and cls is not exception.GlanceException:
            return row
    return _BY_CLASS[exception.GlanceException] if issubclass(kind, exception.Error) else _UNKNOWN


def status_of_class(kind: type[BaseException]) -> int:
    """Return the HTTP status of errors of a class."""
    return _row_of(kind).status


def status_of(error: BaseException) -> int:
    """Return the HTTP status of `error`."""
    return row_for(error).status


def text_of(error: BaseException) -> str:
    """Return the sentence about `error` for the caller, on one line."""
    row = row_for(error)
    text = str(error) if row.own_text and isinstance(error, exception.Error) else ""
    if not text or text == "None":
        text = row.text
    return " ".join(text.split())


def from_status(status: int, body: str = "") -> exception.Error:
    """Return the client-side error for an HTTP `status`, with `.status` and `.body` set.

    Statuses without a row become `UnexpectedStatus`; its text, like that of `ServerError`, has the
    prefix that scripts written for Diablo expect.
    """
    cls = _BY_STATUS.get(status, exception.UnexpectedStatus)
    # The response to HEAD has no body.
    text = explanation(status, body)
    if not text and status in _BY_STATUS:
        text = _BY_CLASS[cls].text
    if cls is exception.ServerError:
        text = f"Internal Server error: {text}"
    elif cls is exception.UnexpectedStatus:
        text = f"Unknown error occurred! The server returned status {status}. {text}".rstrip()
    error = cls(text)
    assert isinstance(error, exception.Error)
    error.status, error.body = status, body
    return error


def explanation(status: int, body: str) -> str:
    """Return the sentence in an error body from `render`: the text without its status line."""
    first, _, rest = body.strip().partition("\n")
    if first.startswith(str(status)) and rest.strip():
        return " ".join(rest.split())
    return " ".join(body.split())


def render(
    error: BaseException, environ: Mapping[str, Any]
) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status line, headers and body of the response to a request that raised `error`.

    The body is plain text: the status line, and below it one line of explanation; HTML only for a
    client that prefers it, and JSON in version 2 for one that names it, and for openstacksdk. HEAD
    gets the same headers; the caller drops the body. A request that had made the record of an
    image before it failed gets its id in X-Image-Meta-Id.
    """
    row = row_for(error)
    status_line = statuses.status_line(row.status)
    text = text_of(error)
    accept = environ.get("HTTP_ACCEPT", "")
    if environ.get(JSON_ERRORS) and _takes_json(accept, environ.get("HTTP_USER_AGENT", "")):
        content_type = "application/json"
        # WIRE: shipped clients read `message` in each *value* of the document.
        title = statuses.REASONS[row.status]
        body = json.dumps({"error": {"code": row.status, "title": title, "message": text}})
    elif _prefers_html(accept):
        content_type = "text/html; charset=UTF-8"
        import html  # PERF: for browsers only

        shown = html.escape(text)
        body = (
            f"<html><head><title>{status_line}</title></head>"
            f"<body><h1>{status_line}</h1><p>{shown}</p></body></html>\n"
        )
    else:
        content_type = "text/plain; charset=UTF-8"
        body = f"{status_line}\n\n{text}\n"
    # A text that quotes the request may hold what UTF-8 cannot (lone surrogates of JSON).
    data = body.encode("utf-8", "replace")
    headers = [("Content-Type", content_type), ("Content-Length", str(len(data))), NO_STORE]
    headers.extend(_extra_headers(error, row))
    if environ.get(RECORDED) is not None:
        headers.append((RECORDED_HEADER, str(environ[RECORDED])))
    return status_line, headers, data


def _extra_headers(error: BaseException, row: Row) -> Iterable[tuple[str, str]]:
    if row.retry_after is not None:
        yield "Retry-After", str(row.retry_after)
    if isinstance(error, exception.MethodNotAllowed):
        yield "Allow", ", ".join(error.allow)
    if isinstance(error, exception.RangeNotSatisfiable):
        yield "Content-Range", f"bytes */{error.size}"
    if isinstance(error, exception.UnsupportedCoding):
        # RFC 9110 §12.5.3: it tells the client that the coding is the reason.
        yield "Accept-Encoding", "identity"
    if isinstance(error, exception.UnsupportedMediaType) and error.patches:
        yield "Accept-Patch", ", ".join(error.patches)
    challenge = getattr(error, "www_authenticate", None)
    if challenge:
        yield "WWW-Authenticate", challenge


def _takes_json(accept: str, agent: str) -> bool:
    """Return whether a client names JSON in Accept, or shows no other errors to its users.

    WIRE: openstacksdk, and so `openstack image`, accepts anything when it writes, and passes only
    the reason phrase on if what comes is text; python-glanceclient leaves out the status of JSON.
    """
    best = _qualities(accept)
    if "application/json" in best:
        return best["application/json"] > 0
    return "openstacksdk/" in agent and best.keys() <= {"*/*", ""}


def _prefers_html(accept: str) -> bool:
    """Return whether an Accept header ranks text/html above text/plain and the wildcard."""
    best = _qualities(accept)
    html_rank = best.get("text/html", 0.0)
    return html_rank > 0 and html_rank > best.get("text/plain", 0.0)


def _qualities(accept: str) -> dict[str, float]:
    """Return the weight of each media type and range that an Accept header names."""
    best: dict[str, float] = {}
    for part in accept.split(","):
        kind, *params = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for param in params:
            if param.startswith("q="):
                # A weight has no sign and is 1 at most (RFC 9110 §12.4.2).
                weight = numbers.real(param[2:])
                quality = weight if weight is not None and 0 <= weight <= 1 else 0.0
        best[kind] = max(quality, best.get(kind, 0.0))
    return best

"""The one table of HTTP statuses and their reason phrases: all that glance sends or explains.

Which error has which status is the business of `glance.common.httperror`.
"""

from __future__ import annotations

# WIRE: 413, 414 and 416 have the phrases of Diablo's time, not those of RFC 9110.
REASONS: dict[int, str] = {
    100: "Continue",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    300: "Multiple Choices",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}

# PERF: made once; a response only looks its line up.
_LINES = {status: f"{status} {reason}" for status, reason in REASONS.items()}


def status_line(status: int) -> str:
    """Return status and phrase (`404 Not Found`), as WSGI wants them; KeyError if not listed."""
    return _LINES[status]

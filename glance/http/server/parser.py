"""The text of HTTP/1.1 requests and responses: pure functions over bytes, no sockets.

The parser is strict where leniency has been used to smuggle requests past a proxy (bare line
feeds, folded lines, blanks before the colon, several lengths), and lenient where released clients
need it: UTF-8 in header names and values, header names with an underscore, Content-Length beside
Transfer-Encoding.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
import uuid
from collections.abc import Iterable

from glance.common import httperror, statuses
from glance.http.framing import TOKEN

#: Largest request head (request line and headers), in bytes.
MAX_HEAD = 64 * 1024
#: Empty lines that may come before a request.
MAX_EMPTY_LINES = 16

# Sets of characters and the percent-encoding of a URI (RFC 3986 §2).
_URI_TEXT = r"A-Za-z0-9\-._~!$&'()*+,;="
_ENCODED = "%[0-9A-Fa-f]{2}"
# What a target may consist of: the characters of path and query (RFC 3986 §3.3, §3.4), and so no
# fragment. WIRE: Diablo's client sends names as they are, in UTF-8; such octets, and a percent
# sign without two digits, are left to the application, for which they name nothing.
_REQUEST_LINE = re.compile(
    rf"([{TOKEN}]{{1,64}}) ([{_URI_TEXT}:@/?%\x80-\xff]+) HTTP/([0-9])\.([0-9])"
)
# WIRE: Diablo's client puts property names into header names as they are, in UTF-8.
_NAME = re.compile(rf"[{TOKEN}\x80-\xff]+")
_LINE_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_SPLIT_HEADER = re.compile("[\r\n\x00]")
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
# A host, or an address in brackets, and a port (RFC 9110 §7.2, RFC 3986 §3.2.2).
_HOST = re.compile(
    rf"(?:[{_URI_TEXT}]*(?:{_ENCODED}[{_URI_TEXT}]*)*|\[([^]]*)\])(?::0*([0-9]{{0,5}}))?"
)
_FUTURE_ADDRESS = re.compile(rf"[vV][0-9A-Fa-f]+\.[{_URI_TEXT}:]+")
_MAX_PORT = 65535


class RequestRefused(Exception):
    """A request that is not passed to the application; the response is a status and one sentence.

    `status_line` is the status with its phrase. Every response has a request id; the one of this
    response is made here.
    """

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status
        self.status_line = statuses.status_line(status)
        self.text = text
        self.request_id = f"req-{uuid.uuid4()}"

    def render(self) -> tuple[list[tuple[str, str]], bytes]:
        """Return headers and body of the response, in the form of every error of the service."""
        body = f"{self.status_line}\n\n{self.text}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("Content-Length", str(len(body))),
            ("X-Openstack-Request-Id", self.request_id),
            httperror.NO_STORE,
        ]
        return headers, body


def bad_request(text: str) -> RequestRefused:
    return RequestRefused(400, text)


class Head:
    """A request line and its headers, as WSGI strings (latin-1).

    `cgi` holds the headers as WSGI environ entries, repeated ones joined with a comma. Names with
    an underscore or non-ASCII letters are in `headers` only.
    """

    __slots__ = ("cgi", "headers", "method", "minor", "path", "query", "raw_path", "target")

    def __init__(self, method: str, target: str, minor: int):
        self.method = method
        self.target = target
        self.minor = minor
        self.path = self.raw_path = ""
        self.query = ""
        self.headers: list[tuple[str, str]] = []
        self.cgi: dict[str, str] = {}

    def wants_keep_alive(self) -> bool:
        """Return whether the client may send another request on this connection."""
        options = self.cgi.get("HTTP_CONNECTION")
        if options is None:
            return self.minor >= 1
        words = {word.strip(" \t") for word in options.lower().split(",")}
        if "close" in words:
            return False
        return self.minor >= 1 or "keep-alive" in words


# PERF: environ keys of header names seen before; a lookup costs a tenth of making one.
_keys: dict[str, str] = {"Content-Type": "CONTENT_TYPE", "Content-Length": "CONTENT_LENGTH"}
_MAX_KEYS = 1024


def _key_of(name: str) -> str:
    """Return the environ key of a header name, "" for one that must not enter the environ.

    SECURITY: `X_Identity_Status` and `X-Identity-Status` would share a key, and a filter or proxy
    in front that strips the one does not know the other. The application reads the names with
    underscores that clients send from the raw pairs.
    """
    if not _NAME.fullmatch(name):
        raise bad_request("A header line has no valid name before its colon")
    if "_" in name or not name.isascii():
        key = ""
    else:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
    if len(_keys) < _MAX_KEYS:
        _keys[name] = key
    return key


def skip_empty_lines(data: bytes | bytearray) -> tuple[bytes | bytearray, int]:
    """Return `data` without the empty lines at its beginning, and how many there were.

    A server ignores at least one before a request line (RFC 9112 §2.2).
    """
    match = _EMPTY_LINES.match(data)
    end = match.end() if match else 0
    return data[end:], end // 2


def find_end(data: bytes | bytearray, searched: int = 0) -> int:
    """Return the index after the blank line that ends a request head, -1 if it has not arrived.

    The first `searched` bytes have been searched before. Raises RequestRefused for a head that
    cannot become valid, instead of waiting for its end.
    """
    end = data.find(b"\r\n\r\n", max(searched - 3, 0))
    if end >= 0 and end + 4 <= MAX_HEAD:
        return end + 4
    if end >= 0 or len(data) > MAX_HEAD:
        raise RequestRefused(
            431, f"The headers of a request may have at most {MAX_HEAD} bytes in total"
        )
    if _BARE_LF.search(data, searched):
        raise bad_request("The lines of a request must end with CR LF")
    return -1


def check_partial_line(
    data: bytes | bytearray, max_line: int, start: int = 0, searched: int = 0
) -> int:
    """Raise RequestRefused for an incomplete head that already has an overlong line.

    Return where its last line begins: the next call, with more data, can pass it as `start`, and
    the present length of the data as `searched`.
    """
    end = data.rfind(b"\r\n", max(start, searched - 1))
    index = 1 if start else 0
    if end >= 0:
        for line in data[start:end].split(b"\r\n"):
            _check_line_length(len(line), index, max_line)
            index = 1
        start = end + 2
    _check_line_length(len(data) - start, index, max_line)
    return start


def _check_line_length(length: int, index: int, max_line: int) -> None:
    if length <= max_line:
        return
    if index == 0:
        raise RequestRefused(414, f"A request line may have at most {max_line} bytes")
    raise RequestRefused(431, f"A header line may have at most {max_line} bytes")


def parse_head(data: bytes, max_line: int = 16384) -> Head:
    """Parse a request head; `data` ends with its blank line. Raises RequestRefused."""
    lines = data[:-4].decode("latin-1").split("\r\n")
    first = lines[0]
    if len(data) > max_line:
        for index, line in enumerate(lines):
            _check_line_length(len(line), index, max_line)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise bad_request("The request line must be METHOD TARGET HTTP/1.1")
    method, target, major, minor = match.groups()
    if major != "1":
        raise RequestRefused(505, "This service supports HTTP/1.1")
    head = Head(method, target, int(minor))
    headers, cgi = head.headers, head.cgi
    del lines[0]
    for line in lines:
        name, value, key = parse_field(line)
        headers.append((name, value))
        if key:
            if key in cgi:
                cgi[key] += "," + value
            else:
                cgi[key] = value
    _check_host(head)
    _split_target(head)
    return head


def parse_field(line: str) -> tuple[str, str, str]:
    """Return name, value and environ key of a header or trailer line without its line end.

    The key is "" if the environ must not have the field. Raises RequestRefused for a line that
    does not have the form of RFC 9112 §5.
    """
    name, colon, value = line.partition(":")
    if not colon:
        raise bad_request("A header line has no colon")
    value = value.strip(" \t")
    if _LINE_CONTROL.search(value):
        raise bad_request("A header value contains a control character")
    try:
        return name, value, _keys[name]
    except KeyError:
        return name, value, _key_of(name)


def _split_target(head: Head) -> None:
    target = head.target
    if not target.startswith("/"):
        if target == "*" and head.method == "OPTIONS":
            head.path = head.raw_path = "*"
            return
        # The form for proxies: the authority in the target overrides Host (RFC 9112 §3.2.2).
        scheme, sep, rest = target.partition("://")
        if not sep or scheme.lower() not in ("http", "https"):
            raise bad_request("The request target must begin with a slash")
        # The path may be empty (RFC 3986 §3.3), also before a query.
        authority, _, path = rest.partition("/")
        if "?" in authority:
            authority, _, query = rest.partition("?")
            path = f"?{query}"
        if not authority or authority.startswith(":") or not is_host(authority):
            raise bad_request("The request target has no valid host")
        head.cgi["HTTP_HOST"] = authority
        target = "/" + path
    path, _, head.query = target.partition("?")
    head.raw_path = path
    head.path = urllib.parse.unquote(path, "latin-1") if "%" in path else path


def is_host(text: str) -> bool:
    """Return whether `text` is a host and perhaps a port, as in Host (RFC 9110 §7.2).

    The host may be empty, and the port, too (RFC 3986 §3.2).
    """
    match = _HOST.fullmatch(text)
    if match is None:
        return False
    address, port = match.groups()
    if port and int(port) > _MAX_PORT:
        return False
    if address is None:
        return True
    try:
        return ipaddress.IPv6Address(address).scope_id is None
    except ValueError:
        return _FUTURE_ADDRESS.fullmatch(address) is not None


def _check_host(head: Head) -> None:
    host = head.cgi.get("HTTP_HOST")
    if host is None:
        if head.minor >= 1:
            raise bad_request("An HTTP/1.1 request must have a Host header")
    elif "," in host:
        raise bad_request("A request must have exactly one Host header, with one host")
    elif not is_host(host):
        # SECURITY: links in responses begin with it.
        raise bad_request("The Host header must be a host name or an address, perhaps with :port")


def framing(head: Head) -> tuple[bool, int, bool]:
    """Return how the body is delimited: (chunked, length, must close afterwards).

    Raises RequestRefused for lengths that two readers could understand differently.

    WIRE: Diablo's client sends Content-Length with a chunked body. It is decoded as chunked, the
    length is ignored, and the connection closed (RFC 9112 §6.3); the environ loses the length.
    """
    cgi = head.cgi
    length = cgi.get("CONTENT_LENGTH")
    if length is not None and not _DIGITS.fullmatch(length):
        raise bad_request("Content-Length must be one whole number")
    coding = cgi.get("HTTP_TRANSFER_ENCODING")
    if coding is None:
        return False, int(length or 0), False
    if head.minor == 0:
        raise bad_request("HTTP/1.0 does not support Transfer-Encoding")
    if coding.lower() != "chunked":
        if coding.lower().replace(" ", "").startswith("chunked,"):
            raise bad_request("Transfer-Encoding must name chunked once, as the last encoding")
        raise RequestRefused(501, "The only supported Transfer-Encoding is chunked")
    if length is not None:
        del cgi["CONTENT_LENGTH"]
    return True, 0, length is not None


# -- responses -----------------------------------------------------------------------------------

# PERF: capitalised forms of names seen before.
_capitals: dict[str, str] = {}


def capitalize(name: str) -> str:
    """Return a header name as `X-Image-Meta-Id`, the form that Diablo has always sent."""
    try:
        return _capitals[name]
    except KeyError:
        shown = name
        if name.isascii():
            shown = "-".join([part[:1].upper() + part[1:].lower() for part in name.split("-")])
        if _SPLIT_HEADER.search(shown):
            raise ValueError("a header name with a line break") from None
        if len(_capitals) < _MAX_KEYS:
            _capitals[name] = shown
        return shown


def render_head(status: str, headers: Iterable[tuple[str, str]], extra: str = "") -> bytes:
    """Return status line and headers as bytes, blank line included.

    `extra` is formatted header text that comes last. Strings are WSGI strings: each character is
    one byte. SECURITY: line breaks in a value become blanks, so that no stored text can add a
    header or a second response.
    """
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{_capitals.get(name) or capitalize(name)}: {value}" for name, value in headers]
    text = "\r\n".join(lines)
    # PERF: one look at all of the 30 lines, and not one at each.
    breaks = len(lines) - 1
    if text.count("\r") != breaks or text.count("\n") != breaks or "\0" in text:
        lines[1:] = [_SPLIT_HEADER.sub(" ", line) for line in lines[1:]]
        text = "\r\n".join(lines)
    return f"{text}\r\n{extra}\r\n".encode("latin-1")

"""Percent-encoded image headers: which requests of one client have them.

python-glanceclient encodes the names and values of all image headers with `urllib.parse.quote`
from release 2.11.1 on. Up to 2.11.0 it sends them as they are, and nothing in a request tells the
release. So a request is decoded only if its headers are what that function can produce: letters,
digits, `_.-/` and, in some releases, `:` and `~` stand for themselves, and every other byte of
UTF-8 is `%` with two upper-case digits (RFC 3986, sections 2.1 and 2.3). No release does both with
one character.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable

from glance.common import config, exception

AUTO, ALWAYS, NEVER = "auto", "always", "never"
#: What the User-Agent of the client that may encode its headers begins with.
CLIENT = "python-glanceclient"

config.options(
    "images API",
    config.Option(
        "glanceclient_encoding",
        default=AUTO,
        choices=(AUTO, ALWAYS, NEVER),
        help="Whether image headers of python-glanceclient are percent-decoded: always, never, or "
        "(auto) if all headers of the request can have been percent-encoded. Releases from 2.11.1 "
        "on encode them; in a deployment with older ones only, use never.",
    ),
)

# SECURITY: an encoded control character counts as encoded in any case, so that it is refused.
_CONTROL = "%(?:[01][0-9A-Fa-f]|7[Ff])"
# Never encoded: letters, digits, and the characters _ . - and /.
_NEVER = "%(?:2[DEF]|3[0-9]|4[1-9A-F]|5[0-9A]|5F|6[1-9A-F]|7[0-9A])"
_VALUE = re.compile(rf"(?:[A-Za-z0-9_.~/:-]|{_CONTROL}|(?!{_NEVER})%[0-9A-F]{{2}})*", re.ASCII)
#: A URI by its characters (RFC 3986, sections 2 and 3.1).
_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", re.ASCII
)

Decode = Callable[[str], str]


def decoder(mode: str, user_agent: str, headers: Iterable[tuple[str, str]]) -> Decode | None:
    """Return the function that decodes the names and values of a request's image headers.

    None means that they are plain text. `mode` is the option `glanceclient_encoding`, `headers`
    are the image headers as WSGI gives them. The function raises Invalid for text that is not
    UTF-8.
    """
    if mode == NEVER or not user_agent.startswith(CLIENT):
        return None
    return decode if mode == ALWAYS or _is_encoded(headers) else None


def decode(text: str) -> str:
    """Return percent-decoded text. Raises Invalid if it is not UTF-8."""
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise exception.Invalid("A header value is not valid UTF-8") from None


def decode_location(text: str) -> str:
    """Return a percent-decoded location, or `text` itself if only that is a URI."""
    decoded = decode(text)
    return text if _URI.fullmatch(text) and not _URI.fullmatch(decoded) else decoded


def _is_encoded(headers: Iterable[tuple[str, str]]) -> bool:
    # NOTE: proxies may change the case of names, so only values can show by it what they are.
    parts = [part for name, value in headers for part in (_upper_escapes(name), value)]
    if not all(map(_VALUE.fullmatch, parts)):
        return False
    joined = " ".join(parts)
    if (":" in joined and "%3A" in joined) or ("~" in joined and "%7E" in joined):
        return False
    try:
        urllib.parse.unquote(joined, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _upper_escapes(name: str) -> str:
    return re.sub("%[0-9A-Fa-f]{2}", lambda escape: escape[0].upper(), name)

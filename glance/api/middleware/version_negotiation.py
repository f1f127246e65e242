"""Determine the API version of a request, by its path or its Accept header.

The path wins. The version segment is removed from the path for the application; requests that name
no supported version get the version document (300).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance.api import versions
from glance.common import config
from glance.http import wsgi

LOG = logging.getLogger(__name__)

#: First path segments that are served as v1 without a prefix.
UNVERSIONED = frozenset(
    {"images", "shared-images", "cached_images", "queued_images", "cache_stats"}
)

_VERSION = re.compile(r"v[0-9]", re.IGNORECASE)
_SERVED = re.compile(r"v1(\.0|\.1)?", re.ASCII)
#: WIRE: an odd minor version without digits (`v1.a`) has always been accepted as v1.
_TOLERATED = re.compile(r"v1\.[A-Za-z._~-]+")

_VENDOR = "application/vnd.openstack.images-"
_VENDOR_SERVED = re.compile(r"v1(\.0|\.1)?(?![0-9A-Za-z.])", re.ASCII)
#: Types that ordinary clients request. Other types name an API that this service does not have.
_ORDINARY = re.compile(
    r"\*/\*|(application|text|image)/\*|application/(json|octet-stream|xml|xhtml\+xml)|text/.+|image/.+"
)


class VersionNegotiation:
    """The middleware; see the module."""

    def __init__(self, app: wsgi.WSGIApp, conf: config.Conf):
        self.app = app
        self.versions = versions.Versions(conf)
        self.serve_unversioned: bool = conf.serve_unversioned

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        mount = environ.setdefault(wsgi.MOUNT, environ.get("SCRIPT_NAME", ""))
        chosen = self.app if self._is_v1(environ) else self.versions
        if environ.get("SCRIPT_NAME", "") != mount:
            return chosen(environ, start_response)

        # NOTE: without a version in the path, Accept decides (RFC 9110 §12.5.5).
        def vary(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, _with_vary(headers, "Accept"), *exc_info)

        return chosen(environ, vary)

    def _is_v1(self, environ: dict[str, Any]) -> bool:
        """Return whether v1 serves the request; if its path names v1, remove that segment."""
        path = environ.get("PATH_INFO", "")
        first, slash, rest = path.lstrip("/").partition("/")
        if first == "versions":
            return False
        if _VERSION.match(first):
            if not self._serves(first):
                _log_unknown("version in the path", first)
                return False
            if not slash:
                return False
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + "/" + first
            environ["PATH_INFO"] = "/" + rest
            return True
        accept = environ.get("HTTP_ACCEPT", "").strip()
        if accept.startswith(_VENDOR):
            if _VENDOR_SERVED.match(accept, len(_VENDOR)):
                return True
            _log_unknown("version in the Accept header", accept)
            return False
        if not _is_ordinary(accept):
            _log_unknown("Accept header", accept)
            return False
        return self.serve_unversioned and first in UNVERSIONED

    @staticmethod
    def _serves(segment: str) -> bool:
        if _SERVED.fullmatch(segment):
            return True
        if _TOLERATED.fullmatch(segment):
            LOG.info("Version segment %r is treated as v1", segment)
            return True
        return False


def _log_unknown(what: str, text: str) -> None:
    """Log what made the version document the response, for those who wonder about the 300."""
    # SECURITY: the text is the client's: no line breaks, and not all of 16 KiB.
    LOG.info("Unknown %s: %r; the response is the list of versions", what, text[:100])


def _with_vary(headers: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """Return the headers of a response with another name in its Vary."""
    others = [value for header, value in headers if header.lower() == "vary"]
    kept = [one for one in headers if one[0].lower() != "vary"]
    return [*kept, ("Vary", ", ".join([*others, name]))]


def _is_ordinary(accept: str) -> bool:
    if not accept:
        return True
    types = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return any(_ORDINARY.fullmatch(kind) for kind in types)


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], VersionNegotiation]:
    """Paste filter factory of `[filter:versionnegotiation]`."""
    conf = config.from_paste(global_conf, local_conf)
    return lambda app: VersionNegotiation(app, conf)

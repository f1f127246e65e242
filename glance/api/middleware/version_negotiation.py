"""Determine the API version of a request, by its path or its Accept header.

The path wins. The version segment is removed from the path for the application; requests that name
no supported version get the version document (300).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from glance.api import mounting, versions
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
_V2 = re.compile(r"v2(?:\.(0|[1-9][0-9]{0,3}))?", re.ASCII)

_VENDOR = "application/vnd.openstack.images-"
#: What would be more of a version's name.
_MORE = re.compile(r"[0-9A-Za-z.]", re.ASCII)
_VENDOR_SERVED = re.compile(rf"v1(\.0|\.1)?(?!{_MORE.pattern})", re.ASCII)
#: Types that ordinary clients request. Other types name an API that this service does not have.
_ORDINARY = re.compile(
    r"\*/\*|(application|text|image)/\*|application/(json|octet-stream|xml|xhtml\+xml)|text/.+|image/.+"
)


class VersionNegotiation:
    """The middleware; see the module. `mounted` are the versions that `app` serves."""

    def __init__(
        self, app: wsgi.WSGIApp, conf: config.Conf, mounted: Sequence[str] = (mounting.V1,)
    ):
        self.app = app
        self.mounted = frozenset(mounted)
        self.versions = versions.Versions(conf, mounted)
        self.serve_unversioned: bool = conf.serve_unversioned
        # WIRE: clients with an endpoint that ends in /v2 ask there which versions there are.
        self._v2_root: wsgi.Router[wsgi.Request] = wsgi.Router(wsgi.Request, strict=True)
        self._v2_root.add("/", GET=self.versions.document, HEAD=self.versions.document)

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        mount = environ.setdefault(wsgi.MOUNT, environ.get("SCRIPT_NAME", ""))
        version = self._version(environ)
        if environ.get("SCRIPT_NAME", "") != mount:
            return self._respond(version, environ, start_response)

        # NOTE: without a version in the path, Accept decides (RFC 9110 §12.5.5).
        def vary(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, _with_vary(headers, "Accept"), *exc_info)

        return self._respond(version, environ, vary)

    def _respond(
        self,
        version: str | None,
        environ: dict[str, Any],
        start_response: wsgi.StartResponse,
    ) -> Iterable[bytes]:
        if version is None:
            return self.versions(environ, start_response)
        mounting.mark(environ, version)
        environ[mounting.MOUNTED] = self.mounted
        if version == mounting.V2 and environ["PATH_INFO"] in ("", "/"):
            return self._v2_root(environ, start_response)
        return self.app(environ, start_response)

    def _version(self, environ: dict[str, Any]) -> str | None:
        """Return the version that serves the request, None for the version document.

        If the path names the version, this removes that segment.
        """
        path = environ.get("PATH_INFO", "")
        first, slash, rest = path.lstrip("/").partition("/")
        if first == "versions":
            return None
        if _VERSION.match(first):
            version = self._named(first)
            if version is None:
                _log_unknown("version in the path", first)
                return None
            if not slash:
                return None
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + "/" + first
            environ["PATH_INFO"] = "/" + rest
            return version
        accept = environ.get("HTTP_ACCEPT", "").strip()
        if accept.startswith(_VENDOR):
            version = self._vendor(accept)
            if version is None:
                _log_unknown("version in the Accept header", accept)
            return version
        if not _is_ordinary(accept):
            _log_unknown("Accept header", accept)
            return None
        if self.serve_unversioned and first in UNVERSIONED and mounting.V1 in self.mounted:
            return mounting.V1
        return None

    def _named(self, segment: str) -> str | None:
        """Return the version that is served for the first segment of a path, None if none is."""
        found = _V2.fullmatch(segment)
        if found:
            return self._v2(found)
        if mounting.V1 not in self.mounted:
            return None
        if _SERVED.fullmatch(segment):
            return mounting.V1
        if _TOLERATED.fullmatch(segment):
            LOG.info("Version segment %r is treated as v1", segment)
            return mounting.V1
        return None

    def _vendor(self, accept: str) -> str | None:
        """Return the version that is served for an Accept header of ours, None if none is."""
        found = _V2.match(accept, len(_VENDOR))
        if found and not _MORE.match(accept, found.end()):
            return self._v2(found)
        if _VENDOR_SERVED.match(accept, len(_VENDOR)) and mounting.V1 in self.mounted:
            return mounting.V1
        return None

    def _v2(self, found: re.Match[str]) -> str | None:
        minor = int(found[1] or 0)
        is_served = mounting.V2 in self.mounted and minor <= versions.V2_MINOR
        return mounting.V2 if is_served else None


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
    # NOTE: paste makes the application before the filters around it.
    return lambda app: VersionNegotiation(app, conf, mounting.versions())

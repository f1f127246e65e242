"""What each daemon says to a caller who took its port for the other one's.

Their default ports, 9191 and 9292, and their paths look much alike. Both responses depend on
nothing but the request, so the daemons give them before they look who the caller is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from glance.common import exception
from glance.http import wsgi
from glance.registry import client

REGISTRY = (
    "This is the glance registry, not the image API. Check the port that you use: it must be the "
    "bind_port of glance-api, 9292 by default (option --port of the glance command)."
)
API = (
    "This is the glance image API, not the registry. Check registry_host and registry_port of the "
    "service that sent the request: they must name the registry, whose port is 9191 by default."
)

_VERSION = re.compile(r"v[0-9]", re.IGNORECASE)
#: First segments of the registry's paths below `/v1/`.
_RESOURCES = frozenset({"", "images", "shared-images", "attempts"})
_API_CLIENT = re.compile(r"(python-)?glance-?client\b", re.IGNORECASE)
_API_HEADERS = ("HTTP_X_IMAGE_META_", "HTTP_X_GLANCE_API_")


def stray_response(environ: Mapping[str, Any]) -> wsgi.Response | None:
    """Return the registry's response to a request that is meant for the API, None for others.

    The registry has no versions, but serves its own paths below `/v1/`, too; there a request is
    the API's if it looks so. Below `/v2/` it serves its own client only. `/` is a list, with GET
    only.
    """
    first, slash, rest = (environ.get("PATH_INFO") or "/").lstrip("/").partition("/")
    if not first:
        if environ["REQUEST_METHOD"] == "GET":
            return None
        return _told(405, [("Allow", "GET")])
    if first != "versions" and not _VERSION.match(first):
        return None
    if first == "v2" and _is_registrys(environ):
        return None
    if first == "v1" and slash and rest.partition("/")[0] in _RESOURCES and not _is_apis(environ):
        return None
    return _told(404)


def _is_registrys(environ: Mapping[str, Any]) -> bool:
    """Return whether the client that glance-api has for the registry has sent a request."""
    return environ.get("HTTP_USER_AGENT") == client.RegistryClient.USER_AGENT


def _is_apis(environ: Mapping[str, Any]) -> bool:
    """Return whether a client of the API has sent a request."""
    agent = environ.get("HTTP_USER_AGENT", "")
    return _API_CLIENT.match(agent) is not None or any(
        name.startswith(_API_HEADERS) for name in environ
    )


def _told(status: int, headers: Iterable[tuple[str, str]] = ()) -> wsgi.Response:
    kind = ("Content-Type", "text/plain; charset=UTF-8")
    return wsgi.Response(status, [kind, *headers], f"{REGISTRY}\n".encode())


class RegistryFront:
    """Middleware of the registry: requests that are meant for the API get no further."""

    def __init__(self, app: wsgi.WSGIApp):
        self.app = app

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        return (stray_response(environ) or self.app)(environ, start_response)


class ApiFront:
    """Middleware of the API: requests that are meant for the registry get 421 (RFC 9110 §15.5.20).

    An API whose registry_port is its own would otherwise send each request to itself, and that one
    again, until it has no connection left.
    """

    def __init__(self, app: wsgi.WSGIApp):
        self.app = app

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        if _is_registrys(environ):
            return wsgi.fail(exception.Misdirected(API), environ, start_response)
        return self.app(environ, start_response)

"""The version document: which API versions are served, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from glance import api  # noqa: F401  declares public_endpoint
from glance.api import caching
from glance.common import config
from glance.http import wsgi

#: Newest first: (id, status). Both are served by the same application below `/v1/`.
VERSIONS = (("v1.1", "CURRENT"), ("v1.0", "SUPPORTED"))

config.options(
    "version negotiation",
    config.Option(
        "serve_unversioned",
        config.boolean,
        True,
        help="Serve paths without a version prefix, such as /images, as version 1; the Diablo "
        "manual uses such paths.",
    ),
)


def prefixes(conf: config.Conf) -> list[str]:
    """Return what the paths of images may begin with, such as `/v1`; "" without a version."""
    names = dict.fromkeys(["v1", *(name for name, _ in reversed(VERSIONS))])
    return [*(f"/{name}" for name in names), *([""] if conf.serve_unversioned else [])]


class Versions:
    """WSGI application that responds to every request with 300 and the version document."""

    def __init__(self, conf: config.Conf):
        self.public_endpoint: str | None = conf.public_endpoint
        self._rules = caching.CacheRules(conf)

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        # A composite may mount this application alone, at the path of the document.
        mounted = wsgi.Request(environ).service_url.removesuffix("/versions")
        base = (self.public_endpoint or mounted).rstrip("/")
        document = {
            "versions": [
                {
                    "id": name,
                    "status": status,
                    "links": [{"rel": "self", "href": f"{base}/v1/"}],
                }
                for name, status in VERSIONS
            ]
        }
        response = self._rules.complete(wsgi.json_response(document, status=300))
        return response(environ, start_response)


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> Versions:
    """Paste app factory of `[app:versionsapp]`."""
    return Versions(config.from_paste(global_conf, local_conf))

"""The version document: which API versions are served, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glance import api  # noqa: F401  declares public_endpoint
from glance.api import caching, mounting
from glance.common import config, metrics
from glance.http import openapi, wsgi

#: Version -> its ids in the document, newest first; one application serves all of a version. An id
#: of version 2 stands here only if everything is there that clients expect behind it.
IDS = {
    mounting.V2: ("v2.7", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"),
    mounting.V1: ("v1.1", "v1.0"),
}
#: The highest minor version of version 2; a request may name any up to it.
V2_MINOR = int(IDS[mounting.V2][0].partition(".")[2])

#: The JSON schema of the document.
SCHEMA: openapi.Schema = openapi.list_of(
    "versions",
    openapi.object_of(
        {
            "id": openapi.TEXT,
            "status": {"type": "string", "enum": ["CURRENT", "SUPPORTED"]},
            "links": {
                "type": "array",
                "items": openapi.object_of({"rel": openapi.TEXT, "href": openapi.TEXT}),
            },
        }
    ),
)

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
    """Return what paths of version 1 may begin with, such as `/v1`; "" without a version."""
    names = ("v1", *reversed(IDS[mounting.V1]))
    return [*(f"/{name}" for name in names), *([""] if conf.serve_unversioned else [])]


class Versions:
    """WSGI application that responds to every request with 300 and the version document.

    It lists the versions in `mounted`. Where version 2 is served, `/versions` has status 200:
    clients of that version ask there.
    """

    def __init__(self, conf: config.Conf, mounted: Sequence[str] = (mounting.V1,)):
        self.public_endpoint: str | None = conf.public_endpoint
        self._entries = _entries(mounted)
        self._serves_v2 = mounting.V2 in mounted
        self._rules = caching.CacheRules(conf)

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        metrics.took(environ, "/")
        return self.document(wsgi.Request(environ))(environ, start_response)

    @openapi.operation(
        "list_versions",
        responses={300: openapi.json_of("Versions", "The versions that the service has.")},
    )
    def document(self, request: wsgi.Request) -> wsgi.Response:
        """GET /: the versions of the API, with links.

        They lead to where the client of `request` reaches us.
        """
        # A composite may mount this application alone, at the path of the document.
        mounted = request.service_url.removesuffix("/versions")
        base = (self.public_endpoint or mounted).rstrip("/")
        document = {
            "versions": [
                {
                    "id": name,
                    "status": status,
                    "links": [{"rel": "self", "href": f"{base}/{version}/"}],
                }
                for name, status, version in self._entries
            ]
        }
        path = request.environ.get("PATH_INFO", "").strip("/")
        status = 200 if self._serves_v2 and path.partition("/")[0] == "versions" else 300
        return self._rules.complete(wsgi.json_response(document, status=status))


def routes() -> openapi.Routes:
    """Return the path of the document below a version, which the version negotiation serves."""
    return (("/", {"GET": Versions.document, "HEAD": Versions.document}),)


def _entries(mounted: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return id, status and version of each entry: the highest id is the current one."""
    entries = [(name, version) for version in IDS if version in mounted for name in IDS[version]]
    # WIRE: clients of gophercloud refuse the whole document for any other word.
    return [
        (name, "SUPPORTED" if number else "CURRENT", version)
        for number, (name, version) in enumerate(entries)
    ]


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> Versions:
    """Paste app factory of `[app:versionsapp]`."""
    return Versions(config.from_paste(global_conf, local_conf), mounting.versions())

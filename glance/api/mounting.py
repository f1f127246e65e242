"""Which versions of the Images API a process serves, and the composite that serves several.

A pipeline ends in the application of one version, or in a composite of several:

    [composite:rootapp]
    paste.composite_factory = glance.api:root_app_factory
    /v1 = apiv1app
    /v2 = apiv2app

The filters of the pipeline stand in front of all of them. The version negotiation decides which
version a request means, and lists those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from glance.common import config, exception, httperror
from glance.http import wsgi

T = TypeVar("T")

config.options(
    "version negotiation",
    config.Option(
        "enable_v1_api",
        config.boolean,
        True,
        help="Serve version 1 of the Images API, if the pipeline has it.",
    ),
    config.Option(
        "enable_v2_api",
        config.boolean,
        True,
        help="Serve version 2 of the Images API, if the pipeline has it.",
    ),
)

V1, V2 = "v1", "v2"
#: The versions that there are, each with the option that switches it off.
SWITCHES = {V1: "enable_v1_api", V2: "enable_v2_api"}

#: Key of the environ: the version that serves a request, V1 or V2.
VERSION = "glance.api_version"
#: Key of the environ: all versions that this service has.
MOUNTED = "glance.api_versions"

_FIRST = re.compile(r"/*(v[12])(?:\.[0-9]+)?(?=/|$)", re.ASCII)


class _Built:
    """What the applications that are being made have to know of each other.

    `versions` are those of the application that was made last: paste makes an application, then
    the filters in front of it, and then anything else. `shared` holds what the applications of a
    composite have in common while it is being made, None outside of one.
    """

    versions: tuple[str, ...] = (V1,)
    shared: list[tuple[dict[str, Any], Any]] | None = None


_built = _Built()


def versions() -> tuple[str, ...]:
    """Return the versions of the application that was made last, for the filter around it."""
    return _built.versions


def announce(conf: config.Conf, version: str) -> None:
    """Note that the application of `version` is being made.

    Raises ConfigError if the version is switched off: the pipeline has no other one.
    """
    if _built.shared is None and not conf[SWITCHES[version]]:
        raise exception.ConfigError(
            f"{SWITCHES[version]} is False, but the pipeline has no other version of the API"
        )
    _built.versions = (version,)


def shared(conf: config.Conf, make: Callable[[], T]) -> T:
    """Return what `make` returns; it is called once for applications of one composite.

    Applications whose sections set different options have nothing in common.
    """
    if _built.shared is None:
        return make()
    for settings, made in _built.shared:
        if settings == dict(conf):
            found: T = made
            return found
    made = make()
    _built.shared.append((dict(conf), made))
    return made


class Root:
    """WSGI application that hands a request to the application of its version."""

    def __init__(self, apps: Mapping[str, wsgi.WSGIApp]):
        self.apps = apps

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        version = environ.get(VERSION)
        if version is None:
            # No version negotiation stands in front.
            version = _take_version(environ)
        app = self.apps.get(version or "")
        if app is None:
            error = exception.MethodUnknown("The resource was not found")
            return wsgi.fail(error, environ, start_response)
        return app(environ, start_response)


def _take_version(environ: dict[str, Any]) -> str | None:
    """Move the first segment of the path to SCRIPT_NAME if it names a version, and return that."""
    found = _FIRST.match(environ.get("PATH_INFO", ""))
    if found is None:
        return None
    environ.setdefault(wsgi.MOUNT, environ.get("SCRIPT_NAME", ""))
    environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{found[0].lstrip('/')}"
    environ["PATH_INFO"] = environ["PATH_INFO"][found.end() :]
    mark(environ, found[1])
    return found[1]


def mark(environ: dict[str, Any], version: str) -> None:
    """Note in the environ which version serves the request, for all that come after."""
    environ[VERSION] = version
    if version == V2:
        environ[httperror.JSON_ERRORS] = True


def root_app_factory(loader: Any, global_conf: Mapping[str, Any], **local_conf: Any) -> Root:
    """Paste composite factory: the applications at `/v1` and `/v2`, as far as switched on.

    What stands at `/` is the version document, which the version negotiation sends. Raises
    ConfigError for any other path, and if no version is left.
    """
    mounts = {path: name for path, name in local_conf.items() if path.startswith("/")}
    own = {name: value for name, value in local_conf.items() if name not in mounts}
    conf = config.from_paste(global_conf, own)
    wanted: dict[str, str] = {}
    for path, name in sorted(mounts.items()):
        version = path.strip("/")
        if version in SWITCHES:
            wanted[version] = name
        elif version:
            raise exception.ConfigError(
                f"The composite mounts {path}; it can mount {', '.join(f'/{v}' for v in SWITCHES)}"
            )
    enabled = {version: name for version, name in wanted.items() if conf[SWITCHES[version]]}
    if not enabled:
        switches = " and ".join(SWITCHES[version] for version in wanted)
        raise exception.ConfigError(
            f"No version of the API is left to serve: {switches} are False"
            if wanted
            else "The composite mounts no version of the API: set /v1 and /v2 in its section"
        )
    _built.shared = []
    try:
        apps = {
            version: loader.get_app(name, global_conf=global_conf)
            for version, name in enabled.items()
        }
    finally:
        _built.shared = None
    _built.versions = tuple(enabled)
    return Root(apps)

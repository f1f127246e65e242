"""Sources of identity: the same callers by name, told to glance in different ways.

A source starts a site, has headers for each caller, and knows what an image of that caller is
owned by. The caller `admin` is an administrator; every other name is a tenant of its own.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import daemons, keystone

ANONYMOUS = {"allow_anonymous_access": True}
SECRET = {"registry_shared_secret": "known to both"}
#: The stages of an API that caches.
_CACHE = "cache cachemanage "


def _caching(directory: pathlib.Path) -> dict[str, Any]:
    """Return the options of an API that caches images at once."""
    return {
        "image_cache_enabled": True,
        "image_cache_dir": directory / "cache",
        "image_cache_min_free_disk": 0,
        "image_cache_debug_header": True,
    }


class Source:
    """Base of the sources. `strict` ones refuse callers without a valid token."""

    strict = False
    site: daemons.Site

    def caller(self, name: str) -> dict[str, str]:
        """Return the headers that a caller sends, with a valid token."""
        raise NotImplementedError

    def drifter(self) -> dict[str, str]:
        """Return the headers of somebody who is known, but belongs to no tenant."""
        raise NotImplementedError

    def owner(self, name: str) -> str:
        """Return what the images of a caller are owned by; also its name as a member."""
        raise NotImplementedError

    def stop(self) -> None:
        self.site.stop()


class Stage(Source):
    """A stage in front of the API that sets headers; the registry trusts the API,
    which it knows by a secret.

    With `caching`, the API has an image cache.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        by_user: bool = False,
        caching: bool = False,
        api: dict[str, Any] | None = None,
    ):
        self.by_user = by_user
        options = {**ANONYMOUS, **SECRET, "owner_is_tenant": not by_user}
        cache = _caching(directory) if caching else {}
        sections = "[filter:stage]\npaste.filter_factory = support.stage:filter_factory\n"
        self.site = daemons.Site(
            directory,
            auth_mode="trusted-headers",
            workers=2,
            api={**options, **cache, **(api or {})},
            registry=options,
            api_pipeline=f"versionnegotiation stage context {_CACHE * caching}rootapp",
            sections=sections + ("tenant = everybody\n" if by_user else ""),
        )
        self.site.start()

    def caller(self, name: str) -> dict[str, str]:
        return {"X-Auth-Token": name}

    def drifter(self) -> dict[str, str]:
        return self.caller("drifter")

    def owner(self, name: str) -> str:
        return f"user-of-{name}" if self.by_user else f"tenant-of-{name}"


class Tokens(Source):
    """A real Keystone, asked by both daemons with the caller's token.

    With `strict`, callers without a valid token are refused by the token filter, and the registry
    trusts the API, which it knows by a secret, instead of asking Keystone again. `settings` are
    further ones of the token filter, and arguments of `site`.
    """

    def __init__(self, directory: pathlib.Path, *, strict: bool = False, **settings: Any):
        self.strict = strict
        self.keystone = keystone.Keystone(directory / "keystone")
        self._callers: dict[str, dict[str, str]] = {}
        try:
            self.keystone.start()
            self.site = site(directory / "site", self.keystone, strict=strict, **settings)
            self.site.start()
        except BaseException:
            self.keystone.stop()
            raise

    def caller(self, name: str) -> dict[str, str]:
        if name not in self._callers:
            if name != "admin":
                self.keystone.user(name, name)
            self._callers[name] = {"X-Auth-Token": self.keystone.token(name, name)}
        return self._callers[name]

    def drifter(self) -> dict[str, str]:
        self.keystone.user("drifter", "drifting")
        return {"X-Auth-Token": self.keystone.token("drifter")}

    def owner(self, name: str) -> str:
        return self.keystone.project(name)

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self.keystone.stop()


def site(
    directory: pathlib.Path,
    running: keystone.Keystone,
    *,
    strict: bool = False,
    anonymous: bool | None = None,
    trusted_link: bool | None = None,
    caching: bool = False,
    workers: int = 2,
    api: dict[str, Any] | None = None,
    registry: dict[str, Any] | None = None,
    **settings: object,
) -> daemons.Site:
    """Return daemons, not started yet, that ask a Keystone who is asking.

    `strict`: the token filter lets nobody pass without a valid token; else the context filter
    does, and anonymous callers may read unless `anonymous` says otherwise. The registry asks
    Keystone, too, unless it trusts the API by `trusted_link`, which it does on a strict site if
    nothing is said. `settings` are further ones of the token filter.
    """
    trusted_link = strict if trusted_link is None else trusted_link
    running.user("glance", "service", ["admin", "service"])
    filtering = {
        "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
        "auth_type": "password",
        "auth_url": running.url,
        "www_authenticate_uri": running.url,
        "username": "glance",
        "password": keystone.PASSWORD,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "delay_auth_decision": not strict,
        **settings,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in filtering.items())
    reading = not strict if anonymous is None else anonymous
    more: dict[str, Any] = {**SECRET, **(ANONYMOUS if reading else {})}
    trusted = {"auth_mode": "trusted-headers"} if trusted_link else {}
    cache = _caching(directory) if caching else {}
    return daemons.Site(
        directory,
        workers=workers,
        api={**more, **cache, "send_identity_headers": trusted_link, **(api or {})},
        registry={**more, **trusted, **(registry or {})},
        api_pipeline=f"versionnegotiation authtoken context {_CACHE * caching}rootapp",
        registry_pipeline=f"{'' if trusted_link else 'authtoken '}context registryapp",
        sections=f"[filter:authtoken]\n{lines}",
    )


#: Name -> a source that a whole table of callers can be asked with.
SOURCES: dict[str, Callable[[pathlib.Path], Source]] = {
    "stage": lambda directory: Stage(directory),
    "stage-by-user": lambda directory: Stage(directory, by_user=True),
    "keystone": lambda directory: Tokens(directory),
    "keystone-strict": lambda directory: Tokens(directory, strict=True),
}


def params(*names: str) -> list[Any]:
    """Return the names as parameters of a fixture; those with a real Keystone are peers."""
    return [
        pytest.param(name, marks=pytest.mark.peers if "keystone" in name else ())
        for name in names or SOURCES
    ]


@contextlib.contextmanager
def started(name: str, directory: pathlib.Path) -> Iterator[Source]:
    """Start a source of that name, and stop it at the end."""
    with pytest.MonkeyPatch.context() as patch:
        # Where the daemons find the stage.
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[1]))
        running = SOURCES[name](directory)
    try:
        yield running
    finally:
        running.stop()

"""The caller: the request context and the middleware that creates it.

The context is created once per request, kept in `environ["glance.context"]`, and the first
argument of every function that needs it. Option `auth_mode` selects one of two modes for a process
(`glance.cli.daemon.paste` infers it from the pipeline when it is not set):

* `noauth`: every request is an administrator without an owner; identity headers are ignored.
* `keystone` / `trusted-headers`: something in front has set the identity headers. It is either a
  token filter in the pipeline, before which `IdentityGuard` removes the identity headers of the
  client, or a proxy on a trusted link, which has to do the same. A request that is not confirmed
  is refused, or anonymous and read-only when `allow_anonymous_access` is on. It is never an
  administrator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance.common import config, exception
from glance.http import latin1, wsgi
from glance.image import types

config.options(
    "identity",
    config.Option(
        "auth_mode",
        default=None,
        choices=("noauth", "keystone", "trusted-headers"),
        help="How callers are authenticated. Unset: keystone if the pipeline has a token filter "
        "before the context filter, otherwise noauth.",
    ),
    config.Option(
        "owner_is_tenant",
        config.boolean,
        True,
        help="Whether an image belongs to the caller's tenant (true) or to the user (false). "
        "Use the same value for glance-api and glance-registry.",
    ),
    config.Option(
        "admin_role",
        default="admin",
        help="Role that makes a caller an administrator. Case is ignored.",
    ),
    config.Option(
        "allow_anonymous_access",
        config.boolean,
        False,
        help="With authentication enabled, allow callers without a valid token to read public "
        "images.",
    ),
    config.Option(
        "context_class",
        default="glance.identity.context.RequestContext",
        help="Class of the request context. The registry uses its own.",
    ),
)

# Each identity field with the headers that may carry it, current name first.
USER_HEADERS = ("HTTP_X_USER_ID", "HTTP_X_USER")
TENANT_HEADERS = ("HTTP_X_TENANT_ID", "HTTP_X_PROJECT_ID", "HTTP_X_TENANT")
ROLE_HEADERS = ("HTTP_X_ROLES", "HTTP_X_PROJECT_ROLES", "HTTP_X_ROLE")
TOKEN_HEADERS = ("HTTP_X_AUTH_TOKEN", "HTTP_X_STORAGE_TOKEN")
IDENTITY_HEADERS = ("HTTP_X_IDENTITY_STATUS", *USER_HEADERS, *TENANT_HEADERS, *ROLE_HEADERS)


class RequestContext:
    """The caller of one request; treat it as a value.

    `owner` is the owner of the images that the caller creates. `read_only` callers may change
    nothing. `show_deleted` is for maintenance programs only: no HTTP request sets it.

    The predicates decide about a loaded image mapping. They also exist as SQL
    (`glance.registry.db.visibility`); one test runs a table of cases through both. `membership` is
    the caller's own membership of the image, or None; a removed one (`deleted`) grants nothing.
    """

    def __init__(
        self,
        auth_tok: str | None = None,
        user: str | None = None,
        tenant: str | None = None,
        roles: Iterable[str] = (),
        is_admin: bool = False,
        read_only: bool = False,
        show_deleted: bool = False,
        owner_is_tenant: bool = True,
        request_id: str | None = None,
    ):
        self.auth_tok = auth_tok
        self.user = user
        self.tenant = tenant
        self.roles = tuple(roles)
        self.is_admin = is_admin
        self.read_only = read_only
        self.show_deleted = show_deleted
        self.owner_is_tenant = owner_is_tenant
        self.request_id = request_id

    @property
    def owner(self) -> str | None:
        return self.tenant if self.owner_is_tenant else self.user

    def require_write(self) -> None:
        """Raise ReadOnly for a caller that may only read. Call this before all other checks."""
        if self.read_only:
            raise exception.ReadOnly("Anonymous callers may only read; send a valid token")

    def is_image_visible(
        self, image: types.OwnedImage, membership: types.OwnMembership | None = None
    ) -> bool:
        """Return whether the caller may read the image. The first rule that applies decides."""
        if self.is_admin or image["owner"] is None or image["is_public"]:
            return True
        if self.owner is None:
            return False
        return self.owner == image["owner"] or _is_live(membership)

    def is_image_mutable(self, image: types.OwnedImage) -> bool:
        """Return whether the caller may change or delete the image; members may not."""
        if self.is_admin:
            return True
        return self.owner is not None and self.owner == image["owner"]

    def is_image_deletable(self, image: types.OwnedImage, any_owner: bool) -> bool:
        """Return whether the caller may delete the image; `any_owner`: also those of others."""
        return any_owner or (self.owner is not None and self.owner == image["owner"])

    def is_image_sharable(
        self, image: types.OwnedImage, membership: types.OwnMembership | None = None
    ) -> bool:
        """Return whether the caller may change with whom the image is shared."""
        if self.is_image_mutable(image):
            return True
        if self.owner is None or membership is None or not _is_live(membership):
            return False
        return bool(membership["can_share"])

    def __repr__(self) -> str:
        # SECURITY: the token stays out of logs.
        return (
            f"<{type(self).__name__} user={self.user!r} tenant={self.tenant!r} "
            f"admin={self.is_admin} read_only={self.read_only}>"
        )


class CallerRequest(wsgi.Request):
    """A request that has come through `ContextMiddleware`."""

    @property
    def context(self) -> RequestContext:
        """The caller, as the middleware found it."""
        found: RequestContext = self.environ["glance.context"]
        return found


def _is_live(membership: types.OwnMembership | None) -> bool:
    return membership is not None and not membership.get("deleted", False)


class IdentityGuard:
    """Remove the identity headers that a client sends itself, except for the token.

    SECURITY: a token filter removes the headers that it sets, and no others. For a token without
    roles, X-Project-Roles from the outside would be trusted.
    """

    def __init__(self, app: wsgi.WSGIApp):
        self.app = app

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        for name in IDENTITY_HEADERS:
            environ.pop(name, None)
        return self.app(environ, start_response)


class ContextMiddleware:
    """Put the caller's `RequestContext` into the environ, or refuse the request with 401."""

    def __init__(self, app: wsgi.WSGIApp, conf: config.Conf):
        self.app = app
        self.context_class = load_class(conf.context_class)
        self.owner_is_tenant: bool = conf.owner_is_tenant
        self.admin_role: str = conf.admin_role.lower()
        self.anonymous: bool = conf.allow_anonymous_access
        self.make = self._noauth if conf.auth_mode in (None, "noauth") else self._from_headers

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        try:
            environ["glance.context"] = self.make(environ)
        except exception.Error as err:
            return wsgi.fail(err, environ, start_response)
        return self.app(environ, start_response)

    def _noauth(self, environ: Mapping[str, Any]) -> RequestContext:
        return self.context_class(
            auth_tok=_first(environ, TOKEN_HEADERS),
            is_admin=True,
            owner_is_tenant=self.owner_is_tenant,
            request_id=environ.get("glance.request_id"),
        )

    def _from_headers(self, environ: Mapping[str, Any]) -> RequestContext:
        token = _first(environ, TOKEN_HEADERS)
        request_id = environ.get("glance.request_id")
        if environ.get("HTTP_X_IDENTITY_STATUS") != "Confirmed":
            if not self.anonymous:
                raise exception.NotAuthorized("A valid token is required in X-Auth-Token")
            return self.context_class(
                read_only=True,
                owner_is_tenant=self.owner_is_tenant,
                request_id=request_id,
            )
        roles = [role.strip() for role in (_first(environ, ROLE_HEADERS) or "").split(",")]
        return self.context_class(
            auth_tok=token,
            user=_identity(environ, USER_HEADERS),
            tenant=_identity(environ, TENANT_HEADERS),
            roles=[role for role in roles if role],
            is_admin=any(role.lower() == self.admin_role for role in roles),
            owner_is_tenant=self.owner_is_tenant,
            request_id=request_id,
        )


def needs_token(conf: config.Conf) -> bool:
    """Return whether a request without a valid token is refused."""
    return conf.auth_mode not in (None, "noauth") and not conf.allow_anonymous_access


def _first(environ: Mapping[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        value = environ.get(name)
        if value:
            return str(value)
    return None


def _identity(environ: Mapping[str, Any], names: Iterable[str]) -> str | None:
    value = _first(environ, names)
    return None if value is None else latin1.decode(value, "identity header")


def load_class(dotted: str) -> type[RequestContext]:
    """Import a context class by its dotted name. Raises ConfigError if it does not exist."""
    module, _, name = dotted.rpartition(".")
    try:
        loaded: type[RequestContext] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise exception.ConfigError(f"context_class {dotted} cannot be imported") from None
    return loaded


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], ContextMiddleware]:
    """Paste filter factory of `[filter:context]`."""
    conf = config.from_paste(global_conf, local_conf)
    return lambda app: ContextMiddleware(app, conf)


def shim_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], ContextMiddleware]:
    """Paste filter factory of the filter that Diablo's Keystone provided for this place.

    It admits every caller that the token filter before it admits: callers without a valid token
    may read. A context filter after it decides in the end.
    """
    anonymous = {"allow_anonymous_access": "True"}
    return filter_factory(global_conf, **{**anonymous, **local_conf})

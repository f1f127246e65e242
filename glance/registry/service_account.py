"""Access to the registry for programs that act for the service itself, not for a caller.

The prefetcher and the cleaner of the image cache request images whose owners they do not know. A
registry without authentication serves them like every caller. With authentication it needs an
administrator: a token, or a user that signs in to the identity service.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from glance.common import config, exception
from glance.identity import strategies
from glance.identity.context import RequestContext
from glance.image import fields, types
from glance.registry.link import RegistryLink

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")

config.options(
    "service account",
    config.Option(
        "admin_user",
        help="User, with the role in admin_role, as which the program authenticates at the "
        "identity service for its own requests to the registry. Unset: these requests have "
        "no token.",
    ),
    config.Option("admin_password", secret=True, help="Password of admin_user."),
    config.Option("admin_tenant_name", help="Tenant for which admin_user authenticates."),
    config.Option(
        "auth_url",
        config.url,
        help="URL of the identity service at which admin_user authenticates.",
    ),
    config.Option(
        "admin_token",
        secret=True,
        help="Token for requests to the registry. With it, the program does not authenticate as "
        "admin_user.",
    ),
)


class ServiceAccount:
    """Asks the registry of `link` for the service. Thread-safe."""

    def __init__(self, conf: config.Conf, link: RegistryLink):
        """Read the account from `conf`. Raises ConfigError for an incomplete one."""
        self.conf, self.link = conf, link
        self._lock = threading.Lock()
        self._strategy: strategies.BaseStrategy | None = None
        self._token: str | None = conf.admin_token
        if conf.admin_user and not self._token:
            missing = [name for name in ("admin_password", "auth_url") if not conf[name]]
            if missing:
                raise exception.ConfigError(
                    f"{conf.source}: admin_user also requires {' and '.join(missing)}"
                )
            self._strategy = self._create_strategy()

    def _create_strategy(self) -> strategies.BaseStrategy:
        creds = {
            "strategy": "keystone",
            "username": self.conf.admin_user,
            "password": self.conf.admin_password,
            "tenant": self.conf.admin_tenant_name,
            "auth_url": self.conf.auth_url,
        }
        return strategies.get_plugin_from_strategy("keystone")(
            creds, timeout=self.conf.registry_client_timeout or None
        )

    def call(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a method of the link with these arguments after the context.

        A refused token is replaced by a fresh one, once. Raises what the function raises,
        NotAuthorized for a refused account, and RegistryUnavailable when the identity service does
        not respond.
        """
        context = self._context()
        try:
            return function(context, *args, **kwargs)
        except exception.NotAuthorized as err:
            if self._strategy is None or isinstance(err, exception.Forbidden):
                raise
            LOG.info("The registry rejected the token; authenticating again")
        return function(self._context(instead_of=context.auth_tok), *args, **kwargs)

    def active_image(self, image_id: str) -> types.ImageRecord | None:
        """Return the record of an image, None if there is no active image with this id."""
        try:
            record = self.call(self.link.get_image_metadata, fields.path_id(image_id))
        except exception.NotFound:
            return None
        return record if record["status"] == "active" else None

    def _sign_in(self, strategy: strategies.BaseStrategy) -> None:
        try:
            strategy.authenticate()
        except exception.NotAuthorized:
            raise
        except exception.Error as err:
            LOG.error("Authentication as %s failed: %s", self.conf.admin_user, err)
            raise exception.RegistryUnavailable(
                "The registry cannot be queried, because authentication fails at the moment"
            ) from err
        self._token = strategy.auth_token

    def _context(self, instead_of: str | None = None) -> RequestContext:
        """Return the context of an administrator, with a token other than `instead_of`."""
        with self._lock:
            if self._strategy is not None and self._token == instead_of:
                self._sign_in(self._strategy)
            return RequestContext(
                auth_tok=self._token,
                user=self.conf.admin_user,
                tenant=self.conf.admin_tenant_name,
                roles=(self.conf.admin_role,),
                is_admin=True,
                owner_is_tenant=self.conf.owner_is_tenant,
            )

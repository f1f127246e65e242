"""Strategies for signing in: each turns credentials into a token.

`glance.client.base.BaseClient` creates one strategy per client and gets the token from it. A new
way to sign in is a subclass of `BaseStrategy` and an entry in `STRATEGIES`. keystoneauth connects
to Keystone (`glance.identity.keystone`) and is imported at the first sign-in. What the servers do
with a token is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from glance.common import exception
from glance.http.client import connection


class BaseStrategy:
    """One way to get a token.

    After `authenticate()`, `auth_token` is the token and `management_url` the image service's URL,
    if the identity service returned it; `tls` may hold the TLS settings of a cloud's entry, and
    `missing` says what the catalog lacks if it has no URL for the region or interface in `creds`.
    `renews` is whether `authenticate()` can produce a fresh token; no request is repeated without
    one. `timeout` (seconds) bounds each wait.
    """

    renews = False

    def __init__(
        self,
        creds: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        tls: connection.TLS | None = None,
        proxies: Mapping[str, str] | None = None,
    ):
        self.creds: Mapping[str, Any] = {} if creds is None else creds
        self.timeout, self.tls, self.proxies = timeout, tls, proxies
        self.auth_token: str | None = None
        self.management_url: str | None = None
        self.missing: str | None = None

    @property
    def is_authenticated(self) -> bool:
        raise NotImplementedError

    def authenticate(self) -> None:
        raise NotImplementedError


class NoAuthStrategy(BaseStrategy):
    """No sign-in; an existing token is sent as it is."""

    @property
    def is_authenticated(self) -> bool:
        return True

    def authenticate(self) -> None:
        return None


class KeystoneStrategy(BaseStrategy):
    """Sign in to Keystone v3, v2.0, or as of Diablo.

    Creds are username, password, tenant and auth_url as in Diablo, and everything that
    keystoneauth accepts under its own names: user_id, project_id, user_domain_name,
    application_credential_id, token and so on, for the plug-in that auth_type names (default
    password); also region, interface (default public) and identity_api_version. If auth_url names
    no version, Keystone is asked for those it has. `cloud` may be the name of an entry in
    clouds.yaml, which needs openstacksdk; other creds win over the entry.
    """

    renews = True

    @property
    def is_authenticated(self) -> bool:
        return self.auth_token is not None

    def authenticate(self) -> None:
        """Get a token; keep the URL that issued it in `creds["auth_url"]`.

        Raises MissingArgumentError for a missing credential, NotAuthorized when credentials are
        refused, AuthorizationFailure for an unusable response, UnexpectedStatus for other
        statuses, ClientConnectionError without a response. Neither errors nor logs hold a secret.
        """
        from glance.identity import keystone

        grant = keystone.sign_in(
            self.creds, timeout=self.timeout, tls=self.tls, proxies=self.proxies
        )
        self.auth_token, self.management_url, self.tls = grant.token, grant.image_url, grant.tls
        self.missing = grant.missing
        if isinstance(self.creds, MutableMapping) and grant.auth_url:
            self.creds["auth_url"] = grant.auth_url


STRATEGIES: dict[str, type[BaseStrategy]] = {
    "noauth": NoAuthStrategy,
    "keystone": KeystoneStrategy,
}


def get_plugin_from_strategy(strategy: str) -> type[BaseStrategy]:
    """Return the class of a strategy. Raises Error for an unknown name."""
    try:
        return STRATEGIES[strategy]
    except KeyError:
        raise exception.Error(f"Unknown auth strategy '{strategy}'") from None

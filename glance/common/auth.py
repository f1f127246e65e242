"""How a client signs in: the strategies that turn credentials into a token.

`glance.common.client.BaseClient` makes one strategy per client and asks it for a token. A new way
to sign in is a subclass of `BaseStrategy` and a row in `STRATEGIES`. Standard library only; what
the servers do with a token is not here.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, MutableMapping
from typing import Any

from glance.common import exception, httpproxy, httpwire
from glance.common import payload as payload_module

MAX_ROUNDS = 10
MAX_ANSWER = 4 * 1024 * 1024
TIMEOUT = 60.0


class BaseStrategy:
    """One way to get a token.

    After `authenticate()`, `auth_token` is the token and `management_url` the image service's URL,
    if the identity service told it. `renews` tells whether `authenticate()` can produce a fresh
    token; no request is repeated without one.
    """

    renews = False

    def __init__(
        self,
        creds: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        tls: httpwire.TLS | None = None,
        proxies: Mapping[str, str] | None = None,
    ):
        self.creds: Mapping[str, Any] = {} if creds is None else creds
        self.timeout, self.tls, self.proxies = timeout, tls, proxies
        self.auth_token: str | None = None
        self.management_url: str | None = None

    @property
    def is_authenticated(self) -> bool:
        raise NotImplementedError

    def authenticate(self) -> None:
        raise NotImplementedError


class NoAuthStrategy(BaseStrategy):
    """No sign-in; a token that the caller has is sent as it is."""

    @property
    def is_authenticated(self) -> bool:
        return True

    def authenticate(self) -> None:
        return None


class KeystoneStrategy(BaseStrategy):
    """Sign in at Keystone with username, password and perhaps tenant, at `auth_url`.

    Version 2 is spoken when the URL ends in v2.0, else version 1. `timeout` (seconds) bounds each
    wait. Neither exceptions nor logs hold the password.
    """

    renews = True

    @property
    def is_authenticated(self) -> bool:
        return self.auth_token is not None

    def authenticate(self) -> None:
        """Get a token; the URL that gave it is kept in `creds["auth_url"]`.

        Raises MissingArgumentError for a missing credential, NotAuthorized when they are refused,
        AuthorizationFailure when the answer is of no use, UnexpectedStatus for other statuses,
        ClientConnectionError when there is no answer.
        """
        for name in ("username", "password", "auth_url"):
            if not self.creds.get(name):
                raise exception.MissingArgumentError(f"'{name}' must be included in creds")
        url = str(self.creds["auth_url"])
        for _ in range(MAX_ROUNDS):
            base = url if url.endswith("/") else f"{url}/"
            try:
                if base.rstrip("/").endswith("v2.0"):
                    self._version_2(base)
                else:
                    try:
                        self._version_1(base)
                    except exception.AuthorizationFailure:
                        # WIRE: a server without version 1 answers its root with something else.
                        url = urllib.parse.urljoin(base, "v2.0/")
                        continue
            except exception.RedirectException as err:
                url = self._follow(base, err.url)
                continue
            if isinstance(self.creds, MutableMapping):
                self.creds["auth_url"] = url
            return
        raise exception.AuthorizationFailure(f"Exceeded max redirects {MAX_ROUNDS}")

    @staticmethod
    def _follow(base: str, location: str) -> str:
        target = urllib.parse.urljoin(base, location)
        if base.startswith("https:") and not target.startswith("https:"):
            # SECURITY: the password would travel in clear text.
            raise exception.AuthorizationFailure(
                "The identity service redirects from https to http: refused"
            )
        # NOTE: a redirect names the token resource or its parent; tokens is appended again.
        head, _, tail = target.rstrip("/").rpartition("/")
        return f"{head}/" if tail == "tokens" else target

    # -- the two versions ------------------------------------------------------------------------

    def _version_1(self, base: str) -> None:
        headers = {
            "X-Auth-User": str(self.creds["username"]),
            "X-Auth-Key": str(self.creds["password"]),
        }
        if self.creds.get("tenant"):
            headers["X-Auth-Tenant"] = str(self.creds["tenant"])
        status, fields, _ = self._ask("GET", urllib.parse.urljoin(base, "tokens"), headers)
        if status not in (200, 204):
            raise _unexpected(status)
        url, token = fields.get("x-server-management-url"), fields.get("x-auth-token")
        if not url or not token:
            raise exception.AuthorizationFailure("The identity service gave no token")
        self.management_url, self.auth_token = url, token

    def _version_2(self, base: str) -> None:
        url = urllib.parse.urljoin(base, "tokens")
        headers = {"Content-Type": "application/json"}
        creds = {"username": self.creds["username"], "password": self.creds["password"]}
        tenant = self.creds.get("tenant")
        old: dict[str, Any] = {"passwordCredentials": dict(creds)}
        if tenant:
            old["passwordCredentials"]["tenantId"] = tenant
        status, _, answer = self._ask("POST", url, headers, json.dumps(old).encode())
        if status == 400:
            new: dict[str, Any] = {"passwordCredentials": creds}
            if self.creds.get("tenant_id"):
                new["tenantId"] = self.creds["tenant_id"]
            elif tenant:
                new["tenantName"] = tenant
            status, _, answer = self._ask("POST", url, headers, json.dumps({"auth": new}).encode())
        if status not in (200, 203):
            raise _unexpected(status)
        try:
            reply = json.loads(answer)
            reply = reply["access"] if "access" in reply else reply["auth"]
            token = reply["token"]["id"]
            if not isinstance(token, str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as err:
            raise exception.AuthorizationFailure("The identity service gave no token") from err
        self.auth_token = token
        self.management_url = _endpoint(reply.get("serviceCatalog"), self.creds.get("region"))

    # -- talking to the identity service ---------------------------------------------------------

    def _ask(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower-case names) and body; raise for 305 and 401."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise exception.MissingArgumentError("'auth_url' must be an http or https URL")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        timeout = self.timeout or TIMEOUT
        proxy = httpproxy.choose(parts.scheme == "https", parts.hostname, port, self.proxies)
        place = (parts.hostname, port, timeout, timeout)
        target = parts.path or "/"
        target = f"{target}?{parts.query}" if parts.query else target
        host = parts.netloc.rpartition("@")[2]
        connection: httpwire.Connection
        if parts.scheme == "https":
            context = (self.tls or httpwire.TLS()).context()
            connection = httpwire.TLSConnection(*place, context, proxy)
        else:
            connection = httpwire.Connection(*place, proxy)
            if proxy is not None:
                target, headers = f"http://{host}{target}", {**headers, **proxy.fields}
        fields = {"User-Agent": "glance-client", "Connection": "close", **headers}
        payload = None
        if body is not None:
            fields["Content-Length"] = str(len(body))
            payload = payload_module.Payload(body)
        head = httpwire.request_head(
            method,
            target,
            host,
            {name: httpwire.encode(value) for name, value in fields.items()},
        )
        with connection.exchange(method, head, payload) as response:
            answer = response.read(MAX_ANSWER)
            answered = {name.lower(): value for name, value in response.getheaders()}
        if response.status == 305 and answered.get("location"):
            raise exception.RedirectException(answered["location"])
        if response.status == 401:
            error = exception.NotAuthorized("The identity service refused the credentials")
            error.status = 401
            raise error
        return response.status, answered, answer


def _unexpected(status: int) -> exception.Error:
    error = exception.UnexpectedStatus(f"Unexpected response: {status}")
    error.status = status
    return error


def _endpoint(catalog: Any, region: str | None) -> str | None:
    """Return the image service's public URL in either shape of a service catalogue, or None."""
    if isinstance(catalog, Mapping):
        endpoints = catalog.get("glance")
    else:
        endpoints = None
        for service in catalog if isinstance(catalog, list) else ():
            if isinstance(service, Mapping) and service.get("type") == "image":
                endpoints = service.get("endpoints")
                break
    for endpoint in endpoints if isinstance(endpoints, list) else ():
        if not isinstance(endpoint, Mapping) or not endpoint.get("publicURL"):
            continue
        if region is None or endpoint.get("region") == region:
            return str(endpoint["publicURL"])
    return None


STRATEGIES: dict[str, type[BaseStrategy]] = {
    "noauth": NoAuthStrategy,
    "keystone": KeystoneStrategy,
}


def get_plugin_from_strategy(strategy: str) -> type[BaseStrategy]:
    """Return the class of a strategy; raise Error for a name that is not known."""
    try:
        return STRATEGIES[strategy]
    except KeyError:
        raise exception.Error(f"Unknown auth strategy '{strategy}'") from None

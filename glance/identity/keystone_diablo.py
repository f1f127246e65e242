"""Sign in to Keystone as of Diablo: API version 1, and version 2 before its final form.

keystoneauth knows neither. `glance.identity.keystone` calls this when it finds no later API.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from glance.common import exception
from glance.http import latin1

USER_AGENT = "glance-client"
MAX_ROUNDS = 10


def may_know(version: int | None, given: Mapping[str, Any]) -> bool:
    """Return whether these are credentials that an old Keystone could check."""
    wanted = given.get("username") and given.get("password") and not given.get("token")
    return version != 3 and bool(wanted)


def sign_in(http: Any, url: str, given: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Return a token, the image service's URL or None, and the URL that gave them.

    `http` is a keystoneauth session. Version 2 is used when the URL ends in v2.0, otherwise
    version 1, and version 2 if the server lacks that. Raises NotAuthorized, UnexpectedStatus,
    AuthorizationFailure.
    """
    for _ in range(MAX_ROUNDS):
        base = url if url.endswith("/") else f"{url}/"
        try:
            if base.endswith("/v2.0/"):
                return *_version_2(http, base, given), url
            try:
                return *_version_1(http, base, given), url
            except exception.AuthorizationFailure:
                # WIRE: a server without version 1 returns something else for its root.
                url = urllib.parse.urljoin(base, "v2.0/")
        except exception.RedirectException as err:
            # NOTE: a redirect names the token resource or its parent; /tokens is appended again.
            target = urllib.parse.urljoin(base, err.url)
            head, _, tail = target.rstrip("/").rpartition("/")
            url = f"{head}/" if tail == "tokens" else target
    raise exception.AuthorizationFailure(f"Exceeded max redirects {MAX_ROUNDS}")


def _version_1(http: Any, base: str, given: Mapping[str, Any]) -> tuple[str, str]:
    headers = {"X-Auth-User": given["username"], "X-Auth-Key": given["password"]}
    if given.get("project_name"):
        headers["X-Auth-Tenant"] = given["project_name"]
    # WIRE: UTF-8, in the form in which requests accepts it.
    sent = {name: str(value).encode().decode("latin-1") for name, value in headers.items()}
    response = _request(http, "GET", base, headers=sent)
    if response.status_code not in (200, 204):
        raise unexpected(response.status_code)
    url, token = (
        response.headers.get(f"X-{name}") for name in ("Server-Management-Url", "Auth-Token")
    )
    if not url or not token:
        raise exception.AuthorizationFailure("The identity service returned no token")
    return token, latin1.reference(url)


def _version_2(http: Any, base: str, given: Mapping[str, Any]) -> tuple[str, str | None]:
    login = {"username": given["username"], "password": given["password"]}
    if given.get("project_name"):
        login["tenantId"] = given["project_name"]
    response = _request(http, "POST", base, json={"passwordCredentials": login})
    if response.status_code not in (200, 203):
        raise unexpected(response.status_code)
    try:
        reply = response.json()["auth"]
        token = reply["token"]["id"]
        if not isinstance(token, str):
            raise TypeError
    except (ValueError, KeyError, TypeError) as err:
        raise exception.AuthorizationFailure("The identity service returned no token") from err
    try:
        url = str(reply["serviceCatalog"]["glance"][0]["publicURL"])
    except (LookupError, TypeError):
        url = None
    return token, url


def _request(
    http: Any, method: str, base: str, headers: Mapping[str, Any] | None = None, **body: Any
) -> Any:
    """Return the response of the token resource below `base`; raise for 305 and 401."""
    response = http.request(
        urllib.parse.urljoin(base, "tokens"),
        method,
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        authenticated=False,
        allow_reauth=False,
        raise_exc=False,
        redirect=False,
        # SECURITY: headers and body hold the password.
        log=False,
        **body,
    )
    if response.status_code == 305 and response.headers.get("Location"):
        raise exception.RedirectException(latin1.reference(response.headers["Location"]))
    if response.status_code == 401:
        raise refused()
    return response


def refused() -> exception.NotAuthorized:
    error = exception.NotAuthorized("The identity service refused the credentials")
    error.status = 401
    return error


def unexpected(status: int) -> exception.Error:
    error = exception.UnexpectedStatus(f"Unexpected response: {status}")
    error.status = status
    return error

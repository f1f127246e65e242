"""Sign in to Keystone with keystoneauth; only `glance.identity.strategies` calls this module.

Importing this module loads keystoneauth and requests. For versions of Keystone before the final
v2.0 there is `glance.identity.keystone_diablo`, which uses the same session.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3
from keystoneauth1 import exceptions, loading, session

from glance.common import exception
from glance.http.client import connection
from glance.http.client import proxy as http_proxy
from glance.identity import catalog, keystone_diablo

# NOTE: it warns about what is an error here; a user's terminal must not show both.
logging.getLogger("keystoneauth").addHandler(logging.NullHandler())

TIMEOUT = 60.0
#: Names of credentials in Diablo or v2.0, and their names in keystoneauth.
_RENAMED = {"tenant": "project_name", "tenant_name": "project_name", "tenant_id": "project_id"}


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """Result of a sign-in: a token, the image service's URL or None, and Keystone's URL."""

    token: str = dataclasses.field(repr=False)
    image_url: str | None
    auth_url: str | None
    tls: connection.TLS | None
    #: What the catalog lacks of what the credentials name, as the text of an error; None: nothing.
    missing: str | None = None


def sign_in(
    creds: Mapping[str, Any],
    *,
    timeout: float | None = None,
    tls: connection.TLS | None = None,
    proxies: Mapping[str, str] | None = None,
) -> Grant:
    """Sign in and return the result; arguments and errors as in `glance.identity.strategies`."""
    given = {_RENAMED.get(name, name): value for name, value in creds.items() if value}
    if given.get("cloud"):
        given, tls = _of_cloud(given, tls)
    else:
        _check(given)
    url, version = _place(str(given["auth_url"]), given.get("identity_api_version"))
    http = _session(url, timeout, tls or connection.TLS(), proxies)
    with _translated(url):
        if version != 1:
            try:
                return _by_plugin(http, url, version, given, tls)
            except (
                exceptions.DiscoveryFailure,
                exceptions.InvalidResponse,
                exceptions.BadRequest,
                # Keystone did not even list its versions without a token.
                exceptions.MissingAuthPlugin,
            ):
                if not keystone_diablo.may_know(version, given):
                    raise
        token, image_url, auth_url = keystone_diablo.sign_in(http, url, given)
        return Grant(token, image_url, auth_url, tls)


# -- credentials ---------------------------------------------------------------------------------


def _kind(given: Mapping[str, Any]) -> str:
    """Return the plug-in of keystoneauth that fits the credentials."""
    if given.get("auth_type"):
        return str(given["auth_type"])
    if given.get("application_credential_id") or given.get("application_credential_name"):
        return "v3applicationcredential"
    # SECURITY: a token that is given is used, also where a variable holds a password.
    return "token" if given.get("token") else "password"


def _check(given: Mapping[str, Any]) -> None:
    needed = ["auth_url"]
    if _kind(given) == "password":
        needed = ["username", "password", "auth_url"]
    for name in needed:
        if not given.get(name) and not (name == "username" and given.get("user_id")):
            raise exception.MissingArgumentError(f"'{name}' must be included in creds")
    try:
        parts = urllib.parse.urlsplit(str(given["auth_url"]))
        proper = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        proper = False
    if not proper:
        raise exception.MissingArgumentError("'auth_url' must be an http or https URL")


def _place(url: str, api_version: object) -> tuple[str, int | None]:
    """Return a URL and its API version; None if Keystone has to be queried for it."""
    found = catalog.VERSION.search(urllib.parse.urlsplit(url).path)
    if found:
        return url, int(found[1])
    if not api_version:
        return url, None
    major = str(api_version).strip().removeprefix("v").partition(".")[0]
    if major not in ("2", "3"):
        raise exception.MissingArgumentError("'identity_api_version' must be 2 or 3")
    return f"{url.rstrip('/')}/{'v3' if major == '3' else 'v2.0'}", int(major)


def _by_plugin(
    http: session.Session,
    url: str,
    version: int | None,
    given: Mapping[str, Any],
    tls: connection.TLS | None,
) -> Grant:
    kind = _kind(given)
    if kind in ("password", "token") and version in (2, 3):
        kind = f"v{version}{kind}"
    elif kind[:2] in ("v2", "v3") and version is None:
        url = f"{url.rstrip('/')}/{'v3' if kind[:2] == 'v3' else 'v2.0'}"
    values = {**given, **_domains(given, kind), "auth_url": url}
    values |= {"tenant_name": values.get("project_name"), "tenant_id": values.get("project_id")}
    loader: Any = loading.get_plugin_loader(kind)
    names = {option.dest for option in loader.get_options()}
    plugin_options = {name: value for name, value in values.items() if name in names and value}
    try:
        plugin = loader.load_from_options(**plugin_options)
    except TypeError:
        raise exception.MissingArgumentError(f"auth_type {kind} needs more credentials") from None
    access = plugin.get_access(http)
    image_url, missing = given.get("image_endpoint_override"), None
    if not image_url:
        image_url, missing = _endpoint(access, given)
    image_url = catalog.images_url(image_url) if image_url else None
    return Grant(access.auth_token, image_url, url, tls, missing)


def _endpoint(access: Any, given: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the image service's URL in the catalog of a token, and what the catalog lacks.

    Both are None for a catalog without an image service, unless the credentials name a region or
    an interface, which then is what is missing.
    """
    region, interface = given.get("region"), given.get("interface")
    listed = access.service_catalog if access.has_service_catalog() else None
    if listed is not None:
        with contextlib.suppress(exceptions.CatalogException):
            url = listed.url_for(
                service_type="image", interface=interface or "public", region_name=region
            )
            return str(url), None

    def has(**where: Any) -> bool:
        return listed is not None and bool(
            listed.get_urls(service_type="image", interface=None, **where)
        )

    where = f" in region '{region}'" if region else ""
    if not has():
        if not (region or interface):
            return None, None
        what = "image service"
    elif region and not has(region_name=region):
        what = f"image service{where} (--os-region-name, OS_REGION_NAME)"
    else:
        what = (
            f"'{interface or 'public'}' interface of the image service{where} "
            "(--os-interface, OS_INTERFACE)"
        )
    return None, f"The catalog of the identity service has no {what}"


def _domains(given: Mapping[str, Any], plugin: str) -> dict[str, Any]:
    """Return the missing domain settings: without any, the default domain is meant.

    It has the id `default`. Plug-ins for any version add it themselves, but only for version 3.
    """
    if not (given.get("default_domain_id") or given.get("default_domain_name")):
        given = {**given, "default_domain_id": "default"}
    kind = "id" if given.get("default_domain_id") else "name"
    default = given[f"default_domain_{kind}"]
    made = {f"default_domain_{kind}": default}
    for part in ("user", "project") if plugin.startswith("v3") else ():
        if not (given.get(f"{part}_domain_id") or given.get(f"{part}_domain_name")):
            made[f"{part}_domain_{kind}"] = default
    return made


def _of_cloud(
    given: Mapping[str, Any], tls: connection.TLS | None
) -> tuple[dict[str, Any], connection.TLS | None]:
    """Return the credentials of an entry in clouds.yaml, and its TLS settings."""
    try:
        from openstack import config
        from openstack import exceptions as sdk_exceptions
    except ImportError:
        raise exception.Error(
            "Reading clouds.yaml needs openstacksdk: pip install 'glance[clouds]'"
        ) from None
    try:
        region = config.OpenStackConfig().get_one(
            cloud=given["cloud"], validate=False, region_name=given.get("region")
        )
    except sdk_exceptions.ConfigException as err:
        raise exception.MissingArgumentError(" ".join(str(err).split())) from None
    entry = {_RENAMED.get(name, name): value for name, value in region.config["auth"].items()}
    entry |= {
        "auth_type": None if given.get("auth_type") else region.config.get("auth_type"),
        "region": region.get_region_name("image"),
        "interface": region.get_interface("image"),
        "image_endpoint_override": region.get_endpoint("image"),
    }
    found = {**entry, **given}
    _check(found)
    verify, certificate = region.get_requests_verify_args()
    if tls is None or tls == connection.TLS():
        cert_file, key_file = (
            certificate if isinstance(certificate, tuple) else (certificate, None)
        )
        ca_file = verify if isinstance(verify, str) else None
        tls = connection.TLS(key_file, cert_file, ca_file, insecure=verify is False)
    return found, tls


# -- the session ---------------------------------------------------------------------------------


def _session(
    url: str,
    timeout: float | None,
    tls: connection.TLS,
    proxies: Mapping[str, str] | None,
) -> session.Session:
    """Return a session with the TLS, proxy and timeout settings of this client's requests."""
    http = requests.Session()
    # NOTE: it would take passwords from ~/.netrc, and proxies where the program wants none.
    http.trust_env = False
    parts = urllib.parse.urlsplit(url)
    use_ssl = parts.scheme == "https"
    if use_ssl:
        # SECURITY: after a redirect to http the password would travel in clear text.
        del http.adapters["http://"]
    port = parts.port or (443 if use_ssl else 80)
    proxy = http_proxy.find(use_ssl, parts.hostname or "", port, proxies)
    if proxy:
        http.proxies = {"http": proxy, "https": proxy}
    system = ssl.get_default_verify_paths()
    ca_file = tls.ca_file or system.cafile or system.capath or True
    if tls.insecure:
        # The user has chosen this and needs no warning.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return session.Session(
        session=http,
        verify=False if tls.insecure else ca_file,
        cert=(tls.cert_file, tls.key_file) if tls.cert_file and tls.key_file else tls.cert_file,
        timeout=timeout or TIMEOUT,
        user_agent=keystone_diablo.USER_AGENT,
        redirect=keystone_diablo.MAX_ROUNDS - 1,
    )


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn keystoneauth's errors into glance's, which tell the user what to do."""
    parts = urllib.parse.urlsplit(url)
    # SECURITY: the URL itself may hold a password.
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = connection.authority(parts.hostname or "", port)
    try:
        yield
    except exceptions.Unauthorized:
        raise keystone_diablo.refused() from None
    except exceptions.HttpError as err:
        raise keystone_diablo.unexpected(err.http_status) from None
    except exceptions.MissingRequiredOptions as err:
        names = ", ".join(f"'{option.dest}'" for option in err.options)
        raise exception.MissingArgumentError(f"{names} must be included in creds") from None
    except exceptions.NoMatchingPlugin as err:
        raise exception.Error(f"Unknown auth_type '{err.name}'") from None
    except exceptions.InvalidResponse as err:
        if err.response.is_redirect or err.response.status_code == 305:
            raise exception.AuthorizationFailure(
                f"Exceeded max redirects {keystone_diablo.MAX_ROUNDS}"
            ) from None
        raise exception.AuthorizationFailure("The identity service returned no token") from None
    except (exceptions.ConnectionError, requests.RequestException) as err:
        cause = getattr(err, "original", err)
        if isinstance(cause, requests.exceptions.InvalidSchema):
            raise exception.AuthorizationFailure(
                "The identity service redirects from https to http, which is refused"
            ) from None
        raise exception.ClientConnectionError(
            f"Unable to connect to the identity service at {place} ({type(err).__name__}): "
            "check auth_url and the certificates"
        ) from None
    except exceptions.ClientException as err:
        raise exception.AuthorizationFailure(
            f"The identity service cannot be used ({type(err).__name__})"
        ) from None

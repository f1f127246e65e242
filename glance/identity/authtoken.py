"""The token filter of Keystone in a pipeline, for configuration files of any age.

`glance.cli.daemon.paste` replaces the factories in `FACTORIES` by `filter_factory`;
keystonemiddleware, which must be installed, does the work. It gets the settings of its section
only: it would warn about every unknown option in `[DEFAULT]`. Option names that later releases of
the filter dropped are translated.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from glance.common import exception
from glance.http import wsgi

#: Factories that this module replaces: the current one, and that of Diablo's Keystone.
FACTORIES = frozenset(
    {
        "keystonemiddleware.auth_token:filter_factory",
        "keystone.middleware.auth_token:filter_factory",
        "keystoneclient.middleware.auth_token:filter_factory",
    }
)

#: Old name -> current name, where the meaning is the same.
_RENAMED = {
    "admin_user": "username",
    "admin_password": "password",
    "admin_tenant_name": "project_name",
    "identity_uri": "auth_url",
    "auth_uri": "www_authenticate_uri",
    "auth_plugin": "auth_type",
}
#: Setting, never in a file, by which `account_secret` reaches the application.
ACCOUNT_SECRET = "glance.account_secret"
#: SECURITY: a password that people chose must be as hard to guess from what is made of it.
_ROUNDS = 100_000

_DOMAINS = ("user_domain_id", "user_domain_name", "project_domain_id", "project_domain_name")


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[wsgi.WSGIApp], wsgi.WSGIApp]:
    """Paste filter factory of `[filter:authtoken]`; ConfigError without keystonemiddleware."""
    try:
        from keystonemiddleware import auth_token
    except ImportError:
        raise exception.ConfigError(
            "The token filter needs keystonemiddleware: pip install 'glance[keystone]'"
        ) from None
    settings = modern(local_conf)
    factory: Callable[[wsgi.WSGIApp], wsgi.WSGIApp] = auth_token.filter_factory({}, **settings)
    _keep_quiet_about(settings.get("auth_type", ""))
    return factory


def _keep_quiet_about(auth_type: str) -> None:
    """Keep the filter from warning about the options of its authentication plug-in."""
    from keystoneauth1 import exceptions, loading

    try:
        loader: Any = loading.get_plugin_loader(auth_type)
    except exceptions.NoMatchingPlugin:
        return
    known = {option.dest for option in loader.get_options()}

    def is_news(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and known.intersection(record.args))

    logging.getLogger("keystonemiddleware._common.config").addFilter(is_news)


def modern(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings under their current names, which win over old names."""
    new = {name: value for name, value in settings.items() if name not in _RENAMED}
    old = {_RENAMED[name]: value for name, value in settings.items() if name in _RENAMED}
    service, admin = _address(new, "service"), _address(new, "auth")
    token = new.pop("admin_token", None)
    if service:
        old.setdefault("www_authenticate_uri", service)
    if admin:
        old.setdefault("auth_url", admin)
    made = {**old, **new}
    if "auth_type" not in made and made.get("username"):
        made["auth_type"] = "password"
        if not any(name in made for name in _DOMAINS):
            # Old versions of Keystone had one domain, which is known by this id today.
            made |= {"user_domain_id": "default", "project_domain_id": "default"}
    elif "auth_type" not in made and token and made.get("auth_url"):
        root = made.pop("auth_url").rstrip("/")
        endpoint = root if root.endswith("/v3") else f"{root}/v3"
        made |= {"auth_type": "admin_token", "endpoint": endpoint, "token": token}
    return made


def account_secret(settings: Mapping[str, str]) -> str | None:
    """Return a secret that every daemon can make whose token filter has the same account.

    `settings` are those of the filter's section. Returns ASCII text that cannot be traced back to
    the account's password or token, None for a section without either.
    """
    made = modern(settings)
    known = made.get("password") or made.get("token")
    if not known:
        return None
    account = f"{made.get('username', '')}\0{known}".encode()
    return hashlib.pbkdf2_hmac("sha256", account, b"glance-api to registry", _ROUNDS).hex()


def _address(settings: dict[str, str], prefix: str) -> str | None:
    """Remove host, port and protocol from `settings` and return them as a URL."""
    host, port, protocol = (
        settings.pop(f"{prefix}_{part}", "").strip() for part in ("host", "port", "protocol")
    )
    if not host:
        return None
    return f"{protocol or 'https'}://{host}{':' if port else ''}{port}"

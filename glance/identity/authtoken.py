"""The token filter of Keystone in a pipeline, whatever year the file is from.

`glance.cli.daemon.paste` puts `filter_factory` in the place of the factories in `FACTORIES`; the
work is done by keystonemiddleware, which must be installed. Here its settings are those of the
section alone: it would warn of every option in `[DEFAULT]` that it does not know. Names that later
releases of the filter dropped are translated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from glance.common import exception
from glance.http import wsgi

#: Factories that this module stands in for: today's, and that of Diablo's Keystone.
FACTORIES = frozenset(
    {
        "keystonemiddleware.auth_token:filter_factory",
        "keystone.middleware.auth_token:filter_factory",
        "keystoneclient.middleware.auth_token:filter_factory",
    }
)

#: Old name -> today's, where the meaning is the same.
_RENAMED = {
    "admin_user": "username",
    "admin_password": "password",
    "admin_tenant_name": "project_name",
    "identity_uri": "auth_url",
    "auth_uri": "www_authenticate_uri",
    "auth_plugin": "auth_type",
}
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
    """Keep the filter from warning of the options of the plug-in by which it signs in."""
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
    """Return the settings under the names of today; where both are given, today's win."""
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
            # Keystones of old knew one domain, which has this id since there are others.
            made |= {"user_domain_id": "default", "project_domain_id": "default"}
    elif "auth_type" not in made and token and made.get("auth_url"):
        root = made.pop("auth_url").rstrip("/")
        endpoint = root if root.endswith("/v3") else f"{root}/v3"
        made |= {"auth_type": "admin_token", "endpoint": endpoint, "token": token}
    return made


def _address(settings: dict[str, str], prefix: str) -> str | None:
    """Take host, port and protocol out of `settings` and return the URL that they make."""
    host, port, protocol = (
        settings.pop(f"{prefix}_{part}", "").strip() for part in ("host", "port", "protocol")
    )
    if not host:
        return None
    return f"{protocol or 'https'}://{host}{':' if port else ''}{port}"

"""The options with which the `glance` programs find the server and authenticate.

The options are part of `glance.cli.user.commands.OPTIONS`. The variables of Diablo, of Keystone
v2.0 and of v3 are defaults of options; `glance.identity.strategies` uses the credentials.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glance.cli.option import ProgramOption

if TYPE_CHECKING:
    from glance import client as glance_client

HOST, PORT = "0.0.0.0", 9292


def _text(
    dest: str, metavar: str, text: str, *env: str, values: str | None = None
) -> ProgramOption:
    """Return an option with the names of the variables `env`, the first of which wins."""
    names = tuple("--" + name.lower().replace("_", "-") for name in env)
    text = f"{text} Also {', '.join(env)}."
    return ProgramOption(names, dest, text, metavar, "string", None, env, (), values)


SERVER: tuple[ProgramOption, ...] = (
    ProgramOption(
        ("-H", "--host"),
        "host",
        "Address of the Glance API server. Also GLANCE_HOST. Default: %default",
        "ADDRESS",
        "string",
        HOST,
        ("GLANCE_HOST",),
    ),
    ProgramOption(
        ("-p", "--port"),
        "port",
        "Port of the Glance API server. Also GLANCE_PORT. Default: %default",
        "PORT",
        "int",
        PORT,
        ("GLANCE_PORT",),
        least=1,
        most=65535,
    ),
    _text(
        "image_url",
        "URL",
        "URL of the Glance API server; overrides address and port, however they are given.",
        "OS_IMAGE_URL",
        "OS_IMAGE_ENDPOINT_OVERRIDE",
    ),
    ProgramOption(("--use-ssl",), "use_ssl", "Use https, and verify the server's certificate."),
    ProgramOption(
        ("--ca-file", "--os-cacert"),
        "ca_file",
        "File of the CA certificates that the server's certificate is verified against. Also "
        "OS_CACERT.",
        "FILE",
        "string",
        env=("OS_CACERT",),
        values="file",
    ),
    _text("cert_file", "FILE", "Client certificate.", "OS_CERT", values="file"),
    _text("key_file", "FILE", "Private key of the client certificate.", "OS_KEY", values="file"),
    ProgramOption(("--insecure",), "insecure", "Do not verify the server's certificate."),
    ProgramOption(
        ("--timeout",),
        "timeout",
        "Seconds to wait for the server before giving up.",
        "SECONDS",
        "float",
        least=0,
        most=1_000_000_000,
    ),
)

IDENTITY: tuple[ProgramOption, ...] = (
    ProgramOption(
        ("-A", "--auth_token", "--auth-token"),
        "auth_token",
        "Token to send, instead of authenticating. Also OS_AUTH_TOKEN.",
        "TOKEN",
        "string",
        env=("OS_AUTH_TOKEN",),
    ),
    _text(
        "strategy",
        "STRATEGY",
        "Authentication strategy: noauth or keystone. Default: keystone if the options, or "
        "variables newer than Diablo's, name a user and an identity service, otherwise noauth.",
        "OS_AUTH_STRATEGY",
        values="strategy",
    ),
    _text(
        "cloud",
        "NAME",
        "Entry of clouds.yaml with the credentials and the identity service.",
        "OS_CLOUD",
    ),
    _text("auth_url", "URL", "URL of the identity service.", "OS_AUTH_URL"),
    _text("username", "USER", "User to authenticate as.", "OS_AUTH_USER", "OS_USERNAME"),
    _text("user_id", "ID", "Id of the user.", "OS_USER_ID"),
    _text(
        "password",
        "KEY",
        "Password of the user; safer in the variable.",
        "OS_AUTH_KEY",
        "OS_PASSWORD",
    ),
    _text(
        "tenant",
        "TENANT",
        "Tenant, or project, to authenticate for.",
        "OS_AUTH_TENANT",
        "OS_PROJECT_NAME",
        "OS_TENANT_NAME",
    ),
    _text("project_id", "ID", "Id of the project.", "OS_PROJECT_ID", "OS_TENANT_ID"),
    _text("user_domain_name", "NAME", "Domain of the user.", "OS_USER_DOMAIN_NAME"),
    _text("user_domain_id", "ID", "Id of the user's domain.", "OS_USER_DOMAIN_ID"),
    _text("project_domain_name", "NAME", "Domain of the project.", "OS_PROJECT_DOMAIN_NAME"),
    _text("project_domain_id", "ID", "Id of the project's domain.", "OS_PROJECT_DOMAIN_ID"),
    _text(
        "default_domain_id",
        "ID",
        "Id of the domain of user and project if none is named. If this is not given either, it "
        "is default.",
        "OS_DEFAULT_DOMAIN_ID",
        "OS_DEFAULT_DOMAIN",
    ),
    _text("default_domain_name", "NAME", "Name of that domain.", "OS_DEFAULT_DOMAIN_NAME"),
    _text("domain_name", "NAME", "Domain to authenticate for.", "OS_DOMAIN_NAME"),
    _text("domain_id", "ID", "Id of the domain to authenticate for.", "OS_DOMAIN_ID"),
    _text("trust_id", "ID", "Trust to authenticate with.", "OS_TRUST_ID"),
    _text(
        "system_scope",
        "SCOPE",
        "The word all, to authenticate for the whole system.",
        "OS_SYSTEM_SCOPE",
    ),
    _text(
        "token",
        "TOKEN",
        "Token to exchange for a new token. Without a URL of the identity service, the token to "
        "send.",
        "OS_TOKEN",
    ),
    _text(
        "application_credential_id",
        "ID",
        "Id of the application credential to authenticate with.",
        "OS_APPLICATION_CREDENTIAL_ID",
    ),
    _text(
        "application_credential_name",
        "NAME",
        "Name of the application credential.",
        "OS_APPLICATION_CREDENTIAL_NAME",
    ),
    _text(
        "application_credential_secret",
        "SECRET",
        "Secret of the application credential; safer in the variable.",
        "OS_APPLICATION_CREDENTIAL_SECRET",
    ),
    _text("auth_type", "TYPE", "Plug-in of keystoneauth to authenticate with.", "OS_AUTH_TYPE"),
    _text(
        "identity_api_version",
        "VERSION",
        "Version of the identity API, if its URL names none.",
        "OS_IDENTITY_API_VERSION",
    ),
    _text("region", "REGION", "Region of the image service.", "OS_REGION_NAME"),
    _text(
        "interface",
        "KIND",
        "Interface of the image service: public (the default), internal or admin.",
        "OS_INTERFACE",
        "OS_ENDPOINT_TYPE",
    ),
)

#: The options that are credentials or name the identity service.
CREDS = tuple(option.dest for option in IDENTITY if option.dest not in ("auth_token", "strategy"))


def strategy(options: Any, environ: Mapping[str, str]) -> str:
    """Return the name of the authentication strategy for options and variables.

    WIRE: Diablo's variables alone do not authenticate without OS_AUTH_STRATEGY.
    """
    if options.strategy:
        return str(options.strategy)
    if options.cloud:
        return "keystone"
    who = (
        options.token
        or options.application_credential_secret
        or (options.password and (options.user_id or options.username))
    )
    if _is_diablos(options, environ):
        return "noauth"
    return "keystone" if who and options.auth_url else "noauth"


def _is_diablos(options: Any, environ: Mapping[str, str]) -> bool:
    """Return whether Diablo's variables name the user or the password."""
    diablo = {"OS_AUTH_USER": options.username, "OS_AUTH_KEY": options.password}
    return any(value and environ.get(name) == value for name, value in diablo.items())


def lacking(options: Any, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the credentials that are needed, with those given, to sign in.

    A token that is given needs nothing, nor does whoever has not begun to name a user.
    """
    if options.auth_token or options.cloud or options.strategy == "noauth":
        return []
    asked = options.strategy == "keystone"
    if not asked and _is_diablos(options, environ):
        return []
    names = ("user_id", "username", "password", "auth_url")
    given = {name for name in names if getattr(options, name)}
    needed = {"auth_url"}
    if options.token:
        # Without an identity service, it is the one that is sent.
        needed = needed if asked else set()
    elif not options.application_credential_secret and not options.auth_type:
        if not asked and not given - {"auth_url"}:
            return []
        needed |= {"username", "password"}
        if "user_id" in given:
            needed.discard("username")
    elif not asked and not options.application_credential_secret:
        return []
    return [name for name in names if name in needed - given]


def spelled(dest: str, *, options: Any = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the variable of a credential, or the option where that is what has set it."""
    option = next(option for option in IDENTITY if option.dest == dest)
    value = getattr(options, dest, None)
    for name in option.env:
        if value and environ.get(name) == value:
            return name
    return option.names[-1] if value else option.env[-1]


def hint_of(
    options: Any,
    err: BaseException,
    client: glance_client.Client | None,
    environ: Mapping[str, str] = os.environ,
) -> str | None:
    """Return what to check after an error of signing in, or a refusal; None for other errors.

    SECURITY: it names the variables and options that were used, never their values.
    """
    from glance.common import exception

    if isinstance(err, exception.MissingArgumentError):
        lacks = lacking(options, environ)
        if not lacks:
            return None
        names = " and ".join(_variable(name) for name in lacks)
        return f"set {names}; OS_AUTH_STRATEGY=noauth is for a server without authentication"
    if not isinstance(err, exception.NotAuthorized):
        return None
    forbidden = isinstance(err, exception.Forbidden)
    used = _used(options, environ, client, forbidden=forbidden)
    return f"{used}; this user may not do this" if forbidden else used


def _variable(dest: str) -> str:
    """Return the newest variable for a credential, and the one of Diablo."""
    option = next(option for option in IDENTITY if option.dest == dest)
    others = f" (or {option.env[0]})" if len(option.env) > 1 else ""
    return {"password": "OS_PASSWORD", "username": "OS_USERNAME"}.get(dest, option.env[0]) + others


def _used(
    options: Any,
    environ: Mapping[str, str],
    client: glance_client.Client | None,
    *,
    forbidden: bool,
) -> str:
    """Return which credentials a request was made with, by the names of their variables.

    If it was not `forbidden`, they were not accepted.
    """
    check = "" if forbidden else ": check that it is valid, or get another"

    def name(dest: str) -> str:
        return spelled(dest, options=options, environ=environ)

    if options.auth_token:
        return f"the token of {name('auth_token')} was sent{check}"
    chosen = strategy(options, environ)
    if chosen == "noauth":
        if options.token and not options.auth_url:
            return f"the token of {name('token')} was sent{check}"
        if options.username or options.password:
            used = [name(dest) for dest in ("username", "password") if getattr(options, dest)]
            return (
                f"no token was sent: {' and '.join(used)} count only with "
                "OS_AUTH_STRATEGY=keystone and OS_AUTH_URL"
            )
        return (
            "no token was sent: set OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and OS_AUTH_URL to "
            "sign in, or OS_AUTH_TOKEN"
        )
    dests = ["username", "user_id", "password", "token", "application_credential_id"]
    dests += ["application_credential_name", "application_credential_secret", "tenant"]
    dests += ["project_id", "auth_url"]
    if options.cloud:
        dests = ["cloud"]
    given = ", ".join(name(dest) for dest in dests if getattr(options, dest))
    kind = "a token" if options.token else "a password"
    if options.application_credential_secret:
        kind = "an application credential"
    if options.cloud:
        kind = "an entry of clouds.yaml"
    if client is not None and client.auth_tok:
        refused = "" if forbidden else ", but the image service refused the token"
        return f"signed in with {kind} ({given}){refused}"
    return f"the identity service refused {kind}: check {given}"


def _read_host(options: Any) -> None:
    """Take apart what --host names if it is host:port, or a URL of the server.

    Raises BadInputError for text of another form.
    """
    from glance.common import exception, hosts

    text = str(options.host).strip()
    if "/" not in text:
        name, colon, port = text.rpartition(":")
        if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
            options.host, options.port = hosts.bare(name), int(port)
            if not 1 <= options.port <= 65535:
                raise exception.BadInputError(
                    f"--host names the port {port}, which is not a number from 1 to 65535"
                )
        return
    import urllib.parse

    try:
        parts = urllib.parse.urlsplit(text)
        host, number = parts.hostname, parts.port
    except ValueError:
        host = number = parts = None
    if parts is None or parts.scheme not in ("http", "https") or not host:
        # SECURITY: the text may hold a password, so it is not repeated.
        options.host = "?"
        raise exception.BadInputError(
            "--host takes a name or an address, such as glance.example.com, or a URL such as "
            "http://glance.example.com:9292"
        )
    options.host, options.port = host, number or options.port
    if not options.image_url:
        # SECURITY: who wants TLS gets no other connection.
        scheme = "https" if options.use_ssl else parts.scheme
        shown = f"[{host}]" if ":" in host else host
        options.image_url = f"{scheme}://{shown}:{options.port}{parts.path}"


def make_client(
    options: Any, environ: Mapping[str, str] = os.environ, default_host: str = HOST
) -> glance_client.Client:
    """Return the client that parsed options describe. May raise exception.Error.

    An address that is given wins over the address in the catalog of the identity service. With a
    token that is given, the client never authenticates, not even after a 401.
    """
    from glance import client as glance_client
    from glance.common import exception
    from glance.identity import catalog

    if options.host:
        _read_host(options)
    creds = {name: getattr(options, name) for name in CREDS}
    if options.cloud:
        # The entry wins over variables, which may be meant for other programs.
        left = {option.dest: option.default_in(environ) for option in IDENTITY}
        creds = {n: value for n, value in creds.items() if n == "cloud" or value != left[n]}
    lacks = lacking(options, environ)
    if lacks:
        raise exception.MissingArgumentError(f"'{lacks[0]}' must be included in creds")
    # SECURITY: a token that is given is the only one used; it may allow less than the password.
    creds["strategy"] = "noauth" if options.auth_token else strategy(options, environ)
    token = options.auth_token
    if creds["strategy"] == "noauth" and not options.auth_url:
        token = token or options.token
    client = glance_client.Client(
        options.host,
        options.port,
        options.use_ssl,
        token,
        creds,
        timeout=options.timeout,
        key_file=options.key_file,
        cert_file=options.cert_file,
        ca_file=options.ca_file,
        insecure=options.insecure,
        configure_via_auth=not options.image_url
        and (options.host, options.port) == (default_host, PORT),
    )
    if options.image_url:
        client.configure_from_url(catalog.images_url(options.image_url))
    return client

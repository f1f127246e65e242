"""Which server the `glance` programs speak to, and how they sign in there.

The options are part of `glance.cli.user.commands.OPTIONS`. Each of Diablo's variables, of those of
Keystone v2.0 and of v3 stands in for an option; what the credentials mean is the business of
`glance.identity.strategies`.
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
    """Return an option that is named as the variables `env` are, the first one being the chief."""
    names = tuple("--" + name.lower().replace("_", "-") for name in env)
    text = f"{text} Also {', '.join(env)}."
    return ProgramOption(names, dest, text, metavar, "string", None, env, (), values)


SERVER: tuple[ProgramOption, ...] = (
    ProgramOption(
        ("-H", "--host"),
        "host",
        "Address of the Glance API server. Default: %default",
        "ADDRESS",
        "string",
        HOST,
    ),
    ProgramOption(
        ("-p", "--port"),
        "port",
        "Port of the Glance API server. Default: %default",
        "PORT",
        "int",
        PORT,
    ),
    _text(
        "image_url",
        "URL",
        "URL of the Glance API server, in the place of address and port.",
        "OS_IMAGE_URL",
        "OS_IMAGE_ENDPOINT_OVERRIDE",
    ),
    ProgramOption(
        ("--use-ssl",), "use_ssl", "Speak https with the server and verify its certificate."
    ),
    ProgramOption(
        ("--ca-file", "--os-cacert"),
        "ca_file",
        "File of the authorities that certificates are verified against. Also OS_CACERT.",
        "FILE",
        "string",
        env=("OS_CACERT",),
        values="file",
    ),
    _text("cert_file", "FILE", "Certificate of this client.", "OS_CERT", values="file"),
    _text("key_file", "FILE", "Private key of that certificate.", "OS_KEY", values="file"),
    ProgramOption(("--insecure",), "insecure", "Accept any certificate of the server."),
    ProgramOption(
        ("--timeout",),
        "timeout",
        "Seconds to wait for the server before giving up.",
        "SECONDS",
        "float",
    ),
)

IDENTITY: tuple[ProgramOption, ...] = (
    ProgramOption(
        ("-A", "--auth_token", "--auth-token"),
        "auth_token",
        "Token to send; no sign-in is attempted then. Also OS_AUTH_TOKEN.",
        "TOKEN",
        "string",
        env=("OS_AUTH_TOKEN",),
    ),
    _text(
        "strategy",
        "STRATEGY",
        "How to sign in: noauth or keystone. Default: keystone where options or later variables "
        "than Diablo's say who and where, else noauth.",
        "OS_AUTH_STRATEGY",
        values="strategy",
    ),
    _text("cloud", "NAME", "Entry of clouds.yaml that says who and where.", "OS_CLOUD"),
    _text("auth_url", "URL", "URL of the identity service.", "OS_AUTH_URL"),
    _text("username", "USER", "User to sign in as.", "OS_AUTH_USER", "OS_USERNAME"),
    _text("user_id", "ID", "The same by its id.", "OS_USER_ID"),
    _text(
        "password",
        "KEY",
        "Password to sign in with; better kept in the variable.",
        "OS_AUTH_KEY",
        "OS_PASSWORD",
    ),
    _text(
        "tenant",
        "TENANT",
        "Tenant, or project, to sign in for.",
        "OS_AUTH_TENANT",
        "OS_PROJECT_NAME",
        "OS_TENANT_NAME",
    ),
    _text("project_id", "ID", "The same by its id.", "OS_PROJECT_ID", "OS_TENANT_ID"),
    _text("user_domain_name", "NAME", "Domain of the user.", "OS_USER_DOMAIN_NAME"),
    _text("user_domain_id", "ID", "The same by its id.", "OS_USER_DOMAIN_ID"),
    _text("project_domain_name", "NAME", "Domain of the project.", "OS_PROJECT_DOMAIN_NAME"),
    _text("project_domain_id", "ID", "The same by its id.", "OS_PROJECT_DOMAIN_ID"),
    _text(
        "default_domain_id",
        "ID",
        "Domain of both where none is named; else that with the id default.",
        "OS_DEFAULT_DOMAIN_ID",
        "OS_DEFAULT_DOMAIN",
    ),
    _text("default_domain_name", "NAME", "The same by its name.", "OS_DEFAULT_DOMAIN_NAME"),
    _text("domain_name", "NAME", "Domain to sign in for.", "OS_DOMAIN_NAME"),
    _text("domain_id", "ID", "The same by its id.", "OS_DOMAIN_ID"),
    _text("trust_id", "ID", "Trust to sign in for.", "OS_TRUST_ID"),
    _text("system_scope", "SCOPE", "The word all: to sign in for the system.", "OS_SYSTEM_SCOPE"),
    _text(
        "token",
        "TOKEN",
        "Token to get another one for; without a URL of the identity service, to send.",
        "OS_TOKEN",
    ),
    _text(
        "application_credential_id",
        "ID",
        "Application credential to sign in with.",
        "OS_APPLICATION_CREDENTIAL_ID",
    ),
    _text(
        "application_credential_name",
        "NAME",
        "The same by its name.",
        "OS_APPLICATION_CREDENTIAL_NAME",
    ),
    _text(
        "application_credential_secret",
        "SECRET",
        "Secret of it; better kept in the variable.",
        "OS_APPLICATION_CREDENTIAL_SECRET",
    ),
    _text("auth_type", "TYPE", "Plug-in of keystoneauth to sign in by.", "OS_AUTH_TYPE"),
    _text(
        "identity_api_version",
        "VERSION",
        "Version of the identity service, if its URL names none.",
        "OS_IDENTITY_API_VERSION",
    ),
    _text("region", "REGION", "Region of the image service.", "OS_REGION_NAME"),
    _text(
        "interface",
        "KIND",
        "Kind of its URL to use: public (the default), internal, admin.",
        "OS_INTERFACE",
        "OS_ENDPOINT_TYPE",
    ),
)

#: What of the options says who is signing in where.
CREDS = tuple(option.dest for option in IDENTITY if option.dest not in ("auth_token", "strategy"))


def strategy(options: Any, environ: Mapping[str, str]) -> str:
    """Return the name of the strategy that options and variables mean.

    WIRE: variables of Diablo alone sign nobody in without OS_AUTH_STRATEGY.
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
    diablo = {"OS_AUTH_USER": options.username, "OS_AUTH_KEY": options.password}
    if any(value and environ.get(name) == value for name, value in diablo.items()):
        return "noauth"
    return "keystone" if who and options.auth_url else "noauth"


def make_client(
    options: Any, environ: Mapping[str, str] = os.environ, default_host: str = HOST
) -> glance_client.Client:
    """Return the client that parsed options describe. May raise exception.Error.

    An address that is given wins over that which the identity service tells.
    """
    from glance import client as glance_client
    from glance.identity import catalog

    creds = {name: getattr(options, name) for name in CREDS}
    if options.cloud:
        # What an entry says wins over variables, which are there for other programs, perhaps.
        left = {option.dest: option.default_in(environ) for option in IDENTITY}
        creds = {n: value for n, value in creds.items() if n == "cloud" or value != left[n]}
    creds["strategy"] = strategy(options, environ)
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

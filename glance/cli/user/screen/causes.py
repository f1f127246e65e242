"""What is behind an error, in a line on standard error: the cause, and what to do next.

Scripts read the documented messages on standard output; these lines are for people, and come
after them.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

from glance import client as glance_client
from glance.http.client import response

_PREFIX = "Unable to connect to server. Got error: "
#: Of OpenSSL's codes (X509_V_ERR_*): the name differs, the address differs.
_OTHER_NAME = (62, 64)
_EXPIRED = (9, 10)


def told_of(err: BaseException) -> str:
    """Return the text of an error of a connection without the words that all of them share."""
    return str(err).removeprefix(_PREFIX)


def hint_of(client: glance_client.Client | None, err: BaseException) -> str | None:
    """Return what to do about an error of the client's connection, None if that is not known.

    To find it out, another connection may be opened.
    """
    # A sign-in has an address of its own, and says what it can.
    if client is None or not isinstance(err, response.ConnectionBroken):
        return None
    causes = list(_chain(err))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _of_certificate(client, cause)
    if any("speaks http, not https" in str(cause) for cause in causes):
        return "leave out --use-ssl, or begin the URL with http:"
    if "speaks https, not http" in str(err):
        return _HTTPS
    if err.place is not None and "the proxy" in err.place:
        return (
            "the variables http_proxy, https_proxy and all_proxy name the proxy; no_proxy lists "
            "hosts that need none"
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "the name of the host cannot be resolved: check --host"
    if any("handshake operation timed out" in str(cause) for cause in causes):
        return "the server does not begin TLS: if it speaks http, leave out --use-ssl"
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return (
            "the server does not respond: check --host and --port, or wait longer with --timeout"
        )
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return "nothing listens there: check --host and --port"
    if numbers & {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return "no way leads there from this host: check --host and the network"
    if isinstance(err, response.BadResponse):
        return "check --port: a server of another kind seems to use this one"
    if not err.answered and not isinstance(err, response.NotConnected):
        return _of_silence(client)
    return None


_HTTPS = "add --use-ssl, or begin the URL with https:"
#: Begins the hint about a server that has understood nothing of a request.
SPEAKS_HTTPS = "the server speaks https, not http"


def _of_silence(client: glance_client.Client) -> str | None:
    """Return a hint for a connection that was closed without a response."""
    if not client.use_ssl and client.certificate_names() is not None:
        return f"{SPEAKS_HTTPS}: {_HTTPS}"
    return None


def _of_certificate(
    client: glance_client.Client, cause: ssl.SSLCertVerificationError
) -> str | None:
    if cause.verify_code in _OTHER_NAME:
        names = client.certificate_names()
        shown = f"for {', '.join(names)}" if names else "for another name"
        return f"the certificate of the server is {shown}, not for {client.host}: check --host"
    if cause.verify_code in _EXPIRED:
        return (
            "the server needs a certificate that is valid now; check the clock of this host, too"
        )
    return (
        "this host does not trust who has issued the certificate of the server: name a file with "
        "the CA certificates by --ca-file (OS_CACERT)"
    )


def _chain(err: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    link: BaseException | None = err
    while link is not None:
        yield link
        link = link.__cause__

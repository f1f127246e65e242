"""The listening socket and its TLS context, created before the workers."""

from __future__ import annotations

import os
import ssl
from typing import Any

from eventlet import patcher

from glance.common import config, exception

# NOTE: the native modules, whether or not the process is patched: the parent has no event loop,
# and the workers' connections wait in the hub by themselves.
native_socket = patcher.original("socket")
native_ssl = patcher.import_patched("ssl", ("socket", native_socket))


def bind(conf: config.Conf) -> Any:
    """Return a listening, non-blocking socket on `bind_host`:`bind_port`. Raises ConfigError."""
    host, port = conf.bind_host, conf.bind_port
    if port is None:
        raise exception.ConfigError("option bind_port is not set")
    where = f"{host} port {port}"
    try:
        found = native_socket.getaddrinfo(
            host or None, port, type=native_socket.SOCK_STREAM, flags=native_socket.AI_PASSIVE
        )
        family, kind, proto, _, address = found[0]
        sock = native_socket.socket(family, kind, proto)
    except (OSError, UnicodeError, OverflowError) as err:
        raise exception.ConfigError(f"Cannot listen on {where}: {_reason(err)}") from err
    try:
        sock.setsockopt(native_socket.SOL_SOCKET, native_socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both.
        sock.setsockopt(native_socket.SOL_SOCKET, native_socket.SO_KEEPALIVE, 1)
        sock.setsockopt(native_socket.IPPROTO_TCP, native_socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(conf.backlog)
        sock.setblocking(False)
    except (OSError, OverflowError) as err:
        sock.close()
        raise exception.ConfigError(f"Cannot listen on {where}: {_reason(err)}") from err
    return sock


def _reason(err: Exception) -> str:
    return getattr(err, "strerror", None) or str(err)


def _no_passphrase() -> str:
    # NOTE: otherwise OpenSSL would prompt on the terminal, and a daemon would wait for ever.
    raise ValueError("the key has a passphrase; remove it with: openssl pkey")


def tls_context(conf: config.Conf) -> ssl.SSLContext | None:
    """Return the context for `cert_file` and `key_file`, None without them. Raises ConfigError."""
    if not conf.cert_file and not conf.key_file:
        return None
    if not conf.cert_file or not conf.key_file:
        raise exception.ConfigError("Set both cert_file and key_file, or neither")
    for name in ("cert_file", "key_file"):
        if not os.access(conf[name], os.R_OK):
            raise exception.ConfigError(f"The file of option {name} cannot be read: {conf[name]}")
    context: ssl.SSLContext = native_ssl.SSLContext(native_ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(conf.cert_file, conf.key_file, _no_passphrase)
    except (OSError, ValueError) as err:
        raise exception.ConfigError(f"cert_file and key_file cannot be used: {err}") from err
    return context


def describe(sock: Any, *, tls: bool) -> str:
    """Return the URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"

"""Options of the HTTP server, the same for glance-api and glance-registry."""

from __future__ import annotations

import os

from glance.common import config

MAX_WORKERS = 8


config.options(
    "server",
    config.Option(
        "bind_host",
        default="0.0.0.0",
        help="Address to listen on. Without authentication every caller is an administrator: "
        "choose 127.0.0.1 for a registry that only the API of the same host asks.",
    ),
    config.Option(
        "bind_port",
        config.port,
        help="Port to listen on. Unset: 9292 for glance-api and 9191 for glance-registry.",
    ),
    config.Option(
        "backlog",
        config.integer,
        4096,
        unit="connections",
        minimum=1,
        help="How many connections may wait to be accepted.",
    ),
    config.Option(
        "workers",
        config.integer,
        minimum=0,
        unit="processes",
        help=f"Worker processes. Unset: one per core, at most {MAX_WORKERS}; 0 serves from a "
        "single process without forking.",
    ),
    config.Option(
        "cert_file",
        config.path,
        help="Certificate (chain) in PEM form; with key_file it makes the server speak TLS.",
    ),
    config.Option(
        "key_file",
        config.path,
        help="Private key of cert_file in PEM form.",
    ),
    config.Option(
        "user",
        help="User that a daemon started by root becomes when its port is open. It works in the "
        "root directory then, so that files need absolute names.",
    ),
    config.Option("group", help="Group that such a daemon gets; unset: the one of the user."),
    config.Option(
        "access_log",
        config.boolean,
        True,
        help="Log a line for each request (logger eventlet.wsgi.server, level INFO, so only with "
        "verbose or debug): client, request, status, bytes, seconds, request id.",
    ),
    config.Option(
        "client_socket_timeout",
        config.real,
        900.0,
        unit="seconds",
        minimum=0,
        help="How long a client may leave a running request without sending or taking a byte; "
        "0 waits for ever.",
    ),
    config.Option(
        "keepalive_timeout",
        config.real,
        75.0,
        unit="seconds",
        minimum=0,
        help="How long an idle connection is kept for the next request; 0 closes after each.",
    ),
    config.Option(
        "max_header_line",
        config.integer,
        16384,
        unit="bytes",
        minimum=1024,
        help="Longest request line or header line that is taken (else 414 or 431).",
    ),
    config.Option(
        "stop_timeout",
        config.real,
        15.0,
        unit="seconds",
        minimum=0,
        help="How long running requests may go on after SIGTERM before they are cut.",
    ),
    config.Option(
        "graceful_timeout",
        config.real,
        3600.0,
        unit="seconds",
        minimum=0,
        help="How long running requests may go on after SIGHUP before they are cut.",
    ),
)


def worker_count(conf: config.Conf) -> int:
    """Return the number of worker processes; 0 means that this process serves."""
    if conf.workers is not None:
        return int(conf.workers)
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)

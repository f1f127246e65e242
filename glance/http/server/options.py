"""Options of the HTTP server, the same for glance-api and glance-registry."""

from __future__ import annotations

import os

from glance.common import config

MAX_WORKERS = 8


config.options(
    "server",
    config.Option(
        "bind_host",
        config.host,
        default="0.0.0.0",
        help="Address to listen on. Without authentication, every caller is an administrator: "
        "use 127.0.0.1 for a registry that serves only the API on the same host.",
    ),
    config.Option(
        "bind_port",
        config.port,
        help="Port to listen on. Unset: 9292 for glance-api, 9191 for glance-registry.",
    ),
    config.Option(
        "backlog",
        config.integer,
        4096,
        unit="connections",
        minimum=1,
        help="Maximum number of connections that wait to be accepted.",
    ),
    config.Option(
        "max_connections",
        config.integer,
        1000,
        unit="connections",
        minimum=1,
        help="Maximum number of connections of one worker process. When it has as many, the one "
        "that has waited longest for a request is closed for a new one, or one whose client has "
        "stalled for five seconds in a request; of clients with many connections first.",
    ),
    config.Option(
        "max_connections_per_address",
        config.integer,
        0,
        unit="connections",
        minimum=0,
        help="Maximum number of connections of one client address (of IPv6, of one /64 network) "
        "to one worker process; 0 means no limit. Behind a proxy or NAT, many clients have one "
        "address, so set it only where clients connect directly. It does not apply to clients on "
        "this host. For a registry, leave it at 0, or the API may be refused.",
    ),
    config.Option(
        "max_unfinished_heads",
        config.integer,
        250,
        unit="connections",
        minimum=0,
        help="Maximum number of connections of one worker process that have sent no request yet "
        "or only a part of its headers; 0 means no limit. When there are more, those that have "
        "taken more than two seconds are closed, the slowest first.",
    ),
    config.Option(
        "workers",
        config.integer,
        minimum=0,
        unit="processes",
        help=f"Number of worker processes. Unset: one per core, at most {MAX_WORKERS}. 0 serves "
        "all requests from a single process, without forking.",
    ),
    config.Option(
        "cert_file",
        config.path,
        help="Certificate, or certificate chain, in PEM format. Together with key_file it "
        "enables TLS.",
    ),
    config.Option(
        "key_file",
        config.path,
        help="Private key of cert_file, in PEM format.",
    ),
    config.Option(
        "user",
        help="User that a daemon started by root switches to after it has opened its port. Its "
        "working directory is then /, so use absolute paths in the configuration. glance-scrubber "
        "and the programs of the image cache switch, too.",
    ),
    config.Option(
        "group", help="Group that such a daemon switches to. Unset: the group of the user."
    ),
    config.Option(
        "access_log",
        config.boolean,
        True,
        help="Log one line per request: client, request, status, bytes, seconds, request id. "
        "The logger is eventlet.wsgi.server at level INFO, so verbose or debug is needed.",
    ),
    config.Option(
        "client_socket_timeout",
        config.real,
        900.0,
        unit="seconds",
        minimum=0,
        help="Close a connection if, during a request, the client neither sends nor receives a "
        "byte for this long; 0 means no timeout.",
    ),
    config.Option(
        "keepalive_timeout",
        config.real,
        75.0,
        unit="seconds",
        minimum=0,
        help="How long an idle connection stays open for the next request; 0 closes it after "
        "each request.",
    ),
    config.Option(
        "max_header_line",
        config.integer,
        16384,
        unit="bytes",
        minimum=1024,
        help="Maximum length of a request line or header line. Longer ones are rejected with "
        "414 or 431.",
    ),
    config.Option(
        "drain_delay",
        config.real,
        0.0,
        unit="seconds",
        minimum=0,
        help="How long a daemon still accepts connections after SIGTERM or SIGHUP, while "
        "/healthcheck/ready returns 503. Behind a load balancer, choose a little more than the "
        "balancer needs to notice. stop_timeout and graceful_timeout begin after it.",
    ),
    config.Option(
        "stop_timeout",
        config.real,
        15.0,
        unit="seconds",
        minimum=0,
        help="How long running requests may continue after SIGTERM before they are aborted.",
    ),
    config.Option(
        "graceful_timeout",
        config.real,
        3600.0,
        unit="seconds",
        minimum=0,
        help="How long running requests may continue after SIGHUP before they are aborted.",
    ),
)


def worker_count(conf: config.Conf) -> int:
    """Return the number of worker processes; 0 means that this process serves."""
    if conf.workers is not None:
        return int(conf.workers)
    return min(len(os.sched_getaffinity(0)), MAX_WORKERS)

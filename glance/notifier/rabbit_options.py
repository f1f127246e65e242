"""Options of the strategy rabbit: the broker, TLS, names on the broker, and timeouts."""

from __future__ import annotations

from glance.common import config, hosts

_PORT = 5672


def addresses(text: str) -> tuple[tuple[str, int], ...]:
    """Convert a list of brokers, `host:port` or `host`. Raises ValueError for anything else."""
    found = []
    for word in config.words(text):
        if "@" in word or "/" in word:
            raise ValueError("use host:port; user and password are options of their own")
        host, port = hosts.split(word, _PORT)
        if not host:
            raise ValueError("use host:port, separated by commas")
        found.append((host, config.port(port)))
    return tuple(found)


OPTIONS = config.options(
    "rabbit",
    config.Option("rabbit_host", config.host, "localhost", help="Host of the RabbitMQ broker."),
    config.Option(
        "rabbit_port", config.port, _PORT, minimum=1, help="Port of the RabbitMQ broker."
    ),
    config.Option(
        "rabbit_hosts",
        addresses,
        help="Brokers of a cluster, as host:port; they are tried in turn. Overrides rabbit_host "
        "and rabbit_port.",
    ),
    config.Option("rabbit_userid", default="guest", help="User name for the broker."),
    config.Option("rabbit_password", secret=True, help="Password of rabbit_userid. Unset: guest."),
    config.Option("rabbit_virtual_host", default="/", help="Virtual host of the exchange."),
    config.Option(
        "rabbit_use_ssl", config.boolean, False, help="Use TLS for the connection to the broker."
    ),
    config.Option(
        "rabbit_ssl_ca",
        config.path,
        help="CA certificates that the broker's certificate is verified against, in PEM format. "
        "Unset: those of the system.",
    ),
    config.Option(
        "rabbit_ssl_cert", config.path, help="Client certificate for the broker, in PEM format."
    ),
    config.Option("rabbit_ssl_key", config.path, help="Private key of rabbit_ssl_cert."),
    config.Option(
        "rabbit_ssl_verify",
        config.boolean,
        True,
        help="Refuse a broker whose certificate is not valid for its host name.",
    ),
    config.Option(
        "rabbit_notification_topic",
        default="glance_notifications",
        help="First part of the names of queues and routing keys.",
    ),
    config.Option(
        "rabbit_notification_exchange",
        default="glance",
        help="Name of the durable topic exchange that all messages are published to.",
    ),
    config.Option(
        "rabbit_notification_queue_names",
        default="upper",
        choices=("upper", "lower", "none"),
        help="Which queues are declared and bound: upper means <topic>.INFO, .WARN and .ERROR "
        "as in the 2011.3 release, lower means <topic>.info and so on as in 2012.1, and "
        "none lets consumers bind their own. A queue without a consumer grows without "
        "limit.",
    ),
    config.Option(
        "rabbit_heartbeat",
        config.integer,
        60,
        unit="seconds",
        minimum=0,
        help="Close the connection if the broker is silent for this long; 0 means never.",
    ),
    config.Option(
        "rabbit_connect_timeout",
        config.real,
        5.0,
        unit="seconds",
        minimum=0.1,
        help="How long to wait for a connection to the broker.",
    ),
    config.Option(
        "rabbit_confirm_timeout",
        config.real,
        10.0,
        unit="seconds",
        minimum=0.1,
        help="How long to wait for the broker to confirm messages. After that, they are sent "
        "again over a new connection.",
    ),
    config.Option(
        "rabbit_max_retries",
        config.integer,
        0,
        unit="tries",
        minimum=0,
        help="After this many consecutive failures, waiting messages are spooled, written to "
        "notification_fallback_file or logged, as when the process stops; 0 means no "
        "limit. Requests never wait for retries.",
    ),
    config.Option(
        "rabbit_retry_backoff",
        config.real,
        1.0,
        unit="seconds",
        minimum=0.01,
        help="Pause after the first failure. It doubles with each further failure.",
    ),
    config.Option(
        "rabbit_retry_max_backoff",
        config.real,
        30.0,
        unit="seconds",
        minimum=0.01,
        help="Maximum pause between two retries.",
    ),
)

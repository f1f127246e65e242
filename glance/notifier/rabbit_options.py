"""Options of the strategy rabbit: the broker, TLS, names on the broker, and timeouts."""

from __future__ import annotations

from glance.common import config

_PORT = 5672


def addresses(text: str) -> tuple[tuple[str, int], ...]:
    """Convert a list of brokers, `host:port` or `host`. Raises ValueError for anything else."""
    found = []
    for word in config.words(text):
        host, port = _split(word)
        if not host:
            raise ValueError("use host:port, separated by commas")
        found.append((host, port))
    return tuple(found)


def _split(word: str) -> tuple[str, int]:
    if word.startswith("[") and "]" in word:
        host, _, rest = word[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if rest and colon != ":":
            raise ValueError("use [address]:port")
    else:
        host, _, port = word.partition(":")
    return host, config.port(port) if port else _PORT


OPTIONS = config.options(
    "rabbit",
    config.Option("rabbit_host", default="localhost", help="Host of the RabbitMQ broker."),
    config.Option(
        "rabbit_port", config.port, _PORT, minimum=1, help="Port of the RabbitMQ broker."
    ),
    config.Option(
        "rabbit_hosts",
        addresses,
        help="Brokers of a cluster, as host:port, which are tried in turn; instead of rabbit_host "
        "and rabbit_port.",
    ),
    config.Option("rabbit_userid", default="guest", help="User name at the broker."),
    config.Option("rabbit_password", secret=True, help="Password of that user; unset: guest."),
    config.Option(
        "rabbit_virtual_host", default="/", help="Virtual host that the exchange belongs to."
    ),
    config.Option(
        "rabbit_use_ssl", config.boolean, False, help="Whether to speak TLS with the broker."
    ),
    config.Option(
        "rabbit_ssl_ca",
        config.path,
        help="Authorities that may vouch for the broker, in PEM form; unset: those of the system.",
    ),
    config.Option(
        "rabbit_ssl_cert", config.path, help="Certificate to show to the broker, in PEM form."
    ),
    config.Option("rabbit_ssl_key", config.path, help="Private key of rabbit_ssl_cert."),
    config.Option(
        "rabbit_ssl_verify",
        config.boolean,
        True,
        help="Whether to refuse a broker whose certificate is not valid for its name.",
    ),
    config.Option(
        "rabbit_notification_topic",
        default="glance_notifications",
        help="First part of the names of queues and of routing keys.",
    ),
    config.Option(
        "rabbit_notification_exchange",
        default="glance",
        help="Name of the durable topic exchange that all messages go to.",
    ),
    config.Option(
        "rabbit_notification_queue_names",
        default="upper",
        choices=("upper", "lower", "none"),
        help="Queues that are declared and bound: <topic>.INFO, .WARN and .ERROR as in the 2011.3 "
        "release, <topic>.info and so on as in 2012.1, or none, so that consumers bind their own. "
        "A queue that nobody reads grows without end.",
    ),
    config.Option(
        "rabbit_heartbeat",
        config.integer,
        60,
        unit="seconds",
        minimum=0,
        help="A broker that is silent for this long is given up; 0 never does that.",
    ),
    config.Option(
        "rabbit_connect_timeout",
        config.real,
        5.0,
        unit="seconds",
        minimum=0.1,
        help="How long to try to connect.",
    ),
    config.Option(
        "rabbit_confirm_timeout",
        config.real,
        10.0,
        unit="seconds",
        minimum=0.1,
        help="How long the broker may take to confirm messages before they are sent anew over "
        "another connection.",
    ),
    config.Option(
        "rabbit_max_retries",
        config.integer,
        0,
        unit="tries",
        minimum=0,
        help="After how many failures in a row the messages that wait are put away as at a stop; "
        "0 keeps them for as long as it takes. Requests never wait for it.",
    ),
    config.Option(
        "rabbit_retry_backoff",
        config.real,
        1.0,
        unit="seconds",
        minimum=0.01,
        help="Pause after the first failure; it doubles with each further one.",
    ),
    config.Option(
        "rabbit_retry_max_backoff",
        config.real,
        30.0,
        unit="seconds",
        minimum=0.01,
        help="The longest of these pauses.",
    ),
)

"""The options of the Swift store."""

from __future__ import annotations

from glance.common import config

OPTIONS = config.options(
    "Swift store",
    config.Option(
        "swift_store_auth_address",
        help="URL of the service that Swift's users log in at; https:// is meant where it has no "
        "scheme. Required for uploads.",
    ),
    config.Option(
        "swift_store_user",
        help="User that images are stored as, with its account or project in front: "
        "account:user. Required for uploads.",
    ),
    config.Option(
        "swift_store_key",
        secret=True,
        help="Key (password) of swift_store_user. Required for uploads.",
    ),
    config.Option(
        "swift_store_auth_version",
        choices=("1", "2", "3"),
        default="1",
        help="Version of the protocol for logging in: 1 is Swift's own, 2 and 3 are Keystone's.",
    ),
    config.Option(
        "swift_store_user_domain_id",
        default="default",
        help="Domain of the user; counts with version 3.",
    ),
    config.Option(
        "swift_store_project_domain_id",
        default="default",
        help="Domain of the project; counts with version 3.",
    ),
    config.Option(
        "swift_store_region",
        help="Region whose Swift is used, where the catalog of Keystone has several.",
    ),
    config.Option(
        "swift_store_service_type",
        default="object-store",
        help="Type of the service in Keystone's catalog.",
    ),
    config.Option(
        "swift_store_endpoint_type",
        default="public",
        help="Interface of the service in Keystone's catalog: public, internal or admin.",
    ),
    config.Option(
        "swift_store_container",
        default="glance",
        help="Container that holds the images.",
    ),
    config.Option(
        "swift_store_create_container_on_put",
        config.boolean,
        default=False,
        help="Whether an upload makes the container if it is missing.",
    ),
    config.Option(
        "swift_store_large_object_size",
        config.integer,
        default=5120,
        minimum=1,
        unit="MiB",
        help="Size from which an image is stored in segments. It is lowered to what the cluster "
        "allows for one object.",
    ),
    config.Option(
        "swift_store_large_object_chunk_size",
        config.integer,
        default=200,
        minimum=1,
        unit="MiB",
        help="Size of a segment; each upload needs that much room in swift_store_spool_dir.",
    ),
    config.Option(
        "swift_store_large_object_mode",
        choices=("auto", "slo", "dlo"),
        default="auto",
        help="Kind of manifest of segmented images: static (slo), dynamic (dlo), or static where "
        "the cluster can and the segments are not too many (auto).",
    ),
    config.Option(
        "swift_store_spool_dir",
        config.path,
        help="Directory for the segment of each upload that is being sent, and for what has to be "
        "cleaned up after a crash; empty means the system's temporary directory. One that "
        "outlives a restart of the host is better.",
    ),
    config.Option(
        "swift_store_retries",
        config.integer,
        default=5,
        minimum=0,
        help="How often a request to Swift is sent again after a passing failure; the pauses "
        "between grow from 1 to 64 seconds.",
    ),
    config.Option(
        "swift_store_timeout",
        config.real,
        default=60.0,
        minimum=0.1,
        unit="seconds",
        help="How long to wait for a connection to Swift, and for its answers.",
    ),
    config.Option(
        "swift_store_cacert",
        config.path,
        help="File of the certificates that the server's is checked against; empty means the "
        "system's.",
    ),
    config.Option(
        "swift_store_insecure",
        config.boolean,
        default=False,
        help="Whether the server's certificate is not checked at all.",
    ),
    config.Option(
        "swift_enable_snet",
        config.boolean,
        default=False,
        help="Whether to use the provider's internal network, where the storage host has the "
        "prefix snet-.",
    ),
)

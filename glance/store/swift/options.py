"""The options of the Swift store."""

from __future__ import annotations

from glance.common import config

OPTIONS = config.options(
    "Swift store",
    config.Option(
        "swift_store_auth_address",
        help="URL of the authentication service for Swift; https:// is assumed if it has no "
        "scheme. Required for uploads.",
    ),
    config.Option(
        "swift_store_user",
        help="User that stores the images, with its account or project in front: account:user. "
        "Required for uploads.",
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
        help="Version of the authentication protocol: 1 is Swift's own, 2 and 3 are Keystone's.",
    ),
    config.Option(
        "swift_store_user_domain_id",
        default="default",
        help="Id of the domain of the user. Used only with version 3.",
    ),
    config.Option(
        "swift_store_project_domain_id",
        default="default",
        help="Id of the domain of the project. Used only with version 3.",
    ),
    config.Option(
        "swift_store_region",
        help="Region whose Swift is used if Keystone's catalog has several.",
    ),
    config.Option(
        "swift_store_service_type",
        default="object-store",
        help="Type of the Swift service in Keystone's catalog.",
    ),
    config.Option(
        "swift_store_endpoint_type",
        default="public",
        help="Interface of the Swift service in Keystone's catalog: public, internal or admin.",
    ),
    config.Option(
        "swift_store_container",
        default="glance",
        help="Container for the images.",
    ),
    config.Option(
        "swift_store_create_container_on_put",
        config.boolean,
        default=False,
        help="Create the container if an upload finds it missing.",
    ),
    config.Option(
        "swift_store_large_object_size",
        config.integer,
        default=5120,
        minimum=1,
        unit="MiB",
        help="Size from which an image is stored in segments. It is reduced to the maximum "
        "object size of the cluster.",
    ),
    config.Option(
        "swift_store_large_object_chunk_size",
        config.integer,
        default=200,
        minimum=1,
        unit="MiB",
        help="Size of a segment. Each upload needs this much space in swift_store_spool_dir.",
    ),
    config.Option(
        "swift_store_large_object_mode",
        choices=("auto", "slo", "dlo"),
        default="auto",
        help="Type of the manifest of a segmented image: slo (static), dlo (dynamic), or auto "
        "(static if the cluster supports it and there are not too many segments).",
    ),
    config.Option(
        "swift_store_spool_dir",
        config.path,
        help="Directory for the current segment of each upload, and for the records with which "
        "uploads are cleaned up after a crash. Empty: the system's temporary directory. A "
        "directory that survives a reboot is better.",
    ),
    config.Option(
        "swift_store_retries",
        config.integer,
        default=5,
        minimum=0,
        help="How often a request to Swift is retried after a temporary failure. The pauses "
        "between retries increase from 1 to 64 seconds. Without a server at the address, the "
        "first request fails at once.",
    ),
    config.Option(
        "swift_store_timeout",
        config.real,
        default=60.0,
        minimum=0.1,
        unit="seconds",
        help="How long to wait for a connection to Swift, and for its responses.",
    ),
    config.Option(
        "swift_store_cacert",
        config.path,
        help="CA certificates that the server is verified against, in PEM format. Empty: those "
        "of the system.",
    ),
    config.Option(
        "swift_store_insecure",
        config.boolean,
        default=False,
        help="Do not verify the server's certificate. For tests only.",
    ),
    config.Option(
        "swift_enable_snet",
        config.boolean,
        default=False,
        help="Use the provider's internal network, in which the name of the storage host has "
        "the prefix snet-.",
    ),
)

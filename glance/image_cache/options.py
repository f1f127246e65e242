"""The options of the image cache, for the API and the cache programs."""

from __future__ import annotations

from glance.common import config

CHECKS = ("size", "checksum", "read")


def fraction(value: str) -> float:
    """Convert a fraction: at least 0, less than 1."""
    number = config.real(value)
    if not 0 <= number < 1:
        raise ValueError("use a number from 0 up to, not including, 1")
    return number


def checks(value: str) -> tuple[str, ...]:
    """Convert a list of ways to verify an entry."""
    found = config.words(value)
    unknown = [word for word in found if word not in CHECKS]
    if unknown:
        raise ValueError(f"use some of {', '.join(CHECKS)}")
    return found


config.options(
    "image cache",
    config.Option(
        "image_cache_enabled",
        config.boolean,
        False,
        help="Keep copies of downloaded images on this host's disk. The pipeline must also "
        "contain the cache filter.",
    ),
    config.Option(
        "image_cache_dir",
        config.path,
        "/var/lib/glance/image-cache/",
        aliases=("image_cache_datadir",),
        help="Directory of the cache. Use the same value for glance-api and the cache programs.",
    ),
    config.Option(
        "image_cache_driver",
        default="sqlite",
        help="How the cache stores its index: sqlite (a database in the cache directory), xattr "
        "(extended attributes of the cached files), the name of an entry point in the "
        "group glance.image_cache.drivers, or the dotted path of a class.",
    ),
    config.Option(
        "image_cache_sqlite_db",
        config.path,
        "cache.db",
        help="File of the sqlite driver's index: an absolute path, or a path relative to the "
        "cache directory.",
    ),
    config.Option(
        "image_cache_max_size",
        config.integer,
        10 * 1024**3,
        unit="bytes",
        minimum=0,
        aliases=("image_cache_max_size_bytes",),
        help="Maximum size of the cache, including images that are still being written.",
    ),
    config.Option(
        "image_cache_percent_extra_to_free",
        fraction,
        0.05,
        help="How much to free beyond the space needed when images must be removed: a fraction "
        "of image_cache_max_size, from 0 to 1 in spite of its name.",
    ),
    config.Option(
        "image_cache_max_entry_size",
        config.integer,
        0,
        unit="bytes",
        minimum=0,
        help="Images larger than this are not cached; 0 means no limit other than "
        "image_cache_max_size.",
    ),
    config.Option(
        "image_cache_min_free_disk",
        config.integer,
        1024**3,
        unit="bytes",
        minimum=0,
        help="Free space that the cache leaves on its file system.",
    ),
    config.Option(
        "image_cache_stall_time",
        config.integer,
        86400,
        unit="seconds",
        minimum=0,
        aliases=("image_cache_stall_timeout",),
        help="Age after which an image that is still being written, but makes no progress, is "
        "abandoned. What a dead process leaves behind is removed at once.",
    ),
    config.Option(
        "image_cache_invalid_entry_grace_period",
        config.integer,
        3600,
        unit="seconds",
        minimum=0,
        help="How long invalid files are kept for inspection.",
    ),
    config.Option(
        "image_cache_verify",
        checks,
        ("size", "checksum"),
        help="What is verified. size and checksum are checked before a copy becomes a cache "
        "entry; with read, each process also reads an entry again after every tenth "
        "download from the cache.",
    ),
    config.Option(
        "image_cache_hit_flush_interval",
        config.real,
        5.0,
        unit="seconds",
        minimum=0.1,
        help="How often downloads from the cache are recorded in its index.",
    ),
    config.Option(
        "image_cache_maintenance_interval",
        config.integer,
        0,
        unit="seconds",
        minimum=0,
        help="How often glance-api prunes and cleans the cache itself; 0 leaves this to the "
        "cache programs.",
    ),
    config.Option(
        "image_cache_prefetch_workers",
        config.integer,
        4,
        unit="images",
        minimum=1,
        help="How many queued images glance-cache-prefetcher fetches at the same time.",
    ),
    config.Option(
        "image_cache_finish_workers",
        config.integer,
        2,
        unit="images",
        minimum=0,
        help="How many images each process continues to fetch after the last client has "
        "disconnected. Only images that are at least half complete are continued.",
    ),
    config.Option(
        "image_cache_debug_header",
        config.boolean,
        False,
        help="Tell clients in the response header Cache-Status whether an image came from the "
        "cache.",
    ),
)

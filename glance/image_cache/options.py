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
        help="Keep copies of downloaded images on this host's disk; needs the cache filter in the "
        "pipeline, too.",
    ),
    config.Option(
        "image_cache_dir",
        config.path,
        "/var/lib/glance/image-cache/",
        aliases=("image_cache_datadir",),
        help="Directory of the cache, the same for the API and the cache programs.",
    ),
    config.Option(
        "image_cache_driver",
        default="sqlite",
        help="How the cache keeps its index: sqlite (a database in the cache directory), xattr "
        "(extended attributes of the files), an entry point of the group "
        "glance.image_cache.drivers, or the dotted path of a class.",
    ),
    config.Option(
        "image_cache_sqlite_db",
        config.path,
        "cache.db",
        help="File of the sqlite driver's index, absolute or relative to the cache directory.",
    ),
    config.Option(
        "image_cache_max_size",
        config.integer,
        10 * 1024**3,
        unit="bytes",
        minimum=0,
        aliases=("image_cache_max_size_bytes",),
        help="Size that the cache never exceeds, images that are being written included.",
    ),
    config.Option(
        "image_cache_percent_extra_to_free",
        fraction,
        0.05,
        help="Part of image_cache_max_size that is freed beyond what is needed when images have "
        "to go; a fraction from 0 to 1, in spite of its name.",
    ),
    config.Option(
        "image_cache_max_entry_size",
        config.integer,
        0,
        unit="bytes",
        minimum=0,
        help="Larger images are not cached; 0 means no limit but image_cache_max_size.",
    ),
    config.Option(
        "image_cache_min_free_disk",
        config.integer,
        1024**3,
        unit="bytes",
        minimum=0,
        help="Room on the cache's file system that the cache leaves to others.",
    ),
    config.Option(
        "image_cache_stall_time",
        config.integer,
        86400,
        unit="seconds",
        minimum=0,
        aliases=("image_cache_stall_timeout",),
        help="Age after which an image that is being written without getting on is given up. What "
        "a dead process left goes at once.",
    ),
    config.Option(
        "image_cache_invalid_entry_grace_period",
        config.integer,
        3600,
        unit="seconds",
        minimum=0,
        help="How long files that turned out to be wrong are kept for inspection.",
    ),
    config.Option(
        "image_cache_verify",
        checks,
        ("size", "checksum"),
        help="What is checked: size and checksum before an image becomes an entry; with read, "
        "each process reads an entry again after every tenth download from the cache.",
    ),
    config.Option(
        "image_cache_hit_flush_interval",
        config.real,
        5.0,
        unit="seconds",
        minimum=0.1,
        help="How often downloads from the cache are written to its index.",
    ),
    config.Option(
        "image_cache_maintenance_interval",
        config.integer,
        0,
        unit="seconds",
        minimum=0,
        help="How often the API prunes and cleans the cache by itself; 0 leaves it to the cache "
        "programs.",
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
        help="How many images, of which at least half had come when the last client went away, "
        "each process fetches to the end.",
    ),
    config.Option(
        "image_cache_debug_header",
        config.boolean,
        False,
        help="Tell clients in the header Cache-Status where an image came from.",
    ),
)

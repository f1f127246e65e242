"""The disk and container formats of a deployment: the options, which both daemons read."""

from __future__ import annotations

from glance.common import config
from glance.image import fields

config.options(
    "formats",
    config.Option(
        "disk_formats",
        config.words,
        fields.DISK_FORMATS,
        help="Disk formats that are allowed for images. Use the same value for glance-api and "
        "glance-registry.",
    ),
    config.Option(
        "container_formats",
        config.words,
        fields.CONTAINER_FORMATS,
        help="Container formats that are allowed for images. Use the same value for glance-api "
        "and glance-registry.",
    ),
)


def from_conf(conf: config.Conf) -> fields.Formats:
    """Return the formats that the settings allow."""
    return fields.Formats(conf.disk_formats, conf.container_formats)

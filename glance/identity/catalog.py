"""URLs of services in catalogues: which API version they name, and where images are."""

from __future__ import annotations

import re

#: Matches the version at the end of a service's URL.
VERSION = re.compile(r"/v([0-9]+)(?:\.[0-9]+)?/?\Z")


def images_url(url: str) -> str:
    """Return the URL of Images API v1 for a URL of the service that may name any version."""
    return f"{VERSION.sub('', url).rstrip('/')}/v1"

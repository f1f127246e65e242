"""Old place of the header helpers, kept importable; new code uses `glance.image.fields`."""

from glance.image.fields import client_headers, client_meta, image_headers

__all__ = ["client_headers", "client_meta", "image_headers"]

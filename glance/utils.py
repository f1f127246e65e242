"""The old name of the header helpers in `glance.image.fields`, for programs that import it."""

from glance.image.headers import client_headers, client_meta, image_headers

__all__ = ["client_headers", "client_meta", "image_headers"]

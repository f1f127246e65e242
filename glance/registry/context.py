"""The request context under the name that registry configurations have in `context_class`.

It is the one context of the whole service. In Diablo only the registry's class could decide who
sees an image, and every call failed if the file did not name it.
"""

from glance.identity.context import RequestContext

__all__ = ["RequestContext"]

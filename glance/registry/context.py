"""The request context under the name that registry configurations give as `context_class`.

It is the one context of the whole service. In Diablo the registry's class alone could judge who
sees an image, and a file that forgot to name it broke every call.
"""

from glance.identity.context import RequestContext

__all__ = ["RequestContext"]

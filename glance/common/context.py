"""The old name of `glance.identity.context`, for paste files and programs that import it."""

from glance.identity.context import (
    ContextMiddleware,
    IdentityGuard,
    RequestContext,
    filter_factory,
)

__all__ = ["ContextMiddleware", "IdentityGuard", "RequestContext", "filter_factory"]

"""The old name of `glance.identity.auth`, for programs that import it."""

from glance.identity.auth import (
    STRATEGIES,
    BaseStrategy,
    KeystoneStrategy,
    NoAuthStrategy,
    get_plugin_from_strategy,
)

__all__ = [
    "STRATEGIES",
    "BaseStrategy",
    "KeystoneStrategy",
    "NoAuthStrategy",
    "get_plugin_from_strategy",
]

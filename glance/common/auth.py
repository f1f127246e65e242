"""The old name of `glance.identity.strategies`, for programs that import it."""

from glance.identity.strategies import (
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

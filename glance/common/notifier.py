"""The old name of `glance.notifier`, for classes that `notifier_strategy` names."""

from glance.notifier import LoggingStrategy, NoopStrategy, Notifier, RabbitStrategy

__all__ = ["LoggingStrategy", "NoopStrategy", "Notifier", "RabbitStrategy"]

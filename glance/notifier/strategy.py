"""The contract of a notification strategy: a way to deliver messages.

A strategy knows its transport and nothing of queues: `glance.notifier.publisher` keeps the
messages while it fails, and calls it from one place only. Every strategy has to pass
`glance.testing.notifier_suite`; packages register theirs in the group `glance.notifiers`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from glance.common import config
from glance.notifier import message

Confirm = Callable[[message.Message], None]


class Strategy:
    """Base of all strategies. Created in the sending process, after any fork."""

    #: The options that the strategy declares with `config.options`.
    OPTIONS: ClassVar[tuple[config.Option, ...]] = ()
    #: Whether `send` is fast and cannot fail for reasons outside this process. The request calls
    #: it then, and nothing is queued.
    IMMEDIATE: ClassVar[bool] = False
    #: Whether messages go anywhere at all.
    ENABLED: ClassVar[bool] = True

    #: Seconds before the first retry after a failure; doubled by each further failure.
    retry_backoff: float = 1.0
    #: The longest of these pauses.
    retry_max_backoff: float = 30.0
    #: After how many failures in a row the queued messages are stored; 0 means never.
    max_retries: int = 0
    #: How often `idle` is called while there is nothing to send, in seconds.
    idle_interval: float = 30.0

    def __init__(self, conf: config.Conf):
        """Read the settings; connect to nothing. Raises ConfigError."""

    def open(self) -> None:
        """Connect, if the strategy needs a connection. Called before the first `send`, and again
        after a failure. Any exception means that connecting failed.
        """

    def send(self, messages: Sequence[message.Message], confirm: Confirm) -> None:
        """Deliver messages in their order; call `confirm` with each that is safe elsewhere.

        Raises when the connection cannot be used any more: all unconfirmed messages are sent again
        after the next `open`. A message that is not confirmed when this returns was refused by the
        receiver; it is sent again a few times.
        """
        raise NotImplementedError

    def idle(self) -> None:
        """Keep the connection alive; raises like `send`."""

    def close(self) -> None:
        """Disconnect. May be called at any time, also after a failure; never raises."""

    def severity(self, error: BaseException) -> int:
        """Return the level at which a failure is logged."""
        return logging.WARNING

    def explain(self, error: BaseException) -> str:
        """Return a description of a failure for the operator, without any secret."""
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

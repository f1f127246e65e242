"""The contract of a notification strategy: a way to get messages to somebody.

A strategy knows its transport and nothing of queues: `glance.notifier.publisher` holds the
messages back while it fails, and calls it from one place only. `glance.testing.notifier_suite`
holds what every strategy has to pass; packages add theirs to the group `glance.notifiers`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from glance.common import config
from glance.notifier import message

Confirm = Callable[[message.Message], None]


class Strategy:
    """Base of all strategies. Made in the process that sends, after any fork."""

    #: What the strategy declares with `config.options`.
    OPTIONS: ClassVar[tuple[config.Option, ...]] = ()
    #: Whether `send` is quick and cannot fail for reasons outside of this process. It is called
    #: by the request then, and nothing is queued.
    IMMEDIATE: ClassVar[bool] = False
    #: Whether messages go anywhere at all.
    ENABLED: ClassVar[bool] = True

    #: Seconds before the first new try after a failure; doubled by each further failure.
    retry_backoff: float = 1.0
    #: The longest of these pauses.
    retry_max_backoff: float = 30.0
    #: After how many failures in a row what is queued is put away; 0 is never.
    max_retries: int = 0
    #: How often `idle` is called while there is nothing to send, in seconds.
    idle_interval: float = 30.0

    def __init__(self, conf: config.Conf):
        """Read the settings; connect to nothing. Raises ConfigError."""

    def open(self) -> None:
        """Connect, if there is something to connect to. Called before the first `send`, and again
        after a failure; raises whatever shows that it did not work.
        """

    def send(self, messages: Sequence[message.Message], confirm: Confirm) -> None:
        """Deliver messages in their order; call `confirm` with each that is safe elsewhere.

        Raises when the connection is of no use any more: all that was not confirmed is sent again
        after the next `open`. A message that is neither confirmed when this returns was refused by
        the other side; it is tried again a few times.
        """
        raise NotImplementedError

    def idle(self) -> None:
        """Keep the connection alive; raises like `send`."""

    def close(self) -> None:
        """Disconnect. Called after a failure, too, and at any time; never raises."""

    def severity(self, error: BaseException) -> int:
        """Return the level at which a failure is logged."""
        return logging.WARNING

    def explain(self, error: BaseException) -> str:
        """Return what an operator should read about a failure; never a secret."""
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""Strategies that need nothing outside this process: noop, logging, memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from glance.common import config
from glance.notifier import message, strategy

#: WIRE: the logger's name in logging configurations written for Diablo.
LOG = logging.getLogger("glance.notifier.logging_notifier")

_LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


class NoopStrategy(strategy.Strategy):
    """Sends nothing."""

    IMMEDIATE = True
    ENABLED = False

    def send(self, messages: Sequence[message.Message], confirm: strategy.Confirm) -> None:
        for one in messages:
            confirm(one)


class LoggingStrategy(strategy.Strategy):
    """Writes each message as one line of JSON to the log, at the level of its priority."""

    IMMEDIATE = True

    def __init__(self, conf: config.Conf):
        # NOTE: an operator who chooses this strategy wants all events, with or without `verbose`.
        LOG.setLevel(logging.INFO)

    def send(self, messages: Sequence[message.Message], confirm: strategy.Confirm) -> None:
        for one in messages:
            LOG.log(_LEVELS[one.priority], "%s", one.data.decode("ascii"))
            confirm(one)


class MemoryStrategy(strategy.Strategy):
    """Keeps messages for tests: `messages` holds the newest envelopes as a consumer sees them."""

    IMMEDIATE = True
    #: How many are kept.
    ROOM: ClassVar[int] = 10_000

    def __init__(self, conf: config.Conf):
        self.messages: list[dict[str, Any]] = []

    def send(self, messages: Sequence[message.Message], confirm: strategy.Confirm) -> None:
        for one in messages:
            self.messages.append(json.loads(one.data))
            confirm(one)
        del self.messages[: -self.ROOM]

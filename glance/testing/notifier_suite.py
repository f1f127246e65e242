"""The tests that every notification strategy must pass, as classes to inherit from.

The test module of a strategy is a fixture and a few lines::

    class TestMyStrategy(NotifierSuite):
        @pytest.fixture
        def strategy(self, tmp_path):
            return mystrategy.Strategy(Conf({"mystrategy_dir": str(tmp_path)}))

        def received(self, strategy):
            return [json.loads(line) for line in ...]

`RemoteNotifierSuite` is for a strategy with a remote receiver; its test module also defines how
the receiver becomes unreachable and reachable again (`interrupt`, `restore`).
"""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import json
from typing import Any

import pytest

from glance.common import config, exception
from glance.notifier import message
from glance.notifier import strategy as notifier_strategy

#: Payloads that must arrive unchanged.
PAYLOADS = [
    {"id": 1, "name": "ubuntu", "properties": {"os": "linux"}},
    {"name": "\U0001f600 é \u2028 \n \0", "deleted": False, "size": 2**60, "checksum": None},
    "17",
    [],
    {},
]


class NotifierSuite:
    """The tests; see the module."""

    @pytest.fixture
    def strategy(self) -> notifier_strategy.Strategy:
        """Return the strategy under test, which has not sent anything yet."""
        raise NotImplementedError

    def received(self, strategy: notifier_strategy.Strategy) -> list[dict[str, Any]]:
        """Return the envelopes that have arrived, in the order of their arrival.

        Each test calls this once.
        """
        raise NotImplementedError

    @pytest.fixture
    def ready(self, strategy):
        """The opened strategy; it is closed after the test."""
        strategy.open()
        yield strategy
        strategy.close()

    @staticmethod
    def make(
        count: int = 1, *, priority: str = "INFO", payload: Any = None
    ) -> list[message.Message]:
        """Return `count` messages."""
        composer = message.Composer(config.Conf())
        return [
            composer.compose("image.update", priority, {"n": n} if payload is None else payload)
            for n in range(count)
        ]

    # -- declared --------------------------------------------------------------------------------

    def test_its_options_are_in_the_table_and_described(self, strategy):
        for option in strategy.OPTIONS:
            assert config.TABLE[option.name] is option
            assert option.help.rstrip().endswith(".")

    def test_an_empty_batch_is_no_problem(self, ready):
        ready.send([], lambda one: pytest.fail("there is nothing to confirm"))
        assert self.received(ready) == []

    # -- delivering ------------------------------------------------------------------------------

    @pytest.mark.parametrize("priority", message.PRIORITIES)
    @pytest.mark.parametrize("payload", PAYLOADS, ids=str)
    def test_a_message_arrives_as_it_was_made(self, ready, payload, priority):
        (one,) = self.make(payload=payload, priority=priority)
        ready.send([one], lambda _: None)
        (got,) = self.received(ready)
        assert got == json.loads(one.data)
        assert (got["payload"], got["priority"]) == (payload, priority)

    def test_a_batch_arrives_in_order_and_each_message_is_confirmed_once(self, ready):
        sent = self.make(100)
        confirmed: list[message.Message] = []
        ready.send(sent, confirmed.append)
        assert confirmed == sent
        assert [one["message_id"] for one in self.received(ready)] == [one.id for one in sent]

    def test_idling_sends_nothing(self, ready):
        ready.idle()
        ready.send(self.make(1), lambda one: None)
        ready.idle()
        assert len(self.received(ready)) == 1

    def test_a_large_message_arrives(self, ready):
        (one,) = self.make(payload={"properties": {"x": "y" * 60_000}})
        ready.send([one], lambda _: None)
        assert self.received(ready)[0]["payload"]["properties"]["x"] == "y" * 60_000

    # -- opening and closing ---------------------------------------------------------------------

    def test_it_may_be_closed_at_any_time_and_opened_again(self, strategy):
        strategy.close()
        strategy.close()
        strategy.open()
        strategy.close()
        strategy.close()
        strategy.open()
        confirmed: list[message.Message] = []
        strategy.send(self.make(2), confirmed.append)
        strategy.close()
        assert len(confirmed) == 2


class RemoteNotifierSuite(NotifierSuite):
    """The tests for a strategy whose receiver may be unreachable."""

    #: A text in every secret that the test module configures; no text may show it.
    canary: str | None = None

    def interrupt(self, strategy: notifier_strategy.Strategy) -> None:
        """Make the receiver unreachable."""
        raise NotImplementedError

    def restore(self, strategy: notifier_strategy.Strategy) -> None:
        """Make the receiver reachable again."""
        raise NotImplementedError

    def test_it_cannot_be_opened_while_the_other_side_is_away(self, strategy):
        self.interrupt(strategy)
        with pytest.raises(Exception) as caught:
            strategy.open()
        self.judge(strategy, caught.value)
        strategy.close()
        self.restore(strategy)
        strategy.open()
        strategy.send(self.make(1), lambda one: None)
        strategy.close()
        assert len(self.received(strategy)) == 1

    def test_an_interruption_is_an_error_and_what_was_not_confirmed_can_be_sent_again(self, ready):
        sent, confirmed = self.make(20), set()
        ready.send(sent[:10], lambda one: confirmed.add(one.id))
        self.interrupt(ready)
        with pytest.raises(Exception) as caught:
            for _ in range(3):
                # The loss of the first bytes may remain unnoticed.
                ready.send(sent[10:], lambda one: confirmed.add(one.id))
        self.judge(ready, caught.value)
        ready.close()
        self.restore(ready)
        ready.open()
        ready.send(
            [one for one in sent if one.id not in confirmed], lambda one: confirmed.add(one.id)
        )
        assert confirmed == {one.id for one in sent}
        assert {one["message_id"] for one in self.received(ready)} == confirmed

    def judge(self, strategy: notifier_strategy.Strategy, error: BaseException) -> None:
        """Check the description of an error for the operator."""
        explanation = strategy.explain(error)
        assert explanation and "\n" not in explanation
        assert self.canary is None or self.canary not in explanation
        assert not isinstance(error, exception.ConfigError)

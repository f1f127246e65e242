"""The bounded queue of messages in memory.

Not thread-safe by itself: `glance.notifier.backlog` holds a lock around each call. The oldest
messages come out first. A message that is being sent keeps its place in the buffer until it is
confirmed.
"""

from __future__ import annotations

import collections
import itertools

from glance.notifier import message


class Buffer:
    """At most `size` messages.

    With `keep_urgent` a new message that finds no room displaces the oldest INFO, whatever its own
    priority; WARN and ERROR go only when no INFO is left. Otherwise the new message is refused.
    """

    def __init__(self, size: int, *, keep_urgent: bool):
        self.size = size
        self._keep_urgent = keep_urgent
        self._numbers = itertools.count(1)
        # NOTE: ordered by number, oldest first; a plain dict is slow to empty from the front.
        self._all: collections.OrderedDict[int, message.Message] = collections.OrderedDict()
        # The messages that may be displaced: first choice, and the rest.
        self._info: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._urgent: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._taken: list[message.Message] = []

    def __len__(self) -> int:
        return len(self._all)

    @property
    def full(self) -> bool:
        return len(self._all) >= self.size

    def append(self, new: message.Message) -> message.Message | None:
        """Add a message; return the one displaced by it (perhaps itself), if any."""
        displaced = None
        if self.full:
            displaced = self._displaced_by(new)
            if displaced is new:
                return new
            self.remove(displaced)
        new.number = next(self._numbers)
        self._all[new.number] = new
        self._line_of(new)[new.number] = None
        return displaced

    def _displaced_by(self, new: message.Message) -> message.Message:
        if not self._keep_urgent:
            return new
        if self._info:
            return self._all[next(iter(self._info))]
        if new.priority == "INFO" or not self._urgent:
            return new
        return self._all[next(iter(self._urgent))]

    def take(self, count: int) -> list[message.Message]:
        """Return the `count` oldest messages, which are not displaced until `give_back`."""
        self._taken = list(itertools.islice(self._all.values(), count))
        for one in self._taken:
            self._line_of(one).pop(one.number, None)
        return list(self._taken)

    def give_back(self) -> None:
        """Make the taken messages that are still here the oldest ordinary messages again."""
        for one in reversed(self._taken):
            if one.number in self._all:
                line = self._line_of(one)
                line[one.number] = None
                line.move_to_end(one.number, last=False)
        self._taken = []

    def remove(self, one: message.Message) -> None:
        """Remove a message if it is here."""
        if self._all.pop(one.number, None) is not None:
            self._line_of(one).pop(one.number, None)

    def all(self) -> list[message.Message]:
        """Return all messages, oldest first."""
        return list(self._all.values())

    def _line_of(self, one: message.Message) -> collections.OrderedDict[int, None]:
        return self._info if one.priority == "INFO" else self._urgent

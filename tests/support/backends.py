"""A store with one image, as the traffic of the image cache sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from glance.streaming import body


class Backend:
    """Opens its `data` at an offset, in pieces; `fault` is called before each with its position.

    `opened` has the offsets, and `unclosed` says how many bodies are not closed.
    """

    def __init__(
        self, data: bytes, piece: int, fault: Callable[[int], object] = lambda position: None
    ):
        self.data, self.piece, self.fault = data, piece, fault
        self.opened: list[int] = []
        self.unclosed = 0

    def __call__(self, position: int) -> body.Body:
        self.opened.append(position)
        self.unclosed += 1
        return body.IterBody(self._pieces(position), close=self._closed)

    def _pieces(self, position: int) -> Iterator[bytes]:
        while position < len(self.data):
            self.fault(position)
            yield self.data[position : position + self.piece]
            position += self.piece

    def _closed(self) -> None:
        self.unclosed -= 1

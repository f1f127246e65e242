"""JSON documents about the service that never change while it runs, such as schemas.

They are made for the first request that wants one, so that the start of a daemon does not wait for
them, and kept as bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from glance.http import conditions, wsgi

#: How long clients may keep a document without asking again, in seconds.
MAX_AGE = 300


class _Made(NamedTuple):
    root: str
    data: bytes
    tag: str


class Document:
    """One document, encoded, with its entity tag.

    `make(root)` returns what is encoded; `root(request)` is what of a request it depends on, which
    the settings of a deployment decide and no client can choose. Only the last one is kept.
    """

    def __init__(
        self, make: Callable[[str], Any], root: Callable[[wsgi.Request], str] = lambda request: ""
    ):
        self._make, self._root = make, root
        self._made: _Made | None = None

    def response(self, request: wsgi.Request) -> wsgi.Response:
        """Return the document; 304 if the client has it already (RFC 9110 §13.1.2).

        Raises Invalid for a request with a body.
        """
        request.require_no_body()
        made = self._current(self._root(request))
        headers = [("ETag", f'"{made.tag}"'), ("Cache-Control", f"max-age={MAX_AGE}")]
        if conditions.evaluate(request.environ, conditions.Validators(made.tag)):
            return wsgi.Response(304, headers)
        headers.append(("Content-Type", "application/json"))
        return wsgi.Response(200, headers, made.data)

    def _current(self, root: str) -> _Made:
        made = self._made
        if made is None or made.root != root:
            data = json.dumps(self._make(root)).encode()
            made = self._made = _Made(root, data, hashlib.sha256(data).hexdigest()[:32])
        return made

"""Give each request an id that its response, its log lines and the registry share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

from glance.common import exception, log
from glance.http import wsgi

HEADER = "X-Openstack-Request-Id"
_ENVIRON = "HTTP_X_OPENSTACK_REQUEST_ID"
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
MAX_LENGTH = 64


class RequestId:
    """Outermost middleware of both daemons: sets the environ's `glance.request_id` and a header.

    An id that the caller sends is kept when it is valid, so that one id follows a request from
    glance-api to glance-registry; one longer than 64 characters is refused with 431.
    """

    def __init__(self, app: wsgi.WSGIApp):
        self.app = app

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        sent = environ.get(_ENVIRON, "")
        request_id = sent if _SANE.fullmatch(sent) else f"req-{uuid.uuid4()}"
        environ["glance.request_id"] = request_id
        # NOTE: it stays set until the connection's next request: bodies are read after the return.
        log.REQUEST_ID.set(request_id)

        def start(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            headers.append((HEADER, request_id))
            return start_response(status, headers, *args)

        if len(sent) > MAX_LENGTH:
            error = exception.HeadersTooLarge(
                f"A request id may have at most {MAX_LENGTH} characters"
            )
            return wsgi.fail(error, environ, start)
        return self.app(environ, start)

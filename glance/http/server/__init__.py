"""The HTTP server of both daemons: a listening socket, worker processes, HTTP/1.1.

The programs call `serve` (`glance.cli.daemon.services`). The server knows nothing of images. The
modules::

    listen       the socket and its TLS context, opened before the fork
    access       the log of requests
    prefork      the parent: starts workers, replaces dead ones, passes signals on
    balance      how connections spread over the workers
    worker       one process: hub, accept loop, draining
    crowd        how many connections there may be, and which one has to make room
    connection   one client: request after request, keep-alive, closing
    exchange     one request and its response: the server's side of WSGI
    request_body request bodies (`wsgi.input`)
    stream       bytes from and to a socket, with timeouts
    sendfile     zero-copy responses
    parser       the text of requests and responses; pure functions
    signals      signals as bytes of a pipe

Why not eventlet's own WSGI server? It refuses requests that released clients send (both
Content-Length and Transfer-Encoding), accepts bare line feeds and folded lines, resets connections
when it responds before the end of an upload, stops when the process runs out of descriptors, and
cannot send zero-copy bodies. Little but its bugs would be left after overriding all that.
"""

from glance.http.server import options  # noqa: F401  declares the options
from glance.http.server.prefork import check, serve

__all__ = ["check", "serve"]

"""The HTTP server of both daemons: a listening socket, worker processes, HTTP/1.1.

`serve` is called by the programs (`glance.cli.daemon.services`); it knows nothing of images. The
parts::

    listen       the socket and its TLS context, opened before the fork
    access       the log of requests
    privileges   who the daemon runs as
    prefork      the parent: starts workers, replaces dead ones, passes signals on
    balance      how connections spread over the workers
    worker       one process: hub, accept loop, draining
    connection   one client: request after request, keep-alive, closing
    exchange     one request and its answer: the server's side of WSGI
    incoming     request bodies (`wsgi.input`)
    stream       bytes from and to a socket, with time-outs
    sendfile     zero-copy answers
    wire         the text of requests and answers; pure functions
    notify       telling a service manager what state the daemon is in
    signals      signals as bytes of a pipe

Why not eventlet's own WSGI server: it refuses requests that shipped clients send (both
Content-Length and Transfer-Encoding), takes bare line feeds and folded lines, resets connections
whose upload it answered early, gives up when the process runs out of descriptors, and cannot be
asked for zero-copy bodies. What is left of it after overriding all that would be its bugs.
"""

from glance.http.server import options  # noqa: F401  declares the options
from glance.http.server.prefork import check, serve

__all__ = ["check", "serve"]

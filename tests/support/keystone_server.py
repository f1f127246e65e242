"""Serve Keystone on a port of loopback: run by the interpreter of Keystone's environment.

`keystone_server.py PORT`, with the directory of keystone.conf in OS_KEYSTONE_CONFIG_DIR.

Connections are accepted side by side, but one request at a time reaches the application: a sign-in
updates its user's row, and SQLite refuses that ("database is locked", which Keystone answers with
500) to a transaction that has read before another one wrote.
"""

import socketserver
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

port = int(sys.argv[1])
# oslo.config reads the command line when the application is imported.
del sys.argv[1:]

from keystone.wsgi.api import application  # noqa: E402


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    def log_message(self, *args):
        pass


turn = threading.Lock()


def one_at_a_time(environ, start_response):
    """Return the whole response of the application, so that its transaction has ended."""
    with turn:
        response = application(environ, start_response)
        try:
            return list(response)
        finally:
            if hasattr(response, "close"):
                response.close()


make_server("127.0.0.1", port, one_at_a_time, Server, Handler).serve_forever()

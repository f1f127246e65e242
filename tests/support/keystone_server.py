"""Serve Keystone on a port of loopback: run by the interpreter of Keystone's environment.

`keystone_server.py PORT`, with the directory of keystone.conf in OS_KEYSTONE_CONFIG_DIR.
"""

import socketserver
import sys
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


make_server("127.0.0.1", port, application, Server, Handler).serve_forever()

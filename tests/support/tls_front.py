"""TLS before a server of the tests that speaks plain HTTP only."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
import threading
from typing import Self


class TLSFront:
    """A context manager; `port` answers inside TLS and passes everything on to `backend_port`.

    `names` lists the server names that clients asked for.
    """

    def __init__(self, backend_port: int, chain: pathlib.Path, key: pathlib.Path):
        self.backend_port = backend_port
        self.names: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, key)
        self._context.sni_callback = lambda sock, name, context: self.names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            inside = self._context.wrap_socket(client, server_side=True)
            backend = socket.create_connection(("127.0.0.1", self.backend_port))
            with inside, backend:
                back = threading.Thread(target=_pump, args=(backend, inside), daemon=True)
                back.start()
                _pump(inside, backend)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until `source` ends, and tell `sink` of the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)

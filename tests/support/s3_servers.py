"""S3 servers of the tests' own, and looks at what they hold by another way than glance's.

Swift (`support.swift_node`) is the strict one: it verifies signatures of both versions. `Moto` is
the other implementation; it takes any keys.
"""

from __future__ import annotations

import http.client
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
from typing import Self

from support import daemons

READY_SECONDS = 60


class Moto:
    """A moto server in a process of its own; nothing outlives it."""

    def __init__(self, directory: pathlib.Path):
        self.output = directory / "moto.log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.port = daemons.free_port()
        command = [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1"]
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=daemons.environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"moto does not start:\n{self.output.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return self._ask("GET", "/moto-api/")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """Return `bucket/key` of every object, and `bucket/key?upload` of open uploads."""
        found = []
        for bucket in re.findall("<Name>(.*?)</Name>", self._ask("GET", "/")[1]):
            for query, mark in (("", ""), ("?uploads", "?upload")):
                _, text = self._ask("GET", f"/{urllib.parse.quote(bucket)}{query}")
                found += [f"{bucket}/{key}{mark}" for key in re.findall("<Key>(.*?)</Key>", text)]
        return found

    def clear(self) -> None:
        self._ask("POST", "/moto-api/reset")

    def _ask(self, method: str, target: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request(method, target)
            reply = connection.getresponse()
            return reply.status, reply.read().decode("utf-8", "replace")
        finally:
            connection.close()

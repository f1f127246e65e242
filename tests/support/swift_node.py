"""A Swift of the tests' own: the process of `swift_server.py`, and looks at what it holds.

`SwiftNode` is a context manager for fixtures of unit and functional tests alike. It speaks Swift
with tempauth (v1) and S3 on one port; with `keystone` its users come from there.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import select
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Self

SERVER = pathlib.Path(__file__).with_name("swift_server.py")
READY_SECONDS = 60
#: The most entries that Swift lists at once.
PAGE = 10_000

#: The tempauth user who owns the account of the tests; also the S3 access key and its secret.
USER, KEY = "test:tester", "k3y-of-the-canary"


class SwiftNode:
    """One node of Swift with everything in `directory`; 70 MB of memory, ready in a second.

    `max_file_size` (bytes) makes larger objects fail with 413. `settings` go to filters of the
    proxy: `{"slo.max_manifest_segments": "3"}`; `without` names filters to leave out. `keystone`
    is a v3 URL whose user admin has the password `keystone_password`.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        port: int = 0,
        max_file_size: int | None = None,
        fake_xattr: bool = False,
        keystone: str | None = None,
        keystone_password: str = "secret",
        settings: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
    ):
        self.directory, self.port = directory, port
        #: Whether objects outlive the process; not where the file system has no attributes.
        self.lasting = True
        self.output = directory / "output"
        self._options = [f"--set={name}={value}" for name, value in (settings or {}).items()]
        self._options += [f"--without={name}" for name in without]
        if max_file_size is not None:
            self._options.append(f"--max-file-size={max_file_size}")
        if fake_xattr:
            self._options.append("--fake-xattr")
        if keystone is not None:
            self._options += [
                f"--keystone={keystone}",
                f"--keystone-password={keystone_password}",
            ]
        self._process: subprocess.Popen[str] | None = None
        self._token: tuple[str, str] | None = None

    # -- the process -----------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it (again, on the same port and data) and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-W", "ignore", str(SERVER), str(self.directory)]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, f"--port={self.port}", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], READY_SECONDS)
        line = stdout.readline() if ready else ""
        if not line.startswith("ready "):
            self.kill()
            raise AssertionError(f"Swift does not start:\n{self.log()}")
        self.port = int(line.split()[1])
        self.lasting = "memory" not in line
        self._token = None
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it accept connections and answer nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "Swift was never started"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(READY_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None, "Swift does not run"
        return self._process.pid

    def log(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    # -- its addresses ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def auth_url(self) -> str:
        """The URL of v1 authentication."""
        return f"http://{self.address}/auth/v1.0"

    def store_options(
        self, spool_dir: pathlib.Path, *, port: int | None = None, **more: str
    ) -> dict[str, str]:
        """Return the options of a Swift store that uses this node, `port` being a proxy's."""
        return {
            "swift_store_auth_address": f"http://127.0.0.1:{port or self.port}/auth/v1.0",
            "swift_store_user": USER,
            "swift_store_key": KEY,
            "swift_store_create_container_on_put": "True",
            "swift_store_spool_dir": str(spool_dir),
            **more,
        }

    # -- what it holds ---------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str = "",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the account of `USER`; return status, headers (lower case), body.

        `path` begins with a slash, or is empty for the account itself; it is sent as it stands.
        """
        if self._token is None:
            self._token = self._log_in()
        account, token = self._token
        return self._send(method, account + path, body, {"X-Auth-Token": token, **(headers or {})})

    def names(self, container: str | None = None) -> list[str]:
        """Return `container/object` for every object, of one container or of all."""
        containers = [container] if container else self._list("")
        return [
            f"{name}/{found}"
            for name in containers
            for found in self._list(f"/{urllib.parse.quote(name, safe='')}")
        ]

    def used(self, container: str) -> int:
        """Return the bytes of all objects of a container, 0 if there is none."""
        status, _, text = self.request("GET", f"/{container}?format=json&limit=10000")
        return sum(item["bytes"] for item in json.loads(text)) if status == 200 else 0

    def clear(self) -> None:
        """Remove all objects and containers of the account."""
        for container in self._list(""):
            path = f"/{urllib.parse.quote(container, safe='')}"
            for name in self._list(path):
                self.request("DELETE", f"{path}/{urllib.parse.quote(name)}")
            self.request("DELETE", path)

    def _list(self, path: str) -> list[str]:
        found: list[str] = []
        while True:
            marker = urllib.parse.quote(found[-1], safe="") if found else ""
            query = f"format=json&limit={PAGE}&marker={marker}"
            status, _, text = self.request("GET", f"{path}?{query}")
            page = json.loads(text) if status == 200 else []
            found += [item["name"] for item in page]
            if len(page) < PAGE:
                return found

    def _log_in(self) -> tuple[str, str]:
        headers = {"X-Auth-User": USER, "X-Auth-Key": KEY}
        status, answer, _ = self._send("GET", "/auth/v1.0", None, headers)
        assert status == 200, f"Swift lets nobody in: {status}"
        return urllib.parse.urlsplit(answer["x-storage-url"]).path, answer["x-auth-token"]

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            reply = connection.getresponse()
            answer = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, answer, reply.read()
        finally:
            connection.close()

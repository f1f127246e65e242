"""A real Keystone on loopback: own environment, own database, real users, projects and roles.

Keystone wants another SQLAlchemy than the project, so it lives in .tox/.keystone
(GLANCE_TEST_KEYSTONE names another one). Its database is made once and copied for each instance.
SQLite, Fernet tokens, one process; ready in two seconds or so.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from support import daemons, environments

PACKAGES = ("keystone==30.*", "python-openstackclient>=8")
PASSWORD = "s3cret-of-tests"
READY_SECONDS = 60
SERVER = pathlib.Path(__file__).with_name("keystone_server.py")

#: Where the port of an instance goes in the catalogue of the template.
_PLACE = "http://127.0.0.1:0/"

CONF = """
[DEFAULT]
log_file = {home}/keystone.log
[database]
connection = sqlite:///{home}/keystone.db
[token]
provider = fernet
expiration = {lifetime}
allow_expired_window = 0
[fernet_tokens]
key_repository = {home}/fernet
[credential]
key_repository = {home}/credentials
[identity]
password_hash_rounds = 4
[cache]
enabled = false
"""


def python() -> pathlib.Path:
    """Return the interpreter of Keystone's environment, which is made if it is missing."""
    return environments.python("keystone", PACKAGES, ("keystone.server", "openstackclient"))


def template(interpreter: pathlib.Path) -> pathlib.Path:
    """Return the directory with a bootstrapped Keystone, which is made if it is missing."""
    home = interpreter.parent.parent / "template"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            _bootstrap(interpreter, home)
            (home / "done").touch()
    return home


def _bootstrap(interpreter: pathlib.Path, home: pathlib.Path) -> None:
    for directory in (home, home / "fernet", home / "credentials"):
        directory.mkdir(mode=0o700)
    conf = home / "keystone.conf"
    conf.write_text(CONF.format(home=home, lifetime=3600))

    def manage(*arguments: str) -> None:
        command = [interpreter.with_name("keystone-manage"), "--config-file", conf, *arguments]
        subprocess.run(command, check=True, capture_output=True, env=daemons.environment())

    manage("db_sync")
    owner = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    manage("fernet_setup", *owner)
    manage("credential_setup", *owner)
    urls = [f"--bootstrap-{kind}-url={_PLACE}v3/" for kind in ("admin", "internal", "public")]
    manage("bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id=RegionOne", *urls)


class Keystone:
    """One Keystone with a directory of its own; a context manager that stops what it started.

    There are the user and the project `admin` and the roles admin, manager, member and reader.
    Every password is `PASSWORD`; all names are in the domain `default`. `lifetime` is that of
    tokens, in seconds.
    """

    def __init__(self, directory: pathlib.Path, *, lifetime: int = 3600):
        self.directory = directory
        self.lifetime = lifetime
        self.port = daemons.free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._admin_token: str | None = None
        self._ids: dict[tuple[str, str], str] = {}

    @property
    def root(self) -> str:
        """Where the versions are: http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v3"

    # -- the process -----------------------------------------------------------------------------

    def start(self) -> Keystone:
        interpreter = python()
        shutil.copytree(template(interpreter), self.directory)
        conf = CONF.format(home=self.directory, lifetime=self.lifetime)
        (self.directory / "keystone.conf").write_text(conf)
        with sqlite3.connect(self.directory / "keystone.db") as database:
            place = (_PLACE, f"{self.root}/")
            database.execute("UPDATE endpoint SET url = replace(url, ?, ?)", place)
        database.close()
        self.resume(interpreter)
        return self

    def resume(self, interpreter: pathlib.Path | None = None) -> None:
        """Start the process, again after `stop`, with what the database holds."""
        environment = {**daemons.environment(), "OS_KEYSTONE_CONFIG_DIR": str(self.directory)}
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                # -P: this module must not stand in for the package of the same name.
                [interpreter or python(), "-P", SERVER, str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Keystone does not answer:\n{self.log()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=10):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return (self.directory / "output").read_text(errors="replace")[-4000:]

    def __enter__(self) -> Keystone:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- tokens ----------------------------------------------------------------------------------

    def token(self, user: str, project: str | None = None) -> str:
        """Return a new token of `user`, for a project if there is one."""
        domain = {"id": "default"}
        login = {"name": user, "password": PASSWORD, "domain": domain}
        auth: dict[str, Any] = {
            "identity": {"methods": ["password"], "password": {"user": login}},
            "scope": {"project": {"name": project, "domain": domain}} if project else "unscoped",
        }
        _, headers = self._call("POST", "/auth/tokens", {"auth": auth})
        return str(headers["X-Subject-Token"])

    def revoke(self, token: str) -> None:
        self._call("DELETE", "/auth/tokens", token=token, headers={"X-Subject-Token": token})

    # -- what there is ---------------------------------------------------------------------------

    def project(self, name: str) -> str:
        """Return the id of a project, which is made if it is missing."""
        return self._named("project", name, {"domain_id": "default"})

    def role(self, name: str) -> str:
        return self._named("role", name, {})

    def user(
        self, name: str, project: str | None = None, roles: Sequence[str] = ("member",)
    ) -> str:
        """Return the id of a user who has roles in a project; what is missing is made."""
        user = self._named("user", name, {"domain_id": "default", "password": PASSWORD})
        for role in roles if project else ():
            path = f"/projects/{self.project(project)}/users/{user}/roles/{self.role(role)}"
            self._call("PUT", path, token=self._admin())
        return user

    def service(self, kind: str, url: str, name: str | None = None) -> None:
        """Put a service into the catalogue: `kind` as in "image", at one URL for everybody."""
        values: dict[str, Any] = {"type": kind, "name": name or kind}
        made, _ = self._call("POST", "/services", {"service": values}, self._admin())
        for interface in ("public", "internal", "admin"):
            endpoint = {
                "service_id": made["service"]["id"],
                "interface": interface,
                "url": url,
                "region_id": "RegionOne",
            }
            self._call("POST", "/endpoints", {"endpoint": endpoint}, self._admin())

    def _named(self, kind: str, name: str, values: dict[str, Any]) -> str:
        known = self._ids.get((kind, name))
        if known is None:
            found, _ = self._call("GET", f"/{kind}s?name={name}", token=self._admin())
            if found[f"{kind}s"]:
                known = found[f"{kind}s"][0]["id"]
            else:
                body = {kind: {"name": name, **values}}
                made, _ = self._call("POST", f"/{kind}s", body, self._admin())
                known = made[kind]["id"]
            self._ids[kind, name] = known
        return known

    def _admin(self) -> str:
        if self._admin_token is None:
            self._admin_token = self.token("admin", "admin")
        return self._admin_token

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Any, Any]:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token:
            sent["X-Auth-Token"] = token
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read()
                return json.loads(text) if text else None, response.headers
        except urllib.error.HTTPError as err:
            raise AssertionError(f"{method} {path}: {err.code} {err.read()!r}") from None

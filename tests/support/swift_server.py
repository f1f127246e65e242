"""A real Swift of one node in one process: proxy, account, container and object server.

Run it as `python -P -W ignore swift_server.py DIRECTORY`; it needs the package swift and nothing
else (no memcached, no root, no /etc/swift). It listens on 127.0.0.1, prints `ready PORT` and ends
with SIGTERM. S3 answers on the same port. Tests use it through `support.swift_node`.

NOTE: object metadata lies in extended attributes. Where the directory's file system has none they
are kept in memory, `ready PORT memory` is printed, and the objects are lost with the process.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import argparse  # noqa: E402
import errno  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

HOST = "127.0.0.1"
FILTERS = (
    "catch_errors gatekeeper healthcheck memory listing_formats {auth} bulk copy "
    "slo dlo versioned_writes symlink"
)
#: Time-outs in seconds between the servers, for hosts that are busy.
PATIENCE = {"conn_timeout": "30", "node_timeout": "60"}
AUTH = {"tempauth": "s3api tempauth", "keystone": "authtoken s3api s3token keystoneauth"}


class Cache:
    """What Swift asks of memcached, for the one process that there is.

    NOTE: it is an object and no dictionary because tempauth takes an empty one for a missing one.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._values.get(key)

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        self._values[key] = value

    def delete(self, key: str, *args: Any, **kwargs: Any) -> None:
        self._values.pop(key, None)

    def incr(self, key: str, delta: int = 1, *args: Any, **kwargs: Any) -> int:
        self._values[key] = int(self._values.get(key) or 0) + delta
        return int(self._values[key])

    def decr(self, key: str, delta: int = 1, *args: Any, **kwargs: Any) -> int:
        return self.incr(key, -delta)

    def get_multi(self, keys: list[str], *args: Any, **kwargs: Any) -> list[Any]:
        return [self._values.get(key) for key in keys]

    def set_multi(self, values: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self._values.update(values)


CACHE = Cache()


def cache_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[Any], Any]:
    """Paste factory of the filter that gives every request the cache."""

    def make(app: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = CACHE
            return app(environ, start_response)

        return call

    return make


class MemoryAttributes:
    """Extended attributes of files, by device and inode, in memory."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int], dict[Any, bytes]] = {}

    def _of(self, file: Any) -> dict[Any, bytes]:
        known = isinstance(file, int | str | bytes)
        status = os.stat(file if known else file.fileno())
        return self._values.setdefault((status.st_dev, status.st_ino), {})

    def getxattr(self, file: Any, name: Any) -> bytes:
        try:
            return self._of(file)[name]
        except KeyError:
            raise OSError(errno.ENODATA, "no such attribute") from None

    def setxattr(self, file: Any, name: Any, value: bytes) -> None:
        self._of(file)[name] = value

    def removexattr(self, file: Any, name: Any) -> None:
        self._of(file).pop(name, None)


def trust_the_page_cache() -> None:
    """Wait for no disk: what is written here has to outlive the process and not the machine."""
    from swift.common import db

    os.fsync = os.fdatasync = lambda descriptor: None  # type: ignore[assignment]
    execute = db.GreenDBCursor.execute

    def unsafe(cursor: Any, statement: str, *args: Any) -> Any:
        quick = statement.replace("synchronous = NORMAL", "synchronous = OFF")
        return execute(cursor, quick, *args)

    db.GreenDBCursor.execute = unsafe


def has_attributes(directory: pathlib.Path) -> bool:
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift.probe", b"x" * 2000)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def listen(port: int = 0) -> socket.socket:
    return eventlet.listen((HOST, port))


def serve(sock: socket.socket, app: Any) -> None:
    from swift.common.http_protocol import SwiftHttpProtocol

    quiet = logging.getLogger("swift_server.quiet")
    eventlet.wsgi.server(
        sock, app, log=quiet, log_output=False, protocol=SwiftHttpProtocol, max_size=256
    )


def start_backends(etc: pathlib.Path, devices: pathlib.Path) -> None:
    """Start the three servers behind the proxy, each with a ring that knows this node only."""
    from swift.account.server import app_factory as account
    from swift.common.ring import RingBuilder
    from swift.container.server import app_factory as container
    from swift.obj.server import app_factory as obj

    settings = {
        "swift_dir": str(etc),
        "devices": str(devices),
        "mount_check": "false",
        "disable_fallocate": "true",
        "fallocate_reserve": "0",
        "log_level": "ERROR",
        "log_requests": "false",
        # NOTE: what is not in the listing after this is left to a daemon that does not run here.
        "container_update_timeout": "60",
        **PATIENCE,
    }
    for name, factory in (("account", account), ("container", container), ("object", obj)):
        sock = listen()
        port = sock.getsockname()[1]
        builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
        builder.add_dev(
            {
                "id": 0,
                "region": 1,
                "zone": 1,
                "weight": 1.0,
                "ip": HOST,
                "port": port,
                "replication_ip": HOST,
                "replication_port": port,
                "device": "d1",
                "meta": "",
            }
        )
        builder.rebalance()
        builder.get_ring().save(str(etc / f"{name}.ring.gz"))
        eventlet.spawn(serve, sock, factory(dict(settings)))


def proxy_conf(etc: pathlib.Path, arguments: argparse.Namespace) -> str:
    """Return the text of proxy-server.conf."""
    auth = "keystone" if arguments.keystone else "tempauth"
    names = FILTERS.format(auth=AUTH[auth]).split()
    names = [name for name in names if name not in arguments.without]
    service = (
        f"auth_url = {arguments.keystone}\nauth_type = password\nusername = admin\n"
        f"password = {arguments.keystone_password}\nproject_name = admin\n"
        "user_domain_id = default\nproject_domain_id = default\ndelay_auth_decision = true\n"
    )
    sections = {
        "DEFAULT": f"swift_dir = {etc}\n",
        "pipeline:main": f"pipeline = {' '.join(names)} proxy-server\n",
        # NOTE: without the suppression of errors, one failed write does not ban the only node.
        "app:proxy-server": "use = egg:swift#proxy\naccount_autocreate = true\n"
        "error_suppression_interval = 0\n"
        + "".join(f"{name} = {seconds}\n" for name, seconds in PATIENCE.items()),
        "filter:memory": "use = call:__main__:cache_factory\n",
        "filter:tempauth": "use = egg:swift#tempauth\n"
        "user_test_tester = k3y-of-the-canary .admin\n"
        "user_test_other = second .admin\n"
        "user_admin_admin = admin .admin .reseller_admin\n",
        "filter:s3api": "use = egg:swift#s3api\ns3_acl = false\n",
        "filter:keystoneauth": "use = egg:swift#keystoneauth\noperator_roles = admin,member\n",
        "filter:authtoken": "paste.filter_factory = keystonemiddleware.auth_token:filter_factory\n"
        f"www_authenticate_uri = {arguments.keystone}\n{service}",
        "filter:s3token": f"use = egg:swift#s3token\nauth_uri = {arguments.keystone}\n{service}",
        "filter:versioned_writes": "use = egg:swift#versioned_writes\n"
        "allow_versioned_writes = true\n",
    }
    for name in names:
        sections.setdefault(f"filter:{name}", f"use = egg:swift#{name.replace('-', '_')}\n")
    for setting in arguments.set:
        section, _, line = setting.partition(".")
        kind = "app" if section == "proxy-server" else "filter"
        sections[f"{kind}:{section}"] += line.replace("=", " = ", 1) + "\n"
    return "".join(f"[{name}]\n{lines}" for name, lines in sections.items())


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path, help="where it keeps everything")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) means any free one")
    parser.add_argument("--max-file-size", type=int, help="largest single object in bytes")
    parser.add_argument(
        "--fake-xattr", action="store_true", help="keep metadata in memory in any case"
    )
    parser.add_argument("--keystone", metavar="URL", help="v3 URL; tempauth is not used then")
    parser.add_argument("--keystone-password", default="secret", help="of its user admin")
    parser.add_argument("--without", action="append", default=[], help="a filter to leave out")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FILTER.NAME=VALUE",
        help="a further setting, such as slo.max_manifest_segments=3",
    )
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    root = arguments.directory.resolve()
    etc, devices = root / "etc", root / "devices"
    for directory in (etc, devices / "d1"):
        directory.mkdir(parents=True, exist_ok=True)
    limits = ""
    if arguments.max_file_size:
        limits = f"[swift-constraints]\nmax_file_size = {arguments.max_file_size}\n"
    (etc / "swift.conf").write_text(
        f"[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = z\n{limits}"
    )
    from swift.common import utils

    # NOTE: the other modules read swift.conf when they are imported.
    utils.set_swift_dir(str(etc))
    from swift.common import constraints, storage_policy, wsgi
    from swift.obj import diskfile

    trust_the_page_cache()
    constraints.reload_constraints()
    storage_policy.reload_storage_policies()
    in_memory = arguments.fake_xattr or not has_attributes(devices)
    if in_memory:
        diskfile.xattr = MemoryAttributes()
    start_backends(etc, devices)
    conf = etc / "proxy-server.conf"
    conf.write_text(proxy_conf(etc, arguments))
    app = wsgi.loadapp(str(conf), global_conf={"log_level": "ERROR"})
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sock = listen(arguments.port)
    print("ready", sock.getsockname()[1], *["memory"] * in_memory, flush=True)
    serve(sock, app)


if __name__ == "__main__":
    main()

"""What glance is measured against: nginx with sendfile, md5sum, a bare eventlet application."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import sqlalchemy as sa

from support import daemons

NGINX = """\
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
  uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
  server {{ listen 127.0.0.1:{port}{more}; location / {{ root {root}; }} }}
}}
"""


@contextlib.contextmanager
def nginx(home: pathlib.Path, root: pathlib.Path) -> Iterator[int]:
    """Serve the files below `root`; yield the port."""
    with nginx_process(home, root) as (port, _):
        yield port


@contextlib.contextmanager
def nginx_process(
    home: pathlib.Path, root: pathlib.Path, more: str = ""
) -> Iterator[tuple[int, int]]:
    """Serve the files below `root`; yield the port, and the process. `more` ends `listen`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("nginx is not installed; leave the download out with --only")
    home.mkdir()
    port = daemons.free_port()
    conf = home / "nginx.conf"
    conf.write_text(NGINX.format(home=home, port=port, root=root, more=more))
    with running([program, "-p", str(home), "-c", str(conf)], port) as pid:
        yield port, pid


@contextlib.contextmanager
def bare_eventlet(
    home: pathlib.Path, status: str, headers: list[tuple[str, str]], body: bytes
) -> Iterator[tuple[int, int]]:
    """Serve one answer to every request; yield the port and the id of the process."""
    home.mkdir()
    port, command = bare_command(home, status, headers, body)
    with running(command, port) as pid:
        yield port, pid


def bare_command(
    home: pathlib.Path, status: str, headers: list[tuple[str, str]], body: bytes
) -> tuple[int, list[str]]:
    """Return the port and the command of a bare eventlet application with this one response."""
    port = daemons.free_port()
    answer = home / "answer.json"
    known = {"status": status, "headers": headers, "body": body.decode("latin-1")}
    answer.write_text(json.dumps(known))
    application = pathlib.Path(__file__).with_name("bare.py")
    return port, [sys.executable, "-W", "ignore", str(application), str(port), str(answer)]


@contextlib.contextmanager
def postgresql(parent: pathlib.Path) -> Iterator[str]:
    """Run a PostgreSQL with the databases `many` and `few`; yield their URL, with a `{name}`."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise SystemExit("PostgreSQL is not installed")
    # It refuses to be root's.
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = prefix if os.getuid() == 0 else []
    port = daemons.free_port()
    with tempfile.TemporaryDirectory(prefix="glance-pg-", dir=parent) as name:
        data = pathlib.Path(name) / "data"
        if prefix:
            shutil.chown(name, "postgres", "postgres")
        initdb = [*prefix, str(programs[-1] / "initdb"), "-D", str(data)]
        options = ["-A", "trust", "-U", "glance", "-E", "UTF8", "--locale=C"]
        subprocess.run([*initdb, *options], check=True, stdout=subprocess.DEVNULL, cwd=name)
        command = [*prefix, str(programs[-1] / "postgres"), "-D", str(data), "-k", name]
        command += ["-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        # Room for the indexes of a million images, as a site with so many gives it.
        command += ["-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB"]
        with running(command, port):
            place = ["-h", "127.0.0.1", "-p", str(port), "-U", "glance"]
            # It listens before it is ready.
            ready = [str(programs[-1] / "pg_isready"), "-q", *place]
            while subprocess.run(ready, check=False).returncode:
                time.sleep(0.1)
            for database in ("many", "few"):
                subprocess.run([str(programs[-1] / "createdb"), *place, database], check=True)
            yield f"postgresql+psycopg2://glance@127.0.0.1:{port}/{{name}}"


@contextlib.contextmanager
def mariadb(parent: pathlib.Path) -> Iterator[str]:
    """Run a MariaDB with the databases `many` and `few`; yield their URL, with a `{name}`."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    daemon, installer = (
        shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
    )
    if daemon is None or installer is None:
        raise SystemExit("MariaDB is not installed")
    prefix = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"]
    prefix = prefix if os.getuid() == 0 else []
    port = daemons.free_port()
    with tempfile.TemporaryDirectory(prefix="glance-my-", dir=parent) as name:
        if prefix:
            shutil.chown(name, "mysql", "mysql")
        common = ["--no-defaults", f"--basedir={pathlib.Path(daemon).parent.parent}"]
        common += [f"--datadir={name}/data", "--skip-name-resolve"]
        method = "--auth-root-authentication-method=normal"
        install = [*prefix, installer, *common, method, "--skip-test-db"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, cwd=name)
        command = [*prefix, daemon, *common, f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={name}/s", f"--pid-file={name}/p"]
        # The tables and indexes of a million images take 1.5 GiB.
        command += ["--innodb-buffer-pool-size=2G", "--character-set-server=utf8mb4"]
        with running(command, port):
            url = f"mysql+pymysql://root@localhost/{{name}}?unix_socket={name}/s"
            server = sa.create_engine(url.format(name="mysql"))
            with server.connect() as conn:
                for database in ("many", "few"):
                    conn.exec_driver_sql(f"CREATE DATABASE {database}")
            server.dispose()
            yield url


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server until the block ends; yield the id of its process."""
    process = subprocess.Popen(command, env=daemons.environment())
    try:
        deadline = time.monotonic() + daemons.READY_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


def md5sum(path: pathlib.Path) -> float:
    """Return the seconds that md5sum takes for a file that is in the cache of the system."""
    begin = time.perf_counter()
    subprocess.run(["md5sum", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def plain_boto(*arguments: object) -> float:
    """Return the seconds that boto by itself takes; see `plain_boto.py` for the arguments."""
    return _script("plain_boto.py", *arguments)


def plain_swift(*arguments: object) -> float:
    """Return the seconds that python-swiftclient by itself takes; see `plain_swift.py`."""
    return _script("plain_swift.py", *arguments)


def _script(name: str, *arguments: object) -> float:
    script = pathlib.Path(__file__).with_name(name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)

"""Varnish, Squid and nginx with the files of etc/proxies, in front of a port of loopback."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import ClassVar, Self

from support import daemons, faults, images
from support.rawhttp import Http

FILES = daemons.ROOT / "etc" / "proxies"
#: Where a site's own addresses stand in the files.
FRONT, API = "9292", "9393"


def filled(name: str, replaced: dict[str, object]) -> str:
    """Return a file of etc/proxies with the values of a test in place of those in it."""
    text = (FILES / name).read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, str(new))
    return text


class Proxy:
    """A caching proxy in front of `target`, a port of loopback; a context manager.

    `directory` is for its files and its cache, `size` is the room for images in MB. Stopped and
    started again, it has its port and, if that lies on a disk, its cache as before.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    #: Whether the cache is there after a restart.
    survives: ClassVar[bool]
    #: Whether misses at the same moment cost the API one body.
    shares_misses: ClassVar[bool] = True
    #: Whether If-Range is heeded.
    keeps_if_range: ClassVar[bool] = True
    #: Whether what is taken away from a record leaves what is stored without a purge.
    forgets_fields: ClassVar[bool] = False
    #: What a request to purge is answered with.
    purged: ClassVar[tuple[int, ...]] = (200, 404)

    def __init__(self, directory: pathlib.Path, target: int, size: int = 1000):
        images.need(self.program)
        self.directory, self.target, self.size = directory, target, size
        self.port = daemons.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.write()

    @property
    def http(self) -> Http:
        return Http(self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def write(self) -> None:
        """Write the configuration."""
        raise NotImplementedError

    def command(self) -> list[object]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Do what has to be done before each start."""

    def start(self) -> Self:
        self.prepare()
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=environment(),
                start_new_session=True,
            )
        faults.until(self._is_up, self.name, 60)
        return self

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log()}"
        try:
            self.http.request("OPTIONS", "/healthcheck")
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def log(self) -> str:
        return (self.directory / "output").read_text(encoding="utf-8", errors="replace")


class Varnish(Proxy):
    name, program, survives = "varnish", "varnishd", False

    def write(self) -> None:
        self.vcl = self.directory / "glance.vcl"
        self.vcl.write_text(filled("varnish.vcl", {f'"{API}"': f'"{self.target}"'}))

    def options(self) -> list[str]:
        """Return the settings that the file itself recommends."""
        text = (FILES / "varnish.vcl").read_text(encoding="utf-8")
        words = " ".join(
            line.removeprefix("#").rstrip(" \\") for line in text.splitlines()
        ).split()
        return [word for i, word in enumerate(words) if words[i - 1] == "-p"]

    def command(self) -> list[object]:
        words: list[object] = ["varnishd", "-F", "-n", self.directory / "work"]
        words += ["-a", f"127.0.0.1:{self.port}", "-f", self.vcl, "-j", "none"]
        words += ["-s", f"images=file,{self.directory / 'images.bin'},{self.size}m"]
        words += ["-s", "default,64m", "-T", "none"]
        for option in [*self.options(), "thread_pools=1", "thread_pool_min=20"]:
            words += ["-p", option]
        return words


class Squid(Proxy):
    name, program, survives = "squid", "squid", True
    shares_misses, keeps_if_range = False, False

    def __init__(self, directory: pathlib.Path, target: int, size: int = 1000):
        # NOTE: started by root it works as another user, for whom no run of pytest opens its
        # directory for long.
        self.cache = pathlib.Path(tempfile.mkdtemp(prefix="glance-squid-"))
        self.cache.chmod(0o777)
        super().__init__(directory, target, size)

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        shutil.rmtree(self.cache)

    def write(self) -> None:
        self.conf = self.directory / "squid.conf"
        text = filled(
            "squid.conf",
            {
                f"http_port {FRONT}": f"http_port 127.0.0.1:{self.port}",
                f"parent {API}": f"parent {self.target}",
                "/run/squid.pid": self.cache / "pid",
                "/var/log/squid": self.cache,
                "/var/spool/squid 512000 64 256": f"{self.cache / 'data'} {self.size} 4 16",
                "coredump_dir /var/spool/squid": f"coredump_dir {self.cache}",
                "shutdown_lifetime 5 seconds": "shutdown_lifetime 0 seconds",
            },
        )
        self.conf.write_text(f"{text}\nnetdb_filename none\ncache_effective_user {USER}\n")

    def prepare(self) -> None:
        if not (self.cache / "data").exists():
            made = subprocess.run(
                ["squid", "-N", "-z", "-f", str(self.conf)], capture_output=True, env=environment()
            )
            assert made.returncode == 0, made.stderr

    def command(self) -> list[object]:
        return ["squid", "-N", "-f", self.conf]


class AskingSquid(Squid):
    """Squid with the lines of its file that let callers share a fetch."""

    name = "squid-asking"
    shares_misses = True

    def write(self) -> None:
        super().write()
        text = self.conf.read_text()
        first = text.index("#external_acl_type")
        before, asking = text[:first], text[first:]
        assert before.count("\ncollapsed_forwarding off\n") == 1
        for line in ("external_acl_type", "acl", "cache", "collapsed_forwarding"):
            assert f"#{line} " in asking
            asking = asking.replace(f"#{line} ", f"{line} ", 1)
        helper = "/usr/local/share/glance/proxies/ask-glance.py"
        copy = shutil.copy(FILES / "ask-glance.py", self.cache)
        asking = asking.replace(helper, str(copy), 1)
        asking = asking.replace(f"127.0.0.1:{API}", f"127.0.0.1:{self.target}", 1)
        self.conf.write_text(before.replace("\ncollapsed_forwarding off\n", "\n") + asking)


class Nginx(Proxy):
    name, program, survives = "nginx", "nginx", True
    #: How many zeros follow the one in the size of a slice; 7 in the file.
    digits: int = 5
    purged, forgets_fields = (405,), True

    def write(self) -> None:
        self.conf = self.directory / "nginx.conf"
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{one}_temp_path {self.directory / one};" for one in places)
        text = filled(
            "nginx.conf",
            {
                f"listen {FRONT}": f"listen 127.0.0.1:{self.port}",
                f"127.0.0.1:{API}": f"127.0.0.1:{self.target}",
                "/var/cache/nginx/images": self.directory / "cache",
                "max_size=500g": f"max_size={self.size}m",
                "slice 10000000;": f"slice 1{'0' * self.digits};",
                "[0-9]{7}-[0-9]* bytes=\\k<start>0{7}": (
                    f"[0-9]{{{self.digits}}}-[0-9]* bytes=\\k<start>0{{{self.digits}}}"
                ),
            },
        )
        user = "user root;" if os.geteuid() == 0 else ""
        self.conf.write_text(
            f"daemon off; pid {self.directory / 'pid'}; {user} worker_processes 2;\n"
            f"error_log {self.directory / 'error.log'};\n"
            f"events {{}}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n"
        )

    def command(self) -> list[object]:
        return ["nginx", "-p", self.directory, "-c", self.conf]


#: Whom Squid works as when root has started it.
USER = "proxy"
KINDS: dict[str, type[Proxy]] = {kind.name: kind for kind in (Varnish, Squid, AskingSquid, Nginx)}


def environment() -> dict[str, str]:
    """Return the environment of a proxy, whose programs an ordinary user may not have in PATH."""
    known = daemons.environment()
    return {**known, "PATH": f"{known.get('PATH', os.defpath)}:/usr/sbin:/sbin"}

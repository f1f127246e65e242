"""The servers that glance-control controls, and the actions on them.

`pidfile` handles pid files, `launch` starts processes, `control` has the command line. Each action
prints what it does, and errors on stderr, and returns an exit code.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from glance.cli.daemon import launch, paste, pidfile, services
from glance.cli.user.screen import console
from glance.common import config, exception, numbers
from glance.conversion import options  # noqa: F401  declares those that are named here
from glance.streaming import retry

#: How long a daemon may take to become ready, in seconds.
START_SECONDS = 60.0
#: How long a daemon may take to end, in seconds.
STOP_SECONDS = 15.0
_STEP = 0.1
NOT_RUNNING = 3

NO_CONFIG = "Could not find any configuration file to use!"


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A daemon that can be controlled. `port` is its default port, None if it has none.

    One that is not `says_ready` counts as ready when it has run for a second. One that `makes_way`
    takes no more work after SIGHUP, so that a new one may start at once. `switch` is the option
    without which it refuses to start, and `grace` the one that says how many seconds its work may
    go on after SIGTERM; "" for none.
    """

    name: str
    port: int | None
    arguments: tuple[str, ...] = ()
    says_ready: bool = True
    makes_way: bool = False
    switch: str = ""
    grace: str = ""

    @property
    def program(self) -> str:
        return f"glance-{self.name}"


SERVERS = {
    server.name: server
    for server in (
        Server("api", services.API.port),
        Server("registry", services.REGISTRY.port),
        # Without the option, it would make one pass and end.
        Server("scrubber", None, ("--daemon",), says_ready=False),
        Server(
            "converter",
            None,
            makes_way=True,
            switch="conversion_enabled",
            grace="conversion_shutdown_grace",
        ),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What a server is started with: its program, its configuration file, its address.

    `connections` is how many each of its processes may have at once.
    """

    program: str
    config: str
    address: launch.Address | None
    connections: int = 0

    def is_free(self) -> bool:
        """Return whether the port is known and nobody listens on it."""
        return self.address is not None and launch.is_free(self.address)


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """Executes the commands.

    `config` is the file or directory to start with, None to search; `pid_file` is a path, None for
    the usual place; `switches` are options for the daemons; `several` means all servers, so that a
    server that is not installed, a scrubber or a converter without a configuration, or a converter
    that is switched off, is not an error.
    """

    config: str | None = None
    pid_file: str | None = None
    switches: tuple[str, ...] = ()
    several: bool = False

    def run(self, command: str, servers: Sequence[Server]) -> int:
        """Execute a command for each server and return the highest exit code."""
        if command == "restart":
            return self.restart(servers)
        action = {
            "start": self.start,
            "stop": self.stop,
            "shutdown": self.shutdown,
            "reload": self.reload,
            "force-reload": self.reload,
            "status": self.status,
        }[command]
        return max(_guarded(action, server) for server in servers)

    # -- start -----------------------------------------------------------------------------------

    def start(self, server: Server) -> int:
        """Start a server and wait until it is ready."""
        program = self._program(server)
        if program is None:
            return 0 if self.several else 1
        file = self._new_pid_file(server)
        try:
            file.prepare()
        except OSError:
            return fail(f"Unable to create {file.directory}.  Running as non-root?")
        with file.lock():
            if file.running():
                _say(f"{server.program} appears to already be running: {file.path}")
                return 0
            if file.exists():
                _say(f"Removing stale pid file {file.path}")
                file.remove()
            site = self._site(server, program)
            if site is None:
                return 1
            if not launch.raise_limits() and launch.is_tight(site.connections):
                _say("Unable to increase file descriptor limit.  Running as non-root?")
            _say(f"Starting {server.program} with {site.config}")
            with file.replacing() as (mark, write):
                arguments = self._arguments(server, site)
                daemon = launch.Launch(program, arguments, {pidfile.MARK: mark})
                try:
                    write(daemon.pid)
                except OSError as err:
                    daemon.end()
                    return fail(f"ERROR: Unable to write {file.path}: {err.strerror}")
        try:
            return self._await(server, site, daemon, file)
        finally:
            daemon.close()

    def _await(
        self, server: Server, site: Site, daemon: launch.Launch, file: pidfile.PidFile
    ) -> int:
        if daemon.wait(START_SECONDS, site.address, settles=not server.says_ready):
            return 0
        if not daemon.ended:
            return fail(
                f"ERROR: {server.program} is not ready after {START_SECONDS:g} seconds; it keeps "
                f"running as process {daemon.pid}"
            )
        with file.lock():
            file.remove(daemon.pid)
        return fail(f"ERROR: {server.program} failed to start", *daemon.last_words())

    def _new_pid_file(self, server: Server) -> pidfile.PidFile:
        if self.pid_file:
            return pidfile.PidFile(server.program, self.pid_file)
        return pidfile.for_start(server.program)

    def _arguments(self, server: Server, site: Site) -> list[str]:
        # NOTE: `ps` shows these words, the file without an option, as the manual prints them.
        return [*self.switches, *server.arguments, site.config]

    def _program(self, server: Server) -> str | None:
        """Return the path of a server's program; print a line and return None if there is none."""
        path = launch.find_program(server.program)
        if path is None:
            missing = f"{server.program} is not installed in {launch.installation()}"
            if self.several:
                _say(f"{missing}: skipped")
            else:
                fail(f"ERROR: {missing}")
        elif self.several and (why := self._why_not(server)):
            _say(f"{server.program} {why}: skipped")
            return None
        return path

    def _why_not(self, server: Server) -> str:
        """Return why a server is not meant by `all`; "" if it is."""
        if server.port is not None:
            return ""
        try:
            path = paste.find_config_file(server.program, self.config)
        except exception.ConfigError:
            return "has no configuration file"
        if server.switch and self._setting(server, server.switch) is False:
            return f"is switched off ({server.switch} is False in {path})"
        return ""

    def _setting(self, server: Server, name: str) -> Any:
        """Return the value of an option in a server's file; None if it cannot be read."""
        try:
            path = paste.find_config_file(server.program, self.config)
            return paste.load_shared_conf(path)[name]
        except exception.ConfigError:
            # Whoever starts the daemon is told.
            return None

    def _site(self, server: Server, program: str) -> Site | None:
        """Return what a server is started with; print errors and return None if not valid."""
        try:
            path = paste.find_config_file(server.program, self.config)
        except exception.ConfigError as err:
            where = str(err).splitlines()[1:] or [
                f"Looked for {server.program}.conf in {', '.join(paste.SEARCH_PATH)}"
            ]
            fail(NO_CONFIG, *where)
            return None
        try:
            conf = paste.load_conf(server.program, path)
            address = _address(conf, server)
        except exception.ConfigError as err:
            fail(
                f"ERROR: {server.program} failed to start",
                *(f"ERROR: {problem}" for problem in err.problems),
            )
            return None
        return Site(program, path, address, _connections(conf, server))

    # -- stop ------------------------------------------------------------------------------------

    def stop(self, server: Server) -> int:
        """Stop a server and wait until it has ended."""
        return self._end(server, signal.SIGTERM, lambda file, pid: not file.is_of(pid))

    def shutdown(self, server: Server) -> int:
        """Tell a server to end after its running requests."""
        return self._end(server, signal.SIGHUP, lambda file, pid: True)

    def _end(
        self,
        server: Server,
        signum: signal.Signals,
        until: Callable[[pidfile.PidFile, int], bool],
    ) -> int:
        """Signal a server, wait until `until(file, pid)` is true, remove its pid file."""
        file = self._pid_file(server)
        pid = file.read()
        if pid is None:
            if file.exists():
                _say(f"Removing stale pid file {file.path}")
                file.remove()
            _say(f"No {server.program} running")
            return 0
        _say(f"Stopping {server.program}  pid: {pid}  signal: {int(signum)}")
        try:
            # SECURITY: the id may belong to another process now.
            if not file.is_of(pid):
                raise ProcessLookupError
            os.kill(pid, signum)
        except ProcessLookupError:
            _say(f"Process {pid} not running")
        except PermissionError:
            return fail(f"ERROR: Process {pid} ({file.path}) belongs to another user")
        else:
            seconds = STOP_SECONDS
            if server.grace and signum == signal.SIGTERM:
                grace = self._setting(server, server.grace)
                seconds += config.TABLE[server.grace].default if grace is None else grace
            step = retry.Backoff.steady(_STEP, seconds=seconds)
            if not retry.wait_until(lambda: until(file, pid), step):
                return fail(
                    f"Waited {seconds:g} seconds for pid {pid} ({file.path}) to die; giving up"
                )
        file.remove(pid)
        return 0

    # -- both ------------------------------------------------------------------------------------

    def restart(self, servers: Sequence[Server]) -> int:
        """Stop all servers, then start them; servers that cannot be started are not stopped."""
        codes, stopped = [], []
        for server in servers:
            program = self._program(server)
            site = program and self._site(server, program)
            if site:
                stopped.append((server, site, _guarded(self.stop, server)))
            elif program or not self.several:
                codes.append(1)
        for server, site, code in stopped:
            codes.append(code)
            # NOTE: a server that is busy with its last requests has closed its port; the service
            # must not be down until they end.
            if code == 0 or self._forget(server, site):
                codes.append(_guarded(self.start, server))
        return max(codes, default=0)

    def _forget(self, server: Server, site: Site) -> bool:
        """Remove the pid file of a server that has closed its port; False if it has not."""
        if not site.is_free():
            return False
        self._pid_file(server).remove()
        return True

    def reload(self, server: Server) -> int:
        """Start a new process while the old one finishes its running requests."""
        program = self._program(server)
        if program is None:
            return 0 if self.several else 1
        site = self._site(server, program)
        if site is None:
            return 1

        def replaceable(file: pidfile.PidFile, pid: int) -> bool:
            return server.makes_way or site.is_free() or not file.is_of(pid)

        return self._end(server, signal.SIGHUP, replaceable) or self.start(server)

    def status(self, server: Server) -> int:
        """Print whether a server is running; return 0 if it is, NOT_RUNNING if not."""
        file = self._pid_file(server)
        if pid := file.running():
            _say(f"{server.program} (pid {pid}) is running")
            return 0
        if self.several and not file.exists() and self._program(server) is None:
            return 0
        stale = f"; there is a stale pid file {file.path}" if file.exists() else ""
        _say(f"{server.program} is not running{stale}")
        return NOT_RUNNING

    def _pid_file(self, server: Server) -> pidfile.PidFile:
        if self.pid_file:
            return pidfile.PidFile(server.program, self.pid_file)
        return pidfile.existing(server.program)


def _address(conf: config.Conf, server: Server) -> launch.Address | None:
    """Return the address on which a server will listen; None if it has none, or it is unknown."""
    if server.port is None:
        return None
    try:
        port = int(conf.get("bind_port") or server.port)
        host = config.host(str(conf.get("bind_host") or "0.0.0.0"))
    except (ValueError, exception.ConfigError):
        # The daemon will report it, together with all other problems.
        return None
    return (host, port) if port else None


def _connections(conf: config.Conf, server: Server) -> int:
    if server.port is None:
        return 0
    return numbers.whole(str(conf.get("max_connections") or "").strip()) or launch.CONNECTIONS


def _say(line: str) -> None:
    console.say(line)
    sys.stdout.flush()


def fail(*lines: str) -> int:
    """Print lines on stderr and return the exit code of a failure."""
    console.say(*(config.mask_text(line) for line in lines), to=sys.stderr)
    return 1


def _guarded(action: Callable[[Server], int], server: Server) -> int:
    """Execute an action for a server; print an OSError in one line."""
    try:
        return action(server)
    except OSError as err:
        where = f"{err.filename}: " if isinstance(err.filename, str) else ""
        return fail(f"ERROR: {server.program}: {where}{err.strerror or err}")

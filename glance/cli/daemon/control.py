"""glance-control: the command line. `glance.cli.daemon.servers` executes the commands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from glance.cli import streams
from glance.cli.daemon import pidfile, servers, startup
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word

#: What each command word does.
COMMANDS = {
    "start": "start the server, and wait until it is ready",
    "stop": "stop the server; running requests have some seconds to finish",
    "shutdown": "stop the server after its running requests have finished",
    "restart": "stop the server, then start it",
    "reload": "start a new process while the old one finishes its running requests",
    "force-reload": "the same as reload",
    "status": "tell whether the server is running (exit code 3 if not)",
}
#: Those that need a configuration.
STARTING = {"start", "restart", "reload", "force-reload"}


PROGRAM = Program(
    "glance-control",
    "Start, stop and watch the daemons of the image service",
    """
The glance-control program starts daemons in the background, with a process id file for each, and
returns when they are ready. It stops daemons, and returns when they have ended.

If the user cannot write to /var/run/glance, the process id files are in a directory of that user.
With all, servers that are not installed are skipped, and so are a scrubber and a converter without
a configuration file, and a converter whose file does not set conversion_enabled.

--verbose and --debug are passed on to the daemons.
""",
    (
        Word(
            "<SERVER>",
            "The server to control.",
            {
                "all": "all servers",
                **{server.name: f"{server.program}" for server in servers.SERVERS.values()},
            },
        ),
        Word("<COMMAND>", "The command to execute.", COMMANDS),
        Word(
            "[CONFPATH]",
            "The configuration file to start with, or the directory that contains it.",
            values="file",
        ),
    ),
    (
        startup.COMMON,
        (
            "Options of glance-control",
            (
                ProgramOption(
                    ("--pid-file",),
                    "pid_file",
                    "File of the server's process id. Default: "
                    f"{pidfile.DEFAULT_DIRECTORY}/glance-<SERVER>.pid, or a file in "
                    f"{pidfile.USER_DIRECTORY} if that directory is not writable.",
                    "PATH",
                    "string",
                    values="file",
                ),
            ),
        ),
    ),
    (
        (0, "The command succeeded, or there was nothing to do."),
        (1, "A server is unknown, could not be started, or did not stop in time."),
        (2, "An option is not valid."),
        (servers.NOT_RUNNING, "status found a server that is not running."),
    ),
)


@streams.program("glance-control")
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-control."""
    parser = PROGRAM.parser()
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(argv)
    if len(args.words) < 2:
        parser.print_help()
        return 1
    if len(args.words) > 3:
        parser.error(f"too many arguments: {' '.join(args.words[3:])}")
    name = args.words[0].lower().removeprefix("glance-")
    command = args.words[1].lower()
    if name != "all" and name not in servers.SERVERS:
        return servers.fail(
            f"Unknown server 'glance-{name}' specified. Please specify all, or one of the "
            f"servers: {', '.join(servers.SERVERS)}"
        )
    if command not in COMMANDS:
        return servers.fail(
            f"Unknown command {command} specified. Please specify a command in this list: "
            f"{', '.join(COMMANDS)}"
        )
    several = name == "all"
    if several and args.pid_file:
        parser.error("--pid-file is for one server and cannot be used with all")
    config = args.config_file or (args.words[2] if len(args.words) == 3 else None)
    if several and config and command in STARTING:
        config = _directory(config)
        if config is None:
            return servers.fail(
                "ERROR: one file cannot configure all servers: name the directory that contains "
                f"{', '.join(f'{server.program}.conf' for server in servers.SERVERS.values())}"
            )
    switches = tuple(f"--{switch}" for switch in ("verbose", "debug") if getattr(args, switch))
    control = servers.Control(config, args.pid_file, switches, several)
    meant = list(servers.SERVERS.values()) if several else [servers.SERVERS[name]]
    try:
        return control.run(command, meant)
    except KeyboardInterrupt:
        return servers.fail("Interrupted")


def _directory(config: str) -> str | None:
    """Return the directory with the files of all servers; None for any other file."""
    path = os.path.abspath(os.path.expanduser(config))
    if os.path.basename(path) in {f"{server.program}.conf" for server in servers.SERVERS.values()}:
        return os.path.dirname(path)
    return None if os.path.isfile(path) else path

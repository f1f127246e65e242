"""glance-control: the command line. What it says is done by `glance.cli.daemon.servers`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from glance.cli.daemon import pidfile, servers, services
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word

#: What each command word does.
COMMANDS = {
    "start": "start, and wait until the server answers",
    "stop": "stop, after what runs was given some seconds to finish",
    "shutdown": "let the server finish what it is doing, however long that takes",
    "restart": "stop, then start",
    "reload": "start a new process at once while the old one finishes what it is doing",
    "force-reload": "the same as reload",
    "status": "tell whether the server runs (exit code 3 if not)",
}
#: Those that need a configuration.
STARTING = {"start", "restart", "reload", "force-reload"}


PROGRAM = Program(
    "glance-control",
    "Start, stop and watch the daemons of the image service",
    """
The glance-control program starts daemons in the background, with a process id file each, and
returns when they answer; it stops them, and returns when they have ended.

Who may not write to /var/run/glance has the process id files in a directory of its own. Where all
is said, a server that is not installed, or a scrubber that has no configuration file, is skipped.

--verbose and --debug are handed to what is started.
""",
    (
        Word(
            "<SERVER>",
            "The server that is meant.",
            {
                "all": "every one of them",
                **{server.name: f"{server.program}" for server in servers.SERVERS.values()},
            },
        ),
        Word("<COMMAND>", "What to do with it.", COMMANDS),
        Word(
            "[CONFPATH]",
            "The configuration file to start with, or the directory that holds it.",
            values="file",
        ),
    ),
    (
        services.COMMON,
        (
            "Options of glance-control",
            (
                ProgramOption(
                    ("--pid-file",),
                    "pid_file",
                    "File of the server's process id. Without it, it is "
                    f"{pidfile.DEFAULT_DIRECTORY}/glance-<SERVER>.pid, or in "
                    f"{pidfile.USER_DIRECTORY} where that cannot be written.",
                    "PATH",
                    "string",
                    values="file",
                ),
            ),
        ),
    ),
    (
        (0, "Done, or there was nothing to do."),
        (1, "A server is not known, could not be started, or did not end in time."),
        (2, "An option could not be understood."),
        (servers.NOT_RUNNING, "status found a server that does not run."),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-control."""
    parser = PROGRAM.parser()
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(argv)
    if len(args.words) < 2:
        parser.print_help()
        return 1
    if len(args.words) > 3:
        parser.error(f"there are words too many: {' '.join(args.words[3:])}")
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
        parser.error("--pid-file names the file of one server and cannot go with all")
    config = args.config_file or (args.words[2] if len(args.words) == 3 else None)
    if several and config and command in STARTING:
        config = _directory(config)
        if config is None:
            return servers.fail(
                "ERROR: one file cannot configure all servers: name the directory that holds "
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
    """Return the directory that is meant for all servers; None for a file of no server."""
    path = os.path.abspath(os.path.expanduser(config))
    if os.path.basename(path) in {f"{server.program}.conf" for server in servers.SERVERS.values()}:
        return os.path.dirname(path)
    return None if os.path.isfile(path) else path

"""glance-control: the command line. What it says is done by `glance.cli.servers`.

Exit codes: 0 done (or already so), 1 something failed, 2 the command line is wrong, 3 `status`
found a server that does not run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from glance.cli import pidfile, servers, services

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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-control."""
    parser = _parser()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glance-control",
        usage="%(prog)s [options] <SERVER> <COMMAND> [CONFPATH]",
        description="Start, stop and watch the daemons of the image service.",
        epilog="\n".join(
            [
                f"SERVER is all, or one of: {', '.join(servers.SERVERS)}",
                "COMMAND is one of:",
                *(f"  {word:<14}{meaning}" for word, meaning in COMMANDS.items()),
                "CONFPATH is the configuration file to start with, or the directory that holds it",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    services.add_common_options(parser, "glance-control")
    parser.add_argument(
        "--pid-file",
        metavar="PATH",
        help=f"file of the server's process id (default: {pidfile.DEFAULT_DIRECTORY}/"
        f"glance-<SERVER>.pid, or in {pidfile.USER_DIRECTORY} where that cannot be written)",
    )
    parser.add_argument("words", nargs="*", metavar="SERVER COMMAND", help=argparse.SUPPRESS)
    return parser

"""What the scripts of the programs call: `--version`, and one line for Ctrl-C.

The programs themselves handle Ctrl-C once they run; here it is seen to while their modules are
imported.

PERF: imports nothing, because every start of the programs does. A program whose whole command line
is `--version` prints it from here, because its own modules may take half a second to import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Main = Callable[[Sequence[str] | None], int]


_MAINTENANCE = "glance.cli.maintenance"
_CACHE = f"{_MAINTENANCE}.cache_programs"
_SERVICES = "glance.cli.daemon.services"

#: Program -> the module and the name of its main function.
HOMES = {
    "glance": ("glance.cli.user.command", "main"),
    "glance-api": (_SERVICES, "api_main"),
    "glance-cache-cleaner": (_CACHE, "cleaner_main"),
    "glance-cache-manage": (f"{_MAINTENANCE}.cache_manage", "main"),
    "glance-cache-prefetcher": (_CACHE, "prefetcher_main"),
    "glance-cache-pruner": (_CACHE, "pruner_main"),
    "glance-cache-reaper": (_CACHE, "reaper_main"),
    "glance-control": ("glance.cli.daemon.control", "main"),
    "glance-converter": ("glance.cli.daemon.converter", "main"),
    "glance-inspect": (f"{_MAINTENANCE}.inspection", "main"),
    "glance-manage": (f"{_MAINTENANCE}.manage", "main"),
    "glance-registry": (_SERVICES, "registry_main"),
    "glance-scrubber": (f"{_MAINTENANCE}.scrub", "main"),
    "glance-upload": ("glance.cli.user.glance_upload", "main"),
}


def _program(name: str) -> Main:
    """Return the entry point of a program."""
    module, function = HOMES[name]

    def start(argv: Sequence[str] | None = None) -> int:
        import sys

        def run() -> int:
            if list(sys.argv[1:] if argv is None else argv) == ["--version"]:
                return print_version(name)
            import importlib

            code: int = getattr(importlib.import_module(module), function)(argv)
            return code

        return interruptible(name, run)

    start.__doc__ = f"Run `{name}` with `argv` (without its name) and return the exit code."
    return start


def print_version(name: str) -> int:
    """Print what `--version` of a program prints, and return the exit code."""
    from glance import version
    from glance.cli import streams

    @streams.program(name, stops=True)
    def main(argv: Sequence[str] | None = None) -> int:
        print(version.shown(name))
        return 0

    return main()


def interruptible(name: str, run: Callable[[], int]) -> int:
    """Return what `run` returns; after Ctrl-C print one line, and return 130."""
    try:
        return run()
    except KeyboardInterrupt:
        import sys

        if sys.stderr is not None:
            print(f"{name}: interrupted", file=sys.stderr)
        return 130


glance = _program("glance")
upload = _program("glance-upload")
inspect = _program("glance-inspect")
api = _program("glance-api")
registry = _program("glance-registry")
control = _program("glance-control")
converter = _program("glance-converter")
manage = _program("glance-manage")
scrubber = _program("glance-scrubber")
cache_manage = _program("glance-cache-manage")
cache_cleaner = _program("glance-cache-cleaner")
cache_prefetcher = _program("glance-cache-prefetcher")
cache_pruner = _program("glance-cache-pruner")
cache_reaper = _program("glance-cache-reaper")

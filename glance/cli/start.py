"""The functions that the scripts of programs for people call: Ctrl-C ends them with one line.

The programs themselves do so once they run; here it is seen to while their modules are imported.

PERF: imports nothing, because every start of the programs does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def glance(argv: Sequence[str] | None = None) -> int:
    """Run `glance` with `argv` (without its name) and return the exit code."""

    def run() -> int:
        from glance.cli.user.command import main

        return main(argv)

    return interruptible("glance", run)


def upload(argv: Sequence[str] | None = None) -> int:
    """Run `glance-upload` with `argv` (without its name) and return the exit code."""

    def run() -> int:
        from glance.cli.user.glance_upload import main

        return main(argv)

    return interruptible("glance-upload", run)


def inspect(argv: Sequence[str] | None = None) -> int:
    """Run `glance-inspect` with `argv` (without its name) and return the exit code."""

    def run() -> int:
        from glance.cli.maintenance.inspection import main

        return main(argv)

    return interruptible("glance-inspect", run)


def interruptible(name: str, run: Callable[[], int]) -> int:
    """Return what `run` returns; after Ctrl-C print one line, and return 130."""
    try:
        return run()
    except KeyboardInterrupt:
        import sys

        if sys.stderr is not None:
            print(f"{name}: interrupted", file=sys.stderr)
        return 130

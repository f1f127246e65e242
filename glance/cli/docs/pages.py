"""Files made from the declarations of the programs.

They are the pages cli.rst, programs.rst, inspection.rst, metrics.rst, request.rst with its picture
and those of the REST APIs, the manual pages in doc/man and the completion scripts in
etc/completion. `python -m glance.cli.docs.pages` (part of `tox -e docs`) rewrites them; a test
fails if they are stale. The programs themselves never import this module.
"""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Sequence

import glance
from glance.cli.daemon import control, converter, services
from glance.cli.docs import inspection as rules
from glance.cli.docs import manpages, measured, reference, rest_apis, travel
from glance.cli.docs import program_completion as others
from glance.cli.maintenance import cache_manage, cache_programs, inspection, manage, scrub
from glance.cli.program import Program
from glance.cli.user import completion, glance_upload

#: All programs for operators.
SERVICE: tuple[Program, ...] = (
    services.API.declared,
    services.REGISTRY.declared,
    converter.PROGRAM,
    control.PROGRAM,
    manage.PROGRAM,
    scrub.PROGRAM,
    cache_programs.PREFETCHER.declared,
    cache_programs.PRUNER.declared,
    cache_programs.CLEANER.declared,
    cache_programs.REAPER.declared,
    cache_manage.PROGRAM,
    inspection.PROGRAM,
)
#: All programs but `glance`.
PROGRAMS = (*SERVICE, glance_upload.PROGRAM)


def pages() -> dict[str, str]:
    """Return every generated file as path below the checkout -> text."""
    names = ["glance", *(program.name for program in PROGRAMS)]
    made = {
        "doc/source/reference/cli.rst": reference.cli(glance_upload.PROGRAM),
        "doc/source/reference/programs.rst": reference.programs(SERVICE),
        "doc/source/reference/inspection.rst": rules.page(),
        "doc/source/reference/metrics.rst": measured.page(),
        "doc/source/explanation/request.rst": travel.page("request.svg"),
        "doc/source/explanation/request.svg": travel.picture(),
        **rest_apis.pages(),
        "doc/man/glance.1": manpages.glance(names[1:]),
        "etc/completion/glance.bash": completion.bash(),
        "etc/completion/_glance": completion.zsh(),
        "etc/completion/glance.fish": completion.fish(),
    }
    for program in PROGRAMS:
        rest = [name for name in names if name != program.name]
        made[f"doc/man/{program.name}.1"] = manpages.program(program, rest)
        made[f"etc/completion/{program.name}.bash"] = others.bash(program)
        made[f"etc/completion/_{program.name}"] = others.zsh(program)
        made[f"etc/completion/{program.name}.fish"] = others.fish(program)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files into the checkout that the package was imported from; return 0."""
    arguments = sys.argv[1:] if argv is None else argv
    package = pathlib.Path(inspect.getfile(glance)).resolve().parent
    root = pathlib.Path(arguments[0]) if arguments else package.parent
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

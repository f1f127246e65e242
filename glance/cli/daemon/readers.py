"""Which program reads which groups of options, and from which file.

The one table of it: the samples and the reference are made from it (`glance.cli.docs.options`),
and a program warns by it of options that only another program reads.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
from collections.abc import Iterable, Iterator

import glance
from glance.common import config

LOG = logging.getLogger(__name__)

_SERVER = ("logging", "server", "metrics")
_STORES = ("stores", "filesystem store", "http store", "S3 store", "Swift store")
_CACHE = ("logging", "cache programs", "image cache")

#: Program -> the groups that it reads, in the order of its sample file.
GROUPS: dict[str, tuple[str, ...]] = {
    "glance-api": (
        *_SERVER,
        "registry client",
        "registry access",
        "service account",
        "identity",
        "policy",
        "version negotiation",
        "images API",
        "image data",
        "formats",
        "conversions",
        "image cache",
        "HTTP caches",
        "deletion",
        "encryption",
        *_STORES,
        "notifications",
        "rabbit",
    ),
    "glance-registry": (
        *_SERVER,
        "registry database",
        "encryption",
        "registry",
        "formats",
        "registry access",
        "identity",
        "policy",
    ),
    "glance-scrubber": (
        "logging",
        "metrics",
        "scrubber",
        "deletion",
        "encryption",
        "registry database",
        *_STORES,
        "notifications",
        "rabbit",
    ),
    "glance-converter": (
        "logging",
        "metrics",
        "conversions",
        "conversion",
        "registry client",
        "registry access",
        "service account",
        "image data",
        "encryption",
        *_STORES,
        "notifications",
        "rabbit",
    ),
    "glance-cache-prefetcher": (
        *_CACHE,
        "registry client",
        "registry access",
        "service account",
        *_STORES,
    ),
    "glance-cache-pruner": _CACHE,
    "glance-cache-cleaner": (*_CACHE, "registry client", "registry access", "service account"),
}
#: Program -> name of its file without `.conf`, where that is not the program's own name.
STEMS = {
    "glance-cache-prefetcher": "glance-prefetcher",
    "glance-cache-pruner": "glance-pruner",
    "glance-cache-cleaner": "glance-reaper",
}
#: Other names of programs, those of their applications included.
_SAME = {
    "glance-cache-reaper": "glance-cache-cleaner",
    **{stem: program for program, stem in STEMS.items()},
}


def groups_of(program: str) -> tuple[str, ...]:
    """Return the groups that a program reads, none if it is not known."""
    return GROUPS.get(_SAME.get(program, program), ())


def reads(program: str, name: str) -> bool:
    """Return whether a program reads an option, as far as this is known.

    It may read names that are not declared, and options of drivers that do not come with glance.
    """
    group = config.group_of(name)
    own = GROUPS.get(_SAME.get(program, program))
    return own is None or group in own or not any(group in groups for groups in GROUPS.values())


def load_options() -> None:
    """Import every module of the package that may declare options, so that the table is complete.

    Programs and the test suites for drivers declare none, and schema versions are not modules. A
    module whose library is missing is left out.
    """
    for package in pkgutil.iter_modules(glance.__path__):
        if package.name not in ("cli", "testing"):
            for name in _modules(f"glance.{package.name}"):
                LOG.debug("Options of %s are declared", name)


def declare(names: Iterable[str]) -> None:
    """Have the options among the names declared; import nothing if they all are already."""
    if any(config.group_of(name) is None for name in names):
        load_options()


def _modules(name: str) -> Iterator[str]:
    try:
        module = importlib.import_module(name)
    except ImportError:
        # Who needs the module reports it.
        LOG.debug("Module %s cannot be imported", name, exc_info=True)
        return
    yield name
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if info.name != "migrate_repo":
            yield from _modules(f"{name}.{info.name}")


def misplaced(program: str, path: str, names: Iterable[str]) -> dict[str, str]:
    """Return the options among `names` that `program` does not read: name -> a program that does.

    Several programs may share a file, so it is that of a daemon or bears the program's own name;
    for another one the result is empty. Modules are imported only for a name that is not an option
    of this program.
    """
    program = _SAME.get(program, program)
    own = groups_of(program)
    files = {f"{each}.conf" for each in (program, STEMS.get(program, program))}
    is_daemon = program in ("glance-api", "glance-registry")
    if not own or not (is_daemon or os.path.basename(path) in files):
        return {}
    strange = [name for name in names if config.group_of(name) not in own]
    declare(strange)
    found = {}
    for name in strange:
        group = config.group_of(name)
        reader = next((other for other, groups in GROUPS.items() if group in groups), None)
        if reader is not None and group not in own:
            found[name] = reader
    return found

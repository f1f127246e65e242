"""Load classes by name: from a built-in table, entry points, or a dotted path.

Stores and notifier strategies are loaded here. A class is imported only when it is requested, so
that a missing library of one driver does not affect the others.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any


def load(group: str, name: str, builtin: Mapping[str, str]) -> Any:
    """Return the class (or other object) of this name.

    `builtin` maps names to `module:attribute` paths and is searched first, then the entry points
    of `group`; then `name` itself may be such a path (or `module.attribute`). Raises LookupError
    for an unknown name or if the module lacks the attribute; ImportError if its module, or one
    that it needs, cannot be imported.
    """
    if name in builtin:
        return _from_path(builtin[name])
    for entry in importlib.metadata.entry_points(group=group, name=name):
        return _from_path(entry.value)
    if ":" in name or "." in name:
        return _from_path(name)
    known = ", ".join(sorted({*builtin, *names(group)}))
    raise LookupError(f"{name} is not one of: {known}")


def names(group: str) -> list[str]:
    """Return the names that installed packages register in `group`."""
    return sorted(entry.name for entry in importlib.metadata.entry_points(group=group))


def _from_path(path: str) -> Any:
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise LookupError(f"module {module_name} has no {attribute}") from None

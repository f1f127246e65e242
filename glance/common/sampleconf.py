"""Pages made from the tables: doc/source/options.rst and doc/source/errors.rst.

`python -m glance.common.sampleconf` (that is `tox -e docs`) writes them anew from the option table
and the error table; a test fails when they are stale. Nothing of the running service calls this.
"""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence

import glance
from glance.common import config, httperror

GENERATED = ".. Made by `tox -e docs`; change the table in the code instead.\n\n"

TYPES = {
    config.boolean: "boolean",
    config.integer: "whole number",
    config.path: "path",
    config.real: "number",
    config.text: "text",
    config.words: "list of words",
}

OPTIONS_INTRO = """\
For operators. Options stand in the ``[DEFAULT]`` section of a configuration file; one in the
section of an application or a filter holds for that part only. Booleans are written true, yes, on,
1 or false, no, off, 0; lists are separated by commas or blanks. Unknown names are never fatal.
"""

ERRORS_INTRO = """\
For users of the API. An error is answered with its status and a plain text: the status line, an
empty line, and one line that says what is wrong and what to do. The Python client raises the class
marked *client* for a status. Classes without an entry of their own are answered like their base
class. A sentence in italics is all that the answer to such an error ever says.
"""


def load_options() -> None:
    """Import every module of the package that may declare options, so that the table is whole.

    Programs and the test suites for drivers declare none, and schema versions are not modules.
    """
    for package in ("api", "common", "image_cache", "registry", "store", "scrubber"):
        for name in _modules(f"glance.{package}"):
            importlib.import_module(name)


def _modules(name: str) -> Iterator[str]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as err:
        if err.name != name:
            raise
        return
    yield name
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if info.name != "migrate_repo" and f"{name}.{info.name}" != __name__:
            yield from _modules(f"{name}.{info.name}")


def heading(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def options_page(groups: dict[str, list[config.Option]]) -> str:
    """Return the reference of all options, in the order of their groups' names."""
    parts = [GENERATED, heading("Options", "="), OPTIONS_INTRO]
    for group in sorted(groups):
        parts.append("\n" + heading(group[:1].upper() + group[1:], "-"))
        parts.append("\n".join(_entry(option) for option in groups[group]))
    return "".join(parts)


def _entry(option: config.Option) -> str:
    facts = [TYPES.get(option.type, option.type.__name__.strip("_").replace("_", " "))]
    if option.unit:
        facts.append(f"in {option.unit}")
    facts.append("unset" if option.default in (None, "", ()) else f"default ``{_shown(option)}``")
    if option.choices:
        facts.append("one of " + ", ".join(f"``{choice}``" for choice in option.choices))
    if option.minimum is not None:
        facts.append(f"at least {option.minimum:g}")
    if option.aliases:
        facts.append("also read as " + ", ".join(f"``{alias}``" for alias in option.aliases))
    if option.secret:
        facts.append("never logged")
    return f"``{option.name}``\n    ({'; '.join(facts)})\n    {_literals(option.help)}\n"


def _shown(option: config.Option) -> str:
    if isinstance(option.default, tuple):
        return " ".join(map(str, option.default))
    if option.type.__name__.strip("_") == "octal":
        return f"{option.default:04o}"
    return str(option.default)


def _literals(text: str) -> str:
    """Return a sentence of a docstring with its single back quotes made literals of the page."""
    return text.replace("`", "``")


def errors_page(rows: Iterable[httperror.Row]) -> str:
    """Return the page of statuses and errors, ordered by status."""
    parts = [GENERATED, heading("Errors", "="), ERRORS_INTRO]
    by_status: dict[int, list[httperror.Row]] = {}
    for row in rows:
        by_status.setdefault(row.status, []).append(row)
    for status in sorted(by_status):
        parts.append("\n" + heading(f"{status} {httperror.REASONS[status]}", "-"))
        for row in by_status[status]:
            mark = " (*client*)" if row.client else ""
            parts.append(f"``{row.error.__name__}``{mark}\n    {_promise(row)}\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _promise(row: httperror.Row) -> str:
    # NOTE: the own docstring only; one of a base class would speak of something else.
    text = row.error.__doc__ or getattr(row.error, "message", None) or row.text
    fixed = "" if row.own_text else f" *{row.text}*"
    return _literals(text.splitlines()[0]) + fixed


def pages() -> dict[str, str]:
    """Return every generated page as path below the checkout -> text."""
    load_options()
    return {
        "doc/source/options.rst": options_page(config.GROUPS),
        "doc/source/errors.rst": errors_page(httperror.TABLE),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages into the checkout that the package was imported from; return 0."""
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

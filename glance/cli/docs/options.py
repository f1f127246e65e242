"""Pages made from the tables: the sample files in etc, options.rst and errors.rst.

`python -m glance.cli.docs.options` (that is `tox -e docs`) rewrites them from the option and
error tables and from the pipelines in etc/pipelines; a test fails if they are stale. The running
service does not use this module.
"""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import glance
from glance.cli.daemon import readers
from glance.common import config, httperror, statuses

GENERATED = ".. Made by `tox -e docs`; change the table in the code instead.\n\n"

TYPES = {
    config.boolean: "boolean",
    config.host: "host",
    config.integer: "whole number",
    config.path: "path",
    config.port: "port number",
    config.real: "number",
    config.text: "text",
    config.url: "URL",
    config.words: "list of words",
}
#: Types of single options, by the names of their functions.
OWN_TYPES = {
    "octal": "octal number",
    "pattern": "regular expression",
    "addresses": "list of host:port",
    "convert": "whole number",
    "address_space": "whole number",
    "absolute": "absolute path",
    "subformats": "list of words",
    "header_text": "text",
    "facility": "text",
}


@dataclasses.dataclass(frozen=True, slots=True)
class SampleFile:
    """A program with a configuration file, and the groups of options that it reads, in order.

    `settings` are values that its sample sets instead of showing the default. `stem` is the name
    of its file without the extension, if it differs from the program's name.
    """

    name: str
    groups: tuple[str, ...]
    settings: Mapping[str, str]
    stem: str = ""

    @property
    def file(self) -> str:
        return self.stem or self.name

    @property
    def sample(self) -> str:
        return f"etc/{self.file}.conf"


_CACHE_DIR = {"image_cache_dir": "/var/lib/glance/image-cache/"}
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "glance-api": {
        "verbose": "True",
        "log_file": "/var/log/glance/api.log",
        "bind_host": "0.0.0.0",
        "bind_port": "9292",
        "registry_host": "127.0.0.1",
        "registry_port": "9191",
        "default_store": "file",
        "filesystem_store_datadir": "/var/lib/glance/images/",
    },
    "glance-registry": {
        "verbose": "True",
        "log_file": "/var/log/glance/registry.log",
        "bind_host": "127.0.0.1",
        "bind_port": "9191",
        "sql_connection": "sqlite:////var/lib/glance/glance.sqlite",
    },
    "glance-scrubber": {
        "verbose": "True",
        "log_file": "/var/log/glance/scrubber.log",
        "scrub_time": "43200",
        "sql_connection": "sqlite:////var/lib/glance/glance.sqlite",
        "filesystem_store_datadir": "/var/lib/glance/images/",
    },
    "glance-converter": {
        "verbose": "True",
        "log_file": "/var/log/glance/converter.log",
        "registry_host": "127.0.0.1",
        "registry_port": "9191",
        "default_store": "file",
        "filesystem_store_datadir": "/var/lib/glance/images/",
    },
    "glance-cache-prefetcher": {
        "verbose": "True",
        "log_file": "/var/log/glance/prefetcher.log",
        **_CACHE_DIR,
        "registry_host": "127.0.0.1",
        "registry_port": "9191",
        "filesystem_store_datadir": "/var/lib/glance/images/",
    },
    "glance-cache-pruner": {
        "verbose": "True",
        "log_file": "/var/log/glance/pruner.log",
        **_CACHE_DIR,
    },
    "glance-cache-cleaner": {
        "verbose": "True",
        "log_file": "/var/log/glance/reaper.log",
        **_CACHE_DIR,
        "registry_host": "127.0.0.1",
        "registry_port": "9191",
    },
}
PROGRAMS = tuple(
    SampleFile(name, groups, _SETTINGS[name], readers.STEMS.get(name, ""))
    for name, groups in readers.GROUPS.items()
)

SAMPLE_INTRO = """\
Settings of {name}. Comments show the defaults; no value means unset.
Made by `tox -e docs`; doc/source/reference/options.rst describes the options of all programs.
"""

OPTIONS_INTRO = """\
For operators: all options of the configuration files.

Options belong in the section ``[DEFAULT]`` of a configuration file. An option in the section of an
application or a filter applies to that part only. Booleans are written true, yes, on, 1 or false,
no, off, 0; lists are separated by commas or spaces. An option without a value (``name =``) has its
default, whatever its type. At start a program reports all values of its options that are not
valid, also those of a store or a notifier strategy that is not in use. Unknown names are ignored;
the log has a warning for a name that resembles an option. The first line of each group names the
programs that read its options; the samples of these programs in ``etc`` contain all of them.
"""

ERRORS_INTRO = """\
For users of the API: the errors, with their HTTP statuses.

The response to an error has its status and a plain text: the status line, an empty line, and one
line that says what is wrong and what to do. For each status, the Python client raises the class
marked *client*. A class without an entry has the status of its base class. If an entry has a
sentence in italics, the response contains that sentence instead of the error's own message.

A request to add an image may fail after it has made the image's record, which then stays, mostly
with the status killed. The response has the id of such a record in the header X-Image-Meta-Id, and
the error of the Python client in its attribute ``recorded_id``.
"""


def heading(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def options_page(groups: Mapping[str, Sequence[config.Option]]) -> str:
    """Return the reference of all options, in the order of their groups' names."""
    parts = [GENERATED, heading("Options", "="), OPTIONS_INTRO]
    for group in sorted(groups):
        parts.append("\n" + heading(group[:1].upper() + group[1:], "-"))
        parts.append(f"Read by {_readers(group)}.\n\n")
        parts.append("\n".join(_entry(option) for option in groups[group]))
    return "".join(parts)


def _readers(group: str) -> str:
    """Return the names of the programs that read a group of options."""
    found = [program.name for program in PROGRAMS if group in program.groups]
    return ", ".join(found)


def _entry(option: config.Option) -> str:
    facts = [*_facts(option)]
    default = "unset" if _is_unset(option) else f"``{_shown(option)}``"
    if option.choices:
        facts.append("one of " + ", ".join(f"``{choice}``" for choice in option.choices))
    if not option.in_files:
        facts.append("on the command line only")
    if option.aliases:
        facts.append("also read as " + ", ".join(f"``{alias}``" for alias in option.aliases))
    facts.append(f"since {option.since}")
    return (
        f".. confval:: {option.name}\n    :type: {'; '.join(facts)}\n    :default: {default}\n\n"
        f"    {_literals(option.help)}\n"
    )


def _facts(option: config.Option) -> Iterator[str]:
    """Yield the facts about an option's value, its type first."""
    name = option.type.__name__.strip("_")
    kind = TYPES.get(option.type) or OWN_TYPES.get(name, name)
    yield f"{kind}, in {option.unit}" if option.unit else kind
    if option.minimum is not None:
        yield f"at least {option.minimum:g}"
    if option.secret:
        yield "never logged"


def _is_unset(option: config.Option) -> bool:
    return option.default in (None, "", ())


def sample(
    program: SampleFile, groups: Mapping[str, Sequence[config.Option]], pipelines: str
) -> str:
    """Return the sample file of a program; `pipelines` is the text of its paste sections."""
    parts = [textwrap.indent(SAMPLE_INTRO.format(name=program.name), "# "), "\n[DEFAULT]\n"]
    for group in program.groups:
        parts.append(f"\n# {'-' * 97}\n# {group[:1].upper()}{group[1:]}\n\n")
        shown = [option for option in groups[group] if option.in_files]
        parts.append("\n".join(_setting(program, option) for option in shown))
    parts.append(f"\n# {'-' * 97}\n# The application\n\n{pipelines}")
    return "".join(parts)


def _setting(program: SampleFile, option: config.Option) -> str:
    facts = [*_facts(option)]
    if option.choices:
        facts.append("one of " + ", ".join(map(str, option.choices)))
    text = f"{option.help.replace('`', '')} ({'; '.join(facts)})"
    lines = textwrap.wrap(
        text, 97, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    value = "" if _is_unset(option) or option.secret else _shown(option)
    if option.name in program.settings:
        lines.append(f"{option.name} = {program.settings[option.name]}")
    else:
        lines.append(f"# {option.name} = {value}".rstrip())
    return "\n".join(lines) + "\n"


def _shown(option: config.Option) -> str:
    if isinstance(option.default, tuple):
        return " ".join(map(str, option.default))
    if option.type.__name__.strip("_") == "octal":
        return f"{option.default:04o}"
    if isinstance(option.default, re.Pattern):
        return str(option.default.pattern)
    return str(option.default)


def _literals(text: str) -> str:
    """Return a sentence of a docstring with its single back quotes doubled, as in rst."""
    return text.replace("`", "``")


def errors_page(rows: Iterable[httperror.Row]) -> str:
    """Return the page of statuses and errors, ordered by status."""
    parts = [GENERATED, heading("Errors", "="), ERRORS_INTRO]
    by_status: dict[int, list[httperror.Row]] = {}
    for row in rows:
        by_status.setdefault(row.status, []).append(row)
    for status in sorted(by_status):
        parts.append("\n" + heading(statuses.status_line(status), "-"))
        for row in by_status[status]:
            mark = " (*client*)" if row.client else ""
            parts.append(f"``{row.error.__name__}``{mark}\n    {_promise(row)}\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _promise(row: httperror.Row) -> str:
    # NOTE: only the class's own docstring; that of a base class would be about something else.
    text = row.error.__doc__ or getattr(row.error, "message", None) or row.text
    fixed = "" if row.own_text else f" *{row.text}*"
    return _literals(text.splitlines()[0]) + fixed


def checkout() -> pathlib.Path:
    """Return the directory that the package was imported from."""
    return pathlib.Path(inspect.getfile(glance)).resolve().parent.parent


def pages() -> dict[str, str]:
    """Return every generated page as path below the checkout -> text."""
    readers.load_options()
    pipelines = checkout() / "etc" / "pipelines"
    samples = {
        program.sample: sample(
            program, config.GROUPS, (pipelines / f"{program.file}.ini").read_text("utf-8")
        )
        for program in PROGRAMS
    }
    return {
        **samples,
        "doc/source/reference/options.rst": options_page(config.GROUPS),
        "doc/source/reference/errors.rst": errors_page(httperror.TABLE),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages into the checkout that the package was imported from; return 0."""
    arguments = sys.argv[1:] if argv is None else argv
    root = pathlib.Path(arguments[0]) if arguments else checkout()
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

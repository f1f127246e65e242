"""The option table: each option is declared once, next to the code that reads it.

A module declares its options with `options(...)`; a program builds one `Conf` from the strings of
its paste configuration and passes it on. `Conf` converts by the table, supports attribute and
mapping access, and never changes. `glance.cli.daemon.paste` finds and loads configuration files.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glance.common import exception, hosts, numbers, spelling

LOG = logging.getLogger(__name__)

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def boolean(text: str) -> bool:
    """Convert a word of a configuration file. Raises ValueError for an unknown word."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("use one of true, yes, on, 1, false, no, off, 0")


def path(text: str) -> str:
    """Convert a file name: `~` expanded. Relative names stay relative to the working directory."""
    return os.path.expanduser(text.strip())


def words(text: str) -> tuple[str, ...]:
    """Convert a list separated by commas or blanks."""
    return tuple(text.replace(",", " ").split())


def text(value: str) -> str:
    return value.strip()


def host(value: str) -> str:
    """Convert a host name or an address; an IPv6 address may have the brackets of a URL.

    Raises ValueError for text with more parts of a URL.
    """
    if "@" in value or "/" in value or len(value.split()) > 1:
        # SECURITY: what is before the @ would be shown with the host wherever it is named.
        raise ValueError("use a host name or an address only")
    return hosts.bare(value)


def url(value: str) -> str:
    """Convert the URL of a service: http or https, with a host."""
    value = value.strip()
    try:
        parts = urllib.parse.urlsplit(value)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_whole = False
    if not is_whole or len(value.split()) > 1:
        raise ValueError("use a URL such as http://host:port")
    return value


def integer(value: str) -> int:
    number = numbers.signed(value.strip())
    if number is None:
        raise ValueError("use a whole number")
    return number


def port(value: str) -> int:
    """Convert a port number. The resolver would accept a larger one modulo 65536."""
    number = integer(value)
    if not 0 <= number <= 65535:
        raise ValueError("use a port number from 0 to 65535")
    return number


def real(value: str) -> float:
    number = numbers.real(value.strip())
    if number is None:
        raise ValueError("use a number")
    return number


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: its name, type, default and help text.

    `type` turns the text of a file into a value and raises ValueError with a hint. `default` is a
    typed value; `unset` options have None. `minimum` bounds numbers. `aliases` are other names
    that old files use. An option that is not `in_files` works on the command line only. Set to
    nothing, an option has its default, unless it `may_be_empty`. `help` is one sentence for an
    operator.
    """

    name: str
    type: Callable[[str], Any] = text
    default: Any = None
    help: str = ""
    unit: str = ""
    secret: bool = False
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    aliases: tuple[str, ...] = ()
    since: str = "1.0"
    in_files: bool = True
    may_be_empty: bool = False

    def convert(self, raw: Any) -> Any:
        """Return the typed value of `raw`. Raises ValueError, which says what to write instead."""
        value = self.type(raw) if isinstance(raw, str) else raw
        if self.choices and value not in self.choices:
            raise ValueError(f"use one of {', '.join(map(str, self.choices))}")
        if self.minimum is not None and value is not None and value < self.minimum:
            raise ValueError(f"use a number of at least {self.minimum:g}")
        return value


TABLE: dict[str, Option] = {}
GROUPS: dict[str, list[Option]] = {}
_ALIASES: dict[str, str] = {}
_GROUP_OF: dict[str, str] = {}

#: Names that paste adds to the settings of a file.
_PASTE_NAMES = frozenset({"here", "__file__"})


def options(group: str, *declared: Option) -> tuple[Option, ...]:
    """Add options to the table, under a heading of the reference; return them.

    Declaring a name twice is a programming error: one module owns an option.
    """
    for option in declared:
        if option.name in TABLE:
            raise ValueError(f"option {option.name} is declared twice")
        TABLE[option.name] = option
        GROUPS.setdefault(group, []).append(option)
        _GROUP_OF[option.name] = group
        for alias in option.aliases:
            _ALIASES[alias] = option.name
    return declared


class Conf(Mapping[str, Any]):
    """The settings of one program: typed, immutable, by attribute or by key.

    Unset options have their default, and so have those that are set to nothing, unless they
    `may_be_empty`. Names that no module declared have the raw text of the file, so that sections
    of other filters can be read. Values are converted at first use; `check` converts everything
    and reports all problems at once, `report` logs what is suspicious but no error.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, *, source: str = "configuration"):
        self._raw, self._ignored, self._names = _by_owner(values or {})
        self._typed: dict[str, Any] = {}
        self.source = source

    def __getitem__(self, name: str) -> Any:
        try:
            return self._typed[name]
        except KeyError:
            pass
        option = TABLE.get(_ALIASES.get(name, name))
        if option is None:
            return self._raw[name]
        raw = self._raw.get(option.name, option.default)
        if _is_empty(option.name, raw):
            raw = option.default
        try:
            value = option.convert(raw) if raw is not None else None
        except ValueError as err:
            raise exception.ConfigError(self._problem(option, raw, err)) from err
        self._typed[name] = value
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no option {name} is declared or set") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(set(TABLE) | set(self._raw)))

    def __len__(self) -> int:
        return len(set(TABLE) | set(self._raw))

    def __contains__(self, name: object) -> bool:
        return name in self._raw or name in TABLE

    def is_set(self, name: str) -> bool:
        """Return whether the file, not the default, sets `name`."""
        return self._raw.get(name) not in (None, "")

    def replace(self, **values: Any) -> Conf:
        """Return a copy with some settings replaced (typed values or text)."""
        return self.merged(values, self.source)

    def merged(self, values: Mapping[str, Any], source: str) -> Conf:
        """Return a copy in which `values` win, under any name or alias, for a part of a program.

        An empty value does not change the setting.
        """
        own, ignored, names = _by_owner(values)
        own = {name: value for name, value in own.items() if not _is_empty(name, value)}
        copy = Conf({**self._raw, **own}, source=source)
        copy._ignored = {**self._ignored, **ignored}
        before = {name: said for name, said in self._names.items() if name not in own}
        copy._names = {**before, **names}
        return copy

    def redone(self) -> Conf:
        """Return a copy that knows the options which have been declared since.

        It is for the settings of a file.
        """
        copy = Conf({self._names.get(name, name): raw for name, raw in self._raw.items()})
        copy.source = self.source
        copy._ignored = {**copy._ignored, **self._ignored}
        return copy

    def overridden(self, values: Mapping[str, Any], words: Mapping[str, str]) -> Conf:
        """Return a copy in which typed values win that the command line has set.

        `words` are the options there, such as `--log-file`, by the names of those of the file.
        """
        copy = self.merged(values, self.source)
        copy._names |= {name: words[name] for name in values}
        return copy

    def at(self, name: str) -> str:
        """Return what an error about an option begins with: the file, and its name in the file.

        Of an option that the command line has set it is the name there.
        """
        said = self._names.get(name, name)
        return f"option {said}" if said.startswith("--") else f"{self.source}: option {said}"

    def check(self, reads: Callable[[str], bool] = lambda name: True) -> None:
        """Convert every option that the file sets. Raises ConfigError with all problems.

        Unknown names are no error (old files have many), and neither are those that the program
        does not read, of which `reads` is not true.
        """
        problems = []
        for name in filter(reads, sorted(self._raw)):
            try:
                self[name]
            except exception.ConfigError as err:
                problems.extend(err.problems)
        if problems:
            raise exception.ConfigError(problems)

    def unknown(self) -> list[str]:
        """Return the names in the file that no module has declared so far."""
        return sorted(set(self._raw) - set(TABLE) - set(_ALIASES) - _PASTE_NAMES)

    def names(self) -> list[str]:
        """Return the names of the options that the file sets."""
        return sorted(set(self._raw) - _PASTE_NAMES)

    def report(self, elsewhere: Mapping[str, str] | None = None) -> None:
        """Log settings that have no effect. A program calls this once, after setting up its log.

        A name that is one typing error away from a known one gets a warning, others a debug line.
        `elsewhere` are options that only another program reads, with the name of that program: a
        setting of those gets a warning.
        """
        for name, reason in self._ignored.items():
            LOG.warning("%s: option %s is ignored: %s", self.source, name, reason)
        others = elsewhere or {}
        for name in sorted(others.keys() & self._raw.keys()):
            LOG.warning(
                "%s has no effect here: set it in the file of %s", self.at(name), others[name]
            )
        for name in self.unknown():
            close = near(name)
            if close is not None:
                LOG.warning("%s: option %s is unknown; did you mean %s?", self.source, name, close)
            else:
                LOG.debug("%s: option %s is not one of glance's", self.source, name)

    def public(self) -> dict[str, Any]:
        """Return the raw settings for a debug dump, secrets masked."""
        return {
            name: mask(name, value)
            for name, value in sorted(self._raw.items())
            if name not in _PASTE_NAMES
        }

    def secrets(self) -> list[str]:
        """Return the names of the settings that are secret."""
        return [name for name, value in self._raw.items() if mask(name, value) != value]

    def _problem(self, option: Option, raw: Any, err: ValueError) -> str:
        shown = mask(option.name, raw)
        return f"{self.at(option.name)} has the invalid value {shown!r}: {err}"


def _by_owner(
    values: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Return settings under their options' names, what is ignored, and what stands in the file.

    That is name -> reason, and the option's name -> the old name that the file has.
    """
    raw: dict[str, Any] = {}
    ignored: dict[str, str] = {}
    said: dict[str, str] = {}
    for name, value in values.items():
        owner = _ALIASES.get(name, name)
        if owner == name or owner not in values:
            raw[owner] = value
            if owner != name:
                said[owner] = name
        elif values[owner] != value:
            ignored[name] = f"{owner} takes precedence"
    return raw, ignored, said


def _is_empty(name: str, raw: Any) -> bool:
    """Return whether a setting is a name without a value, which counts as unset."""
    if not isinstance(raw, str) or raw.strip():
        return False
    option = TABLE.get(name)
    return option is not None and not option.may_be_empty


def group_of(name: str) -> str | None:
    """Return the group of an option, under any of its names; None if it is not declared (yet)."""
    return _GROUP_OF.get(_ALIASES.get(name, name))


def near(name: str) -> str | None:
    """Return the option that is one typing error away from `name`, None if there is none."""
    return spelling.near(name, (*TABLE, *_ALIASES))


# -- secrets -------------------------------------------------------------------------------------

#: Matches names of secrets among declared options.
_SECRET = re.compile(r"password|secret|token$|key$", re.I)
#: Words of which one, or one that looks much like it, is part of the name of a secret.
_SECRET_WORDS = ("password", "passphrase", "passwd", "credential", "secret", "token")
_SHORT_SECRET_WORDS = ("key", "keys", "pwd", "pass")
#: Last words of names that describe a secret without being one.
_HARMLESS = frozenset({"file", "path", "dir", "directory", "life", "lifetime", "timeout", "size"})
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

#: A parameter of a query; a pair as in the connection strings of libpq and ODBC.
# PERF: clients choose texts that are masked, so both take time in proportion to the length.
_PARAMETER = re.compile(r"([?&])([^\s=&?;,]+)=([^&]+)")
_PAIR = re.compile(r"""(?:^|[\s;,])([^\s=&?;,'"]+)\s*=\s*""")
_PAIR_VALUE = re.compile(r"""'(?:\\.|[^'\\])*'?|"[^"]*"?|\S+""")
#: What stands for `://` in a URL that was mistyped.
_ALMOST_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:[:;]?/{1,2}|:(?=[^@:]*:)|[:;]?\\{1,2})")


def is_secret(name: str) -> bool:
    """Return whether an option is secret: declared so, or unknown with a name that looks so."""
    option = TABLE.get(_ALIASES.get(name, name))
    if option is not None:
        return option.secret or _SECRET.search(name) is not None
    return _looks_secret(name)


def _looks_secret(name: str) -> bool:
    parts = [part.lower() for part in _NAME_PARTS.findall(name)]
    if not parts or parts[-1] in _HARMLESS:
        return False
    joined = "".join(parts)
    return (
        joined.endswith(("key", "keys", "pass", "creds"))
        or any(word in joined for word in _SECRET_WORDS)
        or any(_is_like(part, word) for part in parts for word in _SECRET_WORDS)
        or any(spelling.is_one_edit(word, part) for part in parts for word in _SHORT_SECRET_WORDS)
    )


def _is_like(part: str, word: str) -> bool:
    """Return whether a word is at most two typing errors away from another one."""
    if abs(len(part) - len(word)) > 2:
        return False
    before: list[int] = []
    row = list(range(len(word) + 1))
    for i, letter in enumerate(part, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(word, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and (letter, part[i - 2]) == (word[j - 2], other):
                best = min(best, above[j - 2] + 1)
            row.append(best)
    return row[-1] <= (1 if len(word) < 6 else 2)


def mask(name: str, value: Any) -> Any:
    """Return the value of an option as it may be shown: asterisks for all that is secret."""
    if is_secret(name):
        return "***" if value else value
    return mask_url(value) if isinstance(value, str) else value


def mask_url(url: str) -> str:
    """Return a URL, or another text that says how to connect, with asterisks for passwords.

    They are recognized in the user part and in the query of a URL (RFC 3986, sections 3.2.1 and
    3.4), also if the URL is mistyped, and in strings of the form `name=value name='value'`.
    """
    url = _mask_pairs(_PARAMETER.sub(_mask_parameter, url))
    start = url.find("://") + 3
    user, at, host = url.rpartition("@")
    if start > 2 and not user[:start].endswith("://"):
        user, at, host = "", "", url
    if at:
        if start < 3:
            almost = _ALMOST_SCHEME.match(user)
            start = almost.end() if almost else 0
        name, colon, _ = user[start:].partition(":")
        if not colon and re.search(r"[\s;,|]", name):
            return f"{user[:start]}***@{host}"
        return f"{user[:start]}{name}{colon}{'***' if colon else ''}@{host}"
    if start > 2:
        name, colon, port = re.split(r"[/?#]", url[start:], maxsplit=1)[0].partition(":")
        if colon and port and not name.startswith("[") and not port.isdecimal():
            return f"{url[:start]}{name}:***"
    return url


def mask_text(text: str) -> str:
    """Return a message with asterisks for the passwords of URLs and connection strings in it."""
    return re.sub(r"\S+", _mask_word, _mask_pairs(text))


def _mask_word(found: re.Match[str]) -> str:
    word = found[0]
    return mask_url(word) if "@" in word or "://" in word else word


def _mask_parameter(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    return f"{before}{name}={'***' if _looks_secret(name) else value}"


def _mask_pairs(text: str) -> str:
    shown, position = "", 0
    for found in _PAIR.finditer(text):
        value = _PAIR_VALUE.match(text, found.end())
        if value and found.start() >= position and _looks_secret(found[1]):
            shown += f"{text[position : value.start()]}***"
            position = value.end()
    return shown + text[position:]


def from_file(values: Mapping[str, Any], source: str) -> Conf:
    """Return the `Conf` of a file's `[DEFAULT]`, without options that are not for files."""
    barred = {name for name in values if name in TABLE and not TABLE[name].in_files}
    conf = Conf({k: v for k, v in values.items() if k not in barred}, source=source)
    conf._ignored |= dict.fromkeys(sorted(barred), "it can only be set on the command line")
    return conf


def from_paste(global_conf: Mapping[str, Any], local_conf: Mapping[str, Any]) -> Conf:
    """Return the `Conf` of a paste factory: its own section wins over `[DEFAULT]`."""
    source = str(global_conf.get("__file__", "configuration"))
    return Conf(global_conf, source=source).merged(local_conf, source)

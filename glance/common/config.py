"""The option table: each option is declared once, beside the code that reads it.

A module declares its options with `options(...)`; a program builds one `Conf` from the strings of
its paste configuration and hands it down. `Conf` converts by the table, answers attribute and
mapping access, and never changes. Finding and loading a configuration file is the work of
`glance.common.deploy`.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from glance.common import exception

LOG = logging.getLogger(__name__)

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def boolean(text: str) -> bool:
    """Convert a word of a configuration file; ValueError for a word that is neither."""
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


def integer(value: str) -> int:
    try:
        return int(value.strip())
    except ValueError:
        raise ValueError("use a whole number") from None


def real(value: str) -> float:
    try:
        return float(value.strip())
    except ValueError:
        raise ValueError("use a number") from None


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: its name, type, default and what an operator should know about it.

    `type` turns the text of a file into a value and raises ValueError with a hint. `default` is a
    typed value; `unset` options have None. `minimum` bounds numbers. `aliases` are other names
    that old files use. `help` is one sentence for an operator.
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

    def convert(self, raw: Any) -> Any:
        """Return the typed value of `raw`; ValueError says what to write instead."""
        value = self.type(raw) if isinstance(raw, str) else raw
        if self.choices and value not in self.choices:
            raise ValueError(f"use one of {', '.join(map(str, self.choices))}")
        if self.minimum is not None and value is not None and value < self.minimum:
            raise ValueError(f"use a number not below {self.minimum:g}")
        return value


TABLE: dict[str, Option] = {}
GROUPS: dict[str, list[Option]] = {}
_ALIASES: dict[str, str] = {}


def options(group: str, *declared: Option) -> tuple[Option, ...]:
    """Enter options into the table, under a heading of the reference; return them.

    Declaring a name twice is a programming error: an option has one owner.
    """
    for option in declared:
        if option.name in TABLE:
            raise ValueError(f"option {option.name} is declared twice")
        TABLE[option.name] = option
        GROUPS.setdefault(group, []).append(option)
        for alias in option.aliases:
            _ALIASES[alias] = option.name
    return declared


class Conf(Mapping[str, Any]):
    """The settings of one program: typed, immutable, by attribute or by key.

    Unset options answer with their default. Names that no module declared answer with the raw
    text of the file, so that sections of foreign filters can be read. Conversion happens at first
    use; `check` converts everything and reports all problems at once.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, *, source: str = "configuration"):
        raw: dict[str, Any] = {}
        for name, value in (values or {}).items():
            owner = _ALIASES.get(name, name)
            if owner != name and owner in (values or {}):
                if (values or {})[owner] != value:
                    LOG.warning("Option %s is ignored: %s is set too and wins.", name, owner)
                continue
            raw[owner] = value
        self._raw = raw
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
        if isinstance(raw, str) and not raw.strip() and option.type is not text:
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
        """Tell whether the file (not the default) gives `name` a value."""
        return self._raw.get(name) not in (None, "")

    def with_(self, **values: Any) -> Conf:
        """Return a copy with some settings replaced (typed values or text)."""
        return Conf({**self._raw, **values}, source=self.source)

    def check(self, names: Iterable[str] = ()) -> None:
        """Convert every option that the file sets, and `names`; raise ConfigError with all faults.

        Unknown names never fail (old files carry many): those one slip away from a known name are
        warned of, the others noted at debug level.
        """
        problems = []
        for name in sorted(set(self._raw) | set(names)):
            if name not in TABLE:
                self._note_unknown(name)
                continue
            try:
                self[name]
            except exception.ConfigError as err:
                problems.extend(err.problems)
        if problems:
            raise exception.ConfigError(problems)

    def public(self) -> dict[str, Any]:
        """Return the raw settings for a debug dump, secrets masked."""
        return {name: mask(name, value) for name, value in sorted(self._raw.items())}

    def _problem(self, option: Option, raw: Any, err: ValueError) -> str:
        shown = mask(option.name, raw)
        return f"{self.source}: option {option.name} has the unusable value {shown!r}: {err}"

    def _note_unknown(self, name: str) -> None:
        close = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.9)
        if close and name not in ("here", "__file__"):
            LOG.warning("%s: option %s is unknown; is %s meant?", self.source, name, close[0])
        else:
            LOG.debug("%s: option %s is not one of glance's", self.source, name)


def mask(name: str, value: Any) -> Any:
    """Return `value`, or asterisks for a secret; a password inside a URL is cut out."""
    option = TABLE.get(name)
    lowered = name.lower()
    if option is not None and option.secret and "://" not in str(value):
        return "***" if value else value
    if option is None and any(part in lowered for part in ("password", "secret", "token")):
        return "***"
    if option is None and lowered.endswith("key"):
        return "***"
    if isinstance(value, str) and "://" in value:
        return mask_url(value)
    return value


def mask_url(url: str) -> str:
    """Return `url` with the password of its user part replaced by asterisks."""
    scheme, sep, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not at:
        return url
    name, colon, _ = user.partition(":")
    return f"{scheme}{sep}{name}{colon}{'***' if colon else ''}@{host}"


def from_paste(global_conf: Mapping[str, Any], local_conf: Mapping[str, Any]) -> Conf:
    """Return the `Conf` of a paste factory: its own section wins over `[DEFAULT]`."""
    source = os.path.basename(str(global_conf.get("__file__", "configuration")))
    return Conf({**global_conf, **local_conf}, source=source)

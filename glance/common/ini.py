"""The syntax of configuration files: that of Python 2, for which Diablo's files were written.

`ConfigParser` of Python 2.7 differs from that of Python 3 in these points:

- A value ends before the first semicolon if a blank or tab stands before that. The first one
  decides: `a;b ; c` is the whole value, and so is a password with a semicolon in it. Only the
  first line of a value is cut; `#` begins a comment at the beginning of a line only.
- A line whose first word is `rem`, in any case and not indented, is a comment.
- The value `""` is empty.
- The name of a section ends at the first closing bracket; what follows is ignored.

A byte order mark at the beginning of the file, which editors of Windows write, is ignored.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Iterator
from typing import Any

_OPTION = r"""
    (?P<option>.*?)\s*
    (?P<vi>[=:])\s*+
    (?P<value>
        (?=;(?:\s|$))           # nothing but a comment
        | (?=""(?:\s*$|\s+;))   # nothing in quotation marks
        | (?:[^;\s]++|\s++(?!;|$))*+(?=\s+;|\s*$)   # up to a comment, or to the end
        | .*                    # the first semicolon is part of the value
    )
    .*$
"""


class IniParser(configparser.ConfigParser):
    """A parser of configuration files. Use `read_path`, or `read_file` with an open text file."""

    SECTCRE = re.compile(r"\[(?P<header>[^]]+)\]")
    OPTCRE = re.compile(_OPTION, re.VERBOSE)

    def read_path(self, path: str) -> None:
        """Read a file in UTF-8. Raises OSError, UnicodeDecodeError, configparser.Error."""
        with open(path, encoding="utf-8-sig") as stream:
            self.read_file(stream)

    def read_file(self, f: Iterable[str], source: str | None = None) -> None:
        """Read the lines of a file, whose name is for errors. Raises configparser.Error."""
        name = source or getattr(f, "name", "<???>")
        super().read_file(_without_remarks(f), name)

    def optionxform(self, optionstr: str) -> Any:
        """Return the name of an option: the case of its letters matters."""
        return optionstr


def describe(err: Exception) -> str:
    """Return one line about an error of reading a file.

    SECURITY: the texts of configparser quote lines of the file, which may hold passwords.
    """
    if isinstance(err, configparser.MissingSectionHeaderError):
        return f"line {err.lineno} is before the first line of the form [section]"
    if isinstance(err, configparser.ParsingError):
        numbers = ", ".join(str(number) for number, _ in err.errors)
        return f"not of the form name = value: line {numbers}"
    if isinstance(err, UnicodeDecodeError):
        return f"it is not UTF-8: {err.reason} at byte {err.start}"
    return (isinstance(err, OSError) and err.strerror) or " ".join(str(err).split())


def _without_remarks(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        words = line.split(None, 1)
        is_remark = bool(words) and words[0].lower() == "rem" and not line[0].isspace()
        yield "#\n" if is_remark else line

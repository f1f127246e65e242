"""A page of a list as the JSON document of version 1 of the Images API.

PERF: written column by column. To make a mapping of each row and have it encoded takes 2.5 times
as long. The result is, byte for byte, what `json.dumps` makes of the mappings that
`glance.image.fields.to_public_json` returns; a test compares the two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from glance.image import fields
from glance.registry.db import lenient

Writer = Callable[[Sequence[Any]], Iterable[str]]

#: The longest text of properties that is remembered, in characters.
_SHORT = 512
_BOOLEANS = {True: "true", False: "false"}


def document(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return the document with these rows, each with the values of `columns`, as they are stored.

    Properties may be a mapping, or the text of a JSON object.
    """
    if not rows:
        return b'{"images": []}'
    written = [
        _WRITERS.get(name, _plain)(values)
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    images = map(_template(tuple(columns)).__mod__, zip(*written, strict=True))
    return f'{{"images": [{", ".join(images)}]}}'.encode("ascii")


@functools.lru_cache(maxsize=16)
def _template(columns: tuple[str, ...]) -> str:
    return "{" + ", ".join(f'"{name}": %s' for name in columns) + "}"


def _dumps(value: Any) -> str:
    return json.dumps(value, default=lenient.text, check_circular=False)


# -- columns -------------------------------------------------------------------------------------


def _plain(values: Sequence[Any]) -> Iterable[str]:
    """Return the JSON of values that almost always have one type, or two: any, and none."""
    kinds = set(map(type, values))
    if len(kinds) == 1:
        kind = kinds.pop()
        if kind is str:
            return map(encode_basestring_ascii, values)
        if kind is int:
            return map(repr, values)
        if kind is bool:
            return map(_BOOLEANS.__getitem__, values)
        if values[0] is None:
            return ["null"] * len(values)
    return ["null" if value is None else _dumps(value) for value in values]


def _statuses(values: Sequence[Any]) -> Iterable[str]:
    return _plain([fields.v1_status(value) for value in values])


@functools.lru_cache(maxsize=4096)
def _time(value: Any) -> str:
    return _dumps(fields.timestamp(value))


def _times(values: Sequence[Any]) -> Iterable[str]:
    return map(_time, values)


def _read(value: Any) -> str:
    if isinstance(value, str):
        value = lenient.read_json(value)
    return _dumps(lenient.fold_names(value or {}))


# PERF: a page has, most often, images that an earlier page had.
_read_again = functools.lru_cache(maxsize=1024)(_read)


def _properties(values: Sequence[Any]) -> Iterable[str]:
    return [
        _read_again(value) if type(value) is str and len(value) <= _SHORT else _read(value)
        for value in values
    ]


_WRITERS: dict[str, Writer] = {
    **dict.fromkeys(("created_at", "updated_at", "deleted_at"), _times),
    "status": _statuses,
    "properties": _properties,
}

"""Pages that are written column by column are what `json.dumps` makes of their records."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glance.image import fields
from glance.registry.db import lenient, page_json

COLUMNS = ("name", "status", "created_at", "properties")

#: What a column can hold, above all one of SQLite.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(),
    st.binary(max_size=9),
    st.sampled_from(["", "%s", "%", '"', "\\", "\u2028", "\ud800", "\x7f", "é", "😀", "x" * 999]),
)
PROPERTIES = st.dictionaries(
    st.sampled_from(["a", "A", "b", "%s", "é", "É", "", "x" * 600]),
    st.one_of(st.none(), st.text()),
)
ROWS = st.lists(
    st.tuples(
        VALUES,
        st.sampled_from(fields.STATUSES),
        st.one_of(st.none(), st.datetimes()),
        st.one_of(st.none(), PROPERTIES),
    ),
    max_size=4,
)


def expected(rows: list[tuple[Any, ...]]) -> bytes:
    """Return what the records are as JSON, by way of mappings."""
    shown = []
    for row in rows:
        image: Any = dict(zip(COLUMNS, row, strict=True))
        image["properties"] = lenient.fold_names(image["properties"] or {})
        shown.append(fields.to_public_json({**image, "location": "file:///x"}))
    return json.dumps({"images": shown}, default=lenient.text).encode()


@settings(max_examples=60, deadline=None)
@given(ROWS, st.booleans())
def test_a_page_is_what_json_dumps_makes_of_its_records(
    rows: list[tuple[Any, ...]], as_text: bool
) -> None:
    stored = rows
    if as_text:
        dumped = [None if row[3] is None else json.dumps(row[3]) for row in rows]
        stored = [(*row[:3], text) for row, text in zip(rows, dumped, strict=True)]
    assert page_json.document(COLUMNS, stored) == expected(rows)


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**62, 1.5, math.inf, "x", b"\xff"])
@pytest.mark.parametrize("other", [None, True, 7, "y"])
def test_a_column_may_have_values_of_any_types(value: Any, other: Any) -> None:
    rows = [(1, value), (2, value), (3, other)]
    images = [{"id": number, "name": name} for number, name in rows]
    for count in range(4):
        page = page_json.document(("id", "name"), rows[:count])
        wanted = json.dumps({"images": images[:count]}, default=lenient.text)
        assert page.decode() == wanted


def test_large_properties_are_not_remembered() -> None:
    before = page_json._read_again.cache_info().currsize
    for number in range(3):
        text = json.dumps({"a": f"{number}" * 1000})
        assert text.encode() in page_json.document(("properties",), [(text,)])
    assert page_json._read_again.cache_info().currsize == before


def test_times_have_six_digits() -> None:
    noon = datetime.datetime(2011, 9, 22, 12)
    page = page_json.document(("created_at", "deleted_at"), [(noon, None)])
    assert page == (
        b'{"images": [{"created_at": "2011-09-22T12:00:00.000000", "deleted_at": null}]}'
    )

"""The parameters of a list of version 2, and what they mean."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception
from glance.image import search

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
NOON = datetime.datetime(2020, 1, 2, 12)
SECOND = datetime.timedelta(seconds=1)


def parse(*pairs: tuple[str, str]) -> search.SearchQuery:
    return search.parse(pairs)


def test_without_parameters_the_newest_images_come_first() -> None:
    query = parse()
    assert query.sort == (("created_at", True),)
    assert (query.visibility, query.member_status, query.os_hidden) == (None, "accepted", False)
    assert (query.limit, query.marker) == (None, None)


# -- lists of values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("in:a,b", ("a", "b")),
        ('in:"b,c",a', ("b,c", "a")),
        (r'in:"say \"x\"","a\\b"', ('say "x"', "a\\b")),
        (r'in:"a\b"', ("a\\b",)),
        ('in:"in:z"', ("in:z",)),
        ("in:in:z", ("in:z",)),
        ("in:", ()),
        ("in:a,a", ("a",)),
        ('in:""', ("",)),
        ('in:" a"', (" a",)),
        ("in:\u00e4,\U0001f600", ("\u00e4", "\U0001f600")),
    ],
)
def test_a_list_of_values(text: str, values: tuple[str, ...]) -> None:
    query = parse(("name", text))
    assert query.among == {"name": values}
    assert query.equal == {}


@pytest.mark.parametrize("text", ['in:"a', 'in:a"b', 'in:"a"b', 'in:"a\\"', 'in:"', 'in:a,"b'])
def test_a_list_with_a_misplaced_quote_is_refused(text: str) -> None:
    with pytest.raises(exception.Invalid, match="name"):
        parse(("name", text))


def test_a_list_has_at_most_two_hundred_values() -> None:
    values = [str(n) for n in range(200)]
    assert len(parse(("name", "in:" + ",".join(values))).among["name"]) == 200
    with pytest.raises(exception.Invalid, match="at most 200"):
        parse(("name", "in:" + ",".join([*values, "x"])))


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))), max_size=9)
)
def test_quoted_values_come_back(values: list[str]) -> None:
    quoted = [
        '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in dict.fromkeys(values)
    ]
    found = parse(("name", "in:" + ",".join(quoted))).among["name"]
    assert found == tuple(dict.fromkeys(values))


def test_only_some_filters_take_lists() -> None:
    query = parse(("owner", "in:a,b"), ("os", "in:a,b"), ("tag", "in:a"))
    assert query.equal == {"owner": "in:a,b"}
    assert query.properties == {"os": "in:a,b"}
    assert query.tags == ("in:a",)


def test_ids_are_compared_in_lower_case() -> None:
    assert parse(("id", UUID.upper())).equal == {"id": UUID}
    assert parse(("id", f"in:{UUID.upper()},{UUID}")).among == {"id": (UUID,)}


# -- other filters -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "1"])
def test_words_of_booleans(word: str) -> None:
    assert parse(("protected", word)).equal == {"protected": True}
    assert parse(("os_hidden", word)).os_hidden is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protected", "yes"),
        ("protected", ""),
        ("os_hidden", "zz"),
        ("visibility", "Public"),
        ("visibility", ""),
        ("member_status", "maybe"),
        ("min_ram", "a"),
        ("min_ram", ""),
        ("min_disk", "1.5"),
        ("size", "-1"),
        ("size_min", "x"),
        ("size_max", "9" * 30),
        ("size", "\u0661"),
        ("changes-since", "2020-01-01"),
        ("limit", "-1"),
        ("limit", "a"),
        ("limit", ""),
        ("limit", "1.0"),
        ("marker", ""),
        ("marker", "7"),
        ("marker", UUID + "0"),
        ("name", "a\x00b"),
        ("a\x00b", "x"),
        ("tag", "\x07"),
        ("created_at", "near:2020-01-01"),
        ("created_at", "gt:"),
        ("created_at", ""),
        ("created_at", "gt:yesterday"),
        ("updated_at", "GT:2020-01-01"),
        ("updated_at", "0001-01-01T00:00:00+10:00"),
        ("sort", ""),
        ("sort", "name:up"),
        ("sort", "name:"),
        ("sort", "name:asc:desc"),
        ("sort", "name,"),
        ("sort", "color"),
        ("sort", "name:ASC"),
        ("sort_key", "tags"),
        ("sort_key", ""),
        ("sort_dir", "up"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(name: str, value: str) -> None:
    with pytest.raises(exception.Invalid) as caught:
        parse((name, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_unknown_sort_key_is_answered_by_all_keys() -> None:
    with pytest.raises(exception.Invalid) as caught:
        parse(("sort_key", "color"))
    assert all(key in str(caught.value) for key in search.SORTABLE)
    assert len(search.SORTABLE) == 14


def test_every_other_parameter_is_a_property() -> None:
    pairs = (("is_public", "x"), ("deleted", "true"), ("page", "2"), ("Os", "A"), ("os", ""))
    assert parse(*pairs).properties == dict(pairs)


def test_filters_are_bounded() -> None:
    for name, more in (
        ("tag", lambda n: ("tag", str(n))),
        ("properties", lambda n: (f"p{n}", "")),
        ("created_at", lambda n: ("created_at", f"neq:2020-01-01T00:00:{n:02}Z")),
        ("updated_at", lambda n: ("updated_at", f"gte:2020-01-01T00:00:{n:02}Z")),
    ):
        parse(*(more(n) for n in range(32)))
        with pytest.raises(exception.Invalid, match=f"{name}.*at most 32"):
            parse(*(more(n) for n in range(33)))


def test_the_last_of_repeated_parameters_counts_but_all_tags_do() -> None:
    query = parse(("name", "a"), ("tag", "x"), ("name", "b"), ("tag", "y"), ("tag", "x"))
    assert query.equal == {"name": "b"}
    assert query.tags == ("x", "y")


# -- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2020-01-02T12:00:00Z", NOON, NOON + SECOND),
        ("eq:2020-01-02T12:00:00.7", NOON, NOON + SECOND),
        ("gt:2020-01-02T12:00:00", NOON + SECOND, None),
        ("gte:2020-01-02T14:00:00+02:00", NOON, None),
        ("gte:2020-01-02T14:00:00 02:00", NOON, None),
        ("lt:2020-01-02T12:00:00", None, NOON),
        ("lte:2020-01-02T12:00:00", None, NOON + SECOND),
        ("lt:2020-01-03", None, datetime.datetime(2020, 1, 3)),
        ("gt:9999-12-31T23:59:59", datetime.datetime.max, None),
    ],
)
def test_a_time_is_a_span_of_whole_seconds(text: str, since: Any, until: Any) -> None:
    query = parse(("created_at", text))
    assert query.spans == {"created_at": search.Span(since, until)}
    assert query.outside == ()


def test_times_that_are_repeated_all_count() -> None:
    query = parse(
        ("updated_at", "gte:2020-01-01"),
        ("updated_at", "lt:2020-01-03"),
        ("updated_at", "gte:2020-01-02"),
        ("updated_at", "neq:2020-01-02T12:00:00"),
    )
    days = datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 3)
    assert query.spans == {"updated_at": search.Span(*days)}
    assert query.outside == (("updated_at", search.Span(NOON, NOON + SECOND)),)


# -- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "sort"),
    [
        ([("sort", "name")], (("name", True),)),
        ([("sort", "name:asc,size:desc,id")], (("name", False), ("size", True), ("id", True))),
        ([("sort", "name:asc,name:desc")], (("name", False),)),
        ([("sort", "name"), ("sort", "size:asc")], (("size", False),)),
        ([("sort_key", "name")], (("name", True),)),
        ([("sort_key", "name"), ("sort_key", "id")], (("name", True), ("id", True))),
        (
            [("sort_key", "name"), ("sort_key", "id"), ("sort_dir", "asc")],
            (("name", False), ("id", False)),
        ),
        (
            [("sort_dir", "asc"), ("sort_key", "name"), ("sort_dir", "desc"), ("sort_key", "id")],
            (("name", False), ("id", True)),
        ),
        ([("sort_dir", "asc")], (("created_at", False),)),
    ],
)
def test_both_ways_to_ask_for_an_order(pairs: Any, sort: Any) -> None:
    assert parse(*pairs).sort == sort


@pytest.mark.parametrize(
    "pairs",
    [
        [("sort", "name"), ("sort_key", "name")],
        [("sort", "name"), ("sort_dir", "asc")],
        [("sort_key", "name"), ("sort_dir", "asc"), ("sort_dir", "asc")],
        [("sort_key", "a")] * 3 + [("sort_dir", "asc")] * 2,
    ],
)
def test_an_order_that_is_ambiguous_is_refused(pairs: Any) -> None:
    with pytest.raises(exception.Invalid):
        parse(*pairs)


# -- the way to the registry ---------------------------------------------------------------------


def test_a_query_arrives_as_it_was_sent() -> None:
    query = parse(
        ("tag", "a&b"), ("tag", "\u00e4"), ("name", 'in:"x,y",z'), ("created_at", "gt:2020-01-01")
    )
    assert search.from_wire(query.to_wire()) == query


@pytest.mark.parametrize(
    "text",
    ["", "{}x", "7", "null", '["ab", 7]', "[[1, 2]]", '[["a"]]', '[["limit", "x"]]', "[" * 50_000],
)
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(exception.Invalid):
        search.from_wire(text)


def test_two_letters_are_no_pair() -> None:
    with pytest.raises(exception.Invalid):
        search.from_wire(json.dumps(["ab"]))

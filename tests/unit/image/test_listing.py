"""The grammar of list parameters."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception, httperror
from glance.image import listing


def parse(is_admin=True, **params):
    return listing.parse(
        {name.replace("__", "-"): value for name, value in params.items()}, is_admin=is_admin
    )


def test_unknown_parameters_are_ignored_whatever_they_hold():
    assert parse(unheard="\0") == parse()


@pytest.mark.parametrize("name", ["property__a\0", "property__\n"])
def test_a_property_name_with_control_characters_is_refused(name):
    with pytest.raises(exception.Invalid):
        parse(**{name: "1"})


def test_defaults():
    query = parse()
    assert (query.limit, query.sort_key, query.sort_dir) == (25, "created_at", "desc")
    assert (query.is_public, query.deleted, query.include_killed) == (True, False, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", ""),
        ("limit", "-1"),
        ("limit", "a"),
        ("limit", "1.0"),
        ("marker", ""),
        ("marker", "a"),
        ("marker", "01"),
        ("marker", "٧"),
        ("limit", "1_0"),
        ("limit", "+1"),
        ("limit", " 1"),
        ("size_min", "²"),
        ("sort_key", ""),
        ("sort_key", "owner"),
        ("sort_dir", ""),
        ("sort_dir", "up"),
        ("size_min", "x"),
        ("size_max", "-1"),
        ("min_ram", "x"),
        ("min_disk", ""),
        ("min_disk", str(2**63)),
        ("is_public", ""),
        ("is_public", "maybe"),
        ("protected", "maybe"),
        ("changes__since", "yesterday"),
        ("changes__since", ""),
        ("name", "a\x00b"),
    ],
)
@pytest.mark.parametrize("is_admin", [True, False])
def test_bad_values_are_refused_for_everybody(name, value, is_admin):
    with pytest.raises(exception.Invalid):
        parse(is_admin, **{name: value})


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("true", True), ("1", True), ("False", False), ("0", False), ("None", None)],
)
def test_is_public_is_for_administrators(word, meaning):
    assert parse(True, is_public=word).is_public is meaning
    assert parse(False, is_public=word).is_public is True


def test_deleted_is_for_administrators():
    assert parse(True, deleted="true").deleted is True
    assert parse(True, deleted="true").include_killed is True
    assert parse(False, deleted="true").deleted is False


def test_limit_is_capped():
    assert parse(limit="5000").limit == 1000
    assert parse(limit="0").limit == 0


@pytest.mark.parametrize(
    "text",
    [
        "2011-09-22T10:00:00Z",
        "2011-09-22T12:00:00+02:00",
        "2011-09-22T12:00:00 02:00",
        "2011-09-22T10:00:00",
    ],
)
def test_changes_since_is_utc_and_shows_deleted_and_killed(text):
    query = parse(changes__since=text)
    assert query.changes_since == datetime.datetime(2011, 9, 22, 10)
    assert (query.deleted, query.include_killed) == (None, True)


def test_property_names_are_folded_like_header_names():
    assert parse(**{"property-K-One": "a b"}).properties == {"k_one": "a b"}


def test_unknown_parameters_are_neither_forwarded_nor_refused():
    params = {"frobnicate": "1", "name": "x", "property-a": "b", "limit": "3"}
    assert listing.forwardable(params) == {"name": "x", "property-a": "b", "limit": "3"}
    assert listing.parse(params, is_admin=False).filters == {"name": "x"}


PARAMS = st.dictionaries(
    st.one_of(
        st.sampled_from(sorted(listing.RECOGNISED)),
        st.text(max_size=10).map("property-".__add__),
        st.text(max_size=10),
    ),
    st.text(max_size=30),
    max_size=6,
)


@given(PARAMS, st.booleans())
def test_any_parameters_are_parsed_or_refused(params, is_admin):
    try:
        query = listing.parse(params, is_admin=is_admin)
    except exception.Invalid as err:
        assert "\n" not in httperror.text_of(err)
    else:
        assert 0 <= query.limit <= 1000


@pytest.mark.parametrize("more", [{}, {"name": "x", "limit": "3", "unheard": "y"}], ids=str)
def test_a_request_may_filter_by_so_many_properties(more):
    names = [f"property-p{number}" for number in range(listing.MAX_PROPERTY_FILTERS)]
    params = {**dict.fromkeys(names, "1"), **more}
    assert len(listing.parse(params, is_admin=False).properties) == listing.MAX_PROPERTY_FILTERS
    one_more = {**params, "property-q": "1"}
    for function in (listing.forwardable, lambda each: listing.parse(each, is_admin=False)):
        with pytest.raises(exception.Invalid, match="filters by 33 properties; at most 32"):
            function(one_more)


def test_names_that_fold_to_one_property_count_each():
    """They all have to be read before it is known."""
    params = {f"property-{'-' * number}": "1" for number in range(33)}
    with pytest.raises(exception.Invalid, match="at most 32"):
        listing.parse(params, is_admin=False)

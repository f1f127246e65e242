"""Lists of images: shapes, filters, order, and paging that meets each row exactly once."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models

ADMIN = RequestContext(is_admin=True)
BOSS = RequestContext(is_admin=True, tenant="boss")
TENANT = RequestContext(tenant="t1", user="u")
NOBODY = RequestContext()
DAY = datetime.datetime(2011, 9, 22)
BRIEF = {"id", "name", "size", "disk_format", "container_format", "checksum"}
DETAIL_ONLY = {
    *("status", "min_disk", "min_ram", "is_public", "protected", "location", "owner"),
    *("created_at", "updated_at", "deleted_at", "deleted", "properties"),
}


def store(database: engine.Database, *rows: dict[str, Any]) -> None:
    """Insert rows as they are, times included."""
    base = {"status": "active", "is_public": True, "created_at": DAY, "deleted": False}
    with database.write() as conn:
        for row in rows:
            conn.execute(models.images.insert().values({**base, **row}))


# -- shapes --------------------------------------------------------------------------------------


def test_an_empty_registry_lists_nothing(registry: Any) -> None:
    for path in ("/", "/images", "/images/detail", "/v1/images", "/v1/", "/images/"):
        assert registry.get(path) == {"images": []}


def test_short_records_have_six_keys_and_full_ones_all(registry: Any) -> None:
    registry.create(name="a", is_public=True, location="file:///x", properties={"k": "v"})
    assert registry.get("/") == registry.get("/images")
    (brief,) = registry.get("/images")["images"]
    assert set(brief) == BRIEF
    (full,) = registry.get("/images/detail")["images"]
    assert set(full) == BRIEF | DETAIL_ONLY
    assert full.items() <= registry.get("/images/1")["image"].items()
    assert full["location"] == "file:///x" and full["properties"] == {"k": "v"}


def test_times_have_six_digits_of_fraction(registry: Any) -> None:
    store(registry.db, {"created_at": DAY})
    (image,) = registry.get("/images/detail")["images"]
    assert image["created_at"] == "2011-09-22T00:00:00.000000"


def test_properties_do_not_multiply_images(registry: Any) -> None:
    for _ in range(3):
        registry.create(is_public=True, properties={"a": "1", "b": "2", "c": None})
    images = registry.get("/images/detail?limit=2")["images"]
    assert [image["id"] for image in images] == [3, 2]
    assert images[0]["properties"] == {"a": "1", "b": "2", "c": None}


def test_purged_properties_are_not_listed(registry: Any) -> None:
    registry.create(is_public=True, properties={"a": "1", "b": "2"})
    registry.update(1, purge=True, properties={"b": "2"})
    (image,) = registry.get("/images/detail")["images"]
    assert image["properties"] == {"b": "2"}


# -- what is listed ------------------------------------------------------------------------------


@pytest.fixture
def mixed(registry: Any) -> Any:
    """1 public, 2 private of t1, 3 private of boss, 4 ownerless private, 5 killed, 6 deleted."""
    common = {"status": "active"}
    store(
        registry.db,
        {**common, "id": 1, "owner": "t2"},
        {**common, "id": 2, "owner": "t1", "is_public": False},
        {**common, "id": 3, "owner": "boss", "is_public": False},
        {**common, "id": 4, "is_public": False},
        {"id": 5, "status": "killed"},
        {**common, "id": 6, "deleted": True, "deleted_at": DAY},
    )
    return registry


@pytest.mark.parametrize(
    "context,query,ids",
    [
        (ADMIN, "", [1]),
        (ADMIN, "is_public=true", [1]),
        (ADMIN, "is_public=1", [1]),
        (ADMIN, "is_public=False", [4, 3, 2]),
        (ADMIN, "is_public=0", [4, 3, 2]),
        (ADMIN, "is_public=None", [4, 3, 2, 1]),
        (BOSS, "", [3, 1]),
        (BOSS, "is_public=none", [4, 3, 2, 1]),
        (TENANT, "", [2, 1]),
        (TENANT, "is_public=none", [2, 1]),
        (TENANT, "is_public=false", [2, 1]),
        (NOBODY, "", [1]),
        (ADMIN, "status=killed", []),
        (ADMIN, "deleted=true", [6]),
        (ADMIN, "deleted=false", [1]),
        (TENANT, "deleted=true", [2, 1]),
    ],
)
def test_who_is_shown_what(
    mixed: Any, context: RequestContext, query: str, ids: list[int]
) -> None:
    assert mixed.listed(query, context) == ids


def test_deleted_rows_are_all_a_context_that_shows_them_lists(mixed: Any) -> None:
    context = RequestContext(is_admin=True, show_deleted=True)
    assert mixed.listed("", context) == [6]


@pytest.mark.parametrize("context", [ADMIN, TENANT])
@pytest.mark.parametrize(
    "query",
    [
        *("is_public=x", "is_public=", "limit=a", "limit=", "limit=-1", "limit=1.5"),
        *("marker=a", "marker=", "marker=99", "marker=-1", f"marker={'9' * 30}"),
        *("sort_key=owner", "sort_key=", "sort_dir=up", "sort_dir="),
        *("size_min=x", "size_min=-1", "size_max=", "min_ram=x", "min_disk=-1"),
        *("protected=x", "changes-since=x", "changes-since=", "name=%FF", "name=a%00"),
    ],
)
def test_bad_parameters_are_refused(registry: Any, context: RequestContext, query: str) -> None:
    registry.create(is_public=True)
    for path in ("/", "/images", "/images/detail"):
        response = registry.call("GET", f"{path}?{query}", context=context)
        assert response.status_int == 400
        assert response.content_type == "text/plain"


@pytest.mark.parametrize(
    "query,words", [("sort_key=x", listing.SORT_KEYS), ("sort_dir=x", listing.SORT_DIRS)]
)
def test_a_bad_order_is_answered_with_the_good_ones(
    registry: Any, query: str, words: tuple[str, ...]
) -> None:
    text = registry.call("GET", f"/images?{query}").text
    assert all(word in text for word in words)


# -- filters -------------------------------------------------------------------------------------


@pytest.fixture
def varied(registry: Any) -> Any:
    registry.create(name="a", status="queued", is_public=True, size=10, min_ram=1)
    registry.create(
        name="caf\u00e9",
        disk_format="raw",
        container_format="bare",
        is_public=True,
        size=20,
        properties={"os": "x y", "arch": "x86"},
    )
    registry.create(
        name="",
        disk_format="raw",
        container_format="ovf",
        is_public=True,
        size=30,
        min_disk=5,
        protected=True,
        properties={"os": "x y", "k_one": "1"},
    )
    registry.create(is_public=True)
    return registry


@pytest.mark.parametrize(
    "query,ids",
    [
        ("name=a", [1]),
        ("name=caf%C3%A9", [2]),
        ("name=", [3]),
        ("name=zzz", []),
        ("name=zzz&name=a", [1]),
        ("status=queued", [1]),
        ("status=bogus", []),
        ("disk_format=raw", [3, 2]),
        ("disk_format=raw&container_format=bare", [2]),
        ("min_ram=1", [1]),
        ("min_disk=5", [3]),
        ("size_min=20", [3, 2]),
        ("size_max=20", [2, 1]),
        ("size_min=11&size_max=29", [2]),
        (f"size_min={2**63 - 1}", []),
        ("protected=true", [3]),
        ("protected=0", [4, 2, 1]),
        ("property-os=x+y", [3, 2]),
        ("property-os=x%20y&property-arch=x86", [2]),
        ("property-os=x", []),
        ("property-K-One=1", [3]),
        ("property-=1", []),
        ("unknown=1", [4, 3, 2, 1]),
    ],
)
def test_filters(varied: Any, query: str, ids: list[int]) -> None:
    assert varied.listed(query) == ids


def test_a_purged_property_matches_no_filter(varied: Any) -> None:
    varied.update(2, purge=True)
    assert varied.listed("property-os=x+y") == [3]


@pytest.mark.parametrize(
    "since,ids",
    [
        ("2011-09-22T10:00:00", [4, 3, 2]),
        ("2011-09-22T10:00:00Z", [4, 3, 2]),
        ("2011-09-22T12:00:00%2B02:00", [4, 3, 2]),
        ("2011-09-22T11:00:00", [4, 3]),
        ("2012-01-01", []),
    ],
)
def test_changes_since_shows_what_was_killed_or_deleted_too(
    registry: Any, since: str, ids: list[int]
) -> None:
    hour = datetime.timedelta(hours=1)
    store(
        registry.db,
        {"id": 1, "updated_at": DAY + 10 * hour},
        {"id": 2, "updated_at": DAY + 11 * hour},
        {"id": 3, "updated_at": DAY + 12 * hour, "status": "killed"},
        {"id": 4, "updated_at": DAY + 12 * hour, "status": "deleted", "deleted": True},
    )
    assert registry.listed(f"changes-since={since}") == ids


# -- order and pages -----------------------------------------------------------------------------


def test_newest_first_and_of_equal_times_the_higher_id(registry: Any) -> None:
    second = datetime.timedelta(seconds=1)
    store(
        registry.db,
        {"id": 1, "created_at": DAY + second},
        {"id": 2, "created_at": DAY},
        {"id": 3, "created_at": DAY + second},
    )
    assert registry.listed() == [3, 1, 2]
    assert registry.listed("marker=3") == [1, 2]
    assert registry.listed("marker=1") == [2]
    assert registry.listed("sort_dir=asc") == [2, 1, 3]
    assert registry.listed("sort_dir=asc&marker=2") == [1, 3]


def test_limits(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(limit_param_default="2", api_limit_max="3")
    store(registry.db, *({"id": number} for number in range(1, 6)))
    assert registry.listed() == [5, 4]
    assert registry.listed("limit=0") == []
    assert registry.listed("limit=1") == [5]
    assert registry.listed("limit=5000") == [5, 4, 3]


def test_page_sizes_that_are_no_numbers_count_as_the_defaults(
    new_registry: Callable[..., Any],
) -> None:
    registry = new_registry(limit_param_default="many", api_limit_max="more")
    store(registry.db, *({"id": number} for number in range(1, 31)))
    assert len(registry.listed()) == 25
    assert len(registry.listed("limit=1000")) == 30


def test_the_marker_need_not_match_the_filters(varied: Any) -> None:
    assert varied.listed("disk_format=raw&marker=4") == [3, 2]


def test_an_invisible_marker_is_as_unknown_as_a_missing_one(mixed: Any) -> None:
    texts = {
        mixed.call("GET", f"/images?marker={marker}", context=TENANT).text for marker in (3, 6, 99)
    }
    assert len(texts) == 1 and "not found" in texts.pop()


def test_deleted_images_can_be_paged_through(registry: Any) -> None:
    store(registry.db, *({"id": number, "deleted": True} for number in (1, 2, 3)))
    assert registry.listed("deleted=true&limit=2") == [3, 2]
    assert registry.listed("deleted=true&marker=2") == [1]


_TEXT = st.none() | st.sampled_from(["", "a", "B", "b", "\u00e9", "zz"])
_NUMBER = st.none() | st.integers(0, 3) | st.just(2**40)
_TIME = st.integers(0, 3).map(lambda n: DAY + datetime.timedelta(microseconds=n))
_ROW = st.fixed_dictionaries(
    {
        "name": _TEXT,
        "status": st.sampled_from(["active", "queued", "saving"]),
        "disk_format": _TEXT,
        "container_format": _TEXT,
        "size": _NUMBER,
        "created_at": _TIME,
        "updated_at": st.none() | _TIME,
    }
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_ROW, min_size=1, max_size=12), limit=st.integers(1, 5))
def test_a_walk_meets_each_row_once_for_every_order(
    database: engine.Database, rows: list[dict[str, Any]], limit: int
) -> None:
    with database.write() as conn:
        conn.execute(models.images.delete())
    store(database, *({"id": number, **row} for number, row in enumerate(rows, 1)))
    for key in listing.SORT_KEYS:
        walks = {}
        for direction in listing.SORT_DIRS:
            seen: list[dict[str, Any]] = []
            marker = None
            while True:
                query = listing.ListQuery(
                    sort_key=key, sort_dir=direction, limit=limit, marker=marker
                )
                page = api.image_list(database, ADMIN, query)
                seen += page
                if len(page) < limit:
                    break
                marker = page[-1]["id"]
            walks[direction] = [image["id"] for image in seen]
            values = [image[key] for image in seen if image[key] is not None]
            assert values == sorted(values, reverse=direction == "desc")
            nulls = [image[key] is None for image in seen]
            assert nulls == sorted(nulls, reverse=direction == "asc")
        assert sorted(walks["asc"]) == list(range(1, len(rows) + 1))
        assert walks["desc"] == walks["asc"][::-1]


@pytest.mark.parametrize("path", ["/images", "/images/detail"])
def test_a_list_may_be_filtered_by_so_many_properties(
    new_registry: Callable[..., Any], path: str
) -> None:
    registry = new_registry(image_property_quota="0")
    image = registry.create(
        is_public=True, properties={f"p{number}": "v" for number in range(990)} | {"p0": "w"}
    )
    query = "&".join(f"property-p{number}=v" for number in range(1, 33))
    assert [each["id"] for each in registry.get(f"{path}?{query}")["images"]] == [image["id"]]
    assert registry.get(f"{path}?property-p0=v&{query[13:]}")["images"] == []
    for count in (33, 200, 990):
        query = "&".join(f"property-p{number}=v" for number in range(1, count + 1))
        response = registry.call("GET", f"{path}?{query}")
        assert response.status_int == 400
        assert "at most" in response.text

"""No list of version 2 reads or sorts the whole of a table, but for orders that no index has.

As in `test_list_plans`, what a list does among many images is counted or read from plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.image import listing, search
from glance.registry.context import RequestContext
from glance.registry.db import image_search, models
from tests.unit.registry.db.test_list_plans import FEW, MANY, Lists, crowd, is_whole, steps

CALLERS = {
    "stranger": RequestContext(tenant="nobody", user="u"),
    "anonymous": RequestContext(),
    "owner": RequestContext(tenant=crowd.OWNER, user="u"),
    "member": RequestContext(tenant=crowd.MEMBER, user="u"),
    "admin": RequestContext(is_admin=True, tenant="boss"),
}
FILTERS: tuple[list[tuple[str, str]], ...] = (
    [],
    [("name", "image 135428")],
    [("name", "in:image 135428,image 48271,none")],
    [("status", "active")],
    [("status", "in:queued,active")],
    [("disk_format", "raw")],
    [("size_min", "8500000000")],
    [("created_at", "gte:2020-01-01T10:00:00")],
    [("created_at", "lt:2020-01-01T10:00:00")],
    [("updated_at", "gt:2030-01-01T10:00:00")],
    [("os", "linux")],
    [("serial", "serial 500")],
    [("serial", "none")],
    [("tag", "common")],
    [("tag", "rare")],
    [("tag", "common"), ("os", "linux")],
    [("owner", "tenant8")],
    [("visibility", "public")],
    [("visibility", "private")],
    [("visibility", "shared")],
    [("visibility", "community")],
    [("visibility", "all")],
)
#: Orders of one key that has an index, and of several that begin with one that few have in common.
SORTS = (
    *listing.SORT_KEYS,
    "name:asc,size:asc",
    "created_at:desc,name:asc",
    "size:asc,owner:desc,id:asc",
)


def queries() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for caller in CALLERS:
        for filters in FILTERS[:1] if caller == "anonymous" else FILTERS:
            yield caller, filters
    for sort in SORTS:
        for way in (sort.replace("asc", "desc"), f"{sort}:asc" if ":" not in sort else sort):
            for caller in ("owner", "admin"):
                yield caller, [("sort", way), ("marker", "{middle}")]


class Searches(Lists):
    """A database with some images, of which many have one tag and a few another."""

    def __init__(self, url: str, count: int):
        super().__init__(url, count)
        images, tags = models.images, models.image_tags
        common = sa.select(images.c.id, sa.literal("common")).where(images.c.id % 3 == 0)
        rare = sa.select(images.c.id, sa.literal("rare")).where(images.c.id % 1000 == 1)
        with self.database.write() as conn:
            for found in (common, rare):
                conn.execute(tags.insert().from_select(["image_id", "value"], found))
            conn.execute(images.update().where(images.c.is_public).values(visibility="public"))
            found = sa.select(images.c.uuid).where(images.c.id == self.middle)
            self.uuid = conn.execute(found).scalar()

    def search(self, caller: str, parameters: list[tuple[str, str]]) -> list[int]:
        pairs = [(name, value.format(middle=self.uuid)) for name, value in parameters]
        found, _ = image_search.find(self.database, CALLERS[caller], search.parse(pairs))
        return [image["id"] for image in found]


@pytest.fixture(scope="module")
def few(sqlite: Any) -> Searches:
    return Searches(sqlite.empty(), FEW)


@pytest.fixture(
    scope="module",
    params=["no statistics", pytest.param("statistics", marks=pytest.mark.full)],
)
def many(request: pytest.FixtureRequest, kind: Any) -> Iterator[Searches]:
    made = Searches(kind.empty(), MANY)
    if request.param == "statistics":
        crowd.analyze(made.url)
        made.database.dispose()
    yield made
    made.database.dispose()


def work(lists: Searches, call: Callable[[], object]) -> int:
    """Return the steps of a call, as `test_list_plans.work`."""
    connection = lists.database._engines[0].raw_connection()
    handled = connection.dbapi_connection
    connection.close()
    return steps(handled, call)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_list_is_no_more_work_among_ten_times_as_many_images(
    few: Searches, many: Searches
) -> None:
    worse = []
    for caller, parameters in queries():
        less, more = (
            work(lists, lambda: lists.search(caller, parameters))  # noqa: B023
            for lists in (few, many)
        )
        # A page that few images do not fill takes less; a full one takes about 1500.
        if more > 1.5 * max(less, 1700):
            worse.append((caller, parameters, less, more))
    assert not worse


def test_no_statement_of_a_list_reads_or_sorts_a_whole_table(many: Searches) -> None:
    dialect = many.database.dialect
    found, seen = [], set()
    for caller, parameters in queries():
        for statement, values in many.statements(lambda: many.search(caller, parameters)):  # noqa: B023
            # The few ids of images that are sorted are no order of an index.
            if statement in seen or "IN (SELECT" in statement or " ANY (" in statement:
                continue
            seen.add(statement)
            if dialect == "mysql" and "images.id IN (" in statement:
                continue
            plan = many.plan(statement, values)
            if any(is_whole(dialect, line) for line in plan):
                found.append((caller, parameters, statement, plan))
    assert len(seen) > 50
    assert not found, found[0]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_an_order_without_an_index_examines_images_in_small_statements(
    many: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []
    monkeypatch.setattr(image_search.hub, "sleep", turns.append)
    parameters = [("sort", "min_ram:desc,name:asc"), ("visibility", "all")]
    assert len(many.search("admin", parameters)) == 25
    assert len(turns) >= MANY // 1000 - 1
    monkeypatch.setattr(image_search, "MOST_EXAMINED", MANY // 2)
    with pytest.raises(exception.Invalid, match="use a filter that matches fewer images"):
        many.search("admin", parameters)

"""No list reads or sorts the whole of a table, whatever statistics a database has.

The images are those of the benchmarks: few, and ten times as many. What a list does among them is
counted or read from the plans of its statements, never timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glance.common import exception
from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, attempts, engine, image_list, models, records
from glance.registry.db.upkeep import maintenance

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))

import crowd

from support import statements

FEW, MANY = 1000, 10_000
TABLES = ("images", "image_properties", "image_members", "marker", "images_1")
CALLERS = {
    "stranger": RequestContext(tenant="nobody", user="u"),
    "anonymous": RequestContext(),
    "owner": RequestContext(tenant=crowd.OWNER, user="u"),
    "member": RequestContext(tenant=crowd.MEMBER, user="u"),
    "partner": RequestContext(tenant=crowd.PARTNER, user="u"),
    "admin": RequestContext(is_admin=True, tenant="boss"),
}
FILTERS = (
    {},
    {"name": "image 135428"},
    {"status": "active"},
    {"status": "queued"},
    {"status": "saving"},
    {"disk_format": "raw"},
    {"container_format": "bare"},
    {"size_min": "8500000000"},
    {"size_min": "1000", "size_max": "900000000"},
    {"changes-since": "2020-01-01T10:00:00"},
    {"changes-since": "2030-01-01T10:00:00"},
    {"property-os": "linux"},
    {"property-serial": "serial 500"},
    {"property-serial": "none"},
    {"property-os": "linux", "property-vendor": "vendor 7"},
)


def queries() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield callers and parameters of lists that stay bounded, deep ones among them."""
    for caller in CALLERS:
        for filters in FILTERS[:1] if caller in ("partner", "anonymous") else FILTERS:
            yield caller, filters
        for key in listing.SORT_KEYS:
            for direction in listing.SORT_DIRS:
                yield caller, {"sort_key": key, "sort_dir": direction, "marker": "{middle}"}
    for filters in FILTERS:
        for key in ("name", "size"):
            yield "owner", {"sort_key": key, "sort_dir": "asc", **filters}
    for scope in ("none", "false"):
        yield "admin", {"is_public": scope}
        yield "admin", {"is_public": scope, "deleted": "true"}
    yield "admin", {"is_public": "none", "sort_key": "name"}


class Lists:
    """A database with some images."""

    def __init__(self, url: str, count: int):
        crowd.fill(url, count)
        self.url, self.database = url, engine.Database(url)
        self.middle = count // 2
        with self.database.read():
            pass

    def run(self, caller: str, params: dict[str, str]) -> list[int]:
        context = CALLERS[caller]
        filled = {name: value.format(middle=self.middle) for name, value in params.items()}
        query = listing.parse(filled, is_admin=context.is_admin)
        return [image["id"] for image in api.image_list(self.database, context, query)]

    def statements(self, call: Callable[[], object]) -> list[tuple[str, Any]]:
        """Return the statements, and their parameters, that a call runs."""
        with statements.noted(self.database) as seen:
            call()
        return seen

    def plan(self, statement: str, parameters: Any) -> list[str]:
        """Return the lines of the plan of a statement, as a connection for reading has it."""
        explain = "EXPLAIN QUERY PLAN" if self.database.dialect == "sqlite" else "EXPLAIN"
        with self.database.read() as conn:
            rows = conn.exec_driver_sql(f"{explain} {statement}", parameters).all()
        if self.database.dialect == "sqlite":
            return [row[-1] for row in rows]
        return [" ".join(map(str, row)) for row in rows]


@pytest.fixture(scope="module")
def few(sqlite: Any) -> Lists:
    return Lists(sqlite.empty(), FEW)


@pytest.fixture(scope="module", params=["no statistics", "statistics"])
def many(request: pytest.FixtureRequest, kind: Any) -> Iterator[Lists]:
    """Many images in each kind of database, as it is when filled and after ANALYZE."""
    made = Lists(kind.empty(), MANY)
    if request.param == "statistics":
        crowd.analyze(made.url)
        made.database.dispose()
    yield made
    made.database.dispose()


# -- work ----------------------------------------------------------------------------------------


def steps(connection: Any, call: Callable[[], object]) -> int:
    """Return how many instructions of SQLite's machine a call on a connection takes, in tens."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 10)
    try:
        call()
    finally:
        connection.set_progress_handler(None, 10)
    return count


def work(lists: Lists, caller: str, params: dict[str, str]) -> int:
    """Return the steps of a list, on the connection for single statements and that of the pool."""
    looker: Any = lists.database._looker
    if looker._opened is None:
        lists.run(caller, params)
    pooled = lists.database._engines[0].raw_connection()
    handled = pooled.dbapi_connection
    pooled.close()

    def run() -> None:
        inner.append(steps(handled, lambda: lists.run(caller, params)))

    inner: list[int] = []
    return steps(looker._opened.dbapi_connection, run) + inner[0]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_list_is_no_more_work_among_ten_times_as_many_images(few: Lists, many: Lists) -> None:
    worse = []
    for caller, params in queries():
        less, more = work(few, caller, params), work(many, caller, params)
        # A page that few images do not fill takes less; a full one takes about 1500.
        if more > 1.5 * max(less, 1500):
            worse.append((caller, params, less, more))
    assert not worse


# -- plans ---------------------------------------------------------------------------------------


def is_whole(dialect: str, line: str) -> bool:
    """Return whether a line of a plan reads all rows of a table, or sorts many of them."""
    if dialect == "sqlite":
        # The index of odd names is empty.
        is_scan = line.startswith(tuple(f"SCAN {table}" for table in TABLES))
        return is_scan and models.ODD_NAME_INDEX not in line
    if dialect == "postgresql":
        return "Seq Scan on image" in line or "Bitmap" in line
    words = line.split()
    table, access = words[2], words[3]
    return table in TABLES and (access in ("ALL", "index") or "filesort" in line)


def test_no_statement_of_a_list_reads_or_sorts_a_whole_table(many: Lists) -> None:
    dialect = many.database.dialect
    found, seen = [], set()
    for caller, params in queries():
        for statement, values in many.statements(lambda: many.run(caller, params)):  # noqa: B023
            # The few ids of images that are sorted are no order of an index.
            if statement in seen or "IN (SELECT" in statement or " ANY (" in statement:
                continue
            seen.add(statement)
            if dialect == "mysql" and "images.id IN (" in statement:
                continue
            plan = many.plan(statement, values)
            if any(is_whole(dialect, line) for line in plan):
                found.append((caller, params, statement, plan))
    assert len(seen) > 50
    assert not found, found[0]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_sqlite_reads_a_window_row_by_row_in_the_order_of_its_index(many: Lists) -> None:
    """`list_statements.window` relies on it where it leaves out the order."""
    params = {"sort_key": "name", "marker": str(many.middle)}
    windows = [
        many.plan(*one)
        for more in ({}, {"status": "active"}, {"property-os": "linux"})
        for one in many.statements(lambda: many.run("owner", {**params, **more}))  # noqa: B023
        if " AS rows" in one[0] and " AS page" in one[0]
    ]
    assert windows
    for plan in windows:
        assert any(line.startswith(("CO-ROUTINE rows", "MATERIALIZE rows")) for line in plan)
        assert any(line.startswith("SCAN rows") for line in plan)
        assert not any("MERGE" in line for line in plan)
        # Only what is left of the page is sorted.
        assert sum("USE TEMP B-TREE" in line for line in plan) <= 1


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("key", ["created_at", "id", "size"])
def test_sqlite_sorts_nothing_for_a_page_without_filters(many: Lists, key: str) -> None:
    params = {"sort_key": key, "sort_dir": "asc", "is_public": "none"}
    (listed,) = many.statements(lambda: many.run("admin", params))
    assert not any("USE TEMP B-TREE" in line for line in many.plan(*listed))


def test_what_else_used_the_indexes_finds_others(many: Lists) -> None:
    """Steps of the schema drop indexes: the statements that used them have others."""
    dialect, database = many.database.dialect, many.database
    calls: list[Callable[[], object]] = [
        lambda: maintenance.images_stalled(database, records.utcnow()),
        lambda: api.image_get(database, CALLERS["admin"], 5),
        lambda: api.member_list(database, CALLERS["admin"], 3),
        lambda: api.member_images(database, CALLERS["admin"], crowd.MEMBER),
    ]

    def created() -> None:
        with database.read() as conn:
            attempts.created_by(conn, "0" * 32, "queued", records.utcnow())

    for call in (*calls, created):
        for statement, values in many.statements(call):
            if dialect == "mysql":
                continue
            plan = many.plan(statement, values)
            if dialect == "sqlite":
                assert not any(is_whole(dialect, line) for line in plan), plan
            else:
                assert not any("Seq Scan on image" in line for line in plan), plan


# -- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_list_whose_filters_never_meet_is_given_up(
    many: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No index has `min_ram`.
    params = {"property-os": "linux", "min_ram": "5", "is_public": "none"}
    assert many.run("admin", params) == []
    monkeypatch.setattr(image_list, "MOST_EXAMINED", MANY // 2)
    with pytest.raises(exception.Invalid, match="use a filter that matches fewer images"):
        many.run("admin", params)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_list_that_examines_all_images_does_so_in_small_statements(
    many: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two statements, other requests of the worker have their turn."""
    turns: list[float] = []
    taken: list[int] = []
    monkeypatch.setattr(image_list.hub, "sleep", turns.append)
    monkeypatch.setattr(image_list, "_LARGEST", MANY // 20)
    fetch = image_list.lenient.fetch

    def counted(conn: Any, *args: Any) -> list[Any]:
        rows: list[Any] = []
        connection = conn.connection.dbapi_connection
        taken.append(steps(connection, lambda: rows.extend(fetch(conn, *args))))
        return rows

    monkeypatch.setattr(image_list.lenient, "fetch", counted)
    assert many.run("admin", {"min_ram": "5", "is_public": "none"}) == []
    assert max(taken) < sum(taken) / 10
    assert len(turns) == len(taken) - 1 >= 15

"""Every list of version 2 is what a naive model of it says, whichever way the statements take."""

from __future__ import annotations

import datetime
import itertools
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glance.common import exception
from glance.image import search
from glance.registry.context import RequestContext
from glance.registry.db import engine, image_search, models

from support import statements

DAY = datetime.datetime(2020, 1, 1)
CALLERS = {
    "admin": RequestContext(is_admin=True),
    "boss": RequestContext(is_admin=True, tenant="t1"),
    "t1": RequestContext(tenant="t1", user="u"),
    "t2": RequestContext(tenant="t2", user="u"),
    "stranger": RequestContext(tenant="nobody", user="u"),
    "anonymous": RequestContext(),
}
NAMES = (None, "", "a", "a ", "A", "b", 'x,"y', "\u00e9", "\u00e9e", "\U0001f600")
STATUSES = ("active", "active", "active", "queued", "saving", "deactivated", "killed")
FORMATS = (None, "raw", "raw", "qcow2", "vhd")
SIZES = (None, 0, 1, 5, 5, 7, 2**40)
VISIBILITIES = ("public", "private", "shared", "community")
COUNT = 240


def make(seed: int, most_public: float) -> list[dict[str, Any]]:
    """Return random images, many of which have a sort value in common."""
    chooser = random.Random(seed)
    rows = []
    for number in range(1, COUNT + 1):
        created = DAY + datetime.timedelta(seconds=chooser.randrange(60) + chooser.random())
        is_public = chooser.random() < most_public
        rows.append(
            {
                "id": number,
                "uuid": str(uuid.UUID(int=chooser.getrandbits(128), version=4)),
                "name": chooser.choice(NAMES),
                "disk_format": chooser.choice(FORMATS),
                "container_format": chooser.choice(FORMATS),
                "size": chooser.choice(SIZES),
                "status": chooser.choice((*STATUSES, *STATUSES, "pending_delete")),
                "is_public": is_public,
                # A registry of an earlier schema version writes the one column only.
                "visibility": "public"
                if is_public and number % 9
                else chooser.choice(VISIBILITIES),
                "os_hidden": chooser.random() < 0.1,
                "owner": chooser.choice((None, "t1", "t2", "t3", "t3", "t3")),
                "checksum": chooser.choice((None, "0" * 32, "f" * 32)),
                "created_at": created,
                "updated_at": chooser.choice((None, created, DAY)),
                "deleted": chooser.random() < 0.15,
                "protected": chooser.random() < 0.2,
                "min_ram": chooser.choice((0, 0, 1)),
                "min_disk": chooser.choice((0, 0, 1)),
                "tags": chooser.sample(("x", "X", "y", "\u00e4"), chooser.randrange(4)),
                "properties": {
                    name: chooser.choice(("x", "y", "", None, "y" * 70, "y" * 71))
                    for name in chooser.sample(("os", "Os", "rare"), chooser.randrange(4))
                },
                "members": {
                    name: (chooser.random() < 0.2, chooser.choice(search.MEMBER_STATUSES[:3]))
                    for name in chooser.sample(("t1", "t2", "t4"), chooser.randrange(3))
                },
            }
        )
    return rows


def store(database: engine.Database, rows: list[dict[str, Any]]) -> None:
    others = ("properties", "members", "tags")
    with database.write() as conn:
        for row in rows:
            given = {name: row[name] for name in row if name not in others}
            conn.execute(models.images.insert().values(given))
            common = {"image_id": row["id"], "created_at": DAY}
            for name, value in row["properties"].items():
                for deleted, named in ((False, name), (True, f"{name}_deleted")):
                    values = {**common, "name": named, "value": value, "deleted": deleted}
                    conn.execute(models.image_properties.insert().values(values))
            for member, (deleted, status) in row["members"].items():
                values = {**common, "member": member, "deleted": deleted, "status": status}
                conn.execute(models.image_members.insert().values(values))
            for tag in row["tags"]:
                conn.execute(models.image_tags.insert().values(image_id=row["id"], value=tag))


def effective(row: dict[str, Any]) -> str:
    if row["is_public"]:
        return "public"
    return "shared" if row["visibility"] == "public" else str(row["visibility"])


def as_bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


class Model:
    """The rules of a list, one after the other, in Python."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def listed(self, context: RequestContext, query: search.SearchQuery) -> list[str]:
        """Return the uuids of the whole list."""
        found = [row for row in self.rows if self.matches(context, query, row)]
        # The sort is stable: the last key first.
        found.sort(key=lambda row: row["id"], reverse=query.sort[-1][1])
        for key, descending in reversed(query.sort):
            found.sort(key=lambda row: self.place(row, key), reverse=descending)
        return [row["uuid"] for row in found]

    def place(self, row: dict[str, Any], key: str) -> tuple[Any, ...]:
        value = self.value(row, key)
        return (0,) if value is None else (1, as_bytes(value))

    def value(self, row: dict[str, Any], key: str) -> Any:
        if key == "visibility":
            return effective(row)
        return row["uuid" if key == "id" else key]

    def matches(
        self, context: RequestContext, query: search.SearchQuery, row: dict[str, Any]
    ) -> bool:
        size = row["size"]

        def within(name: str, span: search.Span) -> bool:
            value = row[name]
            return (
                value is not None
                and (span.since is None or value >= span.since)
                and (span.until is None or value < span.until)
            )

        return (
            not row["deleted"]
            and row["status"] not in ("killed", "pending_delete")
            and row["os_hidden"] is query.os_hidden
            and all(self.value(row, name) == value for name, value in query.equal.items())
            and all(self.value(row, name) in values for name, values in query.among.items())
            and (query.size_min is None or (size is not None and size >= query.size_min))
            and (query.size_max is None or (size is not None and size <= query.size_max))
            and all(within(name, span) for name, span in query.spans.items())
            and all(
                row[name] is not None and not within(name, span) for name, span in query.outside
            )
            and set(query.tags) <= set(row["tags"])
            and all(
                name in row["properties"] and (row["properties"][name] or "") == value
                for name, value in query.properties.items()
            )
            and self.sees(context, query, row)
        )

    def sees(
        self, context: RequestContext, query: search.SearchQuery, row: dict[str, Any]
    ) -> bool:
        kind, wanted, me = effective(row), query.visibility, context.owner
        own = me is not None and row["owner"] == me
        if context.is_admin:
            if wanted is None:
                return kind != "community" or own or me is None
            return wanted in ("all", kind)
        deleted, status = row["members"].get(me, (True, ""))
        shared = kind == "shared" and not deleted and query.member_status in ("all", status)
        default = kind == "public" or own or shared
        return {
            None: default,
            "all": default or kind == "community",
            "public": kind == "public",
            "private": kind == "private" and own,
            "shared": kind == "shared" and (own or shared),
            "community": kind == "community",
        }[wanted]


def some(name: str, *values: str) -> Any:
    return st.lists(st.tuples(st.just(name), st.sampled_from(values)), max_size=1)


def rarely(name: str, *values: str) -> Any:
    return st.just([]) | st.just([]) | some(name, *values)


TIMES = [
    f"{operator}:{time}"
    for operator in ("gt", "gte", "lt", "lte", "eq", "neq")
    for time in ("2020-01-01", "2020-01-01T00:00:30", "2020-01-01T01:00:20+01:00")
]
SORTS = st.lists(
    st.tuples(st.sampled_from(search.SORTABLE), st.sampled_from(("asc", "desc"))), max_size=3
).map(lambda pairs: [("sort", ",".join(map(":".join, pairs)))] if pairs else [])
PARAMETERS = st.tuples(
    rarely("name", "a", "", "in:a,b,A", 'in:"x,\\"y",\u00e9', "in:", "in:zz"),
    rarely("status", "active", "queued", "in:queued,saving", "killed", "none"),
    rarely("disk_format", "raw", "vhd", "in:vhd,qcow2"),
    rarely("container_format", "raw", "ami"),
    rarely("owner", "t1", "t3"),
    rarely("checksum", "0" * 32),
    rarely("min_ram", "0", "1"),
    rarely("size", "5"),
    rarely("size_min", "0", "5"),
    rarely("size_max", "5", str(2**41)),
    rarely("protected", "true", "false"),
    rarely("os_hidden", "true"),
    rarely("created_at", *TIMES),
    rarely("updated_at", *TIMES),
    rarely("updated_at", *TIMES),
    rarely("tag", "x", "X", "\u00e4", "none"),
    rarely("tag", "y"),
    rarely("os", "x", "", "y" * 70),
    rarely("Os", "x", "z"),
    rarely("os_deleted", "x"),
    some("visibility", *search.SCOPES),
    some("member_status", *search.MEMBER_STATUSES),
    SORTS,
).map(lambda found: list(itertools.chain(*found)))
#: What decides the way: as it is, and such that a few hundred images are as many.
BOUNDS = {
    "usual": {},
    "tiny": {"MOST_FEW": 12, "MOST_RARE": 3, "_FIRST": 1, "_FIRST_UNFILTERED": 1, "_LARGEST": 9},
    "no few": {"MOST_FEW": 0, "MOST_RARE": 0, "_LARGEST": 16},
}


@pytest.fixture(scope="module", params=[0.9, 0.05], ids=["most public", "few public"])
def crowd(request: pytest.FixtureRequest, kind: Any) -> Iterator[tuple[engine.Database, Model]]:
    """Random images in a database, and the model of them."""
    rows = make(7, request.param)
    database = engine.Database(kind.emptied())
    store(database, rows)
    yield database, Model(rows)
    database.dispose()


@pytest.fixture(params=BOUNDS)
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BOUNDS[request.param].items():
        monkeypatch.setattr(image_search, name, value)


def run(
    database: engine.Database, caller: str, parameters: list[tuple[str, str]], *more: Any
) -> tuple[list[str], bool]:
    query = search.parse([*parameters, *more])
    images, has_more = image_search.find(database, CALLERS[caller], query)
    return [image["uuid"] for image in images], has_more


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    caller=st.sampled_from(sorted(CALLERS)),
    parameters=PARAMETERS,
    limit=st.sampled_from((1, 3, 10, 1000)),
    data=st.data(),
)
def test_a_page_is_what_the_model_says(
    crowd: Any, bounds: None, caller: str, parameters: Any, limit: int, data: Any
) -> None:
    database, model = crowd
    wanted = model.listed(CALLERS[caller], search.parse(parameters))
    marker = data.draw(st.none() | st.sampled_from(wanted)) if wanted else None
    begin = wanted.index(marker) + 1 if marker is not None else 0
    more = [("limit", str(limit)), *([("marker", marker)] if marker else [])]
    found, has_more = run(database, caller, parameters, *more)
    assert found == wanted[begin : begin + limit]
    assert has_more is (len(wanted) > begin + limit)


@pytest.mark.full
@pytest.mark.parametrize("second", ["", ",size:desc,owner:asc"])
def test_pages_one_after_the_other_are_the_whole_list(
    crowd: Any, bounds: None, second: str
) -> None:
    database, model = crowd
    for number, (key, direction) in enumerate(itertools.product(search.SORTABLE, ("asc", "desc"))):
        caller = ("admin", "t1")[number % 3 == 0]
        parameters = [("sort", f"{key}:{direction}{second}"), ("limit", "70")]
        found: list[str] = []
        more: list[tuple[str, str]] = []
        has_more = True
        while has_more:
            page, has_more = run(database, caller, parameters, *more)
            found += page
            more = [("marker", found[-1])]
        assert found == model.listed(CALLERS[caller], search.parse(parameters)), (key, direction)
        # Some clients ask once more.
        assert run(database, caller, parameters, *more) == ([], False)


def test_records_are_whole(crowd: Any) -> None:
    database, model = crowd
    query = search.parse([("limit", "1000"), ("visibility", "all")])
    rows = {row["uuid"]: row for row in model.rows}
    images, _ = image_search.find(database, CALLERS["admin"], query)
    assert images
    for image in images:
        row = rows[image["uuid"]]
        assert image["visibility"] == effective(row)
        assert image["tags"] == sorted(row["tags"])
        assert image["properties"] == row["properties"]
        for name in ("id", "name", "size", "owner", "os_hidden", "created_at", "min_ram"):
            assert image[name] == row[name]


def test_a_marker_is_any_image_that_the_caller_sees(crowd: Any) -> None:
    database, model = crowd
    for caller, context in CALLERS.items():
        for row in model.rows[:60]:
            kind, me = effective(row), context.owner
            deleted, _ = row["members"].get(me, (True, ""))
            visible = (
                context.is_admin
                or kind in ("public", "community")
                or (me is not None and row["owner"] == me)
                or (kind == "shared" and (not deleted or row["owner"] is None))
            )
            parameters = [("marker", row["uuid"]), ("name", "none")]
            if visible and not row["deleted"] and row["status"] != "pending_delete":
                assert run(database, caller, parameters) == ([], False)
            else:
                with pytest.raises(exception.Invalid, match="marker"):
                    run(database, caller, parameters)
    with pytest.raises(exception.Invalid, match="marker"):
        run(database, "admin", [("marker", str(uuid.UUID(int=5)))])


def test_a_page_takes_as_many_statements_whatever_its_length(crowd: Any) -> None:
    database, _ = crowd
    with statements.noted(database) as seen:
        for limit in (1, 100):
            seen.clear()
            found, _ = run(database, "admin", [("limit", str(limit)), ("visibility", "all")])
            assert len(found) == limit
            assert len(seen) == 1

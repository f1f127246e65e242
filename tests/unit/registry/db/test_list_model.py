"""Every list is what a naive model of it says, whichever way the statements take."""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glance.image import fields, listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, image_list, lenient, models

DAY = datetime.datetime(2020, 1, 1)
CALLERS = {
    "admin": RequestContext(is_admin=True),
    "boss": RequestContext(is_admin=True, tenant="t1"),
    "seer": RequestContext(is_admin=True, show_deleted=True),
    "t1": RequestContext(tenant="t1", user="u"),
    "t2": RequestContext(tenant="t2", user="u"),
    "stranger": RequestContext(tenant="nobody", user="u"),
    "anonymous": RequestContext(),
}
NAMES = (None, "", "a", "a ", "A", "b", "\u00e9", "\u00e9e", "\U0001f600")
STATUSES = ("active", "active", "active", "queued", "saving", "killed", "pending_delete")
STATUSES += ("uploading", "importing")
FORMATS = (None, "raw", "raw", "qcow2", "vhd")
SIZES = (None, 0, 1, 5, 5, 7, 2**40)
COUNT = 240


def make(seed: int, most_public: float) -> list[dict[str, Any]]:
    """Return random images, many of which have a sort value in common."""
    chooser = random.Random(seed)
    rows = []
    for number in range(1, COUNT + 1):
        created = DAY + datetime.timedelta(seconds=chooser.randrange(60))
        rows.append(
            {
                "id": number,
                "name": chooser.choice(NAMES),
                "disk_format": chooser.choice(FORMATS),
                "container_format": chooser.choice(FORMATS),
                "size": chooser.choice(SIZES),
                "status": chooser.choice(STATUSES),
                "is_public": chooser.random() < most_public,
                "owner": chooser.choice((None, "t1", "t2", "t3", "t3", "t3")),
                "created_at": created,
                "updated_at": chooser.choice((None, created, DAY)),
                "deleted": chooser.random() < 0.2,
                "protected": chooser.random() < 0.2,
                "min_ram": chooser.choice((0, 0, 1)),
                "min_disk": chooser.choice((0, 0, 1)),
                "properties": {
                    name: chooser.choice(("x", "y", "y" * 70, "y" * 71))
                    for name in chooser.sample(("os", "arch", "rare"), chooser.randrange(4))
                },
                "members": {
                    name: chooser.random() < 0.2
                    for name in chooser.sample(("t1", "t2", "t4"), chooser.randrange(3))
                },
            }
        )
    return rows


def store(database: engine.Database, rows: list[dict[str, Any]]) -> None:
    with database.write() as conn:
        for row in rows:
            given = {name: row[name] for name in row if name not in ("properties", "members")}
            conn.execute(models.images.insert().values(given))
            common = {"image_id": row["id"], "created_at": DAY}
            for name, value in row["properties"].items():
                for deleted, named in ((False, name), (True, f"{name}_deleted")):
                    values = {**common, "name": named, "value": value, "deleted": deleted}
                    conn.execute(models.image_properties.insert().values(values))
            for member, deleted in row["members"].items():
                values = {**common, "member": member, "deleted": deleted}
                conn.execute(models.image_members.insert().values(values))


class Model:
    """The rules of a list, one after the other, in Python."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def listed(self, context: RequestContext, query: listing.ListQuery) -> list[int]:
        """Return the ids of the whole list."""
        key = query.sort_key
        found = [row for row in self.rows if self.matches(context, query, row)]

        def place(row: dict[str, Any]) -> tuple[Any, ...]:
            value = row[key].encode() if isinstance(row[key], str) else row[key]
            return (0, 0, row["id"]) if value is None else (1, value, row["id"])

        found.sort(key=place, reverse=query.sort_dir == "desc")
        return [row["id"] for row in found]

    def matches(
        self, context: RequestContext, query: listing.ListQuery, row: dict[str, Any]
    ) -> bool:
        deleted = True if context.show_deleted else query.deleted
        size = row["size"]
        changed = row["updated_at"]
        mine = context.owner is not None and (
            row["owner"] == context.owner or row["members"].get(context.owner) is False
        )
        scopes = {None: True, False: not row["is_public"], True: row["is_public"] or mine}
        return (
            (deleted is None or row["deleted"] is deleted)
            and (query.include_killed or row["status"] != "killed")
            and all(has(row, name, value) for name, value in query.filters.items())
            and all(row["properties"].get(k) == v for k, v in query.properties.items())
            and (query.size_min is None or (size is not None and size >= query.size_min))
            and (query.size_max is None or (size is not None and size <= query.size_max))
            and (
                query.changes_since is None
                or (changed is not None and changed > query.changes_since)
            )
            and scopes[query.is_public]
        )


def has(row: dict[str, Any], name: str, value: Any) -> bool:
    """Return whether a row has what a filter of version 1 wants."""
    on_its_way = ("saving", "uploading", "importing")
    return row[name] in on_its_way if value == "saving" else bool(row[name] == value)


def maybe(values: Any) -> Any:
    return st.none() | st.none() | values


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([name for name in NAMES if name is not None]),
        "status": st.sampled_from([*set(STATUSES), "unknown"]),
        "disk_format": st.sampled_from(("raw", "vhd", "ami")),
        "container_format": st.sampled_from(("raw", "qcow2")),
        "min_ram": st.sampled_from((0, 1)),
        "protected": st.booleans(),
    },
)
QUERIES = st.builds(
    listing.ListQuery,
    filters=st.just({}) | FILTERS,
    properties=st.just({})
    | st.fixed_dictionaries(
        {},
        optional={
            "os": st.sampled_from(("x", "y", "y" * 70)),
            "rare": st.sampled_from(("x", "z")),
            "os_deleted": st.just("x"),
        },
    ),
    size_min=maybe(st.sampled_from((0, 5, 2**41))),
    size_max=maybe(st.sampled_from((0, 5, 2**41))),
    is_public=st.sampled_from((True, True, False, None)),
    changes_since=maybe(st.sampled_from((DAY, DAY + datetime.timedelta(seconds=30)))),
    deleted=st.sampled_from((False, False, True, None)),
    include_killed=st.booleans(),
    sort_key=st.sampled_from(listing.SORT_KEYS),
    sort_dir=st.sampled_from(listing.SORT_DIRS),
)
#: What decides the way: as it is, and such that a few hundred images are as many.
BOUNDS = {
    "usual": {},
    "tiny": {
        "MOST_FEW": 12,
        "MOST_RARE": 3,
        "MOST_SHARED": 4,
        "_FIRST": 1,
        "_FIRST_UNFILTERED": 1,
        "_LARGEST": 9,
    },
    "no few": {"MOST_FEW": 0, "MOST_RARE": 0, "MOST_SHARED": 0, "_LARGEST": 16},
    "no merging": {"MOST_FEW": 0, "MOST_RARE": 0, "MOST_SHARED": 100, "_LARGEST": 16},
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
        monkeypatch.setattr(image_list, name, value)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    caller=st.sampled_from(sorted(CALLERS)),
    query=QUERIES,
    limit=st.sampled_from((1, 3, 10, 1000)),
    detail=st.booleans(),
    data=st.data(),
)
def test_a_page_is_what_the_model_says(
    crowd: Any, bounds: None, caller: str, query: Any, limit: int, detail: bool, data: Any
) -> None:
    database, model = crowd
    context = CALLERS[caller]
    if not context.is_admin:
        # As `listing.parse` has it.
        query = dataclasses.replace(query, is_public=True)
    wanted = model.listed(context, query)
    marker = data.draw(st.none() | st.sampled_from(wanted)) if wanted else None
    begin = wanted.index(marker) + 1 if marker is not None else 0
    page = dataclasses.replace(query, marker=marker, limit=limit)
    found = api.image_list(database, context, page, detail=detail)
    assert [image["id"] for image in found] == wanted[begin : begin + limit]
    public = [fields.to_public_json(image) for image in found] if detail else found
    document = json.dumps({"images": public}, default=lenient.text).encode()
    assert api.public_page(database, context, page, detail=detail) == document


@pytest.mark.parametrize("caller", ["admin", "t1", "anonymous"])
def test_pages_one_after_the_other_are_the_whole_list(
    crowd: Any, bounds: None, caller: str
) -> None:
    database, model = crowd
    context = CALLERS[caller]
    for key in listing.SORT_KEYS:
        for direction in listing.SORT_DIRS:
            found: list[int] = []
            query = listing.ListQuery(limit=17, sort_key=key, sort_dir=direction)
            while True:
                page = api.image_list(database, context, query, detail=False)
                if not page:
                    break
                found += [image["id"] for image in page]
                query = dataclasses.replace(query, marker=found[-1])
            assert found == model.listed(context, query), (key, direction)

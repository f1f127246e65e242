"""Who may see, share and change an image: one table of cases for the predicate and for SQL."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from glance.common import exception
from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models, records

CALLERS = {
    "admin": RequestContext(is_admin=True),
    "admin with tenant": RequestContext(is_admin=True, tenant="me"),
    "anonymous": RequestContext(read_only=True),
    "tenant": RequestContext(tenant="me", user="u"),
    "user": RequestContext(tenant="t", user="me", owner_is_tenant=False),
}
OWNERS = {"ownerless": None, "own": "me", "other's": "you"}
MEMBERSHIPS = {
    "no member": None,
    "member": {"can_share": False, "deleted": False},
    "sharer": {"can_share": True, "deleted": False},
    "removed sharer": {"can_share": True, "deleted": True},
}
CASES = list(itertools.product(CALLERS, OWNERS, (True, False), MEMBERSHIPS))
IDS = [f"{c}-{o}-{'public' if p else 'private'}-{m}" for c, o, p, m in CASES]


def expected(caller: str, owner: str, public: bool, member: str) -> dict[str, bool]:
    """The rules of the specification, written out once more."""
    known, admin = caller in ("tenant", "user", "admin with tenant"), caller.startswith("admin")
    owns, shared = known and owner == "own", known and member in ("member", "sharer")
    return {
        "visible": admin or owner == "ownerless" or public or owns or shared,
        "mutable": admin or owns,
        "sharable": admin or owns or (known and member == "sharer"),
        "listed": public or owns or shared,
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, migrated: Any) -> Any:
    """One image for each kind of owner, publicity and membership of `me`."""
    import shutil

    path = tmp_path_factory.mktemp("world") / "registry.sqlite"
    shutil.copy(migrated, path)
    database = engine.Database(f"sqlite:///{path}")
    ids = {}
    with database.write() as conn:
        combinations = itertools.product(OWNERS, (True, False), MEMBERSHIPS)
        for number, (owner, public, member) in enumerate(combinations, 1):
            ids[owner, public, member] = number
            conn.execute(
                models.images.insert().values(
                    id=number,
                    status="active",
                    owner=OWNERS[owner],
                    is_public=public,
                    created_at=records.utcnow(),
                )
            )
            # A membership of somebody else must never count.
            for name, membership in (
                ("me", MEMBERSHIPS[member]),
                ("they", MEMBERSHIPS["sharer"]),
            ):
                if membership is not None:
                    conn.execute(
                        models.image_members.insert().values(
                            image_id=number,
                            member=name,
                            created_at=records.utcnow(),
                            **membership,
                        )
                    )
    yield database, ids
    database.dispose()


@pytest.mark.parametrize("caller,owner,public,member", CASES, ids=IDS)
def test_predicates_follow_the_rules(caller: str, owner: str, public: bool, member: str) -> None:
    context = CALLERS[caller]
    image = {"owner": OWNERS[owner], "is_public": public}
    membership = None if context.owner is None else MEMBERSHIPS[member]
    rules = expected(caller, owner, public, member)
    assert context.is_image_visible(image, membership) == rules["visible"]
    assert context.is_image_mutable(image) == rules["mutable"]
    assert context.is_image_sharable(image, membership) == rules["sharable"]


@pytest.mark.parametrize("caller,owner,public,member", CASES, ids=IDS)
def test_sql_follows_the_same_rules(
    world: Any, caller: str, owner: str, public: bool, member: str
) -> None:
    database, ids = world
    context, image_id = CALLERS[caller], ids[owner, public, member]
    rules = expected(caller, owner, public, member)

    def allowed(call: Any, *args: Any) -> bool:
        try:
            call(database, context, image_id, *args)
        except (exception.NotFound, exception.NotAuthorized):
            return False
        return True

    assert allowed(api.image_get) == rules["visible"]
    assert allowed(api.member_check) == rules["sharable"]
    with database.write() as conn:
        try:
            records.lock_mutable(conn, context, image_id)
            mutable = True
        except exception.ImageNotFound:
            mutable = False
    assert mutable == rules["mutable"]
    page = api.image_list(database, context, listing.ListQuery(limit=1000))
    assert (image_id in {image["id"] for image in page}) == rules["listed"]


@pytest.mark.parametrize("caller", ["admin", "admin with tenant"])
@pytest.mark.parametrize("is_public", [None, False])
def test_administrators_may_ask_for_all_or_for_what_is_not_public(
    world: Any, caller: str, is_public: bool | None
) -> None:
    database, ids = world
    query = listing.ListQuery(limit=1000, is_public=is_public)
    page = api.image_list(database, CALLERS[caller], query)
    wanted = {n for (_, public, _), n in ids.items() if is_public is None or not public}
    assert {image["id"] for image in page} == wanted

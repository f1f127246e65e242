"""Sharing images: memberships over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.registry.context import RequestContext
from glance.registry.db import models

ADMIN = RequestContext(is_admin=True)
OWNER = RequestContext(tenant="owner", user="u")
MEMBER = RequestContext(tenant="member", user="u")
SHARER = RequestContext(tenant="sharer", user="u")
OTHER = RequestContext(tenant="other", user="u")
NOBODY = RequestContext()


@pytest.fixture
def shared(registry: Any) -> Any:
    """Image 1, private, shared with `member` and, with the right to share, with `sharer`."""
    registry.create(OWNER)
    registry.share(1, "member")
    registry.share(1, "sharer", True)
    return registry


def put(registry: Any, context: RequestContext, member: str, body: Any = None) -> int:
    status: int = registry.call("PUT", f"/images/1/members/{member}", body, context).status_int
    return status


def replace(registry: Any, *entries: Any, context: RequestContext = ADMIN) -> Any:
    return registry.call("PUT", "/images/1/members", {"memberships": list(entries)}, context)


# -- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context,public,status",
    [
        (ADMIN, False, 204),
        (OWNER, False, 204),
        (SHARER, False, 204),
        (MEMBER, False, 403),
        (OTHER, False, 404),
        (OTHER, True, 403),
        (NOBODY, False, 401),
        (NOBODY, True, 401),
    ],
)
def test_who_may_change_memberships(
    shared: Any, context: RequestContext, public: bool, status: int
) -> None:
    shared.update(1, is_public=public)
    assert put(shared, context, "new") == status
    assert shared.call("DELETE", "/images/1/members/new", context=context).status_int == status
    entries = ({"member_id": "sharer"}, {"member_id": "member"})
    assert replace(shared, *entries, context=context).status_int == status


def test_a_removed_sharer_may_share_no_more(shared: Any) -> None:
    shared.update(1, is_public=True)
    assert put(shared, SHARER, "x") == 204
    assert shared.call("DELETE", "/images/1/members/sharer").status_int == 204
    assert put(shared, SHARER, "y") == 403


@pytest.mark.parametrize("image_id", ["99", "x", "0"])
def test_an_image_that_is_not_there_has_no_members(registry: Any, image_id: str) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("PUT", "/t"), ("DELETE", "/t")):
        response = registry.call(method, f"/images/{image_id}/members{path}", b"junk")
        assert response.status_int == 404


def test_the_right_to_share_is_checked_before_the_body(shared: Any) -> None:
    assert put(shared, OTHER, "t", b"junk") == 404
    assert put(shared, MEMBER, "t", b"junk") == 403
    assert put(shared, NOBODY, "t", b"junk") == 401


# -- add and remove ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body,can_share",
    [
        (None, False),
        ({"member": {"can_share": True}}, True),
        ({"member": {"can_share": False}}, False),
        ({"member": {"can_share": "true"}}, True),
        ({"member": {"can_share": "False"}}, False),
    ],
)
def test_add_a_member(registry: Any, body: Any, can_share: bool) -> None:
    registry.create(OWNER)
    assert put(registry, OWNER, "new", body) == 204
    assert registry.members(1) == [("new", can_share)]


def test_adding_again_without_a_value_changes_nothing(shared: Any) -> None:
    shared.share(1, "sharer")
    assert shared.members(1) == [("member", False), ("sharer", True)]


def test_adding_again_with_a_value_sets_it(shared: Any) -> None:
    shared.share(1, "sharer", False)
    shared.share(1, "member", True)
    assert shared.members(1) == [("member", True), ("sharer", False)]


def test_a_removed_member_comes_back_without_its_old_right(shared: Any) -> None:
    shared.call("DELETE", "/images/1/members/sharer")
    assert shared.members(1) == [("member", False)]
    assert shared.call("GET", "/images/1", context=SHARER).status_int == 404
    shared.share(1, "sharer")
    assert shared.members(1) == [("member", False), ("sharer", False)]
    assert shared.call("GET", "/images/1", context=SHARER).status_int == 200


def test_removing_twice_or_a_stranger_is_no_error(shared: Any) -> None:
    for member in ("member", "member", "stranger"):
        assert shared.call("DELETE", f"/images/1/members/{member}").status_int == 204
    with shared.db.read() as conn:
        table = models.image_members
        row = conn.execute(sa.select(table).where(table.c.member == "member")).one()
    assert row.deleted and row.deleted_at is not None


def test_a_member_name_may_be_odd(registry: Any) -> None:
    registry.create(OWNER)
    for name in ("a b", "caf%C3%A9", "%3F%23", "..", "new"):
        assert put(registry, OWNER, name) == 204
    assert [name for name, _ in registry.members(1)] == ["a b", "caf\u00e9", "?#", "..", "new"]


@pytest.mark.parametrize("name", ["m" * 256, "a%0Db", "a%00", "%FF"])
def test_a_member_name_that_cannot_be_stored_is_refused(registry: Any, name: str) -> None:
    registry.create(OWNER)
    assert put(registry, OWNER, name) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"junk",
        b"[]",
        {},
        {"member": None},
        {"member": {}},
        {"member": {"can_share": None}},
        {"member": {"can_share": 1}},
        {"member": {"can_share": "maybe"}},
        {"member": {"can_share": []}},
    ],
    ids=str,
)
def test_a_body_without_a_right_is_refused(registry: Any, body: Any) -> None:
    registry.create(OWNER)
    assert put(registry, OWNER, "t", body) == 400
    assert registry.members(1) == []


# -- replace -------------------------------------------------------------------------------------


def test_replace_keeps_changes_adds_and_removes(shared: Any) -> None:
    shared.share(1, "gone", True)
    response = replace(
        shared,
        {"member_id": "sharer"},
        {"member_id": "member", "can_share": True},
        {"member_id": "new"},
    )
    assert response.status_int == 204 and response.body == b""
    assert shared.members(1) == [("member", True), ("sharer", True), ("new", False)]


def test_replace_forgets_the_right_of_a_removed_member(shared: Any) -> None:
    shared.call("DELETE", "/images/1/members/sharer")
    replace(shared, {"member_id": "sharer"})
    assert shared.members(1) == [("sharer", False)]


def test_replace_with_nothing_removes_all(shared: Any) -> None:
    assert replace(shared).status_int == 204
    assert shared.members(1) == []


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"junk",
        [{"member_id": "t"}],
        {"member_id": "t"},
        {},
        {"memberships": None},
        {"memberships": {"member_id": "t"}},
        {"memberships": "t"},
        {"memberships": ["t"]},
        {"memberships": [{}]},
        {"memberships": [{"can_share": True}]},
        {"memberships": [{"member_id": ""}]},
        {"memberships": [{"member_id": None}]},
        {"memberships": [{"member_id": 5}]},
        {"memberships": [{"member_id": "m" * 256}]},
        {"memberships": [{"member_id": "a\nb"}]},
        {"memberships": [{"member_id": "t", "can_share": "x"}]},
        {"memberships": [{"member_id": "a"}, {"member_id": "b"}, {"member_id": "a"}]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_bad_list_of_members_changes_nothing(shared: Any, body: Any) -> None:
    before = shared.members(1)
    assert shared.call("PUT", "/images/1/members", body).status_int == 400
    assert shared.members(1) == before


def test_member_quota(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(image_member_quota="2")
    registry.create()
    entries = [{"member_id": name} for name in "abc"]
    assert replace(registry, *entries).status_int == 413
    assert replace(registry, *entries[:2]).status_int == 204
    assert put(registry, ADMIN, "c") == 413
    assert put(registry, ADMIN, "a", {"member": {"can_share": True}}) == 204
    registry.call("DELETE", "/images/1/members/a")
    assert put(registry, ADMIN, "c") == 204


# -- who sees what -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context,names",
    [
        (ADMIN, ["member", "sharer"]),
        (OWNER, ["member", "sharer"]),
        (MEMBER, ["member"]),
        (SHARER, ["sharer"]),
        (OTHER, []),
        (NOBODY, []),
    ],
)
def test_who_sees_which_members(shared: Any, context: RequestContext, names: list[str]) -> None:
    shared.update(1, is_public=True)
    assert [name for name, _ in shared.members(1, context)] == names


def test_members_of_an_invisible_image_are_not_found(shared: Any) -> None:
    assert shared.call("GET", "/images/1/members", context=OTHER).status_int == 404


def test_shared_images_newest_membership_first(registry: Any) -> None:
    for _ in range(3):
        registry.create(OWNER)
    for image_id in (2, 1, 3):
        registry.share(image_id, "member", image_id == 1)
    found = registry.get("/shared-images/member")["shared_images"]
    assert found == [
        {"image_id": 3, "can_share": False},
        {"image_id": 1, "can_share": True},
        {"image_id": 2, "can_share": False},
    ]


def test_shared_images_are_live_ones(registry: Any) -> None:
    for _ in range(3):
        registry.create(OWNER)
        registry.share(_ + 1, "member")
    registry.call("DELETE", "/images/1/members/member")
    registry.call("DELETE", "/images/2")
    assert [
        entry["image_id"] for entry in registry.get("/shared-images/member")["shared_images"]
    ] == [3]


@pytest.mark.parametrize(
    "context,ids",
    [(ADMIN, [2, 1]), (MEMBER, [2, 1]), (OWNER, [1]), (OTHER, []), (NOBODY, [])],
)
def test_who_sees_what_is_shared_with_a_member(
    registry: Any, context: RequestContext, ids: list[int]
) -> None:
    registry.create(OWNER)
    registry.create(SHARER)
    registry.share(1, "member")
    registry.share(2, "member")
    found = registry.get("/shared-images/member", context)["shared_images"]
    assert [entry["image_id"] for entry in found] == ids


def test_nothing_is_shared_with_a_stranger(registry: Any) -> None:
    assert registry.get("/shared-images/stranger") == {"shared_images": []}


def test_a_member_sees_the_image_in_its_list(shared: Any) -> None:
    assert shared.listed(context=MEMBER) == [1]
    assert shared.listed(context=OTHER) == []
    shared.call("DELETE", "/images/1/members/member")
    assert shared.listed(context=MEMBER) == []

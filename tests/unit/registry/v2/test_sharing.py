"""Who sees which image, by both versions; members with a status; the columns that must agree."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from glance.registry.context import RequestContext
from glance.registry.db import models, records, visibility
from tests.unit.registry.conftest import ADMIN, Registry
from tests.unit.registry.v2.conftest import CALLERS, MEMBER, OWNER, STRANGER, V2

WORDS = ("public", "community", "shared", "private")
#: Who reads an image by its id, and who sees it in the list that version 1 makes by default.
READERS = {
    "public": {"admin", "owner", "member", "stranger", "anonymous"},
    "community": {"admin", "owner", "member", "stranger", "anonymous"},
    "shared": {"admin", "owner", "member"},
    "private": {"admin", "owner"},
}
LISTED = {
    "public": {"owner", "member", "stranger", "anonymous"},
    "community": {"owner"},
    "shared": {"owner", "member"},
    "private": {"owner"},
}


def shared_with_member(v2: V2, **values: Any) -> dict[str, Any]:
    """Make an image that has a member, whatever its visibility."""
    image = v2.create()
    assert v2.share(image, "member").status_int == 200
    response = v2.patch(image, ADMIN, set=values)
    assert response.status_int == 200, response.text
    return response.json["image"]


@pytest.mark.parametrize("word", WORDS)
def test_who_reads_and_who_lists(v2: V2, registry: Registry, word: str) -> None:
    image = shared_with_member(v2, visibility=word)
    read = {
        name
        for name, caller in CALLERS.items()
        if v2.call("GET", f"/{image['uuid']}", context=caller).status_int == 200
    }
    older = {
        name
        for name, caller in CALLERS.items()
        if registry.call("GET", f"/images/{image['id']}", context=caller).status_int == 200
    }
    assert read == older == READERS[word]
    listed = {name for name, caller in CALLERS.items() if registry.listed(context=caller)}
    assert listed - {"admin"} == LISTED[word]
    assert bool(registry.listed("is_public=false")) == (word != "public")
    assert registry.listed("is_public=none") == [image["id"]]


@pytest.mark.parametrize("word", WORDS)
def test_without_an_owner_all_but_private_images_are_read_by_everybody(v2: V2, word: str) -> None:
    image = shared_with_member(v2, visibility=word, owner=None)
    status = v2.call("GET", f"/{image['uuid']}", context=STRANGER).status_int
    assert status == (404 if word == "private" else 200)


@pytest.mark.parametrize("query", ["", "sort_key=name", "name=n", "limit=1", "size_min=0"])
def test_hidden_images_are_in_the_list_of_all_only(v2: V2, registry: Registry, query: str) -> None:
    for word in WORDS:
        shared_with_member(v2, visibility=word, os_hidden=True, name="n")
    for caller in (OWNER, MEMBER, STRANGER, ADMIN):
        assert registry.listed(query, caller) == []
    assert registry.listed(f"is_public=false&{query}") == []
    found = registry.listed("is_public=none")
    assert len(found) == 4
    assert registry.call("GET", f"/images/{found[0]}", context=OWNER).status_int == 200


def test_a_rejected_image_is_read_but_not_listed(v2: V2, registry: Registry) -> None:
    image = shared_with_member(v2)
    for status, seen in (("rejected", False), ("accepted", True), ("pending", True)):
        assert v2.decide(image, "member", status).json["member"]["status"] == status
        assert bool(registry.listed(context=MEMBER)) == seen
        assert v2.call("GET", f"/{image['uuid']}", context=MEMBER).status_int == 200


def test_members_come_back_with_the_visibility(v2: V2, registry: Registry) -> None:
    image = shared_with_member(v2)
    v2.patch(image, set={"visibility": "private"})
    assert registry.listed(context=MEMBER) == []
    assert registry.get("/shared-images/member", MEMBER) == {"shared_images": []}
    v2.patch(image, set={"visibility": "shared"})
    assert registry.listed(context=MEMBER) == [image["id"]]


# -- members -------------------------------------------------------------------------------------


def test_a_membership_has_a_status_and_times(v2: V2) -> None:
    image = v2.create()
    added = v2.share(image, "member").json["member"]
    assert added["image_id"] == image["uuid"] and added["member_id"] == "member"
    assert added["status"] == "pending" and added["created_at"] == added["updated_at"]
    assert v2.share(image, "member").status_int == 409
    v2.share(image, "other")
    path = f"/{image['uuid']}/members"
    rows = v2.call("GET", path).json["members"]
    assert [row["member_id"] for row in rows] == ["member", "other"]
    assert v2.call("GET", path, context=MEMBER).json["members"] == [added]
    changed = v2.decide(image, "member", "accepted").json["member"]
    assert changed["updated_at"] > added["updated_at"]
    assert v2.call("GET", f"{path}/member").json["member"] == changed


def test_who_was_removed_begins_again(v2: V2, registry: Registry) -> None:
    image = v2.create()
    registry.share(image["id"], "member", True)
    v2.decide(image, "member", "accepted")
    path = f"/{image['uuid']}/members/member"
    assert v2.call("DELETE", path).status_int == 204
    assert v2.call("DELETE", path).status_int == 404
    assert v2.share(image, "member").json["member"]["status"] == "pending"
    assert registry.members(image["id"]) == [("member", False)]


def test_version_1_keeps_the_status_of_whom_it_keeps(v2: V2, registry: Registry) -> None:
    image = v2.create()

    def replace(*names: str) -> dict[str, str]:
        body = {"memberships": [{"member_id": name, "can_share": True} for name in names]}
        path = f"/images/{image['id']}/members"
        assert registry.call("PUT", path, body).status_int == 204
        rows = v2.call("GET", f"/{image['uuid']}/members").json["members"]
        return {row["member_id"]: row["status"] for row in rows}

    assert replace("member", "other") == {"member": "pending", "other": "pending"}
    v2.decide(image, "member", "accepted")
    assert replace("member") == {"member": "accepted"}
    assert replace() == {}
    assert replace("member") == {"member": "pending"}


@pytest.mark.parametrize(
    ("caller", "shown", "added", "decided", "removed"),
    [
        ("admin", 200, 200, 200, 204),
        ("owner", 200, 200, 403, 204),
        ("member", 200, 403, 200, 403),
        ("other", 404, 403, 404, 403),
        ("stranger", 404, 404, 404, 404),
        ("anonymous", 404, 403, 403, 403),
    ],
)
def test_who_may_do_what_with_members(
    v2: V2, caller: str, shown: int, added: int, decided: int, removed: int
) -> None:
    image = shared_with_member(v2)
    v2.share(image, "other")
    who = {**CALLERS, "other": RequestContext(tenant="other")}[caller]
    path = f"/{image['uuid']}/members/member"
    assert v2.call("GET", path, context=who).status_int == shown
    assert v2.share(image, "new", who).status_int == added
    assert v2.decide(image, "member", "accepted", who).status_int == decided
    assert v2.call("DELETE", path, context=who).status_int == removed


def test_a_right_to_share_counts_by_version_1_only(v2: V2, registry: Registry) -> None:
    image = v2.create()
    registry.share(image["id"], "member", True)
    assert v2.share(image, "new", MEMBER).status_int == 403
    path = f"/images/{image['id']}/members/new"
    assert registry.call("PUT", path, context=MEMBER).status_int == 204


@pytest.mark.parametrize("word", ["public", "community", "private"])
def test_only_shared_images_have_members(v2: V2, registry: Registry, word: str) -> None:
    image = shared_with_member(v2, visibility=word)
    assert v2.call("GET", f"/{image['uuid']}/members").status_int == 403
    assert v2.share(image, "new").status_int == 403
    older = registry.call("PUT", f"/images/{image['id']}/members/new", context=OWNER)
    assert older.status_int == (403 if word == "private" else 204)


@pytest.mark.parametrize("member", ["", None, 5, "x" * 256, "a\n", ["a"]])
def test_an_impossible_member_is_refused(v2: V2, member: Any) -> None:
    image = v2.create()
    assert v2.share(image, member).status_int == 400
    assert v2.call("GET", f"/{image['uuid']}/members").json == {"members": []}


@pytest.mark.parametrize("status", ["", None, "Accepted", 1, [], "owner"])
def test_an_impossible_status_is_refused(v2: V2, status: Any) -> None:
    image = shared_with_member(v2)
    assert v2.decide(image, "member", status).status_int == 400


# -- both versions together ----------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_what_version_1_sends_again_leaves_the_visibility(
    v2: V2, registry: Registry, word: str
) -> None:
    image = v2.create(visibility=word)
    shown = registry.get(f"/images/{image['id']}")["image"]["is_public"]
    assert shown == (word == "public")
    assert registry.update(image["id"], name="n")["visibility"] == word
    assert registry.update(image["id"], is_public=shown)["visibility"] == word
    other = registry.update(image["id"], is_public=not shown)
    assert other["visibility"] == ("shared" if shown else "public")


def test_a_purge_by_version_1_leaves_what_it_cannot_show(v2: V2, registry: Registry) -> None:
    hard = {"Trait:X": "1", "hw-disk-bus": "2", "a b": "3", "a/b": "4"}
    image = v2.create(properties={**hard, "os": "linux", "größe": "5"})
    registry.update(image["id"], purge=True, properties={"arch": "x"})
    assert v2.show(image)["properties"] == {**hard, "arch": "x"}


def test_version_1_changes_the_property_that_it_shows(v2: V2, registry: Registry) -> None:
    image = v2.create(properties={"Foo": "1"})
    assert registry.get(f"/images/{image['id']}")["image"]["properties"] == {"foo": "1"}
    changed = registry.update(image["id"], properties={"foo": "2"})
    assert changed["properties"] == {"foo": "2"}
    assert v2.show(image)["properties"] == {"Foo": "2"}
    v2.patch(image, properties={"foo": "3"})
    assert registry.update(image["id"], properties={"foo": "4"})["properties"] == {"foo": "4"}
    assert v2.show(image)["properties"] == {"Foo": "2", "foo": "4"}


def test_is_public_and_visibility_agree_after_any_walk(v2: V2, registry: Registry) -> None:
    """A thousand random operations of both versions, on five images."""
    dice = random.Random(20261127)
    numbers: list[dict[str, Any]] = [v2.create() for _ in range(5)]

    def by_version_1(image: dict[str, Any]) -> None:
        body: dict[str, Any] = {"name": str(dice.random())}
        if dice.random() < 0.7:
            body["is_public"] = dice.random() < 0.5
        registry.update(image["id"], purge=dice.random() < 0.5, **body)

    def by_version_2(image: dict[str, Any]) -> None:
        word = dice.choice(WORDS)
        after = v2.patch(image, set={"visibility": word}).json["image"]
        assert after["visibility"] == word

    def members(image: dict[str, Any]) -> None:
        v2.share(image, dice.choice("abc"))
        registry.call("DELETE", f"/images/{image['id']}/members/{dice.choice('abc')}")

    def anew(image: dict[str, Any]) -> None:
        v2.call("DELETE", f"/{image['uuid']}")
        numbers.remove(image)
        older = registry.create(owner="owner", status="queued", is_public=dice.random() < 0.5)
        numbers.append(dice.choice((v2.create, lambda **kw: older))(visibility=dice.choice(WORDS)))

    for _ in range(1000):
        step = dice.choices((by_version_1, by_version_2, members, anew), (4, 4, 1, 1))[0]
        step(dice.choice(numbers))
    columns = models.images.c
    with registry.db.read() as conn:
        rows = conn.execute(sa.select(columns.is_public, columns.visibility)).all()
    assert len(rows) > 50
    assert all(row.is_public == (row.visibility == "public") for row in rows)


def test_a_registry_of_an_earlier_version_counts_by_is_public(v2: V2, registry: Registry) -> None:
    """It writes that column alone; what is public then is, and what was is shared."""
    made, unmade = v2.create(visibility="private"), v2.create(visibility="public")
    for image, flag in ((made, True), (unmade, False)):
        row = models.images.c.id == image["id"]
        with registry.db.write() as conn:
            conn.execute(models.images.update().where(row).values(is_public=flag))
    assert v2.show(made)["visibility"] == "public" and v2.show(unmade)["visibility"] == "shared"
    assert v2.call("GET", f"/{unmade['uuid']}", context=STRANGER).status_int == 404
    assert v2.call("GET", f"/{made['uuid']}", context=STRANGER).status_int == 200
    found = {}
    for word in WORDS:
        clause = visibility.has_visibility(models.images.c, word)
        with registry.db.read() as conn:
            found[word] = set(conn.execute(sa.select(models.images.c.id).where(clause)).scalars())
    assert found["public"] == {made["id"]} and found["shared"] == {unmade["id"]}
    assert found["private"] == found["community"] == set()
    # The next change makes the columns agree.
    v2.patch(unmade, set={"name": "n"})
    with registry.db.read() as conn:
        image = records.lock(conn, ADMIN, unmade["id"])
        stored = sa.select(models.images.c.visibility).where(models.images.c.id == image["id"])
        assert conn.execute(stored).scalar() == "shared"

"""Lists of version 2, as its client asks the registry for them: who has what in which list."""

from __future__ import annotations

import itertools
import urllib.parse
from typing import Any

import pytest

from glance.identity import authtoken
from glance.image import entity, search
from glance.registry.context import RequestContext
from tests.unit.registry.conftest import ADMIN
from tests.unit.registry.v2.conftest import V2

OWNER = RequestContext(tenant="owner")
CALLERS = {
    "owner": OWNER,
    "pending": RequestContext(tenant="pending"),
    "accepted": RequestContext(tenant="accepted"),
    "rejected": RequestContext(tenant="rejected"),
    "stranger": RequestContext(tenant="stranger"),
    "anonymous": RequestContext(read_only=True),
    "admin": RequestContext(is_admin=True, tenant="boss"),
    "everybody": ADMIN,
}
MEMBERS = ("pending", "accepted", "rejected")
#: The images of the owner, and one that is the stranger's; all but the last are shared.
KINDS = ("public", "private", "shared", "community")
OWN = {*KINDS}


@pytest.fixture
def lists(v2: V2) -> V2:
    for kind in KINDS:
        image = v2.create(OWNER, name=kind, visibility="shared")
        for member in MEMBERS:
            assert v2.share(image, member).status_int == 200
            assert v2.decide(image, member, member, CALLERS[member]).status_int == 200
        assert v2.patch(image, OWNER, set={"visibility": kind}).status_int == 200
    v2.create(OWNER, name="hidden", visibility="public", os_hidden=True)
    v2.create(CALLERS["stranger"], name="foreign", visibility="shared")
    deleted = v2.create(OWNER, name="deleted", visibility="public")
    assert v2.call("DELETE", f"/{deleted['uuid']}", context=OWNER).status_int == 200
    return v2


def find(lists: V2, caller: str, *parameters: tuple[str, str]) -> Any:
    query = urllib.parse.quote(search.parse(parameters).to_wire())
    response = lists.call("GET", f"?q={query}", context=CALLERS[caller])
    assert response.status_int == 200, response.text
    return response.json


def listed(lists: V2, caller: str, *parameters: tuple[str, str]) -> set[str]:
    names = [image["name"] for image in find(lists, caller, *parameters)["images"]]
    assert len(set(names)) == len(names)
    return set(names)


#: What callers see without words, and with each visibility, of the member status in question.
PUBLIC = {"public"}


def expected(caller: str, visibility: str | None, status: str | None) -> set[str]:
    status = status or "accepted"
    everything = {*KINDS, "foreign"}
    if caller in ("admin", "everybody"):
        if visibility is None:
            return everything - ({"community"} if caller == "admin" else set())
        if visibility == "all":
            return everything
        return {"shared", "foreign"} if visibility == "shared" else {visibility}
    own = {"owner": OWN, "stranger": {"foreign"}}.get(caller, set())
    shared = {"shared"} if caller in MEMBERS and status in ("all", caller) else set()
    return {
        None: PUBLIC | own | shared,
        "all": PUBLIC | own | shared | {"community"},
        "public": PUBLIC,
        "private": own & {"private"},
        "shared": (own & {"shared", "foreign"}) | shared,
        "community": {"community"},
    }[visibility]


@pytest.mark.parametrize("caller", CALLERS)
def test_who_has_what_in_a_list(lists: V2, caller: str) -> None:
    cells = itertools.product((None, *search.SCOPES), (None, *search.MEMBER_STATUSES))
    for visibility, status in cells:
        given = {"visibility": visibility, "member_status": status}
        parameters = [(name, word) for name, word in given.items() if word is not None]
        wanted = expected(caller, visibility, status)
        assert listed(lists, caller, *parameters) == wanted, (visibility, status)


def test_hidden_images_are_listed_only_on_demand(lists: V2) -> None:
    for caller in CALLERS:
        assert listed(lists, caller, ("os_hidden", "True")) == {"hidden"}
        assert listed(lists, caller, ("os_hidden", "false"), ("name", "hidden")) == set()


def test_the_limit_is_that_of_the_registry(lists: V2) -> None:
    first = find(lists, "everybody", ("limit", "2"), ("sort", "name:asc"))
    assert [image["name"] for image in first["images"]] == ["community", "foreign"]
    assert first["has_more"] is True
    assert find(lists, "everybody", ("limit", "0")) == {"images": [], "has_more": False}
    assert find(lists, "everybody", ("limit", "5000"))["has_more"] is False


def test_a_marker_of_another_caller_is_refused(lists: V2) -> None:
    foreign = find(lists, "stranger", ("name", "foreign"))["images"][0]
    query = urllib.parse.quote(search.parse([("marker", foreign["uuid"])]).to_wire())
    assert lists.call("GET", f"?q={query}", context=OWNER).status_int == 400
    assert lists.call("GET", f"?q={query}", context=CALLERS["stranger"]).status_int == 200


@pytest.mark.parametrize("query", ["", "x", "{}", '[["limit","x"]]', '[["a",1]]', '[["sort",""]]'])
def test_a_query_that_nobody_could_send_is_refused(lists: V2, query: str) -> None:
    response = lists.call("GET", f"?q={urllib.parse.quote(query)}", context=OWNER)
    assert response.status_int == 400
    assert len(response.text.splitlines()[-1]) > 20


def test_a_tenant_that_reaches_the_registry_is_told_no_locations(new_registry: Any) -> None:
    secret = {authtoken.ACCOUNT_SECRET: "the secret of the account"}
    v2 = V2(new_registry(auth_mode="keystone", bind_host="0.0.0.0", **secret))
    image = v2.create(OWNER, name="one")
    for context, told in ((ADMIN, True), (OWNER, False)):
        response = v2.call("GET", "", context=context)
        assert [one["uuid"] for one in response.json["images"]] == [image["uuid"]]
        assert ("location" in response.json["images"][0]) is told


ODD = {
    "name": "CAST('ü' AS BLOB)",
    "status": "CAST('active' AS BLOB)",
    "checksum": "CAST('' AS BLOB)",
    "disk_format": "CAST('raw' AS BLOB)",
    "created_at": "'2011-09-22'",
    "updated_at": "'rubbish'",
    "size": "1234",
    "virtual_size": "'many'",
    "min_ram": "-1",
    "is_public": "1",
}


def test_the_public_form_is_what_the_api_makes_of_full_records(registry: Any, v2: V2) -> None:
    if registry.db.dialect != "sqlite":
        pytest.skip("other databases have no such values")
    v2.create(OWNER, name="plain", properties={"Trait:X": "ü"}, tags=["b", "a"])
    v2.activate(v2.create(OWNER, name="active", disk_format="raw", container_format="bare"))
    odd = v2.create(OWNER, name="odd", properties={"x": "x", "y": "y", "p": ""})
    with registry.db.write() as conn:
        for name, value in ODD.items():
            text = f"UPDATE images SET {name} = {value} WHERE id = {odd['id']}"
            conn.exec_driver_sql(text)
        for old, name in (("x", "self"), ("y", "os_glance_y")):
            text = f"UPDATE image_properties SET name = '{name}' WHERE name = '{old}'"
            conn.exec_driver_sql(text)
    shown = {}
    for public in ("false", "true"):
        headers = {
            "X_Glance_Registry_Public_Shape": public,
            "User_Agent": "glance-registry-client",
        }
        shown[public] = registry.call("GET", "/v2/images", context=OWNER, **headers)
    full = shown["false"].json["images"]
    assert len(full) == 3 and "ü" in {image["name"] for image in full}
    assert shown["true"].json == [entity.to_json(image) for image in full]
    assert "location" not in shown["true"].text and "file:///x" not in shown["true"].text

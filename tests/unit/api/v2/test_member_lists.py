"""Which images a member lists by version 2: it depends on what the member says to it."""

import pytest

from tests.unit.api.conftest import PAYLOAD
from tests.unit.api.v2.both import MEMBER, OWNER
from tests.unit.api.v2.test_members import add, say


@pytest.fixture
def image(api):
    made = api.make(PAYLOAD, OWNER, name="shared one")
    assert add(api, made, "member").status_int == 200
    return made


def listed(api, caller, query=""):
    return [one["name"] for one in api("GET", f"/v2/images?{query}", **caller).json["images"]]


def test_what_a_member_says_decides_what_it_lists(api, image):
    path = image["file"]
    assert listed(api, MEMBER) == []
    assert listed(api, MEMBER, "member_status=pending&visibility=shared") == ["shared one"]
    assert api("GET", path, **MEMBER).body == PAYLOAD
    changed = say(api, image, "member", "accepted", MEMBER)
    assert (changed.status_int, changed.json["status"]) == (200, "accepted")
    assert listed(api, MEMBER) == ["shared one"]
    assert say(api, image, "member", "rejected", MEMBER).status_int == 200
    assert listed(api, MEMBER) == []
    assert api("GET", path, **MEMBER).body == PAYLOAD


def test_an_image_that_is_no_longer_shared_keeps_its_members(api, image):
    say(api, image, "member", "accepted", MEMBER)
    for visibility, status in (("private", 404), ("shared", 200)):
        patch = [{"op": "replace", "path": "/visibility", "value": visibility}]
        headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        assert api.json("PATCH", image["self"], patch, headers, **OWNER).status_int == 200
        assert api("GET", image["self"], **MEMBER).status_int == status
    assert listed(api, MEMBER) == ["shared one"]

"""Calls to the registry that it carries out, but whose response the API never gets."""

import time

import pytest

from glance.api import recovery, upload
from glance.streaming import retry
from glance.testing.faults import Fault, FaultProxy
from tests.unit.api.v2.callers import MEMBER, OWNER


@pytest.fixture
def proxy(registry, monkeypatch):
    """What is between the API and its registry; pauses are short."""
    brief = retry.Backoff(0.01, 0.01, retries=3)
    monkeypatch.setattr(upload, "ACTIVATION_BACKOFF", brief)
    monkeypatch.setattr(recovery, "LATE_CALLS", brief)
    with FaultProxy(registry.port) as running:
        yield running


@pytest.fixture
def api(make_api, proxy):
    return make_api(registry_port=str(proxy.port))


@pytest.fixture
def lose(proxy):
    """Lose the response to the next calls of a method."""

    def order(method, path="", **fault):
        proxy.order(Fault(method=method, path=path, **{"cut_response": -1, **fault}))

    return order


def listed(api):
    return api.json("GET", "/v2/images", **OWNER).json["images"]


def test_a_creation_is_repeated_and_makes_one_record(api, lose):
    lose("POST")
    given = {"name": "ü", "Größe": "☺", "tags": ["b", "a"], "visibility": "private"}
    made = api.create(OWNER, **given)
    assert {name: made[name] for name in given} == {**given, "tags": ["a", "b"]}
    assert listed(api) == [made]


def test_a_creation_that_chose_its_uuid_is_no_duplicate_of_itself(api, lose):
    uuid = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
    lose("POST")
    assert api.create(OWNER, id=uuid)["id"] == uuid
    lose("POST")
    assert api.json("POST", "/v2/images", {"id": uuid}, **OWNER).status_int == 409


def test_a_creation_that_gets_no_response_at_all_is_withdrawn(api, lose, proxy):
    lose("POST", times=4)
    response = api.json("POST", "/v2/images", {"name": "x", "tags": ["t"]}, **OWNER)
    assert response.status_int == 503
    end = time.monotonic() + 20
    while listed(api):
        assert time.monotonic() < end, "the record stays"
        time.sleep(0.01)
    assert any(call.startswith("DELETE /attempts/") for call in proxy.seen)


def test_a_change_is_no_conflict_with_itself(api, lose):
    image = api.create(OWNER, p="1", q="2")
    operations = [("remove", "/p"), ("replace", "/q", "3"), ("replace", "/name", "n")]
    lose("PATCH")
    changed = api.patch(image, *operations, ("add", "/tags", ["t"]), **OWNER)
    assert changed.status_int == 200, changed.text
    assert "p" not in changed.json and changed.json["q"] == "3" and changed.json["tags"] == ["t"]
    assert api.json("GET", f"/v2/images/{image['id']}", **OWNER).json == changed.json


def test_a_change_that_never_arrived_is_made_by_the_second_call(api, lose):
    image = api.create(OWNER, p="1")
    lose("PATCH", cut_response=None, cut_request=0)
    assert api.patch(image, ("replace", "/p", "2"), **OWNER).json["p"] == "2"


@pytest.mark.parametrize("gone", ["p", "q"])
def test_a_change_that_another_was_quicker_than_conflicts(api, registry, lose, make_api, gone):
    """The property goes away after the API has looked, and before the change arrives."""
    image = api.create(OWNER, p="1", q="1")
    other = make_api()
    real, done = registry.app, []

    def quicker(environ, start_response):
        if environ["REQUEST_METHOD"] == "PATCH" and not done:
            done.append(True)
            assert other.patch(image, ("remove", f"/{gone}"), **OWNER).status_int == 200
        return real(environ, start_response)

    registry.app = quicker
    lose("PATCH")
    operations = [("remove", "/p"), ("replace", "/q", "2"), ("replace", "/name", "n")]
    assert api.patch(image, *operations, **OWNER).status_int == 409
    assert api.json("GET", f"/v2/images/{image['id']}", **OWNER).json["name"] is None


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_an_action_is_repeated(api, lose, action):
    image = api.create(OWNER, disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert api("PUT", f"{path}/file", body=b"x", **OWNER).status_int == 204
    if action == "reactivate":
        api.json("POST", f"{path}/actions/deactivate", **OWNER)
    lose("POST")
    assert api.json("POST", f"{path}/actions/{action}", **OWNER).status_int == 204
    status = {"deactivate": "deactivated", "reactivate": "active"}[action]
    assert api.json("GET", path, **OWNER).json["status"] == status


def test_an_upload_is_repeated(api, lose):
    image = api.create(OWNER, disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    lose("PUT")
    assert api("PUT", f"{path}/file", body=b"x", **OWNER).status_int == 204
    assert api.json("GET", path, **OWNER).json["status"] == "active"


def test_a_deletion_is_repeated(api, lose):
    image = api.create(OWNER)
    lose("DELETE")
    assert api.json("DELETE", f"/v2/images/{image['id']}", **OWNER).status_int == 204
    assert listed(api) == []


# -- members and tags ----------------------------------------------------------------------------


@pytest.fixture
def image(api):
    return api.create(OWNER, visibility="shared")


@pytest.fixture
def members(api, image):
    """Call the members of a shared image."""

    def call(method, member="", document=None, caller=OWNER):
        return api.json(method, f"/v2/images/{image['id']}/members{member}", document, **caller)

    return call


def test_a_new_member_is_no_duplicate_of_itself(members, lose):
    lose("POST")
    added = members("POST", document={"member": "friend"})
    assert added.status_int == 200, added.text
    assert added.json["status"] == "pending"
    assert members("GET").json["members"] == [added.json]


def test_a_member_that_has_decided_is_a_duplicate_however_the_call_ends(members, lose):
    members("POST", document={"member": "friend"})
    accepted = members("PUT", "/friend", {"status": "accepted"}, MEMBER)
    assert accepted.status_int == 200
    lose("POST")
    assert members("POST", document={"member": "friend"}).status_int == 409


def test_a_decision_is_repeated(members, lose):
    members("POST", document={"member": "friend"})
    lose("PUT")
    assert members("PUT", "/friend", {"status": "accepted"}, MEMBER).json["status"] == "accepted"


def test_a_removed_member_is_not_missed(members, lose):
    members("POST", document={"member": "friend"})
    lose("DELETE")
    assert members("DELETE", "/friend").status_int == 204
    assert members("GET").json["members"] == []
    assert members("DELETE", "/friend").status_int == 404


def test_a_tag_comes_and_goes(api, image, lose):
    path = f"/v2/images/{image['id']}/tags/t"
    lose("PUT")
    assert api.json("PUT", path, **OWNER).status_int == 204
    lose("DELETE")
    assert api.json("DELETE", path, **OWNER).status_int == 204
    assert api.json("DELETE", path, **OWNER).status_int == 404


@pytest.mark.parametrize("part", ["tags/t", "members/m"])
def test_a_part_of_no_image_is_not_there_however_the_call_ends(api, lose, part):
    lose("DELETE")
    path = f"/v2/images/5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11/{part}"
    assert api.json("DELETE", path, **OWNER).status_int == 404

"""The calls about records over a real connection: values there and back, and the errors."""

import pytest

from glance.common import exception
from glance.identity.context import RequestContext
from glance.registry import link
from tests.unit.api.conftest import Registry

OWNER = RequestContext(user="u", tenant="owner", roles=["r"], auth_tok="t")
MEMBER = RequestContext(user="m", tenant="member", auth_tok="t")
UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"


@pytest.fixture
def calls(tmp_path, template):
    """A link that passes on who the caller is, to a registry that believes it."""
    registry = Registry(tmp_path, template, auth_mode="trusted-headers")
    made = link.RegistryLink(
        {
            "registry_host": "127.0.0.1",
            "registry_port": registry.port,
            "send_identity_headers": True,
        }
    )
    yield made
    made.close()
    registry.stop()


def test_a_record_goes_there_and_back(calls):
    properties = {"Trait:X y/ü": "", "größe": "☺"}
    record = calls.create_record(OWNER, {"uuid": UUID, "properties": properties}, ["b", "a/b"])
    assert record["uuid"] == UUID and record["owner"] == "owner"
    assert record["properties"] == properties and record["tags"] == ["a/b", "b"]
    assert calls.get_record(OWNER, UUID) == record
    assert calls.get_image_metadata(OWNER, record["id"])["uuid"] == UUID
    with pytest.raises(exception.Duplicate):
        calls.create_record(OWNER, {"uuid": UUID})


def test_a_delta_conflicts_with_what_is_not_there(calls):
    record = calls.create_record(OWNER, {"properties": {"p": "1"}})
    uuid = record["uuid"]
    change = {"set": {"name": "n"}, "properties": {"q": "2"}, "remove": ["p"], "tags": ["t"]}
    changed = calls.patch_record(OWNER, uuid, change)
    assert changed["properties"] == {"q": "2"} and changed["tags"] == ["t"]
    with pytest.raises(exception.Conflict, match="no property p"):
        calls.patch_record(OWNER, uuid, change)
    with pytest.raises(exception.LimitExceeded):
        calls.patch_record(OWNER, uuid, {"tags": [str(number) for number in range(129)]})
    with pytest.raises(exception.Conflict):
        calls.set_state(OWNER, uuid, ["active"], "deactivated")
    assert (
        calls.set_state(OWNER, uuid, ["queued"], "saving", {"upload_via": "v2"})["upload_via"]
        == "v2"
    )
    assert calls.get_record(OWNER, uuid)["properties"] == {"q": "2"}


def test_who_sees_and_may_not_change_is_told_apart(calls):
    uuid = calls.create_record(OWNER, {})["uuid"]
    with pytest.raises(exception.NotFound):
        calls.get_record(MEMBER, uuid)
    added = calls.add_record_member(OWNER, uuid, "member")
    assert added["image_id"] == uuid and added["member_id"] == "member"
    with pytest.raises(exception.Duplicate):
        calls.add_record_member(OWNER, uuid, "member")
    for call in (
        lambda: calls.patch_record(MEMBER, uuid, {"set": {"name": "n"}}),
        lambda: calls.delete_record(MEMBER, uuid),
        lambda: calls.add_tag(MEMBER, uuid, "t"),
        lambda: calls.set_member_status(OWNER, uuid, "member", "accepted"),
    ):
        with pytest.raises(exception.Forbidden):
            call()
    assert calls.set_member_status(MEMBER, uuid, "member", "accepted")["status"] == "accepted"
    assert calls.get_record_member(MEMBER, uuid, "member")["status"] == "accepted"
    assert len(calls.get_record_members(OWNER, uuid)) == 1
    calls.remove_record_member(OWNER, uuid, "member")
    with pytest.raises(exception.NotFound):
        calls.remove_record_member(OWNER, uuid, "member")


def test_tags_with_any_letters(calls):
    uuid = calls.create_record(OWNER, {})["uuid"]
    for tag in ("a b", "☺", "%2F", "..", "?x#y"):
        calls.add_tag(OWNER, uuid, tag)
        assert calls.get_record(OWNER, uuid)["tags"] == [tag]
        calls.remove_tag(OWNER, uuid, tag)
    with pytest.raises(exception.NotFound):
        calls.remove_tag(OWNER, uuid, "t")
    calls.delete_record(OWNER, uuid)
    with pytest.raises(exception.NotFound):
        calls.get_record(OWNER, uuid)

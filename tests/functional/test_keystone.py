"""The tests' own Keystone is a real one: users, projects, tokens that are revoked."""

import pytest

from support import keystone as keystones

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def keystone(tmp_path_factory):
    with keystones.Keystone(tmp_path_factory.mktemp("keystone") / "home") as running:
        yield running


def test_names_become_ids_and_stay_the_same(keystone):
    user = keystone.user("somebody", "somewhere")
    assert user == keystone.user("somebody")
    assert keystone.project("somewhere") == keystone.project("somewhere") != user


def test_who_has_a_role_in_a_project_gets_tokens_until_they_are_revoked(keystone):
    keystone.user("somebody", "somewhere")
    token = keystone.token("somebody", "somewhere")
    keystone.revoke(token)
    with pytest.raises(AssertionError, match="401"):
        keystone.revoke(token)
    keystone.project("elsewhere")
    with pytest.raises(AssertionError, match="401"):
        keystone.token("somebody", "elsewhere")

"""The rules about sensitive acts: who passes them, by default and by the operator's word."""

import pytest

from glance.common import config, exception
from glance.identity import policy
from glance.identity.context import RequestContext

ADMIN = RequestContext(tenant="a", roles=["Boss"], is_admin=True)
USER = RequestContext(tenant="t", roles=["member", "Librarian"])
ANONYMOUS = RequestContext(read_only=True)


class Closed(policy.Policy):
    def allows(self, rule, context):
        return False


def allows(words, context, rule="publicize_image"):
    return policy.from_conf(config.Conf({f"policy_{rule}": words})).allows(rule, context)


@pytest.mark.parametrize("rule", policy.RULES)
def test_rules_are_those_of_diablo_unless_the_file_says_otherwise(rule):
    rules = policy.from_conf(config.Conf())
    anyone = rule not in (
        "choose_id",
        "delete_any_image",
        "see_deleted",
        "restore_image",
        "manage_image_cache",
    )
    reads = rule == "download_image"
    assert [rules.allows(rule, who) for who in (ADMIN, USER, ANONYMOUS)] == [True, anyone, reads]


@pytest.mark.parametrize(
    ("words", "admin", "user"),
    [
        ("anyone", True, True),
        ("admin", True, False),
        ("nobody", False, False),
        ("nobody, librarian", False, False),
        ("librarian", False, True),
        ("editor admin", True, False),
        ("editor, LIBRARIAN, admin", True, True),
        ("", True, True),
    ],
)
def test_a_rule_names_roles_and_kinds_of_callers(words, admin, user):
    assert (allows(words, ADMIN), allows(words, USER)) == (admin, user)
    assert not allows(words, ANONYMOUS)


def test_admin_in_a_rule_means_administrators_and_not_a_role_of_that_name():
    assert not allows("admin", RequestContext(tenant="t", roles=["admin"], is_admin=False))


def test_a_refusal_says_what_was_refused():
    rules = policy.from_conf(config.Conf({"policy_copy_from": "admin"}))
    rules.require("copy_from", ADMIN)
    with pytest.raises(exception.Forbidden, match="let the service copy image data"):
        rules.require("copy_from", USER)


def test_a_rule_that_does_not_exist_is_a_mistake_of_the_program():
    with pytest.raises(KeyError):
        policy.from_conf(config.Conf()).allows("fly", ADMIN)


def test_an_operator_may_have_a_policy_of_their_own():
    made = policy.from_conf(config.Conf({"policy_class": f"{__name__}:Closed"}))
    assert not made.allows("publicize_image", ADMIN)


@pytest.mark.parametrize(
    "name", ["nowhere.Policy", "glance.identity.policy.Nothing", "builtins.dict"]
)
def test_a_policy_class_that_is_none_is_a_configuration_error(name):
    with pytest.raises(exception.ConfigError, match="policy_class"):
        policy.from_conf(config.Conf({"policy_class": name}))

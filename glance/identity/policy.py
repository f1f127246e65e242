"""Who may do what, apart from owning an image: one rule for each operation.

A rule is an option, `policy_<rule>`, that lists who passes it: roles, or one of three words.
`glance.api` and `glance.registry.server` check the rules through `Policy.require` and
`Policy.allows`. What owners and members may do is defined in `glance.identity.context`.

An operator with other needs writes a subclass of `Policy` and names it in `policy_class`.
"""

from __future__ import annotations

from typing import Any

from glance.common import config, exception, plugin
from glance.identity.context import RequestContext

#: Every authenticated caller; administrators; not even administrators.
ANYONE, ADMIN, NOBODY = "anyone", "admin", "nobody"

#: What read-only callers may do, too, unless a role is needed for it.
READING = frozenset({"download_image"})

#: Rule -> who passes it by default (as in Diablo, where it had the rule, but for choose_id), and
#: what it is about.
RULES: dict[str, tuple[str, str]] = {
    "publicize_image": (ANYONE, "make an image public"),
    "communitize_image": (ANYONE, "make an image a community image"),
    # SECURITY: who may choose ids learns from a refusal which ones others use.
    "choose_id": (ADMIN, "choose the id of a new image"),
    # Nobody guesses those of others.
    "choose_uuid": (ANYONE, "choose the uuid of a new image"),
    "set_location": (ANYONE, "register a location for an image"),
    "copy_from": (ANYONE, "let the service copy image data from a location"),
    "convert_image": (ANYONE, "convert images into other disk formats"),
    "delete_any_image": (ADMIN, "delete visible images of other owners"),
    "see_deleted": (ADMIN, "list deleted images"),
    "restore_image": (ADMIN, "restore deleted images"),
    "download_image": (ANYONE, "download the data of images"),
    "deactivate": (ANYONE, "deactivate images"),
    "reactivate": (ANYONE, "reactivate images"),
    "manage_image_cache": (ADMIN, "manage the image cache"),
}

#: One option for two rules: it decides on both where it is set.
_ID_RULES = ("choose_id", "choose_uuid")

config.options(
    "policy",
    *(
        config.Option(
            f"policy_{rule}",
            config.words,
            (default,),
            help=f"Who may {act}: a list of roles, or anyone, admin or nobody.",
        )
        for rule, (default, act) in RULES.items()
        if rule not in _ID_RULES
    ),
    config.Option(
        "policy_choose_id",
        config.words,
        help="Who may choose the id of a new image: a list of roles, or anyone, admin or nobody. "
        "Unset: administrators choose numbers (version 1 of the Images API), and anyone uuids "
        "(version 2).",
    ),
    config.Option(
        "policy_class",
        default="glance.identity.policy.Policy",
        help="Class that makes the policy decisions. The default class reads the policy_* "
        "options.",
    ),
)


class Policy:
    """The rules of one configuration. The name of an unknown rule raises KeyError."""

    def __init__(self, conf: config.Conf):
        self._passing = {}
        for rule, (default, _) in RULES.items():
            words = conf.policy_choose_id if rule in _ID_RULES else conf[f"policy_{rule}"]
            self._passing[rule] = frozenset(word.lower() for word in words or (default,))

    def allows(self, rule: str, context: RequestContext) -> bool:
        """Return whether the caller passes the rule. A read-only caller may only read."""
        passing = self._passing[rule]
        if NOBODY in passing or (context.read_only and rule not in READING):
            return False
        if ANYONE in passing or (ADMIN in passing and context.is_admin):
            return True
        # The word stands for callers with the role in `admin_role`, whatever it is called.
        return not (passing - {ADMIN}).isdisjoint(role.lower() for role in context.roles)

    def require(self, rule: str, context: RequestContext) -> None:
        """Raise Forbidden for a caller that does not pass the rule."""
        if not self.allows(rule, context):
            raise exception.Forbidden(f"You are not allowed to {RULES[rule][1]}")

    def require_all(self, context: RequestContext, **needed: bool) -> None:
        """Raise as `require` for the first of the rules, the keywords, that is `needed`."""
        for rule, is_needed in needed.items():
            if is_needed:
                self.require(rule, context)


def from_conf(conf: config.Conf) -> Policy:
    """Return the policy that `policy_class` names. Raises ConfigError if it does not exist."""
    try:
        made: Any = plugin.load("glance.policy", conf.policy_class, {})(conf)
    except (LookupError, ImportError):
        raise exception.ConfigError(
            f"policy_class {conf.policy_class} cannot be imported"
        ) from None
    if not isinstance(made, Policy):
        raise exception.ConfigError(
            f"policy_class {conf.policy_class} is not a subclass of Policy"
        )
    return made

"""The old name of `glance.identity.policy`, for classes that `policy_class` names."""

from glance.identity.policy import ADMIN, ANYONE, NOBODY, RULES, Policy

__all__ = ["ADMIN", "ANYONE", "NOBODY", "RULES", "Policy"]

"""Counts the calls to the registry for the metrics, by name and outcome."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from glance.common import exception, metrics

C = TypeVar("C", bound=type)

#: What is no call: it sends nothing.
_NO_CALLS = frozenset({"client_for"})


def measured(cls: C) -> C:
    """Decorate a class: those of its methods that take the caller's context first are calls."""
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and _is_call(name, method):
            setattr(cls, name, _measured(method))
    return cls


def _is_call(name: str, method: Callable[..., Any]) -> bool:
    if name.startswith("_") or name in _NO_CALLS:
        return False
    return list(inspect.signature(method).parameters)[1:2] == ["context"]


def _measured(method: Callable[..., Any]) -> Callable[..., Any]:
    labels = (method.__name__,)
    table = (metrics.REGISTRY_CALLS, metrics.REGISTRY_SECONDS)
    return metrics.timed(method, *table, lambda *_, **__: labels, outcome_of)


def outcome_of(err: BaseException) -> str:
    """Return the word for how a call has failed."""
    if isinstance(err, exception.ServiceUnavailable | exception.ClientConnectionError):
        return "unavailable"
    return "refused" if isinstance(err, exception.Error) else "failed"

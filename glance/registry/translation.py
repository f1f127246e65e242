"""How a registry in trouble looks to those who ask it: as `RegistryUnavailable`.

The calls of `glance.registry.link` and `glance.registry.record_calls` run inside `TRANSLATED`.
"""

from __future__ import annotations

import logging

from glance.common import exception

LOG = logging.getLogger(__name__)

# Statuses whose meaning the registry's API defines; any other is a registry gone wrong. Percent-
# encoding can make a request line too long for the registry (414) that the API has taken.
PASS_THROUGH_STATUSES = frozenset({400, 401, 403, 404, 409, 413, 414, 429, 431})


class _Translation:
    """Turns whatever shows a registry in trouble into RegistryUnavailable; keeps its refusals."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if not isinstance(err, exception.Error) or err.status in PASS_THROUGH_STATUSES:
            return
        if err.status is None and not isinstance(err, exception.ClientConnectionError):
            return
        LOG.error("The registry returned no usable response: %s", err)
        raise exception.RegistryUnavailable(
            "The image registry is unavailable at the moment; try again later"
        ) from err


# PERF: it holds no state, and a generator in its place costs a microsecond per call.
TRANSLATED = _Translation()


class _Conflicts:
    """Turns Duplicate, which clients raise for 409, into the Conflict that the registry means."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, exception.Duplicate):
            raise exception.Conflict(str(err)) from err


CONFLICTS = _Conflicts()

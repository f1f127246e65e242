"""Which requests come from glance-api, and what the registry lets nobody else do.

Behind a token filter a registry may be within reach of its tenants, with tokens as good as those
that glance-api passes on. What says where data is, and that it is there, must then come from the
API alone: a tenant who could name a location would read the data of others, and one who could
hand it to the scrubber would delete it.

SECURITY: the API is recognised by a secret. That is `registry_shared_secret`, without which the
registry then refuses every request, or, where there is none, one that both daemons make from the
service account of their token filters (`glance.identity.authtoken.account_secret`). An
administrator counts as the API, because the service's own account is one.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from glance.common import config, exception, hosts
from glance.identity import authtoken
from glance.identity.context import CallerRequest
from glance.registry import client

LOG = logging.getLogger(__name__)

#: Attributes that say where the data of an image is, and that it is there.
API_ONLY = frozenset(
    {
        "location",
        "status",
        "checksum",
        "size",
        "os_hash_algo",
        "os_hash_value",
        "virtual_size",
        "upload_via",
    }
)

_HEADER = "HTTP_" + client.SHARED_SECRET.upper().replace("-", "_")
_FROM_API = "glance.registry.from_api"


class ApiTrust:
    """Decides for one registry whether a request comes from its API."""

    def __init__(self, conf: config.Conf):
        self._shared = (conf.registry_shared_secret or "").encode("ascii")
        self._account = str(conf.get(authtoken.ACCOUNT_SECRET) or "").encode("ascii")
        # NOTE: without a token filter everybody who gets this far is trusted or an administrator.
        # An unknown token filter has no account that this could use; on loopback, only users of
        # this host can reach the registry.
        self._everybody = conf.auth_mode != "keystone" or (
            not self._account and hosts.is_loopback(conf.get("bind_host") or "")
        )

    def admits(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a request may come in at all."""
        return not self._shared or _sends(environ, self._shared)

    def mark(self, environ: dict[str, Any]) -> None:
        """Note in the environ of an admitted request whether it comes from the API."""
        environ[_FROM_API] = (
            self._everybody
            or bool(self._shared)
            or (bool(self._account) and _sends(environ, self._account))
            or environ["glance.context"].is_admin
        )


def _sends(environ: Mapping[str, Any], secret: bytes) -> bool:
    # WIRE: header values are latin-1 text, as PEP 3333 defines.
    return hmac.compare_digest(environ.get(_HEADER, "").encode("latin-1"), secret)


def is_from_api(request: CallerRequest) -> bool:
    """Return whether a request that `ApiTrust.mark` has seen comes from the API."""
    return bool(request.environ[_FROM_API])


def require_api(request: CallerRequest, names: Iterable[str], what: str = "set") -> None:
    """Raise Forbidden if a request does something with `names` and is not from the API."""
    found = ", ".join(sorted(names))
    if found and not is_from_api(request):
        LOG.warning(
            "A caller that is not known to be glance-api was refused to %s %s. If it is, set the "
            "same registry_shared_secret for both daemons.",
            what,
            found,
        )
        raise exception.Forbidden(f"Only the image API may {what} {found}")

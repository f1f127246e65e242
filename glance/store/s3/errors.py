"""How a request to S3 fails, and which error of a store that is to the one who asked.

`glance.store.s3.client` raises `Failed`; whoever calls it translates with `reading` or `writing`.
The texts hold statuses and codes only, nothing that was sent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from glance.common import exception

LOG = logging.getLogger(__name__)

#: Codes by which a service says that the keys are wrong, not what they are used for.
_BAD_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "InvalidToken",
        "InvalidSecurity",
        "AuthorizationHeaderMalformed",
        "NotSignedUp",
        "AccountProblem",
    }
)
_FULL_CODES = frozenset({"EntityTooLarge", "QuotaExceeded", "XMinioStorageFull", "StorageFull"})


class S3Error(Exception):
    """A request did not succeed.

    `doubtful` tells that the service may have carried it out, or may do so yet.
    """

    doubtful = False


class S3Refused(S3Error):
    """The service answered, but not with success: its status and S3 error code ("" if unknown)."""

    def __init__(self, status: int, code: str = ""):
        super().__init__(f"{status} {code}".strip())
        self.status, self.code = status, code
        self.doubtful = status in (500, 502, 504)


class Unreachable(S3Error):
    """No usable answer came.

    `hopeless` means that trying again cannot help, `stale` that a kept connection was closed
    before anything of an answer came, as services do with connections that have been idle.
    """

    def __init__(
        self, reason: str, *, doubtful: bool = True, hopeless: bool = False, stale: bool = False
    ):
        super().__init__(reason)
        self.doubtful, self.hopeless, self.stale = doubtful, hopeless, stale


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Translate what a service answers to a writer."""
    try:
        yield
    except S3Refused as err:
        LOG.warning("S3 refuses to write: %s", err)
        if err.status in (409, 412):
            raise exception.StoreObjectExists() from err
        if err.status in (413, 507) or err.code in _FULL_CODES:
            raise exception.StorageFull() from err
        if err.status == 404 or (err.status == 403 and err.code not in _BAD_KEYS):
            raise exception.StorageWriteDenied() from err
        raise exception.BackendUnavailable() from err
    except S3Error as err:
        raise exception.BackendUnavailable() from err


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Translate what a service answers to somebody who reads or deletes."""
    try:
        yield
    except S3Refused as err:
        if err.status == 404:
            raise exception.StoreObjectNotFound() from err
        LOG.warning("S3 refuses access: %s", err)
        if err.status == 403 and err.code not in _BAD_KEYS:
            raise exception.StoreForbidden() from err
        raise exception.BackendUnavailable() from err
    except S3Error as err:
        raise exception.BackendUnavailable() from err

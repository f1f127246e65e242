"""How a request to S3 fails, and the store error for each failure.

`glance.store.s3.client` raises `S3Error`; its callers translate it with `reading` or `writing`.
The texts hold statuses and codes only, nothing that was sent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from glance.common import exception

LOG = logging.getLogger(__name__)

#: Codes of a service for wrong keys (not for a lack of permission).
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

    `doubtful` means that the service may have executed it, or may still do so.
    """

    doubtful = False


class S3Refused(S3Error):
    """The service responded with an error: its status and S3 error code ("" if unknown)."""

    def __init__(self, status: int, code: str = ""):
        super().__init__(f"{status} {code}".strip())
        self.status, self.code = status, code
        self.doubtful = status in (500, 502, 504)


class Unreachable(S3Error):
    """There was no usable response.

    `hopeless` means that a retry cannot help, `stale` that a kept connection was closed before any
    part of a response arrived, as services do with idle connections.
    """

    def __init__(
        self, reason: str, *, doubtful: bool = True, hopeless: bool = False, stale: bool = False
    ):
        super().__init__(reason)
        self.doubtful, self.hopeless, self.stale = doubtful, hopeless, stale


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Translate the errors of a service for a writer."""
    try:
        yield
    except S3Refused as err:
        LOG.debug("S3 refuses to write: %s", err)
        if err.status in (409, 412):
            raise exception.StoreObjectExists().because(str(err)) from err
        if err.status in (413, 507) or err.code in _FULL_CODES:
            raise exception.StorageFull().because(str(err)) from err
        if err.status == 404 or (err.status == 403 and err.code not in _BAD_KEYS):
            raise exception.StorageWriteDenied().because(str(err)) from err
        raise exception.BackendUnavailable().because(str(err)) from err
    except S3Error as err:
        raise exception.BackendUnavailable().because(str(err)) from err


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Translate the errors of a service for reading or deleting."""
    try:
        yield
    except S3Refused as err:
        if err.status == 404:
            raise exception.StoreObjectNotFound().because(str(err)) from err
        if err.status == 403 and err.code not in _BAD_KEYS:
            raise exception.StoreForbidden().because(str(err)) from err
        raise exception.BackendUnavailable().because(str(err)) from err
    except S3Error as err:
        raise exception.BackendUnavailable().because(str(err)) from err

"""Errors of the operating system as errors of a store, for all that use local files."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from glance.common import exception

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Translate the OSErrors of a block that writes.

    Raises StorageFull, StorageWriteDenied, OutOfDescriptors, BackendUnavailable.
    """
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise exception.StorageFull().because(_reason(err)) from err
        if err.errno in _DENIED:
            raise exception.StorageWriteDenied().because(_reason(err)) from err
        raise _unavailable(err) from err


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Translate the OSErrors of a block that reads or deletes.

    Raises StoreObjectNotFound, StoreForbidden, OutOfDescriptors, BackendUnavailable.
    """
    try:
        yield
    except OSError as err:
        if err.errno in _ABSENT:
            raise exception.StoreObjectNotFound().because(_reason(err)) from err
        if err.errno in _DENIED or err.errno == errno.ELOOP:
            raise exception.StoreForbidden().because(_reason(err)) from err
        raise _unavailable(err) from err


def _unavailable(err: OSError) -> exception.BackendUnavailable:
    if err.errno in exception.OUT_OF_DESCRIPTORS:
        return exception.OutOfDescriptors().because(_reason(err))
    return exception.BackendUnavailable().because(_reason(err))


def _reason(err: OSError) -> str:
    """Return what the operating system says, without the path."""
    return err.strerror or type(err).__name__

"""Free memory of the process, given back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        # A C library other than glibc, which does not need it.
        return None
    return found


def give_back() -> None:
    """Give the free pages of the heap back to the system; blocks for some milliseconds at most.

    NOTE: glibc raises its threshold for large blocks, which go back when they are freed, to the
    size of the buffers of uploads and downloads; those stay in the heap then, behind one small
    block that is still in use. A lower threshold for all blocks would cost each buffer its page
    faults.
    """
    trim = _trim()
    if trim is not None:
        trim(0)

"""How a conversion can fail: the one table of codes.

A code is what a user sees of a failure, with a fixed text. A job of the registry's database has
it (`glance.image.conversion_job`), and the work itself finds it out (`glance.conversion`).
"""

from __future__ import annotations

import enum

from glance.inspect.verdict import ADVICE, Refusal


def _refused(reason: Refusal, what: str) -> str:
    """Return why an image is refused and what its owner can do, as the inspection advises."""
    return f"{what}; {ADVICE[reason]}."


class Code(enum.Enum):
    """Why a job has failed: its name in the job, whether it may pass by itself, and its text.

    A job that failed for a reason which may pass is tried again; one that failed for another
    reason is not.
    """

    def __init__(self, label: str, may_pass: bool, text: str):
        self.label = label
        self.may_pass = may_pass
        self.text = text

    # The source.
    SOURCE_GONE = (
        "source_gone",
        False,
        "The source image is not active any more, or its data is missing; upload it again.",
    )
    SOURCE_CORRUPT = (
        "source_corrupt",
        False,
        "The data of the source does not have the size and checksum of its record; upload it "
        "again.",
    )
    # The inspection.
    AMBIGUOUS_FORMAT = (
        "ambiguous_format",
        False,
        _refused(Refusal.AMBIGUOUS_FORMAT, "The data has the marks of several formats"),
    )
    FORMAT_MISMATCH = (
        "format_mismatch",
        False,
        _refused(Refusal.FORMAT_MISMATCH, "The data is not in the disk_format of the image"),
    )
    UNSAFE_IMAGE = (
        "unsafe_image",
        False,
        _refused(
            Refusal.UNSAFE_IMAGE, "The data is not a self-contained image that is safe to open"
        ),
    )
    NESTED_FORMAT = (
        "nested_format",
        False,
        "The contents of the disk begin like an image of another format, so a raw image of it "
        "would be taken for that; choose another disk_format.",
    )
    TOO_LARGE = (
        "too_large",
        False,
        "The image, its disk or the result is larger than this server converts.",
    )
    QUOTA_EXCEEDED = (
        "quota_exceeded",
        False,
        "The owner of the image may not store so much: delete images that are not needed, and "
        "convert it again.",
    )
    UNSUPPORTED_FORMAT = (
        "unsupported_format",
        False,
        "This server does not convert between these formats.",
    )
    # The tool.
    CPU_LIMIT = ("cpu_limit", False, "The conversion took more processor time than it may.")
    MEMORY_LIMIT = ("memory_limit", False, "The conversion took more memory than it may.")
    TIMEOUT = ("timeout", False, "The conversion took longer than it may.")
    CONVERSION_FAILED = (
        "conversion_failed",
        False,
        "The image could not be converted; the operator's log has the reason.",
    )
    # The service; all but the first of these may pass.
    WORKER_LOST = (
        "worker_lost",
        False,
        "The conversion was begun several times, and its worker ended each time.",
    )
    NO_SPACE = (
        "no_space",
        True,
        "The converter does not have enough disk space at the moment; the conversion waits.",
    )
    STORE_UNAVAILABLE = (
        "store_unavailable",
        True,
        "A store is not available at the moment; the conversion is tried again.",
    )
    STORE_FULL = (
        "store_full",
        True,
        "The store has no room for the result at the moment; the conversion is tried again.",
    )
    HOST_FAILED = (
        "host_failed",
        True,
        "The converter's host could not do its part; the conversion is tried again.",
    )
    INTERRUPTED = (
        "interrupted",
        True,
        "The converter was stopped; the conversion is tried again.",
    )

"""The inspection of images before and after the tool: `glance.inspect`, with codes of a job."""

from __future__ import annotations

from glance.conversion.errors import Code, ConversionError
from glance.inspect import inspector
from glance.inspect.verdict import Refusal

_CODES = {
    Refusal.AMBIGUOUS_FORMAT: Code.AMBIGUOUS_FORMAT,
    Refusal.FORMAT_MISMATCH: Code.FORMAT_MISMATCH,
    Refusal.UNSAFE_IMAGE: Code.UNSAFE_IMAGE,
    Refusal.TOO_LARGE: Code.TOO_LARGE,
}


def inspect(fd: int, disk_format: str) -> int | None:
    """Return the size of the disk in an image, in bytes; see `glance.conversion.engine.Inspect`.

    Raises ConversionError for an image that is not exactly `disk_format`, or not safe to open, and
    the OSErrors of reading. Blocks.
    """
    with open(fd, "rb", buffering=0, closefd=False) as file:
        verdict = inspector.inspect_file(file, disk_format)
    if verdict.code is not None:
        raise ConversionError(_CODES[verdict.code], verdict.detail)
    return verdict.virtual_size

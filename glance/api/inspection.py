"""The inspection of uploads: data goes by, and what it is decides what becomes of the image.

`glance.inspect` knows the formats and what is unsafe. This module knows images: which of them hold
a disk, and what is done about one that should be refused. Every upload uses it, whether a client
sends the data or it is copied from elsewhere (`glance.api.upload`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from glance.common import config, exception
from glance.image import entity, fields
from glance.inspect import inspector, signatures, verdict
from glance.streaming import body, threads

LOG = logging.getLogger(__name__)

OFF, WARN, ENFORCE = "off", "warn", "enforce"

config.options(
    "images API",
    config.Option(
        "inspect_on_upload",
        default=WARN,
        choices=(OFF, WARN, ENFORCE),
        help="What to do about uploaded data that is not in the declared disk format or is not "
        "safe to open, such as an image with a backing file: nothing (off), record why in the "
        "property inspection_result (warn), or refuse it with 400 (enforce).",
    ),
)

#: The property of an image that has the code of what is wrong with its data.
PROPERTY = entity.INSPECTION_RESULT
#: Containers that are none: the data is the disk itself.
_BARE = frozenset({None, "", "bare"}) | fields.AMAZON_FORMATS
#: Formats in which data can do no harm, whatever its owner says that it is.
_HARMLESS = frozenset({signatures.ISO})
#: Bytes that are looked at without a native thread: less work than to start one.
_SMALL = 64 * 1024


def declared_format(image: Mapping[str, object]) -> str | None:
    """Return the disk format that the data of an image is in, by its record; None for any.

    A container such as ovf is a package with the disk in it, so its data begins otherwise.
    """
    if image.get("container_format") not in _BARE:
        return None
    return str(image.get("disk_format") or "") or None


class Inspected:
    """Passes the data of an upload on, and looks at its first and last bytes.

    `declared` is the disk format by the record, None for any; `mode` is that of the option
    `inspect_on_upload`. Of the data it copies the first MiB, which it keeps until they are read,
    and 2 KiB of each piece; if it is off, nothing.
    """

    def __init__(self, reader: body.Readable, declared: str | None, mode: str):
        self._reader, self._mode = reader, mode
        self._inspector = None if mode == OFF else inspector.Inspector(declared)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" only at the end. Raises what the reader raises."""
        data = self._reader.read(size)
        seen = self._inspector
        if seen is None:
            return data
        if seen.is_reading_head and seen.size + len(data) >= signatures.HEAD_BYTES:
            threads.run(seen.update, data)
        else:
            seen.update(data)
        return data

    def judge(self, image_id: int) -> dict[str, str]:
        """Return the properties that the data adds to an image, once all of it was read.

        Raises ImageRefused if a refusal is to be enforced; then data that lacks the marks of the
        declared format is refused, too. The operator's log has the reason in full; neither the
        property nor the error has.
        """
        if self._inspector is None:
            return {}
        found = _verdict(self._inspector)
        if found.code is None:
            return {}
        # WIRE: clients of version 1 store what they like under any format, and the image must come
        # back as they made it. Data without marks, and a disc, can name no other file.
        is_harmless = found.code == verdict.Refusal.FORMAT_MISMATCH and _HARMLESS.issuperset(
            found.formats
        )
        is_recorded = self._mode == ENFORCE or not is_harmless
        level = logging.WARNING if is_recorded else logging.INFO
        LOG.log(level, "Image %s: its data was inspected: %s", image_id, found.detail)
        if self._mode == ENFORCE:
            error = exception.ImageRefused(f"The image was refused: {found.message}")
            error.is_logged = True
            raise error
        return {PROPERTY: str(found.code)} if is_recorded else {}


def _verdict(seen: inspector.Inspector) -> verdict.Verdict:
    if seen.is_reading_head and seen.size > _SMALL:
        return threads.run(seen.verdict)
    return seen.verdict()

"""The inspection of a disk image: of a file that can seek, or of a stream while it goes by.

Both judge by the same bytes, the first HEAD_BYTES and the last TAIL_BYTES, so both come to the
same verdict. Memory is bounded by them, and time by a constant: no number in an image decides how
much is read, kept or repeated.
"""

from __future__ import annotations

from typing import Protocol

from glance.inspect import others, qcow2, signatures, vdi, vhd, vmdk
from glance.inspect.signatures import HEAD_BYTES, SECTOR, TAIL_BYTES
from glance.inspect.verdict import DiskFormat, End, Limits, Reason, Refusal, Verdict

#: Every format with rules; all of them look at every image.
FORMATS: tuple[type[DiskFormat], ...] = (
    qcow2.Qcow2,
    vmdk.Vmdk,
    vhd.Vhd,
    vdi.Vdi,
    others.Iso,
    others.Vhdx,
    others.Qed,
    others.Luks,
    others.Ploop,
    others.Bochs,
    others.Cloop,
    others.Dmg,
)
#: The formats that data can be shown to be in, or not to be in.
_JUDGED = frozenset({signatures.RAW, *(each.name for each in FORMATS)})

NO_LIMITS = Limits()


class Seekable(Protocol):
    """A file as `inspect_file` reads it."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class Inspector:
    """The inspection of a stream: pass all of its data to `update`, then take the `verdict`.

    `declared` is the disk format that the owner of the data has declared, None for none: then any
    one format is right. Until HEAD_BYTES have come, it keeps what has come; after that, less than
    16 KiB. `is_reading_head` is true until then, and the `update` that ends it, or `verdict`, may
    take milliseconds. `size` counts the bytes so far.
    """

    def __init__(self, declared: str | None = None, limits: Limits = NO_LIMITS):
        self.size = 0
        self.is_reading_head = True
        self._declared = declared or None
        self._limits = limits
        self._head = bytearray()
        self._tail = b""
        self._formats: list[DiskFormat] = []

    def update(self, data: bytes) -> None:
        """Take the next bytes of the data, any number of them. Raises nothing."""
        # PERF: an upload calls this for every piece that comes.
        length = len(data)
        self.size += length
        tail = data if length >= TAIL_BYTES else self._tail + data
        self._tail = tail[-TAIL_BYTES:]
        if self.is_reading_head:
            self._head += data[: HEAD_BYTES - len(self._head)]
            if len(self._head) >= HEAD_BYTES:
                self._read_head()

    def skip(self, count: int) -> None:
        """Leave out the next bytes, neither of the first nor of the last that are looked at."""
        if count > 0:
            self.size += count
            self._tail = b""

    def _read_head(self) -> None:
        head, self._head, self.is_reading_head = bytes(self._head), bytearray(), False
        self._formats = [make(head) for make in FORMATS]

    def verdict(self) -> Verdict:
        """Return what the data is; all of it has been passed to `update`. Raises nothing."""
        if self.is_reading_head:
            self._read_head()
        end = End(self._tail, self.size)
        found = [each for each in self._formats if each.found(end)]
        names = tuple(each.name for each in found)
        virtual_size: int | None = -(-self.size // SECTOR) * SECTOR
        if found:
            virtual_size = found[0].virtual_size(end) if len(found) == 1 else None
        reasons = [
            *self._named(names),
            *(
                Reason(Refusal.UNSAFE_IMAGE, each.name, f"the image {each.text}")
                for one in found
                for each in one.broken(end)
            ),
        ]
        if virtual_size is not None and self._limits.exceeded(virtual_size, self.size):
            text = f"the virtual disk has {virtual_size} bytes, in {self.size} bytes of data"
            reasons.append(Reason(Refusal.TOO_LARGE, None, text))
        return Verdict(names, self._declared, self.size, virtual_size, tuple(reasons))

    def _named(self, names: tuple[str, ...]) -> list[Reason]:
        """Return what is wrong with the formats that the data has the marks of."""
        if len(names) > 1:
            text = f"the data has the marks of {' and '.join(names)}"
            return [Reason(Refusal.AMBIGUOUS_FORMAT, None, text)]
        if self._declared is None:
            return []
        found = names[0] if names else signatures.RAW
        # NOTE: any data without marks may be in a format of which nothing is known, as ami.
        if self._declared == found or (not names and self._declared not in _JUDGED):
            return []
        text = f"the data is {found}, {self._declared} was declared"
        return [Reason(Refusal.FORMAT_MISMATCH, None, text)]


def inspect_file(
    file: Seekable, declared: str | None = None, limits: Limits = NO_LIMITS
) -> Verdict:
    """Return what the image in an open file is; the caller closes it.

    Reads HEAD_BYTES and TAIL_BYTES at most. `declared` is as for `Inspector`. Raises the OSErrors
    of the file and nothing else. This blocks.
    """
    size = file.seek(0, 2)
    file.seek(0)
    inspector = Inspector(declared, limits)
    inspector.update(_read(file, min(size, HEAD_BYTES)))
    # NOTE: a file may be cut meanwhile, so its size is what was read at both ends.
    rest = size - inspector.size
    if rest > 0:
        start = max(inspector.size, size - TAIL_BYTES)
        file.seek(start)
        tail = _read(file, size - start)
        inspector.skip(start - inspector.size)
        inspector.update(tail)
    return inspector.verdict()


def _read(file: Seekable, size: int) -> bytes:
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

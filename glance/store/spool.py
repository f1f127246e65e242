"""One part of an upload in a local file, so that sending it can be tried again.

Drivers of remote stores write a part (segment, multipart piece) into a `UploadSpool`, send it from
`reader`, as often as it takes, and `clear` it for the next one. An upload to Swift never has more
than one part on the disk; one to S3 has at most two, of which one is being sent. The file has no
name, so that nothing of it outlives the process; what has to be known after a crash is the
business of `glance.store.upload_journal`.
"""

from __future__ import annotations

import os
import tempfile

from glance.common import files
from glance.store.os_errors import writing
from glance.streaming import threads
from glance.streaming.staged_file import LocalFile

_BLOCK = 1024 * 1024
_PREFIX = "glance-spool."


class UploadSpool:
    """An unnamed file in `directory`. Used by one writer; close it in the end.

    Raises StorageFull and StorageWriteDenied, like all that write.
    """

    def __init__(self, directory: str):
        self._file = LocalFile()
        threads.run(self._open, directory)

    def _open(self, directory: str) -> None:
        with writing():
            self._file.create_unnamed(directory, _PREFIX)

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return self._file.count

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`. Raises StorageFull, StorageWriteDenied, BackendUnavailable."""
        threads.run(self._write, data)

    def _write(self, data: bytes | memoryview) -> None:
        with self._file.held(), writing():
            self._file.write(data)

    def clear(self) -> None:
        """Make it empty, for the next part."""
        threads.run(self._clear)

    def _clear(self) -> None:
        with self._file.held(), writing():
            self._file.truncate()

    def reader(self) -> SpoolReader:
        """Return a reader from the beginning; several may be used one after the other."""
        return SpoolReader(self)

    def pread(self, size: int, offset: int) -> bytes:
        """Return at most `size` bytes from `offset`. ValueError when the spool is closed."""
        return threads.run(self._pread, size, offset)

    def _pread(self, size: int, offset: int) -> bytes:
        with self._file.held() as fd:
            return os.pread(fd, min(size, self.size - offset), offset)

    def close(self) -> None:
        """Give the room back. Idempotent."""
        self._file.close()

    def __del__(self) -> None:
        self.close()


class SpoolReader:
    """A spooled part as the client libraries of stores want it: `read`, `seek`, `tell`, `len`.

    Reads come from the disk in large blocks, off the event loop.
    """

    def __init__(self, spool: UploadSpool):
        self._spool = spool
        self._position = 0
        self._block = b""
        self._start = 0

    def __len__(self) -> int:
        return self._spool.size

    def __bool__(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._spool.size}
        self._position = max(start[whence] + offset, 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes, often fewer; b"" only at the end.

        A negative size means all that is left: for small parts only.
        """
        left = max(self._spool.size - self._position, 0)
        if size is None or size < 0:
            data = self._spool.pread(left, self._position)
            self._position += len(data)
            return data
        at = self._position - self._start
        if not 0 <= at < len(self._block):
            self._block = self._spool.pread(max(size, _BLOCK), self._position) if left else b""
            self._start, at = self._position, 0
        data = self._block[at : at + size]
        self._position += len(data)
        return data


def directory_of(configured: str | None) -> str:
    """Return the directory for spools and traces: the configured one or the system's."""
    return os.path.abspath(configured or tempfile.gettempdir())


def check_directory(directory: str) -> None:
    """Raise OSError unless files can be made there, and no link of another user leads there."""
    with files.directory(directory):
        pass
    file = LocalFile()
    file.create_unnamed(directory, _PREFIX)
    file.close()

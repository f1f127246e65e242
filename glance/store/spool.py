"""One part of an upload in a local file, so that sending it can be tried again.

Drivers of remote stores write a part (segment, multipart piece) into a `UploadSpool`, send it from
`reader`, as often as it takes, and `clear` it for the next one: an upload never has more than one
part on the disk. The file has no name, so that nothing of it outlives the process; what has to be
known after a crash is the business of `glance.store.upload_journal`.
"""

from __future__ import annotations

import os
import secrets
import tempfile

from glance.store import staging
from glance.streaming import hub, threads

_BLOCK = 1024 * 1024
_FLAGS = os.O_RDWR | os.O_CLOEXEC


class UploadSpool:
    """An unnamed file in `directory`. Used by one writer; close it in the end.

    Raises StorageFull and StorageWriteDenied, like all that write.
    """

    def __init__(self, directory: str):
        self.size = 0
        # NOTE: guards the descriptor: garbage collection may close while a thread writes.
        self._lock = hub.native_lock()
        self._fd = threads.run(_open, directory)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`. Raises StorageFull, StorageWriteDenied, BackendUnavailable."""
        threads.run(self._write, data)

    def _write(self, data: bytes | memoryview) -> None:
        with self._lock, staging.writing():
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.size)
                self.size += written
                view = view[written:]

    def clear(self) -> None:
        """Make it empty, for the next part."""
        threads.run(self._clear)

    def _clear(self) -> None:
        with self._lock, staging.writing():
            os.ftruncate(self._fd, 0)
            self.size = 0

    def reader(self) -> SpoolReader:
        """Return a reader from the beginning; several may be used one after the other."""
        return SpoolReader(self)

    def pread(self, size: int, offset: int) -> bytes:
        """Return at most `size` bytes from `offset`. ValueError when the spool is closed."""
        return threads.run(self._pread, size, offset)

    def _pread(self, size: int, offset: int) -> bytes:
        with self._lock:
            if self._fd < 0:
                raise ValueError("the spool is closed")
            return os.pread(self._fd, min(size, self.size - offset), offset)

    def close(self) -> None:
        """Give the room back. Idempotent."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
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
    """Raise OSError unless files can be made there."""
    os.close(_make(directory))


def _open(directory: str) -> int:
    with staging.writing():
        return _make(directory)


def _make(directory: str) -> int:
    try:
        return threads.open_fd(directory, _FLAGS | os.O_TMPFILE, 0o600)
    except IsADirectoryError:
        pass
    except OSError as err:
        if err.errno not in staging.NO_SUPPORT:
            raise
    # The file system has no unnamed files; one that loses its name at once is the same.
    path = os.path.join(directory, f"glance-spool.{secrets.token_hex(8)}")
    fd = threads.open_fd(path, _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return fd

"""`glance download`: download an image to a file that is either complete or absent.

The data is written to a file beside it that ends in `.part`, which is renamed when its length and
MD5 are right. If the connection breaks, the download resumes after the last byte over a new one;
a `.part` file that an interrupted program left is used by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from glance.cli.user import commands, ids
from glance.cli.user.screen import console, progress
from glance.common import exception

if TYPE_CHECKING:
    from glance.image import types

HASH_PIECE = 1024 * 1024

sleep = time.sleep


@commands.command(
    "download",
    "<ID>",
    "Downloads the data of an image",
    group="Further Commands",
    options=("file", "dry_run"),
    modern=True,
)
def download(call: commands.CommandCall) -> int:
    """
    Downloads the data of an image and verifies its checksum:

      glance download 12 --file /tmp/images/mine.qcow2

    Without --file, the data goes to standard output, unless that is a terminal. If the connection
    breaks, the download resumes by itself. Until the file is complete, its data is in a file
    beside it whose name ends in .part. If the command is interrupted, run it again to resume.
    """
    if not call.args:
        raise console.CommandFailed("Please specify the ID of the image you wish to download")
    call.at_most(1)
    image_id, path = call.args[0], call.options.file
    if call.dry_run(f"Download image {image_id} to {path or 'standard output'}"):
        return 0
    if not path and call.output.isatty():
        raise console.CommandFailed(
            "Standard output is a terminal: use --file=FILE, or redirect standard output"
        )
    try:
        image_id, meta = ids.with_id(call, image_id, lambda i: ids.meta(call, i), reads=True)
    except exception.NotFound:
        raise console.CommandFailed(f"No image with ID {image_id} was found") from None
    from glance.image import fields  # PERF: the client needs it

    if meta.get("status") not in fields.WITH_DATA:
        raise console.CommandFailed(
            f"Image {image_id} has no data: its status is {meta.get('status')}"
        )
    try:
        with opened(call, meta) as target:
            with progress.shown(path or meta.get("name")) as tell:
                fetch(call, image_id, meta, target, tell)
    except OSError as err:
        if isinstance(err, BrokenPipeError) and not path:
            # The reader has what it wanted, such as `head`.
            return 1
        text = f"{err.strerror or err}: {path or 'standard output'}"
        raise console.CommandFailed(text + kept_text(path, meta)) from err
    except KeyboardInterrupt as err:
        raise console.Interrupted(kept_text(path, meta).removeprefix("; ")) from err
    if path:
        console.say(f"Downloaded image {image_id} to {path}")
    return 0


def kept_text(path: str | None, meta: types.DetailedImage) -> str:
    """Return what is kept of an incomplete download, and how to go on, with a semicolon before."""
    size = 0
    if path:
        with contextlib.suppress(OSError):
            size = os.stat(part_of(path, meta)).st_size
    if not path or not size:
        return ""
    how = "to resume" if meta.get("checksum") else "to start again"
    return f"; {part_of(path, meta)} holds {size} bytes: run the command again {how}, or remove it"


def part_of(path: str, meta: types.DetailedImage) -> str:
    """Return the name of the file for the incomplete data of an image."""
    from glance.client import base as base_client

    return f"{path}.{base_client.segment(meta.get('id'))}.part"


def md5() -> Any:
    import hashlib  # PERF: no other command needs it

    return hashlib.md5(usedforsecurity=False)


class Target:
    """The destination of the data; it has `count` bytes, and `digest` is their MD5.

    `finish` is called if the data is right, `discard` if it is wrong. `kept` is the file with
    incomplete data for the next attempt, None if there is none.
    """

    kept: str | None = None

    def __init__(self, file: BinaryIO):
        self.file = file
        self.count = 0
        self.digest = md5()
        #: Whether an earlier program wrote the first bytes.
        self.inherited = False

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.digest.update(chunk)
        self.count += len(chunk)

    def finish(self) -> None:
        self.file.flush()

    def discard(self) -> None:
        """Remove what was written, if possible."""


class PartFile(Target):
    """A file `path.ID.part`, which is renamed to `path` when it is complete."""

    def __init__(self, path: str, meta: types.DetailedImage):
        self.path = path
        self.part = part_of(path, meta)
        super().__init__(self._lock())
        if meta.get("checksum"):
            self._inherit(int(meta.get("size") or 0))
        else:
            # NOTE: without a checksum it cannot be known whether old bytes belong to this image.
            self.discard()

    @property
    def kept(self) -> str | None:  # type: ignore[override]  # a constant where nothing is kept
        return self.part if self.count else None

    def _lock(self) -> BinaryIO:
        """Open the file with an exclusive lock."""
        from glance.common import files  # PERF: no other command needs it

        while True:
            try:
                # SECURITY: in a directory like /tmp others could prepare it, or change it later.
                descriptor = files.open_fd(
                    self.part, os.O_RDWR | os.O_CREAT, 0o666, owner=os.geteuid()
                )
            except files.OpenRefused as err:
                raise console.CommandFailed(
                    f"{self.part} cannot be used: {err.strerror}; remove it, or name another file"
                ) from None
            file = os.fdopen(descriptor, "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # NOTE: another program may have completed and renamed the file opened here.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.part)):
                    return file
            except BlockingIOError:
                file.close()
                raise console.CommandFailed(
                    f"Another program is downloading to {self.part}: wait until it has finished"
                ) from None
            except FileNotFoundError:
                pass
            except BaseException:
                file.close()
                raise
            file.close()

    def _inherit(self, size: int) -> None:
        """Read and count the bytes that an earlier program left."""
        while piece := self.file.read(min(HASH_PIECE, size - self.count)):
            self.digest.update(piece)
            self.count += len(piece)
        self.inherited = self.count > 0
        self.file.seek(self.count)
        self.file.truncate()

    def finish(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self.part, self.path)

    def discard(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.count, self.inherited = 0, False
        self.digest = md5()


@contextlib.contextmanager
def opened(call: commands.CommandCall, meta: types.DetailedImage) -> Iterator[Target]:
    """Yield the target of a download; an empty `.part` file is removed after an error."""
    path = call.options.file
    if not path:
        yield Target(call.output.buffer)
        return
    with contextlib.suppress(FileNotFoundError):
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise console.CommandFailed(f"{path} is a directory: name a file in it")
        if not stat.S_ISREG(kind):
            from glance.common import files  # PERF: no other command needs it

            with open(files.open_special(path, os.O_WRONLY), "wb") as file:
                yield Target(file)
            return
    target = PartFile(path, meta)
    try:
        yield target
    except BaseException:
        # The disk may be full: what cannot be written is downloaded again.
        with contextlib.suppress(OSError):
            target.file.flush()
        if not os.fstat(target.file.fileno()).st_size:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target.part)
        raise
    finally:
        with contextlib.suppress(OSError):
            target.file.close()


def fetch(
    call: commands.CommandCall,
    image_id: str,
    meta: types.DetailedImage,
    target: Target,
    tell: progress.Tell | None,
) -> None:
    """Write the image's data to the target and finish it; raise CommandFailed on failure."""
    checksum, size = meta.get("checksum"), int(meta.get("size") or 0)
    while True:
        gather(call, image_id, size, target, tell)
        if not checksum or target.digest.hexdigest() == str(checksum).lower():
            target.finish()
            return
        again = target.inherited
        target.discard()
        if not again:
            raise console.CommandFailed(
                f"The data of image {image_id} does not match its checksum {checksum}: it was "
                "damaged in transit or in the store"
            )
        # The bytes of an earlier program may be wrong, so everything is downloaded again.


def gather(
    call: commands.CommandCall,
    image_id: str,
    size: int,
    target: Target,
    tell: progress.Tell | None,
) -> None:
    """Write the rest of the data, over as many connections as necessary.

    A 503 is retried only if the server has sent data before, because it may be restarting.
    """
    # PERF: imported for a download only; it brings modules along that no other command needs.
    from glance.streaming import retry

    # Between broken connections in a row none of which brought a byte.
    backoff = retry.Backoff(0.5, 8, retries=5, jitter=0)
    retries, begun = retry.Retries(backoff, sleep=sleep), target.count
    while True:
        before = target.count
        if size and before == size:
            return
        try:
            _, chunks = call.client.get_image(image_id, start=before, progress=tell)
            with chunks:
                for chunk in chunks:
                    target.write(chunk)
            if size and target.count != size:
                raise console.CommandFailed(
                    f"The server sent {target.count} bytes instead of {size} of image {image_id}"
                )
            return
        except (exception.ClientConnectionError, exception.ServiceUnavailable) as err:
            if target.count > before:
                retries.reset()
            refused = isinstance(err, exception.ServiceUnavailable) and target.count == begun
            if refused or not retries.again():
                kept = f"; {target.kept} is kept for the next attempt" if target.kept else ""
                raise console.CommandFailed(f"{err}{kept}") from err

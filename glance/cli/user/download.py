"""`glance download`: an image's data in a file that is either whole or not there.

The data is gathered beside the file, in one that ends in `.part`, and takes the file's name when
its length and MD5 are right. A connection that breaks is made anew and goes on from the last byte;
what an ended program left in its `.part` file is used by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from glance.cli.user import commands, console, progress
from glance.common import exception
from glance.image import types
from glance.streaming import retry

#: Between broken connections in a row none of which brought a byte.
BACKOFF = retry.Backoff(0.5, 8, retries=5, jitter=0)
HASH_PIECE = 1024 * 1024

sleep = time.sleep


@commands.command(
    "download",
    "<ID>",
    "Fetches the data of an image",
    group="Further Commands",
    options=("file", "dry_run"),
    modern=True,
)
def download(call: commands.CommandCall) -> int:
    """
    Fetches the data of an image and verifies its checksum:

      glance download 12 --file /tmp/images/mine.qcow2

    Without --file the data goes to standard output, unless that is a terminal. A connection that
    breaks is made anew, and the transfer goes on where it was cut. The file gets its name when it
    is whole: until then its data is in a file beside it whose name ends in .part, which the same
    command goes on with after it was interrupted.
    """
    if not call.args:
        raise console.CommandFailed("Please specify the ID of the image you wish to download")
    call.at_most(1)
    image_id, path = call.args[0], call.options.file
    if call.dry_run(f"Download image {image_id} to {path or 'standard output'}"):
        return 0
    if not path and call.output.isatty():
        raise console.CommandFailed(
            "Standard output is a terminal: give --file=FILE, or redirect standard output"
        )
    try:
        meta = call.client.get_image_meta(image_id)
    except exception.NotFound:
        raise console.CommandFailed(f"No image with ID {image_id} was found") from None
    if meta.get("status") != "active":
        raise console.CommandFailed(
            f"Image {image_id} has no data: its status is {meta.get('status')}"
        )
    try:
        with opened(call, meta) as target:
            with progress.shown(path or meta.get("name")) as tell:
                fetch(call, image_id, meta, target, tell)
    except BrokenPipeError:
        raise
    except OSError as err:
        raise console.CommandFailed(f"{err.strerror or err}: {path or 'standard output'}") from err
    if path:
        print(f"Downloaded image {image_id} to {console.printable(path)}")
    return 0


def md5() -> Any:
    import hashlib  # PERF: of no use to any other command

    return hashlib.md5(usedforsecurity=False)


class Target:
    """Where the data goes; `count` bytes of it are there, `digest` is their MD5.

    `finish` is called with data that is right, `discard` with data that is wrong. `kept` is the
    file that holds unfinished data for the next try, None if there is none.
    """

    kept: str | None = None

    def __init__(self, file: BinaryIO):
        self.file = file
        self.count = 0
        self.digest = md5()
        #: Whether the first bytes were here before this program came.
        self.inherited = False

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.digest.update(chunk)
        self.count += len(chunk)

    def finish(self) -> None:
        self.file.flush()

    def discard(self) -> None:
        """Take back what was written, where that is possible."""


class PartFile(Target):
    """A file `path.ID.part` beside the wanted one, whose name it gets when it is finished."""

    def __init__(self, path: str, meta: types.DetailedImage):
        from glance.client import base as base_client

        self.path = path
        self.part = f"{path}.{base_client.segment(meta.get('id'))}.part"
        super().__init__(self._lock())
        if meta.get("checksum"):
            self._inherit(int(meta.get("size") or 0))
        else:
            # NOTE: without a checksum nobody could tell whether old bytes belong to this image.
            self.discard()

    @property
    def kept(self) -> str | None:  # type: ignore[override]  # a constant where nothing is kept
        return self.part if self.count else None

    def _lock(self) -> BinaryIO:
        """Open the file for this program alone."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.fdopen(os.open(self.part, flags, 0o666), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # NOTE: another program may have finished, and renamed, what was opened here.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.part)):
                    return file
            except BlockingIOError:
                file.close()
                raise console.CommandFailed(
                    f"Another program is downloading to {self.part}: wait for it"
                ) from None
            except FileNotFoundError:
                pass
            except BaseException:
                file.close()
                raise
            file.close()

    def _inherit(self, size: int) -> None:
        """Count what an earlier program left."""
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
    """Hand out the target of a download; a `.part` file that holds nothing is removed again."""
    path = call.options.file
    if not path:
        yield Target(call.output.buffer)
        return
    with contextlib.suppress(FileNotFoundError):
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise console.CommandFailed(f"{path} is a directory: name a file in it")
        if not stat.S_ISREG(kind):
            with open(path, "wb") as file:
                yield Target(file)
            return
    target = PartFile(path, meta)
    try:
        yield target
    except BaseException:
        target.file.flush()
        if not target.count:
            os.unlink(target.part)
        raise
    finally:
        target.file.close()


def fetch(
    call: commands.CommandCall,
    image_id: str,
    meta: types.DetailedImage,
    target: Target,
    tell: progress.Tell | None,
) -> None:
    """Fill the target with the image's data and finish it; raise Failed if that is impossible."""
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
                f"The data of image {image_id} does not have its checksum {checksum}: it was "
                "damaged on the way or in the store"
            )
        # What an earlier program left may be the cause, so all of it is fetched once more.


def gather(
    call: commands.CommandCall,
    image_id: str,
    size: int,
    target: Target,
    tell: progress.Tell | None,
) -> None:
    """Write the rest of the data, over as many connections as it takes.

    A server that is busy is asked again only if it has sent data before: it may be restarting.
    """
    retries, begun = retry.Retries(BACKOFF, sleep=sleep), target.count
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
                kept = f"; {target.kept} is kept for the next try" if target.kept else ""
                raise console.CommandFailed(f"{err}{kept}") from err

"""One conversion, from the source in its store to the result in another place of a store.

The phases, in order:

1. fetching: the source is read from its store into a file, its size and MD5 compared with those
   of its record;
2. inspecting: the file is looked at without the tool, and its disk measured against the limits;
3. converting: the tool says what it sees, and writes the result;
4. verifying: the result is inspected like the source, and must hold a disk of the same size;
5. uploading: the result goes into its store like any upload: staged, checked, committed.

After a failure in any of them nothing is left, neither here nor in the store. Blocking work is
done in native threads, so a conversion can run in a greenthread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from glance.common import config, exception
from glance.conversion import formats, qemu, sandbox, workspace
from glance.conversion.errors import Cancelled, Code, ConversionError
from glance.http.trail import Trail
from glance.image.conversion_job import Phase
from glance.inspect.verdict import Limits
from glance.store import Stores, base
from glance.streaming import body, threads

LOG = logging.getLogger(__name__)

#: Seconds between two reports of progress.
REPORT_INTERVAL = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is to be converted into what.

    `location` is the storage URI of the source (may hold secrets), `size` (bytes) and `checksum`
    (MD5 hex) are those of its record, None for unknown; `source_format` and `target_format` are
    values of disk_format. `trail` names the images that led here. `disk_size` is the size of the
    disk if an earlier inspection has found it, in bytes. `images` is what the log calls the source
    and the result.
    """

    job_id: str
    location: str
    size: int | None
    checksum: str | None
    source_format: str
    target_format: str
    compress: bool = False
    trail: Trail = ()
    disk_size: int | None = None
    images: tuple[object, object] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a conversion has done: sizes in bytes, `checksum` the MD5 of the source.

    `seconds` are those of each phase; `cpu` seconds and `memory` bytes (the largest resident size)
    are those of the tool.
    """

    bytes_in: int
    bytes_out: int
    virtual_size: int
    checksum: str
    seconds: Mapping[Phase, float]
    cpu: float
    memory: int


class Inspect(Protocol):
    """Looks at an image without the tool."""

    def __call__(self, fd: int, disk_format: str) -> int | None:
        """Return the size of the disk in bytes; None if this inspection does not tell it.

        `fd` is the open file, whose position may change; `disk_format` is what it must be. Raises
        ConversionError for every image that is not exactly this, and safe. May block.
        """
        ...


class Delivery(Protocol):
    """Stores the result: all of a stream, or nothing. The transaction of an upload is one."""

    def __call__(self, stream: body.Readable, size: int) -> object:
        """Store `size` bytes; on return the image has them. Raises store errors."""
        ...


class Observer:
    """Is told of the progress of a job; a subclass does something with it.

    What a method raises fails the conversion.
    """

    def began(self, phase: Phase) -> None:
        """A phase begins."""

    def progressed(self, percent: int, count: int | None) -> None:
        """The current phase has come to so many per cent, from 0 to 100.

        `count` is the number of bytes moved, None while the tool converts. Called at most once in
        REPORT_INTERVAL, and at the end of a phase that has a progress.
        """

    def measured(self, size: int) -> None:
        """The disk in the source has so many bytes."""


class Stop:
    """Tells a conversion to end early: because it is cancelled, or because the process stops.

    From any thread, or a signal handler.
    """

    def __init__(self) -> None:
        self._is_cancelled = self._is_interrupted = False

    def cancel(self) -> None:
        """Nobody wants the result any more."""
        self._is_cancelled = True

    def interrupt(self) -> None:
        """The process is to end; the job can be tried again elsewhere."""
        self._is_interrupted = True

    def check(self) -> None:
        """Raise Cancelled, or ConversionError (interrupted), if it is to end."""
        if self._is_cancelled:
            raise Cancelled()
        if self._is_interrupted:
            raise ConversionError(Code.INTERRUPTED)


class Converter:
    """Converts images on this host; one object for all jobs of a process."""

    def __init__(
        self,
        conf: config.Conf,
        box: sandbox.Sandbox,
        work_dir: workspace.WorkDir,
        stores: Stores,
        inspect: Inspect,
    ):
        """`inspect` is `glance.conversion.inspection.inspect`, or stands for it in a test."""
        self.conf, self.box, self.work_dir = conf, box, work_dir
        self.stores, self.inspect = stores, inspect

    def convert(
        self,
        order: Order,
        deliver: Delivery,
        *,
        stop: Stop | None = None,
        observer: Observer | None = None,
    ) -> Result:
        """Convert an image and store the result; return what was done.

        Raises ConversionError or Cancelled; after an error nothing is left. When this returns, or
        raises, no process of the tool runs any more.
        """
        job = _Job(self, order, stop or Stop(), observer or Observer())
        try:
            with _translated():
                result = job.run(deliver)
        except (ConversionError, Cancelled) as err:
            _log_failure(job, err)
            raise
        job.log(logging.INFO, "succeeded")
        return result


def _log_failure(job: _Job, err: ConversionError | Cancelled) -> None:
    """Tell the operator why a conversion has ended; the detail is for the log alone."""
    level, reason, detail = logging.INFO, "cancelled", ""
    if isinstance(err, ConversionError):
        reason = err.code.label
        detail = " ".join(f" ({err.detail})".split()) if err.detail else ""
        level = logging.INFO if err.code is Code.INTERRUPTED else logging.WARNING
    job.log(level, f"{reason} in {job.doing}{' ' * bool(detail)}{detail}")


class _Job:
    """One run of the five phases."""

    def __init__(self, converter: Converter, order: Order, stop: Stop, observer: Observer):
        self.conf, self.order, self.stop = converter.conf, order, stop
        self.work_dir, self.stores = converter.work_dir, converter.stores
        self._inspect, self._box = converter.inspect, converter.box
        self._observer = observer
        self.source: formats.Format
        self.target: formats.Format
        self._reported = 0.0
        self._begun = 0.0
        self._seconds: dict[Phase, float] = {}
        self._phase: Phase | None = None
        # What is known so far, for the log.
        self._sizes: dict[str, int] = {}
        self._usage = qemu.Consumption()

    @property
    def doing(self) -> str:
        """What the log says that it was at."""
        return self._phase.value if self._phase is not None else "the beginning"

    def log(self, level: int, ending: str) -> None:
        """Write the one line about the job: all that is known of it, and how it has ended."""
        order = self.order
        images = f" (image {order.images[0]} to image {order.images[1]})" if order.images else ""
        if self._phase is not None:
            self._seconds[self._phase] = time.monotonic() - self._begun
        sizes = "".join(f"; {name} {size} bytes" for name, size in self._sizes.items())
        seconds = "".join(f" {phase.value} {count:.2f}" for phase, count in self._seconds.items())
        LOG.log(
            level,
            "Job %s%s: %s to %s: %s%s%s; the tool took %.2f seconds of processor time and %s "
            "bytes of memory",
            order.job_id,
            images,
            order.source_format,
            order.target_format,
            ending,
            sizes,
            f"; seconds:{seconds}" if seconds else "",
            self._usage.cpu,
            self._usage.memory,
        )

    def run(self, deliver: Delivery) -> Result:
        self.source = _format(self.order.source_format)
        self.target = _format(self.order.target_format)
        space = self.work_dir.space(self.order.job_id)
        try:
            return self._run(space, deliver)
        finally:
            threads.run(space.close)

    def _run(self, space: workspace.Workspace, deliver: Delivery) -> Result:
        self._begin(Phase.FETCHING)
        self._check_input(self.order.size or 0)
        self._promise(self._expected())
        threads.run(space.open)
        source = threads.run(space.create, qemu.SOURCE)
        received = self._fetch(source)
        self._sizes["source"] = received.size
        self._begin(Phase.INSPECTING)
        found = threads.run(self._inspect, source, self.order.source_format)
        self._check_disk(found, received.size)
        self._begin(Phase.CONVERTING)
        target = threads.run(space.create, qemu.TARGET)
        tool = qemu.Tool(self.conf, self._box, space.path, self.stop.check)
        try:
            size = self._convert(tool, received.size)
            self._begin(Phase.VERIFYING)
            self._verify(tool, target, size)
        finally:
            self._usage = tool.usage
        length = self._sizes["result"] = os.fstat(target).st_size
        self._begin(Phase.UPLOADING)
        self._upload(target, length, deliver)
        self._begin(None)
        return Result(
            received.size,
            length,
            size,
            received.checksum,
            self._seconds,
            self._usage.cpu,
            self._usage.memory,
        )

    # -- the phases ------------------------------------------------------------------------------

    def _begin(self, phase: Phase | None) -> None:
        """Begin a phase, None for the end of the last one."""
        if phase is not None:
            self.stop.check()
        now = time.monotonic()
        if self._phase is not None:
            self._seconds[self._phase] = now - self._begun
        self._phase, self._begun, self._reported = phase, now, 0.0
        if phase is not None:
            self._observer.began(phase)

    def _fetch(self, fd: int) -> base.Received:
        """Bring the source into a file; it has the size and the MD5 of its record then."""
        with _fetching(), self.stores.get(self.order.location, trail=self.order.trail) as data:
            size = data.size if self.order.size is None else self.order.size
            if data.size is not None and data.size != size:
                raise ConversionError(Code.SOURCE_CORRUPT, "the store has another size of it")
            reader = _Watched(self, body.BodyReader(data), size)
            sink = _Sink(self, fd)
            received = base.transfer(reader, sink)
            sink.finish()
        if size is not None and received.size != size:
            raise ConversionError(Code.SOURCE_CORRUPT, "the store has fewer bytes of it")
        if self.order.checksum and received.checksum != self.order.checksum.lower():
            raise ConversionError(Code.SOURCE_CORRUPT, "its checksum is another one")
        self._report(100, received.size, always=True)
        return received

    def _convert(self, tool: qemu.Tool, length: int) -> int:
        """Write the result; return the size of the disk in bytes."""
        size = self._sizes["disk"] = tool.size_of_disk(qemu.SOURCE, self.source)
        self._check_disk(size, length)
        self._observer.measured(size)
        self._promise(size)
        self._report(0, None)
        try:
            tool.convert(
                self.source, self.target, size, compress=self.order.compress, report=self._percent
            )
        except ConversionError as err:
            # The tool does not always say that there was no room.
            if err.code is Code.CONVERSION_FAILED and threads.run(self.work_dir.is_full):
                raise ConversionError(Code.NO_SPACE, err.detail) from err
            raise
        # Nothing more is written here, so others may have the room that is left.
        self.work_dir.forget(self.order.job_id)
        self._report(100, None, always=True)
        return size

    def _verify(self, tool: qemu.Tool, fd: int, size: int) -> None:
        try:
            found = threads.run(self._inspect, fd, self.order.target_format)
        except ConversionError as err:
            if self.order.target_format == formats.RAW and err.code in _FOREIGN:
                raise ConversionError(Code.NESTED_FORMAT, err.detail) from err
            raise ConversionError(
                Code.CONVERSION_FAILED, f"the result is refused: {err.code.label}: {err.detail}"
            ) from err
        seen = tool.size_of_disk(qemu.TARGET, self.target)
        if seen != size or found not in (None, size):
            raise ConversionError(
                Code.CONVERSION_FAILED,
                f"the disk of the result has {seen} instead of {size} bytes",
            )
        if self.conf.conversion_compare:
            tool.compare(self.source, self.target, size)

    def _upload(self, fd: int, length: int, deliver: Delivery) -> None:
        with body.FileBody(os.dup(fd), size=length) as data, _uploading():
            deliver(_Watched(self, body.BodyReader(data), length), length)
        self._report(100, length, always=True)

    # -- limits ----------------------------------------------------------------------------------

    def _expected(self) -> int:
        """Return how many bytes the job will write here, as far as this is known.

        The size of the disk counts as soon as it is known, at the latest before the result is
        written.
        """
        size = self.order.size
        if size is None:
            with _fetching():
                size = self.stores.get_size(self.order.location, trail=self.order.trail)
        if size is None:
            size = self.conf.conversion_max_input_size
        disk = size if self.order.source_format == formats.RAW else self.order.disk_size or 0
        most: int = self.conf.conversion_max_virtual_size
        return size + min(disk, most)

    def _promise(self, wanted: int) -> None:
        threads.run(self.work_dir.promise, self.order.job_id, wanted)

    def _check_input(self, count: int) -> None:
        """Refuse a source that has more bytes than it may."""
        if count > self.conf.conversion_max_input_size:
            raise ConversionError(Code.TOO_LARGE, "the source is larger than the limit")

    def _check_disk(self, size: int | None, length: int) -> None:
        """Refuse a disk of `size` bytes in an image of `length` bytes that is too large."""
        limits = Limits(self.conf.conversion_max_virtual_size, self.conf.conversion_max_expansion)
        if size is not None and limits.exceeded(size, length):
            raise ConversionError(
                Code.TOO_LARGE, f"its disk has {size} bytes, the image has {length}"
            )

    # -- progress --------------------------------------------------------------------------------

    def _percent(self, percent: int) -> None:
        self._report(percent, None)

    def moved(self, count: int, whole: int | None) -> None:
        """Take note that so many bytes of the phase have been moved, out of so many."""
        self.stop.check()
        if self._phase is Phase.FETCHING:
            self._check_input(count)
        self._report(min(count * 100 // whole, 100) if whole else 0, count)

    def _report(self, percent: int, count: int | None, *, always: bool = False) -> None:
        now = time.monotonic()
        if always or now - self._reported >= REPORT_INTERVAL:
            self._reported = now
            self._observer.progressed(percent, count)


#: What an inspection says of a raw image that has the marks of another format.
_FOREIGN = frozenset({Code.FORMAT_MISMATCH, Code.AMBIGUOUS_FORMAT, Code.UNSAFE_IMAGE})


class _Watched:
    """Reads a stream; tells the job how far it has come, and ends when that is to end."""

    def __init__(self, job: _Job, reader: body.Readable, size: int | None):
        self._job, self._reader, self._size = job, reader, size
        self._count = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" only at the end."""
        data = self._reader.read(size)
        self._count += len(data)
        self._job.moved(self._count, self._size)
        if self._size is not None and self._count > self._size:
            raise ConversionError(Code.SOURCE_CORRUPT, "the store has more bytes of it")
        return data


class _Sink(base.StagedWrite):
    """Writes the source to its file; what is zero throughout stays a hole."""

    #: How much is either written or left out.
    _PIECE = 64 * 1024
    _ZEROS = bytes(_PIECE)

    def __init__(self, job: _Job, fd: int):
        self._job, self._fd = job, fd
        self._count = 0

    def write(self, data: bytes) -> None:
        try:
            threads.run(self._write, data)
        except OSError as err:
            raise workspace.failed(err) from err
        self._job.work_dir.spend(self._job.order.job_id, len(data))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        start = 0
        while start < len(data):
            is_hole = data.startswith(self._ZEROS, start)
            end = start + self._PIECE
            while end < len(data) and data.startswith(self._ZEROS, end) == is_hole:
                end += self._PIECE
            end = min(end, len(data))
            position = self._count + start
            part = view[start:end]
            while part and not is_hole:
                written = os.pwrite(self._fd, part, position)
                part, position = part[written:], position + written
            start = end
        self._count += len(data)

    def finish(self) -> None:
        """Give the file its size, for it may end with a hole."""
        try:
            threads.run(os.ftruncate, self._fd, self._count)
        except OSError as err:
            raise workspace.failed(err) from err


def _format(disk_format: str) -> formats.Format:
    """Return the row of a format. Raises ConversionError (unsupported_format)."""
    try:
        return formats.of(disk_format)
    except exception.Invalid as err:
        raise ConversionError(Code.UNSUPPORTED_FORMAT) from err


# -- errors of others ----------------------------------------------------------------------------


@contextlib.contextmanager
def _fetching() -> Iterator[None]:
    """Turn what a store raises for the source into an error of the conversion."""
    try:
        yield
    except exception.StoreObjectNotFound as err:
        raise ConversionError(Code.SOURCE_GONE, exception.described(err)) from err
    except (exception.BackendCorrupt, exception.ImageSizeMismatch) as err:
        raise ConversionError(Code.SOURCE_CORRUPT, exception.described(err)) from err


@contextlib.contextmanager
def _uploading() -> Iterator[None]:
    """Turn what a store raises for the result into an error of the conversion."""
    try:
        yield
    except exception.ImageSizeLimitExceeded as err:
        raise ConversionError(Code.TOO_LARGE, exception.described(err)) from err
    except exception.LimitExceeded as err:
        raise ConversionError(Code.STORE_FULL, exception.described(err)) from err
    except exception.BackendCorrupt as err:
        raise ConversionError(Code.HOST_FAILED, exception.described(err)) from err


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn whatever else goes wrong outside of this package into an error of the conversion."""
    try:
        yield
    except exception.OutOfDescriptors as err:
        raise ConversionError(Code.HOST_FAILED, exception.described(err)) from err
    except (exception.StoreError, exception.ServiceUnavailable) as err:
        raise ConversionError(Code.STORE_UNAVAILABLE, exception.described(err)) from err
    except OSError as err:
        raise workspace.failed(err) from err

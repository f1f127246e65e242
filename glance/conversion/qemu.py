"""What the tool is asked: what an image says of itself, to convert, to compare.

An image is always named as a block device with its driver, so that nothing is detected and no name
is taken for a protocol. The two names, `source` and `target`, are relative to the directory of the
job. What the tool says of an image is a second opinion; the inspection comes before it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from glance.common import config, exception
from glance.conversion import formats, process, sandbox
from glance.conversion.errors import Code, ConversionError
from glance.conversion.formats import Format

LOG = logging.getLogger(__name__)

SOURCE = "source"
TARGET = "target"

#: How much the tool may say of an image.
_MAX_INFO = 1024 * 1024
#: How much of the tool's complaint goes to the log.
_MAX_COMPLAINT = 4096
_GIB = 1024**3
#: What a result may have beyond the bytes of the disk.
_SLACK = 64 * 1024**2
_PROGRESS = re.compile(rb"\(([0-9]{1,3})(?:\.[0-9]*)?/100%\)")
#: The limits of the check at start; `--version` needs next to nothing.
_CHECK = sandbox.RunLimits(address_space=_GIB, cpu=10, file_size=0)
_CHECK_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Consumption:
    """What runs of the tool have taken: seconds of processor time, largest resident size."""

    cpu: float = 0.0
    memory: int = 0

    def plus(self, ending: process.Ending) -> Consumption:
        return Consumption(self.cpu + ending.cpu, max(self.memory, ending.memory))


class Tool:
    """The tool, for one job: its directory, and when it is to stop.

    `check` is called again and again while the tool runs; what it raises ends the run. All runs
    together take at most `conversion_wall_timeout`. Methods raise ConversionError.
    """

    def __init__(
        self,
        conf: config.Conf,
        box: sandbox.Sandbox,
        directory: str,
        check: Callable[[], object],
    ):
        self._conf, self._box, self._directory, self._check = conf, box, directory, check
        self._deadline: float | None = None
        self.usage = Consumption()

    # -- the questions ---------------------------------------------------------------------------

    def size_of_disk(self, name: str, row: Format) -> int:
        """Return the size of the disk in an image, in bytes, as the tool sees it.

        `name` is SOURCE or TARGET. Fails for whatever is not one plain file.
        """
        limits = sandbox.RunLimits(
            self._conf.conversion_info_address_space, self._conf.conversion_info_cpu, 0
        )
        ending = self._run(limits, ("info", "--output=json", device(name, row)), output=_MAX_INFO)
        if ending.is_cut:
            raise ConversionError(Code.UNSAFE_IMAGE, "the tool says too much of it")
        try:
            said = json.loads(ending.out)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise ConversionError(Code.CONVERSION_FAILED, "what the tool says is no JSON")
        return _checked(said, name, row, self._conf.conversion_vmdk_subformats)

    def convert(
        self,
        source: Format,
        target: Format,
        size: int,
        *,
        compress: bool = False,
        report: Callable[[int], object] | None = None,
    ) -> None:
        """Write TARGET, an existing file, from SOURCE, a disk of `size` bytes.

        `report` is called with the percentage, from 0 to 100, as it grows.
        """
        options = ("-o", target.options) if target.options else ()
        compressed = ("-c",) if compress else ()
        formats_of = ("-O", target.driver, *options, *compressed)
        arguments = ("convert", "-p", *formats_of, device(SOURCE, source), TARGET)
        largest = size + size // 10 + _SLACK
        progress = _Progress(report) if report is not None else None
        self._run(self._working_limits(size, largest), arguments, take=progress)

    def compare(self, source: Format, target: Format, size: int) -> None:
        """Fail unless SOURCE and TARGET hold the same disk, of `size` bytes."""
        pair = (device(SOURCE, source), device(TARGET, target))
        self._run(self._working_limits(size, 0), ("compare", *pair))

    def _working_limits(self, size: int, file_size: int) -> sandbox.RunLimits:
        conf = self._conf
        cpu = conf.conversion_cpu_base + conf.conversion_cpu_per_gib * -(-size // _GIB)
        return sandbox.RunLimits(conf.conversion_address_space, cpu, file_size)

    # -- one run ---------------------------------------------------------------------------------

    def _run(
        self,
        limits: sandbox.RunLimits,
        arguments: Sequence[str],
        *,
        output: int = process.OUTPUT,
        take: Callable[[bytes], object] | None = None,
    ) -> process.Ending:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._conf.conversion_wall_timeout
        ending = _run(
            self._box, self._directory, limits, arguments, self._look, output=output, take=take
        )
        self.usage = self.usage.plus(ending)
        code = process.code_of(ending, limits.cpu)
        if code is not None:
            raise ConversionError(code, self._complaint(arguments[0], ending))
        return ending

    def _look(self) -> None:
        self._check()
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise ConversionError(Code.TIMEOUT)

    def _complaint(self, action: str, ending: process.Ending) -> str:
        """Return what the log says of a failed run, without the path of the job."""
        text = ending.err[:_MAX_COMPLAINT].decode("ascii", "backslashreplace")
        text = " ".join(text.replace(self._directory, ".").split())
        shown = "".join(char if char.isprintable() else "?" for char in text)
        return f"qemu-img {action} ended with status {ending.status}: {shown or 'it said nothing'}"


def _run(
    box: sandbox.Sandbox,
    directory: str,
    limits: sandbox.RunLimits,
    arguments: Sequence[str],
    check: Callable[[], object],
    *,
    output: int = process.OUTPUT,
    take: Callable[[bytes], object] | None = None,
) -> process.Ending:
    command = box.command(directory, limits, arguments)
    run = process.Run(command, box.environment(directory), output=output, take=take)
    try:
        with run:
            return run.wait(check)
    except OSError as err:
        raise ConversionError(Code.HOST_FAILED, exception.described(err)) from err


class _Progress:
    """Reads the percentage from the output of the tool, piece by piece."""

    def __init__(self, report: Callable[[int], object]):
        self._report = report
        self._rest = b""
        self._last = -1

    def __call__(self, piece: bytes) -> None:
        text = self._rest + piece
        # One number may be in two pieces.
        self._rest = text[-32:]
        for found in _PROGRESS.findall(text):
            percent = min(int(found), 100)
            if percent > self._last:
                self._last = percent
                self._report(percent)


def device(name: str, row: Format) -> str:
    """Return how the tool is told of an image: driver and file, and no other file."""
    found: dict[str, Any] = {"driver": row.driver, "read-only": True}
    if row.has_backing:
        found["backing"] = None
    found["file"] = {"driver": "file", "filename": name, "read-only": True}
    return f"json:{json.dumps(found)}"


# -- what the tool says of an image --------------------------------------------------------------


def _checked(said: dict[str, Any], name: str, row: Format, subformats: Sequence[str]) -> int:
    """Return the size of the disk, or refuse the image for what the tool says of it."""
    specific = said.get("format-specific")
    details = specific.get("data") if isinstance(specific, dict) else None
    details = details if isinstance(details, dict) else {}
    if said.get("format") != row.driver:
        raise ConversionError(Code.FORMAT_MISMATCH, "the tool sees another format")
    reason = _reason_against(said, details, name)
    if reason is None and row.disk_format == formats.VMDK:
        kind = details.get("create-type")
        extents = details.get("extents")
        if kind not in subformats:
            reason = "it is of another kind than the permitted ones"
        elif not isinstance(extents, list) or len(extents) != 1:
            reason = "it has more than one extent"
    if reason is not None:
        raise ConversionError(Code.UNSAFE_IMAGE, f"the tool says: {reason}")
    size = said.get("virtual-size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ConversionError(Code.CONVERSION_FAILED, "the tool names no size")
    return size


def _reason_against(said: dict[str, Any], details: dict[str, Any], name: str) -> str | None:
    if any(key.endswith("backing-filename") for key in said):
        return "it has a backing file"
    if any(key.startswith("data-file") for key in details):
        return "it has a data file"
    if said.get("encrypted") or "encrypt" in details:
        return "it is encrypted"
    if said.get("snapshots"):
        return "it has snapshots"
    if said.get("filename") != name:
        return "it is in another file"
    # Since QEMU 8.1.
    children = said.get("children", [])
    if not isinstance(children, list) or any(not _is_plain(each, name) for each in children):
        return "it is in several files"
    return None


def _is_plain(child: object, name: str) -> bool:
    info = child.get("info") if isinstance(child, dict) else None
    if not isinstance(child, dict) or not isinstance(info, dict):
        return False
    return child.get("name") == "file" and info.get("filename") == name


# -- the check at start --------------------------------------------------------------------------


def checked_sandbox(conf: config.Conf) -> sandbox.Sandbox:
    """Return the sandbox of a converter, after a run of the tool in it.

    Raises ConfigError, with what to do, if a program is missing, if the tool is too old, or if
    this host does not let the sandbox work. Blocks for some tenths of a second.
    """
    box = sandbox.Sandbox(conf)
    with tempfile.TemporaryDirectory(prefix="glance-") as directory:
        deadline = time.monotonic() + _CHECK_SECONDS

        def look() -> None:
            if time.monotonic() > deadline:
                raise ConversionError(Code.TIMEOUT)

        try:
            ending = _run(box, directory, _CHECK, ("--version",), look)
        except ConversionError as err:
            raise exception.ConfigError(
                f"{conf.at('conversion_qemu_img')}: the program cannot be run: {err.code.label}"
            ) from err
    _check_ending(conf, ending)
    found = sandbox.version_of(ending.out)
    wanted = tuple(map(int, conf.conversion_min_qemu_version.split(".")))
    if found is None:
        raise exception.ConfigError(
            f"{conf.at('conversion_qemu_img')} names a program that is not qemu-img"
        )
    shown = ".".join(map(str, found))
    if found < wanted:
        raise exception.ConfigError(
            f"{conf.at('conversion_qemu_img')}: this qemu-img has the version {shown}; install "
            f"{conf.conversion_min_qemu_version} or later, with the fix for CVE-2024-4467"
        )
    LOG.info("Images are converted by qemu-img %s, sandbox: %s", shown, conf.conversion_sandbox)
    return box


def _check_ending(conf: config.Conf, ending: process.Ending) -> None:
    if ending.status == 0:
        return
    said = " ".join(ending.err[:200].decode("ascii", "replace").split())
    if said.startswith("bwrap: "):
        raise exception.ConfigError(
            f"{conf.at('conversion_sandbox')}: the sandbox does not work on this host ({said}); "
            "permit unprivileged user namespaces for bwrap (sysctl kernel.unprivileged_userns_"
            "clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or, "
            "at your own risk, set conversion_sandbox = none"
        )
    raise exception.ConfigError(
        f"{conf.at('conversion_qemu_img')}: the program fails with status {ending.status} ({said})"
    )

"""A converter in a directory of its own: its stores, and what is left there."""

from __future__ import annotations

import io
import os
import pathlib
import secrets
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

from glance import store
from glance.common import config
from glance.conversion import engine, errors, inspection, qemu, workspace
from glance.store import base
from glance.streaming import body

MIB = 1024 * 1024


def uninspected(fd: int, disk_format: str) -> None:
    """Stand for an inspection that sees nothing."""


class Workshop:
    """Converts images below `directory`; `inspect` stands before the tool."""

    def __init__(
        self,
        directory: pathlib.Path,
        inspect: engine.Inspect = inspection.inspect,
        *,
        box: Any = None,
        **options: Any,
    ):
        self.directory = directory
        self.images = directory / "images"
        self.work = directory / "work"
        self.images.mkdir(parents=True, exist_ok=True)
        settings = {
            "enabled_stores": "file",
            "filesystem_store_datadir": self.images,
            "conversion_work_dir": self.work,
            "conversion_disk_reserve": 0,
            **options,
        }
        self.conf = config.Conf({name: str(value) for name, value in settings.items()})
        self.stores = store.create_stores(self.conf)
        self.box = box or qemu.checked_sandbox(self.conf)
        self.work_dir = workspace.WorkDir(self.conf)
        self.converter = engine.Converter(self.conf, self.box, self.work_dir, self.stores, inspect)
        self.stored: list[base.AddResult] = []

    def put(self, data: bytes) -> base.AddResult:
        """Store an image."""
        return self.stores.writable().add(f"source-{secrets.token_hex(4)}", io.BytesIO(data))

    def order(
        self, source: base.AddResult, source_format: str, target_format: str, **more: Any
    ) -> engine.Order:
        given = {"size": source.size, "checksum": source.checksum, **more}
        job_id = given.pop("job_id", None) or str(uuid.uuid4())
        return engine.Order(
            job_id,
            source.location,
            given.pop("size"),
            given.pop("checksum"),
            source_format,
            target_format,
            **given,
        )

    def delivery(
        self, settle: Callable[[base.AddResult], object], name: str | None = None
    ) -> engine.Delivery:
        """Return what stores a result, in the default store or a named one, without a record.

        When `settle` raises, after the commit, the data is removed again.
        """

        def deliver(stream: body.Readable, size: int) -> None:
            image_id = f"result-{secrets.token_hex(4)}"
            with self.stores.writable(name).stage(image_id, size) as staged:
                received = base.transfer(stream, staged)
                added = base.AddResult(staged.commit(), received.size, received.checksum)
                try:
                    settle(added)
                except Exception:
                    self.stores.delete(added.location)
                    raise

        return deliver

    def convert(
        self,
        source: base.AddResult,
        source_format: str,
        target_format: str,
        *,
        stop: engine.Stop | None = None,
        observer: engine.Observer | None = None,
        settle: Callable[[base.AddResult], object] | None = None,
        **more: Any,
    ) -> engine.Result:
        """Convert an image; what was stored is the last of `stored`."""
        delivery = self.delivery(settle or self.stored.append)
        order = self.order(source, source_format, target_format, **more)
        return self.converter.convert(order, delivery, stop=stop, observer=observer)

    def code_of(self, *args: Any, **kwargs: Any) -> str | None:
        """Convert, and return the code of the failure; None for success."""
        try:
            self.convert(*args, **kwargs)
        except errors.ConversionError as err:
            return err.code.label
        return None

    def result(self) -> bytes:
        """Return what was stored last."""
        with self.stores.get(self.stored[-1].location) as data:
            return b"".join(data)

    def path_of(self, stored: base.AddResult) -> pathlib.Path:
        """Return the file of an image."""
        return pathlib.Path(stored.location.removeprefix("file://"))

    def left(self) -> list[str]:
        """Return what is in the work directory, and in the store besides sources and results."""
        kept = {pathlib.Path(each.location).name for each in self.stored}
        found = [str(path) for path in self.work.rglob("*")]
        for path in self.images.rglob("*"):
            if path.is_file() and path.name not in kept and not path.name.startswith("source-"):
                found.append(str(path))
        return found


def run(*words: object, **kwargs: Any) -> str:
    """Run a command that succeeds; return its output."""
    done = subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True, **kwargs
    )
    return done.stdout


def noise(size: int) -> bytes:
    """Return bytes that do not compress."""
    return os.urandom(size)


def working_in(directory: pathlib.Path) -> set[int]:
    """Return the processes of this host that work in a directory below this one.

    A process in a sandbox has another path for it, so the directories themselves are compared.
    """
    wanted = set()
    for path in (directory, *directory.glob("*/")):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    pids = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found = (entry / "cwd").stat()
        except OSError:
            # It has ended, or is somebody else's.
            continue
        if (found.st_dev, found.st_ino) in wanted:
            pids.add(int(entry.name))
    return pids


# -- hostile images ------------------------------------------------------------------------------


def qcow2_with_backing(path: pathlib.Path, backing: str, kind: str = "raw") -> None:
    """Make a QCOW2 of 1 MiB whose backing file has any name."""
    run("qemu-img", "create", "-q", "-f", "qcow2", path, MIB)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", kind, "-b", backing, path)


def qcow2_with_data_file(path: pathlib.Path, data_file: pathlib.Path) -> None:
    """Make a QCOW2 of 1 MiB whose data is in another file, which is as it was afterwards."""
    before = data_file.read_bytes()
    run(
        *("qemu-img", "create", "-q", "-f", "qcow2"),
        *("-o", f"data_file={data_file},data_file_raw=on", path, MIB),
    )
    data_file.write_bytes(before)


def vmdk_descriptor(path: pathlib.Path, extent: str, kind: str = "monolithicFlat") -> None:
    """Make a VMDK of 1 MiB in text, whose one extent is another file."""
    access = "FLAT" if "Flat" in kind else "SPARSE"
    end = " 0" if access == "FLAT" else ""
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="{kind}"\n\n# Extent description\nRW 2048 {access} "{extent}"{end}\n\n'
        '# The Disk Data Base\nddb.adapterType = "ide"\nddb.geometry.cylinders = "2"\n'
        'ddb.geometry.heads = "16"\nddb.geometry.sectors = "63"\n'
    )

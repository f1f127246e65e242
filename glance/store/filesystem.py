"""The file store: one file per image in a directory of this host (`file:`, `filesystem:`).

Layout: `<datadir>/<image id>` for complete images, `<datadir>/.incoming/<image id>.<random>` for
those being written. An image appears under its id in one step, complete and synced to the disk, or
not at all. Blocking calls run in native threads.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from typing import ClassVar

from glance.common import config, exception
from glance.store import base, staging
from glance.store.base import Capability
from glance.store.location import FileLocation, Location
from glance.store.os_errors import reading
from glance.streaming import body, staged_file, threads
from glance.streaming.staged_file import LocalFile

LOG = logging.getLogger(__name__)

INCOMING = ".incoming"
#: How many directory entries one job of a native thread reads.
_LIST_STEP = 500


def _octal(text: str) -> int:
    try:
        mode = int(text.strip(), 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:
        raise ValueError("use an octal file mode such as 0640")
    return mode


OPTIONS = config.options(
    "filesystem store",
    config.Option(
        "filesystem_store_datadir",
        config.path,
        default="/var/lib/glance/images/",
        help="Directory of the image files. It is created at start if it does not exist. The "
        "API must be able to write to it, and it must support hard links.",
    ),
    config.Option(
        "filesystem_store_min_free_bytes",
        config.integer,
        default=0,
        minimum=0,
        unit="bytes",
        help="Free space that uploads must leave on the file system of the image directory. An "
        "upload that would leave less is rejected with 413.",
    ),
    config.Option(
        "filesystem_store_file_mode",
        _octal,
        default=0o640,
        help="Permissions of image files, as an octal number.",
    ),
    config.Option(
        "allow_file_locations",
        config.boolean,
        default=False,
        help="Allow administrators to register images by file:// locations inside "
        "file_locations_dir.",
    ),
    config.Option(
        "file_locations_dir",
        config.path,
        help="Directory whose files administrators may register as images if "
        "allow_file_locations is true. Registered files are read, never deleted.",
    ),
)


class FilesystemStore(base.Store):
    name: ClassVar[str] = "file"
    schemes: ClassVar[tuple[str, ...]] = FileLocation.schemes
    location_class = FileLocation
    capabilities = (
        Capability.READ
        | Capability.RANDOM_READ
        | Capability.SIZE
        | Capability.WRITE
        | Capability.DELETE
        | Capability.LIST
    )

    def configure(self) -> None:
        self.datadir = os.path.abspath(self.conf.filesystem_store_datadir)
        self.incoming = os.path.join(self.datadir, INCOMING)
        self.locations_dir: str | None = None
        if self.conf.allow_file_locations and self.conf.file_locations_dir:
            self.locations_dir = os.path.abspath(self.conf.file_locations_dir)

    @property
    def local_directory(self) -> str:
        return self.incoming

    def configure_add(self) -> None:
        try:
            if not os.path.isdir(self.datadir):
                os.makedirs(self.datadir, 0o750, exist_ok=True)
                LOG.info("Created the image directory %s", self.datadir)
            os.makedirs(self.incoming, 0o750, exist_ok=True)
            self._probe()
        except OSError as err:
            raise exception.BadStoreConfiguration(
                store_name=self.name,
                reason=f"filesystem_store_datadir {self.datadir} cannot be used: {err.strerror}",
            ) from err

    def _probe(self) -> None:
        """Try the steps of an upload: create a file, link it into place, remove both names."""
        name = f".probe.{os.getpid()}.{secrets.token_hex(8)}"
        staged, final = os.path.join(self.incoming, name), os.path.join(self.datadir, name)
        os.close(staged_file.create_fd(staged))
        try:
            os.link(staged, final)
            os.unlink(final)
        finally:
            os.unlink(staged)

    # -- reading ---------------------------------------------------------------------------------

    def get(self, location: Location, offset: int = 0, length: int | None = None) -> body.FileBody:
        return threads.run(self._get, location, offset, length)

    def _get(self, location: Location, offset: int, length: int | None) -> body.FileBody:
        fd, size = self._open(location)
        try:
            if offset < 0 or (length is not None and length < 0):
                raise ValueError("offset and length must not be negative")
            if offset > size:
                raise exception.RangeNotSatisfiable(size)
            length = size - offset if length is None else min(length, size - offset)
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, offset, length, os.POSIX_FADV_SEQUENTIAL)
            return body.FileBody(fd, size=size, offset=offset, length=length)
        except BaseException:
            os.close(fd)
            raise

    def get_size(self, location: Location) -> int:
        return threads.run(self._get_size, location)

    def _get_size(self, location: Location) -> int:
        fd, size = self._open(location)
        os.close(fd)
        return size

    def _open(self, location: Location) -> tuple[int, int]:
        """Return a descriptor and the size of a regular file inside the allowed directories."""
        path = self._contained(location, self.datadir, self.locations_dir)
        with reading():
            # NOTE: non-blocking; otherwise opening a named pipe would hang.
            fd = threads.open_fd(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise exception.StoreForbidden().because("it is no regular file")
        return fd, status.st_size

    def _contained(self, location: Location, *directories: str | None) -> str:
        """Return the path of `location`, its parent free of symbolic links.

        SECURITY: raises StoreForbidden unless the file is inside one of `directories`, and, for
        the data directory, outside the service's own subdirectory. The last component is not
        resolved: the caller must not follow a link when it opens the file.
        """
        store_location = location.store_location
        assert isinstance(store_location, FileLocation)
        parent, name = os.path.split(store_location.path)
        parent = os.path.realpath(parent)
        if name in ("", "."):
            raise exception.StoreForbidden()
        path = os.path.join(parent, name)
        if any(self._is_inside(path, directory) for directory in filter(None, directories)):
            return path
        raise exception.StoreForbidden().because("it is outside the directory of the images")

    def _is_inside(self, path: str, directory: str) -> bool:
        """Return whether a path without links is in a directory where images may be."""
        root = os.path.realpath(directory).rstrip("/") + "/"
        hidden = directory == self.datadir and path[len(root) :].startswith(".")
        return path.startswith(root) and not hidden

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, location: Location) -> None:
        threads.run(self._delete, location)

    def _delete(self, location: Location) -> None:
        path = self._contained(location, self.datadir, self.locations_dir)
        if not self._is_inside(path, self.datadir):
            # A caller registered the file; it is not glance's file, whatever the configuration.
            raise exception.StoreDeleteNotSupported()
        with reading():
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise exception.StoreForbidden()
            os.unlink(path)

    def owns(self, location: Location, image_id: str) -> bool:
        try:
            path = self._contained(location, self.datadir)
        except exception.StoreForbidden:
            return False
        return path == os.path.join(os.path.realpath(self.datadir), image_id)

    # -- listing ---------------------------------------------------------------------------------

    def list_objects(self) -> Iterator[base.StoredObject]:
        try:
            entries = threads.run(os.scandir, self.datadir)
        except OSError as err:
            # NOTE: a missing directory means an unmounted disk, not an empty store.
            raise exception.BackendUnavailable() from err
        with entries:
            while names := threads.run(_names, entries):
                yield from filter(None, threads.run(self._stored_objects, names))

    def _stored_objects(self, names: list[str]) -> list[base.StoredObject | None]:
        return [self._stored(name) for name in names if base.is_image_id(name)]

    def _stored(self, name: str) -> base.StoredObject | None:
        path = self.path_of(name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            # It was deleted after its name was read.
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        uri = FileLocation(path).uri(secret=True)
        return base.StoredObject(name, uri, status.st_size, status.st_mtime)

    # -- registering -----------------------------------------------------------------------------

    def check_registerable(self, location: Location, *, is_admin: bool) -> None:
        if self.locations_dir is None or not is_admin:
            super().check_registerable(location, is_admin=is_admin)
        try:
            self._contained(location, self.locations_dir)
        except exception.StoreForbidden:
            raise exception.LocationRefused(
                reason="the file is outside the directory for registered files"
            ) from None

    # -- writing ---------------------------------------------------------------------------------

    def stage(self, image_id: str, size: int | None = None) -> staging.StagedFile:
        base.check_image_id(image_id)
        self.require_add()
        staged = staging.StagedFile(self, image_id)
        try:
            threads.run(staged.open, size)
        except BaseException:
            # A kill may arrive when the file is already open.
            staged.abort()
            raise
        return staged

    def uri_of(self, image_id: str) -> str:
        return FileLocation(self.path_of(image_id)).uri(secret=True)

    def place_of(self, image_id: str) -> str:
        return str(FileLocation(self.path_of(image_id)))

    def path_of(self, image_id: str) -> str:
        return os.path.join(self.datadir, image_id)

    def check_room(self, wanted: int) -> None:
        """Raise StorageFull if `wanted` more bytes would leave less than the minimum free."""
        status = os.statvfs(self.datadir)
        free = status.f_bavail * status.f_frsize
        if free - wanted < self.conf.filesystem_store_min_free_bytes:
            least = self.conf.filesystem_store_min_free_bytes
            detail = f"{free} bytes are free, of which {least} must stay free"
            raise exception.StorageFull().because(detail)

    def check(self) -> None:
        threads.run(self._check)

    def _check(self) -> None:
        # NOTE: without its disk the directory is an empty one of another file system.
        for directory in (self.datadir, self.incoming):
            if not os.path.isdir(directory):
                raise exception.BackendUnavailable()
            if not os.access(directory, os.W_OK | os.X_OK):
                raise exception.StorageWriteDenied()

    # -- cleaning --------------------------------------------------------------------------------

    def sweep(self) -> list[base.AbandonedWrite]:
        """Return the staged files whose writers are gone; their space is already freed.

        Safe during uploads of any process: a writer holds a lock on its file as long as it lives.
        If the file system has no locks, only files older than `incoming_max_age` count.
        """
        return threads.run(self._sweep)

    def _sweep(self) -> list[base.AbandonedWrite]:
        found = staged_file.take_abandoned(self.incoming, self.conf.incoming_max_age, self._adopt)
        return list(found)

    def _adopt(self, file: LocalFile) -> staging.AbandonedFile | None:
        assert file.path is not None
        if os.path.basename(file.path).startswith(base.UNFINISHED_PREFIX):
            file.close()
            return None
        left = staging.adopt(file, self.datadir)
        LOG.info("Found the interrupted upload %s", os.path.basename(file.path))
        if base.is_image_id(left.image_id):
            return left
        left.discard()
        return None


def _names(entries: Iterator[os.DirEntry[str]]) -> list[str]:
    with reading():
        return [entry.name for entry in itertools.islice(entries, _LIST_STEP)]

"""The Swift store: images as objects, or as segments and a manifest (`swift:`, `swift+http:`,
`swift+https:`).

Locations that this release writes have no credentials: the configured account reads them. Those of
Diablo have, and can still be read; if they name the configured account, the configured key is
used, so that a key can be changed. Layout in the container: `objects`; requests: `client`;
reading: `download`; writing: `upload`; options: `options`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from glance.common import exception
from glance.http import trail
from glance.store import base, spool, upload_journal
from glance.store.base import Capability
from glance.store.location import Location, SwiftLocation
from glance.store.swift import download, objects, upload
from glance.store.swift.options import OPTIONS as OPTIONS
from glance.streaming import body

if TYPE_CHECKING:
    from glance.store.swift.client import Account, SwiftClient, Tokens

if importlib.util.find_spec("swiftclient") is None:
    raise ImportError("No module named 'swiftclient'", name="swiftclient")

LOG = logging.getLogger(__name__)

MIB = 1024 * 1024
#: Seconds for which information about container and cluster is cached.
REMEMBER = 300
#: Largest single object in Swift, in bytes, unless `/info` has another value.
DEFAULT_MAX_FILE_SIZE = 5 * 1024 * MIB


@functools.cache
def _client() -> Any:
    return importlib.import_module("glance.store.swift.client")


class SwiftStore(base.Store):
    name: ClassVar[str] = "swift"
    schemes: ClassVar[tuple[str, ...]] = SwiftLocation.schemes
    location_class = SwiftLocation
    capabilities = (
        Capability.READ
        | Capability.RANDOM_READ
        | Capability.SIZE
        | Capability.WRITE
        | Capability.DELETE
        | Capability.REGISTERABLE
        | Capability.CREDENTIALS_IN_URI
        | Capability.LIST
    )

    def configure(self) -> None:
        conf = self.conf
        self.container: str = conf.swift_store_container
        self.spool_dir = spool.directory_of(conf.swift_store_spool_dir)
        self._tokens: Tokens = {}
        self._remembered: dict[str, tuple[float, Any]] = {}
        self._scheme, self._address = _split_address(conf.swift_store_auth_address or "")

    @property
    def local_directory(self) -> str:
        return self.spool_dir

    def configure_add(self) -> None:
        conf = self.conf
        required = ("swift_store_auth_address", "swift_store_user", "swift_store_key")
        missing = [name for name in required if not conf[name]]
        if missing:
            self._refuse(f"set {', '.join(missing)}")
        if conf.swift_store_auth_version != "1" and ":" not in conf.swift_store_user:
            self._refuse("swift_store_user must be project:user with this auth version")
        if not self.container or "/" in self.container:
            self._refuse("swift_store_container is not a valid container name")
        try:
            # The written location must be readable by the same settings.
            SwiftLocation.parse(self.location_of("1"))
        except exception.BadStoreUri:
            self._refuse("swift_store_auth_address is not a valid address")
        try:
            spool.check_directory(self.spool_dir)
        except OSError as err:
            self._refuse(
                f"swift_store_spool_dir {self.spool_dir} cannot be used: {err.strerror}", err
            )
        # PERF: import it now, not during the first request.
        _client()

    def _refuse(self, reason: str, cause: Exception | None = None) -> None:
        raise exception.BadStoreConfiguration(store_name=self.name, reason=reason) from cause

    def is_configured(self) -> bool:
        names = ("swift_store_auth_address", "swift_store_user", "swift_store_key")
        return any(self.conf.is_set(name) for name in names)

    # -- accounts --------------------------------------------------------------------------------

    def connect(self, retries: int | None = None, *, patient: bool = False) -> SwiftClient:
        """Return a client of the configured account.

        A `patient` one takes it for a failure that passes if the connection is refused.
        """
        return self._connect(self._own_account(), retries, patient=patient)

    def _connect(
        self, account: Account, retries: int | None = None, *, patient: bool = False
    ) -> SwiftClient:
        conf = self.conf
        if retries is None:
            retries = conf.swift_store_retries
        else:
            retries = min(retries, conf.swift_store_retries)
        client: SwiftClient = _client().SwiftClient(
            account, conf, self._tokens, retries, patient=patient
        )
        return client

    def _own_account(self) -> Account:
        conf = self.conf
        if not (self._address and conf.swift_store_user and conf.swift_store_key):
            LOG.error("The Swift store has no account of its own to read an image with")
            raise exception.BackendUnavailable()
        url = f"{_transport(self._scheme)}://{self._address}"
        return self._account(
            url, conf.swift_store_user, conf.swift_store_key, conf.swift_store_auth_version
        )

    def _account(self, url: str, user: str, key: str, version: str) -> Account:
        account: Account = _client().Account(url, user, key, version)
        return account

    def _account_of(self, location: SwiftLocation) -> Account:
        """Return the account to use for a location.

        SECURITY: configured credentials are sent to the configured address only. A location
        without credentials is read with the configured account at its current address; one that
        names the configured user at the configured address uses the configured key; every other
        one has its own credentials.
        """
        if location.user is None:
            return self._own_account()
        at_home = self._is_at_home(location)
        if at_home and location.user == self.conf.swift_store_user and self.conf.swift_store_key:
            return self._own_account()
        # NOTE: Diablo, which wrote such locations, supported version 1 only.
        version = self.conf.swift_store_auth_version if at_home else "1"
        return self._account(location.auth_url, location.user, location.key, version)

    def _is_at_home(self, location: SwiftLocation) -> bool:
        """Return whether a location is at the configured address."""
        scheme, address = _split_address(location.auth_url)
        return (_transport(scheme), address) == (_transport(self._scheme), self._address)

    def check_registerable(self, location: Location, *, is_admin: bool) -> None:
        where = _parts(location)
        at_home = self._is_at_home(where)
        host, port = where.host_and_port
        self.check_object(location, is_admin=is_admin, at_home=at_home, host=host, port=port)

    def uri_of(self, image_id: str) -> str:
        return self.location_of(image_id)

    def place_of(self, image_id: str) -> str:
        return self.location_of(image_id)

    def location_of(self, image_id: str) -> str:
        """Return the URI of an image in the configured container; it holds no credentials."""
        return SwiftLocation(self._scheme, self._address, self.container, image_id).uri()

    def identity(self) -> str:
        """Return what distinguishes this store's uploads from those of others on this host."""
        return f"{self.conf.swift_store_user}@{self.location_of('')}"

    def owns(self, location: Location, image_id: str) -> bool:
        where = _parts(location)
        return (
            where.obj == image_id
            and where.container == self.container
            and self._is_at_home(where)
            and where.user in (None, self.conf.swift_store_user)
        )

    # -- reading ---------------------------------------------------------------------------------

    def get(self, location: Location, offset: int = 0, length: int | None = None) -> body.Body:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        where = _parts(location)
        client = self._connect(self._account_of(where))
        try:
            extra = trail.headers(location.trail)
            return download.open_object(client, where, offset, length, extra)
        except BaseException:
            client.close()
            raise

    def get_size(self, location: Location) -> int | None:
        where = _parts(location)
        with self._connect(self._account_of(where)) as client:
            return download.length_of(client.head(where.container, where.obj))

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, location: Location) -> None:
        where = _parts(location)
        connect = functools.partial(self._connect, self._account_of(where))
        objects.delete_image(connect, where.container, where.obj)

    # -- writing ---------------------------------------------------------------------------------

    def stage(self, image_id: str, size: int | None = None) -> upload.SwiftUpload:
        base.check_image_id(image_id)
        self.require_add()
        with self.connect() as client:
            self._check_container(client, size or 0)
            plan = self._plan(client)
            self._check_free(client, image_id)
        staged = upload.SwiftUpload(self, image_id, plan.for_size(size))
        try:
            staged.begin(size)
        except BaseException:
            staged.abort()
            raise
        return staged

    def _check_free(self, client: SwiftClient, image_id: str) -> None:
        """Raise StoreObjectExists if the image has data, or its name is another's segment."""
        with contextlib.suppress(exception.StoreObjectNotFound):
            client.head(self.container, image_id)
            raise exception.StoreObjectExists()
        owner = objects.segment_of(image_id)
        if owner is not None:
            with contextlib.suppress(exception.StoreObjectNotFound):
                if "x-object-manifest" in client.head(self.container, owner):
                    raise exception.StoreObjectExists()

    def forget(self) -> None:
        """Discard cached information about container and cluster before the next upload."""
        self._remembered.clear()

    def _check_container(self, client: SwiftClient, size: int) -> None:
        """Raise unless the container exists or was created, and its quota has room for `size`."""
        headers = self._recall("container")
        if headers is None:
            try:
                headers = client.head_container(self.container)
            except exception.StoreObjectNotFound:
                self._make_container(client)
                headers = {}
            self._remember("container", headers)
        quota, used = (
            int(headers.get(name) or -1)
            for name in ("x-container-meta-quota-bytes", "x-container-bytes-used")
        )
        if 0 <= quota < max(used, 0) + size:
            raise exception.StorageFull().because("the quota of the container")

    def _make_container(self, client: SwiftClient) -> None:
        if not self.conf.swift_store_create_container_on_put:
            raise exception.StorageWriteDenied().because(
                f"the container {self.container} does not exist; create it, or set "
                "swift_store_create_container_on_put"
            )
        client.put_container(self.container)
        LOG.info("Created the container %s in Swift", self.container)

    def _plan(self, client: SwiftClient) -> upload.Plan:
        conf = self.conf
        info = self._recall("cluster")
        if info is None:
            info = self._cluster_info(client)
            self._remember("cluster", info)
        largest = info.get("swift", {}).get("max_file_size") or DEFAULT_MAX_FILE_SIZE
        static = 0
        if "slo" in info and conf.swift_store_large_object_mode != "dlo":
            static = info["slo"].get("max_manifest_segments") or 1000
        dynamic = conf.swift_store_large_object_mode != "slo"
        if not static and not dynamic:
            raise exception.StorageWriteDenied().because(
                "it does not support static manifests; change swift_store_large_object_mode"
            )
        return upload.Plan(
            threshold=min(conf.swift_store_large_object_size * MIB, largest + 1),
            segment=min(conf.swift_store_large_object_chunk_size * MIB, largest),
            static=static,
            dynamic=dynamic,
        )

    def _cluster_info(self, client: SwiftClient) -> dict[str, Any]:
        try:
            return client.capabilities()
        except exception.StoreError as err:
            # Some clusters do not publish it; assume what every Swift supports.
            LOG.info("Swift does not report its capabilities: %s", type(err).__name__)
            return {}

    def _remember(self, what: str, value: Any) -> None:
        self._remembered[what] = (time.monotonic() + REMEMBER, value)

    def _recall(self, what: str) -> Any:
        until, value = self._remembered.get(what, (0.0, None))
        return value if time.monotonic() < until else None

    def check(self) -> None:
        with self.connect(retries=0) as client:
            self._has_container(client)

    # -- cleaning and listing --------------------------------------------------------------------

    def sweep(self) -> list[base.AbandonedWrite]:
        if self.add_disabled is not None:
            return []
        found: list[base.AbandonedWrite] = []
        for left in upload_journal.find(self.spool_dir, self.name, self.conf.incoming_max_age):
            if left.values.get("owner") == self.identity():
                found.append(upload.AbandonedUpload(self, left))
                LOG.info("Found the interrupted upload of image %s", left.values["image_id"])
            else:
                left.leave()
        return found

    def _has_container(self, client: SwiftClient) -> bool:
        """Return whether the container exists. BackendUnavailable if it should and does not."""
        try:
            client.head_container(self.container)
        except exception.StoreObjectNotFound as err:
            # NOTE: a container that only the operator creates does not vanish by itself.
            if not self.conf.swift_store_create_container_on_put:
                raise exception.BackendUnavailable() from err
            return False
        return True

    def list_objects(self) -> Iterator[base.StoredObject]:
        with self.connect() as client:
            if not self._has_container(client):
                return
            for group in objects.grouped(client.names(self.container)):
                uri = self.location_of(group.image_id)
                yield base.StoredObject(group.image_id, uri, group.size, group.modified)


def _parts(location: Location) -> SwiftLocation:
    where = location.store_location
    assert isinstance(where, SwiftLocation)
    return where


def _split_address(address: str) -> tuple[str, str]:
    """Return the scheme of locations and the bare address for an authentication address."""
    scheme, sep, rest = address.strip().partition("://")
    if not sep:
        scheme, rest = "https", address.strip()
    secure = scheme.lower() != "http"
    return "swift+https" if secure else "swift+http", rest.strip("/")


def _transport(scheme: str) -> str:
    return "http" if scheme == "swift+http" else "https"

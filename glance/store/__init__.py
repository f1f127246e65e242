"""The stores of a process: which driver handles which location.

`create_stores` creates the one `Stores` object of a program (API, scrubber, prefetcher), which is
passed to all code that needs image data. Drivers are in the other modules of this package;
`glance.store.base` defines their contract.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping

from glance.common import config, exception, hooks, plugin
from glance.common.exception import BackendException, UnsupportedBackend
from glance.http.trail import Trail
from glance.store import base
from glance.store.location import Location, StoreLocation, get_location_from_uri, scheme_of
from glance.streaming import body

__all__ = [
    "BackendException",
    "Stores",
    "UnsupportedBackend",
    "create_stores",
    "delete_from_backend",
    "get_from_backend",
]

LOG = logging.getLogger(__name__)

GROUP = "glance.stores"
BUILTIN: Mapping[str, str] = {
    "file": "glance.store.filesystem:FilesystemStore",
    "http": "glance.store.http:HttpStore",
    "s3": "glance.store.s3:S3Store",
    "swift": "glance.store.swift:SwiftStore",
}

OPTIONS = config.options(
    "stores",
    config.Option(
        "default_store",
        default="file",
        help="Store for uploads that do not name a store in x-image-meta-store.",
    ),
    config.Option(
        "enabled_stores",
        config.words,
        default=(),
        help="Names of the stores to use. Empty: all stores that come with glance.",
    ),
    config.Option(
        "known_stores",
        config.words,
        default=(),
        help="Additional store drivers: names of entry points in the group glance.stores, or "
        "dotted paths of classes.",
    ),
    config.Option(
        "allow_readonly_default_store",
        config.boolean,
        default=False,
        help="Start the API even if its default store does not accept images.",
    ),
    config.Option(
        "incoming_max_age",
        config.integer,
        default=86400,
        minimum=0,
        unit="seconds",
        help="Age after which the remains of an interrupted upload are removed if the file "
        "system cannot tell whether the process that wrote them is still running.",
    ),
)


class Stores:
    """The enabled stores, by scheme. Safe for concurrent use by many requests."""

    def __init__(self, conf: config.Conf):
        """Load and set up the drivers.

        A driver whose library is missing is skipped with an ERROR in the log. Raises ConfigError
        for an unknown driver name, or if two drivers claim one scheme.
        """
        self.conf = conf
        self.default = conf.default_store.lower()
        self._stores: list[base.Store] = []
        self._by_scheme: dict[str, base.Store] = {}
        names = conf.enabled_stores or tuple(BUILTIN)
        for name in dict.fromkeys((*names, *conf.known_stores)):
            self._load(name)

    def _load(self, name: str) -> None:
        try:
            driver = plugin.load(GROUP, name, BUILTIN)
        except LookupError as err:
            raise exception.ConfigError(f"store driver {name} cannot be used: {err}") from err
        except ImportError as err:
            level = hooks.level_at_start(logging.ERROR)
            LOG.log(level, "Store %s is skipped, because a library is missing: %s", name, err)
            return
        store = driver(self.conf)
        self._stores.append(store)
        for scheme in store.schemes:
            if scheme in self._by_scheme:
                raise exception.ConfigError(f"two stores claim the scheme {scheme}")
            self._by_scheme[scheme] = store

    def __iter__(self) -> Iterator[base.Store]:
        return iter(self._stores)

    # -- choosing --------------------------------------------------------------------------------

    def for_scheme(self, name: str) -> base.Store:
        """Return the store of a scheme or store name. Raises UnknownScheme if there is none."""
        try:
            return self._by_scheme[name.strip().lower()]
        except KeyError:
            raise exception.UnknownScheme(name.strip().lower()) from None

    def for_uri(self, uri: str) -> base.Store:
        """Return the store for a location. Raises UnknownScheme; BadStoreUri without a scheme."""
        return self.for_scheme(scheme_of(uri))

    def location(self, uri: str) -> Location:
        """Return the parsed location. Raises UnknownScheme, or BadStoreUri with the reason."""
        schemes: dict[str, type[StoreLocation]] = {
            scheme: store.location_class for scheme, store in self._by_scheme.items()
        }
        return get_location_from_uri(uri, schemes)

    def writable(self, name: str | None = None) -> base.Store:
        """Return the store for uploads with the name that a caller gave; None means the default.

        Raises UnknownScheme or StoreAddDisabled (both errors of the caller) for a name;
        StorageWriteDenied (an error of the service) if the default store is read-only.
        """
        if name is not None:
            store = self.for_scheme(name)
            store.require_add()
            return store
        try:
            return self.writable(self.default)
        except (exception.UnknownScheme, exception.StoreAddDisabled) as err:
            raise exception.StorageWriteDenied().of(self.default) from err

    def check_default(self) -> None:
        """Raise ConfigError if the default store is read-only and the settings do not permit that.

        For programs that accept uploads, at start.
        """
        try:
            self.writable(self.default)
        except (exception.UnknownScheme, exception.StoreAddDisabled) as err:
            store = self._by_scheme.get(self.default)
            reason = store.add_disabled if store is not None else "no such store is enabled"
            problem = f"default_store {self.default} does not accept images: {reason}"
            if not self.conf.allow_readonly_default_store:
                raise exception.ConfigError(problem) from err
            LOG.log(hooks.level_at_start(logging.WARNING), "%s", problem)

    def check(self) -> None:
        """Raise StoreError if the default store cannot be used at the moment; see `Store.check`.

        A default store that does not accept images is one that the settings permit.
        """
        store = self._by_scheme.get(self.default)
        if store is not None and store.add_disabled is None:
            store.check()

    def warn_of_credentials(self) -> None:
        """Log a WARNING for each writable store whose locations may hold credentials.

        For programs whose settings have no `metadata_encryption_key`, at start.
        """
        for store in self._stores:
            holds = base.Capability.CREDENTIALS_IN_URI in store.capabilities
            if holds and store.add_disabled is None:
                LOG.log(
                    hooks.level_at_start(logging.WARNING),
                    "The locations of images in store %s may contain credentials. The registry "
                    "stores them unencrypted unless it has a metadata_encryption_key: set it in "
                    "the files of glance-registry and glance-scrubber, and here to end this "
                    "warning.",
                    store.name,
                )

    # -- image data ------------------------------------------------------------------------------

    def get(
        self, uri: str, offset: int = 0, length: int | None = None, *, trail: Trail = ()
    ) -> body.Body:
        """Return the data at a stored location; the caller closes it.

        `trail` names the images that led here, this one included. Raises UnsupportedBackend if no
        enabled store can read the location (which is no error of the caller, because it was
        stored), and what `Store.get` raises.
        """
        store, location = self._stored(uri, trail)
        return store.get(location, offset, length)

    def get_size(self, uri: str, *, trail: Trail = ()) -> int | None:
        """Return the size in bytes of the data at a stored location, None if unknown.

        Raises like `get`.
        """
        store, location = self._stored(uri, trail)
        return store.get_size(location)

    def delete(self, uri: str) -> None:
        """Delete the data at a stored location.

        Raises UnknownScheme or BadStoreUri if that can never succeed, StoreDeleteNotSupported if
        the store cannot delete, and what `Store.delete` raises.
        """
        location = self.location(uri)
        self.for_scheme(location.scheme).delete(location)

    def check_registerable(self, uri: str, *, is_admin: bool) -> None:
        """Raise BadStoreUri, UnknownScheme or Forbidden unless the caller may register `uri`.

        The same rules apply to copy sources. A host name is resolved, but no connection is made; a
        name that cannot be resolved passes.
        """
        location = self.location(uri)
        self.for_scheme(location.scheme).check_registerable(location, is_admin=is_admin)

    def owns(self, uri: str, image_id: str) -> bool:
        """Return whether the data at `uri` was stored by this service for the image `image_id`.

        False for a registered location, whose data must not be deleted. Raises UnknownScheme, or
        BadStoreUri with the reason.
        """
        location = self.location(uri)
        return self.for_scheme(location.scheme).owns(location, image_id)

    def name_of(self, uri: str) -> str:
        """Return a name that identifies an object among all stores, for comparison only.

        Two locations may lead to one object through different addresses and accounts. For a
        location that no enabled store understands, it is the text itself.
        """
        try:
            location = self.location(uri)
            driver = self.for_scheme(location.scheme)
            return f"{driver.name} {location.store_location.name_in_store()}"
        except (exception.UnknownScheme, exception.BadStoreUri):
            return uri

    def local_directories(self) -> list[str]:
        """Return where on this host the writable stores keep files, the default store's first."""
        ordered = sorted(self._stores, key=lambda store: self.default not in store.schemes)
        found = [store.local_directory for store in ordered if store.add_disabled is None]
        return list(dict.fromkeys(filter(None, found)))

    def sweep(self) -> list[base.AbandonedWrite]:
        """Return the staged writes of dead processes in the stores, for the caller to settle.

        Never raises.
        """
        return [left for store in self._stores for left in store.sweep()]

    def drop_stale_uploads(self) -> int:
        """Remove the unfinished writes of vanished hosts from the backends; return how many.

        Sends requests to remote backends. Never raises.
        """
        return sum(store.drop_stale_uploads() for store in self._stores)

    def _stored(self, uri: str, trail: Trail) -> tuple[base.Store, Location]:
        try:
            location = self.location(uri)
            if trail:
                location = dataclasses.replace(location, trail=trail)
            return self.for_scheme(location.scheme), location
        except (exception.UnknownScheme, exception.BadStoreUri) as err:
            raise exception.UnsupportedBackend() from err


def create_stores(conf: config.Conf) -> Stores:
    """Return the stores that `conf` enables. Opens no connection."""
    return Stores(conf)


def get_from_backend(
    stores: Stores, uri: str, offset: int = 0, length: int | None = None
) -> body.Body:
    """Return the data at a location; see `Stores.get`."""
    return stores.get(uri, offset, length)


def delete_from_backend(stores: Stores, uri: str) -> None:
    """Delete the data at a location; see `Stores.delete`."""
    stores.delete(uri)

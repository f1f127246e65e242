"""The S3 store: objects of one bucket (`s3:`, `s3+http:`, `s3+https:`).

The key of an object is the image id. Requests go through `glance.store.s3.client`, which imports
boto and is itself imported only when the store is set up or one of its locations is used.
`glance.store.s3.upload` writes, `glance.store.s3.download` reads.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import logging
import re
import ssl
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from glance.common import config, exception
from glance.http import trail
from glance.store import base, spool, upload_journal
from glance.store.base import Capability
from glance.store.location import Location, S3Location
from glance.store.s3 import download, upload
from glance.store.s3.endpoint import Endpoint
from glance.store.s3.errors import S3Error, S3Refused, reading, writing
from glance.store.s3.exchange import Keys, Settings
from glance.streaming import body, hub

if TYPE_CHECKING:
    from glance.store.s3 import client as s3_client

LOG = logging.getLogger(__name__)

MIB = 1024 * 1024
#: What needs boto.
CLIENT = "glance.store.s3.client"
#: Seconds for which an existing bucket is not checked again.
BUCKET_MEMORY = 300
#: How long a multipart upload must be without a new part to count as abandoned.
ABANDONED_AFTER = datetime.timedelta(hours=24)
#: Attempts of a cleanup; what fails waits for the next sweep.
HURRIED_RETRIES = 1
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]\Z")

OPTIONS = config.options(
    "S3 store",
    config.Option(
        "s3_store_host",
        default="s3.amazonaws.com",
        help="Address of the S3 service: a host, host:port, or a URL with http or https that "
        "may have a port and a path. Without a scheme, https is used for Amazon and http "
        "for other services.",
    ),
    config.Option(
        "s3_store_access_key",
        secret=True,
        help="Access key for uploads, and for downloads of images whose location has no "
        "credentials.",
    ),
    config.Option(
        "s3_store_secret_key", secret=True, help="Secret key that belongs to s3_store_access_key."
    ),
    config.Option(
        "s3_store_bucket",
        help="Bucket for the images. It should hold nothing else, because multipart uploads in "
        "it that nobody continues are aborted.",
    ),
    config.Option(
        "s3_store_create_bucket_on_put",
        config.boolean,
        default=False,
        help="Create the bucket if an upload finds it missing.",
    ),
    config.Option(
        "s3_store_region",
        help="Region that requests are signed for and in which the bucket is created. Unset: "
        "the region in the host name, otherwise us-east-1.",
    ),
    config.Option(
        "s3_store_signature_version",
        default="auto",
        choices=("auto", "2", "4"),
        help="Version of request signatures; auto means 4. Some old servers support only 2.",
    ),
    config.Option(
        "s3_store_bucket_url_format",
        default="auto",
        choices=("auto", "path", "subdomain"),
        help="Whether requests name the bucket in the path or in the host name (subdomain); "
        "auto means subdomain for Amazon and path for other services.",
    ),
    config.Option(
        "s3_store_object_buffer_dir",
        config.path,
        help="Directory for the current parts of each upload, at most two: one is sent while the "
        "next one is received. It also has the records with which uploads are cleaned up after a "
        "crash. Unset: the system's temporary directory. A directory that survives a reboot is "
        "better.",
    ),
    config.Option(
        "s3_store_large_object_size",
        config.integer,
        default=100,
        minimum=5,
        unit="MiB",
        help="Size from which an image is uploaded in parts. An image of unknown size is always "
        "uploaded in parts, unless it fits into one.",
    ),
    config.Option(
        "s3_store_large_object_chunk_size",
        config.integer,
        default=10,
        minimum=5,
        unit="MiB",
        help="Size of a part. Parts are larger if an image would otherwise have more than 10000 "
        "of them.",
    ),
    config.Option(
        "s3_store_timeout",
        config.real,
        default=60.0,
        minimum=0.1,
        unit="seconds",
        help="How long to wait for a service that sends nothing.",
    ),
    config.Option(
        "s3_store_retries",
        config.integer,
        default=5,
        minimum=0,
        help="How often a request is retried after an error of the service or the network. The "
        "pauses between retries increase.",
    ),
    config.Option(
        "s3_store_cacert",
        config.path,
        help="CA certificates that the service is verified against, in PEM format. Unset: those "
        "of the system.",
    ),
)


class S3Store(base.Store):
    name: ClassVar[str] = "s3"
    schemes: ClassVar[tuple[str, ...]] = S3Location.schemes
    location_class = S3Location
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

    def is_configured(self) -> bool:
        names = [f"s3_store_{name}" for name in ("host", "access_key", "secret_key", "bucket")]
        values = [self.conf[name] or "" for name in names if self.conf.is_set(name)]
        # NOTE: Diablo's sample file has values such as <20-char AWS access key>: not set.
        return bool(values) and not any(value.startswith("<") for value in values)

    def configure(self) -> None:
        conf = self.conf
        self.endpoint: Endpoint | None = None
        self.bucket = conf.s3_store_bucket or ""
        self.large_size = conf.s3_store_large_object_size * MIB
        self.part_size = conf.s3_store_large_object_chunk_size * MIB
        self.directory = spool.directory_of(conf.s3_store_object_buffer_dir)
        self._bucket_seen = -float(BUCKET_MEMORY)
        self._kept: dict[tuple[bool, bool], s3_client.S3Client] = {}
        self.publishing = hub.NamedLocks()
        self.settle_delay = conf.s3_store_timeout
        try:
            self.endpoint = Endpoint.parse(conf.s3_store_host)
        except ValueError as err:
            raise self._unusable(f"s3_store_host: {err}") from err
        if not self.is_configured():
            return
        try:
            importlib.import_module(CLIENT)
        except ImportError as err:
            raise self._unusable(f"a library is missing: {err}") from err
        try:
            self._tls  # noqa: B018
        except OSError as err:
            raise self._unusable(f"s3_store_cacert: {err.strerror or err}") from err

    @property
    def local_directory(self) -> str:
        return self.directory

    def configure_add(self) -> None:
        conf = self.conf
        for name in ("access_key", "secret_key", "bucket"):
            if not conf[f"s3_store_{name}"]:
                raise self._unusable(f"s3_store_{name} is not set")
        assert self.endpoint is not None
        if not _BUCKET.match(self.bucket):
            raise self._unusable("s3_store_bucket is not a valid bucket name")
        by_host = conf.s3_store_bucket_url_format == "subdomain"
        if self.bucket != self.bucket.lower() and (self.endpoint.is_amazon or by_host):
            raise self._unusable("s3_store_bucket must be in lower case")
        try:
            spool.check_directory(self.directory)
        except OSError as err:
            raise self._unusable(f"s3_store_object_buffer_dir: {err.strerror}") from err

    def _unusable(self, reason: str) -> exception.BadStoreConfiguration:
        return exception.BadStoreConfiguration(store_name=self.name, reason=reason)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.conf.s3_store_cacert)

    # -- clients ---------------------------------------------------------------------------------

    def client_for(self, location: S3Location, *, hurried: bool = False) -> s3_client.S3Client:
        """Return a client for the bucket of a location, with the keys for it.

        Raises BackendUnavailable if boto is missing. A `hurried` client gives up early.
        """
        endpoint = Endpoint.of(location)
        configured = self._opened_by_our_keys(endpoint, location)
        retries = self.conf.s3_store_retries
        if hurried:
            retries = min(retries, HURRIED_RETRIES)
        if not configured or location.bucket != self.bucket:
            return self._make_client(endpoint, location, configured=configured, retries=retries)
        slot = (endpoint.secure, hurried)
        if slot not in self._kept:
            self._kept[slot] = self._make_client(
                endpoint, location, configured=True, retries=retries, keep=True
            )
        return self._kept[slot]

    def _opened_by_our_keys(self, endpoint: Endpoint, location: S3Location) -> bool:
        """Return whether the configured keys are to be used for a location.

        If they open the bucket they win, because those of an old location may have changed.
        SECURITY: nothing that was signed with them is sent to any other host.
        """
        ours = self.conf.s3_store_access_key, self.conf.s3_store_secret_key
        if self.endpoint is None or not all(ours) or not endpoint.is_same_service(self.endpoint):
            return False
        return location.bucket == self.bucket or location.access_key == ours[0]

    def _make_client(
        self,
        endpoint: Endpoint,
        location: S3Location,
        *,
        configured: bool,
        retries: int,
        keep: bool = False,
    ) -> s3_client.S3Client:
        try:
            from glance.store.s3 import client as s3_client
        except ImportError as err:
            LOG.error("The location %s cannot be used, a library is missing: %s", location, err)
            raise exception.BackendUnavailable() from err
        conf = self.conf
        access, secret = location.access_key, location.secret_key
        if configured:
            access, secret = conf.s3_store_access_key, conf.s3_store_secret_key
        settings = Settings(
            timeout=conf.s3_store_timeout,
            retries=retries,
            signature=2 if conf.s3_store_signature_version == "2" else 4,
            tls=self._tls,
        )
        same = self.endpoint is not None and endpoint.is_same_service(self.endpoint)
        return s3_client.S3Client(
            endpoint,
            location.bucket,
            Keys(access, secret) if access and secret else None,
            settings,
            region=conf.s3_store_region if same else None,
            by_host=endpoint.names_by_host(location.bucket, conf.s3_store_bucket_url_format),
            keep=keep,
        )

    def _is_ours(self, endpoint: Endpoint, bucket: str) -> bool:
        return (
            bool(self.bucket)
            and bucket == self.bucket
            and self.endpoint is not None
            and endpoint.is_same_service(self.endpoint)
        )

    def uri_of(self, image_id: str) -> str | None:
        if self.endpoint is None:
            return None
        return self.location_of(image_id).uri(secret=True)

    def place_of(self, image_id: str) -> str | None:
        return str(self.location_of(image_id)) if self.endpoint is not None else None

    def location_of(self, image_id: str) -> S3Location:
        """Return the location of an image in this store."""
        assert self.endpoint is not None
        return S3Location(self.endpoint.scheme, self.endpoint.address, self.bucket, image_id)

    # -- reading ---------------------------------------------------------------------------------

    def get(self, location: Location, offset: int = 0, length: int | None = None) -> body.Body:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        parts = _parts(location)
        with reading():
            client, extra = self.client_for(parts), trail.headers(location.trail)
            return download.open_object(client, parts.key, offset, length, extra)

    def get_size(self, location: Location) -> int:
        parts = _parts(location)
        with reading():
            return self.client_for(parts).head(parts.key).size

    def check(self) -> None:
        with reading():
            try:
                self._checker.head_bucket()
            except S3Refused as err:
                # An upload creates it.
                if err.status != 404 or not self.conf.s3_store_create_bucket_on_put:
                    raise

    @functools.cached_property
    def _checker(self) -> s3_client.S3Client:
        where = self.location_of("any")
        return self._make_client(Endpoint.of(where), where, configured=True, retries=0, keep=True)

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, location: Location) -> None:
        parts = _parts(location)
        client = self.client_for(parts)
        with reading():
            # NOTE: S3 does not report whether there was anything to delete.
            client.head(parts.key)
            client.delete(parts.key)

    def owns(self, location: Location, image_id: str) -> bool:
        parts = _parts(location)
        return parts.key == image_id and self._is_ours(Endpoint.of(parts), parts.bucket)

    def list_objects(self) -> Iterator[base.StoredObject]:
        client = self.client_for(self.location_of("any"))
        try:
            with reading():
                for found in client.objects():
                    if base.is_image_id(found.key):
                        yield base.StoredObject(
                            found.key,
                            self.location_of(found.key).uri(secret=True),
                            found.size,
                            found.modified.timestamp() if found.modified else None,
                        )
        except exception.StoreObjectNotFound as err:
            # NOTE: a missing bucket is a wrong setting, unless glance is to create it.
            if not self.conf.s3_store_create_bucket_on_put:
                raise exception.BackendUnavailable() from err

    # -- registering -----------------------------------------------------------------------------

    def check_registerable(self, location: Location, *, is_admin: bool) -> None:
        endpoint = Endpoint.of(_parts(location))
        at_home = self.endpoint is not None and endpoint.is_same_service(self.endpoint)
        host, port = endpoint.host, endpoint.effective_port
        self.check_object(location, is_admin=is_admin, at_home=at_home, host=host, port=port)

    # -- writing ---------------------------------------------------------------------------------

    def stage(self, image_id: str, size: int | None = None) -> base.StagedWrite:
        base.check_image_id(image_id)
        self.require_add()
        if size is not None and size > upload.MAX_OBJECT:
            raise exception.StorageFull()
        location = self.location_of(image_id)
        client = self.client_for(location)
        with writing():
            self._check_bucket(client)
            try:
                client.head(image_id)
            except S3Refused as err:
                if err.status != 404:
                    raise
            else:
                raise exception.StoreObjectExists()
        return upload.StagedObject(self, location, size)

    def _check_bucket(self, client: s3_client.S3Client) -> None:
        """Check that the bucket exists; create it if the settings say so."""
        if time.monotonic() - self._bucket_seen < BUCKET_MEMORY:
            return
        try:
            client.head_bucket()
        except S3Refused as err:
            if err.status in (301, 307, 400):
                LOG.error(
                    "The S3 bucket %s is in another region than %s, or the service requires "
                    "another version of signatures: set s3_store_host, s3_store_region and "
                    "s3_store_signature_version",
                    self.bucket,
                    client.region,
                )
            if err.status != 404:
                raise
            if not self.conf.s3_store_create_bucket_on_put:
                LOG.error(
                    "The S3 bucket %s does not exist: create it, or set "
                    "s3_store_create_bucket_on_put",
                    self.bucket,
                )
                raise
            client.create_bucket()
            LOG.info("Created the S3 bucket %s", self.bucket)
        self._bucket_seen = time.monotonic()

    # -- cleaning --------------------------------------------------------------------------------

    def sweep(self) -> list[base.AbandonedWrite]:
        """Return the uploads of this host whose writers are gone. Reads the disk only."""
        left = upload_journal.find(self.directory, self.name, self.conf.incoming_max_age)
        return [upload.AbandonedObject(self, found) for found in left]

    def drop_stale_uploads(self) -> int:
        """Abort multipart uploads of images without a new part for a day.

        The bucket is assumed to be glance's own. The age of the parts counts, because a slow
        upload of a large image may take longer than a day.
        """
        if self.add_disabled is not None:
            return 0
        count = 0
        try:
            client = self.client_for(self.location_of("any"), hurried=True)
            for found in list(client.uploads()):
                if base.is_image_id(found.key) and _is_stale(client, found):
                    LOG.warning("Aborting an abandoned upload of image %s in S3", found.key)
                    client.abort(found.key, found.upload_id)
                    count += 1
        except (S3Error, exception.Error) as err:
            if not (isinstance(err, S3Refused) and err.status == 404):
                LOG.warning("Cannot search for abandoned uploads in S3: %s", err)
        return count


def _is_stale(client: s3_client.S3Client, found: s3_client.OpenUpload) -> bool:
    limit = datetime.datetime.now(datetime.UTC) - ABANDONED_AFTER
    if found.initiated is None or found.initiated >= limit:
        return False
    newest = client.last_part(found)
    return newest is None or newest < limit


def _parts(location: Location) -> S3Location:
    parts = location.store_location
    assert isinstance(parts, S3Location)
    return parts

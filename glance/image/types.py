"""The types of the mappings in which images, their members and cache entries go from hand to hand.

For type checkers, and for programs that use `glance.client`: nothing is checked when a program
runs. Which fields an image has is decided by the table in `glance.image.fields`; a test compares
these types with it. Attributes on their way to the service, of which any may be missing, are plain
mappings.

Sizes are in bytes, `min_disk` in GB, `min_ram` in MB. What may be None is null in JSON and an
empty header.
"""

# NOTE: without `annotations` of `__future__`, behind which TypedDict does not see what NotRequired
# says.
import datetime
from typing import Any, NamedTuple, NotRequired, TypedDict


class OwnedImage(TypedDict):
    """What of an image decides who may see and change it."""

    owner: str | None
    is_public: bool


class OwnMembership(TypedDict):
    """What of a caller's own membership decides what it may do; a removed one grants nothing."""

    can_share: bool
    deleted: NotRequired[bool]


class BriefImage(TypedDict):
    """An image in a short list. `uri` is the client's addition."""

    id: int
    name: str | None
    size: int | None
    disk_format: str | None
    container_format: str | None
    checksum: str | None
    uri: NotRequired[str]


class _Attributes(OwnedImage):
    id: int
    name: str | None
    size: int | None
    status: str
    protected: bool
    disk_format: str | None
    container_format: str | None
    checksum: str | None
    min_disk: int
    min_ram: int
    deleted: bool


class DetailedImage(_Attributes):
    """An image as the public API shows it, in full; times are ISO 8601 text in UTC.

    A time is None if the registry cannot read it.

    `location` is there only for those who may know it; `uri` and `uuid` are the client's
    additions.
    """

    created_at: str | None
    updated_at: str | None
    deleted_at: str | None
    properties: dict[str, str | None]
    location: NotRequired[str | None]
    uri: NotRequired[str]
    uuid: NotRequired[str]


class ImageRecord(_Attributes):
    """An image in the registry's JSON; times are ISO 8601 text in UTC.

    `activated_at` is not in lists, nor in the JSON of a registry of an earlier release.
    """

    location: str | None
    created_at: str | None
    updated_at: str | None
    deleted_at: str | None
    activated_at: NotRequired[str | None]
    properties: dict[str, str | None]


class FullRecord(ImageRecord):
    """A record with what version 2 of the Images API knows of an image besides.

    `uuid` is the id that version 2 shows, in lower case; `id` is that of version 1. Of
    `os_hash_algo` and `os_hash_value` both are set or none. `tags` are sorted, each once.
    `upload_via` is the API by which the data came or comes (`v1`, `v2`, `import`).
    """

    uuid: str
    visibility: str
    os_hidden: bool
    os_hash_algo: str | None
    os_hash_value: str | None
    virtual_size: int | None
    deactivated_by_admin: bool
    upload_via: str | None
    tags: list[str]


class Page(NamedTuple):
    """A part of a list, in its order; `has_more` says whether others follow the last."""

    images: list[FullRecord]
    has_more: bool


class PublicPage(NamedTuple):
    """The same as version 2 of the Images API shows it.

    `images` is a JSON array of the images (`glance.image.entity`), `last` the uuid of the last of
    them if others follow, None if not.
    """

    images: bytes
    last: str | None


class Change(TypedDict, total=False):
    """What a request of version 2 changes in a record, all of it or nothing.

    `set` has new values of fields, `properties` those of properties to add or replace; `remove`
    names properties to remove. `must_exist` names properties without which nothing is changed.
    `tags` replace all tags. With `from_state` the image must have one of these statuses.
    """

    set: dict[str, Any]
    properties: dict[str, str]
    remove: list[str]
    must_exist: list[str]
    tags: list[str]
    from_state: list[str]


class ImageRow(_Attributes):
    """The columns of an image in the registry's database; times are naive and in UTC.

    `activated_at` and what follows it are not in lists of version 1.
    """

    location: str | None
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None
    deleted_at: datetime.datetime | None
    activated_at: NotRequired[datetime.datetime | None]
    uuid: NotRequired[str]
    visibility: NotRequired[str]
    os_hidden: NotRequired[bool]
    os_hash_algo: NotRequired[str | None]
    os_hash_value: NotRequired[str | None]
    virtual_size: NotRequired[int | None]
    deactivated_by_admin: NotRequired[bool]
    upload_via: NotRequired[str | None]


class StoredImage(ImageRow):
    """An image in the registry's database with its live properties."""

    properties: dict[str, str | None]


class StoredRecord(StoredImage):
    """The same with its tags, sorted; names of properties have the case they were given."""

    tags: list[str]


class Member(TypedDict):
    """One of those that an image is shared with."""

    member_id: str
    can_share: bool


class MemberRecord(TypedDict):
    """A membership as version 2 shows it; times are ISO 8601 text in UTC.

    `image_id` is the uuid of the image. `status` is `pending`, `accepted` or `rejected`.
    """

    image_id: str
    member_id: str
    status: str
    created_at: str | None
    updated_at: str | None


class StoredMember(TypedDict):
    """The same in the registry's database."""

    member: str
    can_share: bool


class StoredMembership(TypedDict):
    """A membership in the registry's database as version 2 sees it; times are naive, in UTC."""

    member: str
    status: str
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None


class SharedImage(TypedDict):
    """One of the images that are shared with a member."""

    image_id: int
    can_share: bool


class CachedImage(TypedDict):
    """An entry of the image cache, or of its prefetch queue, as clients see it.

    `id` and `image_id` are the same: text for what is no number. `size` is what the cache has of
    `expected_size` bytes. Times are ISO 8601 text in UTC; those of a queued image say when it was
    queued.
    """

    id: int | str
    image_id: int | str
    name: str | None
    size: int
    expected_size: int | None
    hits: int
    last_accessed: str
    last_modified: str
    checksum: str | None
    status: str
    error: str | None


class QueuedImage(CachedImage):
    """An image that waits to be fetched into the cache; `attempts` have failed so far."""

    attempts: int


class ConversionFailure(TypedDict):
    """Why a conversion has failed, or waits to be tried again."""

    code: str
    message: str


class Conversion(TypedDict):
    """A conversion as its owner sees it; `glance.image.conversion_job` explains the keys.

    Ids of images are text, times ISO 8601 text in UTC, sizes in bytes.
    """

    id: str
    status: str
    phase: str | None
    progress: int | None
    source_image_id: str
    image_id: str
    source_format: str
    disk_format: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    bytes_in: int | None
    bytes_out: int | None
    virtual_size: int | None
    attempts: int
    error: ConversionFailure | None
    owner: str | None


class ConversionLimits(TypedDict, total=False):
    """What the API's configuration says of conversions; a limit that is missing is none.

    `max_jobs` and `max_jobs_per_owner` count those that wait or run; those without an owner count
    towards the first only. `max_input_size` is in bytes. `dropped_properties` are names of
    properties of the source that the result does not get.
    """

    max_jobs: int
    max_jobs_per_owner: int
    max_input_size: int
    dropped_properties: list[str]


class ConversionRequest(TypedDict):
    """What is to be converted into what.

    `source_image_id` is the id of version 1, `disk_format` the format of the result. With
    `source_format` the source must be in this format: the one that the request was checked by.
    Without a `name` the result is called after the source. `store` is the scheme of the store for
    the result, None for the default store.

    A request with an `idempotency_key` (1 to 255 characters) that its owner has sent within 24
    hours gives the job of then.
    """

    source_image_id: str
    disk_format: str
    source_format: NotRequired[str | None]
    name: NotRequired[str | None]
    is_public: NotRequired[bool]
    compress: NotRequired[bool]
    store: NotRequired[str | None]
    properties: NotRequired[dict[str, str]]
    idempotency_key: NotRequired[str | None]
    limits: NotRequired[ConversionLimits]


class ConversionResult(TypedDict):
    """What a conversion has done, in bytes."""

    bytes_in: int
    bytes_out: int
    virtual_size: int

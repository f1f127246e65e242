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
from typing import NotRequired, TypedDict


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

    `location` is there only for those who may know it; `uri` is the client's addition.
    """

    created_at: str | None
    updated_at: str | None
    deleted_at: str | None
    properties: dict[str, str | None]
    location: NotRequired[str | None]
    uri: NotRequired[str]


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


class ImageRow(_Attributes):
    """The columns of an image in the registry's database; times are naive and in UTC.

    `activated_at` is not in lists.
    """

    location: str | None
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None
    deleted_at: datetime.datetime | None
    activated_at: NotRequired[datetime.datetime | None]


class StoredImage(ImageRow):
    """An image in the registry's database with its live properties."""

    properties: dict[str, str | None]


class Member(TypedDict):
    """One of those that an image is shared with."""

    member_id: str
    can_share: bool


class StoredMember(TypedDict):
    """The same in the registry's database."""

    member: str
    can_share: bool


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

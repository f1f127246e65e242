"""The layout of an image in Swift: names of segments, marks on objects, deletion of all of it.

An image is one object under its id, or a manifest under its id and segments `<id>-NNNNN` in the
same container. Every object that this release writes is marked with the upload that wrote it;
after a failure only objects with that mark are removed, so that nothing of another upload or
another owner ever is. What does not belong here: requests, which `client` sends.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from glance.common import exception, numbers
from glance.store import base
from glance.streaming import hub, tasks

MAX_SEGMENTS = 99_999
WORKERS = 10

#: Marks on objects: the upload that wrote it, and, on a segment, its image.
UPLOAD = "x-object-meta-glance-upload"
PART_OF = "x-object-meta-glance-part-of"
#: On a manifest: the number of its segments.
SEGMENTS = "x-object-meta-glance-segments"

#: Digits of the number in a segment's name.
SEGMENT_DIGITS = 5
_NUMBER = re.compile(rf"(.+)-([0-9]{{{SEGMENT_DIGITS}}})", re.ASCII | re.DOTALL)


class Requests(Protocol):
    """The part of `client.SwiftClient` that this module uses."""

    def head(self, container: str, name: str) -> Mapping[str, str]: ...

    def delete(self, container: str, name: str) -> None: ...

    def delete_with_segments(self, container: str, name: str) -> None: ...

    def names(self, container: str, prefix: str = "") -> Iterator[dict[str, Any]]: ...

    def __enter__(self) -> Requests: ...

    def __exit__(self, *exc_info: object) -> None: ...


Connect = Callable[[], Requests]


def segment_name(image_id: str, number: int) -> str:
    """Return the name of a segment; the first one has number 1."""
    return f"{image_id}-{number:05}"


def segment_of(name: str) -> str | None:
    """Return the image id in the name of a segment, None for other names."""
    match = _NUMBER.fullmatch(name)
    return match[1] if match else None


def delete_image(connect: Connect, container: str, image_id: str) -> None:
    """Delete the object of an image with exactly its own segments; the manifest is last.

    If the object is gone already, its remaining segments are deleted. Raises StoreObjectNotFound
    if there is nothing at all, StoreForbidden, BackendUnavailable; after an error the manifest
    still exists, so that the deletion can be repeated.
    """
    with connect() as client:
        try:
            headers = client.head(container, image_id)
        except exception.StoreObjectNotFound:
            left = _candidates(client, container, image_id)
            orphans = _parts_only(connect, container, image_id, left)
            if not orphans:
                raise
            _delete_all(connect, container, orphans)
            return
        if headers.get("x-static-large-object", "").lower() == "true":
            client.delete_with_segments(container, image_id)
            return
        if "x-object-manifest" in headers:
            where, segments = _segments(connect, client, container, image_id, headers)
            _delete_all(connect, where, segments)
        client.delete(container, image_id)


def _segments(
    connect: Connect,
    client: Requests,
    container: str,
    image_id: str,
    headers: Mapping[str, str],
) -> tuple[str, list[str]]:
    """Return the container and the names of the segments of a dynamic manifest."""
    # NOTE: swiftclient has decoded the percent-encoding of the header.
    where, _, prefix = headers["x-object-manifest"].partition("/")
    count = numbers.whole(headers.get(SEGMENTS, ""), SEGMENT_DIGITS)
    if count is not None and (where, prefix) == (container, f"{image_id}-"):
        return where, [segment_name(image_id, number + 1) for number in range(count)]
    # NOTE: Diablo's prefix is the plain id, which is also a prefix of other images' names.
    owner = prefix.removesuffix("-")
    return where, _parts_only(connect, where, owner, _candidates(client, where, owner))


def _candidates(client: Requests, container: str, image_id: str) -> list[str]:
    """Return the names in a container that may be segments of an image."""
    listed = client.names(container, f"{image_id}-")
    return [item["name"] for item in listed if segment_of(item["name"]) == image_id]


def _parts_only(
    connect: Connect, container: str, image_id: str, names: Iterable[str]
) -> list[str]:
    """Drop the names of objects that are images themselves, with an id like a segment's name."""
    kept: list[str] = []

    def look(client: Requests, name: str) -> None:
        try:
            headers = client.head(container, name)
        except exception.StoreObjectNotFound:
            return
        if UPLOAD not in headers or headers.get(PART_OF) == image_id:
            kept.append(name)

    _for_each(connect, names, look)
    return sorted(kept)


def _delete_all(connect: Connect, container: str, names: Iterable[str]) -> None:
    def delete(client: Requests, name: str) -> None:
        try:
            client.delete(container, name)
        except exception.StoreObjectNotFound:
            pass

    _for_each(connect, names, delete)


def remove_upload(
    connect: Connect, container: str, image_id: str, upload: str, segments: int
) -> None:
    """Remove what one upload has written: the object under the image's id, and segments 1 to N.

    Objects of other uploads are not changed. Raises BackendUnavailable and StoreForbidden as soon
    as something cannot be removed.
    """

    def remove(client: Requests, name: str) -> None:
        try:
            if client.head(container, name).get(UPLOAD) == upload:
                client.delete(container, name)
        except exception.StoreObjectNotFound:
            pass

    numbered = (segment_name(image_id, number + 1) for number in range(segments))
    _for_each(connect, itertools.chain([image_id], numbered), remove)


def _for_each(
    connect: Connect, names: Iterable[str], act: Callable[[Requests, str], None]
) -> None:
    """Call a function for each name, up to `WORKERS` at a time; raise the first error.

    After an error nothing more is begun.
    """
    left = list(names)[::-1]
    errors: list[BaseException] = []
    lock = hub.lock()

    def work() -> None:
        try:
            with connect() as client:
                while not errors:
                    with lock:
                        if not left:
                            return
                        name = left.pop()
                    act(client, name)
        except BaseException as err:
            # The caller, which waits for all of them, raises it.
            errors.append(err)

    helpers = [tasks.spawn(work) for _ in range(min(len(left), WORKERS) - 1)]
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


@dataclasses.dataclass
class Group:
    """One image in a listing: its size in bytes with all segments, and its last change."""

    image_id: str
    size: int = 0
    modified: float | None = None


def grouped(listing: Iterable[Mapping[str, Any]]) -> Iterator[Group]:
    """Yield the images of a sorted listing, including their segments.

    Segments without an object under the image's id are a group too. Names that belong to no image
    are excluded.
    """
    pending: dict[str, Group] = {}
    whole: set[str] = set()
    for item in listing:
        name = item["name"]
        for image_id in [known for known in pending if segment_name(known, 99_999) < name]:
            # NOTE: a listing is sorted, so no more segments of it follow.
            whole.discard(image_id)
            yield pending.pop(image_id)
        owner = segment_of(name)
        image_id = name if owner is None else owner
        if not base.is_image_id(image_id):
            continue
        group = pending.setdefault(image_id, Group(image_id))
        if owner is None and "slo_etag" in item:
            # The size of a static manifest in a listing includes all its segments.
            whole.add(image_id)
            group.size = item["bytes"]
        elif image_id not in whole:
            group.size += item["bytes"]
        modified = _seconds(item.get("last_modified"))
        if modified is not None:
            group.modified = max(group.modified or 0.0, modified)
    yield from pending.values()


def _seconds(text: str | None) -> float | None:
    """Return the seconds since the epoch of a time in a listing (UTC)."""
    try:
        parsed = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.replace(tzinfo=datetime.UTC).timestamp()

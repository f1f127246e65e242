"""The commands of `glance` that list and remove the contents of the server's image cache.

The server supports them if its pipeline contains the cache-management filter; otherwise it returns
404. The shared error handler is in `glance.cli.user.command`, and `glance.cli.user.screen.tables`
prints the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glance.cli.user import commands
from glance.cli.user.screen import console, tables
from glance.common import exception

GROUP = "Cache Commands"
UNKNOWN = "UNKNOWN"

_ID = tables.Column("ID", "id", 16)
_NAME = tables.Column("Name", "name", 30)
_ACCESSED = tables.Column("Last Accessed (UTC)", "last_accessed", 19)
_MODIFIED = tables.Column("Last Modified (UTC)", "last_modified", 19)
_SIZE = tables.Column("Size", "size", 14, ">")
_EXPECTED = tables.Column("Expected Size", "expected_size", 14, ">")
_DONE = tables.Column("% Done", "done", 7, ">")

CACHED = (_ID, _NAME, _ACCESSED, _SIZE, tables.Column("Hits", "hits", 10, ">"))
INVALID = (
    _ID,
    _NAME,
    tables.Column("Error", "error", 30),
    _MODIFIED,
    _SIZE,
    _EXPECTED,
    _DONE,
)
INCOMPLETE = (_ID, _NAME, _MODIFIED, _SIZE, _EXPECTED, _DONE)
PREFETCHING = (_ID, _NAME, _ACCESSED, tables.Column("Status", "status", 10, ">"))


@commands.command(
    "cache-index",
    "",
    "Lists the images in the cache",
    group=GROUP,
    failure="show cached images",
    options=("format",),
)
def cache_index(call: commands.CommandCall) -> int:
    """
    Lists the images that are complete in the server's cache.
    """
    call.at_most(0)
    entries = call.client.get_cached_images()
    return print_entries(call, entries, CACHED, "No cached images.", "cached images")


@commands.command(
    "cache-invalid",
    "",
    "Lists the invalid cache entries",
    group=GROUP,
    failure="show invalid cache images",
    options=("format",),
)
def cache_invalid(call: commands.CommandCall) -> int:
    """
    Lists the invalid cache entries, with their errors.
    """
    call.at_most(0)
    entries = call.client.get_invalid_cached_images()
    return print_entries(
        call, entries, INVALID, "No invalid cached images.", "invalid cached images"
    )


@commands.command(
    "cache-incomplete",
    "",
    "Lists the cache entries that are being written",
    group=GROUP,
    failure="show incomplete cache images",
    options=("format",),
)
def cache_incomplete(call: commands.CommandCall) -> int:
    """
    Lists the cache entries that are not complete yet.
    """
    call.at_most(0)
    entries = call.client.get_incomplete_cached_images()
    return print_entries(
        call, entries, INCOMPLETE, "No incomplete cached images.", "incomplete cached images"
    )


@commands.command(
    "cache-prefetching",
    "",
    "Lists the images that are being prefetched",
    group=GROUP,
    failure="show prefetching images",
    options=("format",),
)
def cache_prefetching(call: commands.CommandCall) -> int:
    """
    Lists the images that are being fetched into the cache, or are queued for it.
    """
    call.at_most(0)
    entries = call.client.get_prefetching_cache_images()
    return print_entries(
        call, entries, PREFETCHING, "No images being prefetched.", "images being prefetched"
    )


@commands.command(
    "cache-prefetch",
    "<ID> ...",
    "Prefetches images into the cache",
    group=GROUP,
    failure="prefetch the specified cached image",
    options=("dry_run",),
)
def cache_prefetch(call: commands.CommandCall) -> int:
    """
    Queues images that the server is to fetch into its cache before anybody requests them. The
    exit code is 1 if an image does not exist.
    """
    if not call.args:
        raise console.CommandRefused(
            "Please specify the ID or a list of image IDs of the images you wish to \n"
            "prefetch from the cache as the first argument"
        )
    if call.dry_run(*(f"Prefetch image {image_id}" for image_id in call.args)):
        return 0
    code = 0
    for image_id in call.args:
        if call.options.verbose:
            console.say(f"Prefetching image '{image_id}'")
        try:
            call.client.prefetch_cache_image(image_id)
        except exception.NotFound:
            if exists(call, image_id):
                raise  # the image exists, so the cache cannot be managed
            console.say(f"No image with ID {image_id} was found")
            code = 1
    if call.options.verbose:
        print("done")
    return code


@commands.command(
    "cache-purge",
    "<ID>",
    "Removes an image from the cache",
    group=GROUP,
    failure="purge the specified cached image",
    options=("force", "dry_run"),
)
def cache_purge(call: commands.CommandCall) -> int:
    """
    Removes an image from the server's cache; the image itself is kept. Asks for confirmation,
    unless --force is given.
    """
    if not call.args:
        raise console.CommandRefused(
            "Please specify the ID of the image you wish to purge \n"
            "from the cache as the first argument"
        )
    call.at_most(1)
    image_id = call.args[0]
    if not call.confirm(f"Purge cached image {image_id}?"):
        raise console.CommandRefused(f"Not purging cached image {image_id}")
    if call.dry_run(f"Purge cached image {image_id}"):
        return 0
    call.client.purge_cached_image(image_id)
    if call.options.verbose:
        print("done")
    return 0


@commands.command(
    "cache-clear",
    "",
    "Removes all images from the cache",
    group=GROUP,
    failure="clear all cached images",
    options=("force", "dry_run"),
)
def cache_clear(call: commands.CommandCall) -> int:
    """
    Removes all images from the server's cache; the images themselves are kept. Asks for
    confirmation, unless --force is given.
    """
    return drop_all(
        call,
        "Clear all cached images",
        "Not purging any cached images.",
        "clear_cached_images",
        "Purged {} cached images",
    )


@commands.command(
    "cache-reap-invalid",
    "",
    "Removes the invalid cache entries",
    group=GROUP,
    failure="reap invalid images",
    options=("force", "dry_run"),
)
def cache_reap_invalid(call: commands.CommandCall) -> int:
    """
    Removes the invalid cache entries. Asks for confirmation, unless --force is given.
    """
    return drop_all(
        call,
        "Reap all invalid cached images",
        "Not reaping any invalid cached images.",
        "reap_invalid_cached_images",
        "Reaped {} invalid cached images",
    )


@commands.command(
    "cache-reap-stalled",
    "",
    "Removes the cache entries whose writing has stalled",
    group=GROUP,
    failure="reap stalled images",
    options=("force", "dry_run"),
)
def cache_reap_stalled(call: commands.CommandCall) -> int:
    """
    Removes the cache entries whose writing has stalled. Asks for confirmation, unless --force is
    given.
    """
    return drop_all(
        call,
        "Reap all stalled cached images",
        "Not reaping any stalled cached images.",
        "reap_stalled_cached_images",
        "Reaped {} stalled cached images",
    )


def exists(call: commands.CommandCall, image_id: str) -> bool:
    try:
        call.client.get_image_meta(image_id)
    except exception.NotFound:
        return False
    return True


def drop_all(
    call: commands.CommandCall, action: str, declined: str, method: str, told: str
) -> int:
    """Ask for confirmation, remove entries with a method of the client, and print the number."""
    call.at_most(0)
    if not call.confirm(f"{action}?"):
        raise console.CommandRefused(declined)
    if call.dry_run(action):
        return 0
    count = getattr(call.client, method)()
    if call.options.verbose:
        print(told.format(count))
    return 0


def print_entries(
    call: commands.CommandCall,
    entries: Sequence[Mapping[str, Any]],
    columns: Sequence[tables.Column],
    nothing: str,
    something: str,
) -> int:
    if call.as_values:
        cells = (row(entry, columns) for entry in entries)
        call.print_values([found[column.key] for column in columns] for found in cells)
        return 0
    if call.for_programs:
        call.print_json_list([entries])
        return 0
    if not entries:
        print(nothing)
        return 0
    print(f"Found {len(entries)} {something}...")
    tables.print_table(columns, [row(entry, columns) for entry in entries], header=True)
    return 0


def row(entry: Mapping[str, Any], columns: Sequence[tables.Column]) -> dict[str, Any]:
    """Return the cells of an entry as they are printed."""
    cells = {column.key: _shown(entry.get(column.key)) for column in columns}
    cells["id"] = entry.get("id", entry.get("image_id"))
    cells["done"] = _share(entry.get("size"), entry.get("expected_size"))
    return cells


def _shown(value: Any) -> Any:
    return UNKNOWN if value is None else value


def _share(size: Any, expected: Any) -> Any:
    """Return the completed part of an entry in percent. Old servers send sizes as text."""
    try:
        return int(size) * 100 // int(expected)
    except (TypeError, ValueError, ZeroDivisionError):
        return UNKNOWN

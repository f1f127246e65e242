"""The commands of `glance` that read images: index, details, show.

`glance.cli.user.tables` prints images. The shared error handler is in `glance.cli.user.command`,
the options are in `glance.cli.user.commands`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glance.cli.user import commands, console, ids, notes, tables
from glance.common import exception
from glance.image import types

FILTERS = (
    "name",
    "disk_format",
    "container_format",
    "status",
    "min_ram",
    "min_disk",
    "size_min",
    "size_max",
    "is_public",
)
#: Maximum size of a page that a server returns.
SERVER_PAGE = 1000

LISTING = "<field1=value1 field2=value2 ...>"
LISTING_OPTIONS = ("limit", "marker", "sort_key", "sort_dir", "force", "format")


@commands.command(
    "index",
    LISTING,
    "Lists images in a table",
    failure="show index",
    options=LISTING_OPTIONS,
    fields=FILTERS,
)
def index(call: commands.CommandCall) -> int:
    """
    Lists the images that you may see: id, name, formats and size, newest first.

    Fields filter the list: name, disk_format, container_format, status, min_ram, min_disk,
    size_min, size_max, is_public (true, false, none). Any other field filters by a custom
    property. --sort_key, --sort_dir, --limit and --marker choose order and page.

    On a terminal, the command asks before it prints the next page of --limit images, unless
    --force is given. Otherwise it prints all pages at once, unless the answers are piped in.

    On a terminal that is narrower than the table, the columns shrink.
    """
    found = pages(call, "get_images")
    if call.for_programs:
        call.print_json_list(found)
        return 0
    table = tables.Table(tables.INDEX, tables.room())
    for page in found:
        table.print(page)
    return 0


@commands.command(
    "details",
    LISTING,
    "Lists images with all their metadata",
    failure="show details",
    options=(*LISTING_OPTIONS, "long"),
    fields=FILTERS,
)
def details(call: commands.CommandCall) -> int:
    """
    Lists the images that you may see with all their metadata.

    Takes the same fields and options as index. With --long, checksum, protection and times are
    shown, too.
    """
    found = pages(call, "get_images_detailed")
    if call.for_programs:
        call.print_json_list(found)
        return 0
    rule = "=" * 80
    for number, page in enumerate(found):
        if not number:
            print(rule)
        for image in page:
            tables.print_image(call.client, image, long=call.options.long)
            print(rule)
    return 0


@commands.command("show", "<ID>", "Shows the metadata of an image", options=("format", "long"))
def show(call: commands.CommandCall) -> int:
    """
    Shows the metadata of an image. With --long, checksum, protection and times are shown, too.

    The URI is one that commands take instead of an id. It names port and version, except where
    both are the defaults, 9292 and v1.
    """
    image_id = ids.first(
        call,
        "Please specify the image identifier as the ",
        "first argument. Example: ",
        "$> glance show 12345",
    )
    call.at_most(1)
    try:
        image = call.client.get_image_meta(image_id)
    except exception.NotFound:
        return ids.not_found(image_id)
    except Exception as err:  # the border to the person
        print("Failed to show image. Got error:")
        console.print_error(err)
        call.explain(err)
        return 1
    if call.for_programs:
        call.print_json(image)
    else:
        tables.print_image(call.client, image, long=call.options.long)
    return 0


# -- listings ------------------------------------------------------------------------------------


class Markers:
    """The markers of the pages of one list, none of which a server may repeat."""

    def __init__(self, first: object = None):
        self._seen = {str(first)}

    def next(self, page: Sequence[Mapping[str, Any]]) -> Any:
        """Return the marker of the page after `page`. Raises CommandFailed if it was used before.

        A server that ignores markers would send the same page for ever.
        """
        marker = page[-1]["id"]
        if str(marker) in self._seen:
            raise console.CommandFailed(
                "The server sent the same page of the list again, so the list is not complete"
            )
        self._seen.add(str(marker))
        return marker


def pages(call: commands.CommandCall, method: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list from a method of the client.

    Between full pages the user is asked, unless --force is given or nobody can be asked.
    """
    found = console.fields(call.args)
    fetch = getattr(call.client, method)
    filters = {name if name in FILTERS else f"property-{name}": found[name] for name in found}
    options = call.options
    marker, markers = options.marker, Markers(options.marker)
    asking = not (options.force or call.for_programs) and console.pauses()
    # PERF: the size of a page is for the eyes of who is asked between two; nobody else sees it.
    # NOTE: 0, an empty list, and what the server refuses is not enlarged.
    step = options.limit if asking or options.limit < 1 else max(options.limit, SERVER_PAGE)
    room = step
    while True:
        page = fetch(
            filters=filters,
            limit=room,
            marker=marker,
            sort_key=options.sort_key,
            sort_dir=options.sort_dir,
        )
        # NOTE: only an empty page is the end: the server may send less than it was asked for.
        if not page:
            if marker is None and options.limit and not call.for_programs:
                notes.nothing_listed(call, filters)
            return
        following = markers.next(page)
        yield page
        if asking:
            room -= len(page)
            if room <= 0 or len(page) == SERVER_PAGE:
                if not console.ask("Fetch next page? [Y/n] ", default=True):
                    return
                room = step
        marker = following


def all_images(call: commands.CommandCall) -> list[types.BriefImage]:
    """Return the short form of all images that the caller may see, by id."""
    images: list[types.BriefImage] = []
    marker, markers = None, Markers()
    while True:
        page = call.client.get_images(
            filters={"is_public": "none"},
            limit=SERVER_PAGE,
            marker=marker,
            sort_key="id",
            sort_dir="asc",
        )
        if not page:
            return images
        marker = markers.next(page)
        images += page

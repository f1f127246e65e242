"""The commands of `glance` that read images: index, details, show.

`glance.cli.user.screen.tables` prints images. The shared error handler is in
`glance.cli.user.command`, the options are in `glance.cli.user.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glance.cli.user import commands, ids, version2
from glance.cli.user.screen import columns, console, notes, tables
from glance.common import exception

if TYPE_CHECKING:
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

Page = list[dict[str, Any]]

LISTING = "<field1=value1 field2=value2 ...>"
#: What a command takes that decides what it shows of an image.
SHOWING = ("format", "long", "columns", "human")
LISTING_OPTIONS = ("limit", "marker", "sort_key", "sort_dir", "force", "deleted", *SHOWING)


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

    --long adds status, visibility, owner and time of creation. --columns chooses the columns by
    the names of attributes and properties, such as --columns=id,name,status,distro. The table cuts
    what is too long; --format=value and --format=json do not. A JSON object holds the attributes
    of the table, checksum, uri, status and is_public; with --long everything that details shows.

    The columns uuid, visibility, os_hidden, tags, os_hash_algo and os_hash_value are what version
    2 of the API knows of an image. They take two more requests for each image, and uuid alone
    takes one. A server without version 2 has none of these values.

    On a terminal, the command asks before it prints the next page of --limit images, unless
    --force is given. Otherwise it prints all pages at once, unless the answers are piped in.

    On a terminal that is narrower than the table, the columns shrink. With --long, a terminal
    shows sizes with units; --human does so everywhere.

    --deleted lists deleted images instead; for administrators only.
    """
    options = call.options
    named = columns.chosen(options.columns)
    wanted = named or (columns.LONG if options.long else tables.INDEX)
    # NOTE: a short list has all that the manual's table shows, and no more.
    short = wanted is tables.INDEX and options.format != "json" and not options.deleted
    found = pages(call, "get_images" if short else "get_images_detailed")
    if named:
        found = version2.all_completed(call, named, columns.checked(named, found))
    if call.as_values:
        for page in found:
            call.print_values(columns.texts(image, wanted) for image in page)
    elif call.for_programs:
        call.print_json_list(map(_in_json(named, options.long), found))
    else:
        room = tables.room()
        human = options.human or (options.long and room is not None)
        table = tables.Table(wanted, room)
        for page in found:
            table.print(columns.rows(page, wanted, human=human))
    return 0


def _in_json(named: Sequence[tables.Column] | None, long: bool) -> Callable[[Page], Page]:
    """Return what makes the objects of `index --format=json` from a page."""
    if named:
        return lambda page: [columns.picked(image, named) for image in page]
    if long:
        return lambda page: page
    from glance.image import fields as image_fields  # PERF: the client needs it anyway

    keys = (*image_fields.BRIEF_KEYS, "uri", *columns.MORE)
    return lambda page: [{key: image.get(key) for key in keys} for image in page]


@commands.command(
    "details",
    LISTING,
    "Lists images with all their metadata",
    failure="show details",
    options=LISTING_OPTIONS,
    fields=FILTERS,
)
def details(call: commands.CommandCall) -> int:
    """
    Lists the images that you may see with all their metadata.

    Takes the same fields and options as index. With --long, checksum, protection and times are
    shown, too.
    """
    found: Iterable[Page] = pages(call, "get_images_detailed")
    named = columns.chosen(call.options.columns)
    if named:
        found = version2.all_completed(call, named, columns.checked(named, found))
    if call.as_values:
        for page in found:
            call.print_values(columns.texts(image, named or columns.VALUES) for image in page)
        return 0
    if call.for_programs:
        call.print_json_list(map(_in_json(named, True), found))
        return 0
    rule = "=" * 80
    for number, page in enumerate(found):
        if not number:
            print(rule)
        for image in page:
            print_block(call, image, named)
            print(rule)
    return 0


@commands.command("show", "<ID>", "Shows the metadata of an image", options=SHOWING)
def show(call: commands.CommandCall) -> int:
    """
    Shows the metadata of an image. With --long, checksum, protection and times are shown, too, and
    what version 2 of the API knows of the image: UUID, visibility, tags, whether it is hidden, and
    its hash. A JSON object holds all of that as well, where the server serves version 2.

    The id is the number of an image or its UUID. Instead of the id, you can give the name of an
    image, if no other image has it, as to all commands that take an id.

    The URI is one that commands take instead of an id. It names port and version, except where
    both are the defaults, 9292 and v1.

    --columns chooses what is shown, and --format=value prints it without names, one value in each
    line: glance show 12 --columns=status --format=value
    """
    image_id = ids.first(
        call,
        "Please specify the image identifier as the ",
        "first argument. Example: ",
        "$> glance show 12345",
    )
    call.at_most(1)
    named = columns.chosen(call.options.columns)
    try:
        _, meta = ids.with_id(call, image_id, lambda i: ids.meta(call, i), reads=True)
        image = _complete(call, dict(meta), named)
    except exception.NotFound:
        return ids.not_found(image_id)
    except console.CommandRefused:
        raise
    except Exception as err:  # the border to the person
        print("Failed to show image. Got error:")
        console.print_error(err)
        call.explain(err)
        return 1
    if named:
        columns.check(named, [image])
    if call.as_values:
        call.print_values([text] for text in columns.texts(image, named or columns.VALUES))
    elif call.for_programs:
        call.print_json(columns.picked(image, named) if named else image)
    else:
        print_block(call, image, named)
    return 0


def _complete(
    call: commands.CommandCall,
    image: dict[str, Any],
    named: Sequence[tables.Column] | None,
) -> dict[str, Any]:
    """Return an image with what version 2 knows of it, if any of that is to be shown."""
    options = call.options
    if named or (options.format == "text" and options.long) or options.format == "json":
        return version2.completed(call, image, named)
    return image


def print_block(
    call: commands.CommandCall,
    image: Mapping[str, Any],
    named: Sequence[tables.Column] | None,
) -> None:
    """Print an image as lines of names and values: those of the manual, or the `named` ones."""
    if not named:
        tables.print_image(call.client, image, long=call.options.long, human=call.options.human)
        return
    (row,) = columns.rows([image], named, human=call.options.human)
    for column in named:
        console.say(f"{column.label}: {row[column.key]}")


# -- listings ------------------------------------------------------------------------------------


class Markers:
    """The markers of the pages of one list, none of which a server may repeat."""

    def __init__(self, first: object = None):
        self._seen = {str(first)}

    def next(self, page: Sequence[Mapping[str, Any]]) -> Any:
        """Return the marker of the page after `page`. Raises CommandFailed if it was used before.

        A server that ignores markers would send the same page for ever.
        """
        marker = page[-1].get("id")
        if marker is None:
            raise console.CommandFailed(
                "The server sent an image without an id: is it glance-api?"
            )
        if str(marker) in self._seen:
            raise console.CommandFailed(
                "The server sent the same page of the list again, so the list is not complete"
            )
        self._seen.add(str(marker))
        return marker


def pages(call: commands.CommandCall, method: str) -> Iterator[Page]:
    """Yield the pages of a list of images from a method of the client, as `turned` does."""
    found = console.fields(call.args)
    fetch = getattr(call.client, method)
    filters = {name if name in FILTERS else f"property-{name}": found[name] for name in found}
    if call.options.deleted:
        filters = {"is_public": "none", **filters, "deleted": "true"}
    options = call.options

    def fetch_page(limit: int, marker: Any) -> Page:
        page: Page = fetch(
            filters=filters,
            limit=limit,
            marker=marker,
            sort_key=options.sort_key,
            sort_dir=options.sort_dir,
        )
        # NOTE: for others than administrators, the server ignores the filter.
        if options.deleted and not all(image.get("deleted") for image in page):
            raise console.CommandFailed("Only administrators may list deleted images")
        return page

    return turned(call, fetch_page, lambda: notes.nothing_listed(call, filters))


def turned(
    call: commands.CommandCall,
    fetch: Callable[[int, Any], Page],
    nothing: Callable[[], None],
) -> Iterator[Page]:
    """Yield the pages that `fetch` returns for a limit and a marker; `nothing`: there is none.

    Between full pages the user is asked, unless --force is given or nobody can be asked.
    """
    options = call.options
    marker, markers = options.marker, Markers(options.marker)
    asking = not (options.force or call.for_programs) and console.pauses()
    # PERF: the size of a page is for the eyes of who is asked between two; nobody else sees it.
    # NOTE: 0, an empty list, and what the server refuses is not enlarged.
    step = options.limit if asking or options.limit < 1 else max(options.limit, SERVER_PAGE)
    room = step
    while True:
        page = fetch(room, marker)
        # NOTE: only an empty page is the end: the server may send less than it was asked for.
        if not page:
            if marker is None and options.limit and not call.for_programs:
                nothing()
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

"""The output of images by the `glance` program: tables, blocks, rows of metadata."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from glance.cli.user.screen import console, progress

if TYPE_CHECKING:
    from glance.client import Client


class Column(NamedTuple):
    """One column of a table: its heading, the key of its cells, width, alignment.

    On a narrow terminal it may shrink to `least` cells; if it is `whole`, its texts are never cut.
    """

    label: str
    key: str
    width: int
    align: str = "<"
    least: int = 4
    whole: bool = False


INDEX = (
    Column("ID", "id", 16, whole=True),
    Column("Name", "name", 30, least=10),
    Column("Disk Format", "disk_format", 20),
    Column("Container Format", "container_format", 20),
    Column("Size", "size", 14, ">", whole=True),
)
WIDE_ID = 36


# -- cells ---------------------------------------------------------------------------------------


def cells(text: str) -> int:
    """Return how many cells of a terminal a text fills (Unicode Standard Annex 11).

    Characters of East Asia fill two, and those that only change the one before them none.
    """
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    import unicodedata  # PERF: for text that is not ASCII only

    # The vowels and final consonants of Hangul are drawn into the syllable that they belong to.
    if unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fitted(text: str, width: int, align: str = "<") -> str:
    """Return a text cut or padded to exactly `width` cells, without parting a character."""
    if text.isascii():
        return f"{text[:width]:{align}{width}}"
    filled, end = 0, len(text)
    for place, character in enumerate(text):
        wanted = filled + _cells(character)
        if wanted > width:
            end = place
            break
        filled = wanted
    padding = " " * (width - filled)
    return padding + text[:end] if align == ">" else text[:end] + padding


def room() -> int | None:
    """Return the number of columns of the terminal that standard output is; None if it is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


# -- tables --------------------------------------------------------------------------------------


class Table:
    """A table that is printed page by page; the first page decides its widths.

    WIRE: without `room` the columns have the widths that the manual prints. With it, a number of
    columns of a terminal, they shrink until a row is one line.
    """

    def __init__(self, columns: Sequence[Column], room: int | None = None):
        self.columns = columns
        self._room = room
        self._widths: list[int] | None = None

    def print(self, rows: Iterable[Mapping[str, Any]], *, header: bool | None = None) -> None:
        """Print rows, with the header if it is the first page, or as `header` says."""
        page = [[console.printable(row.get(c.key)) for c in self.columns] for row in rows]
        first = self._widths is None
        self._widths = self._fitting(page)
        pairs = list(zip(self.columns, self._widths, strict=True))
        if first if header is None else header:
            labels = ((console.printable(column.label), width) for column, width in pairs)
            print(" ".join(fitted(label, width) for label, width in labels))
            print(" ".join("-" * width for _, width in pairs))
        for row in page:
            texts = zip(row, pairs, strict=True)
            print(" ".join(fitted(text, width, c.align) for text, (c, width) in texts))

    def _fitting(self, page: Sequence[Sequence[str]]) -> list[int]:
        contents = [max(map(cells, texts), default=0) for texts in zip(*page, strict=True)]
        contents = contents or [0] * len(self.columns)
        if self._widths is not None and self._room is not None:
            # What must not be cut still is not.
            triples = zip(self.columns, self._widths, contents, strict=True)
            return [max(width, needed) if c.whole else width for c, width, needed in triples]
        widths = []
        for column, needed in zip(self.columns, contents, strict=True):
            width = column.width
            if column.key == "id" and needed > width:
                width = WIDE_ID
            widths.append(max(width, needed) if column.whole else width)
        if self._room is not None and total(widths) > self._room:
            return narrowed(self.columns, widths, contents, self._room - 1)
        return widths


def total(widths: Sequence[int]) -> int:
    """Return the length of a row, with one blank between two columns."""
    return sum(widths) + len(widths) - 1


def narrowed(
    columns: Sequence[Column], widths: Sequence[int], contents: Sequence[int], room: int
) -> list[int]:
    """Return widths with which a row fills at most `room` cells, as far as that is possible.

    First padding goes, then the ends of names, of headings, and of everything that may be cut.
    """
    widths = list(widths)
    needed = [max(len(c.label), content) for c, content in zip(columns, contents, strict=True)]
    name = [column.key == "name" for column in columns]
    floors = (
        [w if is_name else n for w, n, is_name in zip(widths, needed, name, strict=True)],
        [c.least if is_name else n for c, n, is_name in zip(columns, needed, name, strict=True)],
        [
            c.least if is_name else max(c.least, content)
            for c, content, is_name in zip(columns, contents, name, strict=True)
        ],
        [
            max(1, content) if c.whole else c.least
            for c, content in zip(columns, contents, strict=True)
        ],
    )
    for floor in floors:
        while total(widths) > room:
            spare = [width - least for width, least in zip(widths, floor, strict=True)]
            if max(spare) <= 0:
                break
            widths[spare.index(max(spare))] -= 1
    return widths


def print_table(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, header: bool
) -> None:
    """Print rows in columns; cells that are too long are cut, except ids."""
    Table(columns).print(rows, header=header)


# -- blocks --------------------------------------------------------------------------------------


def uri(client: Client, image: Mapping[str, Any]) -> str:
    """Return the URI of an image as it is printed for people; `glance` takes it as an id.

    WIRE: the manual prints neither port nor version, and so does this where both are the defaults.
    """
    if not client.is_default_service:
        return client.image_uri(image.get("id"))
    scheme = "https" if client.use_ssl else "http"
    host = f"[{client.host}]" if ":" in client.host else client.host
    return f"{scheme}://{host}/images/{image.get('id')}"


def print_image(
    client: Client, image: Mapping[str, Any], *, long: bool = False, human: bool = False
) -> None:
    """Print the metadata of an image, one line for each attribute.

    With `long`, checksum, protection, times and what version 2 knows of the image follow the
    attributes that the manual shows; with `human`, the size has a unit.
    """
    size = int(image.get("size") or 0)
    lines = [
        ("URI", uri(client, image)),
        ("Id", image.get("id")),
        ("Public", "Yes" if image.get("is_public") else "No"),
        ("Name", image.get("name")),
        ("Status", image.get("status")),
        ("Size", progress.amount(size) if human else size),
    ]
    if image.get("location"):
        lines.append(("Location", image["location"]))
    lines += [
        ("Disk format", image.get("disk_format")),
        ("Container format", image.get("container_format")),
        ("Minimum Ram Required (MB)", image.get("min_ram")),
        ("Minimum Disk Required (GB)", image.get("min_disk")),
    ]
    if image.get("owner"):
        lines.append(("Owner", image["owner"]))
    if long:
        lines += [
            ("Checksum", image.get("checksum")),
            ("Protected", "Yes" if image.get("protected") else "No"),
            ("Created", image.get("created_at")),
            ("Updated", image.get("updated_at")),
        ]
        if image.get("deleted_at"):
            lines.append(("Deleted", image["deleted_at"]))
        lines += _v2_lines(image)
    properties = image.get("properties") or {}
    lines += [(f"Property '{name}'", properties[name]) for name in sorted(properties)]
    for label, value in lines:
        console.say(f"{label}: {value}")


def _v2_lines(image: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the lines about what version 2 alone knows of an image, if it was asked."""
    lines = [("UUID", image["uuid"])] if image.get("uuid") else []
    if "visibility" in image:
        lines.append(("Visibility", image["visibility"]))
    if "os_hidden" in image:
        lines.append(("Hidden", "Yes" if image["os_hidden"] else "No"))
    if "tags" in image:
        lines.append(("Tags", ", ".join(map(str, image["tags"] or ()))))
    if image.get("os_hash_value"):
        lines.append(("Hash", f"{image.get('os_hash_algo')} {image['os_hash_value']}"))
    return lines


def print_rows(meta: Mapping[str, Any]) -> None:
    """Print metadata as sorted rows of names and Python values."""
    for name in sorted(meta):
        console.say(f" {console.printable(name):>30} => {meta[name]}")

"""The output of images by the `glance` program: tables, blocks, rows of metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from glance.cli.user import console

if TYPE_CHECKING:
    from glance.client import Client


class Column(NamedTuple):
    """One column of a table: its heading, the key of its cells, width, alignment."""

    label: str
    key: str
    width: int
    align: str = "<"


INDEX = (
    Column("ID", "id", 16),
    Column("Name", "name", 30),
    Column("Disk Format", "disk_format", 20),
    Column("Container Format", "container_format", 20),
    Column("Size", "size", 14, ">"),
)
WIDE_ID = 36


def print_table(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, header: bool
) -> None:
    """Print rows in columns; cells that are too long are cut, except ids."""
    rows = list(rows)
    wide = any(len(str(row.get("id"))) > columns[0].width for row in rows)
    widths = [WIDE_ID if wide and column.key == "id" else column.width for column in columns]
    pairs = list(zip(columns, widths, strict=True))
    if header:
        print(" ".join(f"{column.label:<{width}}" for column, width in pairs))
        print(" ".join("-" * width for width in widths))
    for row in rows:
        cells = []
        for column, width in pairs:
            text = console.printable(row.get(column.key))[:width]
            cells.append(f"{text:{column.align}{width}}")
        print(" ".join(cells))


def uri(client: Client, image: Mapping[str, Any]) -> str:
    """Return the URI of an image as it is printed for people; `glance` takes it as an id.

    WIRE: the manual prints neither port nor version, and so does this where both are the defaults.
    """
    if not client.is_default_service:
        return client.image_uri(image.get("id"))
    scheme = "https" if client.use_ssl else "http"
    host = f"[{client.host}]" if ":" in client.host else client.host
    return f"{scheme}://{host}/images/{image.get('id')}"


def print_image(client: Client, image: Mapping[str, Any], *, long: bool = False) -> None:
    """Print the metadata of an image, one line for each attribute.

    With `long`, checksum, protection and times follow the attributes that the manual shows.
    """
    lines = [
        ("URI", uri(client, image)),
        ("Id", image.get("id")),
        ("Public", "Yes" if image.get("is_public") else "No"),
        ("Name", image.get("name")),
        ("Status", image.get("status")),
        ("Size", int(image.get("size") or 0)),
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
    properties = image.get("properties") or {}
    lines += [(f"Property '{name}'", properties[name]) for name in sorted(properties)]
    for label, value in lines:
        console.say(f"{label}: {value}")


def print_rows(meta: Mapping[str, Any]) -> None:
    """Print metadata as sorted rows of names and Python values."""
    for name in sorted(meta):
        console.say(f" {console.printable(name):>30} => {meta[name]}")

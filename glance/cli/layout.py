"""How the `glance` program prints images: a table, a block for each, rows of metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance.cli import console
from glance.client import Client

COLUMNS = (
    ("ID", "id", 16, "<"),
    ("Name", "name", 30, "<"),
    ("Disk Format", "disk_format", 20, "<"),
    ("Container Format", "container_format", 20, "<"),
    ("Size", "size", 14, ">"),
)
WIDE_ID = 36


def print_table(images: list[dict[str, Any]], *, header: bool) -> None:
    """Print images as rows; cells longer than their column are cut, ids are not."""
    wide = any(len(str(image.get("id"))) > COLUMNS[0][2] for image in images)
    widths = [WIDE_ID if wide and key == "id" else width for _, key, width, _ in COLUMNS]
    if header:
        print(" ".join(f"{COLUMNS[i][0]:<{width}}" for i, width in enumerate(widths)))
        print(" ".join("-" * width for width in widths))
    for image in images:
        cells = []
        for (_, key, _, align), width in zip(COLUMNS, widths, strict=True):
            cells.append(f"{console.printable(image.get(key))[:width]:{align}{width}}")
        print(" ".join(cells))


def print_image(client: Client, image: Mapping[str, Any]) -> None:
    """Print everything known about an image, a line for each attribute."""
    scheme = "https" if client.use_ssl else "http"
    lines = [
        ("URI", f"{scheme}://{client.host}/images/{image.get('id')}"),
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
    properties = image.get("properties") or {}
    lines += [(f"Property '{name}'", properties[name]) for name in sorted(properties)]
    for label, value in lines:
        print(f"{console.printable(label)}: {console.printable(value)}")


def print_rows(meta: Mapping[str, Any]) -> None:
    """Print metadata as sorted rows of name and Python value."""
    for name in sorted(meta):
        print(f" {name:>30} => {console.printable(meta[name])}")

"""Which attributes of images a command of `glance` prints: `--columns`, `--long`, `--format`.

The names are those of the API and of custom properties. `glance.cli.user.screen.tables` prints
tables; `glance.cli.user.listing` has the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from glance.cli.user.screen import console, progress, tables
from glance.cli.user.screen.tables import Column

_INDEX = {column.key: column for column in tables.INDEX}

#: What version 2 of the API alone knows of an image.
V2 = (
    Column("UUID", "uuid", 36, whole=True),
    Column("Visibility", "visibility", 10),
    Column("Hidden", "os_hidden", 6),
    Column("Tags", "tags", 20),
    Column("Hash Algorithm", "os_hash_algo", 14),
    Column("Hash Value", "os_hash_value", 64, least=8),
)
V2_KEYS = tuple(column.key for column in V2)
#: Every attribute that may be a column, by name.
ATTRIBUTES: dict[str, Column] = {
    column.key: column
    for column in (
        _INDEX["id"],
        _INDEX["name"],
        Column("Status", "status", 14),
        Column("Public", "is_public", 6),
        Column("Protected", "protected", 9),
        _INDEX["disk_format"],
        _INDEX["container_format"],
        _INDEX["size"],
        Column("Checksum", "checksum", 32),
        Column("Min Disk", "min_disk", 8, ">", whole=True),
        Column("Min RAM", "min_ram", 7, ">", whole=True),
        Column("Owner", "owner", 32, least=8),
        Column("Created", "created_at", 19, least=10),
        Column("Updated", "updated_at", 19, least=10),
        Column("Deleted", "deleted_at", 19, least=10),
        Column("Is Deleted", "deleted", 10),
        Column("Location", "location", 8, whole=True),
        Column("URI", "uri", 3, whole=True),
        Column("Properties", "properties", 10, whole=True),
        *V2,
    )
}
#: The columns of `index --long`.
LONG = (
    *tables.INDEX,
    *(ATTRIBUTES[name] for name in ("status", "is_public", "owner", "created_at")),
)
#: What `show --format=value` and `details --format=value` print.
VALUES = tuple(
    ATTRIBUTES[name]
    for name in (
        *("id", "name", "status", "is_public", "protected", "size", "disk_format"),
        *("container_format", "min_ram", "min_disk", "owner", "checksum"),
        *("created_at", "updated_at"),
    )
)
#: Attributes in a row of `index --format=json`, besides those of a short list.
MORE = ("status", "is_public")
#: Before the name of a property that has the name of an attribute, or that no image may have.
PREFIX = "property_"
#: How many properties an error names.
SHOWN = 20


def chosen(text: str | None) -> tuple[Column, ...] | None:
    """Return the columns that `--columns` names; None without the option.

    A name that is no attribute is taken for a property. Raises CommandFailed if none is named.
    """
    if text is None:
        return None
    words = [word for word in map(str.strip, console.decoded(text).split(",")) if word]
    if not words:
        raise console.CommandFailed(f"--columns names no column. {existing(())}")
    return tuple(map(_column, words))


def _column(word: str) -> Column:
    name = word.lower().replace("-", "_")
    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    if name.startswith(PREFIX) and len(name) > len(PREFIX):
        word = word[len(PREFIX) :]
        return Column(word, f"{PREFIX}{word}", max(20, tables.cells(word)))
    # Without the prefix: some image must have it.
    return Column(word, f"?{word}", max(20, tables.cells(word)))


def existing(images: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence that names the columns, with the properties of these images."""
    names = sorted({name for image in images for name in image.get("properties") or {}})
    shown = [*ATTRIBUTES, *names[:SHOWN]]
    more = f" and {len(names) - SHOWN} more properties" if len(names) > SHOWN else ""
    return (
        f"There are {', '.join(shown)}{more}; write property-NAME for a property that none of "
        "these images has"
    )


def check(columns: Iterable[Column], images: Sequence[Mapping[str, Any]]) -> None:
    """Raise CommandFailed for a column that is neither an attribute nor a property of an image."""
    for column in columns:
        if column.key.startswith("?") and not any(_has(image, column.label) for image in images):
            raise console.CommandFailed(f"There is no column {column.label}. {existing(images)}")


def checked(
    columns: Sequence[Column], pages: Iterable[list[dict[str, Any]]]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages; `check` the columns with the first one."""
    for number, page in enumerate(pages):
        if not number:
            check(columns, page)
        yield page


def _has(image: Mapping[str, Any], name: str) -> bool:
    properties = image.get("properties") or {}
    return name in properties or _folded(name) in properties


def _folded(name: str) -> str:
    """Return the name of a property as servers keep it."""
    return name.lower().replace("-", "_")


def value(image: Mapping[str, Any], column: Column) -> Any:
    """Return the value of an image in a column; None if it has none.

    NOTE: an image of a server without version 2 may have a property of such a name.
    """
    name = column.key
    if name.startswith(("?", PREFIX)):
        name = column.label
    elif name in image or name not in V2_KEYS:
        return image.get(name)
    properties = image.get("properties") or {}
    return properties.get(name, properties.get(_folded(name)))


def text(found: Any) -> str:
    """Return a value as the text of one line, with what could control a terminal replaced."""
    if isinstance(found, dict | list):
        import json  # PERF: for this column only

        found = json.dumps(found, sort_keys=True, ensure_ascii=False)
    return console.printable(found)


def texts(image: Mapping[str, Any], columns: Iterable[Column]) -> list[str]:
    """Return the values of an image as texts."""
    return [text(value(image, column)) for column in columns]


def picked(image: Mapping[str, Any], columns: Iterable[Column]) -> dict[str, Any]:
    """Return the values of an image under the names of the columns, for JSON."""
    return {
        column.label if column.key.startswith(("?", PREFIX)) else column.key: value(image, column)
        for column in columns
    }


def rows(
    images: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, human: bool
) -> list[dict[str, Any]]:
    """Return the cells of images, for a table."""
    size: Callable[[Any], Any] = amount if human else lambda found: found
    return [
        {
            column.key: size(found) if column.key == "size" else text(found)
            for column in columns
            for found in (value(image, column),)
        }
        for image in images
    ]


def amount(size: Any) -> str:
    """Return a number of bytes for people."""
    return progress.amount(size) if isinstance(size, int) else str(size)

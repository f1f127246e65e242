"""The commands of `glance` that write images: add and update.

`glance.cli.user.listing` has the commands that read images, `glance.cli.user.removal` those that
delete them. `glance.cli.user.tables` prints images. The shared error handler is in
`glance.cli.user.command`, the options are in `glance.cli.user.commands`.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

from glance.cli.user import commands, console, ids, notes, progress, tables
from glance.common import exception

ADD_DEFAULTS = {
    "disk_format": "raw",
    "container_format": "ovf",
    "min_disk": "0",
    "min_ram": "0",
}
ADD_OPTIONAL = ("location", "id", "owner", "store", "checksum")
ADD_FORBIDDEN = ("size", "status")
UPDATE_ATTRIBUTES = (
    "name",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "location",
    "owner",
)
UPDATE_FORBIDDEN = (
    "created_on",
    "deleted_on",
    "deleted",
    "updated_on",
    "size",
    "status",
    "created_at",
    "updated_at",
    "deleted_at",
    "id",
    "checksum",
)

LOCATION_CLASH = """\
Either supply a location=LOCATION argument or supply image 
data via a redirect. You have supplied BOTH image data 
AND a location."""  # noqa: W291 - scripts expect the trailing blanks
KILLED_NOTE = (
    "Note: Your image metadata may still be in the registry, but the image's status will likely "
    "be 'killed'."
)
#: Statuses of a proxy that does not know what the server has done.
BEYOND = (502, 504)
NO_DATA_NOTE = (
    "Note: no image data was given (standard input is a terminal), so the image is queued until "
    "its data is uploaded."
)


@commands.command(
    "add",
    "<field1=value1 field2=value2 ...> [ < /path/to/image ]",
    "Adds a new image",
    options=("dry_run", "format"),
    fields=("name", "is_public", *ADD_DEFAULTS, *ADD_OPTIONAL),
)
def add(call: commands.CommandCall) -> int:
    """
    Adds a new image to Glance. The fields may be given in any order:

      name              name of the image; required
      id                id of the image; default: chosen by the server
      is_public         true, on or 1 make the image public; default: false
      disk_format       ami, ari, aki, vhd, vmdk, raw, qcow2, vdi or iso; default: raw
      container_format  ami, ari, aki, bare or ovf; default: ovf
      min_disk          minimum disk size in GB of a server; default: 0
      min_ram           minimum memory in MB of a server; default: 0
      location          URI of data that a store already holds
      store             store for the data; default: chosen by the server
      checksum          MD5 that the data must have
      owner             tenant that owns the image; administrators only
      size              cannot be set: the server counts the bytes

    Any other field becomes a custom property of the image.

    The image data is read from standard input, so redirect it from a file:

      glance add name="My image" disk_format=qcow2 < /tmp/images/mine.qcow2

    or pipe it from a program. With a location, no data is read:

      glance add name="My image" location=http://example.com/images/mine.raw
    """
    found = console.fields(call.args)
    if not found.get("name"):
        raise console.CommandRefused("Please specify a name for the image using name=VALUE")
    meta: dict[str, Any] = {"name": found.pop("name")}
    meta["is_public"] = console.is_true(found.pop("is_public", ""))
    for name, default in ADD_DEFAULTS.items():
        meta[name] = found.pop(name, default)
    for name in ADD_OPTIONAL:
        if name in found:
            meta[name] = found.pop(name)
    drop(found, ADD_FORBIDDEN, "non-settable")
    meta["properties"] = found

    located = bool(meta.get("location"))
    if located and console.stdin_holds_data():
        raise console.CommandRefused(LOCATION_CLASH)
    if call.dry_run("Add new image with metadata:"):
        tables.print_rows(meta)
        return 0
    data = None if located else stdin_data()
    from glance.http.client import response  # PERF: the client needs it

    try:
        with progress.shown(meta["name"]) as tell:
            image = call.client.add_image(meta, data, progress=tell)
    except exception.ClientConnectionError as err:
        console.say(
            f"Failed to connect to the Glance API server {call.server}. Is the server running?"
        )
        if call.options.verbose:
            console.print_error(err)
        call.explain(err, told=call.options.verbose)
        if isinstance(err, response.ConnectionBroken) and not isinstance(
            err, response.NotConnected
        ):
            print(KILLED_NOTE, file=sys.stderr)
        return 1
    except KeyboardInterrupt as err:
        raise console.Interrupted(upload_remains(call, err)) from err
    except Exception as err:  # the border to the person
        print("Failed to add image. Got error:")
        console.print_error(err)
        call.explain(err)
        image_id = getattr(err, "recorded_id", None)
        unknown = isinstance(err, OSError) or getattr(err, "status", None) in BEYOND
        if image_id is not None or unknown:
            print(KILLED_NOTE)
        if image_id is not None:
            notes.note(notes.remains(call, image_id))
        return 1
    if call.for_programs:
        call.print_json(image)
    console.say(f"Added new image with ID: {image['id']}")
    if call.options.verbose:
        print("Returned the following metadata for the new image:")
        tables.print_rows(image)
    if data is None and not located:
        print(NO_DATA_NOTE, file=sys.stderr)
    if not call.for_programs:
        notes.private(image)
    return 0


@commands.command(
    "update",
    "<ID> <field1=value1 field2=value2 ...>",
    "Updates an image's metadata",
    options=("keep_properties", "dry_run", "format"),
    fields=(*UPDATE_ATTRIBUTES, "is_public"),
)
def update(call: commands.CommandCall) -> int:
    """
    Updates an image's metadata. The first argument is the id of the image, the others are fields:

      name, is_public, disk_format, container_format, min_disk, min_ram, location, owner

    A field that is not named keeps its value. Any other field becomes a custom property.

    IMPORTANT: custom properties that are left out of the command are removed from the image,
    unless --keep-properties is given.
    """
    image_id = ids.first(
        call,
        "Please specify the ID of the image you wish to update ",
        "as the first argument",
    )
    found = console.fields(call.args[1:])
    drop(found, UPDATE_FORBIDDEN, "non-modifiable")
    meta: dict[str, Any] = {name: found.pop(name) for name in UPDATE_ATTRIBUTES if name in found}
    if "is_public" in found:
        meta["is_public"] = console.is_true(found.pop("is_public"))
    meta["properties"] = found
    if call.dry_run("Update existing image with metadata:"):
        tables.print_rows(meta)
        return 0
    keep = call.options.keep_properties
    try:
        image_id, image = ids.with_id(
            call, image_id, lambda i: call.client.update_image(i, meta, purge_props=not keep)
        )
    except exception.NotFound:
        return ids.not_found(image_id)
    except console.CommandRefused:
        raise
    except Exception as err:  # the border to the person
        print("Failed to update image. Got error:")
        console.print_error(err)
        call.explain(err)
        return 1
    if call.for_programs:
        call.print_json(image)
    console.say(f"Updated image {image_id}")
    if call.options.verbose:
        console.say(f"Updated image metadata for image {image_id}:")
        tables.print_image(call.client, image)
    return 0


# -- arguments and standard input ----------------------------------------------------------------


def drop(found: dict[str, str], names: tuple[str, ...], kind: str) -> None:
    """Remove fields that users cannot set, and print a line for each."""
    for name in names:
        if name in found:
            del found[name]
            console.say(f"Found {kind} field {name}. Removing.")


def upload_remains(call: commands.CommandCall, err: BaseException) -> str:
    """Return what remains of an upload that adds an image and was interrupted."""
    image_id = getattr(err, "recorded_id", None)
    if image_id is not None:
        return notes.remains(call, image_id)
    return "if the image has been recorded, its status will be killed"


def stdin_data() -> BinaryIO | None:
    """Return standard input as the image's data; None if it is a terminal.

    Closed input counts as empty data, like /dev/null: scripts create empty images that way.
    """
    if sys.stdin is None:
        return io.BytesIO()
    return None if sys.stdin.isatty() else sys.stdin.buffer

"""The commands of `glance` that write images: add, update and upload.

`glance.cli.user.listing` has the commands that read images, `glance.cli.user.removal` those that
delete them. `glance.cli.user.screen.tables` prints images. The shared error handler is in
`glance.cli.user.command`, the options are in `glance.cli.user.commands`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from glance.cli.user import commands, ids
from glance.cli.user.screen import console, notes, progress, tables
from glance.common import exception

if TYPE_CHECKING:
    from glance.image import types

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


@commands.command(
    "add",
    "<field1=value1 field2=value2 ...> [ < /path/to/image ]",
    "Adds a new image",
    options=("file", "dry_run", "format"),
    fields=("name", "is_public", *ADD_DEFAULTS, *ADD_OPTIONAL),
)
def add(call: commands.CommandCall) -> int:
    """
    Adds a new image to Glance. The fields may be given in any order:

      name              name of the image; required
      id                number or UUID of the image; default: chosen by the server
      is_public         true, on or 1 make the image public; default: false
      disk_format       ami, ari, aki, vhd, vhdx, vmdk, raw, qcow2, vdi, iso or ploop; default:
                        what the first bytes of the data look like, with a note, otherwise raw
      container_format  ami, ari, aki, bare, ovf, ova, docker or compressed; default: ovf
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

    or pipe it from a program, or name the file with --file. With a location, no data is read:

      glance add name="My image" location=http://example.com/images/mine.raw
    """
    found = console.fields(call.args)
    if not found.get("name"):
        raise console.CommandRefused("Please specify a name for the image using name=VALUE")
    meta: dict[str, Any] = {"name": found.pop("name")}
    meta["is_public"] = console.is_true(found.pop("is_public", ""))
    format_given = "disk_format" in found
    for name, default in ADD_DEFAULTS.items():
        meta[name] = found.pop(name, default)
    for name in ADD_OPTIONAL:
        if name in found:
            meta[name] = found.pop(name)
    drop(found, ADD_FORBIDDEN, "non-settable")
    meta["properties"] = found

    located = bool(meta.get("location"))
    if located and call.options.file is not None:
        raise console.CommandFailed("Give either --file or location=, not both")
    if located and console.stdin_holds_data():
        raise console.CommandRefused(LOCATION_CLASH)
    check_file_option(call)
    if call.dry_run("Add new image with metadata:"):
        tables.print_rows(meta)
        return 0
    from glance.cli.user import guess  # PERF: for uploads only

    with contextlib.nullcontext() if located else opened_data(call) as data:
        return _add(call, meta, guess.checked(meta, data, given=format_given))


def _add(call: commands.CommandCall, meta: dict[str, Any], data: BinaryIO | None) -> int:
    """Add an image and print the outcome; return the exit code."""
    from glance.cli.user.screen import causes  # PERF: for a request only
    from glance.http.client import response  # PERF: the client needs it

    try:
        with progress.shown(meta["name"]) as tell:
            image = call.client.add_image(meta, data, progress=tell, with_uuid=call.for_programs)
    except exception.ClientConnectionError as err:
        console.say(
            f"Failed to connect to the Glance API server {call.server}. Is the server running?"
        )
        if call.options.verbose:
            console.print_error(err)
        hint = call.explain(err, told=call.options.verbose)
        arrived = isinstance(err, response.ConnectionBroken) and not isinstance(
            err, response.NotConnected
        )
        if arrived and causes.SPEAKS_HTTPS not in f"{err} {hint}":
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
    if data is None and not meta.get("location"):
        notes.note(
            "no image data was given (standard input is a terminal), so the image is queued "
            f"until its data is uploaded: glance upload {image['id']} --file=FILE"
        )
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
            call,
            image_id,
            lambda i: call.client.update_image(
                i, meta, purge_props=not keep, with_uuid=call.for_programs
            ),
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


@commands.command(
    "upload",
    "<ID> [checksum=MD5] [ < /path/to/image ]",
    "Uploads the data of a queued image",
    group="Further Commands",
    options=("file", "dry_run", "format"),
    fields=("checksum",),
    modern=True,
)
def upload(call: commands.CommandCall) -> int:
    """
    Uploads the data of an image that has none yet, whose status is queued:

      glance upload 12 --file /tmp/images/mine.qcow2

    Without --file, the data is read from standard input. If a checksum is given, data that has
    another MD5 is refused. Metadata and properties of the image stay as they are.
    """
    if not call.args:
        raise console.CommandFailed("Please specify the ID of the image whose data you upload")
    image_id, *words = call.args
    meta: dict[str, Any] = {}
    for word in words:
        if console.field_name(word) != "checksum" or "=" not in word:
            raise console.CommandFailed(
                f"This command does not take the argument {word}; name a file with --file=FILE"
            )
        meta = {"checksum": console.fields([word])["checksum"]}
    check_file_option(call)
    from_file = call.options.file not in (None, "-")
    if call.dry_run(
        f"Upload {call.options.file if from_file else 'standard input'} to image {image_id}"
    ):
        return 0
    if not from_file:
        check_stdin(call)
    with opened_data(call) as data:
        if not ids.is_number(image_id):
            # NOTE: data from a pipe is sent once only, so that a name is looked up before.
            image_id = _named(call, image_id)
        image = _upload(call, image_id, meta, data)
    if call.for_programs:
        call.print_json(image)
    console.say(f"Uploaded the data of image {image_id}: {image.get('size')} bytes")
    return 0


def _named(call: commands.CommandCall, reference: str) -> str:
    """Return the id for an id or a name. Raises CommandFailed if there is no such image."""
    try:
        return ids.with_id(call, reference, lambda i: ids.meta(call, i))[0]
    except exception.NotFound:
        raise console.CommandFailed(f"No image with ID {reference} was found") from None


def _upload(
    call: commands.CommandCall, image_id: str, meta: dict[str, Any], data: BinaryIO | None
) -> types.DetailedImage:
    """Upload the data of an image; return its attributes. Raises CommandFailed or Interrupted."""
    from glance.http.client import response  # PERF: the client needs it

    name = call.options.file or image_id
    try:
        with progress.shown(name) as tell:
            return call.client.update_image(
                image_id,
                meta,
                data,
                purge_props=False,
                progress=tell,
                with_uuid=call.for_programs,
            )
    except exception.NotFound:
        raise console.CommandFailed(f"No image with ID {image_id} was found") from None
    except (exception.NotAuthorized, exception.Duplicate):
        # The image is as it was.
        raise
    except exception.ClientConnectionError as err:
        if isinstance(err, response.NotConnected):
            raise
        raise console.CommandFailed(f"{err}; see its status: glance show {image_id}") from err
    except KeyboardInterrupt as err:
        raise console.Interrupted(notes.remains(call, image_id)) from err
    except (exception.Error, OSError) as err:
        text = (getattr(err, "strerror", None) or str(err)).removesuffix(".")
        remains = "" if is_unsent(err) else f"; {notes.remains(call, image_id)}"
        raise console.CommandFailed(f"{text}{remains}") from err


def is_unsent(err: BaseException) -> bool:
    """Return whether an error of the client's own came before anything was sent."""
    return isinstance(err, exception.Invalid) and err.status is None


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


def check_file_option(call: commands.CommandCall) -> None:
    """Raise CommandFailed if --file has no name.

    NOTE: standard input is not looked at beside --file. In a loop that reads lines from a file,
    this file is the standard input of every command.
    """
    if call.options.file == "":
        raise console.CommandFailed("--file needs the name of a file")


def check_stdin(call: commands.CommandCall) -> None:
    """Raise CommandFailed if standard input can have no data that anybody means to upload."""
    if sys.stdin is not None and sys.stdin.isatty():
        raise console.CommandFailed(
            "Standard input is a terminal: use --file=FILE, or redirect standard input"
        )
    # Otherwise a forgotten --file would make an image of no bytes, for ever.
    if call.options.file is None and (sys.stdin is None or _is_null(sys.stdin)):
        raise console.CommandFailed(
            "Standard input has no data: use --file=FILE, which may name an empty file"
        )


def _is_null(stream: TextIO) -> bool:
    try:
        return os.fstat(stream.fileno()).st_rdev == os.stat(os.devnull).st_rdev
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def opened_data(call: commands.CommandCall) -> Iterator[BinaryIO | None]:
    """Yield the file of --file, or standard input; None if that is a terminal.

    Raises CommandFailed if the file cannot be read; nothing has been sent then.
    """
    path = call.options.file
    if path in (None, "-"):
        yield stdin_data()
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - errors of the upload are not those of the file
    except (OSError, ValueError) as err:
        raise console.CommandFailed(f"{getattr(err, 'strerror', None) or err}: {path}") from None
    with file:
        yield file


def stdin_data() -> BinaryIO | None:
    """Return standard input as the image's data; None if it is a terminal.

    Closed input counts as empty data, like /dev/null: scripts create empty images that way.
    """
    if sys.stdin is None:
        return io.BytesIO()
    return None if sys.stdin.isatty() else sys.stdin.buffer

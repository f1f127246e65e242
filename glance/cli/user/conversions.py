"""The commands of `glance` about conversions of images into other disk formats.

The server does the work; a job says how far it is. The shared error handler is in
`glance.cli.user.command`, options are in `glance.cli.user.commands`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from glance.cli.user import commands, ids, listing
from glance.cli.user.screen import console, notes, progress, tables
from glance.common import exception

if TYPE_CHECKING:
    from glance.image import types

T = TypeVar("T")

GROUP = "Conversion Commands"
SWITCHES = ("is_public", "compress", "force")
ARGUMENTS = ("disk_format", "name", "store", *SWITCHES)
#: Seconds between two looks at a job, the last one again and again.
PAUSES = (0.5, 1, 1, 2, 2, 3, 5)
#: How long a server that does not respond is asked for a job, in seconds.
PATIENCE = 120.0

COLUMNS = (
    tables.Column("ID", "id", 36, whole=True),
    tables.Column("Status", "status", 10),
    tables.Column("Done", "progress", 4, ">"),
    tables.Column("Source", "source_image_id", 7, ">", whole=True),
    tables.Column("Image", "image_id", 7, ">", whole=True),
    tables.Column("Disk Format", "disk_format", 11),
    tables.Column("Created", "created_at", 20, least=10),
)
#: Labels of what a job holds, in the order in which they are shown.
LABELS = {
    "id": "Id",
    "status": "Status",
    "phase": "Phase",
    "progress": "Progress",
    "source_image_id": "Source",
    "image_id": "Image",
    "source_format": "Source format",
    "disk_format": "Disk format",
    "owner": "Owner",
    "created_at": "Created",
    "started_at": "Started",
    "finished_at": "Finished",
    "bytes_in": "Bytes read",
    "bytes_out": "Bytes stored",
    "virtual_size": "Size of the disk",
    "attempts": "Attempts",
    "error": "Error",
}


@commands.command(
    "convert",
    "<ID> disk_format=<FORMAT> [field2=value2 ...]",
    "Converts an image into another disk format",
    group=GROUP,
    options=("wait", "dry_run", "format"),
    fields=ARGUMENTS,
    modern=True,
)
def convert(call: commands.CommandCall) -> int:
    """
    Has the server make a new image from an image, in another disk format:

      glance convert 12 disk_format=qcow2 compress=true

    The image with this id or name stays as it is. The fields may be given in any order:

      disk_format  raw, qcow2, vmdk, vdi or vhd; required
      name         name of the new image; default: that of the source with the format
      is_public    true, on or 1 make the new image public; default: false
      compress     true makes a smaller image, which takes longer; qcow2 only
      store        store for the data; default: chosen by the server
      force        true writes the image anew if it has the format already

    Any other field becomes a custom property of the new image, which has those of its source, too.

    The command prints the id of the conversion and that of the new image, which is queued until
    the conversion ends. With --wait it waits for that, and a terminal shows the percentage. The
    exit code is 0 if the image is active then, and 1 if the conversion failed or was cancelled.
    Ctrl-C ends the waiting only. conversion-show shows how far a conversion is.
    """
    if not call.args or "=" in call.args[0]:
        raise console.CommandFailed("Please specify the ID of the image to convert, then fields")
    image_id, *words = call.args
    values = _values(console.fields(words))
    if call.dry_run(f"Convert image {image_id} with:"):
        tables.print_rows(values)
        return 0
    job = _start(call, image_id, values)
    number, made = job["id"], job["image_id"]
    console.say(f"Queued conversion with ID: {number}", f"New image ID: {made}")
    if call.options.wait:
        job = _waited(call, job)
    if call.for_programs:
        print_job(call, job)
    return outcome(job) if call.options.wait else 0


def _values(found: dict[str, str]) -> dict[str, Any]:
    """Return what is sent for these fields. Raises CommandFailed if something is wrong."""
    values: dict[str, Any] = {}
    if not found.get("disk_format"):
        raise console.CommandFailed(
            "Please specify the format of the new image using disk_format=FORMAT"
        )
    for name in ARGUMENTS:
        if name in found:
            text = found.pop(name)
            values[name] = _switch(name, text) if name in SWITCHES else text
    if found:
        values["properties"] = found
    return values


def _switch(name: str, text: str) -> bool:
    from glance.image import fields as image_fields  # PERF: the client needs it

    word = text.strip().lower()
    if word in image_fields.TRUE_HEADER_WORDS:
        return True
    if word in image_fields.FALSE_WORDS or not word:
        return False
    raise console.CommandFailed(f"{name} is true or false, not {console.printable(text)}")


def _start(
    call: commands.CommandCall, reference: str, values: Mapping[str, Any]
) -> types.Conversion:
    """Have an image converted, and return the job. Raises CommandFailed if there is no image."""
    target, rest = values["disk_format"], dict(values)
    del rest["disk_format"]
    try:
        _, job = ids.with_id(
            call, reference, lambda i: call.client.convert_image(i, target, **rest)
        )
    except exception.NotFound as err:
        if _is_there(call, reference):
            raise console.CommandFailed(f"{call.server} does not convert images") from err
        raise console.CommandFailed(f"No image with ID {reference} was found") from None
    except KeyboardInterrupt as err:
        raise console.Interrupted(
            "the server may have begun a conversion; see: glance conversions"
        ) from err
    if not all(isinstance(job.get(name), str | int) for name in ("id", "image_id", "status")):
        raise console.CommandFailed(
            f"The response of {call.server} does not describe a conversion: is it glance-api?"
        )
    return job


def _is_there(call: commands.CommandCall, reference: str) -> bool:
    """Return whether an image is there, of which the server has said that something is not."""
    try:
        ids.with_id(call, reference, lambda i: ids.meta(call, i))
    except (exception.Error, console.CommandRefused):
        return False
    return True


# -- waiting -------------------------------------------------------------------------------------


def is_final(job: Mapping[str, Any]) -> bool:
    from glance.image import conversion_job  # PERF: for --wait only

    try:
        return conversion_job.Status(str(job.get("status"))).is_final
    except ValueError:
        return False


def _waited(call: commands.CommandCall, job: types.Conversion) -> types.Conversion:
    """Return a job at its end. Raises Interrupted, and CommandFailed if it can be read no more."""
    number = str(job["id"])
    # Whoever reads the ids from a pipe wants them before the end.
    sys.stdout.flush()
    try:
        with progress.described(f"conversion of image {job.get('source_image_id')}") as tell:
            return _polled(call, number, job, tell)
    except KeyboardInterrupt as err:
        raise console.Interrupted(
            f"the conversion goes on; see: glance conversion-show {number}"
        ) from err
    except exception.Error as err:
        raise console.CommandFailed(
            f"{str(err).removesuffix('.')}; the conversion may go on, see: "
            f"glance conversion-show {number}"
        ) from err


def _polled(
    call: commands.CommandCall,
    number: str,
    job: types.Conversion,
    tell: Callable[[str], None],
) -> types.Conversion:
    heard = time.monotonic()
    looks = 0
    while True:
        tell(state(job))
        if is_final(job):
            return job
        time.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
        looks += 1
        try:
            job = call.client.get_conversion(number)
            heard = time.monotonic()
        except (exception.ServiceUnavailable, exception.ClientConnectionError):
            # The job does not depend on a server that is restarted meanwhile.
            if time.monotonic() - heard > PATIENCE:
                raise


def state(job: Mapping[str, Any]) -> str:
    """Return how far a job is, for the line on a terminal."""
    words = [str(job.get("phase") or job.get("status"))]
    if isinstance(job.get("progress"), int):
        words.insert(0, f"{job['progress']:3}%")
    error = job.get("error")
    if isinstance(error, Mapping) and not is_final(job):
        words.append(f"({error.get('code')})")
    return " ".join(words)


def outcome(job: Mapping[str, Any]) -> int:
    """Return the exit code for a job at its end; print in a line why it has no result."""
    status = job.get("status")
    if status == "succeeded":
        return 0
    error = job.get("error")
    if isinstance(error, Mapping):
        text = f"{error.get('message') or ''} ({error.get('code')})"
        console.complain(f"the conversion has {status}: {text.strip()}")
    elif status == "cancelled":
        console.complain("the conversion was cancelled")
    else:
        console.complain(f"the conversion has {status}")
    return 1


# -- jobs ----------------------------------------------------------------------------------------


@commands.command(
    "conversions",
    "",
    "Lists conversions",
    group=GROUP,
    options=("status", "limit", "marker", "force", "format"),
    modern=True,
)
def conversions(call: commands.CommandCall) -> int:
    """
    Lists your conversions, newest first: id, state, percentage, the ids of the source and of the
    new image, format and time. Administrators see those of all owners.

    --status lists only those in one state: queued, running, cancelling, succeeded, failed or
    cancelled. The server forgets a conversion some days after it has ended.

    On a terminal, the command asks before it prints the next page of --limit conversions, unless
    --force is given.
    """
    call.at_most(0)
    status = call.options.status

    def fetch(limit: int, marker: Any) -> list[dict[str, Any]]:
        found: list[Any] = call.client.get_conversions(status=status, limit=limit, marker=marker)
        return found

    def nothing() -> None:
        notes.note(f"you have no conversions{f' that are {status}' if status else ''}.")

    found = listing.turned(call, fetch, nothing)
    if call.as_values:
        for page in found:
            call.print_values([job.get(column.key) for column in COLUMNS] for job in page)
    elif call.for_programs:
        call.print_json_list(found)
    else:
        table = tables.Table(COLUMNS, tables.room())
        for page in found:
            table.print(_row(job) for job in page)
    return 0


def _row(job: Mapping[str, Any]) -> dict[str, Any]:
    done = job.get("progress")
    return {**job, "progress": "" if done is None else f"{done}%"}


@commands.command(
    "conversion-show",
    "<CONVERSION>",
    "Shows a conversion",
    group=GROUP,
    options=("format",),
    modern=True,
)
def conversion_show(call: commands.CommandCall) -> int:
    """
    Shows the state of a conversion, by its id, and why it failed if it did.
    """
    print_job(call, _asked(_number(call), lambda i: call.client.get_conversion(i)))
    return 0


@commands.command(
    "conversion-cancel",
    "<CONVERSION>",
    "Cancels a conversion",
    group=GROUP,
    options=("dry_run",),
    modern=True,
)
def conversion_cancel(call: commands.CommandCall) -> int:
    """
    Cancels a conversion, by its id. The image that it should have made is killed; delete it with
    the command delete. A conversion that has ended is forgotten, and the images stay.
    """
    number = _number(call)
    if call.dry_run(f"Cancel conversion {number}"):
        return 0
    job = _asked(number, lambda i: call.client.cancel_conversion(i))
    if job is None:
        console.say(f"Forgot conversion {number}, which had ended before; its images stay")
    else:
        done = "Cancelled" if job.get("status") == "cancelled" else "Cancelling"
        console.say(f"{done} conversion {number}")
    return 0


def _number(call: commands.CommandCall) -> str:
    """Return the id of the conversion that the command names."""
    if not call.args or not call.args[0]:
        raise console.CommandFailed("Please specify the ID of the conversion")
    call.at_most(1)
    return call.args[0]


def _asked(number: str, ask: Callable[[str], T]) -> T:
    """Return what `ask` returns for a conversion. Raises CommandFailed if there is none."""
    try:
        return ask(number)
    except exception.NotFound:
        raise console.CommandFailed(f"No conversion with ID {number} was found") from None


def print_job(call: commands.CommandCall, job: Mapping[str, Any]) -> None:
    """Print a job: a line for each of its values, or as JSON, or the values alone."""
    if call.as_values:
        call.print_values([_shown(job.get(name))] for name in LABELS)
    elif call.for_programs:
        call.print_json(job)
    else:
        for name, label in LABELS.items():
            if job.get(name) is not None:
                percent = "%" if name == "progress" else ""
                console.say(f"{label}: {_shown(job[name])}{percent}")


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return f"{value.get('message') or ''} ({value.get('code')})".strip()
    return value

"""The commands of `glance` that remove images, delete and clear, and the one that restores one.

The shared error handler is in `glance.cli.user.command`, the options are in
`glance.cli.user.commands`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from glance.cli.user import commands, ids, listing
from glance.cli.user.screen import console
from glance.common import exception

if TYPE_CHECKING:
    from glance.image import types


@commands.command(
    "delete",
    "<ID>",
    "Deletes an image",
    failure="delete image",
    options=("force", "dry_run"),
)
def delete(call: commands.CommandCall) -> int:
    """
    Deletes an image: its metadata and its data. Asks for confirmation, unless --force is given.

    You can give several ids. The command then asks once for all, and reports each; the exit code
    is 1 if one of them could not be deleted. Instead of an id, you can give the exact name of an
    image, if no other image has it.
    """
    ids.first(
        call,
        "Please specify the ID of the image you wish to delete ",
        "as the first argument",
    )
    wanted = references(call)
    asked = {image_id: target.name for image_id, target in wanted.items() if target.exists}
    if asked:
        described = _in_words(asked)
        if not call.confirm(f"Delete {described}?"):
            raise console.CommandRefused(f"Not deleting {described}")
        if call.dry_run(*(f"Delete image {image_id}" for image_id in asked)):
            missing = [image_id for image_id in wanted if image_id not in asked]
            return max(map(ids.not_found, missing), default=0)
    if len(wanted) > 1 or not asked:
        done = [delete_listed(call, image_id, target) for image_id, target in wanted.items()]
        return 0 if all(done) else 1
    (image_id,) = wanted
    try:
        call.client.delete_image(image_id)
    except exception.NotFound:
        return ids.not_found(image_id)
    console.say(f"Deleted image {image_id}")
    return 0


class Deletion(NamedTuple):
    """What an argument of `delete` means: by which name it was given, and if it may exist."""

    name: str | None = None
    exists: bool = True


def references(call: commands.CommandCall) -> dict[str, Deletion]:
    """Return what the arguments mean by id, each once; one that means nothing stays as it is.

    Raises CommandFailed if several images have a name, so that nothing is deleted then.
    """
    found: dict[str, Deletion] = {}
    # Of the images that are named by something else.
    numbers: set[str] = set()
    for reference in call.args:
        if ids.is_number(reference) or "://" in reference:
            if reference not in numbers:
                found.setdefault(reference, Deletion())
            continue
        try:
            # NOTE: an id wins, so it is looked for first.
            image_id, meta = ids.with_id(call, reference, lambda i: ids.meta(call, i))
        except exception.NotFound:
            found.setdefault(reference, Deletion(exists=False))
            continue
        number = str(meta.get("id"))
        if number not in found and number not in numbers:
            found[image_id] = Deletion(None if image_id == reference else reference)
            numbers.add(number)
    return found


def _in_words(wanted: dict[str, str | None]) -> str:
    shown = [
        image_id if name is None else f"{image_id} ({name})" for image_id, name in wanted.items()
    ]
    if len(shown) == 1:
        return f"image {shown[0]}"
    return f"images {', '.join(shown[:-1])} and {shown[-1]}"


def delete_listed(call: commands.CommandCall, image_id: str, target: Deletion) -> bool:
    """Delete one of several images and print the outcome; return False if that failed."""
    if not target.exists:
        ids.not_found(image_id)
        return False
    try:
        if not _try_to_delete(call, image_id):
            return False
    except exception.NotFound:
        ids.not_found(image_id)
        return False
    console.say(f"Deleted image {image_id}")
    return True


def _try_to_delete(call: commands.CommandCall, image_id: object) -> bool:
    """Delete an image and return True; print why it could not be, and return False.

    Raises NotFound, and ClientConnectionError, after which no other image can be deleted either.
    """
    try:
        call.client.delete_image(image_id)
    except (exception.ClientConnectionError, exception.NotFound):
        raise
    except exception.Error as err:
        _print_failure(image_id, err)
        return False
    return True


def _print_failure(image_id: object, err: exception.Error) -> None:
    console.say(f"Failed to delete image {image_id}")
    console.print_error(err)


@commands.command(
    "clear",
    "",
    "Deletes all images",
    failure="delete all images",
    options=("force", "dry_run"),
)
def clear(call: commands.CommandCall) -> int:
    """
    Deletes all images that you may see. Asks for confirmation, unless --force is given.

    Images that cannot be deleted are reported and skipped; the exit code is then 1.
    """
    call.at_most(0)
    if not call.confirm("Delete all images?"):
        raise console.CommandRefused("Not deleting any images")
    if call.options.dry_run:
        call.dry_run(*(f"Delete image {image['id']}" for image in listing.all_images(call)))
        return 0
    # Image id -> whether it was deleted.
    done: dict[Any, bool] = {}
    # NOTE: images may be added meanwhile, so the list is read until it has nothing new.
    while True:
        todo = [image for image in listing.all_images(call) if image["id"] not in done]
        if not todo:
            return 0 if all(done.values()) else 1
        for image in todo:
            done[image["id"]] = delete_one(call, image)


def delete_one(call: commands.CommandCall, image: types.BriefImage) -> bool:
    """Delete one of many images and print the outcome; return False if that failed."""
    if call.options.verbose:
        console.say(f'Deleting image {image["id"]} "{image["name"]}" ... ', end="")
    try:
        if not _try_to_delete(call, image["id"]):
            return False
    except exception.NotFound as err:
        _print_failure(image["id"], err)
        return False
    if call.options.verbose:
        print("done")
    return True


@commands.command(
    "restore",
    "<ID>",
    "Restores a deleted image",
    group="Further Commands",
    options=("dry_run", "format"),
    modern=True,
)
def restore(call: commands.CommandCall) -> int:
    """
    Restores a deleted image whose data has not been removed yet: it is active again, with its
    properties. For administrators only, who list deleted images with:

      glance index --deleted --long

    Images whose status is pending_delete can be restored.
    """
    if not call.args:
        raise console.CommandFailed("Please specify the ID of the image you wish to restore")
    call.at_most(1)
    (image_id,) = call.args
    if call.dry_run(f"Restore image {image_id}"):
        return 0
    image = call.client.restore_image(image_id, with_uuid=call.for_programs)
    if call.for_programs:
        call.print_json(image)
    console.say(f"Restored image {image['id']}")
    return 0

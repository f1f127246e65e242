"""The commands of `glance` that remove images: delete and clear.

The shared error handler is in `glance.cli.user.command`, the options are in
`glance.cli.user.commands`.
"""

from __future__ import annotations

from typing import Any

from glance.cli.user import commands, console, ids, listing
from glance.common import exception
from glance.image import types


@commands.command(
    "delete", "<ID>", "Deletes an image", failure="delete image", options=("force", "dry_run")
)
def delete(call: commands.CommandCall) -> int:
    """
    Deletes an image: its metadata and its data. Asks for confirmation, unless --force is given.
    """
    image_id = ids.first(
        call,
        "Please specify the ID of the image you wish to delete ",
        "as the first argument",
    )
    call.at_most(1)
    if not call.confirm(f"Delete image {image_id}?"):
        raise console.CommandRefused(f"Not deleting image {image_id}")
    if call.dry_run(f"Delete image {image_id}"):
        return 0
    try:
        call.client.delete_image(image_id)
    except exception.NotFound:
        return ids.not_found(image_id)
    console.say(f"Deleted image {image_id}")
    return 0


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
        call.client.delete_image(image["id"])
    except exception.ClientConnectionError:
        raise
    except exception.Error as err:
        console.say(f"Failed to delete image {image['id']}")
        console.print_error(err)
        return False
    if call.options.verbose:
        print("done")
    return True

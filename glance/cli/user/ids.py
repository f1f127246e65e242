"""The images that commands of `glance` are told to work on, by id or by name.

An id that exists always wins. A name stands for an image if it is exactly that of one image which
the caller may see. Commands that change something take a number or a UUID for an id only: ids are
never used again, but the name of another image may be the id of one that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from glance.cli.user import commands
from glance.cli.user.screen import console, progress
from glance.common import exception

if TYPE_CHECKING:
    from glance.image import types

T = TypeVar("T")

#: How many images a request for a name may return.
PAGE = 1000
#: How many of them an error names.
SHOWN = 10


def first(call: commands.CommandCall, *complaint: str) -> str:
    """Return the first positional argument; raise CommandRefused with these lines if none."""
    if not call.args:
        raise console.CommandRefused("\n".join(complaint))
    return call.args[0]


def not_found(image_id: str) -> int:
    console.say(f"No image with ID {image_id} was found")
    return 1


def meta(call: commands.CommandCall, image_id: str) -> types.DetailedImage:
    """Return the attributes of an image, with its uuid if the server tells one.

    Raises NotFound, and CommandFailed for what is no image: a web server may have a page for every
    path.
    """
    found = call.client.get_image_meta(image_id, with_uuid=True)
    if found.get("id") is None:
        raise console.CommandFailed(
            f"The response of {call.server} does not describe an image: is it glance-api?"
        )
    return found


def is_number(reference: str) -> bool:
    return reference.isascii() and reference.isdigit()


def is_uuid(reference: str) -> bool:
    from glance.image import fields  # PERF: the client needs it

    return fields.parse_uuid(reference) is not None


def with_id(
    call: commands.CommandCall,
    reference: str,
    action: Callable[[str], T],
    *,
    reads: bool = False,
) -> tuple[str, T]:
    """Call `action` with `reference`, or else with the id of the image of that name.

    Returns the id, as it was given or found, and the result. An action that only `reads` takes
    numbers and UUIDs for names, too. Raises the errors of the action, NotFound if there is no such
    image, and CommandFailed if several have the name. Makes one request more than the action does
    twice.
    """
    try:
        return reference, action(reference)
    except (exception.NotFound, exception.Invalid) as err:
        # NOTE: what no id may be, such as a text with a slash, may be a name.
        if isinstance(err, exception.Invalid) and (err.status is not None or not reference):
            raise
        is_id = not reads and (is_number(reference) or is_uuid(reference))
        image_id = None if is_id else named(call, reference)
        if image_id is None:
            raise
    return image_id, action(image_id)


def named(call: commands.CommandCall, name: str) -> str | None:
    """Return the id of the only image with exactly this name; None if there is none.

    Raises CommandFailed, with the candidates, if there are several.
    """
    if "://" in name:
        return None
    try:
        page = call.client.get_images(
            filters={"name": name, "is_public": "none"}, limit=PAGE, sort_key="id", sort_dir="asc"
        )
    except exception.Invalid:
        # No image can have such a name.
        return None
    # NOTE: some databases compare without regard to case.
    found = [image for image in page if image.get("name") == name]
    if len(found) > 1:
        shown = ", ".join(map(_candidate, found[:SHOWN]))
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise console.CommandFailed(
            f"{len(found)} images are named {name}; give the ID of one: {shown}{more}"
        )
    return str(found[0]["id"]) if found else None


def _candidate(image: types.BriefImage) -> str:
    size = progress.amount(image.get("size") or 0)
    return f"{image['id']} ({image.get('disk_format')}, {size})"

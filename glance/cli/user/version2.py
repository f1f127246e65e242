"""What version 2 of the API alone knows of the images that commands of `glance` show.

The commands use version 1. Of version 2 they ask only what somebody wants to see: its attributes
in `glance.cli.user.screen.columns.V2`. A server without version 2 has none of them, which is no
error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from glance.cli.user import commands
from glance.cli.user.screen import columns, notes, tables
from glance.common import exception

#: Responses of a server, or of a proxy in front of it, that serves version 1 alone.
UNSERVED = (exception.MultipleChoices, exception.Forbidden)


class Images:
    """Adds attributes of version 2 to images.

    A server that turns out not to serve version 2 is not asked again.
    """

    def __init__(self, call: commands.CommandCall):
        self._call = call
        self._is_served = True

    def complete(self, image: dict[str, Any], names: Iterable[str]) -> None:
        """Add the attributes with these names to an image of version 1, as far as there are any.

        Takes up to two requests. Raises Error if one of them fails otherwise than by the absence
        of the image or of version 2.
        """
        wanted = {*names} - image.keys()
        if not wanted or not self._is_served:
            return
        try:
            image.update(self._found(image, wanted))
        except UNSERVED:
            self._is_served = False
        except exception.NotFound:
            # It was deleted meanwhile, or before.
            pass

    def _found(self, image: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
        client = self._call.client
        uuid = image.get("uuid")
        if uuid is None:
            uuid = client.get_image_meta(image.get("id"), with_uuid=True).get("uuid")
        if uuid is None:
            self._is_served = False
            return {}
        image["uuid"] = uuid
        if wanted <= {"uuid"}:
            return {}
        found = client.get_image_v2(uuid)
        return {name: found[name] for name in columns.V2_KEYS if name in found}


def completed(
    call: commands.CommandCall, image: dict[str, Any], named: Sequence[tables.Column] | None
) -> dict[str, Any]:
    """Return one image with the attributes that are `named`, or else with all of them.

    Nobody has asked for the latter, so that their absence is a note on standard error.
    """
    if named:
        Images(call).complete(image, names_of(named))
        return image
    try:
        Images(call).complete(image, columns.V2_KEYS)
    except exception.Error as err:
        notes.note(f"what version 2 of the API knows of the image is missing: {err}")
    return image


def all_completed(
    call: commands.CommandCall,
    named: Sequence[tables.Column],
    pages: Iterable[list[dict[str, Any]]],
) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages with the attributes of version 2 that are `named` in each image."""
    names, images = names_of(named), Images(call)
    for page in pages:
        for image in page:
            images.complete(image, names)
        yield page


def names_of(named: Iterable[tables.Column]) -> list[str]:
    """Return the names of the attributes of version 2 among columns."""
    return [column.key for column in named if column.key in columns.V2_KEYS]

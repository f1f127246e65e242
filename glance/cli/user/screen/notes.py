"""Notes for people, on standard error: what a result means that scripts need not be told.

The commands print their documented messages themselves; what is said here is beside those.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from glance.cli.user import commands
from glance.cli.user.screen import console
from glance.common import exception


def note(text: str) -> None:
    """Print one line on standard error."""
    console.say(f"Note: {text}", to=sys.stderr)


def private(image: Mapping[str, Any]) -> None:
    """Say who sees a new image, unless it is public; an old server may not say whether it is."""
    if image.get("is_public") is not False:
        return
    owner = image.get("owner")
    if owner:
        note(
            f"the image is private: only its owner {owner}, its members and administrators see "
            "it. Add is_public=true to make an image public."
        )
        return
    # A server without authentication records no owner, and takes everybody for an administrator.
    note(
        "the image is private and has no owner, so lists leave it out. Administrators, and "
        "everybody without authentication, list it with: glance index is_public=none"
    )


def nothing_listed(call: commands.CommandCall, filters: Mapping[str, Any]) -> None:
    """Say what an empty list means.

    Unless `filters` has is_public, one more request looks for images that this list leaves out:
    the server alone knows whether the caller is an administrator. Its failure is not told.
    """
    deleted = call.options.deleted
    kind = "deleted image" if deleted else "image"
    shown = [name for name in filters if not (deleted and name in ("is_public", "deleted"))]
    nothing = f"no {kind}{' with these fields' if shown else ''} is visible to you."
    if "is_public" in filters:
        note(nothing)
        return
    try:
        hidden = call.client.get_images(filters={**filters, "is_public": "none"}, limit=1)
    except exception.Error:
        hidden = []
    if hidden:
        words = " with these fields" if filters else ""
        note(f"there are no public images{words}. To list private ones too, add is_public=none")
    elif call.client.auth_tok:
        note(nothing)
    else:
        note(
            f"{nothing} You sent no token; a server with authentication then shows public images "
            "only."
        )


def remains(call: commands.CommandCall, image_id: object) -> str:
    """Return a sentence about an image whose upload has failed: its status, and what to do."""
    try:
        status = str(call.client.get_image_meta(image_id).get("status"))
    except exception.NotFound:
        return f"nothing remains of image {image_id}"
    except exception.Error:
        return f"the status of image {image_id} is not known; see: glance show {image_id}"
    if status == "queued":
        hint = f"upload its data with: glance upload {image_id} --file=FILE"
    elif status == "active":
        hint = f"see: glance show {image_id}"
    else:
        hint = f"delete it with: glance delete {image_id}"
    return f"image {image_id} is {status}; {hint}"

"""The ids of images that commands of `glance` take."""

from __future__ import annotations

from glance.cli.user import commands, console


def first(call: commands.CommandCall, *complaint: str) -> str:
    """Return the first positional argument; raise CommandRefused with these lines if none."""
    if not call.args:
        raise console.CommandRefused("\n".join(complaint))
    return call.args[0]


def not_found(image_id: str) -> int:
    console.say(f"No image with ID {image_id} was found")
    return 1

"""The commands of `glance` about members, with whom an image is shared.

The shared error handler is in `glance.cli.user.command`, options are in
`glance.cli.user.commands`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glance.cli.user import commands, ids
from glance.cli.user.screen import console
from glance.common import exception

GROUP = "Member Commands"
SHARER = "New member would have been able to further share image."


@commands.command(
    "image-members",
    "<ID>",
    "Lists the members an image is shared with",
    group=GROUP,
    failure="show image members",
    options=("format",),
)
def image_members(call: commands.CommandCall) -> int:
    """
    Lists the members that an image is shared with. An asterisk marks those that may share it
    further.
    """
    if not call.args:
        raise console.CommandRefused("Please specify the ID of the image as the first argument")
    call.at_most(1)
    _, members = ids.with_id(call, call.args[0], call.client.get_image_members, reads=True)
    print_memberships(call, members, "member_id")
    return 0


@commands.command(
    "member-images",
    "<MEMBER>",
    "Lists the images shared with a member",
    group=GROUP,
    failure="show member images",
    options=("format",),
)
def member_images(call: commands.CommandCall) -> int:
    """
    Lists the ids of the images that are shared with a member. An asterisk marks those that the
    member may share further.
    """
    if not call.args:
        raise console.CommandRefused("Please specify the ID of the member as the first argument")
    call.at_most(1)
    try:
        shared = call.client.get_member_images(call.args[0])
    except exception.NotFound:
        console.say(f"No images shared with member {call.args[0]}")
        shared = []
    print_memberships(call, shared, "image_id")
    return 0


@commands.command(
    "member-add",
    "<ID> <MEMBER>",
    "Shares an image with a member",
    group=GROUP,
    failure="add image member",
    options=("can_share", "dry_run"),
)
def member_add(call: commands.CommandCall) -> int:
    """
    Shares an image with a member. With --can-share, the member may share it further. Without it,
    an existing member keeps its right to share, and a new member has none.
    """
    image_id, member = image_and_member(call)
    lines = [f'Add "{member}" to membership of image {image_id}']
    if call.dry_run(*lines, *([SHARER] if call.options.can_share else [])):
        return 0
    can_share = True if call.options.can_share else None
    ids.with_id(call, image_id, lambda i: call.client.add_member(i, member, can_share))
    return 0


@commands.command(
    "member-delete",
    "<ID> <MEMBER>",
    "Stops sharing an image with a member",
    group=GROUP,
    failure="delete image member",
    options=("dry_run",),
)
def member_delete(call: commands.CommandCall) -> int:
    """
    Stops sharing an image with a member.
    """
    image_id, member = image_and_member(call)
    if call.dry_run(f'Remove "{member}" from the member list of image "{image_id}"'):
        return 0
    ids.with_id(call, image_id, lambda i: call.client.delete_member(i, member))
    return 0


@commands.command(
    "members-replace",
    "<ID> <MEMBER>",
    "Shares an image with one member only",
    group=GROUP,
    failure="update image members",
    options=("can_share", "dry_run"),
)
def members_replace(call: commands.CommandCall) -> int:
    """
    Shares an image with this member and nobody else. With --can-share, the member may share it
    further.
    """
    image_id, member = image_and_member(call)
    lines = [f'Replace members of image {image_id} with "{member}"']
    if call.dry_run(*lines, *([SHARER] if call.options.can_share else [])):
        return 0
    association = {"member_id": member, "can_share": call.options.can_share}
    ids.with_id(call, image_id, lambda i: call.client.replace_members(i, association))
    return 0


def image_and_member(call: commands.CommandCall) -> Sequence[str]:
    if len(call.args) < 2:
        raise console.CommandRefused("Please specify the image ID and the member name")
    call.at_most(2)
    return call.args


def print_memberships(
    call: commands.CommandCall, memberships: Sequence[Mapping[str, Any]], key: str
) -> None:
    """Print one id per line, with an asterisk and a legend for those that may share."""
    if call.as_values:
        call.print_values([found[key], found["can_share"]] for found in memberships)
        return
    if call.for_programs:
        call.print_json_list([memberships])
        return
    for membership in memberships:
        star = " *" if membership["can_share"] else ""
        console.say(f"{membership[key]}{star}")
    if any(membership["can_share"] for membership in memberships):
        print("\n(*: Can share image)")

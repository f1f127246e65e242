"""What OpenAPI says of the requests about members: the same of version 1 and of the registry."""

from __future__ import annotations

from glance.common import exception
from glance.http import openapi

list_members = openapi.operation(
    "list_members", responses={200: openapi.json_of("Members", "The memberships.")}
)
list_shared_images = openapi.operation(
    "list_shared_images", responses={200: openapi.json_of("SharedImages", "The images.")}
)
replace_members = openapi.operation(
    "replace_members",
    body=openapi.json_of("Memberships", "All members of the image."),
    responses={204: openapi.nothing("The image is shared with them, and nobody else.")},
    errors=(exception.Conflict,),
)
add_member = openapi.operation(
    "add_member",
    body=openapi.Content(
        {openapi.JSON: openapi.ref("MemberToAdd")}, "The right to share it on.", required=False
    ),
    responses={204: openapi.nothing("The image is shared with the member.")},
    errors=(exception.Conflict,),
)
remove_member = openapi.operation(
    "remove_member", responses={204: openapi.nothing("The member has no right to the image.")}
)

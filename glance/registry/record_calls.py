"""The registry's records as version 2 of the Images API needs them: a part of `RegistryLink`.

An image is named by its uuid. Every call takes the caller's request context first.

Errors, besides those that `glance.registry.link` describes: NotFound if the caller cannot see the
image, Forbidden if it can but may not do this, Conflict if the image is in another status or lacks
a property, Duplicate for what is there already, LimitExceeded beyond a quota, Invalid for values
that break the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from glance.identity.context import RequestContext
from glance.image import search, types
from glance.registry import client
from glance.registry.measured_calls import measured
from glance.registry.translation import CONFLICTS, TRANSLATED


@measured
class RecordCalls:
    """Calls about records; `client_for` is that of the link."""

    def client_for(self, context: RequestContext) -> client.RegistryClient:
        """Return a client that speaks for the caller of `context`."""
        raise NotImplementedError

    # -- images ----------------------------------------------------------------------------------

    def find_images(self, context: RequestContext, query: search.SearchQuery) -> types.Page:
        """Return one page of the images that a query finds and the caller may list.

        Invalid if the marker is not an image that the caller can see.
        """
        with TRANSLATED:
            return self.client_for(context).find_records(query)

    def find_public_images(
        self, context: RequestContext, query: search.SearchQuery
    ) -> types.PublicPage:
        """Return what `find_images` does, as version 2 of the Images API shows it."""
        with TRANSLATED:
            return self.client_for(context).find_public_records(query)

    def get_record(self, context: RequestContext, uuid: str) -> types.FullRecord:
        """Return the record of an image that is not deleted."""
        with TRANSLATED:
            return self.client_for(context).get_record(uuid)

    def create_record(
        self,
        context: RequestContext,
        values: Mapping[str, Any],
        tags: Iterable[str] = (),
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> types.FullRecord:
        """Create a queued record and return it.

        `values` have names of fields, and `properties`. With a `uuid` the image gets this one:
        Duplicate if another image has or had it. Without `visibility` it is shared, without
        `owner` the caller's. `attempt` and `is_repeated` as `add_image_metadata`.
        """
        with TRANSLATED:
            return self.client_for(context).create_record(values, tags, attempt, is_repeated)

    def patch_record(
        self,
        context: RequestContext,
        uuid: str,
        change: types.Change,
        is_repeated: bool = False,
    ) -> types.FullRecord:
        """Change a record in one transaction and return it.

        A change without effect leaves `updated_at` as it is. Conflict for a property of
        `must_exist` or `remove` that is not there, and for a status that is not in `from_state`;
        but a call that `is_repeated` may find that the change has been made.
        """
        with TRANSLATED, CONFLICTS:
            return self.client_for(context).patch_record(uuid, change, is_repeated)

    def delete_record(
        self, context: RequestContext, uuid: str, status: str | None = None, **waiting: int
    ) -> types.FullRecord:
        """Delete a record and return it; `status` and `waiting` as `delete_image_metadata`."""
        with TRANSLATED:
            return self.client_for(context).delete_record(uuid, status, **waiting)

    def set_state(
        self,
        context: RequestContext,
        uuid: str,
        from_states: Collection[str],
        to: str,
        values: Mapping[str, Any] | None = None,
    ) -> types.FullRecord:
        """Take an image from one of `from_states` to the status `to`, and return its record.

        `values` are fields that change with it: size, checksum, location, os_hash_algo,
        os_hash_value, virtual_size, upload_via. Conflict if another request was first.
        """
        with TRANSLATED, CONFLICTS:
            return self.client_for(context).set_state(uuid, from_states, to, values)

    # -- members ---------------------------------------------------------------------------------

    def get_record_members(self, context: RequestContext, uuid: str) -> list[types.MemberRecord]:
        """Return the memberships of a shared image, oldest first; for a member only its own.

        Forbidden for an image that is not shared.
        """
        with TRANSLATED:
            return self.client_for(context).get_record_members(uuid)

    def get_record_member(
        self, context: RequestContext, uuid: str, member: str
    ) -> types.MemberRecord:
        """Return one membership; NotFound also for that of another than the caller."""
        with TRANSLATED:
            return self.client_for(context).get_record_member(uuid, member)

    def add_record_member(
        self, context: RequestContext, uuid: str, member: str
    ) -> types.MemberRecord:
        """Share an image with a member, who is pending; Duplicate if it is a member."""
        with TRANSLATED:
            return self.client_for(context).add_record_member(uuid, member)

    def set_member_status(
        self, context: RequestContext, uuid: str, member: str, status: str
    ) -> types.MemberRecord:
        """Set the status of a membership, which the member itself or an administrator may do.

        `status` is pending, accepted or rejected. Forbidden for the owner, NotFound for another
        member.
        """
        with TRANSLATED:
            return self.client_for(context).set_member_status(uuid, member, status)

    def remove_record_member(self, context: RequestContext, uuid: str, member: str) -> None:
        """End a membership; NotFound if there is none."""
        with TRANSLATED:
            self.client_for(context).remove_record_member(uuid, member)

    # -- tags ------------------------------------------------------------------------------------

    def add_tag(self, context: RequestContext, uuid: str, tag: str) -> None:
        """Give an image a tag, which it may have already."""
        with TRANSLATED:
            self.client_for(context).add_tag(uuid, tag)

    def remove_tag(self, context: RequestContext, uuid: str, tag: str) -> None:
        """Take a tag from an image; NotFound if it does not have it."""
        with TRANSLATED:
            self.client_for(context).remove_tag(uuid, tag)

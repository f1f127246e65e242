"""Changes of records that are repeated if the response of the registry is lost.

A caller of the API must not learn from such a change, which may have been made by the lost call,
that it is impossible: a member is there already, a tag or a property is gone. So each function
looks after a refusal that the lost call can have caused. Errors, besides those of
`glance.registry.record_calls`: RegistryUnavailable, when it stays unknown what became of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from glance import api
from glance.api import recovery, upload
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import types
from glance.registry import link
from glance.registry.record_calls import RecordCalls

T = TypeVar("T")


def create(
    service: api.ImageService,
    context: RequestContext,
    creation: link.OnceCall,
    add: Callable[[str, bool], T],
) -> T:
    """Make a record and return it; what the registry may have made without a response, withdraw.

    `add` takes the name of the attempt and whether it is repeated.
    """
    try:
        return creation.make(
            lambda: add(creation.attempt, creation.undecided), upload.ACTIVATION_BACKOFF
        )
    except BaseException:
        if creation.undecided:
            recovery.withdraw_later(service, context, creation.attempt)
        raise


def make(call: Callable[[bool], T]) -> T:
    """Return what `call` returns; it takes whether it is repeated."""
    once = link.OnceCall()
    return once.make(lambda: call(once.undecided), upload.ACTIVATION_BACKOFF)


def patch_record(
    registry: RecordCalls, context: RequestContext, uuid: str, change: types.Change
) -> types.FullRecord:
    """Do as `RecordCalls.patch_record` does."""
    return make(lambda is_repeated: registry.patch_record(context, uuid, change, is_repeated))


def set_state(
    registry: RecordCalls, context: RequestContext, uuid: str, states: Collection[str], to: str
) -> types.FullRecord:
    """Take an image to one of `states`, from the same one or any other of them."""
    return make(lambda is_repeated: registry.set_state(context, uuid, states, to))


def add_member(
    registry: RecordCalls, context: RequestContext, uuid: str, member: str
) -> types.MemberRecord:
    """Do as `RecordCalls.add_record_member` does."""

    def call(is_repeated: bool) -> types.MemberRecord:
        try:
            return registry.add_record_member(context, uuid, member)
        except exception.Duplicate:
            found = registry.get_record_member(context, uuid, member) if is_repeated else None
            if found is None or found["status"] != "pending":
                # The member has had time to decide, so it was not the lost call that added it.
                raise
            return found

    return make(call)


def set_member_status(
    registry: RecordCalls, context: RequestContext, uuid: str, member: str, status: str
) -> types.MemberRecord:
    """Do as `RecordCalls.set_member_status` does."""
    return make(lambda is_repeated: registry.set_member_status(context, uuid, member, status))


def remove_member(registry: RecordCalls, context: RequestContext, uuid: str, member: str) -> None:
    """Do as `RecordCalls.remove_record_member` does."""
    _remove(registry, context, uuid, lambda: registry.remove_record_member(context, uuid, member))


def add_tag(registry: RecordCalls, context: RequestContext, uuid: str, tag: str) -> None:
    """Do as `RecordCalls.add_tag` does."""
    make(lambda is_repeated: registry.add_tag(context, uuid, tag))


def remove_tag(registry: RecordCalls, context: RequestContext, uuid: str, tag: str) -> None:
    """Do as `RecordCalls.remove_tag` does."""
    _remove(registry, context, uuid, lambda: registry.remove_tag(context, uuid, tag))


def _remove(
    registry: RecordCalls, context: RequestContext, uuid: str, remove: Callable[[], None]
) -> None:
    """Remove a part of an image, which a call whose response was lost may have removed."""

    def call(is_repeated: bool) -> None:
        try:
            remove()
        except exception.NotFound as err:
            # The pool of connections repeats such a call by itself, too.
            if not (is_repeated or err.is_repeated):
                raise
            # NotFound if it is the image that is not there.
            registry.get_record(context, uuid)

    make(call)

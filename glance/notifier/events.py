"""What is told of images: the events, when they happen, and what their payloads hold.

The API and the scrubber call one method at each place where something has happened; whether it is
told, to whom and in which form is decided here and below. Payloads are put together from lists of
what may leave. SECURITY: a location, a path or a credential is on none of them, and the text of an
error is not used, because nobody vouches for what stands in it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glance import notifier
from glance.common import config, exception, hooks, httperror
from glance.identity import context

#: Which option switches an event on; those without one are always told.
SWITCHES: Mapping[str, str | None] = {
    "image.create": "notification_extended_events",
    "image.upload": None,
    "image.activate": "notification_extended_events",
    "image.update": None,
    "image.delete": None,
    "image.send": "notification_image_send",
    "image.scrub": "notification_extended_events",
    "image.member.create": "notification_extended_events",
    "image.member.update": "notification_extended_events",
    "image.member.delete": "notification_extended_events",
    "image.convert": "notification_extended_events",
}

#: The fields of an image that a payload holds, besides its own properties.
IMAGE_FIELDS = (
    "id",
    "name",
    "status",
    "size",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "is_public",
    "checksum",
    "owner",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
)
#: What an update changes in any case.
_UNTOLD = frozenset({"updated_at"})

REDACTED = "***"

Errors = type[BaseException] | tuple[type[BaseException], ...]


def pattern(text: str) -> re.Pattern[str]:
    """Convert a regular expression; ValueError for one that is none."""
    try:
        return re.compile(text.strip())
    except re.error as err:
        raise ValueError(f"use a regular expression: {err}") from None


OPTIONS = config.options(
    "notifications",
    config.Option(
        "notification_extended_events",
        config.boolean,
        False,
        help="Also emit events that Diablo did not have: images reserved, activated without an "
        "upload, scrubbed or converted, and changes of members.",
    ),
    config.Option(
        "notification_image_send",
        config.boolean,
        True,
        help="Emit an event when a download ends.",
    ),
    config.Option(
        "notification_redact_properties",
        pattern,
        re.compile(r"(?i)(password|passwd|secret|token|key)"),
        help="Regular expression. If it is found in the name of a custom property, the value of "
        "the property is replaced by three asterisks.",
    ),
)


class Events:
    """Tells of events, as the settings of one application say.

    All methods return at once and never raise an Exception.
    """

    def __init__(self, conf: config.Conf, sender: notifier.Notifier):
        self.sender = sender
        self._redact: re.Pattern[str] = conf.notification_redact_properties
        self._enabled = frozenset(
            name
            for name, switch in SWITCHES.items()
            if sender.enabled and (switch is None or conf[switch])
        )

    def is_enabled(self, event: str) -> bool:
        """Return whether anybody is told of an event, so that a payload is worth its costs."""
        return event in self._enabled

    def emit(
        self,
        event: str,
        who: context.RequestContext | None,
        payload: Any,
        *,
        priority: str = "INFO",
    ) -> None:
        """Tell of an event of SWITCHES, if its switch is on."""
        if event in self._enabled:
            self.sender.notify(event, priority, payload, who)

    # -- an image's life -------------------------------------------------------------------------

    def created(self, who: context.RequestContext, image: Mapping[str, Any]) -> None:
        """A record was made: reserved for data, or registered with data that lies elsewhere."""
        self._emit_image("image.create", who, image)

    def uploaded(self, who: context.RequestContext, image: Mapping[str, Any]) -> None:
        """An upload has ended well and `image` is active."""
        self._emit_image("image.upload", who, image)

    def activated(self, who: context.RequestContext, image: Mapping[str, Any]) -> None:
        """`image` has become active otherwise: by registration, copy or conversion."""
        self._emit_image("image.activate", who, image)

    def updated(
        self,
        who: context.RequestContext,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        """A client has changed an image. `changed` names what is different now."""
        if self.is_enabled("image.update"):
            names = (*IMAGE_FIELDS, "properties")
            changed = [
                name
                for name in names
                if name not in _UNTOLD and before.get(name) != after.get(name)
            ]
            payload = {**self.image_payload(after), "changed": changed}
            self.emit("image.update", who, payload)

    def deleted(
        self,
        who: context.RequestContext,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        """An image is gone for all callers; its data may wait for the scrubber."""
        if self.is_enabled("image.delete"):
            payload: Any = {**self.image_payload(before), "deleted_at": after.get("deleted_at")}
            if self.sender.diablo:
                payload = str(before["id"])
            self.emit("image.delete", who, payload)

    def failed(
        self,
        event: str,
        who: context.RequestContext | None,
        image_id: object,
        error: BaseException,
    ) -> None:
        """What `event` stands for did not work out for an image, because of `error`."""
        if not self.is_enabled(event):
            return
        payload = {
            "image_id": image_id,
            "error_class": type(error).__name__,
            "message": _fixed_text(error),
            "http_status": httperror.status_of(error),
            "request_id": getattr(who, "request_id", None),
        }
        self._emit_failure(event, who, payload)

    def _emit_failure(
        self, event: str, who: context.RequestContext | None, payload: Mapping[str, Any]
    ) -> None:
        told: Any = payload
        if self.sender.diablo:
            told = "Image {image_id}: {error_class}: {message}".format_map(payload)
        self.emit(event, who, told, priority="ERROR")

    def scrubbed(self, image_id: int, attempts: int) -> None:
        """The data of a deleted image was removed, by this attempt, the first or a later one."""
        self.emit("image.scrub", None, {"image_id": image_id, "attempts": attempts})

    def scrub_given_up(self, image_id: int, attempts: int, error_class: str | None) -> None:
        """The data of a deleted image could not be removed and will not be tried again."""
        if self.is_enabled("image.scrub"):
            payload = {
                "image_id": image_id,
                "error_class": error_class,
                "message": "The data of the image could not be removed.",
                "http_status": None,
                "request_id": None,
                "attempts": attempts,
            }
            self._emit_failure("image.scrub", None, payload)

    @contextlib.contextmanager
    def reporting_failure(
        self,
        event: str,
        who: context.RequestContext,
        image_id: object,
        *,
        only: Errors = BaseException,
        but: Errors = (),
    ) -> Iterator[None]:
        """Tell that `event` failed for an image if the block raises; the error goes on.

        Not for an `image_id` of None, and not for errors that are not `only` or that are `but`.
        """
        try:
            yield
        except BaseException as err:
            if image_id is not None and isinstance(err, only) and not isinstance(err, but):
                self.failed(event, who, image_id, err)
            raise

    # -- downloads -------------------------------------------------------------------------------

    def sending(
        self,
        environ: Mapping[str, Any],
        who: context.RequestContext,
        image: Mapping[str, Any],
        expected: int | None,
        content_range: str | None = None,
        *,
        from_cache: bool = False,
    ) -> None:
        """The answer to this request brings an image's data; its end will be told.

        `expected` is how many bytes that is, None if unknown; `content_range` the header of a
        partial answer; `from_cache` whether the data comes from a copy of this server's own.
        """
        if not self.is_enabled("image.send"):
            return
        payload = {
            "image_id": image["id"],
            "owner_id": image.get("owner"),
            "receiver_tenant_id": who.tenant,
            "receiver_user_id": who.user,
            "destination_ip": environ.get("REMOTE_ADDR"),
            "expected_bytes": expected,
            "range": content_range,
            "from_cache": from_cache,
        }

        def ended(sent: int, whole: bool) -> None:
            complete = whole and expected in (None, sent)
            told = {**payload, "bytes_sent": sent}
            self.emit("image.send", who, told, priority="INFO" if complete else "ERROR")

        hooks.after_answer(environ, ended)

    # -- members ---------------------------------------------------------------------------------

    def members_changed(
        self,
        who: context.RequestContext,
        image_id: object,
        before: Sequence[Mapping[str, Any]],
        after: Sequence[Mapping[str, Any]],
    ) -> None:
        """The memberships of an image were `before` and are `after`; each difference is told."""
        old = {member["member_id"]: bool(member["can_share"]) for member in before}
        new = {member["member_id"]: bool(member["can_share"]) for member in after}
        for name in sorted({*old, *new}):
            if old.get(name) == new.get(name):
                continue
            kind = "create" if name not in old else "delete" if name not in new else "update"
            can_share = new.get(name, old.get(name))
            payload = {"image_id": image_id, "member_id": name, "can_share": can_share}
            self.emit(f"image.member.{kind}", who, payload)

    # -- payloads --------------------------------------------------------------------------------

    def image_payload(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """Return what may be told of an image, given its record or its JSON form."""
        properties = image.get("properties") or {}
        shown = {name: self._shown(name, value) for name, value in properties.items()}
        return {**{name: image.get(name) for name in IMAGE_FIELDS}, "properties": shown}

    def _shown(self, name: str, value: Any) -> Any:
        """Return what may be told of the value of a property."""
        if self._redact.search(name):
            return REDACTED
        if isinstance(value, str) and "://" in value:
            return config.mask_url(value)
        return value

    def _emit_image(
        self, event: str, who: context.RequestContext, image: Mapping[str, Any]
    ) -> None:
        if self.is_enabled(event):
            self.emit(event, who, self.image_payload(image))


def _fixed_text(error: BaseException) -> str:
    """Return a sentence about an error that the code, and not the error's maker, has chosen."""
    template = getattr(type(error), "message", None)
    if isinstance(error, exception.GlanceException) and template and "%(" not in template:
        return str(template)
    return httperror.row_for(error).text


def create(conf: config.Conf) -> Events:
    """Return the events of an application with these settings, told by the process's notifier."""
    return Events(conf, notifier.create(conf))

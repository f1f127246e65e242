"""Events about images: which there are, when they are sent, and what their payloads hold.

The API and the scrubber call one method at each place where something has happened; this package
decides whether, where and in which form an event is sent. Payloads are assembled from lists of
permitted fields. SECURITY: no list has a location, a path or a credential, and the text of an
error is not used, because it could hold anything.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glance import notifier
from glance.common import config, exception, hooks, httperror
from glance.identity import context
from glance.image import types

#: The option that switches an event on; those without one are always sent.
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
    "uuid",
    "name",
    "status",
    "size",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "is_public",
    "visibility",
    "checksum",
    "owner",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
)
#: The fields that every update changes.
_UNTOLD = frozenset({"updated_at"})

REDACTED = "***"

Errors = type[BaseException] | tuple[type[BaseException], ...]


def pattern(text: str) -> re.Pattern[str]:
    """Convert a regular expression. Raises ValueError for an invalid one."""
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
    """Emits events as the settings of one application say.

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
        """Return whether an event is sent, so that its payload need be assembled."""
        return event in self._enabled

    def emit(
        self,
        event: str,
        who: context.RequestContext | None,
        payload: Any,
        *,
        priority: str = "INFO",
    ) -> None:
        """Send an event of SWITCHES, if its switch is on."""
        if event in self._enabled:
            self.sender.notify(event, priority, payload, who)

    # -- an image's life -------------------------------------------------------------------------

    def created(self, who: context.RequestContext, image: types.ImageRecord) -> None:
        """Emit image.create: a record was made, for data to come or data that lies elsewhere."""
        self._emit_image("image.create", who, image)

    def uploaded(self, who: context.RequestContext, image: types.ImageRecord) -> None:
        """Emit image.upload: an upload has succeeded and `image` is active."""
        self._emit_image("image.upload", who, image)

    def activated(self, who: context.RequestContext, image: types.ImageRecord) -> None:
        """Emit image.activate: `image` became active by registration, copy or conversion."""
        self._emit_image("image.activate", who, image)

    def updated(
        self,
        who: context.RequestContext,
        before: types.ImageRecord,
        after: types.ImageRecord,
    ) -> None:
        """Emit image.update: a client has changed an image. `changed` names what is different."""
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
        before: types.ImageRecord,
        after: Mapping[str, Any],
    ) -> None:
        """Emit image.delete: an image is gone for all; its data may wait for the scrubber.

        `after` is its record as it now is, empty if the registry did not send it.
        """
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
        """Emit `event` with priority ERROR: it failed for an image, because of `error`."""
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
        content: Any = payload
        if self.sender.diablo:
            content = "Image {image_id}: {error_class}: {message}".format_map(payload)
        self.emit(event, who, content, priority="ERROR")

    def converted(self, facts: Mapping[str, Any]) -> None:
        """Emit image.convert: a conversion has succeeded.

        `facts` are job_id, source_image_id, image_id, source_format, disk_format and seconds.
        """
        self.emit("image.convert", None, dict(facts))

    def conversion_failed(self, facts: Mapping[str, Any], text: str) -> None:
        """Emit a failed image.convert: a conversion has failed for good.

        `facts` are those of `converted` and the code; `text` is the fixed one of the code.
        """
        if self.is_enabled("image.convert"):
            payload = {
                "error_class": "ConversionError",
                "message": text,
                "http_status": None,
                "request_id": None,
                **facts,
            }
            self._emit_failure("image.convert", None, payload)

    def scrubbed(self, image_id: int, attempts: int) -> None:
        """Emit image.scrub: attempt number `attempts` removed the data of a deleted image."""
        self.emit("image.scrub", None, {"image_id": image_id, "attempts": attempts})

    def scrub_given_up(self, image_id: int, attempts: int, error_class: str | None) -> None:
        """Emit a failed image.scrub: the data could not be removed and will not be tried again."""
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
        """Emit that `event` failed for an image if the block raises; the error is raised again.

        Nothing is emitted for an `image_id` of None, nor for errors that are not `only` or are
        `but`.
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
        image: types.ImageRecord,
        expected: int | None,
        content_range: str | None = None,
        *,
        from_cache: bool = False,
    ) -> None:
        """Emit image.send when the response to this request, with image data, has ended.

        `expected` is the length of the data in bytes, None if unknown; `content_range` the header
        of a partial response; `from_cache` whether the data comes from the image cache of this
        server.
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
            content = {**payload, "bytes_sent": sent}
            self.emit("image.send", who, content, priority="INFO" if complete else "ERROR")

        hooks.after_response(environ, ended)

    # -- members ---------------------------------------------------------------------------------

    def members_changed(
        self,
        who: context.RequestContext,
        image_id: object,
        before: Sequence[types.Member],
        after: Sequence[types.Member],
    ) -> None:
        """Emit an event for each difference between the memberships `before` and `after`."""
        old = {member["member_id"]: bool(member["can_share"]) for member in before}
        new = {member["member_id"]: bool(member["can_share"]) for member in after}
        for name in sorted({*old, *new}):
            if old.get(name) == new.get(name):
                continue
            kind = "create" if name not in old else "delete" if name not in new else "update"
            can_share = new.get(name, old.get(name))
            payload = {"image_id": image_id, "member_id": name, "can_share": can_share}
            self.emit(f"image.member.{kind}", who, payload)

    def member_changed(
        self,
        who: context.RequestContext,
        event: str,
        image: types.ImageRecord,
        member: Mapping[str, Any],
    ) -> None:
        """Emit an event about one membership that version 2 of the API has changed.

        `member` has its `member_id` and, unless it has ended, its `status`. What version 2 makes
        does not let a member share the image with others.
        """
        payload = {"image_id": image["id"], "member_id": member["member_id"], "can_share": False}
        if "status" in member:
            payload["status"] = member["status"]
        self.emit(event, who, payload)

    # -- payloads --------------------------------------------------------------------------------

    def image_payload(self, image: types.ImageRecord) -> dict[str, Any]:
        """Return the payload of an image."""
        properties = image.get("properties") or {}
        shown = {name: self._shown(name, value) for name, value in properties.items()}
        return {**{name: image.get(name) for name in IMAGE_FIELDS}, "properties": shown}

    def _shown(self, name: str, value: Any) -> Any:
        """Return the value of a property as payloads may show it."""
        if self._redact.search(name):
            return REDACTED
        if isinstance(value, str) and "://" in value:
            return config.mask_url(value)
        return value

    def _emit_image(
        self, event: str, who: context.RequestContext, image: types.ImageRecord
    ) -> None:
        if self.is_enabled(event):
            self.emit(event, who, self.image_payload(image))


def _fixed_text(error: BaseException) -> str:
    """Return a fixed sentence for an error, never the error's own text."""
    if isinstance(error, exception.StoreError) and error.store and error.named:
        return error.named % {"store": error.store}
    template = getattr(type(error), "message", None)
    if isinstance(error, exception.GlanceException) and template and "%(" not in template:
        return str(template)
    return httperror.row_for(error).text


def create(conf: config.Conf) -> Events:
    """Return the events of an application with these settings, sent by the process's notifier."""
    return Events(conf, notifier.create(conf))

"""One notification: its envelope, its bytes, its line in a spool file.

A message is serialised when the event happens, so that later changes of the payload have no
effect, and every strategy and every attempt sends the same bytes. They are one line of ASCII,
which any consumer, log and spool file accepts.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import socket
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glance.common import config

if TYPE_CHECKING:
    from glance.streaming.segment import Segment

PRIORITIES = ("INFO", "WARN", "ERROR")

#: Version of envelope and payloads; Diablo's, which has no number, is the first.
SCHEMA = 2

#: The longest event type or message id, in bytes: the limit of AMQP.
MAX_WORD = 255

_DIABLO_TIME = "%Y-%m-%d %H:%M:%S.%f"
_ISO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

OPTIONS = (
    config.Option(
        "notification_publisher_id",
        help="Publisher id of the messages. Unset: the name of this host.",
    ),
    config.Option(
        "notification_payload_format",
        default="v2",
        choices=("v2", "diablo"),
        help="v2 is the complete format. diablo is for consumers written for the 2011.3 "
        "release: a deleted image is represented by its id only, a failure by a text, and "
        "the envelope has six keys.",
    ),
    config.Option(
        "notification_timestamp_format",
        default="diablo",
        choices=("diablo", "iso"),
        help="Format of the time (UTC): diablo is 2011-09-22 10:00:00.000000, iso is "
        "2011-09-22T10:00:00.000000Z.",
    ),
    config.Option(
        "notification_max_message_bytes",
        config.integer,
        65536,
        unit="bytes",
        minimum=1024,
        help="Maximum size of a message. A larger message is sent without the custom properties "
        "of the image, and with truncated set to true.",
    ),
)


@dataclasses.dataclass(slots=True, eq=False)
class Message:
    """One notification.

    `data` is the envelope as JSON. `timestamp` is a datetime in UTC. The sender uses the other
    fields: `settled` is set once, when the message is confirmed or given up, `tries` counts how
    often it was refused, `number` is its place in the buffer (0: none), and `segment` is the file
    of the spool that holds it, if any.
    """

    id: str
    event_type: str
    priority: str
    timestamp: datetime.datetime
    data: bytes
    settled: bool = False
    sent: bool = False
    tries: int = 0
    number: int = 0
    segment: Segment | None = None


class Composer:
    """Composes messages as the settings say."""

    def __init__(self, conf: config.Conf):
        self.publisher_id: str = conf.notification_publisher_id or socket.gethostname()
        self.diablo: bool = conf.notification_payload_format == "diablo"
        self._time = _ISO_TIME if conf.notification_timestamp_format == "iso" else _DIABLO_TIME
        self._maximum: int = conf.notification_max_message_bytes

    def compose(
        self, event_type: str, priority: str, payload: Any, request_id: str | None = None
    ) -> Message:
        """Return the message about an event that has just happened.

        Values that JSON cannot represent are written as `str` shows them. Raises ValueError for an
        unknown priority or an event type that is too long, and ValueError, TypeError or
        RecursionError for a payload that cannot be serialised at all.
        """
        if priority not in PRIORITIES:
            raise ValueError(f"there is no priority {priority!r}")
        if _is_long(event_type):
            raise ValueError("the event type is too long")
        now = datetime.datetime.now(datetime.UTC)
        envelope: dict[str, Any] = {
            "message_id": str(uuid.uuid4()),
            "publisher_id": self.publisher_id,
            "event_type": event_type,
            "priority": priority,
            "payload": payload,
            "timestamp": now.strftime(self._time),
        }
        if not self.diablo:
            envelope["_schema"] = SCHEMA
            envelope["request_id"] = request_id
        data = _dump(envelope)
        if len(data) > self._maximum and isinstance(payload, Mapping):
            envelope["payload"] = {**payload, "properties": None, "truncated": True}
            data = _dump(envelope)
        return Message(envelope["message_id"], event_type, priority, now, data)


def _is_long(word: str) -> bool:
    return len(word.encode("utf-8", "replace")) > MAX_WORD


def _dump(envelope: Mapping[str, Any]) -> bytes:
    # PERF: text beyond ASCII is rare, and doubles the work.
    text = json.dumps(envelope, default=str, sort_keys=True, ensure_ascii=False)
    if text.isascii():
        return text.encode("ascii")
    # Lone surrogates, which no strict reader accepts, become question marks.
    clean = json.loads(text.encode("utf-8", "replace"))
    return json.dumps(clean, sort_keys=True).encode("ascii")


def parse(line: bytes) -> Message:
    """Return the message in a line of a spool file. Raises ValueError for anything else."""
    envelope = json.loads(line)
    if not isinstance(envelope, dict):
        raise ValueError("a message is an object")
    texts = [envelope.get(name) for name in ("message_id", "event_type", "priority", "timestamp")]
    identity, event_type, priority, time = (
        value if isinstance(value, str) else "" for value in texts
    )
    if not identity or priority not in PRIORITIES:
        raise ValueError("the envelope is not complete")
    if _is_long(identity) or _is_long(event_type):
        raise ValueError("the envelope has fields that are too long")
    when = datetime.datetime.fromisoformat(time)
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return Message(identity, event_type, priority, when, line.strip())

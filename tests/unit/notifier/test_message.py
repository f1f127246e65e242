"""The envelope and the bytes of a message."""

import datetime
import json
import re
import socket
import uuid

import pytest

from glance.common import config
from glance.notifier import message


def compose(payload=None, event="image.update", priority="INFO", request_id="req-1", **settings):
    return message.Composer(config.Conf(settings)).compose(event, priority, payload, request_id)


def envelope(*args, **kwargs):
    return json.loads(compose(*args, **kwargs).data)


def test_the_envelope_has_diablos_keys_and_two_more():
    shown = envelope({"id": 1}, event="image.upload", priority="ERROR")
    assert set(shown) == {
        *("message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"),
        *("_schema", "request_id"),
    }
    assert uuid.UUID(shown["message_id"]).version == 4
    assert str(uuid.UUID(shown["message_id"])) == shown["message_id"]
    assert shown["publisher_id"] == socket.gethostname()
    assert (shown["event_type"], shown["priority"]) == ("image.upload", "ERROR")
    assert (shown["payload"], shown["_schema"], shown["request_id"]) == ({"id": 1}, 2, "req-1")


def test_in_compatibility_mode_the_envelope_has_six_keys():
    shown = envelope("text", notification_payload_format="diablo")
    assert sorted(shown) == sorted(
        ["message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"]
    )


@pytest.mark.parametrize(
    ("style", "shape"),
    [
        ("diablo", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"),
        ("iso", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
    ],
)
def test_the_time_always_has_its_fraction(monkeypatch, style, shape):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2011, 9, 22, 10, 0, 0, 0, tz)

    monkeypatch.setattr(message.datetime, "datetime", Clock)
    shown = envelope(notification_timestamp_format=style)["timestamp"]
    assert re.fullmatch(shape, shown) and ".000000" in shown


def test_the_publisher_can_be_named():
    shown = envelope(notification_publisher_id="image.host1")
    assert shown["publisher_id"] == "image.host1"


def test_a_later_change_of_the_payload_changes_nothing():
    payload = {"name": "before"}
    made = compose(payload)
    payload["name"] = "after"
    assert json.loads(made.data)["payload"] == {"name": "before"}


class Odd:
    def __str__(self):
        return "odd"


def test_values_that_json_does_not_know_are_written_as_text():
    when = datetime.datetime(2011, 9, 22)
    shown = envelope({"when": when, "odd": Odd(), "set": {1}})["payload"]
    assert shown == {"when": "2011-09-22 00:00:00", "odd": "odd", "set": "{1}"}


def test_half_a_surrogate_pair_becomes_a_question_mark():
    made = compose({"name": "a\ud800b", "ok": "\U0001f600 é \u2028"})
    assert made.data.isascii() and b"\n" not in made.data
    payload = json.loads(made.data.decode("ascii"))["payload"]
    assert payload == {"name": "a?b", "ok": "\U0001f600 é \u2028"}
    payload["name"].encode("utf-8")


@pytest.mark.parametrize("payload", [{("a", "tuple"): 1}, {1, Odd}])
def test_what_cannot_be_written_at_all_is_an_error_of_the_composer(payload):
    loop = []
    loop.append(loop)
    with pytest.raises((ValueError, TypeError, RecursionError)):
        compose({"loop": loop, **(payload if isinstance(payload, dict) else {})})


def test_an_unknown_priority_is_refused():
    with pytest.raises(ValueError, match="no priority"):
        compose(priority="FATAL")


def test_an_event_type_too_long_for_amqp_is_refused():
    with pytest.raises(ValueError, match="too long"):
        compose(event="é" * 128)


def test_a_message_too_large_comes_without_properties():
    payload = {"id": 1, "properties": {"big": "x" * 1_000_000}}
    made = compose(payload)
    assert len(made.data) < 1000
    assert json.loads(made.data)["payload"] == {"id": 1, "properties": None, "truncated": True}
    small = compose({"properties": {"fits": "x" * 60_000}})
    assert "truncated" not in json.loads(small.data)["payload"]


def test_the_bound_of_a_message_can_be_set():
    payload = {"id": 1, "properties": {"big": "x" * 1500}}
    assert b"truncated" not in compose(payload).data
    assert b"truncated" in compose(payload, notification_max_message_bytes="1024").data


@pytest.mark.parametrize("style", ["diablo", "iso"])
@pytest.mark.parametrize("form", ["diablo", "v2"])
def test_a_line_of_a_spool_file_gives_the_message_back(style, form):
    made = compose(
        {"id": 1},
        priority="WARN",
        notification_payload_format=form,
        notification_timestamp_format=style,
    )
    back = message.parse(made.data + b"\n")
    assert (back.id, back.event_type, back.priority) == (made.id, made.event_type, "WARN")
    assert (back.data, back.timestamp) == (made.data, made.timestamp)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"message_id": "1"',
        b'{"message_id": 1, "event_type": "a", "priority": "INFO", "timestamp": "2011-09-22"}',
        b'{"message_id": "1", "event_type": "a", "priority": "X", "timestamp": "2011-09-22"}',
        b'{"message_id": "1", "event_type": "a", "priority": "INFO", "timestamp": "today"}',
        b'{"message_id": "%s", "event_type": "a", "priority": "INFO", "timestamp": "2011-09-22"}'
        % (b"1" * 256),
        b"\xff\xfe\n",
    ],
)
def test_any_other_line_is_refused(line):
    with pytest.raises(ValueError):
        message.parse(line)

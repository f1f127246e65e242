"""The one sender: nothing lost that could be kept, nothing waited for by those who tell."""

import json
import logging
import os
import threading
import time

import pytest

from glance.common import config, exception
from glance.notifier import backlog, publisher, spool
from glance.streaming import retry
from glance.streaming import segment as spool_segment
from tests.unit.notifier.conftest import Scripted, until

ENDLESS = 10_000_000


def lines(directory):
    return [
        json.loads(line)["message_id"]
        for path in sorted(directory.iterdir())
        for line in path.read_bytes().splitlines()
    ]


def ids(messages):
    return [one.id for one in messages]


def put_all(sender, messages):
    for one in messages:
        sender.put(one)


def test_messages_arrive_in_their_order_and_once(launch, strategy, make):
    sender = launch()
    sent = make(250)
    put_all(sender, sent)
    until(lambda: len(strategy.got) == 250)
    assert strategy.ids == ids(sent)
    until(lambda: sender.statistics()["confirmed"] == 250)
    assert sender.statistics() == {
        **dict.fromkeys(("queued", "published", "confirmed"), 250),
        **dict.fromkeys(("retried", "dropped", "spooled", "buffer_length"), 0),
        "connected": True,
    }


def test_it_connects_before_there_is_anything_to_send(launch, strategy):
    launch()
    until(lambda: strategy.opened == 1)


def test_a_backlog_arrives_in_order_when_the_other_side_comes(launch, strategy, make, caplog):
    caplog.set_level(logging.INFO)
    strategy.away = True
    sender = launch()
    sent = make(30)
    put_all(sender, sent)
    until(lambda: "Notifications cannot be sent" in caplog.text)
    strategy.away = False
    until(lambda: len(strategy.got) == 30)
    assert strategy.ids == ids(sent)
    assert "Notifications can be sent again; 30 are waiting" in caplog.text
    # One line for all the failures.
    assert caplog.text.count("cannot be sent") == 1


@pytest.mark.parametrize("after", [1, 40, 99, 100, 101, 199])
def test_a_connection_lost_in_the_middle_repeats_only_what_was_not_confirmed(
    launch, strategy, make, after
):
    strategy.dies_after = after
    sender = launch()
    sent = make(200)
    put_all(sender, sent)
    until(lambda: sender.statistics()["confirmed"] == 200)
    # The one whose confirmation was lost comes twice.
    wanted = ids(sent)
    wanted.insert(after, wanted[after - 1])
    assert strategy.ids == wanted
    assert sender.statistics()["retried"] >= 1


def test_who_tells_does_not_wait_for_a_side_that_hangs(launch, strategy, make, gate):
    strategy.hanging = gate
    sender = launch()
    sent = make(500)
    put_all(sender, sent)
    assert strategy.got == []
    assert sender.statistics()["buffer_length"] == 500
    gate.set()
    until(lambda: strategy.ids == ids(sent))


def test_errors_survive_an_overflow(launch, strategy, make, caplog):
    strategy.away = True
    sender = launch(notification_buffer_size="10")
    errors = make(5, "ERROR", "image.upload")
    infos = make(100)
    for number, one in enumerate(infos):
        sender.put(one)
        if number % 20 == 10:
            sender.put(errors[number // 20])
    assert sender.statistics()["dropped"] == 95
    assert sender.statistics()["buffer_length"] == 10
    strategy.away = False
    until(lambda: len(strategy.got) == 10)
    got = set(strategy.ids)
    assert got == {*ids(errors), *ids(infos[-5:])}
    assert "Notifications were dropped for lack of space: 1 image.update" in caplog.text
    sender.stop()
    assert "Notifications were dropped for lack of space: 94 image.update" in caplog.text


def test_with_drop_newest_the_oldest_stay(launch, strategy, make):
    strategy.away = True
    sender = launch(notification_buffer_size="3", notification_overflow="drop_newest")
    sent = make(5)
    put_all(sender, sent)
    assert sender.statistics()["dropped"] == 2
    strategy.away = False
    until(lambda: strategy.ids == ids(sent[:3]))


def test_refused_messages_are_given_up_after_three_tries(launch, strategy, make, caplog):
    strategy.refused = {"image.send"}
    sender = launch()
    (bad,) = make(1, event="image.send")
    good = make(2)
    put_all(sender, [good[0], bad, good[1]])
    until(lambda: sender.statistics()["dropped"] == 1)
    until(lambda: len(strategy.got) == 5)
    assert strategy.got.count(f"refused {bad.id}") == 3
    assert [one for one in strategy.got if not isinstance(one, str)] == good
    assert "The receiver rejected" in caplog.text
    assert sender.statistics()["buffer_length"] == 0


def test_an_idle_connection_is_kept_and_its_loss_is_noticed(launch, strategy):
    sender = launch()
    until(lambda: strategy.idled > 2)
    strategy.away = True
    until(lambda: not sender.connected)
    opened = strategy.opened
    strategy.away = False
    until(lambda: strategy.opened > opened)


def test_pauses_grow_to_a_bound(launch, strategy, monkeypatch):
    monkeypatch.setattr(retry.random, "random", lambda: 0.0)
    strategy.away = True
    sender = launch(run=False)
    pauses = []
    monkeypatch.setattr(sender._halt, "wait", pauses.append)
    for _ in range(8):
        assert sender._wait_after_failure(RuntimeError("away"))
    assert pauses == [0.01, 0.02, 0.04, 0.05, 0.05, 0.05, 0.05, 0.05]


def test_after_the_last_retry_what_waits_is_put_away(launch, strategy, make, tmp_path):
    strategy.away = True
    strategy.max_retries = 2
    sender = launch(notification_spool_dir=tmp_path / "spool")
    sent = make(3)
    put_all(sender, sent)
    until(lambda: sender.statistics()["buffer_length"] == 0)
    until(lambda: sender.statistics()["spooled"] == 3)
    strategy.away = False
    # When the other side is back they are sent from there.
    until(lambda: sorted(strategy.ids) == sorted(ids(sent)))
    until(lambda: not list((tmp_path / "spool").iterdir()))


# -- the spool -----------------------------------------------------------------------------------


def test_overflow_goes_to_the_spool_and_comes_back_in_order(
    launch, strategy, make, tmp_path, monkeypatch
):
    monkeypatch.setattr(spool_segment, "SEGMENT_MESSAGES", 7)
    strategy.away = True
    sender = launch(
        notification_buffer_size="30",
        notification_overflow="spool",
        notification_spool_dir=tmp_path,
    )
    sent = make(60)
    put_all(sender, sent[:50])
    until(lambda: sender.statistics()["spooled"] == 20)
    assert sender.statistics()["buffer_length"] == 30
    put_all(sender, sent[50:])
    until(lambda: sender.statistics()["spooled"] == 30)
    strategy.away = False
    until(lambda: len(strategy.got) == 60)
    assert strategy.ids == ids(sent)
    until(lambda: not list(tmp_path.iterdir()))
    assert sender.statistics()["dropped"] == 0
    # Now there is room in memory again.
    more = make(1)
    put_all(sender, more)
    until(lambda: strategy.ids[60:] == ids(more))
    assert sender.statistics()["spooled"] == 30


def test_a_spool_that_is_full_drops_the_newest(launch, strategy, make, tmp_path):
    strategy.away = True
    sent = make(10)
    room = sum(len(one.data) + 1 for one in sent[2:5])
    sender = launch(
        notification_buffer_size="2",
        notification_overflow="spool",
        notification_spool_dir=tmp_path,
        notification_spool_max_bytes=str(room),
    )
    put_all(sender, sent)
    until(lambda: sender.statistics()["dropped"] + sender.statistics()["spooled"] == 8)
    assert sender.statistics()["dropped"] == 5
    strategy.away = False
    until(lambda: strategy.ids == ids(sent[:5]))


def test_a_disk_slower_than_events_come_does_not_fill_the_memory(
    launch, strategy, make, tmp_path, monkeypatch, gate
):
    strategy.away = True
    monkeypatch.setattr(backlog, "_SPILL", 5)
    sender = launch(
        notification_buffer_size="5",
        notification_overflow="spool",
        notification_spool_dir=tmp_path,
    )
    real = spool.NotificationSpool.store
    monkeypatch.setattr(
        spool.NotificationSpool, "store", lambda self, what: (gate.wait(20), real(self, what))[1]
    )
    sent = make(30)
    put_all(sender, sent)
    assert sender.statistics()["dropped"] == 20
    gate.set()
    until(lambda: sender.statistics()["spooled"] == 5)


def test_overflow_to_a_spool_needs_a_directory():
    conf = config.Conf({"notification_overflow": "spool"})
    with pytest.raises(exception.ConfigError, match="needs notification_spool_dir"):
        publisher.Publisher(Scripted(), conf)


def test_a_stop_with_the_other_side_away_fills_the_spool_and_the_next_start_sends_it(
    launch, strategy, make, tmp_path
):
    strategy.away = True
    first = launch(notification_spool_dir=tmp_path, notification_drain_timeout="600")
    sent = make(50)
    put_all(first, sent)
    # The spool is safe: nobody is waited for.
    first.stop()
    assert lines(tmp_path) == ids(sent)
    strategy.away = False
    launch(notification_spool_dir=tmp_path)
    until(lambda: strategy.ids == ids(sent))
    until(lambda: not list(tmp_path.iterdir()))


def test_what_earlier_processes_left_is_sent_before_what_is_new(launch, strategy, make, tmp_path):
    strategy.away = True
    old = make(150)
    for part in (old[:100], old[100:]):
        earlier = launch(notification_spool_dir=tmp_path)
        # It would send what the other one left, were there anybody.
        put_all(earlier, part)
        earlier.stop()
    new = make(3)
    sender = launch(notification_spool_dir=tmp_path)
    put_all(sender, new)
    strategy.away = False
    until(lambda: len(strategy.got) == 153)
    assert strategy.ids == ids([*old, *new])


def test_a_stop_in_the_middle_of_a_replay_keeps_the_rest(launch, strategy, make, tmp_path, gate):
    strategy.away = True
    first = launch(notification_spool_dir=tmp_path)
    sent = make(150)
    put_all(first, sent)
    first.stop()
    strategy.away = False
    strategy.dies_after = 120
    second = launch(notification_spool_dir=tmp_path, notification_drain_timeout="5")
    until(lambda: len(strategy.got) >= 120)
    strategy.away = True
    second.stop()
    assert lines(tmp_path) == ids(sent)
    strategy.away = False
    launch(notification_spool_dir=tmp_path)
    until(lambda: not list(tmp_path.iterdir()))
    assert set(strategy.ids) == set(ids(sent))


# -- write-ahead ---------------------------------------------------------------------------------


AHEAD = {"notification_overflow": "spool", "notification_spool_fsync": "True"}


def test_write_ahead_has_each_message_on_the_disk_before_it_returns(
    launch, strategy, make, tmp_path
):
    strategy.away = True
    sender = launch(notification_spool_dir=tmp_path, notification_buffer_size="3", **AHEAD)
    sent = make(5)
    for number, one in enumerate(sent, 1):
        sender.put(one)
        assert len(lines(tmp_path)) == number
    assert sorted(lines(tmp_path)) == sorted(ids(sent))
    strategy.away = False
    until(lambda: strategy.ids == ids(sent))
    until(lambda: lines(tmp_path) == [])


def test_a_process_that_dies_in_write_ahead_mode_loses_nothing(launch, strategy, make, tmp_path):
    strategy.away = True
    victim = launch(run=False, notification_spool_dir=tmp_path, **AHEAD)
    sent = make(20)
    put_all(victim, sent)
    # A death closes the files and so frees the locks.
    victim._backlog._spool.close()
    strategy.away = False
    launch(notification_spool_dir=tmp_path, **AHEAD)
    until(lambda: strategy.ids == ids(sent))
    until(lambda: lines(tmp_path) == [])


def test_a_confirmation_during_the_write_ahead_is_not_forgotten(
    launch, strategy, make, tmp_path, monkeypatch
):
    sender = launch(notification_spool_dir=tmp_path, **AHEAD)
    real = os.fdatasync

    def slow(fd):
        until(lambda: sender.statistics()["confirmed"])
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    put_all(sender, make(1))
    assert lines(tmp_path) == []


def test_a_stop_in_write_ahead_mode_leaves_each_message_once(launch, strategy, make, tmp_path):
    strategy.away = True
    sender = launch(notification_spool_dir=tmp_path, notification_buffer_size="4", **AHEAD)
    sent = make(9)
    put_all(sender, sent)
    sender.stop()
    assert sorted(lines(tmp_path)) == sorted(ids(sent))


# -- the end -------------------------------------------------------------------------------------


def test_a_stop_sends_what_waits(launch, strategy, make, gate):
    strategy.hanging = gate
    sender = launch(notification_drain_timeout="20")
    sent = make(250)
    put_all(sender, sent)
    threading.Timer(0.05, gate.set).start()
    sender.stop()
    assert strategy.ids == ids(sent)
    assert not sender.connected and strategy.closed


def test_a_stop_without_a_refuge_goes_on_trying_until_its_time_is_over(launch, strategy, make):
    strategy.away = True
    sender = launch(notification_drain_timeout="20")
    sent = make(3)
    put_all(sender, sent)
    until(lambda: sender._failures)
    back = threading.Timer(0.3, lambda: setattr(strategy, "away", False))
    back.start()
    sender.stop()
    assert strategy.ids == ids(sent)


def test_what_can_neither_be_sent_nor_kept_is_in_the_log(launch, strategy, make, caplog):
    strategy.away = True
    sender = launch(notification_drain_timeout="0.1")
    sent = make(3)
    put_all(sender, sent)
    sender.stop()
    said = [
        json.loads(record.getMessage().partition(": ")[2])["message_id"]
        for record in caplog.records
        if record.levelno == logging.ERROR
    ]
    assert said == ids(sent)


def test_a_fallback_file_gets_what_the_spool_does_not_take(launch, strategy, make, tmp_path):
    strategy.away = True
    sent = make(5)
    fallback = tmp_path / "rest.jsonl"
    sender = launch(
        notification_spool_dir=tmp_path / "spool",
        notification_spool_max_bytes=str(len(sent[0].data) + 1),
        notification_fallback_file=fallback,
    )
    fallback.write_text('{"older": 1}\n')
    put_all(sender, sent)
    sender.stop()
    assert lines(tmp_path / "spool") == ids(sent[:1])
    kept = [json.loads(line) for line in fallback.read_text().splitlines()]
    assert [one.get("message_id") for one in kept] == [None, *ids(sent[1:])]


def test_a_fallback_file_is_for_the_owner_only(launch, strategy, make, tmp_path):
    strategy.away = True
    fallback = tmp_path / "rest.jsonl"
    sender = launch(notification_fallback_file=fallback)
    put_all(sender, make(1))
    sender.stop()
    assert fallback.stat().st_mode & 0o777 == 0o600


def test_a_fallback_file_that_cannot_be_written_leaves_the_log(
    launch, strategy, make, tmp_path, caplog
):
    strategy.away = True
    sender = launch(notification_fallback_file=tmp_path)
    (one,) = make(1)
    sender.put(one)
    sender.stop()
    assert "cannot be written" in caplog.text and one.id in caplog.text


def test_a_side_that_hangs_is_not_waited_for_beyond_the_time(
    launch, strategy, make, tmp_path, gate
):
    strategy.hanging = gate
    sender = launch(notification_spool_dir=tmp_path, notification_drain_timeout="0.2")
    sent = make(3)
    put_all(sender, sent)
    sender.stop()
    assert lines(tmp_path) == ids(sent)


def test_one_that_was_never_started_keeps_its_messages_at_once(launch, make, tmp_path):
    sender = launch(run=False, notification_spool_dir=tmp_path, notification_drain_timeout="600")
    sent = make(2)
    put_all(sender, sent)
    sender.stop()
    assert lines(tmp_path) == ids(sent)


def test_messages_after_the_stop_are_put_away_too(launch, strategy, make, tmp_path):
    sender = launch(notification_spool_dir=tmp_path)
    sender.stop()
    (late,) = make(1)
    sender.put(late)
    assert lines(tmp_path) == [late.id]


def test_statistics_are_logged_now_and_then_if_there_are_any(launch, make, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(publisher, "_STATISTICS_PAUSE", 0.05)
    sender = launch()
    time.sleep(0.2)
    assert "Notifications: queued" not in caplog.text
    put_all(sender, make(2))
    until(lambda: "confirmed 2, retried 0, dropped 0" in caplog.text)


def test_many_threads_tell_at_once(launch, strategy, composer):
    sender = launch()

    def tell(number):
        for step in range(50):
            sender.put(composer.compose("image.update", "INFO", {"n": number * 50 + step}))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    until(lambda: len(strategy.got) == 1000)
    told = [json.loads(one.data)["payload"]["n"] for one in strategy.got]
    assert sorted(told) == list(range(1000))

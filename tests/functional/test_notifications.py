"""Notifications of real daemons without a broker: the log, the spool, and requests that go on."""

import json
import re
import signal
import socket
import time

import pytest

from support import caching, daemons, rabbitmq, records

pytestmark = pytest.mark.full

DATA = bytes(range(256)) * 64
BIG = b"*" * (24 << 20)
RABBIT = {
    "notifier_strategy": "rabbit",
    "rabbit_connect_timeout": 0.5,
    "rabbit_confirm_timeout": 0.5,
    "notification_drain_timeout": 0.5,
}


def logged(site):
    """Return the messages that the strategy logging has written so far."""
    found = re.findall(r"\[glance\.notifier\.logging_notifier\] (.*)$", site.api.log(), re.M)
    return [json.loads(line) for line in found]


def spooled(directory):
    lines = [line for path in sorted(directory.glob("*")) for line in path.open()]
    return [json.loads(line) for line in lines]


def kinds(messages):
    return sorted((one["event_type"], one["priority"]) for one in messages)


def change(site, count):
    """Make `count` images and change and delete each; return how many events that is."""
    for number in range(count):
        reply = site.http.add(DATA, name=f"n{number}")
        assert reply.status == 201, reply
        path = f"/v1/images/{reply.json()['image']['id']}"
        assert site.http.put(path, {"x-image-meta-name": "other"}).status == 200
        assert site.http.delete(path).status == 200
    return 3 * count


# -- the log -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    options = {"notifier_strategy": "logging", "verbose": False}
    with daemons.Site(tmp_path_factory.mktemp("talkative"), workers=2, api=options) as site:
        yield site


@pytest.fixture
def told(talkative):
    """Return what was logged since the test began, once `count` messages are there."""
    before = len(logged(talkative))

    def since(count):
        records.eventually(True, lambda: len(logged(talkative)) - before >= count)
        return logged(talkative)[before:]

    return since


def test_every_change_is_in_the_log_even_if_it_is_quiet(talkative, told):
    change(talkative, 1)
    assert kinds(told(3)) == [
        ("image.delete", "INFO"),
        ("image.update", "INFO"),
        ("image.upload", "INFO"),
    ]


def test_the_id_of_the_answer_leads_to_the_message(talkative, told):
    reply = talkative.http.add(DATA)
    assert told(1)[0]["request_id"] == reply.header("X-Openstack-Request-Id")


def add(site, data, told):
    image_id = site.http.add(data).json()["image"]["id"]
    told(1)
    return f"/v1/images/{image_id}"


def test_a_download_is_told_with_its_bytes(talkative, told):
    path = add(talkative, DATA, told)
    assert talkative.http.get(path).body == DATA
    sent = told(2)[1]
    assert (sent["event_type"], sent["priority"]) == ("image.send", "INFO")
    assert sent["payload"]["bytes_sent"] == sent["payload"]["expected_bytes"] == len(DATA)
    assert sent["payload"]["destination_ip"] == "127.0.0.1"


def test_a_part_of_an_image_is_told_as_such(talkative, told):
    path = add(talkative, DATA, told)
    assert talkative.http.get(path, {"Range": "bytes=5-24"}).status == 206
    payload = told(2)[1]["payload"]
    assert (payload["bytes_sent"], payload["expected_bytes"]) == (20, 20)
    assert payload["range"] == f"bytes 5-24/{len(DATA)}"


def test_a_client_that_leaves_is_told_as_an_error(talkative, told):
    path = add(talkative, BIG, told)
    with socket.create_connection(("127.0.0.1", talkative.api.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(1000)
    sent = told(2)[1]
    assert (sent["event_type"], sent["priority"]) == ("image.send", "ERROR")
    assert 0 < sent["payload"]["bytes_sent"] < sent["payload"]["expected_bytes"] == len(BIG)


def test_answers_without_data_are_not_told(talkative, told):
    reply = talkative.http.add(DATA)
    told(1)
    path = f"/v1/images/{reply.json()['image']['id']}"
    etag = {"If-None-Match": reply.json()["image"]["checksum"]}
    assert talkative.http.head(path).status == 200
    assert talkative.http.get(path, etag).status == 304
    assert talkative.http.get(path, {"Range": "bytes=999999-"}).status == 416
    # Two workers write the log; one more message shows that nothing else is under way.
    talkative.http.delete(path)
    assert kinds(told(2)) == [("image.delete", "INFO"), ("image.upload", "INFO")]


def test_a_download_out_of_the_cache_is_told_as_such(tmp_path):
    options = {"notifier_strategy": "logging"}
    with caching.CachingSite(tmp_path / "site", workers=1, api=options) as site:
        image_id = site.http.add(DATA).json()["image"]["id"]
        path = f"/v1/images/{image_id}"
        assert site.http.get(path).body == DATA
        site.until_cached(image_id)
        assert site.http.get(path).body == DATA
        records.eventually(3, lambda: len(logged(site)))
        payloads = [one["payload"] for one in logged(site) if one["event_type"] == "image.send"]
        assert [one["from_cache"] for one in payloads] == [False, True]
        assert [one["bytes_sent"] for one in payloads] == [len(DATA)] * 2


# -- brokers that are no help --------------------------------------------------------------------


def test_the_api_starts_and_serves_without_a_broker_and_keeps_what_it_could_not_send(
    make_site, tmp_path
):
    spool = tmp_path / "spool"
    options = {**RABBIT, "rabbit_port": daemons.free_port(), "notification_spool_dir": spool}
    site = make_site(workers=2, api=options)
    count = change(site, 8)
    assert site.api.stop() == 0
    assert len(spooled(spool)) == count
    assert "Notifications cannot be sent" in site.api.log()
    # The next start takes nothing away that it cannot send, and adds what is new.
    site.api.start()
    count += change(site, 1)
    assert site.api.stop() == 0
    kept = spooled(spool)
    assert len({one["message_id"] for one in kept}) == len(kept) == count


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_any_orderly_stop_keeps_what_a_silent_broker_does_not_take(make_site, tmp_path, signum):
    spool = tmp_path / "spool"
    with rabbitmq.silent_broker() as port:
        options = {**RABBIT, "rabbit_port": port, "notification_spool_dir": spool}
        site = make_site(workers=1, api=options)
        count = change(site, 5)
        site.api.process.send_signal(signum)
        assert site.api.process.wait(30) == 0
    assert len(spooled(spool)) == count


def test_without_any_refuge_the_log_has_what_was_not_sent(make_site):
    options = {**RABBIT, "rabbit_port": daemons.free_port()}
    site = make_site(workers=0, api=options)
    count = change(site, 2)
    assert site.api.stop() == 0
    found = re.findall(r"This notification was not sent: (.*)$", site.api.log(), re.M)
    assert len(found) == count == len({json.loads(line)["message_id"] for line in found})


def test_requests_cut_at_the_stop_are_told_too(make_site, tmp_path):
    spool = tmp_path / "spool"
    options = {
        **RABBIT,
        "rabbit_port": daemons.free_port(),
        "notification_spool_dir": spool,
        "stop_timeout": 0.2,
    }
    site = make_site(workers=1, api=options)
    path = f"/v1/images/{site.http.add(BIG).json()['image']['id']}"
    with socket.create_connection(("127.0.0.1", site.api.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(1000)
        assert site.api.stop() == 0
    assert kinds(spooled(spool)) == [("image.send", "ERROR"), ("image.upload", "INFO")]


def test_in_write_ahead_mode_a_crash_loses_nothing_that_was_answered(make_site, tmp_path):
    spool = tmp_path / "spool"
    options = {
        **RABBIT,
        "rabbit_port": daemons.free_port(),
        "notification_spool_dir": spool,
        "notification_overflow": "spool",
        "notification_spool_fsync": True,
        "notification_buffer_size": 4,
    }
    site = make_site(workers=2, api=options)
    count = change(site, 6)
    site.api.kill()
    kept = spooled(spool)
    assert len({one["message_id"] for one in kept}) == len(kept) == count


def test_a_killed_workers_spool_is_taken_over_by_the_next(make_site, tmp_path):
    spool = tmp_path / "spool"
    options = {
        **RABBIT,
        "rabbit_port": daemons.free_port(),
        "notification_spool_dir": spool,
        "notification_overflow": "spool",
        "notification_spool_fsync": True,
    }
    site = make_site(workers=1, api=options)
    change(site, 1)
    (worker,) = daemons.children(site.api.pid)
    daemons.os.kill(worker, signal.SIGKILL)
    records.eventually(
        True, lambda: "Notifications of earlier processes wait in 1 files" in site.api.log()
    )
    assert site.api.answers()


def test_a_spool_that_cannot_be_used_ends_the_start(make_site, tmp_path):
    (tmp_path / "file").write_text("")
    options = {**RABBIT, "notification_spool_dir": tmp_path / "file"}
    site = make_site(start=False, workers=1, api=options)
    site.registry.start()
    site.api.start(wait=False)
    assert site.api.process.wait(30) == 1
    assert "/glance-api.conf: option notification_spool_dir" in site.api.log()


def test_the_memory_of_a_process_is_bounded_while_the_broker_is_away(make_site, tmp_path):
    options = {**RABBIT, "rabbit_port": daemons.free_port(), "notification_buffer_size": 5}
    site = make_site(workers=1, api={**options, "notification_fallback_file": tmp_path / "rest"})
    count = change(site, 6)
    deadline = time.monotonic() + 30
    while "dropped for lack of space" not in site.api.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert site.api.stop() == 0
    assert len((tmp_path / "rest").read_text().splitlines()) == 5
    dropped = re.findall(r"dropped for lack of space: (.*)$", site.api.log(), re.M)
    numbers = [int(number) for line in dropped for number in re.findall(r"(\d+) image", line)]
    assert sum(numbers) == count - 5

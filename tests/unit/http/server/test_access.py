"""The access log: one line for each request, and what its numbers mean."""

import json
import re
import time

import pytest

LINE = re.compile(
    r'(\S+) - - \[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] "(.*)" (\S+) (\d+) (\d+\.\d{6}) (\S+)$'
)


def lines(server, count):
    """Return the first `count` lines of the log, as (client, request, status, bytes, ...)."""
    deadline = time.monotonic() + 20
    while True:
        text = server.log()
        found = [match.groups() for match in map(LINE.search, text.splitlines()) if match]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, text
        time.sleep(0.01)


def test_each_request_has_a_line_with_the_bytes_of_its_body(launch):
    server = launch()
    client = server.client()
    sizes = [
        len(client.get("/closed")[2]),
        len(client.get("/file?size=5000000")[2]),
        len(client.get("/pieces", "X-Forwarded-For: 1.2.3.4, 5.6.7.8")[2]),
    ]
    found = lines(server, 3)
    assert [line[1] for line in found] == [
        "GET /closed HTTP/1.1",
        "GET /file?size=5000000 HTTP/1.1",
        "GET /pieces HTTP/1.1",
    ]
    assert [line[2] for line in found] == ["200"] * 3
    assert [int(line[3]) for line in found] == sizes
    assert [line[0] for line in found] == ["127.0.0.1", "127.0.0.1", "1.2.3.4,5.6.7.8,127.0.0.1"]


@pytest.mark.parametrize(
    "target", ["/file?size=40000000", "/watched?promise=40000000&size=40000000"]
)
def test_a_cut_connection_has_a_line_with_what_was_sent(launch, target):
    server = launch()
    client = server.client(receive_buffer=65536)
    client.send(f"GET {target} HTTP/1.1", "Host: x")
    client.file.read(100_000)
    client.close()
    (line,) = lines(server, 1)
    assert 50_000 < int(line[3]) < 40_000_000


def test_a_request_that_is_refused_has_a_line_with_the_id_of_its_answer(launch):
    server = launch()
    status, headers, body = server.client().ask("nonsense")
    (line,) = lines(server, 1)
    assert (line[1], int(line[2]), int(line[3])) == ("-", status, len(body))
    assert line[5] == headers["X-Openstack-Request-Id"]


def test_passwords_of_a_proxys_target_are_masked(launch):
    server = launch()
    server.client().get("http://host/closed?password=canary&a=1")
    (line,) = lines(server, 1)
    assert line[1] == "GET http://host/closed?password=***&a=1 HTTP/1.1"


def test_json_lines_have_the_numbers_as_members(launch):
    server = launch(log_json=True)
    data = server.client().get("/closed")[2]
    deadline = time.monotonic() + 20
    while not (found := [line for line in server.log().splitlines() if "GET" in line]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    line = json.loads(found[0])
    assert line["logger"] == "eventlet.wsgi.server"
    assert (line["status"], line["bytes"], line["client"]) == (200, len(data), "127.0.0.1")
    assert line["seconds"] >= 0


@pytest.mark.parametrize("options", [{"access_log": False}, {"verbose": False}])
def test_lines_can_be_switched_off(launch, options):
    server = launch(**options)
    server.get("/closed")
    server.stop()
    assert "GET" not in server.log()

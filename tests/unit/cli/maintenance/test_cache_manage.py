"""What glance-cache-manage says where the server manages no cache."""

import pytest

from glance.api.middleware import cache_manage as server
from glance.cli.maintenance import cache_manage

COMMANDS = [
    *(("list-cached",), ("list-invalid",), ("list-incomplete",), ("list-queued",), ("stats",)),
    *(("queue-image", "5"), ("delete-cached-image", "5"), ("delete-queued-image", "5")),
    *(("delete-all-cached-images",), ("delete-all-queued-images",)),
]


def run(port, *words):
    return cache_manage.main(["--host", "127.0.0.1", "--port", str(port), "-f", *words])


@pytest.mark.parametrize(
    "page",
    [
        (404, f"404 Not Found\n\n{server.NOT_ENABLED}\n".encode()),
        (404, b"404 Not Found\n\nThe resource was not found\n"),
        (404, b""),
        (404, b"<html><h1>Not Found</h1>\n<p>nginx</p></html>", {"Content-Type": "text/html"}),
    ],
    ids=["ours", "older", "empty", "another server"],
)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_one_line_says_that_the_cache_is_not_managed(loopback, capsys, words, page):
    web = loopback.answering(lambda seen: page)
    assert run(web.port, *words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"glance-cache-manage: {cache_manage.NotManaged()}\n"
    assert "cachemanage" in said.err and "glance-api.conf" in said.err


def test_an_image_that_does_not_exist_is_no_fault_of_the_server(loopback, capsys):
    def answer(seen):
        if seen.method == "PUT":
            return 404, b"404 Not Found\n\nNo image with ID 5 was found\n"
        return {"cached_images": []}

    assert run(loopback.answering(answer).port, "queue-image", "5") == 1
    assert capsys.readouterr().err.splitlines() == [
        "glance-cache-manage: Image 5: No image with ID 5 was found",
        "glance-cache-manage: Not queued: 5",
    ]


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_second_failure_hides_no_first_one(loopback, capsys, status):
    def answer(seen):
        if seen.method == "PUT":
            return 404, b"404 Not Found\n\nNo image with ID 5 was found\n"
        return status, b"second"

    assert run(loopback.answering(answer).port, "queue-image", "5") == 1
    assert "No image with ID 5 was found" in capsys.readouterr().err

"""The commands about the server's cache, against a scripted server."""

import json

import pytest

ENTRY = {
    "id": 12,
    "name": "web",
    "last_accessed": "2011-09-22T10:11:12",
    "last_modified": "2011-09-21T09:08:07",
    "size": 1048576,
    "expected_size": "2097152",
    "hits": "7",
    "error": "disk full",
    "status": "queued",
}

TABLES = {
    "cache-index": (
        "/v1/cached_images",
        "No cached images.",
        [
            "Found 1 cached images...",
            "ID               Name                           Last Accessed (UTC) "
            "Size           Hits      ",
            f"{'-' * 16} {'-' * 30} {'-' * 19} {'-' * 14} {'-' * 10}",
            f"{'12':16} {'web':30} 2011-09-22T10:11:12        1048576          7",
        ],
    ),
    "cache-invalid": (
        "/v1/cached_images?status=invalid",
        "No invalid cached images.",
        [
            "Found 1 invalid cached images...",
            f"{'ID':16} {'Name':30} {'Error':30} Last Modified (UTC) {'Size':14} "
            f"{'Expected Size':14} % Done ",
            f"{'-' * 16} {'-' * 30} {'-' * 30} {'-' * 19} {'-' * 14} {'-' * 14} {'-' * 7}",
            f"{'12':16} {'web':30} {'disk full':30} 2011-09-21T09:08:07        1048576"
            "        2097152      50",
        ],
    ),
    "cache-incomplete": (
        "/v1/cached_images?status=incomplete",
        "No incomplete cached images.",
        [
            "Found 1 incomplete cached images...",
            f"{'ID':16} {'Name':30} Last Modified (UTC) {'Size':14} {'Expected Size':14} % Done ",
            f"{'-' * 16} {'-' * 30} {'-' * 19} {'-' * 14} {'-' * 14} {'-' * 7}",
            f"{'12':16} {'web':30} 2011-09-21T09:08:07        1048576        2097152      50",
        ],
    ),
    "cache-prefetching": (
        "/v1/cached_images?status=prefetching",
        "No images being prefetched.",
        [
            "Found 1 images being prefetched...",
            f"{'ID':16} {'Name':30} Last Accessed (UTC) Status    ",
            f"{'-' * 16} {'-' * 30} {'-' * 19} {'-' * 10}",
            f"{'12':16} {'web':30} 2011-09-22T10:11:12     queued",
        ],
    ),
}
listings = pytest.mark.parametrize("name", TABLES)


@pytest.fixture
def holding(loopback):
    """Start a server whose cache holds these entries; DELETE drops three of them."""

    def start(*entries, missing=()):
        def answer(seen):
            image = seen.target.rpartition("/")[2]
            if image in missing:
                return (404, b"404 Not Found\n\nThere is no such resource.\n")
            if seen.method == "DELETE":
                return {"num_purged": 3, "num_reaped": 3}
            return b"" if seen.method in ("HEAD", "PUT") else {"cached_images": list(entries)}

        return loopback.answering(answer)

    return start


def asked(server):
    return [(seen.method, seen.target) for seen in server.requests]


@listings
def test_listing_is_a_table(glance, holding, name):
    path, _, lines = TABLES[name]
    server = holding(ENTRY)
    done = glance(name, port=server.port)
    assert (done.code, done.lines) == (0, lines)
    assert asked(server) == [("GET", path)]


@listings
def test_empty_listing_is_a_sentence(glance, holding, name):
    done = glance(name, port=holding().port)
    assert (done.code, done.out) == (0, f"{TABLES[name][1]}\n")


@listings
def test_listing_for_programs(glance, holding, name):
    done = glance(name, "--format=json", port=holding(ENTRY).port)
    assert json.loads(done.out) == [ENTRY]


@pytest.mark.parametrize("name", ["cache-index", "cache-invalid", "cache-incomplete"])
def test_what_the_server_does_not_know_is_unknown(glance, holding, name):
    bare = dict.fromkeys(ENTRY) | {"id": None, "image_id": 12, "size": 5}
    del bare["id"]
    row = glance(name, port=holding(bare).port).lines[-1]
    assert row.startswith("12 ")
    assert row.endswith(" UNKNOWN")
    assert "None" not in row


@pytest.mark.parametrize("expected", [0, "0", "UNKNOWN", None])
def test_share_of_an_unknown_size_is_unknown(glance, holding, expected):
    entry = {**ENTRY, "expected_size": expected}
    row = glance("cache-incomplete", port=holding(entry).port).lines[-1]
    assert row.endswith(" UNKNOWN")


DROPPING = {
    ("cache-purge", "12"): (
        "Purge cached image 12? [y/N] ",
        "Not purging cached image 12",
        ("DELETE", "/v1/cached_images/12"),
        "done",
        "Purge cached image 12",
    ),
    ("cache-clear",): (
        "Clear all cached images? [y/N] ",
        "Not purging any cached images.",
        ("DELETE", "/v1/cached_images"),
        "Purged 3 cached images",
        "Clear all cached images",
    ),
    ("cache-reap-invalid",): (
        "Reap all invalid cached images? [y/N] ",
        "Not reaping any invalid cached images.",
        ("DELETE", "/v1/cached_images?status=invalid"),
        "Reaped 3 invalid cached images",
        "Reap all invalid cached images",
    ),
    ("cache-reap-stalled",): (
        "Reap all stalled cached images? [y/N] ",
        "Not reaping any stalled cached images.",
        ("DELETE", "/v1/cached_images?status=incomplete"),
        "Reaped 3 stalled cached images",
        "Reap all stalled cached images",
    ),
}
dropping = pytest.mark.parametrize("args", DROPPING, ids=[args[0] for args in DROPPING])


@dropping
def test_dropping_asks_first(glance, holding, args):
    question, declined, _, _, _ = DROPPING[args]
    server = holding()
    done = glance(*args, stdin="n\n", port=server.port)
    assert (done.code, done.out) == (1, f"{question}{declined}\n")
    assert not server.requests


@dropping
@pytest.mark.parametrize(("options", "stdin"), [((), "y\n"), (("--force",), "")])
def test_dropping_is_silent(glance, holding, args, options, stdin):
    question, _, request, _, _ = DROPPING[args]
    server = holding()
    done = glance(*args, *options, stdin=stdin, port=server.port)
    assert (done.code, done.out) == (0, "" if options else question)
    assert asked(server) == [request]


@dropping
def test_dropping_tells_what_it_did_when_asked(glance, holding, args):
    done = glance(*args, "-fv", port=holding().port)
    assert done.lines[0] == DROPPING[args][3]


@dropping
def test_dry_run_drops_nothing(glance, holding, args):
    server = holding()
    done = glance(*args, "--dry-run", port=server.port)
    assert (done.code, done.lines) == (
        0,
        ["Dry run. We would have done the following:", DROPPING[args][4]],
    )
    assert not server.requests


def test_prefetch_queues_each_image(glance, holding):
    server = holding()
    done = glance("cache-prefetch", "13", "14", port=server.port)
    assert (done.code, done.out) == (0, "")
    assert [request for request in asked(server) if request[0] == "PUT"] == [
        ("PUT", "/v1/cached_images/13"),
        ("PUT", "/v1/cached_images/14"),
    ]


def test_prefetch_tells_of_each_image_when_asked(glance, holding):
    lines = glance("cache-prefetch", "13", "14", "-v", port=holding().port).lines
    assert lines[:3] == ["Prefetching image '13'", "Prefetching image '14'", "done"]


def test_prefetch_goes_on_after_an_unknown_image(glance, holding):
    server = holding(missing={"999"})
    done = glance("cache-prefetch", "999", "13", port=server.port)
    assert (done.code, done.out) == (1, "No image with ID 999 was found\n")
    assert ("PUT", "/v1/cached_images/13") in asked(server)


def test_prefetch_dry_run(glance, holding):
    server = holding()
    done = glance("cache-prefetch", "13", "14", "--dry-run", port=server.port)
    assert done.lines[1:] == ["Prefetch image 13", "Prefetch image 14"]
    assert not server.requests


def test_prefetch_where_the_cache_is_not_managed_blames_no_image(glance, loopback):
    answer = (404, b"404 Not Found\n\nThere is no such resource.\n")
    server = loopback.answering(lambda seen: answer if seen.method == "PUT" else b"")
    done = glance("cache-prefetch", "13", port=server.port)
    assert (done.code, done.lines[:2]) == (
        1,
        ["Failed to prefetch the specified cached image. Got error:", "404 Not Found"],
    )


def test_prefetch_of_what_is_cached_is_refused(glance, loopback):
    answer = (400, b"400 Bad Request\n\nIt is cached already.\n")
    server = loopback.answering(lambda seen: answer if seen.method == "PUT" else b"")
    done = glance("cache-prefetch", "13", port=server.port)
    assert (done.code, done.lines) == (
        1,
        [
            "Failed to prefetch the specified cached image. Got error:",
            "400 Bad Request",
            "It is cached already.",
        ],
    )


MISSING = {
    "cache-purge": "Please specify the ID of the image you wish to purge \n"
    "from the cache as the first argument\n",
    "cache-prefetch": "Please specify the ID or a list of image IDs of the images you wish to \n"
    "prefetch from the cache as the first argument\n",
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_id(glance, name):
    done = glance(name)
    assert (done.code, done.out) == (1, MISSING[name])


PHRASES = {
    ("cache-index",): "show cached images",
    ("cache-invalid",): "show invalid cache images",
    ("cache-incomplete",): "show incomplete cache images",
    ("cache-prefetching",): "show prefetching images",
    ("cache-purge", "-f", "1"): "purge the specified cached image",
    ("cache-clear", "-f"): "clear all cached images",
    ("cache-reap-invalid", "-f"): "reap invalid images",
    ("cache-reap-stalled", "-f"): "reap stalled images",
}


@pytest.mark.parametrize("args", PHRASES, ids=[args[0] for args in PHRASES])
def test_server_without_cache_management_is_told(glance, loopback, args):
    server = loopback.answering(lambda seen: (404, b"404 Not Found\n\nNo such resource.\n"))
    done = glance(*args, port=server.port)
    assert (done.code, done.lines) == (
        1,
        [f"Failed to {PHRASES[args]}. Got error:", "404 Not Found", "No such resource."],
    )


@pytest.mark.parametrize("args", PHRASES, ids=[args[0] for args in PHRASES])
def test_refusal_points_to_the_credentials(glance, loopback, args):
    server = loopback.answering(lambda seen: (403, b"no"))
    assert glance(*args, port=server.port).out.startswith("Not authorized to make this request.")

"""The Python API: every method's request and result, and what importing it costs."""

import codecs
import concurrent.futures
import io
import json
import os
import subprocess
import sys
import tempfile

import pytest

from glance import client
from glance.common import exception

META = {
    "X-Image-Meta-Id": "7",
    "X-Image-Meta-Name": "caf\u00e9",
    "X-Image-Meta-Size": "5",
    "X-Image-Meta-Status": "active",
    "X-Image-Meta-Is_public": "True",
    "X-Image-Meta-Deleted": "False",
    "X-Image-Meta-Min-Ram": "256",
    "X-Image-Meta-Owner": "",
    "X-Image-Meta-Checksum": "5d41402abc4b2a76b9719d911017c592",
    "X-Image-Meta-Property-Kernel-Id": "3",
}


def made(server, **kw):
    return client.Client("127.0.0.1", server.port, timeout=5, **kw)


CALLS = [
    (("get_images", (), {}), ("GET", "/v1/images", None), {"images": []}, []),
    (
        ("get_images", (), {"filters": {"property-a b": "c&d", "is_public": None}, "limit": 3}),
        ("GET", "/v1/images?property-a+b=c%26d&limit=3", None),
        {"images": []},
        [],
    ),
    (
        ("get_images_detailed", (), {"marker": 4, "sort_key": "id", "sort_dir": "asc"}),
        ("GET", "/v1/images/detail?marker=4&sort_key=id&sort_dir=asc", None),
        {"images": []},
        [],
    ),
    (("get_images", (), {"filters": "nonsense"}), ("GET", "/v1/images", None), {"images": []}, []),
    (("delete_image", (7,), {}), ("DELETE", "/v1/images/7", None), None, True),
    (
        ("restore_image", (7,), {}),
        ("POST", "/v1/images/7/restore", None),
        {"image": {"id": 7}},
        {"id": 7},
    ),
    (
        ("delete_image", ("http://other/v1/images/7",), {}),
        ("DELETE", "/v1/images/7", None),
        None,
        True,
    ),
    (
        ("get_image_members", (7,), {}),
        ("GET", "/v1/images/7/members", None),
        {"members": [{"member_id": "t", "can_share": True}]},
        [{"member_id": "t", "can_share": True}],
    ),
    (
        ("get_member_images", ("a b",), {}),
        ("GET", "/v1/shared-images/a%20b", None),
        {"shared_images": [{"image_id": 7, "can_share": False}]},
        [{"image_id": 7, "can_share": False}],
    ),
    (
        ("replace_members", (1, {"member_id": "t2", "can_share": 1}, {"member_id": "t1"}), {}),
        (
            "PUT",
            "/v1/images/1/members",
            [{"member_id": "t2", "can_share": True}, {"member_id": "t1"}],
        ),
        None,
        True,
    ),
    (("replace_members", (1,), {}), ("PUT", "/v1/images/1/members", []), None, True),
    (("add_member", (1, "t"), {}), ("PUT", "/v1/images/1/members/t", None), None, True),
    (
        ("add_member", (1, "t", True), {}),
        ("PUT", "/v1/images/1/members/t", {"member": {"can_share": True}}),
        None,
        True,
    ),
    (("delete_member", (1, "t"), {}), ("DELETE", "/v1/images/1/members/t", None), None, True),
    (
        ("get_cached_images", (), {}),
        ("GET", "/v1/cached_images", None),
        {"cached_images": [{"id": 1}]},
        [{"id": 1}],
    ),
    (
        ("get_invalid_cached_images", (), {}),
        ("GET", "/v1/cached_images?status=invalid", None),
        {"cached_images": []},
        [],
    ),
    (
        ("get_incomplete_cached_images", (), {}),
        ("GET", "/v1/cached_images?status=incomplete", None),
        {"cached_images": []},
        [],
    ),
    (
        ("get_prefetching_cache_images", (), {}),
        ("GET", "/v1/cached_images?status=prefetching", None),
        {"cached_images": []},
        [],
    ),
    (("purge_cached_image", (1,), {}), ("DELETE", "/v1/cached_images/1", None), None, True),
    (
        ("clear_cached_images", (), {}),
        ("DELETE", "/v1/cached_images", None),
        {"num_purged": 3},
        3,
    ),
    (
        ("reap_invalid_cached_images", (), {}),
        ("DELETE", "/v1/cached_images?status=invalid", None),
        {"num_reaped": 2},
        2,
    ),
    (
        ("reap_stalled_cached_images", (), {}),
        ("DELETE", "/v1/cached_images?status=incomplete", None),
        {"num_reaped": 0},
        0,
    ),
    (
        ("reap_stalled_cached_images", (), {"grace": 60}),
        ("DELETE", "/v1/cached_images?status=incomplete&grace=60", None),
        {"num_reaped": 1},
        1,
    ),
    (
        ("queue_image_for_caching", ("http://h/v1/images/1",), {}),
        ("PUT", "/v1/queued_images/1", None),
        {"queued": True},
        True,
    ),
    (
        ("get_queued_images", (), {"limit": 2}),
        ("GET", "/v1/queued_images?limit=2&detail=true", None),
        {"queued_images": [{"id": 1}]},
        [{"id": 1}],
    ),
    (
        ("delete_cached_image", (1,), {}),
        ("DELETE", "/v1/cached_images/1", None),
        {"num_deleted": 1},
        1,
    ),
    (
        ("delete_queued_image", ("a b",), {}),
        ("DELETE", "/v1/queued_images/a%20b", None),
        {"num_deleted": 0},
        0,
    ),
    (
        ("delete_all_queued_images", (), {}),
        ("DELETE", "/v1/queued_images", None),
        {"num_deleted": 4},
        4,
    ),
    (("get_cache_stats", (), {}), ("GET", "/v1/cache_stats", None), {"hits": 1}, {"hits": 1}),
    (
        ("convert_image", ("http://h/v1/images/1", "qcow2"), {"compress": True, "name": "ü"}),
        (
            "POST",
            "/v1/conversions",
            {
                "conversion": {
                    "source_image_id": "1",
                    "disk_format": "qcow2",
                    "compress": True,
                    "name": "ü",
                }
            },
        ),
        {"conversion": {"id": "j", "image_id": "2"}},
        {"id": "j", "image_id": "2"},
    ),
    (("get_conversions", (), {}), ("GET", "/v1/conversions", None), {"conversions": []}, []),
    (
        (
            "get_conversions",
            (),
            {"status": "failed", "source_image_id": 1, "limit": 2, "marker": "j"},
        ),
        ("GET", "/v1/conversions?status=failed&limit=2&marker=j&source_image_id=1", None),
        {"conversions": [{"id": "k"}]},
        [{"id": "k"}],
    ),
    (
        ("get_conversion", ("a/b",), {}),
        ("GET", "/v1/conversions/a%2Fb", None),
        {"conversion": {"id": "a/b"}},
        {"id": "a/b"},
    ),
    (
        ("cancel_conversion", ("j",), {}),
        ("DELETE", "/v1/conversions/j", None),
        {"conversion": {"id": "j", "status": "cancelling"}},
        {"id": "j", "status": "cancelling"},
    ),
    (("cancel_conversion", ("j",), {}), ("DELETE", "/v1/conversions/j", None), (204,), None),
]


def test_a_conversion_may_be_asked_for_again(loopback):
    server = loopback.answering(lambda seen: {"conversion": {"id": "j"}})
    made(server).convert_image(1, "raw", idempotency_key="k 1")
    assert server.requests[0].headers["idempotency-key"] == "k 1"
    for key in ("a\r\nX-Auth-Token: t", "ü", "\x00"):
        with pytest.raises(exception.Invalid):
            made(server).convert_image(1, "raw", idempotency_key=key)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, exception.NotFound),
        (409, exception.Duplicate),
        (413, exception.LimitExceeded),
        (429, exception.TooManyRequests),
        (503, exception.ServiceUnavailable),
    ],
)
def test_refusals_of_a_conversion(loopback, status, error):
    server = loopback.answering(lambda seen: (status, b"no"))
    with pytest.raises(error) as caught:
        made(server).convert_image(1, "raw")
    assert type(caught.value) is error


@pytest.mark.parametrize("reference", ["", ".", "a/b"])
def test_a_conversion_needs_an_id(loopback, reference):
    server = loopback.answering(lambda seen: b"")
    with pytest.raises(exception.Invalid):
        made(server).convert_image(reference, "raw")
    for call in (made(server).get_conversion, made(server).cancel_conversion):
        with pytest.raises(exception.Invalid):
            call("")
    assert not server.requests


@pytest.mark.parametrize(
    "answer", [b"<html>a page</html>", {"conversion": None}, {"images": []}, b""]
)
def test_what_is_no_conversion_is_an_error(loopback, answer):
    server = loopback.answering(lambda seen: answer)
    client = made(server)
    for call in (
        lambda: client.convert_image(1, "raw"),
        client.get_conversions,
        lambda: client.get_conversion("j"),
        lambda: client.cancel_conversion("j"),
    ):
        with pytest.raises(exception.ClientConnectionError):
            call()


@pytest.mark.parametrize(("call", "sent", "answer", "result"), CALLS)
def test_call_sends_and_returns(loopback, call, sent, answer, result):
    server = loopback.answering(lambda seen: answer)
    method, args, kwargs = call
    assert getattr(made(server), method)(*args, **kwargs) == result
    seen = server.requests[0]
    assert (seen.method, seen.target, seen.json if seen.body else None) == sent


def test_listed_images_get_a_uri(loopback):
    server = loopback.answering(lambda seen: {"images": [{"id": 7}, {"id": 8, "uri": "own"}]})
    images = made(server).get_images()
    assert [image["uri"] for image in images] == [
        f"http://127.0.0.1:{server.port}/v1/images/7",
        "own",
    ]


def test_uri_of_a_list_entry_is_taken_as_an_id(loopback):
    server = loopback.answering(
        lambda seen: {"images": [{"id": 7}]} if seen.method == "GET" else b""
    )
    made(server).delete_image(made(server).get_images()[0]["uri"])
    assert server.requests[-1].target == "/v1/images/7"


def test_image_meta_is_typed(loopback):
    server = loopback.answering(lambda seen: (200, b"", META, 5))
    meta = made(server).get_image_meta(7)
    assert meta.pop("uri").endswith("/v1/images/7")
    assert meta == {
        "id": 7,
        "name": "café",
        "size": 5,
        "status": "active",
        "is_public": True,
        "deleted": False,
        "min_ram": 256,
        "owner": None,
        "checksum": "5d41402abc4b2a76b9719d911017c592",
        "properties": {"kernel_id": "3"},
    }
    assert server.requests[0].method == "HEAD"


def test_connection_is_kept_over_head_requests(loopback):
    def script(peer):
        while peer.request() is not None:
            peer.answer(200, b"", META, length=5)

    server = loopback(script)
    one = made(server)
    one.get_image_meta(7)
    one.get_image_meta(7)
    assert server.connections == 1


def test_image_data_comes_with_its_meta(loopback):
    server = loopback.answering(lambda seen: (200, b"hello", META))
    meta, data = made(server).get_image("http://other/images/7", verify=True)
    assert (meta["name"], b"".join(data)) == ("café", b"hello")


def ranged(seen):
    start = int(seen.headers["range"].removeprefix("bytes=").rstrip("-"))
    return (206, b"hello"[start:], {**META, "Content-Range": f"bytes {start}-4/5"})


@pytest.mark.parametrize(
    "answer", [ranged, lambda seen: (200, b"hello", META)], ids=["range", "whole"]
)
def test_image_data_can_begin_later(loopback, answer):
    server = loopback.answering(answer)
    calls = []
    _, data = made(server).get_image(7, start=2, progress=lambda *args: calls.append(args))
    assert (data.length, b"".join(data)) == (3, b"llo")
    assert calls == [(5, 5)]
    assert server.requests[0].headers["range"] == "bytes=2-"


def test_another_part_than_wanted_is_refused(loopback):
    headers = {**META, "Content-Range": "bytes 0-2/5"}
    server = loopback.answering(lambda seen: (206, b"hel", headers))
    with pytest.raises(exception.ClientConnectionError, match="another part"):
        made(server).get_image(7, start=2)


def test_part_of_an_image_cannot_be_verified(loopback):
    with pytest.raises(ValueError, match="first byte"):
        client.Client("h").get_image(7, verify=True, start=1)


def test_bytes_before_a_cut_are_handed_out_first(loopback):
    server = loopback(lambda peer: (peer.request(), peer.answer(200, b"hel", META, length=5)))
    _, data = made(server).get_image(7)
    assert next(data) == b"hel"
    with pytest.raises(exception.ClientConnectionError):
        next(data)


def test_damaged_image_data_is_noticed_when_asked(loopback):
    server = loopback.answering(lambda seen: (200, b"hullo", META))
    _, data = made(server).get_image(7, verify=True)
    with pytest.raises(exception.ChecksumMismatch):
        list(data)


@pytest.mark.parametrize(("status", "error"), [(409, exception.Duplicate), (410, exception.Gone)])
def test_what_cannot_be_restored_has_an_error_for_each_reason(loopback, status, error):
    server = loopback.answering(lambda seen: (status, b"It is not deleted."))
    with pytest.raises(error):
        made(server).restore_image(7)


@pytest.mark.parametrize("call", ["get_image", "get_image_meta", "delete_image", "restore_image"])
def test_absent_image_is_not_found(loopback, call):
    server = loopback.answering(lambda seen: (404, b""))
    with pytest.raises(exception.NotFound):
        getattr(made(server), call)(7)


# -- adding and updating -------------------------------------------------------------------------


def image_headers(seen):
    return {k: v for k, v in seen.headers.items() if k.startswith("x-image-meta-")}


def echo(seen):
    return (201, json.dumps({"image": {"id": 7, "status": "queued"}}).encode())


def test_headers_of_an_older_program_are_sent_with_hyphens_too(loopback):
    server = loopback.answering(echo)
    headers = {"X-Image-Meta-Disk_Format": "raw", "x-image-meta-property-A_b": "1", "X_other": "2"}
    made(server).do_request("PUT", "/images/7", None, headers).read()
    sent = server.requests[0].headers
    assert (sent["x-image-meta-disk-format"], sent["x-image-meta-property-a-b"]) == ("raw", "1")
    assert sent["x_other"] == "2"


def test_metadata_travels_as_headers(loopback):
    server = loopback.answering(echo)
    meta = {
        "name": "café",
        "type": "kernel",
        "is_public": "on",
        "min_ram": 3,
        "owner": None,
        "properties": {"Distro": "x", "n": None},
    }
    assert made(server).add_image(meta) == {"id": 7, "status": "queued"}
    seen = server.requests[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/images", b"")
    assert image_headers(seen) == {
        "x-image-meta-name": "café".encode().decode("latin-1"),
        "x-image-meta-type": "kernel",
        "x-image-meta-is-public": "True",
        "x-image-meta-min-ram": "3",
        "x-image-meta-owner": "",
        "x-image-meta-property-distro": "x",
        "x-image-meta-property-n": "",
    }
    assert "content-type" not in seen.headers


@pytest.mark.parametrize("value", [True, 1, "on", "1", "true", "TRUE"])
def test_is_public_is_normalised(loopback, value):
    server = loopback.answering(echo)
    made(server).add_image({"is_public": value})
    assert server.requests[0].headers["x-image-meta-is-public"] == "True"


@pytest.mark.parametrize("data", [None, "", b""])
def test_no_data_means_no_upload(loopback, data):
    server = loopback.answering(echo)
    made(server).add_image({"name": "x"}, data)
    seen = server.requests[0].headers
    assert seen["content-length"] == "0"
    assert "transfer-encoding" not in seen


class Pipe:
    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size=-1):
        return self._file.read(size)


@pytest.mark.parametrize("update", [False, True], ids=["add", "update"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"hello", {"content-length": "5"}),
        ("hello", {"content-length": "5"}),
        (io.BytesIO(b"hello"), {"content-length": "5", "x-image-meta-size": "5"}),
        (Pipe(b"hello"), {"transfer-encoding": "chunked"}),
    ],
    ids=["bytes", "text", "file", "pipe"],
)
def test_upload_sends_the_size_it_knows(loopback, data, expected, update):
    server = loopback.answering(echo)
    if hasattr(data, "read"):
        data = type(data)(b"hello")
    one = made(server)
    one.update_image(7, {}, data) if update else one.add_image({}, data)
    seen = server.requests[0]
    names = ("content-length", "transfer-encoding", "x-image-meta-size")
    assert {n: seen.headers[n] for n in names if n in seen.headers} == expected
    assert seen.headers["content-type"] == "application/octet-stream"
    assert seen.body == b"hello"


UMLAUTS = bytes(range(256)) * 600  # not UTF-8, and more than a text file reads ahead


@pytest.mark.parametrize("update", [False, True], ids=["add", "update"])
def test_a_text_file_is_sent_as_its_bytes(loopback, tmp_path, update):
    (tmp_path / "disk").write_bytes(UMLAUTS)
    server = loopback.answering(echo)
    one = made(server)
    with open(tmp_path / "disk") as data:
        one.update_image(7, {}, data) if update else one.add_image({}, data)
        assert not data.closed
    seen = server.requests[0]
    assert (seen.body, seen.headers["content-length"]) == (UMLAUTS, str(len(UMLAUTS)))


def test_a_text_file_that_nobody_holds_is_sent_as_its_bytes(loopback, tmp_path):
    (tmp_path / "disk").write_bytes(UMLAUTS)
    server = loopback.answering(echo)
    made(server).add_image({}, open(tmp_path / "disk"))  # noqa: SIM115 - it is the case
    assert server.requests[0].body == UMLAUTS


def test_a_text_file_that_was_read_in_part_is_sent_from_there(loopback, tmp_path):
    (tmp_path / "disk").write_text("ä\r\nrest ä" * 1000, encoding="utf-8", newline="")
    server = loopback.answering(echo)
    with open(tmp_path / "disk", encoding="utf-8") as data:
        assert data.read(2) == "ä\n"
        made(server).add_image({}, data)
    assert server.requests[0].body == (tmp_path / "disk").read_bytes()[4:]


def test_a_text_wrapper_of_a_temporary_file_is_sent_as_its_bytes(loopback):
    server = loopback.answering(echo)
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as data:
        data.write("hällo")
        data.seek(0)
        made(server).add_image({}, data)
    assert server.requests[0].body == "hällo".encode()


def test_a_pipe_of_text_is_sent_as_its_bytes(loopback):
    server = loopback.answering(echo)
    reader, writer = os.pipe()
    os.write(writer, b"\xff\xfe")
    os.close(writer)
    with open(reader) as data:
        made(server).add_image({}, data)
    assert server.requests[0].body == b"\xff\xfe"


class Words:
    """A source of text that is no file."""

    def read(self, size=-1):
        return "text"


def in_a_character(path):
    path.write_bytes("日本語".encode("iso2022_jp"))
    file = open(path, encoding="iso2022_jp")  # noqa: SIM115 - the test closes it
    file.read(1)
    return file


def iterated(path):
    path.write_bytes(b"one\ntwo\n")
    file = open(path)  # noqa: SIM115 - the test closes it
    next(file)
    return file


@pytest.mark.parametrize("update", [False, True], ids=["add", "update"])
@pytest.mark.parametrize(
    "source",
    [
        lambda path: io.StringIO("text"),
        lambda path: io.StringIO(""),
        lambda path: codecs.getreader("utf-8")(io.BytesIO(b"text")),
        lambda path: tempfile.SpooledTemporaryFile(mode="w+"),  # noqa: SIM115
        lambda path: Words(),
        lambda path: (word for word in ("te", "xt")),
        lambda path: (word for word in (b"te", b"xt")),
        lambda path: ["text"],
        lambda path: {"a": 1},
        lambda path: path,
        lambda path: 7,
        in_a_character,
        iterated,
    ],
)
def test_what_gives_no_bytes_is_refused_before_anything_is_sent(
    loopback, tmp_path, source, update
):
    server = loopback.answering(echo)
    one, data = made(server), source(tmp_path / "file")
    for kind in (TypeError, exception.Invalid):
        with pytest.raises(kind, match="must be bytes"):
            one.update_image(7, {}, data) if update else one.add_image({}, data)
    assert server.connections == 0
    if hasattr(data, "close"):
        data.close()


def test_a_source_of_bytes_is_sent_whole_although_it_was_looked_at(loopback):
    server = loopback.answering(echo)
    made(server).add_image({}, Pipe(UMLAUTS))
    assert server.requests[0].body == UMLAUTS


def test_declared_size_is_left_to_the_server_to_check(loopback):
    server = loopback.answering(echo)
    made(server).add_image({"size": 99}, io.BytesIO(b"hello"))
    assert server.requests[0].headers["x-image-meta-size"] == "99"


def test_empty_file_is_an_upload(loopback):
    server = loopback.answering(echo)
    made(server).add_image({}, io.BytesIO(b""))
    assert server.requests[0].headers["transfer-encoding"] == "chunked"


def test_missing_image_is_named_although_head_has_no_body(loopback):
    server = loopback.answering(lambda seen: (404, b""))
    one = made(server)
    for image_id in (99, "http://elsewhere/v1/images/99"):
        with pytest.raises(exception.NotFound, match="^No image with ID 99 was found$") as caught:
            one.get_image_meta(image_id)
        assert (caught.value.status, caught.value.body) == (404, "")


def test_progress_of_an_upload(loopback):
    calls = []
    server = loopback.answering(echo)
    made(server).add_image({}, io.BytesIO(b"x" * 70000), progress=lambda *a: calls.append(a))
    assert calls[-1] == (70000, 70000)


@pytest.mark.parametrize(("purge", "header"), [(True, None), (False, "false")])
def test_update_can_keep_properties(loopback, purge, header):
    server = loopback.answering(echo)
    made(server).update_image(7, {"name": "x"}, purge_props=purge)
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("PUT", "/v1/images/7")
    assert seen.headers.get("x-glance-registry-purge-props") == header


@pytest.mark.parametrize("meta", [{"name": "a\r\nX: y"}, {"properties": {"a\nb": "c"}}])
def test_line_breaks_are_invalid_before_anything_is_sent(loopback, meta):
    server = loopback.answering(echo)
    with pytest.raises(exception.Invalid):
        made(server).add_image(meta)
    assert not server.connections


def test_association_needs_a_member(loopback):
    server = loopback.answering(echo)
    with pytest.raises(KeyError):
        made(server).replace_members(1, {"can_share": True})


def test_prefetch_looks_for_the_image_first(loopback):
    server = loopback.answering(lambda seen: (404, b"") if seen.method == "HEAD" else b"")
    with pytest.raises(exception.NotFound):
        made(server).prefetch_cache_image(9)
    assert [seen.target for seen in server.requests] == ["/v1/images/9"]


# -- the module ----------------------------------------------------------------------------------


def test_client_is_version_1_on_port_9292():
    one = client.Client("h")
    assert client.Client is client.V1Client
    assert (one.port, one.doc_root, one.use_ssl, one.auth_tok, one.creds) == (
        9292,
        "/v1",
        False,
        None,
        {},
    )


def test_import_loads_the_standard_library_and_common_only():
    code = (
        "import sys; before = set(sys.modules); import glance.client, socket;"
        "assert socket.socket.__module__ == 'socket';"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops - set(sys.stdlib_module_names) - {"_sysconfigdata__linux_x86_64-linux-gnu"} == {
        "glance"
    }
    ours = {name for name in done.stdout.split() if name.startswith("glance.")}
    rooms = ("glance.client", "glance.common", "glance.http", "glance.identity", "glance.image")
    assert all(name.startswith(rooms) for name in ours)
    assert not {"glance.http.wsgi", "glance.http.server"} & ours


def test_client_is_shared_by_threads(loopback):
    server = loopback.answering(
        lambda seen: (
            (200, b"hello", META) if seen.method == "GET" else {"image": {"size": len(seen.body)}}
        )
    )
    one = made(server)

    def work(number):
        image = one.add_image({"name": str(number)}, io.BytesIO(bytes(200_000 + number)))
        _, data = one.get_image(number, verify=True)
        return image["size"], b"".join(data)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(work, range(40)))
    assert results == [(200_000 + number, b"hello") for number in range(40)]
    # An upload has a connection of its own; the others are kept.
    assert server.connections <= 40 + 8


GREEN = """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import io, sys
from glance import client
one = client.Client("127.0.0.1", int(sys.argv[1]), timeout=5)
data = bytes(3_000_000)
done = []
def work(n):
    one.add_image({"name": "x"}, open(sys.argv[2], "rb") if n % 2 else io.BytesIO(data))
    done.append(len(one.get_images()))
pool = eventlet.GreenPool()
for n in range(6):
    pool.spawn(work, n)
pool.waitall()
print(done)
"""


def test_client_works_in_a_process_with_green_sockets(loopback, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(3_000_000))
    server = loopback.answering(lambda seen: {"images": [], "image": {"size": len(seen.body)}})
    command = [sys.executable, "-c", GREEN, str(server.port), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "[0, 0, 0, 0, 0, 0]\n"), done.stderr
    uploads = [len(seen.body) for seen in server.requests if seen.method == "POST"]
    assert uploads == [3_000_000] * 6

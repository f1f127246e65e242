"""The acceptance list of the REST API, through the wire: the life of an image and its metadata.

Lines 1, 2, 4, 5, 8, 10, 12, 15 and 16. The other lines are in the neighbouring files: versions,
lists, sharing, failures, deletes.
"""

import contextlib
import hashlib
import http.client
import re
import threading

import pytest

from support import daemons
from support.rawhttp import ADMIN, identity, read_reply

OCTETS = {"Content-Type": "application/octet-stream"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("acceptance")
    options = {"http_store_allowed_hosts": "127.0.0.1", "http_store_connect_timeout": 1}
    with daemons.Site(directory, workers=2, api=options) as running:
        yield running


def md5(data):
    return hashlib.md5(data).hexdigest()


def added(http, data=b"data", headers=None, **meta):
    """Upload an image and return its record."""
    reply = http.add(data, headers, **meta)
    assert reply.status == 201, reply
    return reply.json()["image"]


def reserved(http, headers=None):
    reply = http.post("/v1/images", headers)
    assert reply.status == 201, reply
    return reply.json()["image"]


# -- line 1 --------------------------------------------------------------------------------------


def test_line_1_the_life_cycle_of_an_image(make_site):
    http = make_site(workers=2).http
    data = b"*" * 5120

    assert http.get("/v1/images").json() == {"images": []}
    assert http.get("/v1/images/detail").json() == {"images": []}
    assert http.head("/v1/images/1").status == 404

    created = http.add(data, name="Image1", is_public="True")
    assert created.status == 201
    record = created.json()["image"]
    assert (record["id"], record["name"], record["size"]) == (1, "Image1", 5120)
    assert (record["checksum"], record["status"]) == (md5(data), "active")
    assert record["is_public"] is True
    assert created.header("Location") == f"http://127.0.0.1:{http.port}/v1/images/1"

    head, whole = http.head("/v1/images/1"), http.get("/v1/images/1")
    for reply in (head, whole):
        assert reply.status == 200
        assert reply.meta()["name"] == "Image1"
        assert reply.meta()["size"] == "5120"
        assert reply.meta()["checksum"] == md5(data)
        assert reply.header("ETag") == f'"{md5(data)}"'
    assert head.body == b""
    assert whole.body == data
    assert whole.header("Content-Type") == "application/octet-stream"
    assert whole.header("Content-Length") == "5120"

    brief = {name: record[name] for name in BRIEF}
    assert http.get("/v1/images").json() == {"images": [brief]}
    full = {name: value for name, value in record.items() if name != "location"}
    assert http.get("/v1/images/detail").json() == {"images": [full]}

    both = {"x-image-meta-property-Distro": "Ubuntu", "x-image-meta-property-Arch": "x86_64"}
    one = {"x-image-meta-property-distro": "Ubuntu"}
    for sent in (both, one, both):
        changed = http.put("/v1/images/1", sent)
        wanted = {name.rpartition("-")[2].lower(): value for name, value in sent.items()}
        assert changed.status == 200
        assert changed.json()["image"]["properties"] == wanted
        shown = http.get("/v1/images/detail").json()["images"][0]
        assert shown["properties"] == wanted


BRIEF = ("id", "name", "size", "disk_format", "container_format", "checksum")
DETAIL = {
    *BRIEF,
    *("status", "min_disk", "min_ram", "is_public", "protected", "owner", "deleted"),
    *("created_at", "updated_at", "deleted_at", "properties"),
}


def test_line_1_a_detailed_entry_has_the_documented_keys_and_types(site):
    meta = {"name": "types", "min_ram": 256, "min_disk": 5, "disk_format": "raw"}
    headers = {"x-image-meta-property-note": "", "x-image-meta-property-distro": "Debian 6"}
    image = added(site.http, b"x" * 20, headers, is_public="true", **meta)
    listed = site.http.get("/v1/images/detail?limit=1000").json()["images"]
    shown = next(entry for entry in listed if entry["id"] == image["id"])
    assert set(shown) == DETAIL
    assert (shown["size"], shown["min_ram"], shown["min_disk"]) == (20, 256, 5)
    assert (shown["is_public"], shown["deleted"], shown["protected"]) == (True, False, False)
    assert (shown["container_format"], shown["owner"], shown["deleted_at"]) == (None, None, None)
    assert shown["properties"] == {"note": None, "distro": "Debian 6"}
    assert TIMESTAMP.fullmatch(shown["created_at"])
    assert TIMESTAMP.fullmatch(shown["updated_at"])


# -- line 2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_line_2_a_reserved_image_is_queued_until_its_data_comes(site, chunked):
    http = site.http
    image = reserved(http, {"x-image-meta-name": "later", "x-image-meta-property-kept": "yes"})
    assert (image["status"], image["size"], image["checksum"]) == ("queued", 0, None)
    url = f"/v1/images/{image['id']}"
    assert http.get(url).status == 404
    assert http.head(url).meta()["status"] == "queued"
    assert "checksum" not in http.head(url).meta()

    data = b"later" * 1000
    reply = http.put(url, OCTETS, iter([data]) if chunked else data)
    assert reply.status == 200
    filled = reply.json()["image"]
    assert (filled["status"], filled["size"], filled["checksum"]) == ("active", 5000, md5(data))
    # A PUT that brings data removes no property.
    assert filled["properties"] == {"kept": "yes"}
    assert http.get(url).body == data


def test_line_2_an_explicit_size_of_zero_does_not_make_an_image_active(site):
    assert reserved(site.http, {"x-image-meta-size": "0"})["status"] == "queued"


def test_line_2_a_chunked_body_without_bytes_is_an_empty_image(site):
    image = added(site.http, iter([]), name="empty")
    assert (image["status"], image["size"], image["checksum"]) == ("active", 0, md5(b""))
    reply = site.http.get(f"/v1/images/{image['id']}")
    assert (reply.status, reply.body, reply.header("Content-Length")) == (200, b"", "0")


def test_line_2_location_makes_a_queued_image_active_and_is_refused_afterwards(site):
    image = reserved(site.http)
    url = f"/v1/images/{image['id']}"
    location = {"x-image-meta-location": f"http://127.0.0.1:{daemons.free_port()}/x.img"}
    reply = site.http.put(url, location)
    assert (reply.status, reply.json()["image"]["status"]) == (200, "active")
    assert site.http.put(url, location).status == 400


# -- line 4 --------------------------------------------------------------------------------------


def test_line_4_a_declared_size_of_5_gib_survives_the_round_trip(site):
    size = 5 * 1024**3
    headers = {
        "x-image-meta-location": f"http://127.0.0.1:{daemons.free_port()}/images/big.iso",
        "x-image-meta-size": str(size),
        "x-image-meta-name": "big",
        "x-image-meta-is-public": "true",
    }
    image = reserved(site.http, headers)
    assert (image["size"], image["status"]) == (size, "active")
    head = site.http.head(f"/v1/images/{image['id']}")
    assert head.meta()["size"] == str(size)
    found = site.http.get(f"/v1/images/detail?size_min={size}").json()["images"]
    assert [entry["size"] for entry in found] == [size]


# -- line 5 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application", "application/x"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_line_5_data_without_the_right_content_type_changes_nothing(site, method, content_type):
    http = site.http
    name = f"typed-{method}-{content_type}"
    path = "/v1/images"
    if method == "PUT":
        path += f"/{reserved(http, {'x-image-meta-name': 'before'})['id']}"
    headers = {"x-image-meta-name": name}
    if content_type is not None:
        headers["Content-Type"] = content_type
    reply = http.request(method, path, headers, b"data")
    assert reply.status == 400
    assert "Content-Type" in reply.text
    assert "application/octet-stream" in reply.text
    listed = http.get("/v1/images/detail?is_public=none&limit=1000").json()["images"]
    assert name not in [image["name"] for image in listed]
    if method == "PUT":
        assert http.head(path).meta()["status"] == "queued"
        assert http.put(path, OCTETS, b"data").status == 200


def test_line_5_the_content_type_is_compared_without_case_and_parameters(site):
    headers = {"Content-Type": "Application/Octet-Stream; charset=binary"}
    assert site.http.post("/v1/images", headers, b"data").status == 201


# -- line 8 --------------------------------------------------------------------------------------


def test_line_8_a_taken_id_is_refused_also_after_deletion(make_site):
    http = make_site().http
    chosen = {"x-image-meta-id": "77"}
    assert added(http, b"first", chosen)["id"] == 77
    assert http.add(b"second", chosen).status == 409
    assert http.get("/v1/images/77").body == b"first"
    assert added(http)["id"] == 78
    assert http.delete("/v1/images/77").status == 200
    for body in (b"third", b""):
        assert http.post("/v1/images", {**OCTETS, **chosen}, body).status == 409
    assert http.head("/v1/images/77").status == 404
    assert added(http)["id"] == 79


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "2147483648", "99999999999999999999"])
def test_line_8_an_id_that_is_no_positive_number_is_refused(site, value):
    assert site.http.add(b"x", id=value).status == 400


# -- line 10 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("owners")
    with daemons.Site(directory, auth_mode="trusted-headers") as running:
        yield running.http


def test_line_10_who_is_no_admin_always_owns_what_he_makes(trusted):
    caller = identity("tenant1")
    image = added(trusted, b"x", {**caller, "x-image-meta-owner": "tenant2"})
    assert image["owner"] == "tenant1"
    url = f"/v1/images/{image['id']}"
    reply = trusted.put(url, {**caller, "x-image-meta-owner": "tenant2", "x-image-meta-name": "n"})
    assert reply.status == 200
    assert (reply.json()["image"]["owner"], reply.json()["image"]["name"]) == ("tenant1", "n")


def test_line_10_an_admin_owns_by_default_and_gives_away_what_he_makes(trusted):
    assert added(trusted, b"x", ADMIN)["owner"] == "admins"
    assert added(trusted, b"x", {**ADMIN, "x-image-meta-owner": "tenant3"})["owner"] == "tenant3"


@pytest.mark.parametrize("cleared", ["", "null", "NULL"])
def test_line_10_an_admin_sets_and_clears_the_owner(trusted, cleared):
    assert added(trusted, b"x", {**ADMIN, "x-image-meta-owner": cleared})["owner"] is None
    url = f"/v1/images/{added(trusted, b'x', identity('tenant1'))['id']}"
    moved = trusted.put(url, {**ADMIN, "x-image-meta-owner": "tenant2"})
    assert moved.json()["image"]["owner"] == "tenant2"
    assert trusted.put(url, identity("tenant1")).status == 404
    ownerless = trusted.put(url, {**ADMIN, "x-image-meta-owner": cleared})
    assert ownerless.json()["image"]["owner"] is None
    assert trusted.head(url, ADMIN).meta()["owner"] == ""
    # An image without an owner can be changed by admins only.
    assert trusted.put(url, identity("tenant2")).status == 404


# -- line 12 -------------------------------------------------------------------------------------


def test_line_12_data_removed_behind_the_server_is_missing_and_nothing_else(site):
    image = added(site.http, b"soon gone")
    url = f"/v1/images/{image['id']}"
    site.store.lose(str(image["id"]))
    assert site.http.head(url).status == 200
    missing = site.http.get(url)
    assert missing.status == 404
    assert str(site.data_dir) not in missing.text
    assert site.http.head(url).meta()["status"] == "active"
    assert site.http.delete(url).status == 200
    assert site.http.head(url).status == 404
    assert site.http.delete(url).status == 404


# -- line 15 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("x-image-meta-is-public", "x-image-meta-disk-format", "x-image-meta-min-ram"),
        ("x-image-meta-is_public", "x-image-meta-disk_format", "x-image-meta-min_ram"),
        ("X-Image-Meta-Is_Public", "X_IMAGE_META_DISK_FORMAT", "x-image_meta-min-ram"),
    ],
    ids=["hyphens", "underscores", "mixed"],
)
def test_line_15_hyphens_and_underscores_in_names_are_the_same(site, names):
    values = dict(zip(names, ("true", "vhd", "64"), strict=True))
    image = added(site.http, b"x", values)
    assert (image["is_public"], image["disk_format"], image["min_ram"]) == (True, "vhd", 64)


def test_line_15_hyphens_in_property_names_become_underscores(site):
    sent = {"X-Image-Meta-Property-Kernel-Id": "1", "x-image-meta-property-a.b": "2"}
    image = added(site.http, b"x", sent)
    assert image["properties"] == {"kernel_id": "1", "a.b": "2"}
    meta = site.http.head(f"/v1/images/{image['id']}").meta()
    assert (meta["property_kernel_id"], meta["property_a.b"]) == ("1", "2")


@pytest.mark.parametrize("bad", [b"a\rb", b"a\nb", b"a\x00b", b"a\x0bb", b"a\x1bb", b"\xff\xfe"])
@pytest.mark.parametrize("name", [b"x-image-meta-name", b"x-image-meta-property-p"])
def test_line_15_control_characters_and_broken_utf8_are_refused(site, name, bad):
    request = b"POST /v1/images HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s: %s\r\n\r\n"
    answer = site.http.exchange(request % (name, bad))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("text", ["Größe", "образ", "画像 \U0001f427", "\u00e9\u0301"])
def test_line_15_utf8_comes_back_as_it_went_in(site, text):
    raw = text.encode().decode("latin-1")
    headers = {"x-image-meta-name": raw, "x-image-meta-property-note": raw}
    image = added(site.http, b"x", headers, is_public="true")
    assert (image["name"], image["properties"]) == (text, {"note": text})
    url = f"/v1/images/{image['id']}"
    for reply in (site.http.head(url), site.http.get(url)):
        assert reply.meta()["name"] == raw
        assert reply.meta()["property_note"] == raw
    quoted = "".join(f"%{byte:02X}" for byte in text.encode())
    found = site.http.get(f"/v1/images?name={quoted}").json()["images"]
    assert image["id"] in [entry["id"] for entry in found]


def test_line_15_percent_encoding_is_undone_for_one_client_only(site):
    value = {"x-image-meta-name": "from%20file"}
    assert added(site.http, b"x", value)["name"] == "from%20file"
    client = {"User-Agent": "python-glanceclient"}
    assert added(site.http, b"x", {**value, **client})["name"] == "from file"
    line_break = {"x-image-meta-name": "a%0d%0aX-Evil:%20yes"}
    assert site.http.add(b"x", {**line_break, **client}).status == 400


# -- line 16 -------------------------------------------------------------------------------------


def upload_slowly(port, image_id, data, begun, outcome):
    """Send half of an upload, wait until the others have done so too, then send the rest."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("PUT", f"/v1/images/{image_id}")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        half = len(data) // 2
        connection.send(data[:half])
        begun.wait()
        # The loser is told early: its server may have closed before the rest is sent.
        with contextlib.suppress(ConnectionError):
            connection.send(data[half:])
        outcome.append((read_reply(connection.getresponse()).status, data))


@pytest.mark.parametrize("rivals", [2, 5])
def test_line_16_of_parallel_uploads_one_wins_and_the_image_has_its_bytes(site, rivals):
    image_id = reserved(site.http)["id"]
    begun = threading.Barrier(rivals, timeout=30)
    outcome = []
    uploads = [
        threading.Thread(
            target=upload_slowly,
            args=(site.port, image_id, bytes([65 + number]) * 300_000, begun, outcome),
        )
        for number in range(rivals)
    ]
    for upload in uploads:
        upload.start()
    for upload in uploads:
        upload.join()
    assert sorted(status for status, _ in outcome) == [200] + [409] * (rivals - 1)
    winner = next(data for status, data in outcome if status == 200)
    reply = site.http.get(f"/v1/images/{image_id}")
    assert reply.status == 200
    assert (reply.meta()["status"], reply.meta()["checksum"]) == ("active", md5(winner))
    assert reply.body == winner
    assert [path.name for path in site.data_files()].count(str(image_id)) == 1
    assert not [path for path in site.data_files() if path.name.startswith(f"{image_id}.")]

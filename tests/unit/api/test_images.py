"""The images resource over a real registry and the file store."""

import io
import json
import threading

import pytest
import webob
from paste import urlmap

from glance import registry, store
from glance.api import sources
from glance.common import config, exception
from glance.identity import context
from tests.unit.api.conftest import CHECKSUM, PAYLOAD

URL = "/v1/images"
OCTETS = {"Content-Type": "application/octet-stream"}


def meta(**fields):
    return {f"x-image-meta-{name}": str(value) for name, value in fields.items()}


# -- the life of an image -------------------------------------------------------------------------


def test_the_life_of_an_image(api):
    assert api("GET", URL).json == {"images": []}
    assert api("GET", URL + "/detail").json == {"images": []}
    assert api("HEAD", URL + "/1").status_int == 404

    created = api("POST", URL, meta(name="web-node", is_public="True"), PAYLOAD)
    assert created.status_int == 201
    assert created.headers["Location"] == "http://localhost/v1/images/1"
    assert "ETag" not in created.headers
    image = created.json["image"]
    assert (image["status"], image["size"], image["checksum"]) == ("active", 5120, CHECKSUM)

    head = api("HEAD", URL + "/1")
    assert head.body == b""
    assert head.headers["x-image-meta-name"] == "web-node"
    assert head.headers["x-image-meta-is_public"] == "True"
    assert head.headers["Content-Length"] == "5120"
    got = api("GET", URL + "/1")
    assert got.body == PAYLOAD
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["ETag"] == f'"{CHECKSUM}"'

    assert [set(entry) for entry in api("GET", URL).json["images"]] == [
        {"id", "name", "size", "disk_format", "container_format", "checksum"}
    ]
    detail = api("GET", URL + "/detail").json["images"][0]
    assert "location" not in detail
    assert detail["properties"] == {}

    both = {"x-image-meta-property-distro": "Ubuntu", "x-image-meta-property-arch": "x86_64"}
    one = {"x-image-meta-property-distro": "Ubuntu"}
    for sent in (both, one, both):
        answer = api("PUT", URL + "/1", sent)
        assert answer.status_int == 200
        expected = {name.removeprefix("x-image-meta-property-"): v for name, v in sent.items()}
        assert answer.json["image"]["properties"] == expected


@pytest.mark.parametrize("prefix", ["", "/image", "/deep/er", "/a b"])
@pytest.mark.parametrize("version", ["", "/v1", "/v1.0"])
def test_the_location_names_the_path_that_the_service_is_mounted_at(api, prefix, version):
    mounted = urlmap.URLMap()
    mounted[prefix or "/"] = api.app
    quoted = prefix.replace(" ", "%20")
    request = webob.Request.blank(f"{quoted}{version}/images", method="POST")
    location = request.get_response(mounted).headers["Location"]
    assert location == f"http://localhost{quoted}/v1/images/1"
    assert webob.Request.blank(location, method="HEAD").get_response(mounted).status_int == 200


@pytest.mark.parametrize("prefix", ["/v1", "/image", "/image/v1"])
def test_the_location_needs_no_version_negotiation(api, prefix):
    mounted = urlmap.URLMap()
    mounted[prefix] = api.app.app.app
    request = webob.Request.blank(f"{prefix}/images", method="POST")
    location = request.get_response(mounted).headers["Location"]
    assert location == f"http://localhost{prefix}/images/1"
    assert webob.Request.blank(location, method="HEAD").get_response(mounted).status_int == 200


@pytest.mark.parametrize(
    ("scheme", "host", "shown"),
    [
        ("http", "img.example:9292", "http://img.example:9292"),
        ("http", "img.example:80", "http://img.example"),
        ("http", "img.example:443", "http://img.example:443"),
        ("https", "img.example:443", "https://img.example"),
        ("http", "img.example:", "http://img.example"),
        ("http", "[2001:db8::1]:9292", "http://[2001:db8::1]:9292"),
        ("http", "", "http://192.0.2.1:9292"),
        ("http", ":9292", "http://192.0.2.1:9292"),
        ("http", None, "http://192.0.2.1:9292"),
    ],
)
def test_the_location_names_the_host_of_the_request(api, scheme, host, shown):
    request = webob.Request.blank("/v1/images", method="POST")
    request.environ |= {"wsgi.url_scheme": scheme, "HTTP_HOST": host}
    request.environ |= {"SERVER_NAME": "192.0.2.1", "SERVER_PORT": "9292"}
    if host is None:
        del request.environ["HTTP_HOST"]
    assert request.get_response(api.app).headers["Location"] == f"{shown}/v1/images/1"


def test_reserve_then_upload(api):
    image = api.add(name="later")
    assert (image["status"], image["size"], image["checksum"]) == ("queued", 0, None)
    assert api("GET", f"{URL}/{image['id']}").status_int == 404
    done = api("PUT", f"{URL}/{image['id']}", {}, PAYLOAD)
    assert done.status_int == 200
    assert done.json["image"]["status"] == "active"
    assert done.json["image"]["name"] == "later"


def test_a_put_with_data_never_purges(api):
    image = api.add(**{"property-a": "1"})
    done = api("PUT", f"{URL}/{image['id']}", {}, PAYLOAD)
    assert done.json["image"]["properties"] == {"a": "1"}


@pytest.mark.parametrize(
    ("value", "kept"), [("false", True), ("0", True), ("true", False), ("x", False)]
)
def test_the_purge_header(api, value, kept):
    image = api.add(**{"property-a": "1"})
    headers = {"x-glance-registry-purge-props": value, "x-image-meta-name": "n"}
    changed = api("PUT", f"{URL}/{image['id']}", headers).json["image"]
    assert changed["properties"] == ({"a": "1"} if kept else {})


def test_an_upload_takes_three_registry_calls(api):
    api.add(PAYLOAD)
    assert [method for method, _ in api.registry.calls] == ["POST", "PUT", "PUT"]


def test_an_empty_chunked_body_is_an_active_empty_image(api):
    response = api("POST", URL, {**OCTETS, "Transfer-Encoding": "chunked"})
    image = response.json["image"]
    assert (image["status"], image["size"]) == ("active", 0)
    assert image["checksum"] == "d41d8cd98f00b204e9800998ecf8427e"


# -- what is refused before anything happens ------------------------------------------------------


@pytest.mark.parametrize("content_type", ["", "text/plain", "application", "octet"])
def test_data_without_its_content_type_leaves_no_record(api, content_type):
    response = api("POST", URL, {"Content-Type": content_type}, PAYLOAD)
    assert response.status_int == 400
    assert "Content-Type" in response.text
    assert api.registry.calls == []


def test_parameters_of_the_content_type_do_not_matter(api):
    headers = {"Content-Type": "Application/Octet-Stream; charset=binary"}
    assert api("POST", URL, headers, PAYLOAD).status_int == 201


@pytest.mark.parametrize("store", ["nosuch", "", "http", "https", "swift+h"])
def test_an_unusable_store_leaves_no_record(api, store):
    response = api("POST", URL, meta(store=store), PAYLOAD)
    assert response.status_int == 400
    assert api.registry.calls == []


def test_an_unknown_store_is_refused_even_without_data(api):
    assert api("POST", URL, meta(store="nosuch")).status_int == 400
    assert api("POST", URL, meta(store="filesystem")).status_int == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"x-image-meta-location": "http://127.0.0.1:1/x"},
        {"x-glance-api-copy-from": "http://127.0.0.1:1/x"},
    ],
)
def test_two_sources_are_refused(api, headers):
    assert api("POST", URL, headers, PAYLOAD).status_int == 400
    assert api.registry.calls == []


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "filesystem:///etc/passwd",
        "nosuch://x/y",
        "http://",
        "junk",
        "http://127.0.0.2:80/x",
        "http://[::1]/x",
        "http://169.254.169.254/latest",
    ],
)
@pytest.mark.parametrize("header", ["x-image-meta-location", "x-glance-api-copy-from"])
def test_a_location_that_may_not_be_read_leaves_no_record(api, header, location):
    response = api("POST", URL, {header: location})
    assert response.status_int in (400, 403)
    assert "passwd" not in response.text
    assert [call for call in api.registry.calls if call[0] == "POST"] == []


def test_a_size_above_the_cap_is_refused_before_reading(make_api):
    api = make_api(image_size_cap="100")
    assert api("POST", URL, {}, PAYLOAD).status_int == 413
    assert (
        api("POST", URL, {**meta(size=101), "Transfer-Encoding": "chunked", **OCTETS}).status_int
        == 413
    )
    assert api.registry.calls == []


def test_formats_can_be_required_for_data(make_api):
    api = make_api(require_formats="True")
    assert api("POST", URL, {}, PAYLOAD).status_int == 400
    good = meta(disk_format="raw", container_format="bare")
    assert api("POST", URL, good, PAYLOAD).status_int == 201
    assert api("POST", URL).status_int == 201


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"disk_format": "floppy"}, "disk format"),
        ({"container_format": "box"}, "container format"),
        ({"disk_format": "aki", "container_format": "ari"}, "aki"),
        ({"size": "big"}, "size"),
        ({"min_ram": "-1"}, "min_ram"),
        ({"id": "x"}, "id"),
    ],
)
def test_bad_attributes_are_refused_with_a_reason(api, fields, reason):
    response = api("POST", URL, meta(**fields))
    assert response.status_int == 400
    assert reason in response.text
    assert api("GET", URL + "?is_public=none").json == {"images": []}


def test_a_taken_id_stays_taken(api):
    api.add(id=77)
    assert api("POST", URL, meta(id=77)).status_int == 409
    api("DELETE", URL + "/77")
    assert api("POST", URL, meta(id=77)).status_int == 409
    assert api.add()["id"] == 78


@pytest.mark.parametrize("checksum", ["caf\u00e9", "\ufffd", "a\nb"])
def test_a_checksum_that_is_no_tag_makes_no_etag(api, monkeypatch, checksum):
    api("POST", URL, meta(name="old"), PAYLOAD)
    get = registry.link.RegistryLink.get_image_metadata
    monkeypatch.setattr(
        registry.link.RegistryLink,
        "get_image_metadata",
        lambda *args: {**get(*args), "checksum": checksum},
    )
    head = api("HEAD", URL + "/1")
    assert (head.status_int, "ETag" in head.headers) == (200, False)


# -- size and checksum ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"size": 5119}, {"size": 5121}, {"checksum": "0" * 32}], ids=["less", "more", "md5"]
)
def test_data_that_is_not_as_declared_is_refused_and_gone(api, fields):
    response = api("POST", URL, meta(id=5, **fields), PAYLOAD)
    assert response.status_int == 400
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"
    assert api.files() == []
    assert api("GET", URL + "?is_public=none").json == {"images": []}


def test_declared_size_and_checksum_of_a_queued_image_count_at_upload(api):
    api.add(id=5, size=5120, checksum=CHECKSUM.upper())
    assert api("PUT", URL + "/5", {}, PAYLOAD + b"x").status_int == 400
    api.add(id=6, size=5120, checksum=CHECKSUM.upper())
    assert api("PUT", URL + "/6", {}, PAYLOAD).status_int == 200


def test_a_short_body_kills_the_image(api):
    request = webob.Request.blank(URL, method="POST", headers={**OCTETS, **meta(id=5)})
    request.body = PAYLOAD
    request.content_length = len(PAYLOAD) + 10
    assert request.get_response(api.app).status_int == 400
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"
    assert api.files() == []


def test_a_body_that_breaks_off_kills_the_image(api):
    class Broken:
        def read(self, size=-1):
            raise OSError("unexpected end of file")

    request = webob.Request.blank(URL, method="POST", headers={**OCTETS, **meta(id=5)})
    request.environ["wsgi.input"] = Broken()
    request.headers["Transfer-Encoding"] = "chunked"
    assert request.get_response(api.app).status_int == 400
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"
    assert api.files() == []


def test_a_chunked_body_above_the_cap_kills_the_image(make_api):
    api = make_api(image_size_cap="100")
    request = webob.Request.blank(URL, method="POST", headers={**OCTETS, **meta(id=5)})
    request.environ["wsgi.input"] = io.BytesIO(PAYLOAD)
    request.headers["Transfer-Encoding"] = "chunked"
    assert request.get_response(api.app).status_int == 413
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"
    assert api.files() == []


# -- attributes that only the service sets --------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "queued"}, 403),
        ({"status": "active"}, 200),
        ({"id": 99}, 403),
        ({"id": 5}, 200),
        ({"location": "http://127.0.0.1:1/x"}, 400),
        ({"created_at": "2011-01-01"}, 200),
        ({"deleted": "True"}, 200),
    ],
)
def test_immutable_attributes_of_an_active_image(api, fields, status):
    api.add(PAYLOAD, id=5)
    before = api("HEAD", URL + "/5").headers
    assert api("PUT", URL + "/5", meta(**fields)).status_int == status
    after = api("HEAD", URL + "/5").headers
    for name in ("id", "status", "location", "created_at", "deleted"):
        assert before[f"x-image-meta-{name}"] == after[f"x-image-meta-{name}"]


@pytest.mark.parametrize("status", ["active", "killed"])
def test_data_for_an_image_that_is_not_queued_is_a_conflict(api, status):
    fields = {"checksum": "0" * 32} if status == "killed" else {}
    api("POST", URL, meta(id=5, **fields), PAYLOAD)
    response = api("PUT", URL + "/5", {}, b"other")
    assert response.status_int == 409
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == status


def test_a_wrong_content_type_changes_nothing(api):
    api.add(id=5, name="old")
    response = api("PUT", URL + "/5", {"Content-Type": "text/plain", **meta(name="new")}, b"x")
    assert response.status_int == 400
    head = api("HEAD", URL + "/5").headers
    assert (head["x-image-meta-name"], head["x-image-meta-status"]) == ("old", "queued")


def test_every_put_moves_updated_at(api):
    first = api.add(id=5)
    assert first["updated_at"] == first["created_at"]
    changed = api("PUT", URL + "/5", {"x-image-meta-property-a": "1"}).json["image"]
    assert changed["updated_at"] > first["updated_at"]


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, PAYLOAD[:4], "bytes 0-3/5120"),
        ("bytes=-5", 206, PAYLOAD[-5:], "bytes 5115-5119/5120"),
        ("bytes=5118-", 206, PAYLOAD[5118:], "bytes 5118-5119/5120"),
        ("bytes=0-1,4-5", 206, PAYLOAD[:6], "bytes 0-5/5120"),
        ("bytes=0-1,100-101", 200, PAYLOAD, None),
        ("bytes=9999-", 416, None, "bytes */5120"),
    ],
)
def test_ranges(api, header, status, body, content_range):
    api.add(PAYLOAD, id=5)
    response = api("GET", URL + "/5", {"Range": header})
    assert response.status_int == status
    assert response.headers.get("Content-Range") == content_range
    if body is not None:
        assert response.body == body
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        *((CHECKSUM, 206), (f'"{CHECKSUM}"', 206), ("other", 200), (f'W/"{CHECKSUM}"', 200)),
        *(("*", 200), (f'"x", "{CHECKSUM}"', 200)),
    ],
)
def test_a_range_holds_only_for_the_same_data(api, condition, status):
    api.add(PAYLOAD, id=5)
    headers = {"Range": "bytes=0-3", "If-Range": condition}
    assert api("GET", URL + "/5", headers).status_int == status


@pytest.mark.parametrize(
    ("tag", "status"), [(CHECKSUM, 304), (f'"{CHECKSUM}"', 304), ("*", 304), ("x", 200)]
)
def test_if_none_match(api, tag, status):
    api.add(PAYLOAD, id=5)
    response = api("GET", URL + "/5", {"If-None-Match": tag})
    assert response.status_int == status
    assert response.headers["ETag"] == f'"{CHECKSUM}"'


OLD, FUTURE = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "holds"),
    [
        ({"If-Match": CHECKSUM}, True),
        ({"If-Match": f'"x", "{CHECKSUM}"'}, True),
        ({"If-Match": "*"}, True),
        ({"If-Match": f'W/"{CHECKSUM}"'}, False),
        ({"If-Match": "x", "If-None-Match": CHECKSUM}, False),
        ({"If-Unmodified-Since": FUTURE}, True),
        ({"If-Unmodified-Since": OLD}, False),
        ({"If-Unmodified-Since": OLD, "If-Match": CHECKSUM}, True),
        ({"If-None-Match": "x", "If-Modified-Since": FUTURE}, True),
        ({"If-Modified-Since": OLD}, True),
    ],
)
def test_a_condition_that_does_not_hold_is_412_and_nothing_is_done(api, method, headers, holds):
    api.add(PAYLOAD, id=5, name="before")
    change = {"x-image-meta-name": "after"} if method == "PUT" else {}
    response = api(method, URL + "/5", {**headers, **change})
    assert response.status_int == (200 if holds else 412)
    after = api("HEAD", URL + "/5")
    if method == "DELETE":
        assert after.status_int == (404 if holds else 200)
    else:
        changed = holds and method == "PUT"
        assert after.headers["x-image-meta-name"] == ("after" if changed else "before")
    if not holds:
        assert "Traceback" not in response.text
        assert api("GET", URL + "/5").body == PAYLOAD


def test_a_reader_learns_of_no_change_by_date(api):
    api.add(PAYLOAD, id=5)
    for method in ("GET", "HEAD"):
        response = api(method, URL + "/5", {"If-Modified-Since": FUTURE})
        assert (response.status_int, response.body) == (304, b"")
        assert response.headers["ETag"] == f'"{CHECKSUM}"'


def test_conditions_count_only_for_what_would_be_done_otherwise(api):
    api.add(id=5)
    failing = {"If-Match": "x"}
    assert api("GET", URL + "/5", failing).status_int == 404
    assert api("GET", URL + "/6", failing).status_int == 404
    assert api("PUT", URL + "/5", {**failing, "x-image-meta-min_disk": "x"}).status_int == 400
    assert api("PUT", URL + "/5", failing, PAYLOAD).status_int == 412
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"
    assert api.files() == []
    assert api("PUT", URL + "/5", {"If-Match": "*"}, PAYLOAD).status_int == 200


@pytest.mark.parametrize("value", ["bytes 0-4/10", "bytes 0-5119/5120", "bytes */5120", "x", ""])
def test_a_part_is_never_stored_as_a_whole(api, value):
    api.add(id=5)
    part = {"Content-Range": value}
    for method, path in (("POST", URL), ("PUT", URL + "/5")):
        response = api(method, path, part, PAYLOAD)
        assert response.status_int == 400
        assert "Content-Range" in response.text
    assert api("PUT", URL + "/5", part).status_int == 400
    assert api.registry.calls.count(("POST", "/images")) == 1
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"
    assert api.files() == []


@pytest.mark.parametrize(
    ("value", "status"),
    [
        *(("gzip", 415), ("identity, gzip", 415), ("GZIP", 415), ("aws-chunked", 415)),
        *(("x", 415), ("identity;q=1", 415)),
        *(("identity", 200), ("Identity , identity", 200), ("", 200), (",", 200)),
    ],
)
def test_coded_data_is_never_stored_as_it_comes(api, value, status):
    api.add(id=5)
    response = api("PUT", URL + "/5", {"Content-Encoding": value}, PAYLOAD)
    assert response.status_int == status
    made = api("POST", URL, {"Content-Encoding": value}, PAYLOAD)
    assert made.status_int == (201 if status == 200 else status)
    if status == 415:
        assert response.headers["Accept-Encoding"] == "identity"
        assert "Content-Encoding" in response.text
        assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"
        assert api.files() == []
    # Where nothing is sent, nothing is coded.
    assert api("PUT", URL + "/5", {"Content-Encoding": value}).status_int == 200


@pytest.mark.parametrize("id", ["new", "1.5", "2a", "+5", "abc", "1" * 30, "%2e%2e", "5%20"])
@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "DELETE"])
def test_anything_but_a_decimal_id_is_404(api, method, id):
    api.add(PAYLOAD, id=5)
    assert api(method, f"{URL}/{id}").status_int == 404


@pytest.mark.parametrize("path", ["/", "/images", "/images/detail"])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_methods_are_405(api, method, path):
    response = api(method, "/v1" + path)
    assert response.status_int == 405
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_the_file_of_an_image_is_only_read(api, method):
    api.add(id=5)
    response = api(method, URL + "/5/file", body=PAYLOAD if method in ("PUT", "POST") else None)
    assert (response.status_int, response.headers["Allow"]) == (405, "GET, HEAD")
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"
    assert api.files() == []


@pytest.mark.parametrize(
    "path", ["/v1/images/{}/file", "/images/{}/file", "/v1.1/images/{}/file/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Range": "bytes=1-3"}, 206),
        ({"Range": "bytes=9999-"}, 416),
        ({"Range": "bytes=1-3", "If-Range": '"x"'}, 200),
        ({"If-None-Match": CHECKSUM}, 304),
        ({"If-Match": "x"}, 412),
    ],
)
def test_the_file_of_an_image_is_its_download(api, path, method, headers, status):
    api.add(PAYLOAD, id=5, name="x")
    same, found = (api(method, each.format(5), headers) for each in (URL + "/{}", path))
    varying = ["X-Openstack-Request-Id", "Date"]
    if path.startswith("/images"):
        assert found.headers["Vary"].endswith("Accept")
        varying.append("Vary")
    assert found.status_int == same.status_int
    if method == "GET":
        assert found.status_int == status
    kept = [[pair for pair in each.headerlist if pair[0] not in varying] for each in (found, same)]
    assert kept[0] == kept[1] and found.body == same.body


@pytest.mark.parametrize("id", ["5", "6", "new", "05x"])
def test_the_file_of_no_image_is_404(api, id):
    api.add(id=5)
    assert api("GET", f"{URL}/{id}/file").status_int == 404
    assert api("GET", f"{URL}/{id}/file/more").status_int == 404


@pytest.mark.parametrize("suffix", ["", "detail/", "5/", "5/members/"])
def test_one_trailing_slash_is_tolerated(api, suffix):
    api.add(PAYLOAD, id=5)
    assert api("GET", f"{URL}/{suffix}").status_int == 200


def test_the_manuals_uris_work_without_a_version(api):
    api.add(PAYLOAD, id=5, is_public="True")
    assert api("GET", "/images/5").body == PAYLOAD
    assert len(api("GET", "/images/detail").json["images"]) == 1


def test_lost_data_is_404_and_leaves_the_record(api):
    api.add(PAYLOAD, id=5)
    (api.datadir / "5").unlink()
    assert api("HEAD", URL + "/5").status_int == 200
    assert api("GET", URL + "/5").status_int == 404
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "active"
    assert api("DELETE", URL + "/5").status_int == 200


def test_data_of_another_size_is_never_sent(api):
    api.add(PAYLOAD, id=5)
    (api.datadir / "5").write_bytes(PAYLOAD[:-1])
    response = api("GET", URL + "/5")
    assert response.status_int == 500
    assert str(api.datadir) not in response.text


@pytest.mark.parametrize("name", ["café", "日本語", "a%20b", "naïve \U0001f600"])
def test_unicode_goes_in_and_comes_back(api, name):
    headers = {
        "x-image-meta-name": name.encode().decode("latin-1"),
        "x-image-meta-property-p": name.encode().decode("latin-1"),
    }
    image = api("POST", URL, headers).json["image"]
    assert image["name"] == image["properties"]["p"] == name
    head = api("HEAD", f"{URL}/{image['id']}").headers
    assert head["x-image-meta-name"].encode("latin-1").decode() == name


def test_percent_encoding_is_undone_for_glanceclient_alone(api):
    headers = {"x-image-meta-name": "na%20%C3%A9", "User-Agent": "python-glanceclient"}
    assert api("POST", URL, headers).json["image"]["name"] == "na é"
    headers["User-Agent"] = "curl/8"
    assert api("POST", URL, headers).json["image"]["name"] == "na%20%C3%A9"
    bad = {"x-image-meta-name": "%0a", "User-Agent": "python-glanceclient"}
    assert api("POST", URL, bad).status_int == 400


def test_percent_encoding_is_undone_where_all_headers_have_it(api, make_api):
    agent = {"User-Agent": "python-glanceclient"}
    raw = {"x-image-meta-name": "na%20me", "x-image-meta-property-p": "two words", **agent}
    image = api("POST", URL, raw).json["image"]
    assert (image["name"], image["properties"]["p"]) == ("na%20me", "two words")
    location = {"x-image-meta-location": "http://127.0.0.1:9/a%20b", **agent}
    assert api("POST", URL, location).json["image"]["location"].endswith("/a%20b")
    # A source of a copy is judged with the other headers, and judges them.
    copy = {"x-glance-api-copy-from": "http://127.0.0.1:9/a?b=c"}
    image = api("POST", URL, {**copy, "x-image-meta-name": "na%20me", **agent}).json["image"]
    assert image["name"] == "na%20me"
    for option, name in (("never", "na%20me"), ("always", "na me")):
        other = make_api(glanceclient_encoding=option)
        assert other("POST", URL, raw).json["image"]["name"] == name


def test_the_location_is_shown_to_administrators_and_never_in_lists(api, make_api):
    created = api.add(PAYLOAD, id=5)
    assert created["location"].startswith("file://")
    assert api("HEAD", URL + "/5").headers["x-image-meta-location"] == created["location"]
    assert "location" not in api("GET", URL + "/detail?is_public=none").json["images"][0]
    silent = make_api(expose_location="never")
    assert "x-image-meta-location" not in silent("HEAD", URL + "/5").headers


def test_list_parameters_reach_the_registry(api):
    for name in ("a", "b", "c"):
        api.add(PAYLOAD, name=name, is_public="True", **{"property-os": name})
    names = [
        image["name"] for image in api("GET", URL + "?sort_key=name&sort_dir=asc").json["images"]
    ]
    assert names == ["a", "b", "c"]
    page = api("GET", URL + "?sort_key=id&sort_dir=asc&marker=1&limit=1").json["images"]
    assert [image["id"] for image in page] == [2]
    assert [i["name"] for i in api("GET", URL + "?property-os=c").json["images"]] == ["c"]


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=a", "marker=99", "marker=a", "sort_key=x", "is_public=maybe"]
)
def test_bad_list_parameters_keep_the_registrys_reason(api, query):
    response = api("GET", f"{URL}?{query}")
    assert response.status_int == 400
    assert query.partition("=")[0] in response.text
    assert response.text.count("400") == 1


# -- deleting -------------------------------------------------------------------------------------


def test_delete_frees_the_data_and_settles_the_record(api):
    api.add(PAYLOAD, id=5)
    response = api("DELETE", URL + "/5")
    assert (response.status_int, response.body) == (200, b"")
    assert api.files() == []
    assert api("DELETE", URL + "/5").status_int == 404
    assert api("HEAD", URL + "/5").status_int == 404
    deleted = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    assert [(image["id"], image["status"]) for image in deleted] == [(5, "deleted")]


def test_delayed_delete_keeps_the_data(make_api):
    api = make_api(delayed_delete="True")
    api.add(PAYLOAD, id=5)
    assert api("DELETE", URL + "/5").status_int == 200
    assert api.files() == ["5"]
    deleted = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    assert deleted[0]["status"] == "pending_delete"


def test_data_that_cannot_be_removed_stays_pending(api, monkeypatch):
    api.add(PAYLOAD, id=5)
    data = api.datadir / "5"
    data.unlink()
    data.mkdir()
    assert api("DELETE", URL + "/5").status_int == 200
    deleted = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    assert deleted[0]["status"] == "pending_delete"


def test_a_registered_location_is_deleted_without_touching_it(api):
    image = api("POST", URL, {"x-image-meta-location": "http://127.0.0.1:1/x"}).json["image"]
    assert (image["status"], image["size"]) == ("active", 0)
    assert api("DELETE", f"{URL}/{image['id']}").status_int == 200
    deleted = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    assert deleted[0]["status"] == "deleted"


def test_a_protected_image_stays(api):
    api.add(PAYLOAD, id=5, protected="True")
    assert api("HEAD", URL + "/5").headers["x-image-meta-protected"] == "True"
    response = api("DELETE", URL + "/5")
    assert response.status_int == 403
    assert "protected" in response.text
    assert api("PUT", URL + "/5", meta(protected="False")).status_int == 200
    assert api("DELETE", URL + "/5").status_int == 200


@pytest.mark.parametrize("fields", [{}, {"checksum": "0" * 32}], ids=["queued", "killed"])
def test_images_without_data_end_deleted(api, fields):
    api("POST", URL, meta(id=5, **fields), PAYLOAD if fields else None)
    assert api("DELETE", URL + "/5").status_int == 200
    deleted = api("GET", URL + "/detail?deleted=true&is_public=none").json["images"]
    assert deleted[0]["status"] == "deleted"


# -- locations ------------------------------------------------------------------------------------


def test_a_declared_size_survives_with_an_unreachable_location(api, caplog):
    headers = {
        "x-image-meta-location": "http://127.0.0.1:1/x",
        "x-image-meta-size": str(5 * 2**30),
    }
    image = api("POST", URL, headers).json["image"]
    assert (image["status"], image["size"]) == ("active", 5 * 2**30)
    (told,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert told.endswith("(reading from http://127.0.0.1:1 failed: ConnectionRefusedError)")
    assert api("HEAD", f"{URL}/{image['id']}").headers["x-image-meta-size"] == str(5 * 2**30)
    assert api("GET", f"{URL}/{image['id']}").status_int == 503


def test_a_store_that_does_not_answer_holds_nobody_up(api, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(store.Stores, "get_size", lambda self, uri: answer.wait(30))
    try:
        image = api("POST", URL, {"x-image-meta-location": "http://127.0.0.1:1/x"}).json["image"]
    finally:
        answer.set()
    assert (image["status"], image["size"]) == ("active", 0)


def test_strict_locations_must_answer(make_api):
    api = make_api(strict_locations="True")
    assert api("POST", URL, {"x-image-meta-location": "http://127.0.0.1:1/x"}).status_int == 400
    assert api("GET", URL + "?is_public=none").json == {"images": []}


def test_a_location_makes_a_queued_image_active(api):
    api.add(id=5)
    response = api("PUT", URL + "/5", {"x-image-meta-location": "http://127.0.0.1:1/x"})
    assert response.json["image"]["status"] == "active"


# -- a registry in trouble ------------------------------------------------------------------------


def answer(status, body=b"", content_type="text/plain"):
    def app(environ, start_response):
        start_response(
            status, [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        )
        return [body]

    return app


@pytest.mark.parametrize(
    "app",
    [answer("500 Oops", b"Traceback: secret"), answer("200 OK", b"not json"), answer("302 Found")],
    ids=["500", "garbage", "302"],
)
def test_a_registry_that_talks_nonsense_is_503(api, app):
    api.registry.app = app
    response = api("GET", URL)
    assert response.status_int == 503
    assert "Retry-After" in response.headers
    assert "secret" not in response.text


def test_a_registry_that_is_away_is_503_and_leaves_nothing(api):
    api.registry.stop()
    for method, path, body in (
        ("GET", URL, None),
        ("HEAD", URL + "/1", None),
        ("POST", URL, PAYLOAD),
        ("DELETE", URL + "/1", None),
    ):
        assert api(method, path, None, body).status_int == 503
    assert api.files() == []


@pytest.mark.parametrize(
    ("status", "public"), [("401 x", 401), ("403 x", 403), ("404 x", 404), ("413 x", 413)]
)
def test_the_registrys_refusals_are_relayed(api, status, public):
    api.registry.app = answer(status, f"{status}\n\nBecause.\n".encode())
    response = api("GET", URL + "/1")
    assert response.status_int == public
    assert "Because." in response.text


def test_json_answers_have_one_content_type(api):
    api.add(PAYLOAD, id=5)
    for path in ("", "/detail", "/5/members"):
        response = api("GET", URL + path)
        types = [v for k, v in response.headerlist if k.lower() == "content-type"]
        assert types == ["application/json"]
        json.loads(response.body)


def test_only_a_deleted_pending_image_can_be_settled(api):
    conf, admin = _registry_caller(api)
    api.add(PAYLOAD, id=5)
    registry.delete_image_metadata(conf, admin, 5, "pending_delete")
    assert registry.delete_image_metadata(conf, admin, 5, "deleted")["status"] == "deleted"
    for status in ("deleted", "pending_delete", None):
        with pytest.raises(exception.NotFound):
            registry.delete_image_metadata(conf, admin, 5, status)


def _registry_caller(api):
    conf = config.Conf({"registry_port": str(api.registry.port)})
    return conf, context.RequestContext(is_admin=True)


@pytest.mark.parametrize("path", ["", "/detail"])
def test_an_older_registry_does_not_give_locations_away(api, path):
    api.add(PAYLOAD, id=5, is_public="True")
    real = api.registry.app

    def older(environ, start_response):
        environ.pop("HTTP_X_GLANCE_REGISTRY_PUBLIC_SHAPE", None)
        return real(environ, start_response)

    api.registry.app = older
    (image,) = api("GET", URL + path).json["images"]
    assert image["id"] == 5
    assert "location" not in image


@pytest.mark.parametrize("path", ["", "/detail"])
def test_a_list_with_too_many_filters_is_refused_before_the_registry_is_asked(api, path):
    query = "&".join(f"property-p{number}=v" for number in range(990))
    api.registry.stop()
    response = api("GET", f"{URL}{path}?{query}")
    assert response.status_int == 400
    assert "at most" in response.text
    few = "&".join(f"property-p{number}=v" for number in range(33))
    assert "at most 32" in api("GET", f"{URL}{path}?{few}").text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize(
    "path",
    ["cached_images", "cached_images/5", "queued_images/", "queued_images/5", "cache_stats"],
)
def test_a_cache_that_is_not_managed_is_said_to_be(api, method, path):
    response = api(method, f"/v1/{path}")
    assert response.status_int == 404
    if method != "HEAD":
        assert "not switched on" in response.text and "cachemanage" in response.text
    assert "cachemanage" not in api(method, "/v1/other").text

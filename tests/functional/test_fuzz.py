"""Noise against running daemons: no failure of the server, nothing of its inside in an answer."""

import contextlib
import itertools
import json
import os
import random
import re
import socket

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support import daemons, disks
from support.rawhttp import TIMEOUT

pytestmark = pytest.mark.full

#: Of each test. The variable is for long runs: 10,000 make more than 100,000 requests in all.
EXAMPLES = int(os.environ.get("GLANCE_TEST_FUZZ_EXAMPLES", "300"))

REQUESTS = itertools.count()

CODES = {"safe", "ambiguous_format", "format_mismatch", "unsafe_image"}

fuzz = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LEAKS = re.compile(
    rb'Traceback|File "|\.py\b|sqlalchemy|sqlite|SELECT |INSERT |UPDATE |/site-packages'
)


# Of version 2: an image with data, and one without, which are changed; and one that is not there.
UUID = b"5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
QUEUED = b"5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c12"
NOBODYS = b"5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c13"
RAW = {"disk_format": "raw", "container_format": "bare"}
# Images 1 to 3 are read; this one is changed, and then a record may not tell of its data any more.
SPARE = b"5000"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pipeline = "versionnegotiation context rootapp"
    with daemons.Site(tmp_path_factory.mktemp("fuzz"), api_pipeline=pipeline) as running:
        for number in range(3):
            made = running.http.add(b"0123456789" * number, is_public="true", name=f"n{number}")
            assert made.status == 201
        spare = running.http.add(b"spare", id=SPARE.decode())
        assert spare.status == 201
        for uuid in (UUID, QUEUED):
            body = json.dumps({"id": uuid.decode(), **RAW, "tags": ["a"], "os": "x"}).encode()
            assert running.http.post("/v2/images", {}, body).status == 201
        octets = {"Content-Type": "application/octet-stream"}
        assert running.http.put(f"/v2/images/{UUID.decode()}/file", octets, b"two").status == 204
        yield running
    print(f"{next(REQUESTS)} requests")


@pytest.fixture(autouse=True)
def unharmed(site):
    """After each test: both daemons work, and nothing unforeseen is in their logs."""
    yield
    made = site.http.add(b"after the noise")
    url = f"/v1/images/{made.json()['image']['id']}"
    assert site.http.get(url).body == b"after the noise"
    assert site.http.delete(url).status == 200
    assert site.registry.http.get("/images").status == 200
    for _, text in site.logs():
        assert "Traceback" not in text
        assert " ERROR " not in text


def talk(port, data):
    """Send bytes, end the sending side, and return what comes until the server closes."""
    next(REQUESTS)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        # The server may have answered and gone before all is sent.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                parts.append(part)
    return b"".join(parts)


def ask(site, port, method, target, headers=(), body=b""):
    """Send one request, in bytes; check its answer and return (status, body)."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: h", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return judge(site, talk(port, b"\r\n".join([*lines, b"", body])))


def judge(site, answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n", head + b"\r\n")
    assert match, answer
    status = int(match[1])
    assert status < 500 or status in (501, 505), answer
    if status >= 400:
        assert not LEAKS.search(body), answer
        assert str(site.directory).encode() not in answer
    return status, body


def ports(site):
    return site.api.port, site.registry.port


# -- what is sent --------------------------------------------------------------------------------

FIELDS = (
    *("id", "name", "size", "status", "is_public", "protected", "location", "disk_format"),
    *("container_format", "checksum", "min_disk", "min_ram", "owner", "created_at", "updated_at"),
    *("deleted_at", "deleted", "store", "properties", "members", "uri", "property-", "property-a"),
)
PARAMETERS = (
    *("name", "status", "container_format", "disk_format", "min_ram", "min_disk", "size_min"),
    *("size_max", "is_public", "protected", "deleted", "changes-since", "limit", "marker"),
    *("sort_key", "sort_dir", "property-a", "property-", "owner", "id"),
)
WORDS = (
    *("", "0", "1", "-1", "3", "9223372036854775807", "9223372036854775808", "1" * 400, "1e9"),
    *("true", "None", "null", "NaN", "active", "killed", "deleted", "raw", "ami", "asc", "file"),
    *("2011-09-22T10:11:12", "2011-09-22T10:11:12+99:99", "0001-01-01T00:00:00+14:00"),
    *("9999-12-31T23:59:59-14:00", "http://[::1", "http://h:99999/", "file:///etc/passwd"),
    *("'; DROP TABLE images --", "%00", "%", "../..", "\u0000", "\ud7ff", "\U0001f427", "é"),
)


def utf8(text):
    return text.encode("utf-8", "surrogatepass")


words = st.sampled_from(WORDS)
texts = words | st.text(max_size=40) | st.text(st.characters(categories=["Cc", "Cs", "Sm"]))
raw_values = words.map(utf8) | st.binary(max_size=60) | st.integers().map(lambda n: b"%d" % n)
# One request has one head: line ends would begin another line, which other tests do.
values = raw_values.map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))
tokens = st.text("abcXYZ019-_.!#$%&'*+^`|~é", min_size=1, max_size=20).map(utf8)
meta_names = st.sampled_from(FIELDS).map(lambda name: b"x-image-meta-" + name.encode())
property_names = tokens.map(lambda name: b"x-image-meta-property-" + name)
other_names = st.sampled_from(
    [
        *(b"Content-Type", b"Accept", b"User-Agent", b"X-Auth-Token", b"X-Roles", b"X-Tenant-Id"),
        *(b"x-glance-api-copy-from", b"x-glance-registry-purge-props", b"Range", b"If-None-Match"),
        *(b"X-Openstack-Request-Id", b"X-Identity-Status", b"If-Range", b"Expect", b"Cookie"),
        *(b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection"),
        *(b"Content-Range", b"Content-Encoding", b"X-Glance-Trail", b"X-Auth-Key"),
    ]
)
header_lists = st.lists(
    st.tuples(meta_names | property_names | other_names | tokens, values), max_size=6
)
queries = st.lists(
    st.tuples(st.sampled_from(PARAMETERS).map(utf8) | tokens, raw_values), max_size=5
).map(lambda pairs: b"&".join(name + b"=" + quoted(value) for name, value in pairs))


def quoted(value):
    """Percent-encode what a request line cannot hold, and nothing else."""
    return re.sub(rb"[\x00-\x20\x7f]", lambda match: b"%%%02X" % match[0][0], value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
records = st.dictionaries(st.sampled_from(FIELDS), scalars, max_size=8)
documents = st.recursive(
    scalars | records,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("image", "memberships", "member", "member_id", "can_share", "properties")
            )
            | texts,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
image_documents = st.fixed_dictionaries(
    {"image": st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, scalars | documents))},
    optional={"from_state": scalars},
)
entries = st.fixed_dictionaries({}, optional={"member_id": scalars, "can_share": scalars})
member_documents = (
    st.fixed_dictionaries({"memberships": st.lists(entries, max_size=4)})
    | st.fixed_dictionaries({"member": entries})
    | st.lists(entries, max_size=3)
)
bodies = (documents | image_documents | member_documents).map(lambda d: json.dumps(d).encode()) | (
    st.binary(max_size=60)
)
segments = st.sampled_from(
    [
        *(
            b"",
            b"v1",
            b"v2",
            b"images",
            b"detail",
            b"members",
            b"shared-images",
            b"1",
            b"2",
            b"99",
        ),
        *(b"..", b".", b"%2F", b"%00", b"%2e%2e", b"versions", b"new", b"edit", b"1.json", b"*"),
    ]
) | raw_values.map(quoted)
paths = st.lists(segments, max_size=6).map(lambda parts: b"/" + b"/".join(parts))
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])


# -- the tests -----------------------------------------------------------------------------------


@fuzz
@given(
    target=st.sampled_from(
        [
            *((b"POST", b"/v1/images"), (b"HEAD", b"/v1/images/1"), (b"GET", b"/v1/images/2")),
            *((b"PUT", b"/v1/images/" + SPARE), (b"PUT", b"/v1/images/77")),
        ]
    ),
    headers=header_lists,
    body=st.sampled_from([b"", b"data"]),
)
@example((b"POST", b"/v1/images"), [(b"x-image-meta-property-a", b"\xed\xa0\x80")], b"")
@example((b"POST", b"/v1/images"), [(b"x-image-meta-property-\xff", b"x")], b"")
@example(
    (b"POST", b"/v1/images"),
    [(b"User-Agent", b"python-glanceclient"), (b"x-image-meta-name", b"%ff")],
    b"",
)
def test_headers(site, target, headers, body):
    method, path = target
    # Copies run in the background and may fail there, which is an ERROR for the operator.
    headers = [(k, v) for k, v in headers if (k, v[:4]) != (b"x-glance-api-copy-from", b"http")]
    ask(site, site.port, method, path, headers, body)


@fuzz
@given(query=queries, path=st.sampled_from([b"/images", b"/images/detail"]))
@example(b"name=%ed%a0%80", b"/images")
@example(b"changes-since=0001-01-01T00:00:00%2B14:00", b"/images")
@example(b"changes-since=9999-12-31T23:59:59-14:00", b"/images")
@example(b"marker=1&sort_key=name&sort_dir=asc&limit=1", b"/images/detail")
def test_queries(site, query, path):
    statuses = {ask(site, port, b"GET", path + b"?" + query)[0] for port in ports(site)}
    assert statuses <= {200, 400, 414}
    # The API passes on what it knows: both come to the same view.
    assert len(statuses) == 1


@fuzz
@given(
    target=st.sampled_from(
        [(b"PUT", b"/images/1/members"), (b"PUT", b"/images/1/members/m"), (b"POST", b"/images")]
    )
    | st.tuples(st.just(b"PUT"), st.sampled_from([b"/images/" + SPARE, b"/images/77"])),
    body=bodies,
    headers=st.sampled_from([[], [(b"Content-Type", b"application/json")]]),
)
@example((b"POST", b"/images"), b'{"image": {"properties": {"a": "\\ud800"}}}', [])
@example((b"POST", b"/images"), b'{"image": {"size": NaN}}', [])
@example((b"POST", b"/images"), b'{"image": {"min_ram": 1e400, "id": true}}', [])
@example((b"PUT", b"/images/1/members"), b"[" * 50_000, [])
@example((b"PUT", b"/images/1/members"), b"1" * 5000, [])
def test_json_bodies(site, target, body, headers):
    method, path = target
    for port in ports(site):
        if port == site.port or path != b"/images/1/members/m" or body:
            ask(site, port, method, path, headers, body)


@fuzz
@given(method=methods | tokens, path=paths, accept=values)
@example(b"GET", b"/" + b"/" * 1000, b"")
@example(b"OPTIONS", b"*", b"")
def test_methods_and_paths(site, method, path, accept):
    # Deleting the images of the other tests would make these test nothing.
    if method == b"DELETE" and re.search(rb"images/+[0-9]", path):
        method = b"PATCH"
    for port in ports(site):
        ask(site, port, method, path, [(b"Accept", accept)])


@settings(fuzz, max_examples=EXAMPLES // 3)
@given(seed=st.integers(0, 2**64), declared=st.sampled_from([*disks.SAFE]))
def test_images(site, seed, declared):
    """Whatever the inspection of an upload finds, the image has the very data that was sent."""
    chance = random.Random(seed)
    data = disks.mutated(chance, chance.choice(disks.EVERY)) or b"data"
    next(REQUESTS)
    made = site.http.add(data, disk_format=declared)
    assert made.status == 201
    image = made.json()["image"]
    assert image["properties"].get("inspection_result", "safe") in CODES
    url = f"/v1/images/{image['id']}"
    assert site.http.get(url).body == data
    assert site.http.delete(url).status == 200


# -- version 2 -----------------------------------------------------------------------------------

FIELDS_2 = (
    *("id", "name", "status", "visibility", "protected", "os_hidden", "owner", "disk_format"),
    *("container_format", "min_disk", "min_ram", "size", "virtual_size", "checksum", "tags"),
    *("os_hash_algo", "os_hash_value", "created_at", "self", "file", "schema", "direct_url"),
    *("stores", "locations", "location", "metadata", "properties", "os_glance_x", "os", ""),
)
PARAMETERS_2 = (
    *("name", "id", "status", "visibility", "member_status", "os_hidden", "owner", "checksum"),
    *("disk_format", "container_format", "min_ram", "size", "size_min", "size_max", "protected"),
    *("tag", "created_at", "updated_at", "limit", "marker", "sort", "sort_key", "sort_dir"),
    *("changes-since", "os", "image_id", "is_public", ""),
)
VALUES_2 = (
    *("in:", 'in:"a', 'in:"a\\"b",c', "gte:2026-11-27T10:11:12Z", "neq:2026-11-27", "eq:", "xx:1"),
    *("all", "shared", "accepted", "name:asc,size:desc", "name", "desc", "25", "1001"),
)
V21, V20 = (b"application/openstack-images-v2.%d-json-patch" % number for number in (1, 0))
values_2 = raw_values | st.sampled_from([*VALUES_2, UUID.decode()]).map(utf8)
queries_2 = st.lists(
    st.tuples(st.sampled_from(PARAMETERS_2).map(utf8) | tokens, values_2), max_size=5
).map(lambda pairs: b"&".join(name + b"=" + quoted(value) for name, value in pairs))
choices_2 = st.sampled_from(["raw", "bare", "public", "private", "shared", "community", ["a"]])
wrong_2 = scalars | choices_2 | st.lists(texts, max_size=3)
images_2 = st.dictionaries(st.sampled_from(FIELDS_2) | texts, wrong_2, max_size=5)
pointers = (st.sampled_from(FIELDS_2) | texts).map("/{}".format) | st.sampled_from(
    ["", "/", "/tags/-", "/tags/0", "/a/b", "/a~1b", "/~2", "name", "/os"]
)
operations = (
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "remove", "move", "test"]) | scalars},
        optional={"path": pointers | scalars, "value": wrong_2, "from": pointers},
    )
    | st.dictionaries(st.sampled_from(["add", "replace", "remove", "value"]), pointers | wrong_2)
    | scalars
)
patches = st.lists(operations, max_size=4)
statements = st.dictionaries(st.sampled_from(["member", "status"]), wrong_2, max_size=2)
bodies_2 = (images_2 | patches | statements | documents).map(
    lambda document: json.dumps(document).encode()
) | st.binary(max_size=60)
of_image = st.sampled_from([UUID, QUEUED, NOBODYS]) | raw_values.map(quoted)
below = st.sampled_from(
    [
        *(b"", b"/file", b"/members", b"/members/m", b"/tags/t", b"/tags", b"/actions/deactivate"),
        *(b"/actions/reactivate", b"/stage", b"/import", b"/locations", b"/"),
    ]
) | st.tuples(
    st.sampled_from([b"/tags/", b"/members/", b"/actions/", b"/"]), values_2.map(quoted)
).map(b"".join)
headers_2 = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(b"Content-Type", b"Accept", b"User-Agent", b"Range", b"If-None-Match"),
                *(b"x-openstack-image-size", b"x-image-meta-store", b"X-Openstack-Request-Id"),
            ]
        ),
        values | st.sampled_from([b"application/octet-stream", V20, V21, b"openstacksdk/4", b"9"]),
    ),
    max_size=4,
)


@fuzz
@given(query=queries_2, accept=values)
@example(b"name=%ff", b"")
@example(b"sort=name:asc&sort_key=name", b"")
@example(b"created_at=gte:0001-01-01T00:00:00%2B14:00", b"")
def test_queries_of_version_2(site, query, accept):
    status, _ = ask(site, site.port, b"GET", b"/v2/images?" + query, [(b"Accept", accept)])
    assert status in (200, 400, 414)


@fuzz
@given(
    target=st.sampled_from([(b"POST", b"/v2/images"), (b"POST", b"/v2.7/images")])
    | st.tuples(
        st.sampled_from([b"PATCH", b"POST", b"PUT", b"DELETE"]),
        st.tuples(of_image, below).map(lambda parts: b"/v2/images/" + b"".join(parts)),
    ),
    media_type=st.sampled_from([V21, V21, V20, b"application/json", b"text/plain", b""]),
    body=bodies_2,
)
@example((b"POST", b"/v2/images"), b"", b'{"a": "\\ud800"}')
@example((b"POST", b"/v2/images"), b"", b'{"min_ram": ' + b"1" * 5000 + b"}")
@example((b"PATCH", b"/v2/images/" + UUID), V21, b"[" * 50_000)
@example((b"PATCH", b"/v2/images/" + UUID), V21, b'[{"op": [], "path": "/a", "value": "b"}]')
def test_bodies_of_version_2(site, target, media_type, body):
    method, path = target
    # What the other tests use stays; a body is refused where an image is deleted.
    ask(site, site.port, method, path, [(b"Content-Type", media_type)], body or b"x")


@fuzz
@given(
    method=methods | tokens,
    image=of_image,
    rest=below,
    headers=headers_2,
)
def test_paths_and_headers_of_version_2(site, method, image, rest, headers):
    if method == b"DELETE" and rest in (b"", b"/"):
        method = b"GET"
    status, body = ask(site, site.port, method, b"/v2/images/" + image + rest, headers)
    if (method, image, rest, status) == (b"GET", UUID, b"/file", 200):
        assert body == b"two"


ranges = st.tuples(
    st.sampled_from([b"bytes=", b"bytes", b"items=", b""]),
    st.lists(
        st.tuples(st.integers(0, 40) | st.none(), st.integers(0, 40) | st.none()).map(
            lambda pair: b"-".join(b"" if n is None else b"%d" % n for n in pair)
        ),
        max_size=3,
    ).map(b",".join),
).map(b"".join)
CHECKSUM = b"781e5e245d69b566979b86e28d23f2c7"
CONDITIONS = [b"If-Match", b"If-Modified-Since", b"If-Unmodified-Since", b"X-Glance-Trail"]
dates = st.sampled_from(
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Fri, 31 Dec 9999 23:59:60 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Mon, 30 Feb 0000 00:00:00 GMT",
    ]
)
tags = st.sampled_from([b"*", CHECKSUM, b'"%s"' % CHECKSUM, b'W/"x"', b",,", b'"'])


@fuzz
@given(
    wanted=ranges | values,
    condition=st.none() | tags | values,
    if_range=st.none() | tags | values | dates,
    other=st.none() | st.tuples(st.sampled_from(CONDITIONS), tags | dates | values),
    accept=values,
    number=st.sampled_from([1, 2, 3]),
)
def test_downloads(site, wanted, condition, if_range, other, accept, number):
    optional = {b"If-None-Match": condition, b"If-Range": if_range}
    headers = [(name, value) for name, value in optional.items() if value is not None]
    headers += [(b"Range", wanted), (b"Accept", accept), *([other] if other else [])]
    status, body = ask(site, site.port, b"GET", b"/v1/images/%d" % number, headers)
    whole = b"0123456789" * (number - 1)
    assert status in (200, 206, 300, 304, 400, 404, 412, 416)
    if status == 200:
        assert body == whole
    if status == 206:
        assert body
        assert body in whole
    if status == 304:
        assert body == b""


@fuzz
@given(
    data=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                *(
                    b"GET ",
                    b"POST ",
                    b"/v1/images",
                    b"/",
                    b" HTTP/1.1",
                    b" HTTP/1.0",
                    b"\r\n",
                    b"\n",
                ),
                *(
                    b"Host: h",
                    b"Content-Length: ",
                    b"5",
                    b"Transfer-Encoding: chunked",
                    b"\r\n\r\n",
                ),
                *(b"Connection: close", b": ", b" ", b"\t", b"\x00", b"0", b"ffffffffffffffff"),
                *(b"Content-Type: application/octet-stream", b"Expect: 100-continue", b"hello"),
            ]
        )
        | st.binary(max_size=5),
        max_size=25,
    ).map(b"".join)
)
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
@example(b"POST /v1/images HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello")
def test_bytes(site, data):
    for port in ports(site):
        answer = talk(port, data)
        while answer:
            # Whatever was taken for a request is answered in full.
            answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            judge(site, answer)
            head, _, rest = answer.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if length is None or b"HEAD" in data:
                break
            answer = rest[int(length[1]) :]

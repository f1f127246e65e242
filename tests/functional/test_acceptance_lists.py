"""The acceptance list of the REST API: filters (line 6), pages and order (line 7)."""

import dataclasses

import pytest

from support import daemons
from support.rawhttp import ADMIN, Http, identity


@dataclasses.dataclass
class Library:
    """A site and the ids of its images by name."""

    http: Http
    ids: dict[str, int]

    def names(self, query="", headers=None, path="/v1/images/detail"):
        reply = self.http.get(f"{path}?{query}", headers)
        assert reply.status == 200, reply
        return [image["name"] for image in reply.json()["images"]]


# Three public images and a private one, as the list demands; then rows that no list shows.
IMAGES = {
    "one": ({"is_public": "true", "disk_format": "vhd", "container_format": "ovf"}, b"1" * 10),
    "two": ({"is_public": "true", "disk_format": "vdi", "container_format": "ovf"}, b"2" * 20),
    "three": ({"is_public": "true", "disk_format": "raw", "min_ram": "512"}, b"3" * 20),
    "private": ({"min_disk": "7", "protected": "true"}, b"4" * 40),
    "gone": ({"is_public": "true"}, b"5" * 20),
}
PROPERTIES = {
    "one": {"pants": "are on", "distro": "Ubuntu"},
    "two": {"pants": "are on", "distro": "Fedora", "Kernel-Id": "9"},
    "private": {"pants": "are off"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    directory = tmp_path_factory.mktemp("library")
    with daemons.Site(directory, workers=2) as site:
        ids = {}
        for name, (meta, data) in IMAGES.items():
            sent = {
                f"x-image-meta-property-{key}": value
                for key, value in PROPERTIES.get(name, {}).items()
            }
            ids[name] = site.http.add(data, sent, name=name, **meta).json()["image"]["id"]
        wrong = {"name": "killed", "is_public": "true", "checksum": "0" * 32, "id": "900"}
        assert site.http.add(b"x", **wrong).status == 400
        queued = {"x-image-meta-name": "queued", "x-image-meta-is-public": "true"}
        ids["queued"] = site.http.post("/v1/images", queued).json()["image"]["id"]
        assert site.http.delete(f"/v1/images/{ids.pop('gone')}").status == 200
        ids["killed"] = 900
        yield Library(site.http, ids)


PUBLIC = {"one", "two", "three", "queued"}


@pytest.mark.parametrize("path", ["/v1/images", "/v1/images/detail"])
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", PUBLIC),
        ("name=one", {"one"}),
        ("name=One", set()),
        ("name=", set()),
        ("status=active", {"one", "two", "three"}),
        ("status=queued", {"queued"}),
        ("status=killed", set()),
        ("status=deleted", set()),
        ("status=sleeping", set()),
        ("disk_format=vhd", {"one"}),
        ("disk_format=nonsense", set()),
        ("container_format=ovf", {"one", "two"}),
        ("container_format=ovf&disk_format=vdi", {"two"}),
        ("size_min=20", {"two", "three"}),
        ("size_max=19", {"one", "queued"}),
        ("size_min=10&size_max=19", {"one"}),
        ("size_min=9223372036854775807", set()),
        ("min_ram=512", {"three"}),
        ("min_ram=511", set()),
        ("min_disk=7&is_public=none", {"private"}),
        ("is_public=None", PUBLIC | {"private"}),
        ("is_public=NONE", PUBLIC | {"private"}),
        ("is_public=False", {"private"}),
        ("is_public=0", {"private"}),
        ("is_public=True", PUBLIC),
        ("is_public=1", PUBLIC),
        ("protected=true&is_public=none", {"private"}),
        ("protected=0&is_public=none", PUBLIC),
        ("property-pants=are%20on", {"one", "two"}),
        ("property-pants=are+on&name=two", {"two"}),
        ("property-pants=are%20on&property-distro=Ubuntu", {"one"}),
        ("property-pants=are%20off&is_public=none", {"private"}),
        ("property-PANTS=are%20on", {"one", "two"}),
        ("property-kernel-id=9", {"two"}),
        ("property-kernel_id=9", {"two"}),
        ("property-pants=ARE%20ON", set()),
        ("property-unheard=of", set()),
        ("unknown=parameter&owner=nobody", PUBLIC),
        ("name=two&name=one", {"one"}),
        ("deleted=false", PUBLIC),
        ("deleted=true", {"gone"}),
        ("name=one;name=two", set()),
    ],
)
def test_line_6_filters_choose_what_is_listed(library, path, query, names):
    assert set(library.names(query, path=path)) == names


@pytest.mark.parametrize(
    "query",
    [
        *("size_min=", "size_min=x", "size_min=-1", "size_max=1.5", "size_max=0x10"),
        *("min_ram=lots", "min_ram=-1", "min_disk=", "min_disk=1e3"),
        *("is_public=", "is_public=yes", "is_public=maybe", "protected=yes", "protected="),
        *("changes-since=yesterday", "changes-since=", "changes-since=2011-13-01T00:00:00"),
        *("name=%ff", "name=%00", "property-a=%C3%28"),
    ],
)
def test_line_6_a_filter_that_cannot_be_meant_is_400(library, query):
    reply = library.http.get(f"/v1/images?{query}")
    assert reply.status == 400
    assert reply.text.startswith("400 Bad Request\n")


def test_line_6_changes_since_includes_deleted_and_killed_images(library):
    names = library.names("changes-since=2011-09-22T10:11:12Z&is_public=none")
    assert {"one", "private", "gone", "killed"} <= set(names)
    assert library.names("changes-since=2999-01-01T00:00:00Z&is_public=none") == []


@pytest.mark.parametrize("offset", ["%2B02:00", "+02:00"])
def test_line_6_changes_since_honours_the_offset(library, offset):
    stamp = library.http.head(f"/v1/images/{library.ids['one']}").meta()["updated_at"]
    hour = int(stamp[11:13])
    if hour < 22:
        shifted = f"{stamp[:11]}{hour + 2:02}{stamp[13:]}{offset}"
        assert "one" not in library.names(f"changes-since={shifted}")
    assert "one" in library.names(f"changes-since={stamp}{offset}")


# -- line 7 --------------------------------------------------------------------------------------

KEYS = (
    *("name", "status", "container_format", "disk_format"),
    *("size", "id", "created_at", "updated_at"),
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A site with images that share names, sizes and times, some of them null; and their rows."""
    directory = tmp_path_factory.mktemp("shelf")
    with daemons.Site(directory) as site:
        for number in range(9):
            headers = {"x-image-meta-is-public": "true"}
            if number % 3:
                headers["x-image-meta-name"] = "ab"[number % 2]
                headers["x-image-meta-disk-format"] = ("raw", "vhd", "iso")[number % 3]
            if number % 2:
                headers["Content-Type"] = "application/octet-stream"
            data = b"x" * (number // 3) if number % 2 else b""
            assert site.http.post("/v1/images", headers, data).status == 201
        # Equal times need a hand in the database: the clock never gives two.
        for column in ("created_at", "updated_at"):
            for number in (4, 5, 6):
                site.sql(
                    f"UPDATE images SET {column} = :time WHERE id = :id",
                    time=f"2020-01-01 00:00:00.00000{number // 5}",
                    id=number,
                )
        rows = site.http.get("/v1/images/detail?limit=100").json()["images"]
        assert len(rows) == 9
        yield site.http, rows


def ordered(rows, key, direction):
    """Return rows as the specification orders them: null lowest, ties by id the same way."""
    nulls = [row for row in rows if row[key] is None]
    others = [row for row in rows if row[key] is not None]
    nulls.sort(key=lambda row: row["id"])
    others.sort(key=lambda row: (row[key], row["id"]))
    return nulls + others if direction == "asc" else (nulls + others)[::-1]


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_line_7_pages_visit_each_image_once_in_order(shelf, key, direction, limit):
    http, rows = shelf
    wanted = [row["id"] for row in ordered(rows, key, direction)]
    seen, marker = [], ""
    while True:
        query = f"sort_key={key}&sort_dir={direction}&limit={limit}{marker}"
        page = http.get(f"/v1/images?{query}").json()["images"]
        if not page:
            break
        assert len(page) <= limit
        seen += [image["id"] for image in page]
        marker = f"&marker={seen[-1]}"
    assert seen == wanted


def test_line_7_newest_images_come_first_unless_told_otherwise(shelf):
    http, rows = shelf
    plain = [image["id"] for image in http.get("/v1/images").json()["images"]]
    assert plain == [row["id"] for row in ordered(rows, "created_at", "desc")]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=x", "limit=", "limit=-1", "limit=1.5", "sort_dir=up", "sort_dir="),
        *("sort_key=owner", "sort_key=", "sort_key=location", "sort_key=id;"),
        *("marker=x", "marker=", "marker=-1", "marker=99999", "marker=99999999999999999999"),
        "marker=1.0",
    ],
)
def test_line_7_bad_pages_and_orders_are_400(shelf, query):
    assert shelf[0].get(f"/v1/images/detail?{query}").status == 400


def test_line_7_a_limit_of_zero_lists_nothing_and_a_huge_one_everything(shelf):
    http, rows = shelf
    assert http.get("/v1/images?limit=0").json() == {"images": []}
    assert len(http.get("/v1/images?limit=100000000").json()["images"]) == len(rows)


def test_line_7_a_marker_need_not_pass_the_filter(shelf):
    http, rows = shelf
    last = max(row["id"] for row in rows)
    query = f"marker={last}&sort_key=id&disk_format=nothing"
    assert http.get(f"/v1/images?{query}").json() == {"images": []}


def test_line_7_default_and_largest_pages_are_options_of_the_registry(make_site):
    http = make_site(registry={"limit_param_default": 2, "api_limit_max": 3}).http
    for _ in range(5):
        http.post("/v1/images", {"x-image-meta-is-public": "true"})
    assert len(http.get("/v1/images").json()["images"]) == 2
    assert len(http.get("/v1/images?limit=4").json()["images"]) == 3


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    directory = tmp_path_factory.mktemp("markers")
    with daemons.Site(directory, auth_mode="trusted-headers") as site:
        yield site.http


def test_line_7_invisible_deleted_and_unknown_markers_look_alike(tenants):
    mine, other = identity("tenant1"), identity("tenant2")
    hidden = tenants.post("/v1/images", mine).json()["image"]["id"]
    gone = tenants.post("/v1/images", other).json()["image"]["id"]
    tenants.delete(f"/v1/images/{gone}", other)
    answers = [
        tenants.get(f"/v1/images?marker={marker}", other) for marker in (hidden, gone, 99999)
    ]
    assert [reply.status for reply in answers] == [400, 400, 400]
    assert len({reply.body for reply in answers}) == 1
    assert tenants.get(f"/v1/images?marker={hidden}", mine).status == 200
    assert tenants.get(f"/v1/images?marker={hidden}", ADMIN).status == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [("is_public=none", 200), ("is_public=false", 200), ("is_public=bogus", 400)],
)
def test_line_6_is_public_is_checked_for_all_and_obeyed_for_admins(tenants, query, status):
    tenants.post("/v1/images", {**identity("tenant3"), "x-image-meta-name": "hidden"})
    reply = tenants.get(f"/v1/images/detail?{query}&limit=1000", identity("tenant4"))
    assert reply.status == status
    if status == 200:
        assert "hidden" not in [image["name"] for image in reply.json()["images"]]
        admins = tenants.get(f"/v1/images/detail?{query}&limit=1000", ADMIN).json()["images"]
        assert "hidden" in [image["name"] for image in admins]


def test_line_6_deleted_is_obeyed_for_admins_only(tenants):
    owner = identity("tenant5")
    image = tenants.post("/v1/images", {**owner, "x-image-meta-is-public": "true"}).json()["image"]
    tenants.delete(f"/v1/images/{image['id']}", owner)
    for caller, is_listed in ((owner, False), (ADMIN, True)):
        listed = tenants.get("/v1/images?deleted=true&limit=1000", caller).json()["images"]
        assert (image["id"] in [entry["id"] for entry in listed]) == is_listed

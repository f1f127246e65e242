"""Images whose rows another program wrote: the API shows, lists and deletes them."""

import contextlib
import sqlite3

import pytest

from tests.unit.api.conftest import PAYLOAD

URL = "/v1/images"


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("created_at", "yesterday", ""),
        ("created_at", "2011-09-22T12:00:00.5Z", "2011-09-22T12:00:00.500000"),
        ("updated_at", "2011-09-22 12:00", "2011-09-22T12:00:00.000000"),
        ("status", "weird", "weird"),
        ("disk_format", "floppy", "floppy"),
        ("size", "big", ""),
        ("min_ram", "plenty", "0"),
        ("name", b"caf\xc3\xa9", "caf\u00e9"),
        ("name", b"\xff", "\ufffd"),
    ],
)
def test_one_odd_row_does_not_stop_the_service(api, tmp_path, column, value, shown):
    for image_id in (5, 6, 7):
        api.add(PAYLOAD, id=image_id, is_public="True")
    change(tmp_path, f"UPDATE images SET {column} = ? WHERE id = 6", value)
    for path in ("", "/detail", "/detail?sort_key=name", "/detail?sort_key=id&marker=7"):
        response = api("GET", URL + path)
        assert response.status_int == 200, response.text
        assert 6 in [image["id"] for image in response.json["images"]]
    head = api("HEAD", f"{URL}/6")
    assert head.status_int == 200
    found = head.headers[f"x-image-meta-{column}"]
    assert found.encode("latin-1").decode() == shown
    assert api("GET", f"{URL}/6").status_int == (404 if column == "status" else 200)
    assert api("PUT", f"{URL}/7", {"x-image-meta-name": "x"}).status_int == 200
    assert api("DELETE", f"{URL}/6").status_int == 200
    assert [image["id"] for image in api("GET", URL).json["images"]] == [7, 5]


def test_a_name_with_capitals_is_one_header(api, tmp_path):
    headers = {"x-image-meta-property-os_type": "linux", "x-image-meta-property-a": "b"}
    api.add(PAYLOAD, headers, id=5, is_public="True")
    change(tmp_path, "UPDATE image_properties SET name = ? WHERE name = 'os_type'", "OS_Type")
    head = api("HEAD", f"{URL}/5").headers
    assert head.getall("x-image-meta-property-os_type") == ["linux"]
    for name in ("os_type", "OS_Type", "os-type"):
        (image,) = api("GET", f"{URL}/detail?property-{name}=linux").json["images"]
        assert image["properties"] == {"os_type": "linux", "a": "b"}
    changed = api("PUT", f"{URL}/5", {"x-image-meta-property-OS_TYPE": "bsd"}).json["image"]
    assert changed["properties"] == {"os_type": "bsd"}
    assert api("HEAD", f"{URL}/5").headers["x-image-meta-property-os_type"] == "bsd"


def change(tmp_path, statement, *values):
    path = tmp_path / "registry.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)

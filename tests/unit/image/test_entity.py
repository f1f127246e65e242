"""The image of version 2: what clients may send, and what they are shown."""

import pytest

from glance.common import exception
from glance.image import entity, fields

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"


def record(**values):
    made = {
        "id": 7,
        "uuid": UUID,
        "name": None,
        "status": "active",
        "visibility": "shared",
        "is_public": False,
        "protected": False,
        "os_hidden": False,
        "owner": None,
        "disk_format": "raw",
        "container_format": "bare",
        "min_disk": 0,
        "min_ram": 0,
        "size": 5,
        "virtual_size": None,
        "checksum": "0" * 32,
        "os_hash_algo": None,
        "os_hash_value": None,
        "location": "file:///secret",
        "created_at": "2026-11-27T10:11:12.999999",
        "updated_at": "2026-11-27T10:11:15.000001",
        "deleted_at": None,
        "deleted": False,
        "upload_via": "v2",
        "tags": ["a", "b"],
        "properties": {},
    }
    return {**made, **values}


# -- shown ---------------------------------------------------------------------------------------


def test_an_image_has_these_keys_and_no_other():
    assert set(entity.to_json(record())) == {
        *("id", "name", "status", "visibility", "protected", "os_hidden", "owner"),
        *("disk_format", "container_format", "min_disk", "min_ram", "size", "virtual_size"),
        *("checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at", "tags"),
        *("self", "file", "schema"),
    }
    shown = {each.name for each in entity.ATTRIBUTES if each.shown}
    assert shown == set(entity.to_json(record()))


def test_paths_are_relative_to_the_root():
    shown = entity.to_json(record())
    assert shown["id"] == UUID
    assert shown["self"] == f"/v2/images/{UUID}"
    assert shown["file"] == f"/v2/images/{UUID}/file"
    assert shown["schema"] == "/v2/schemas/image"


def test_times_have_whole_seconds_and_a_zone():
    shown = entity.to_json(record(updated_at=None))
    assert shown["created_at"] == "2026-11-27T10:11:12Z"
    assert shown["updated_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("status", "size", "checksum"),
    [
        ("queued", None, None),
        ("saving", None, None),
        ("killed", None, None),
        ("uploading", 5, None),
        ("importing", 5, None),
        ("active", 5, "0" * 32),
        ("deactivated", 5, "0" * 32),
    ],
)
def test_what_was_declared_is_not_shown_before_there_is_data(status, size, checksum):
    shown = entity.to_json(record(status=status))
    assert (shown["size"], shown["checksum"]) == (size, checksum)


def test_properties_are_text_and_never_hide_a_field():
    properties = {
        "os": "linux",
        "Trait:X": "",
        "none": None,
        "is_public": "perhaps",
        **dict.fromkeys(("id", "status", "name", "tags", "visibility", "stores"), "odd"),
        **dict.fromkeys(("metadata", "properties", "links", "locations"), "odd"),
        **dict.fromkeys(("os_glance_x", "direct_url", "deleted", "location"), "odd"),
    }
    shown = entity.to_json(record(properties=properties))
    kept = {"os": "linux", "Trait:X": "", "none": "", "is_public": "perhaps"}
    assert {name: shown[name] for name in shown if name not in entity.BY_NAME} == kept
    assert shown["status"] == "active"
    assert entity.properties_of(record(properties=properties)) == kept


@pytest.mark.parametrize("name", [*fields.READ_ONLY_PROPERTIES, "inspection_result"])
def test_what_the_service_adds_is_no_property_of_a_user(name):
    """Terraform would remove it; what begins with this prefix it leaves alone."""
    added = record(properties={name: "x", "os": "linux"})
    shown = entity.to_json(added)
    others = {key: shown[key] for key in shown if key not in entity.BY_NAME}
    assert others == {f"os_glance_{name}": "x", "os": "linux"}
    assert entity.properties_of(added) == {"os": "linux"}
    for sent in (name, f"os_glance_{name}"):
        with pytest.raises(exception.Forbidden):
            entity.parse({sent: "x"})


def test_odd_old_values_have_the_types_of_the_schema():
    shown = entity.to_json(
        record(disk_format="", container_format=None, min_disk=None, min_ram=None, checksum="")
    )
    assert shown["disk_format"] is shown["container_format"] is shown["checksum"] is None
    assert shown["min_disk"] == shown["min_ram"] == 0


# -- sent ----------------------------------------------------------------------------------------


def test_an_image_to_create_is_split():
    document = {
        "name": "x",
        "id": UUID.upper(),
        "tags": ["b", "a", "a"],
        "A.b:c/d e": "",
        "ü": "x",
    }
    assert entity.parse(document) == (
        {"name": "x", "id": UUID},
        {"A.b:c/d e": "", "ü": "x"},
        ["a", "b"],
    )
    assert entity.parse({}) == ({}, {}, None)


@pytest.mark.parametrize("document", [[1], "x", 5, None, True, [{}]])
def test_only_an_object_is_an_image(document):
    with pytest.raises(exception.Invalid):
        entity.parse(document)


@pytest.mark.parametrize(
    "name",
    [
        *("status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size"),
        *("created_at", "updated_at", "self", "file", "schema", "direct_url", "stores"),
        *("deleted", "deleted_at", "location", "locations", "os_glance_", "os_glance_x"),
    ],
)
@pytest.mark.parametrize("value", ["x", None, 1, []])
def test_what_only_the_service_sets_is_refused(name, value):
    with pytest.raises(exception.Forbidden):
        entity.parse({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("id", bad) for bad in ("", "7", None, 7, UUID[1:], UUID + "0", UUID.replace("-", ""))),
        *(("id", bad) for bad in (f"{{{UUID}}}", UUID + "\n", UUID.replace("5", "٥"))),
        *(("name", bad) for bad in (5, [], "n" * 256, "a\0")),
        *(("visibility", bad) for bad in ("", "all", None, 1)),
        *(("protected", bad) for bad in ("true", 1, None)),
        *(("min_ram", bad) for bad in (True, "1", -1, 2**31, 1.5, None)),
        *(("disk_format", bad) for bad in ("", "RAW", 5)),
        *(("owner", bad) for bad in (5, "o" * 256)),
        *(("tags", bad) for bad in (None, {}, "a", [None], [""], ["t" * 256], ["a\x7f"])),
        *(("a", bad) for bad in (None, 5, True, [], {}, "v" * 65536)),
        *((bad, "x") for bad in ("", "n" * 256, "a\0", "metadata", "properties", "links")),
    ],
)
def test_values_that_do_not_fit(name, value):
    with pytest.raises(exception.Invalid):
        entity.parse({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "n" * 255),
        ("tags", ["t" * 255]),
        ("n" * 255, "x"),
        ("a", "v" * 65535),
        ("min_disk", 2**31 - 1),
        ("disk_format", None),
        ("is_public", "x"),
    ],
)
def test_values_at_their_bounds(name, value):
    entity.parse({name: value})


def test_each_format_of_the_deployment_and_no_other_is_taken():
    formats = fields.Formats(("raw",), ("bare",))
    assert entity.parse({"disk_format": "raw"}, formats)[0] == {"disk_format": "raw"}
    with pytest.raises(exception.Invalid, match="raw"):
        entity.parse({"disk_format": "qcow2"}, formats)


@pytest.mark.parametrize(
    ("text", "uuid"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        ("7", None),
        ("", None),
        ("detail", None),
        (f"urn:uuid:{UUID}", None),
        (UUID.replace("-", "_"), None),
        ("İ" + UUID[1:], None),
    ],
)
def test_a_uuid_has_one_form(text, uuid):
    assert fields.parse_uuid(text) == uuid

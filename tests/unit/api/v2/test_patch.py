"""The body of PATCH: both forms, pointers, and the one change that all operations become."""

import pytest

from glance.api.v2 import patch
from glance.common import exception
from glance.image import fields

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"


def record(**values):
    made = {
        "id": 1,
        "uuid": UUID,
        "name": "web",
        "status": "active",
        "visibility": "shared",
        "owner": "me",
        "disk_format": "raw",
        "container_format": None,
        "properties": {"os": "linux", "empty": None, "status": "odd", "metadata": "m"},
    }
    return {**made, **values}


def change(*operations, is_admin=False, **values):
    """Return what operations of the newer form change in an image."""
    entries = [
        {"op": op, "path": path, **({"value": rest[0]} if rest else {})}
        for op, path, *rest in operations
    ]
    made = patch.Patch(record(**values), is_admin=is_admin, formats=fields.FORMATS)
    for operation in patch.parse(patch.V21, entries):
        made.apply(operation)
    return made.change()


# -- the body ------------------------------------------------------------------------------------


def test_both_forms_say_the_same():
    newer = [
        {"op": "replace", "path": "/name", "value": "x"},
        {"op": "add", "path": "/a", "value": "1", "comment": "ignored"},
        {"op": "remove", "path": "/os"},
    ]
    older = [
        {"replace": "/name", "value": "x"},
        {"add": "/a", "value": "1"},
        {"remove": "/os"},
    ]
    assert patch.parse(patch.V21, newer) == patch.parse(patch.V20, older)
    assert patch.parse(patch.V21, newer)[1] == patch.Operation("add", "a", "1")


@pytest.mark.parametrize("media_type", patch.MEDIA_TYPES)
@pytest.mark.parametrize("body", [{}, "x", 5, None, True, [1], [[]], ["x"], [None], [{}]])
def test_a_body_that_is_no_array_of_objects(media_type, body):
    with pytest.raises(exception.Invalid):
        patch.parse(media_type, body)


@pytest.mark.parametrize(
    "entry",
    [
        {"op": "test", "path": "/a", "value": "1"},
        {"op": "move", "from": "/b", "path": "/a"},
        {"op": "copy", "from": "/b", "path": "/a"},
        {"op": "Add", "path": "/a", "value": "1"},
        {"op": ["add"], "path": "/a", "value": "1"},
        {"op": {}, "path": "/a", "value": "1"},
        {"path": "/a", "value": "1"},
        {"op": "add", "value": "1"},
        {"op": "add", "path": "/a"},
        {"op": "replace", "path": "/a"},
        {"op": "add", "path": 5, "value": "1"},
        {"op": "add", "path": None, "value": "1"},
        {"replace": "/a", "value": "1"},
    ],
)
def test_operations_that_are_none_in_the_newer_form(entry):
    with pytest.raises(exception.Invalid) as caught:
        patch.parse(patch.V21, [{"op": "remove", "path": "/os"}, entry])
    assert "Operation 2" in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"op": "add", "path": "/a", "value": "1"},
        {"add": "/a"},
        {"add": "/a", "remove": "/b", "value": "1"},
        {"add": "/a", "op": "add", "value": "1"},
        {"test": "/a", "value": "1"},
        {"add": None, "value": "1"},
        {"value": "1"},
    ],
)
def test_operations_that_are_none_in_the_older_form(entry):
    with pytest.raises(exception.Invalid):
        patch.parse(patch.V20, [entry])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a", "a"),
        ("/a~1b", "a/b"),
        ("/a~0b", "a~b"),
        ("/~01", "~1"),
        ("/ ", " "),
        ("/ü.x:Y", "ü.x:Y"),
        ("/%2F", "%2F"),
    ],
)
def test_a_pointer_names_one_attribute(path, name):
    (operation,) = patch.parse(patch.V21, [{"op": "remove", "path": path}])
    assert operation.name == name


@pytest.mark.parametrize(
    "path", ["a", "", "/", "//", "/a/b", "/a/", "/tags/-", "/tags/0", "/a~2", "/a~", "/~~0"]
)
def test_a_pointer_that_names_none(path):
    for media_type, entry in (
        (patch.V21, {"op": "add", "path": path, "value": "x"}),
        (patch.V20, {"add": path, "value": "x"}),
    ):
        with pytest.raises(exception.Invalid):
            patch.parse(media_type, [entry])


# -- fields --------------------------------------------------------------------------------------


def test_nothing_to_do():
    assert change() == {}


@pytest.mark.parametrize("op", ["add", "replace"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "new"),
        ("name", None),
        ("name", ""),
        ("visibility", "community"),
        ("protected", True),
        ("os_hidden", False),
        ("min_disk", 0),
        ("min_ram", 2**31 - 1),
    ],
)
def test_fields_are_set_by_either_operation(op, name, value):
    assert change((op, f"/{name}", value)) == {"set": {name: value}}


def test_tags_are_replaced_as_a_whole_each_once():
    assert change(("replace", "/tags", ["b", "a", "b"])) == {"tags": ["a", "b"]}
    assert change(("add", "/tags", [])) == {"tags": []}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 5),
        ("name", "x" * 256),
        ("name", "a\nb"),
        ("name", "\ud800"),
        ("visibility", None),
        ("visibility", "Public"),
        ("protected", None),
        ("protected", "true"),
        ("os_hidden", 1),
        ("min_disk", True),
        ("min_disk", -1),
        ("min_disk", 2**31),
        ("min_disk", 1.0),
        ("min_disk", None),
        ("min_ram", "1"),
        ("tags", None),
        ("tags", "a"),
        ("tags", [5]),
        ("tags", [""]),
        ("tags", ["x" * 256]),
        ("tags", ["a\0"]),
        ("disk_format", "floppy"),
        ("disk_format", ""),
        ("owner", ["me"]),
        ("a", 5),
        ("a", None),
        ("a", True),
        ("a", ["x"]),
        ("a", {}),
        ("a", "x" * 65536),
        ("a\n", "x"),
        ("n" * 256, "x"),
        ("metadata", "x"),
        ("properties", "x"),
        ("links", "x"),
    ],
)
def test_values_that_an_attribute_cannot_have(name, value):
    with pytest.raises(exception.Invalid) as caught:
        change(("add", f"/{name}", value), status="queued", is_admin=True)
    assert name.strip("\n")[:3] in str(caught.value) or "property name" in str(caught.value)


READ_ONLY = [
    *("id", "status", "size", "checksum", "created_at", "updated_at", "os_hash_algo"),
    *("os_hash_value", "virtual_size", "self", "file", "schema", "direct_url", "stores"),
    *("deleted", "deleted_at", "location", "locations", "os_glance_x"),
]


@pytest.mark.parametrize("name", READ_ONLY)
@pytest.mark.parametrize("operation", [("add", "x"), ("replace", "x"), ("remove",)])
def test_what_only_the_service_sets(name, operation):
    op, *value = operation
    with pytest.raises(exception.Forbidden):
        change((op, f"/{name}", *value), is_admin=True)


@pytest.mark.parametrize("path", ["/locations", "/locations/-", "/locations/0", "/locations/a/b"])
def test_locations_are_refused_so_that_clients_go_another_way(path):
    """As glanceclient sends them for Nova, which then uploads the data."""
    location = {"url": "rbd://x", "metadata": {}}
    for operation in (("add", path, location), ("replace", path, []), ("remove", path)):
        with pytest.raises(exception.Forbidden):
            change(operation, is_admin=True)


@pytest.mark.parametrize("name", ["name", "tags", "visibility", "min_disk", "owner"])
def test_a_field_is_never_removed(name):
    with pytest.raises(exception.Forbidden):
        change(("remove", f"/{name}"), is_admin=True)


def test_only_an_administrator_gives_an_image_away():
    assert change(("replace", "/owner", "you"), is_admin=True) == {"set": {"owner": "you"}}
    assert change(("replace", "/owner", None), is_admin=True) == {"set": {"owner": None}}
    assert change(("replace", "/owner", "me")) == {}
    for value in ("you", None, ""):
        with pytest.raises(exception.Forbidden):
            change(("replace", "/owner", value))


@pytest.mark.parametrize("status", ["saving", "active", "killed", "deactivated", "importing"])
def test_formats_stay_once_there_is_data(status):
    with pytest.raises(exception.Forbidden):
        change(("replace", "/disk_format", "qcow2"), status=status, is_admin=True)
    same = (("add", "/disk_format", "raw"), ("replace", "/container_format", None))
    assert change(*same, status=status) == {}


def test_formats_change_while_there_is_none():
    assert change(("replace", "/disk_format", "qcow2"), status="queued") == {
        "set": {"disk_format": "qcow2"},
        "from_state": ["queued"],
    }


# -- properties ----------------------------------------------------------------------------------


def test_properties_are_added_replaced_and_removed():
    assert change(("add", "/a", ""), ("add", "/os", "bsd"), ("add", "/A", "x")) == {
        "properties": {"a": "", "os": "bsd", "A": "x"}
    }
    assert change(("replace", "/os", "bsd")) == {
        "properties": {"os": "bsd"},
        "must_exist": ["os"],
    }
    assert change(("remove", "/os")) == {"remove": ["os"], "must_exist": ["os"]}
    assert change(("remove", "/empty")) == {"remove": ["empty"], "must_exist": ["empty"]}


@pytest.mark.parametrize("name", ["nope", "OS", "metadata", "is_public"])
@pytest.mark.parametrize("operation", [("replace", "x"), ("remove",)])
def test_a_property_that_is_not_there(name, operation):
    op, *value = operation
    with pytest.raises(exception.Conflict):
        change(("add", "/fine", "1"), (op, f"/{name}", *value))


def test_operations_apply_one_after_the_other():
    assert change(("add", "/a", "1"), ("replace", "/a", "2")) == {"properties": {"a": "2"}}
    assert change(("add", "/a", "1"), ("remove", "/a")) == {}
    assert change(("remove", "/os"), ("add", "/os", "2")) == {
        "properties": {"os": "2"},
        "must_exist": ["os"],
    }
    assert change(("add", "/os", "2"), ("remove", "/os")) == {"remove": ["os"]}
    assert change(("replace", "/name", "a"), ("add", "/name", "b")) == {"set": {"name": "b"}}
    for second in (("remove", "/os"), ("replace", "/os", "x")):
        with pytest.raises(exception.Conflict):
            change(("remove", "/os"), second)

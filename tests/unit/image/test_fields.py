"""The field table: headers, JSON, and the rules about a record."""

import datetime
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception
from glance.image import fields
from glance.image import headers as image_headers

HEADER_NAME = st.one_of(
    st.sampled_from([image_headers.HEADER_PREFIX + field.name for field in fields.FIELDS]),
    st.text(string.ascii_letters + "-_.!", max_size=12).map(image_headers.PROPERTY_PREFIX.__add__),
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30),
)
HEADER_VALUE = st.text(st.characters(max_codepoint=255), max_size=40)


def parse(*items):
    return image_headers.parse_headers(items)


@pytest.mark.parametrize(
    "name", ["x-image-meta-is_public", "X-Image-Meta-Is-Public", "X-IMAGE-META-IS_PUBLIC"]
)
def test_hyphen_underscore_and_case_of_a_header_name_do_not_matter(name):
    assert parse((name, "True")) == {"is_public": True, "properties": {}}


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "t", "yes", "y", "on"])
def test_each_word_for_true_is_true(word):
    assert parse(("x-image-meta-protected", word))["protected"] is True


@pytest.mark.parametrize("word", ["false", "None", "", "0", "maybe"])
def test_any_other_word_is_false(word):
    assert parse(("x-image-meta-is_public", word))["is_public"] is False


def test_property_names_are_folded_and_empty_values_are_null():
    meta = parse(("X-Image-Meta-Property-Kernel-Id", "5"), ("x-image-meta-property-a.b", ""))
    assert meta["properties"] == {"kernel_id": "5", "a.b": None}


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("size", "5368709120", 5368709120),
        ("size", "", None),
        ("min_ram", "", 0),
        ("min_disk", "7", 7),
        ("id", "77", 77),
        ("checksum", "D41D8CD98F00B204E9800998ECF8427E", "d41d8cd98f00b204e9800998ecf8427e"),
        ("owner", "null", None),
        ("owner", "NULL", None),
        ("owner", "", None),
        ("owner", "tenant1", "tenant1"),
        ("name", "", None),
        ("name", "caf\u00c3\u00a9", "café"),
    ],
)
def test_values_are_typed(name, value, typed):
    assert parse((image_headers.HEADER_PREFIX + name, value))[name] == typed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "-1"),
        ("size", "1e3"),
        ("size", str(2**63)),
        ("size", "٣"),
        ("id", "0"),
        ("id", "-5"),
        ("id", "abc"),
        ("id", "01"),
        ("id", "+1"),
        ("id", "1_0"),
        ("id", "٧"),
        ("size", "1_0"),
        ("min_ram", "²"),
        ("id", str(2**31)),
        ("min_ram", "x"),
        ("min_disk", str(2**31)),
        ("checksum", "xyz"),
        ("name", "n" * 256),
        ("owner", "o" * 256),
        ("name", "a\nb"),
        ("name", "a\x00b"),
        ("property-p", "a\rb"),
        ("property-" + "p" * 256, "v"),
        ("property-", "v"),
        ("unknown", "a\nb"),
        ("name", "\xff\xfe"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(name, value):
    with pytest.raises(exception.Invalid):
        parse(
            (
                image_headers.HEADER_PREFIX + name,
                value.encode().decode("latin-1") if value == "٣" else value,
            )
        )


@pytest.mark.parametrize("name", ["created_at", "deleted", "uri", "type", "properties", "members"])
def test_read_only_and_unknown_fields_are_ignored(name):
    assert parse((image_headers.HEADER_PREFIX + name, "x")) == {"properties": {}}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x-image-meta-name", "X-Image-Meta-Name"),
        ("x-image-meta-min-ram", "x-image-meta-min_ram"),
        ("x-image-meta-property-a-b", "x-image-meta-property-A_b"),
    ],
)
def test_the_same_field_twice_has_one_value(first, second):
    with pytest.raises(exception.Invalid, match="different"):
        parse((first, "1"), (second, "2"))
    assert parse((first, "1"), (second, "1")) == parse((first, "1"))


def test_a_property_of_json_given_twice_has_one_value():
    assert fields.coerce_properties({"Arch": 1, "arch": "1"}) == {"arch": "1"}
    with pytest.raises(exception.Invalid, match="different"):
        fields.coerce_properties({"Arch": None, "arch": "1"})


@given(st.lists(st.tuples(HEADER_NAME, HEADER_VALUE), max_size=6))
def test_any_headers_are_parsed_or_refused(items):
    try:
        meta = image_headers.parse_headers(items)
    except exception.Invalid as err:
        assert "\n" not in str(err)
    else:
        assert set(meta) <= set(fields.DETAIL_KEYS) | {"store"}


def record(**values):
    image = dict.fromkeys(fields.DETAIL_KEYS)
    return {**image, "id": 7, "status": "active", "is_public": True, "properties": {}, **values}


def test_answer_headers_show_null_as_empty_and_leave_out_a_null_checksum():
    headers = dict(image_headers.image_headers(record(owner=None)))
    assert headers["x-image-meta-owner"] == ""
    assert headers["x-image-meta-is_public"] == "True"
    assert "x-image-meta-checksum" not in headers
    assert "x-image-meta-location" not in headers


def test_line_breaks_stored_by_others_cannot_break_the_header_block():
    image = record(name="a\r\nX-Evil: 1", properties={"k: v\r\nx": "v\nw"})
    for name, value in image_headers.image_headers(image):
        assert not set("\r\n") & set(name + value)
        assert ":" not in name


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40),
)
def test_text_survives_client_to_server_and_back(name, value):
    name, value = name.strip(" \t"), value.strip(" \t")
    sent = image_headers.client_headers({"name": name, "properties": {"p": value}})
    stored = image_headers.parse_headers(sent.items())
    shown = image_headers.image_headers(record(**stored))
    back = image_headers.client_meta(shown)
    assert (back["name"], back["properties"]["p"]) == (name or None, value or None)


@pytest.mark.parametrize("name", ["größe", "ÜBER", "日本"])
def test_property_names_beyond_ascii_survive_the_way_there_and_back(name):
    sent = image_headers.client_headers({"properties": {name: "v"}})
    stored = image_headers.parse_headers(sent.items())
    back = image_headers.client_meta(image_headers.image_headers(record(**stored)))
    assert back["properties"] == {name.lower(): "v"}


@pytest.mark.parametrize("name", ["kernel_id", "a-b", "_x_", "__", "a_b-c", "A_B", "gr_öße"])
def test_names_with_underscores_are_sent_with_hyphens_and_come_back(name):
    meta = {"properties": {name: "v"}, "disk_format": "raw", "min_disk": 3}
    sent = image_headers.client_headers(meta)
    assert not any("_" in each for each in sent)
    stored = image_headers.parse_headers(sent.items())
    assert (stored["disk_format"], stored["min_disk"]) == ("raw", 3)
    back = image_headers.client_meta(image_headers.image_headers(record(**stored)))
    assert back["properties"] == {name.lower().replace("-", "_"): "v"}


def test_every_attribute_that_can_be_sent_passes_a_proxy_that_drops_underscores():
    names = {name: name for name in (*fields.DETAIL_KEYS, "store") if name != "properties"}
    for header in image_headers.client_headers(names):
        assert re.fullmatch(r"[a-z0-9-]+", header)


@pytest.mark.parametrize(
    "meta",
    [
        {"properties": {"a-b": "1", "a_b": "2"}},
        {"disk-format": "raw", "disk_format": "raw"},
        {"property_x": "1", "properties": {"x": "2"}},
    ],
)
def test_names_that_are_the_same_header_are_not_sent(meta):
    with pytest.raises(exception.Invalid, match="twice"):
        image_headers.client_headers(meta)


def test_client_types_numbers_and_booleans():
    back = image_headers.client_meta(
        image_headers.image_headers(record(size=5, min_ram=3, deleted=False))
    )
    assert (back["id"], back["size"], back["min_ram"]) == (7, 5, 3)
    assert (back["is_public"], back["deleted"]) == (True, False)


@pytest.mark.parametrize("meta", [{"name": "a\nb"}, {"properties": {"x": "\x1b"}}])
def test_a_value_that_no_header_can_carry_is_refused_with_the_reason(meta):
    with pytest.raises(exception.Invalid, match="holds a line break or another control character"):
        image_headers.client_headers(meta)


@pytest.mark.parametrize("meta", [{"name": "a\r\nb"}, {"properties": {"a b": "c"}}, {"a:b": "c"}])
def test_client_refuses_to_send_what_would_break_the_header_block(meta):
    with pytest.raises(exception.Invalid):
        image_headers.client_headers(meta)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_public", "maybe"),
        ("is_public", []),
        ("size", True),
        ("size", 1.5),
        ("size", -1),
        ("name", 5),
        ("name", "\ud800"),
        ("owner", "a\x07"),
        ("properties", [1]),
        ("properties", {"a": {}}),
        ("properties", {"A": "1", "a": "2"}),
        ("properties", {"a": "v" * 65536}),
        ("id", "x"),
    ],
)
def test_json_values_that_cannot_be_stored_are_refused(name, value):
    with pytest.raises(exception.Invalid):
        fields.coerce({name: value})


def test_json_values_are_typed_and_foreign_keys_dropped():
    typed = fields.coerce(
        {
            "is_public": "False",
            "size": "12",
            "min_ram": None,
            "deleted": True,
            "members": [],
            "properties": {"Arch": 5, "flag": True, "none": None},
        }
    )
    assert typed == {
        "is_public": False,
        "size": 12,
        "min_ram": 0,
        "properties": {"arch": "5", "flag": "True", "none": None},
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": None}, "status"),
        ({"status": "bad"}, "status 'bad'"),
        ({"disk_format": "floppy"}, "disk format 'floppy'"),
        ({"container_format": "box"}, "container format 'box'"),
        ({"disk_format": "aki", "container_format": "ari"}, "'aki' and container format 'ari'"),
        ({"disk_format": "vhd", "container_format": "ari"}, "'vhd' and container format 'ari'"),
    ],
)
def test_bad_records_are_refused_with_the_value(values, reason):
    with pytest.raises(exception.Invalid, match=reason):
        fields.validate(record(**values))


def test_one_sided_amazon_format_is_completed():
    checked = fields.validate(record(disk_format="ami"))
    assert checked["container_format"] == "ami"


def test_null_formats_are_fine():
    assert fields.validate(record())["disk_format"] is None


@pytest.mark.parametrize(
    ("old", "new"),
    [("active", "queued"), ("killed", "active"), ("active", "killed"), ("deleted", "active")],
)
def test_steps_outside_the_status_machine_are_refused(old, new):
    with pytest.raises(exception.Conflict):
        fields.check_transition(old, new)


@pytest.mark.parametrize("status", fields.STATUSES)
def test_every_status_may_stay_as_it_is(status):
    fields.check_transition(status, status)


def test_times_have_six_digits_even_for_whole_seconds():
    when = datetime.datetime(2011, 9, 22, 10, 11, 12)
    assert fields.timestamp(when) == "2011-09-22T10:11:12.000000"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("007", None),
        ("01", None),
        ("0", 0),
        ("7\n", None),
        ("٧", None),
        ("²", None),
        ("-7", None),
        ("7.0", None),
        ("9223372036854775807", 2**63 - 1),
        ("", None),
        ("+7", None),
        (" 7", None),
        ("1_0", None),
        ("7a", None),
        ("1" * 20, None),
        ("9" * 19, None),
    ],
)
def test_only_canonical_decimal_ids_are_ids(text, number):
    assert fields.parse_id(text) == number


@pytest.mark.parametrize("status", fields.STATUSES)
def test_version_1_knows_no_status_of_stages_and_imports(status):
    shown = "saving" if status in ("uploading", "importing") else status
    assert fields.v1_status(status) == shown
    headers = dict(image_headers.image_headers({"status": status}))
    assert headers["x-image-meta-status"] == shown

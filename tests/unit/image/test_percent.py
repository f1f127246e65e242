"""Percent-encoded headers: recognised by what each release of the client sends."""

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception
from glance.image import headers as image_headers
from glance.image import percent

CLIENT = "python-glanceclient"
PREFIX = "x-image-meta-"
#: What the releases that encode leave as it is, apart from letters, digits and "_.-": 2.11.1 in
#: Python 3 and 2, and later ones.
SAFE = {"2.11.1": "/~", "2.11.1 in Python 2": "/", "later": "/:~"}
#: Text that UTF-8 can hold and a header, too.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)
URIS = st.text(st.sampled_from("abz09-._~:/?#[]@!$&'()*+,;="), max_size=20).map(
    lambda rest: f"http://host/{rest}"
)


def quoted(text, safe):
    kept = urllib.parse.quote(text, safe)
    return kept if "~" in safe else kept.replace("~", "%7E")


def read(mode=percent.AUTO, agent=CLIENT, **values):
    headers = [(PREFIX + name.replace("_", "-"), value) for name, value in values.items()]
    decode = percent.decoder(mode, agent, headers)
    return image_headers.parse_headers(headers, decode, percent.decode_location)


@pytest.mark.parametrize("safe", SAFE.values(), ids=SAFE)
@given(name=TEXT, value=TEXT, location=URIS)
def test_what_a_release_encodes_is_decoded(safe, name, value, location):
    sent = {"name": name, "property_p": value, "location": location}
    got = read(**{key: quoted(text, safe) for key, text in sent.items()}, is_public="True")
    assert got["name"] == (name.strip(" \t") or None)
    assert got["properties"] == {"p": value or None}
    assert (got["location"], got["is_public"]) == (location, True)


@pytest.mark.parametrize(
    "value",
    [
        *("a b%20c", "50%", "100%25 sure", "%zz", "%2", "a%2Fb", "a%2fb", "%41", "x%7e", "%c3%a9"),
        *("a+b%20", "a=b%20", "caf\u00e9 %20".encode().decode("latin-1"), "%2D", "%FF", "%C3"),
        *("a:b%3Ac", "~%7E", "http://h/?a=b%20", "a%20\tb", "(%20)", "%2e", "%5F"),
    ],
)
def test_what_no_release_encodes_like_that_stays(value):
    plain = value.encode("latin-1").decode()
    assert read(name=value)["name"] == plain
    # One such value tells of all.
    got = read(name=value, property_p="na%20me", location="http://host/a%3Fb")
    assert (got["name"], got["properties"]["p"]) == (plain, "na%20me")
    assert got["location"] == "http://host/a%3Fb"


@pytest.mark.parametrize(
    ("sent", "location"),
    [
        ("http://host/a%20b", "http://host/a%20b"),
        ("http://host/a%25b", "http://host/a%25b"),
        ("http://host/caf%C3%A9", "http://host/caf%C3%A9"),
        ("http://host/a%0Ab", "http://host/a%0Ab"),
        ("http://host/a%2520b", "http://host/a%20b"),
        ("http%3A//host/a%2520b", "http://host/a%20b"),
        ("http%3A//host/a%3Fx%3Dy%26z", "http://host/a?x=y&z"),
        ("http%3A//host/a%20b", "http://host/a b"),
        ("swift%3A//user%3Akey%40host/c/o", "swift://user:key@host/c/o"),
    ],
)
def test_a_location_stays_a_uri(sent, location):
    assert percent.decode_location(sent) == location


@pytest.mark.parametrize(
    "name", ["property_na%20me", "property_na%C3%A9me", "property_na%c3%a9me"]
)
def test_names_are_decoded_too(name):
    assert list(read(**{name: "x"})["properties"]) == [urllib.parse.unquote(name)[9:]]
    assert list(read(**{name: "x y"})["properties"]) == [name[9:].lower()]


@pytest.mark.parametrize("name", ["property_a!%20", "property_a%2D"])
def test_a_name_that_no_release_encodes_like_that_tells_of_all(name):
    assert read(**{name: "%20"})["properties"] == {name[9:].lower(): "%20"}


@pytest.mark.parametrize("value", ["%0A", "%0a", "a%0d%0aX-Evil:%20yes", "%00", "%7f"])
def test_control_characters_are_refused_however_they_are_encoded(value):
    with pytest.raises(exception.Invalid):
        read(name=value)


def test_the_option_decides():
    for value in ("a%20b", "a b%20c", "%c3%a9"):
        assert read(percent.NEVER, name=value)["name"] == value
        assert read(percent.ALWAYS, name=value)["name"] == urllib.parse.unquote(value)
    with pytest.raises(exception.Invalid):
        read(percent.ALWAYS, name="%FF")
    location = "http://host/a%20b"
    assert read(percent.ALWAYS, location=location)["location"] == location


@pytest.mark.parametrize("mode", [percent.AUTO, percent.ALWAYS, percent.NEVER])
@pytest.mark.parametrize("agent", ["", "glance-client", "curl/8", "not python-glanceclient"])
@given(name=TEXT, value=TEXT)
def test_headers_of_other_clients_are_never_decoded(mode, agent, name, value):
    headers = list(
        image_headers.client_headers({"name": name, "properties": {"p": value}}).items()
    )
    assert percent.decoder(mode, agent, headers) is None
    assert image_headers.parse_headers(headers)["properties"] == {"p": value or None}

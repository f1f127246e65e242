"""Locations: parsed, written, shown, and never leaking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception
from glance.store import location
from glance.store.location import get_location_from_uri, public_uri

from support import checkout, pages

RUNS = {
    "s3": {"Locations and keys": "test_the_location_on_a_page_is_one"},
    "swift": {"Locations and keys": "test_the_location_on_a_page_is_one"},
}

ROUND_TRIPS = [
    "https://ann:pw1@mirror.example.net:8443/iso/disk7",
    "http://mirror.example.net/disk7",
    "http://mirror.example.net",
    "http://mirror.example.net/disk7?sig=a%2Fb&at=x@y",
    "http://mirror.example.net?mail=a@b",
    "https://user:@host:8080/x",
    "http://[2001:db8::1]:8080/x",
    "swift://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+https://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+http://ann:pw1@auth.example.net:8080/v1/boxes/17",
    "swift://auth.example.net/boxes/17",
    "swift://a%40b:p%2Fq%3Ar@auth.example.net/v1/box%20es/17",
    "s3://AKEY:SKEY@s3.example.net/pail/17",
    "s3+http://AKEY:SKEY@s3.example.net/pail/17",
    "s3+https://AKEY:SKEY@s3.example.net/pail/17",
    "s3://AKEY:SK%2FEY@s3.example.net/v1/pail/17",
    "s3://s3.example.net/pail/17",
    "file:///srv/images/17",
    "file:///srv/100%25/a b?c#d",
]

REWRITTEN = [
    ("filesystem:///srv/images/17", "file:///srv/images/17"),
    ("FILE:// /srv/images/17 ", "file:///srv/images/17"),
    ("HTTP://Host/X", "http://Host/X"),
    ("http://host/x#part", "http://host/x"),
    ("http://u:p@q@host/x", "http://u:p%40q@host/x"),
    ("s3://AKEY:SK/EY@s3.example.net/v1/pail/17", "s3://AKEY:SK%2FEY@s3.example.net/v1/pail/17"),
    ("s3://AKEY:S:K@s3.example.net/pail/17", "s3://AKEY:S%3AK@s3.example.net/pail/17"),
    ("swift+https://a:b@localhost/v1//glance/42", "swift+https://a:b@localhost/v1/glance/42"),
    ("swift://a:k/ey@auth.example.net/c/o", "swift://a:k%2Fey@auth.example.net/c/o"),
    ("swift://a:50%off@auth.example.net/c/o", "swift://a:50%25off@auth.example.net/c/o"),
]

BAD = [
    "",
    "file",
    "file://",
    "file:// ",
    "file://rel/dir",
    "file:///srv/../etc/passwd",
    "file:///srv/..",
    "file:///srv/a\0b",
    "file:///srv/a\r\nb",
    "http://",
    "http:///x",
    "http://?x",
    "http://ann@mirror.example.net:8443/disk7",
    "http://a:b:c@host/x",
    "http://:pw@host/x",
    "http://host:/x",
    "http://host:0/x",
    "http://host:65536/x",
    "http://host:00000000000000000000080/x",
    "http://host:8_0/x",
    "http://host:+80/x",
    "http://host:٨٠/x",
    "http://host:8x/x",
    "http://host:٣/x",
    "http://ho st/x",
    "http://host\\evil/x",
    "http://höst/x",
    "http://host%2e/x",
    "http://[::1/x",
    "http://[::1]x/x",
    "http://[1.2.3.4]/x",
    "http://[fe80::1%25eth0]/x",
    "http://host/a\r\nX-Evil: 1",
    "http://host/a\x7f",
    "swift://",
    "swift://ann@auth.example.net:8080/boxes/17",
    "swift://a:b:c:d@auth.example.net/boxes/17",
    "swift://ann:pw1@http://auth.example.net:8080/boxes/17",
    "swift://auth.example.net",
    "swift://auth.example.net/17",
    "swift://auth.example.net//17",
    "swift://auth.example.net/boxes/",
    "swift://ann:pw1@/boxes/17",
    "s3://",
    "s3://AKEY@s3.example.net:8080/pail/17",
    "s3://:SKEY@s3.example.net/pail/17",
    "s3://AKEY:SKEY@http://s3.example.net:8080/pail/17",
    "s3://pail/17",
    "s3://AKEY:SKEY@/pail/17",
    "s3://AKEY:SKEY@s3.example.net/pail/",
    "://x",
    "a b://x",
]


@pytest.mark.parametrize("uri", ROUND_TRIPS)
def test_parsing_and_writing_gives_the_same_text(uri):
    assert get_location_from_uri(uri).get_store_uri() == uri


@pytest.mark.parametrize(("uri", "written"), REWRITTEN)
def test_other_spellings_are_written_in_one_way(uri, written):
    assert get_location_from_uri(uri).get_store_uri() == written
    assert get_location_from_uri(written).get_store_uri() == written


@pytest.mark.parametrize("uri", BAD)
def test_what_cannot_be_used_is_refused_with_a_reason_and_without_the_uri(uri):
    with pytest.raises(exception.BadStoreUri) as caught:
        get_location_from_uri(uri)
    text = str(caught.value)
    assert text.startswith("The Store URI was malformed. Reason: ")
    assert len(uri) < 8 or uri not in text


@pytest.mark.parametrize("scheme", ["nosuch", "fil", "swift+h", "nosuch+http"])
def test_an_unknown_scheme_is_named(scheme):
    with pytest.raises(exception.UnknownScheme, match="nosuch|fil|swift"):
        get_location_from_uri(f"{scheme}://ann:pw1@mirror.example.net/x")


# -- the parts --


def parts(uri):
    return get_location_from_uri(uri).store_location


def test_the_parts_of_an_http_location():
    found = parts("https://a%40b:p%3Aw@host:8443/iso/disk7?sig=1")
    assert (found.user, found.password) == ("a@b", "p:w")
    assert (found.host, found.port, found.effective_port) == ("host", 8443, 8443)
    assert found.target == "/iso/disk7?sig=1"
    assert parts("http://host").target == "/"
    assert parts("http://host").effective_port == 80
    assert parts("https://host").effective_port == 443


def test_the_parts_of_a_swift_location():
    found = parts("swift+https://ann:pw1@auth.example.net/v1/boxes/17")
    assert (found.user, found.key) == ("ann", "pw1")
    assert found.auth_url == "https://auth.example.net/v1"
    assert (found.container, found.obj) == ("boxes", "17")
    assert parts("swift://proj:ann:pw1@h/c/o").user == "proj:ann"
    assert parts("swift://h/c/o").user is None


@pytest.mark.parametrize(
    ("scheme", "transport"), [("swift", "https"), ("swift+https", "https"), ("swift+http", "http")]
)
def test_plain_swift_means_https(scheme, transport):
    assert parts(f"{scheme}://a:b@host/c/o").auth_url == f"{transport}://host"


def test_the_parts_of_an_s3_location():
    found = parts("s3://AKEY:SK/EY@s3.example.net/v1/pail/17")
    assert (found.access_key, found.secret_key) == ("AKEY", "SK/EY")
    assert (found.service_address, found.bucket, found.key) == ("s3.example.net/v1", "pail", "17")


@pytest.mark.parametrize(
    ("scheme", "secure"), [("s3", False), ("s3+http", False), ("s3+https", True)]
)
def test_plain_s3_means_http(scheme, secure):
    assert parts(f"{scheme}://a:b@host/c/o").is_secure is secure


@pytest.mark.parametrize("cls", [location.SwiftLocation, location.S3Location])
@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "localhost/",
        "localhost:8080",
        "localhost:8080/",
        "localhost/v1",
        "localhost/v1/",
        "http://localhost:8080/v1",
        "http://localhost/v1/",
        "https://localhost:8080/",
        "https://localhost/v1",
    ],
)
def test_a_configured_address_is_trimmed_when_it_is_written(cls, address):
    uri = cls(cls.schemes[0], address, "pail", "17", "user", "key").uri(secret=True)
    bare = address.partition("://")[2] or address
    assert uri == f"{cls.schemes[0]}://user:key@{bare.rstrip('/')}/pail/17"
    assert get_location_from_uri(uri).get_store_uri() == uri


SECRET = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(user=SECRET, key=SECRET, bucket=SECRET, name=SECRET)
def test_any_text_survives_as_credentials_and_names(user, key, bucket, name):
    for cls in (location.SwiftLocation, location.S3Location):
        where = cls(cls.schemes[0], "host:8080/v1", bucket, name, user, key)
        again = get_location_from_uri(where.uri(secret=True)).store_location
        assert again == where
        assert again.uri(secret=True) == where.uri(secret=True)
    web = location.HttpLocation("http", "host", None, "/x", "", user, key)
    assert get_location_from_uri(web.uri(secret=True)).store_location == web


@given(st.sampled_from(sorted(location.SCHEMES)), st.text(max_size=60))
def test_no_text_does_worse_than_being_malformed(scheme, rest):
    try:
        where = get_location_from_uri(f"{scheme}://{rest}")
    except exception.BadStoreUri:
        return
    written = where.get_store_uri()
    assert get_location_from_uri(written).get_store_uri() == written


# -- what may be shown --

CREDENTIALS = [
    "https://ann:canary@host:8443/disk?x=1",
    "swift+https://proj:ann:canary@host/boxes/17",
    "swift://a:can/canary@host/boxes/17",
    "s3://AKEY:can/canary@host/pail/17",
]


@pytest.mark.parametrize("uri", CREDENTIALS)
def test_secrets_are_shown_in_no_rendering_but_one(uri):
    where = get_location_from_uri(uri)
    assert "canary" in where.uri(secret=True)
    shown = [where.uri(), str(where), repr(where), repr(where.store_location), public_uri(uri)]
    assert all("canary" not in text for text in shown)
    assert all("***:***@host" in text for text in shown[:-1])
    assert where.store_location.has_credentials


def test_the_query_of_a_web_address_is_not_logged_but_may_be_shown():
    where = get_location_from_uri("http://host/disk?sig=canary")
    assert str(where) == "http://host/disk?***"
    assert public_uri("http://host/disk?sig=canary") == "http://host/disk?sig=canary"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://ann:pw@host:8443/disk", "https://host:8443/disk"),
        ("swift://ann:pw@host/boxes/17", "swift://host/boxes/17"),
        ("s3://AKEY:SK/EY@host/pail/17", "s3://host/pail/17"),
        ("file:///srv/images/17", "file:///srv/images/17"),
        ("nosuch://ann:p@w@host/x", "nosuch://host/x"),
        ("http://ann@host:99999/x", "http://host:99999/x"),
        ("ann:pw@host", "host"),
        ("", ""),
    ],
)
def test_the_public_address_has_no_user_part(uri, shown):
    assert public_uri(uri) == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("swift+https://a:u:k@one.example/v1/c/5", "swift+http://two.example:8080/c/5"),
        ("s3://A:S@one.example/b/5", "s3+https://B:T@two.example/path/b/5"),
        ("file:///d/5", "filesystem:///d/5"),
        ("http://u:p@h/x?q", "http://h/x?q"),
    ],
)
def test_an_object_keeps_its_name_whatever_way_leads_there(one, other):
    names = {
        location.get_location_from_uri(uri).store_location.name_in_store() for uri in (one, other)
    }
    assert len(names) == 1


@pytest.mark.parametrize("page", ["swift", "s3"])
def test_the_location_on_a_page_is_one(page):
    (uri,) = checkout.blocks(pages.path(page), "Locations and keys")
    assert get_location_from_uri(uri).get_store_uri() == uri
    assert public_uri(uri) == uri


def test_only_short_paths_are_remembered_and_nothing_with_a_user():
    known = location._public_file_uri
    known.cache_clear()
    for uri in (f"file:///{'x' * 600}", "file://me:canary@host/x", "swift://a:canary@host/c/o"):
        assert "canary" not in public_uri(uri)
    assert known.cache_info().currsize == 0
    assert public_uri("file:///a") == public_uri("file:///a") == "file:///a"
    assert known.cache_info().hits == 1

"""What HTTP caches are told: the table of modes, and the validators of an image."""

import pytest

from glance.api import caching
from glance.common import config
from glance.http import conditions, wsgi

MD5 = "0" * 31 + "a"
TOKENS = "X-Auth-Token, X-Storage-Token, Authorization"
SHARED, PRIVATE = "public, no-cache, no-transform", "private, no-cache, no-transform"
LIFETIME = "public, max-age=0, s-maxage=60, must-revalidate, no-transform"
NONE = "private, no-store"
CDN = ("CDN-Cache-Control", "max-age=60")


def image(**changes):
    record = {"id": 5, "name": "n", "status": "active", "is_public": True, "checksum": MD5}
    record |= {"created_at": "2001-09-09T01:46:40.700000", "disk_format": "raw"}
    return {**record, **changes}


def rules(**options):
    return caching.CacheRules(config.Conf({"http_cache_public_ttl": "60", **options}))


def told(headers):
    """Return what is for caches."""
    wanted = ("Cache-Control", "Vary", "CDN-Cache-Control")
    return [pair for pair in headers if pair[0] in wanted]


def of_image(record, **options):
    return rules(**options).image_headers(record, caching.validators(record))


@pytest.mark.parametrize("auth_mode", ["", "noauth", "keystone", "trusted-headers"])
@pytest.mark.parametrize("share", ["true", "false"])
@pytest.mark.parametrize(
    ("mode", "public", "private"),
    [("validate", SHARED, PRIVATE), ("ttl", LIFETIME, PRIVATE), ("off", NONE, NONE)],
)
def test_the_table_of_modes(auth_mode, share, mode, public, private):
    options = {"auth_mode": auth_mode, "http_cache_mode": mode, "http_cache_share_private": share}
    asks = auth_mode in ("keystone", "trusted-headers")
    expected = [("Cache-Control", SHARED if mode == "ttl" and asks else public)]
    if mode == "ttl" and asks:
        expected.append(CDN)
    assert told(of_image(image(), **options)) == expected

    expected = [("Cache-Control", private), ("Vary", TOKENS)]
    if mode == "off":
        expected = [("Cache-Control", NONE)]
    elif share == "true":
        expected = [("Cache-Control", SHARED)]
    assert told(of_image(image(is_public=False), **options)) == expected

    for record in (image(checksum=None), image(status="queued"), image(status="saving")):
        assert told(of_image(record, **options)) == [("Cache-Control", "no-store")]

    expected = [("Cache-Control", "private, no-cache"), ("Vary", TOKENS)]
    if mode == "off":
        expected = [("Cache-Control", NONE)]
    document = wsgi.json_response({}, headers=[("X-Other", "x")])
    assert told(rules(**options).complete(document).headers) == expected


def test_a_response_that_says_what_caches_may_do_is_left_as_it_is():
    headers = [("Cache-Control", "max-age=300")]
    assert rules().complete(wsgi.Response(200, headers)).headers == headers


def test_surrogate_headers_name_the_image_unless_they_are_off():
    names = {"X-Image-Id": "5", "Surrogate-Key": "image-5"}
    assert names.items() <= dict(of_image(image())).items()
    assert not names.keys() & dict(of_image(image(), http_cache_surrogate_headers="no")).keys()


@pytest.mark.parametrize(("bare", "tag"), [("false", f'"{MD5}"'), ("true", MD5)])
def test_the_tag_is_quoted_unless_old_clients_want_it_bare(bare, tag):
    assert dict(of_image(image(), etag_bare_compat=bare))["ETag"] == tag


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ({}, "Sun, 09 Sep 2001 01:46:40 GMT"),
        ({"activated_at": None}, "Sun, 09 Sep 2001 01:46:40 GMT"),
        ({"activated_at": "2011-09-22T10:11:12.999999"}, "Thu, 22 Sep 2011 10:11:12 GMT"),
        ({"updated_at": "2011-09-22T10:11:12.999999"}, "Sun, 09 Sep 2001 01:46:40 GMT"),
        ({"created_at": None}, None),
        ({"created_at": "lately"}, None),
    ],
)
def test_the_last_change_is_when_the_data_became_complete(times, shown):
    assert dict(of_image(image(**times))).get("Last-Modified") == shown


def test_the_last_change_is_never_in_the_future(monkeypatch):
    monkeypatch.setattr(conditions.time, "time", lambda: 1_000_000_000.9)
    record = image(activated_at="2099-01-01T00:00:00.000000")
    assert dict(of_image(record))["Last-Modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize(
    "changes",
    [
        {"checksum": None},
        {"checksum": ""},
        {"checksum": 'a"b'},
        {"checksum": "a b"},
        {"checksum": "caf\u00e9"},
        *({"status": status} for status in ("queued", "saving", "killed", "pending_delete")),
    ],
)
def test_what_nothing_is_known_of_has_no_validators(changes):
    record = image(**changes)
    assert caching.validators(record) == conditions.Validators(None)
    assert not {"ETag", "Last-Modified"} & dict(of_image(record)).keys()


def test_the_tag_of_an_origin_is_passed_on_but_nothing_may_be_kept():
    record = image(checksum=None)
    headers = rules().image_headers(record, caching.validators(record), "v1")
    assert ("ETag", '"v1"') in headers and told(headers) == [("Cache-Control", "no-store")]


@pytest.mark.parametrize(
    ("known", "digest"),
    [
        ({}, None),
        ({"os_hash_algo": None, "os_hash_value": None}, None),
        ({"os_hash_algo": "md5", "os_hash_value": MD5}, None),
        ({"os_hash_algo": "sha256", "os_hash_value": "no hex"}, None),
        ({"os_hash_algo": "sha256", "os_hash_value": ""}, None),
        (
            {"os_hash_algo": "sha256", "os_hash_value": "00" * 32},
            "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        ),
        ({"os_hash_algo": "sha512", "os_hash_value": "00" * 64}, f"sha-512=:{'A' * 86}==:"),
    ],
)
def test_a_digest_that_is_known_is_sent_in_the_form_of_rfc_9530(known, digest):
    headers = dict(caching.file_headers(image(**known)))
    assert headers.get("Repr-Digest") == digest
    assert headers["Content-Disposition"] == 'attachment; filename="n.raw"'

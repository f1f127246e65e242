"""The links of a page: the next one belongs to the same list."""

import urllib.parse

import pytest

from glance.api.v2 import pages

UUID = "77ab6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"


def test_a_list_without_parameters():
    assert pages.links("/v2/images", []) == {"first": "/v2/images"}
    assert pages.links("/v2/images", [], UUID)["next"] == f"/v2/images?marker={UUID}"


def test_every_parameter_is_kept_in_its_order():
    sent = [("limit", "2"), ("tag", "a"), ("tag", "b"), ("sort", "name:asc")]
    assert pages.links("/v2/images", sent, UUID) == {
        "first": "/v2/images?limit=2&tag=a&tag=b&sort=name%3Aasc",
        "next": f"/v2/images?limit=2&tag=a&tag=b&sort=name%3Aasc&marker={UUID}",
    }


def test_the_marker_of_the_request_is_replaced():
    sent = [("marker", "old"), ("name", "x"), ("marker", "older")]
    assert pages.links("/v2/images", sent, UUID) == {
        "first": "/v2/images?name=x",
        "next": f"/v2/images?name=x&marker={UUID}",
    }


@pytest.mark.parametrize(
    "pair",
    [
        ("name", "a b+c&d=e#f/ü;%41"),
        ("name", 'in:"a,b",c'),
        ("p:q ü", ""),
        ("created_at", "gte:2026-11-27T10:11:12+01:00"),
    ],
)
def test_what_was_sent_comes_back_by_the_link(pair):
    query = urllib.parse.urlsplit(pages.links("/v2/images", [pair])["first"]).query
    assert urllib.parse.parse_qsl(query, keep_blank_values=True) == [pair]

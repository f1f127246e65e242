"""Which versions real daemons serve, and how clients find version 2."""

import json

import pytest

from support import daemons

BOTH = "versionnegotiation context rootapp"
VENDOR = "application/vnd.openstack.images-"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both daemons with both versions of the API."""
    with daemons.Site(tmp_path_factory.mktemp("site"), api_pipeline=BOTH) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 300), ("/versions", 200), ("/v1", 300), ("/v2", 300), ("/v2/", 300), ("/v2.5", 300)],
)
def test_one_document_at_every_place_where_clients_look(site, path, status):
    reply = site.http.get(path)
    assert reply.status == status
    assert reply.header("content-type") == "application/json"
    entries = reply.json()["versions"]
    assert reply.json() == site.http.get("/").json()
    assert [entry["id"][:2] for entry in entries] == ["v2"] * 7 + ["v1"] * 2
    assert [entry["status"] for entry in entries] == ["CURRENT", *["SUPPORTED"] * 8]
    assert {entry["links"][0]["href"] for entry in entries} == {
        f"{site.url}/v1/",
        f"{site.url}/v2/",
    }


def test_the_links_follow_the_host_of_the_request(site):
    entries = site.http.get("/versions", {"Host": "img.example"}).json()["versions"]
    assert entries[0]["links"][0]["href"] == "http://img.example/v2/"


@pytest.mark.full
def test_the_links_follow_the_public_endpoint(make_site):
    site = make_site(api={"public_endpoint": "https://images.example/"}, api_pipeline=BOTH)
    entries = site.http.get("/").json()["versions"]
    assert entries[0]["links"][0]["href"] == "https://images.example/v2/"
    assert entries[-1]["links"][0]["href"] == "https://images.example/v1/"


@pytest.mark.parametrize("path", ["/v2.8/images", "/v2.99/images", "/v3/images", "/v2x/images"])
def test_a_version_that_is_not_there_gets_the_document(site, path):
    assert site.http.get(path).status == 300


def test_paths_without_a_version_are_those_of_version_1(site):
    assert list(site.http.get("/images").json()) == ["images"]
    assert site.http.get("/images").header("x-openstack-request-id")
    # Unless the client names version 2 where it may; a path with a version counts more.
    page = site.http.get("/images", {"Accept": f"{VENDOR}v2"}).json()
    assert page["schema"] == "/v2/schemas/images"
    assert "schema" not in site.http.get("/v1/images", {"Accept": f"{VENDOR}v2"}).json()


@pytest.mark.parametrize("prefix", ["/v2", "/v2.0", "/v2.6", "/v2.7"])
def test_any_minor_version_up_to_the_highest_is_served(site, prefix):
    reply = site.http.get(f"{prefix}/schemas/image")
    assert reply.status == 200
    assert reply.json()["name"] == "image"
    assert site.http.get("/schemas/image", {"Accept": f"{VENDOR}v2"}).body == reply.body


def test_errors_are_json_for_those_who_name_it(site):
    reply = site.http.get("/v2/nothing", {"Accept": "application/json"})
    assert reply.status == 404
    assert json.loads(reply.body)["error"]["code"] == 404
    for accept in ("*/*", "", "application/octet-stream"):
        plain = site.http.get("/v2/nothing", {"Accept": accept})
        assert plain.header("content-type").startswith("text/plain")
        assert plain.body.startswith(b"404 Not Found\n\n")


def test_a_diablo_pipeline_serves_and_lists_version_1_alone(make_site):
    site = make_site(api_pipeline="versionnegotiation context apiv1app")
    for path in ("/", "/versions", "/v2", "/v2/", "/v2/images", "/v2/schemas/image"):
        reply = site.http.get(path)
        assert reply.status == 300
        assert reply.json() == {
            "versions": [
                {
                    "id": name,
                    "status": status,
                    "links": [{"rel": "self", "href": f"{site.url}/v1/"}],
                }
                for name, status in (("v1.1", "CURRENT"), ("v1.0", "SUPPORTED"))
            ]
        }


@pytest.mark.full
@pytest.mark.parametrize(
    ("switch", "served"), [("enable_v1_api", {"v2"}), ("enable_v2_api", {"v1"})]
)
def test_each_version_can_be_switched_off(make_site, switch, served):
    site = make_site(api={switch: "False"}, api_pipeline=BOTH)
    found = {entry["id"][:2] for entry in site.http.get("/").json()["versions"]}
    assert found == served
    for version in ("v1", "v2"):
        path = {"v1": "/v1/nothing", "v2": "/v2/nothing"}[version]
        assert site.http.get(path).status == (404 if version in served else 300)


@pytest.mark.full
def test_a_daemon_with_no_version_left_says_so_and_does_not_start(make_site):
    site = make_site(start=False, api_pipeline=BOTH)
    site.api_options |= {"enable_v1_api": "False", "enable_v2_api": "False"}
    site.write()
    site.registry.start()
    with pytest.raises(AssertionError, match="No version of the API is left to serve"):
        site.api.start()
    assert "Traceback" not in site.api.log()

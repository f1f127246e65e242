"""The OpenAPI documents of running daemons, and whether what the daemons send is as they say.

A long run, with more requests and those at the edges of what the documents allow, needs the
variable GLANCE_TEST_OPENAPI: the number of requests for each operation, such as 100. It makes them
all once more as a user who is no administrator.
"""

import json
import urllib.parse

import pytest

from support import daemons, openapi_tools, rawhttp

pytestmark = pytest.mark.peers

SERVICES = ("v1", "v2", "registry")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
#: Not for version 1, which takes headers of any name.
STRICT = "negative_data_rejection"
#: Below `/v2`, a registry serves the client of glance-api only.
TO_REGISTRY = {"User-Agent": "glance-registry-client"}


#: Who makes the requests: everybody is an administrator, or a member of a project.
CALLERS = {
    "noauth": {},
    "trusted-headers": rawhttp.identity("acme"),
}


@pytest.fixture(scope="module", params=CALLERS if openapi_tools.wanted() else ["noauth"])
def site(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    running = daemons.Site(
        directory,
        auth_mode=request.param,
        api_pipeline="versionnegotiation context cachemanage rootapp",
        api={
            "image_cache_dir": directory / "cache",
            "image_cache_min_free_disk": 0,
            "conversion_enabled": True,
        },
    )
    with running:
        # A converter that works on nothing, and that counts however long the requests take.
        running.sql(
            "INSERT INTO conversion_workers (name, seen_at) VALUES ('w', :seen)",
            seen="2100-01-01 00:00:00.000000",
        )
        running.caller = CALLERS[request.param]
        yield running


@pytest.fixture(scope="module")
def known(site):
    """Images that requests can be about, with data and without; half of them cannot be deleted."""
    ids = []
    for number in range(6):
        values = {"name": "café", "disk_format": "raw", "container_format": "bare", "k": "v"}
        body = json.dumps({**values, "protected": number < 3}).encode()
        kind = {"Content-Type": "application/json", **site.caller}
        made = site.api.http.post("/v2/images", kind, body)
        assert made.status == 201, made.text
        ids.append(made.json()["id"])
        if number % 3:
            kind = {"Content-Type": "application/octet-stream", **site.caller}
            sent = site.api.http.put(f"/v2/images/{ids[-1]}/file", kind, b"x" * 1024)
            assert sent.status == 204, sent.text
    return {"uuid": ids, "member": ["m1", "m2"], "tag": ["t1", "t2"]}


def url_of(site, service):
    if service == "registry":
        return f"http://127.0.0.1:{site.registry.port}/openapi.json"
    return f"http://127.0.0.1:{site.api.port}/{service}/openapi.json"


def test_the_documents_are_valid(site):
    documents = {}
    for service in SERVICES:
        daemon = site.registry if service == "registry" else site.api
        found = daemon.http.get(urllib.parse.urlsplit(url_of(site, service)).path, site.caller)
        assert found.status == 200
        documents[service] = found.json()
    broken = json.loads(json.dumps(documents["v1"]))
    del broken["info"]["title"]
    found = openapi_tools.problems({**documents, "broken": broken})
    assert {name: found[name] for name in SERVICES} == dict.fromkeys(SERVICES, [])
    assert "title" in found["broken"][0]


@pytest.mark.parametrize("service", SERVICES)
def test_every_response_is_as_the_document_says(site, known, service, tmp_path):
    examples = openapi_tools.wanted()
    by_number = {**known, "id": [str(number + 1) for number in range(len(known["uuid"]))]}
    report = openapi_tools.schemathesis(
        url_of(site, service),
        tmp_path,
        CHECKS if service == "v1" else (*CHECKS, STRICT),
        phases=("coverage", "fuzzing") if examples else ("fuzzing",),
        examples=examples or 3,
        known={**known, "id": known["uuid"]} if service == "v2" else by_number,
        headers={**(TO_REGISTRY if service == "registry" else {}), **site.caller},
        timeout=7200,
    )
    print(openapi_tools.summary(report))

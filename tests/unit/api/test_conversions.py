"""The conversions resource over a real registry: who may ask for what, and what becomes of it."""

import json
import threading

import pytest

from glance import notifier
from glance.common import config, hooks
from glance.identity.context import RequestContext
from glance.registry import link
from tests.unit.api.conftest import PAYLOAD, Api, Registry

OWNER = {"user_id": "u", "tenant_id": "owner", "roles": "member"}
OTHER = {"user_id": "o", "tenant_id": "other", "roles": "member"}
ADMIN = {"user_id": "a", "tenant_id": "ops", "roles": "admin"}
SERVICE = RequestContext(user="g", tenant="service", roles=["admin"], auth_tok="t")
NOBODY = "0b6e2a2e-98c8-4f0e-9f3c-0f5a7b1d3c11"


class Site:
    """An API whose callers have tenants, and a converter that is there but does nothing."""

    def __init__(self, registry, tmp_path, *, alive=True, **conf):
        self.api = Api(
            registry,
            tmp_path,
            both=True,
            **{"conversion_enabled": "True", "auth_mode": "trusted-headers", **conf},
        )
        self.link = link.RegistryLink(
            {
                "registry_host": "127.0.0.1",
                "registry_port": registry.port,
                "send_identity_headers": True,
            }
        )
        if alive:
            self.lease(0)

    def lease(self, count=1, worker="w"):
        return self.link.lease_conversions(SERVICE, worker, count)

    def image(self, who=OWNER, **meta):
        """Upload an image, and return its record."""
        attributes = {"name": "web", "disk_format": "raw", "container_format": "bare", **meta}
        headers = {f"x-image-meta-{name}": str(value) for name, value in attributes.items()}
        response = self.api("POST", "/v1/images", headers, PAYLOAD, **who)
        assert response.status_int == 201, response.text
        return response.json["image"]

    def post(self, values, who=OWNER, headers=None):
        body = json.dumps({"conversion": values}).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.api("POST", "/v1/conversions", sent, body, **who)

    def convert(self, source, disk_format="qcow2", who=OWNER, headers=None, **values):
        """Start a conversion, and return its job."""
        asked = {"source_image_id": str(source["id"]), "disk_format": disk_format, **values}
        response = self.post(asked, who, headers)
        assert response.status_int == 202, response.text
        return response.json["conversion"]

    def get(self, path, who=OWNER):
        return self.api("GET", path, **who)

    def images(self):
        """Return how many images there are."""
        return len(self.get("/v1/images?is_public=none&limit=100", ADMIN).json["images"])

    def jobs(self, path="/v1/conversions", who=OWNER):
        response = self.get(path, who)
        assert response.status_int == 200, response.text
        return [job["id"] for job in response.json["conversions"]]


@pytest.fixture
def registry(tmp_path, template):
    server = Registry(
        tmp_path, template, auth_mode="trusted-headers", allow_anonymous_access="True"
    )
    yield server
    server.stop()


@pytest.fixture
def make_site(registry, tmp_path):
    made = []

    def make(**conf):
        made.append(Site(registry, tmp_path, **conf))
        return made[-1]

    yield make
    for site in made:
        site.link.close()


@pytest.fixture
def site(make_site):
    return make_site()


# -- starting ------------------------------------------------------------------------------------


def test_a_conversion_begins_with_a_job_and_a_queued_image(site):
    source = site.image(min_disk=3, min_ram=64, property_distro="x", property_kernel_id="7")
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    response = site.post(values)
    job = response.json["conversion"]
    assert response.status_int == 202
    assert response.headers["Location"] == f"http://localhost/v1/conversions/{job['id']}"
    assert response.headers["Retry-After"] == "5"
    assert (
        "no-store" in response.headers["Cache-Control"]
        or "private" in (response.headers["Cache-Control"])
    )
    assert {name: job[name] for name in ("status", "source_image_id", "source_format")} == {
        "status": "queued",
        "source_image_id": str(source["id"]),
        "source_format": "raw",
    }
    assert (job["disk_format"], job["owner"], job["error"]) == ("qcow2", "owner", None)
    image = site.get("/v1/images/detail?name=web%20(qcow2)").json["images"][0]
    assert str(image["id"]) == job["image_id"]
    assert (image["status"], image["owner"], image["is_public"]) == ("queued", "owner", False)
    assert (image["disk_format"], image["container_format"]) == ("qcow2", "bare")
    assert (image["min_disk"], image["min_ram"], image["size"]) == (3, 64, 0)
    assert image["properties"] == {
        "distro": "x",
        "converted_from": str(source["id"]),
        "conversion_source_checksum": source["checksum"],
        "conversion_job": job["id"],
    }
    assert site.get(f"/v1/images/{source['id']}").body == PAYLOAD


def test_all_that_may_be_chosen(site):
    source = site.image(property_a="1", property_b="2")
    job = site.convert(
        source,
        "vmdk",
        name="größe ☺",
        is_public=True,
        store="file",
        properties={"B": "3", "c-d": 4, "e": True, "f": ""},
        force=False,
    )
    image = site.get("/v1/images/detail?is_public=true", OTHER).json["images"][0]
    assert str(image["id"]) == job["image_id"] and image["name"] == "größe ☺"
    chosen = {k: v for k, v in image["properties"].items() if not k.startswith("conver")}
    assert chosen == {"a": "1", "b": "3", "c_d": "4", "e": "True", "f": ""}


def test_the_source_is_a_number_or_a_uuid(site):
    source = site.image()
    number = {"source_image_id": source["id"], "disk_format": "vdi"}
    assert site.post(number).status_int == 202
    uuid = site.api("HEAD", f"/v1/images/{source['id']}", **OWNER).headers[
        "X-Openstack-Image-Uuid"
    ]
    again = site.post({"source_image_id": uuid.upper(), "disk_format": "vdi"})
    job = again.json["conversion"]
    assert again.status_int == 200
    assert job["source_image_id"] == str(source["id"])
    assert site.jobs(f"/v1/conversions?source_image_id={uuid}") == [job["id"]]
    assert site.jobs(f"/v1/images/{uuid}/conversions") == [job["id"]]


WRONG_VALUES = [
    ({"disk_format": None}, "disk_format"),
    ({"disk_format": ""}, "disk_format"),
    ({"disk_format": "iso"}, "iso is not converted"),
    ({"disk_format": "exotic"}, "not converted"),
    ({"disk_format": 5}, "disk_format must be text"),
    ({"disk_format": ["raw"]}, "disk_format must be text"),
    ({"disk_format": "raw"}, "already"),
    ({"disk_format": "vmdk", "compress": True}, "compress"),
    ({"compress": "true"}, "compress must be true or false"),
    ({"force": 1}, "force must be true or false"),
    ({"is_public": "no"}, "is_public must be true or false"),
    ({"source_image_id": None}, "source_image_id"),
    ({"source_image_id": ""}, "source_image_id"),
    ({"source_image_id": True}, "source_image_id must be text"),
    ({"source_image_id": {}}, "source_image_id"),
    ({"source_image_id": 1.5}, "source_image_id must be text"),
    ({"name": "x" * 256}, "too long"),
    ({"name": "a\nb"}, "control characters"),
    ({"name": 5}, "must be text"),
    ({"store": ""}, "store is empty"),
    ({"store": "nowhere"}, "not available"),
    ({"store": "http"}, "does not accept"),
    ({"properties": ["a"]}, "must be an object"),
    ({"properties": {"": "x"}}, "needs a name"),
    ({"properties": {"a": {"b": "c"}}}, "must be text"),
    ({"properties": {"a": "x\r\ny"}}, "control characters"),
    ({"properties": {"a-b": "1", "a_b": "2"}}, "given twice"),
    ({"properties": {"a": "x" * 65536}}, "too long"),
    ({"size": 5}, "has no 'size'"),
    ({"container_format": "bare"}, "has no 'container_format'"),
    ({"owner": "other"}, "has no 'owner'"),
    ({"Name": "x"}, "has no 'Name'"),
]


def test_what_cannot_be_converted_so(site):
    source = site.image()
    for values, told in WRONG_VALUES:
        asked = {"source_image_id": str(source["id"]), "disk_format": "qcow2", **values}
        response = site.post(asked)
        assert response.status_int == 400, (values, response.text)
        assert told in response.text, values
        assert len(response.text.splitlines()) == 3, values
    assert not site.jobs() and site.images() == 1


WRONG_DOCUMENTS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"conversion"',
    b"{}",
    b'{"conversion": null}',
    b'{"conversion": []}',
    b'{"conversion": {"disk_format": "raw", "source_image_id": "1"}, "more": 1}',
    b'{"source_image_id": "1", "disk_format": "raw"}',
    b'{"conversion": NaN}',
    b"[" * 100_000,
    b"\xff\xfe",
]


def test_another_document_is_refused(site):
    headers = {"Content-Type": "application/json"}
    for body in WRONG_DOCUMENTS:
        response = site.api("POST", "/v1/conversions", headers, body, **OWNER)
        assert response.status_int == 400, body[:100]
    assert not site.jobs()


def test_a_huge_body_is_refused(site):
    body = b'{"conversion": {"name": "' + b"x" * 1024 * 1024 + b'"}}'
    assert site.api("POST", "/v1/conversions", {}, body, **OWNER).status_int == 413


OTHER_FORMATS = [
    ({"container_format": "ovf"}, "container_format is bare"),
    ({"disk_format": "iso"}, "iso is not converted"),
    ({"disk_format": "ami", "container_format": "ami"}, "container_format is bare"),
]


def test_images_of_other_formats_are_refused(site):
    for meta, told in OTHER_FORMATS:
        source = site.image(**meta)
        response = site.post({"source_image_id": str(source["id"]), "disk_format": "qcow2"})
        assert response.status_int == 400 and told in response.text, meta


def test_the_same_format_is_written_anew_on_demand(site):
    source = site.image(disk_format="qcow2")
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    assert site.post(values).status_int == 400
    assert site.post({**values, "compress": True}).status_int == 202
    assert site.post({**values, "force": True}).status_int == 202


def test_a_source_that_is_not_active(site):
    headers = {"x-image-meta-name": "n", "x-image-meta-disk-format": "raw"}
    queued = site.api("POST", "/v1/images", headers, **OWNER).json["image"]
    response = site.post({"source_image_id": str(queued["id"]), "disk_format": "qcow2"})
    assert response.status_int == 409 and "is queued" in response.text


def test_a_source_that_is_too_large(make_site):
    site = make_site(conversion_max_input_size=str(len(PAYLOAD) - 1))
    source = site.image()
    response = site.post({"source_image_id": str(source["id"]), "disk_format": "qcow2"})
    assert response.status_int == 413 and str(len(PAYLOAD)) in response.text
    equal = make_site(conversion_max_input_size=str(len(PAYLOAD)))
    equal.convert(source)


def test_too_many_properties(site):
    source = site.image()
    many = {f"p{number}": "x" for number in range(129)}
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2", "properties": many}
    assert site.post(values).status_int == 413
    assert site.images() == 1


def test_the_service_alone_sets_some_properties(site):
    source = site.image()
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    for name in ("converted_from", "conversion_job", "Conversion-Error"):
        assert site.post({**values, "properties": {name: "x"}}).status_int == 403, name
    assert not site.jobs() and site.images() == 1


# -- who may -------------------------------------------------------------------------------------


def test_conversions_are_switched_off_by_default(make_site):
    site = make_site(conversion_enabled="False")
    source = site.image()
    for response in (
        site.post({"source_image_id": str(source["id"]), "disk_format": "qcow2"}),
        site.post({}),
        site.api("POST", "/v1/images", {"x-glance-api-convert-from": str(source["id"])}, **OWNER),
    ):
        assert response.status_int == 503 and "conversion_enabled" in response.text
    assert site.jobs() == []
    assert site.get("/v1/conversions/formats").json["enabled"] is False


def test_without_a_converter_nothing_is_accepted(make_site):
    site = make_site(alive=False)
    source = site.image()
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    response = site.post(values)
    assert response.status_int == 503 and "Retry-After" in response.headers
    assert site.images() == 1
    site.lease(0)
    assert site.post(values).status_int == 202


def test_anonymous_callers_may_not(make_site):
    site = make_site(allow_anonymous_access="True")
    source = site.image(is_public=True)
    site.convert(source)
    body = json.dumps({"conversion": {"source_image_id": str(source["id"])}}).encode()
    assert site.api("POST", "/v1/conversions", {}, body).status_int == 403
    headers = {"x-glance-api-convert-from": str(source["id"])}
    assert site.api("POST", "/v1/images", headers).status_int == 403
    listed = site.api("GET", "/v1/conversions")
    assert listed.status_int == 200 and listed.json == {"conversions": []}
    assert site.api("GET", f"/v1/images/{source['id']}/conversions").json == {"conversions": []}
    assert site.api("DELETE", f"/v1/conversions/{NOBODY}").status_int == 403


def test_the_policy_decides(make_site):
    site = make_site(policy_convert_image="converters", policy_publicize_image="admin")
    source = site.image()
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    response = site.post(values)
    assert response.status_int == 403 and "convert images" in response.text
    able = {**OWNER, "roles": "converters"}
    assert site.post({**values, "is_public": True}, able).status_int == 403
    assert site.post(values, able).status_int == 202


def test_what_others_have_is_not_there(site):
    source = site.image()
    job = site.convert(source)
    for response in (
        site.post({"source_image_id": str(source["id"]), "disk_format": "vdi"}, OTHER),
        site.post({"source_image_id": job["image_id"], "disk_format": "vdi"}, OTHER),
        site.get(f"/v1/images/{source['id']}/conversions", OTHER),
        site.get(f"/v1/images/{job['image_id']}/conversions", OTHER),
    ):
        assert response.status_int == 404
    missing = site.post({"source_image_id": "999", "disk_format": "vdi"}, OTHER).text
    hidden = site.post({"source_image_id": str(source["id"]), "disk_format": "vdi"}, OTHER).text
    assert hidden.replace(str(source["id"]), "N") == missing.replace("999", "N")
    for method in ("GET", "DELETE"):
        response = site.api(method, f"/v1/conversions/{job['id']}", **OTHER)
        nothing = site.api(method, f"/v1/conversions/{NOBODY}", **OTHER)
        assert response.status_int == nothing.status_int == 404
        assert response.text.replace(job["id"], NOBODY) == nothing.text
    for query in ("", f"?image_id={job['image_id']}", f"?source_image_id={source['id']}"):
        assert site.jobs(f"/v1/conversions{query}", OTHER) == []
    assert site.get(f"/v1/conversions?marker={job['id']}", OTHER).status_int == 400
    assert site.jobs() == [job["id"]]


def test_an_administrator_sees_and_cancels_all(site):
    first = site.convert(site.image())
    second = site.convert(site.image(OTHER), who=OTHER)
    assert site.jobs(who=ADMIN) == [second["id"], first["id"]]
    assert site.get(f"/v1/conversions/{first['id']}", ADMIN).json["conversion"]["owner"] == "owner"
    assert site.api("DELETE", f"/v1/conversions/{second['id']}", **ADMIN).status_int == 202


def test_a_member_may_convert_a_shared_image_into_its_own(site):
    source = site.image()
    path = f"/v1/images/{source['id']}/members/other"
    assert site.api("PUT", path, **OWNER).status_int == 204
    job = site.convert(source, who=OTHER)
    assert job["owner"] == "other"
    assert site.jobs(f"/v1/images/{job['image_id']}/conversions", OTHER) == [job["id"]]
    # Neither the job nor the result is the owner's of the source.
    assert site.jobs() == site.jobs(f"/v1/images/{source['id']}/conversions") == []
    assert site.get(f"/v1/conversions/{job['id']}").status_int == 404
    assert site.api("HEAD", f"/v1/images/{job['image_id']}", **OWNER).status_int == 404


# -- once ----------------------------------------------------------------------------------------


def test_the_same_work_is_done_once(site):
    source = site.image()
    job = site.convert(source)
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    again = site.post({**values, "name": "another"})
    assert again.status_int == 200 and again.json["conversion"]["id"] == job["id"]
    assert again.headers["Location"].endswith(job["id"])
    assert site.post({**values, "compress": True}).status_int == 202
    site.api("DELETE", f"/v1/conversions/{job['id']}", **OWNER)
    assert site.convert(source)["id"] != job["id"]


def test_a_key_names_a_request(site):
    source = site.image()
    key = {"Idempotency-Key": 'k "1"'}
    job = site.convert(source, headers=key)
    site.api("DELETE", f"/v1/conversions/{job['id']}", **OWNER)
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    again = site.post(values, headers=key)
    assert again.status_int == 200 and again.json["conversion"]["id"] == job["id"]
    assert site.post({**values, "disk_format": "vdi"}, headers=key).status_int == 409
    # The key of another owner is another key.
    other = site.image(OTHER)
    stranger = site.convert(other, "vdi", OTHER, headers=key)
    assert stranger["id"] != job["id"] and stranger["owner"] == "other"
    assert len(site.jobs(who=ADMIN)) == 2


def test_odd_keys_are_refused(site):
    values = {"source_image_id": str(site.image()["id"]), "disk_format": "qcow2"}
    for key in ("", " ", "x" * 256, "a\tb", "\xfc", "\x7f"):
        assert site.post(values, headers={"Idempotency-Key": key}).status_int == 400, key
    assert not site.jobs()


def test_there_is_a_limit_for_each_owner_and_for_all(make_site):
    site = make_site(conversion_max_jobs_per_owner="2", conversion_max_jobs="3")
    source = site.image(is_public=True)
    jobs = [site.convert(source, name) for name in ("qcow2", "vdi")]
    values = {"source_image_id": str(source["id"]), "disk_format": "vhd"}
    refused = site.post(values)
    assert refused.status_int == 429 and int(refused.headers["Retry-After"]) > 0
    site.convert(source, "vmdk", OTHER)
    assert site.post(values, ADMIN).status_int == 429
    # The same work is no more work.
    assert site.post({**values, "disk_format": "vdi"}).status_int == 200
    site.api("DELETE", f"/v1/conversions/{jobs[0]['id']}", **OWNER)
    assert site.post(values).status_int == 202


def test_many_at_once_stay_within_the_limit(make_site):
    site = make_site(conversion_max_jobs_per_owner="3")
    sources = [site.image() for _ in range(12)]
    statuses = []

    def ask(source):
        values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
        statuses.append(site.post(values).status_int)

    threads = [threading.Thread(target=ask, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] * 3 + [429] * 9
    assert len(site.jobs()) == 3
    assert site.images() == 15


# -- looking and ending --------------------------------------------------------------------------


def test_a_job_is_shown_until_it_has_ended(site):
    source = site.image()
    job = site.convert(source)
    shown = site.get(f"/v1/conversions/{job['id'].upper()}")
    assert shown.json["conversion"] == job and shown.headers["Retry-After"] == "5"
    (work,) = site.lease()
    assert work.job["id"] == job["id"]
    site.link.report_conversion(SERVICE, "w", job["id"], "converting", 42, bytes_in=5120)
    shown = site.get(f"/v1/conversions/{job['id']}")
    running = shown.json["conversion"]
    assert (running["status"], running["phase"], running["progress"]) == (
        "running",
        "converting",
        42,
    )
    assert running["bytes_in"] == 5120 and shown.headers["Retry-After"] == "5"
    cancelled = site.api("DELETE", f"/v1/conversions/{job['id']}", **OWNER)
    assert cancelled.status_int == 202
    assert cancelled.json["conversion"]["status"] == "cancelling"
    site.link.end_conversion(SERVICE, "w", job["id"], "stopped")
    shown = site.get(f"/v1/conversions/{job['id']}")
    assert shown.json["conversion"]["status"] == "cancelled"
    assert "Retry-After" not in shown.headers
    head = site.api("HEAD", f"/v1/images/{job['image_id']}", **OWNER)
    assert head.headers["X-Image-Meta-Status"] == "killed"
    assert head.headers["X-Image-Meta-Property-Conversion_Error"] == "cancelled"
    forgotten = site.api("DELETE", f"/v1/conversions/{job['id']}", **OWNER)
    assert (forgotten.status_int, forgotten.body) == (204, b"")
    assert site.get(f"/v1/conversions/{job['id']}").status_int == 404
    assert site.api("HEAD", f"/v1/images/{job['image_id']}", **OWNER).status_int == 200


def test_a_failure_is_told_with_its_code(site):
    job = site.convert(site.image())
    site.lease()
    site.link.end_conversion(SERVICE, "w", job["id"], "failed", code="unsafe_image")
    found = site.get(f"/v1/conversions/{job['id']}").json["conversion"]
    assert (found["status"], found["error"]["code"]) == ("failed", "unsafe_image")
    assert found["error"]["message"]


def test_deleting_the_result_cancels_the_job(site):
    job = site.convert(site.image())
    assert site.api("DELETE", f"/v1/images/{job['image_id']}", **OWNER).status_int == 200
    assert site.get(f"/v1/conversions/{job['id']}").json["conversion"]["status"] == "cancelled"


def test_a_list_has_pages(site):
    first = site.convert(site.image(), "vdi")
    second = site.convert(site.image(), "vmdk")
    assert site.jobs() == [second["id"], first["id"]]
    assert site.jobs("/v1/conversions?limit=1") == [second["id"]]
    assert site.jobs(f"/v1/conversions?limit=1&marker={second['id']}") == [first["id"]]
    assert site.jobs(f"/v1/conversions?marker={first['id']}") == []
    assert site.jobs("/v1/conversions?limit=0") == []
    assert len(site.jobs("/v1/conversions?limit=100000")) == 2
    assert site.jobs(f"/v1/conversions?image_id={first['image_id']}") == [first["id"]]
    assert site.jobs(f"/v1/conversions?source_image_id={first['image_id']}") == []
    assert site.jobs("/v1/conversions?status=queued&unknown=1") == [second["id"], first["id"]]
    assert site.jobs("/v1/conversions?status=running") == []
    assert site.jobs("/v1/conversions?image_id=nonsense") == []
    assert site.jobs(f"/v1/images/{first['image_id']}/conversions") == [first["id"]]


WRONG_QUERIES = [
    "limit=-1",
    "limit=x",
    "limit=",
    "status=",
    "status=done",
    "marker=",
    "marker=x",
    "status=%00",
    f"marker={NOBODY}",
    "limit=%ff",
]


def test_odd_queries_are_refused(site):
    for query in WRONG_QUERIES:
        assert site.get(f"/v1/conversions?{query}").status_int == 400, query


def test_odd_ids_of_jobs_are_not_there(site):
    for job in ("1", "x", "%2e%2e", "a%2Fb", NOBODY[:-1], "%00", "%e2%98%ba"):
        for method in ("GET", "DELETE"):
            assert site.api(method, f"/v1/conversions/{job}", **OWNER).status_int == 404, job


def test_other_methods_are_not_there(site):
    response = site.api("PUT", "/v1/conversions", **OWNER)
    assert (response.status_int, response.headers["Allow"]) == (405, "GET, POST")
    assert site.api("POST", f"/v1/conversions/{NOBODY}", **OWNER).status_int == 405


def test_the_formats_are_those_of_the_table(site):
    found = site.get("/v1/conversions/formats").json
    able = [row["disk_format"] for row in found["formats"] if row["input"]]
    assert sorted(able) == ["qcow2", "raw", "vdi", "vhd", "vmdk"]
    assert [row["disk_format"] for row in found["formats"] if row["compress"]] == ["qcow2"]
    assert {row["disk_format"] for row in found["formats"] if not row["output"]} >= {"iso", "ami"}
    assert found["limits"]["max_input_size"] == 100 * 1024**3
    assert found["limits"]["max_jobs_per_owner"] == 2


# -- the header of POST /v1/images ---------------------------------------------------------------


def test_a_header_converts(site):
    source = site.image()
    headers = {
        "x-glance-api-convert-from": f" {source['id']} ",
        "x-image-meta-name": "h",
        "x-image-meta-disk-format": "vdi",
        "x-image-meta-container-format": "bare",
        "x-image-meta-is-public": "False",
        "x-image-meta-size": "0",
        "x-image-meta-min-disk": "0",
        "x-image-meta-status": "active",
        "x-image-meta-owner": "owner",
        "x-image-meta-property-a-b": "c",
    }
    response = site.api("POST", "/v1/images", headers, **OWNER)
    image = response.json["image"]
    assert (response.status_int, image["status"], image["name"]) == (201, "queued", "h")
    assert (image["disk_format"], image["properties"]["a_b"]) == ("vdi", "c")
    assert response.headers["Location"].endswith(f"/v1/images/{image['id']}")
    job = response.headers["x-glance-api-conversion"]
    assert image["properties"]["conversion_job"] == job and site.jobs() == [job]
    again = site.api("POST", "/v1/images", headers, **OWNER)
    assert (again.status_int, again.json["image"]["id"]) == (200, image["id"])
    assert again.headers["x-glance-api-conversion"] == job


WRONG_HEADERS = [
    ({}, b"data", 400),
    ({"x-image-meta-location": "http://127.0.0.1/x"}, None, 400),
    ({"x-glance-api-copy-from": "http://127.0.0.1/x"}, None, 400),
    ({"x-image-meta-disk-format": "iso"}, None, 400),
    ({"x-image-meta-disk-format": ""}, None, 400),
    ({"x-image-meta-container-format": "ovf"}, None, 400),
    ({"x-image-meta-owner": "other"}, None, 400),
    ({"x-image-meta-id": "77"}, None, 400),
    ({"x-image-meta-id": NOBODY}, None, 400),
    ({"x-image-meta-min-disk": "5"}, None, 400),
    ({"x-image-meta-protected": "true"}, None, 400),
    ({"x-image-meta-checksum": "0" * 32}, None, 400),
    ({"x-image-meta-store": "nowhere"}, None, 400),
    ({"x-glance-api-convert-from": ""}, None, 400),
    ({"x-glance-api-convert-from": "999"}, None, 404),
    ({"x-glance-api-convert-from": "\xc3\xbc"}, None, 404),
    ({"x-glance-api-convert-from": "\xff"}, None, 400),
    ({"x-glance-api-convert-from": "../1"}, None, 404),
]


def test_what_no_header_form_may_have(site):
    source = site.image()
    for headers, body, status in WRONG_HEADERS:
        sent = {
            "x-glance-api-convert-from": str(source["id"]),
            "x-image-meta-disk-format": "vdi",
            **headers,
        }
        response = site.api("POST", "/v1/images", sent, body, **OWNER)
        assert response.status_int == status, (headers, response.text)
    assert not site.jobs() and site.images() == 1


# -- version 2, events, failures -----------------------------------------------------------------


def test_version_2_shows_the_result(site):
    source = site.image(property_distro="x")
    job = site.convert(source, name="two")
    head = site.api("HEAD", f"/v1/images/{job['image_id']}", **OWNER)
    shown = site.get(f"/v2/images/{head.headers['X-Openstack-Image-Uuid']}").json
    assert (shown["name"], shown["status"], shown["disk_format"]) == ("two", "queued", "qcow2")
    assert shown["os_glance_conversion_job"] == job["id"] and shown["distro"] == "x"
    assert shown["os_glance_converted_from"] == str(source["id"])
    assert (shown["owner"], shown["visibility"]) in (("owner", "private"), ("owner", "shared"))


def test_the_new_image_is_told_once(make_site):
    told = {"notifier_strategy": "memory", "notification_extended_events": "True"}
    site = make_site(**told)
    messages = notifier.create(config.Conf({"notifier_strategy": "memory"})).strategy.messages
    source = site.image()
    messages.clear()
    job = site.convert(source)
    values = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    assert site.post(values).status_int == 200
    assert site.post({**values, "source_image_id": "99"}).status_int == 404
    (message,) = messages
    hooks.stop()
    assert message["event_type"] == "image.create"
    assert str(message["payload"]["id"]) == job["image_id"]
    assert message["payload"]["status"] == "queued"

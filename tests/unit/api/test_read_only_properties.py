"""The properties of converted images, which users see and cannot set, change or remove."""

import pytest

from glance.common import config
from glance.identity.context import RequestContext
from glance.image import fields
from glance.registry import link
from tests.unit.api import conftest

USER = {"user": "u", "tenant": "t", "roles": "Member"}
ADMIN = {"user": "a", "tenant": "t", "roles": "admin"}
OWN = RequestContext(user="u", tenant="t", roles=["Member"])
SERVICE = RequestContext(user="a", tenant="service", roles=["admin"], is_admin=True)
PREFIX = "x-image-meta-property-"


@pytest.fixture
def both(make_api):
    """Both versions of the API, with callers that are not administrators."""
    return make_api(both=True, auth_mode="trusted-headers")


@pytest.fixture
def converted(both, registry):
    """The queued result of a conversion, as version 1 shows its id, with the job."""
    meta = {"name": "x", "disk-format": "raw", "container-format": "bare"}
    sent = {f"x-image-meta-{name}": value for name, value in meta.items()}
    sent[f"{PREFIX}colour"] = "red"
    source = both("POST", "/v1/images", sent, b"data", **USER).json["image"]
    # NOTE: the registry of these tests takes every caller for an administrator.
    calls = link.RegistryLink(config.Conf({"registry_port": str(registry.port)}))
    calls.lease_conversions(OWN, "w", 0)
    request = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
    made = calls.create_conversion(OWN, request)
    calls.close()
    return made.job


def properties(both, job):
    headers = both("HEAD", f"/v1/images/{job['image_id']}", **ADMIN).headers
    return {
        name[len(PREFIX) :].lower().replace("-", "_"): value
        for name, value in headers.items()
        if name.lower().startswith(PREFIX)
    }


def test_version_1_keeps_them_whatever_is_sent(both, converted):
    path = f"/v1/images/{converted['image_id']}"
    before = properties(both, converted)
    assert before == {
        "colour": "red",
        "converted_from": converted["source_image_id"],
        "conversion_source_checksum": "8d777f385d3dfec8815d20f7496026dc",
        "conversion_job": converted["id"],
    }
    for caller in (USER, ADMIN):
        for name in sorted(fields.READ_ONLY_PROPERTIES):
            for sent in (name, name.upper(), name.replace("_", "-")):
                refused = both("PUT", path, {PREFIX + sent: "spoofed"}, **ADMIN)
                assert refused.status_int == 403, (sent, refused.text)
                assert "read-only" in refused.text
                made = both("POST", "/v1/images", {PREFIX + sent: "1"}, **caller)
                assert made.status_int == 403, made.text
    assert properties(both, converted) == before
    # Other properties go with a change that leaves them out; these stay.
    changed = both("PUT", path, {f"{PREFIX}size": "big"}, **ADMIN)
    assert changed.status_int == 200, changed.text
    del before["colour"]
    assert properties(both, converted) == {**before, "size": "big"}


def test_version_1_takes_back_what_it_has_shown(both, converted):
    path = f"/v1/images/{converted['image_id']}"
    shown = both("HEAD", path, **ADMIN)
    meta = {name: value for name, value in shown.headers.items() if name.lower().startswith("x-")}
    changed = both("PUT", path, {**meta, "x-image-meta-name": "new"}, **ADMIN)
    assert changed.status_int == 200, changed.text
    assert changed.json["image"]["name"] == "new"
    assert changed.json["image"]["properties"]["conversion_job"] == converted["id"]


def test_version_2_shows_and_keeps_them(both, converted):
    listed = both.json("GET", "/v2/images", **ADMIN).json["images"]
    key = "os_glance_conversion_job"
    (image,) = [each for each in listed if each.get(key) == converted["id"]]
    assert image["os_glance_converted_from"] == converted["source_image_id"]
    assert image["colour"] == "red"
    for operation in (
        ("remove", "/conversion_job"),
        ("remove", f"/{key}"),
        ("replace", "/converted_from", "99"),
        ("replace", "/os_glance_converted_from", "99"),
        ("add", "/conversion_error", "x"),
        ("add", "/Converted-From", "x"),
    ):
        refused = both.patch(image, ("replace", "/name", "y"), operation, **ADMIN)
        assert refused.status_int in (403, 409), (operation, refused.text)
    assert both.json("GET", f"/v2/images/{image['id']}", **ADMIN).json == image
    for name in ("converted_from", "os_glance_converted_from", "Converted-From"):
        assert both.json("POST", "/v2/images", {name: "1"}, **USER).status_int == 403


def test_the_owner_cannot_fill_what_a_conversion_fills(tmp_path, template):
    registry = conftest.Registry(tmp_path, template, auth_mode="trusted-headers")
    both = conftest.Api(registry, tmp_path, both=True, auth_mode="trusted-headers")
    calls = link.RegistryLink(
        config.Conf({"registry_port": str(registry.port), "send_identity_headers": "true"})
    )
    try:
        meta = {"name": "x", "disk-format": "raw", "container-format": "bare"}
        sent = {f"x-image-meta-{name}": value for name, value in meta.items()}
        source = both("POST", "/v1/images", sent, b"data", **USER).json["image"]
        calls.lease_conversions(SERVICE, "w", 0)
        request = {"source_image_id": str(source["id"]), "disk_format": "qcow2"}
        job, image, _ = calls.create_conversion(OWN, request)
        path = f"/v1/images/{image['id']}"
        mine = {"x-image-meta-location": f"file://{both.datadir}/{source['id']}"}
        refused = [both("PUT", path, {}, b"spoofed", **USER)]
        refused.append(both("PUT", path, {"x-image-meta-disk-format": "raw"}, **USER))
        shown = both.json("GET", "/v2/images", **USER).json["images"]
        (uuid,) = [
            each["id"] for each in shown if each.get("os_glance_conversion_job") == job["id"]
        ]
        refused.append(both("PUT", f"/v2/images/{uuid}/file", {}, b"spoofed", **USER))
        assert [each.status_int for each in refused] == [409, 409, 409], refused[0].text
        assert both("PUT", path, mine, **USER).status_int in (400, 403, 409)
        assert both("HEAD", path, **USER).headers["x-image-meta-status"] == "queued"
        assert both.files() == [str(source["id"])]
        # The converter can; and everybody after the end.
        (work,) = calls.lease_conversions(SERVICE, "w", 1)
        values = {"status": "saving"}
        assert calls.update_image_metadata(SERVICE, image["id"], values)["status"] == "saving"
        assert calls.end_conversion(SERVICE, "w", job["id"], "released")["status"] == "queued"
        assert calls.cancel_conversion(OWN, job["id"])["status"] == "cancelled"
        assert both("DELETE", path, **USER).status_int == 200
    finally:
        calls.close()
        registry.stop()


def test_they_count_towards_no_quota(both, registry, converted):
    names = {*fields.READ_ONLY_PROPERTIES, "a", "b"}
    assert fields.count_own(names) == 2
    sent = {f"{PREFIX}n{number}": "1" for number in range(60)}
    changed = both("PUT", f"/v1/images/{converted['image_id']}", sent, **ADMIN)
    assert changed.status_int == 200, changed.text
    assert len(properties(both, converted)) == 63
    more = {**sent, f"{PREFIX}more": "1"}
    refused = both("PUT", f"/v1/images/{converted['image_id']}", more, **ADMIN)
    assert refused.status_int == 413, refused.text

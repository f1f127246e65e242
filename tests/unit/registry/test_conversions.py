"""The registry's resource of conversions, and the calls that others make it by."""

from __future__ import annotations

import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glance.common import config, exception
from glance.identity import authtoken, context
from glance.identity.context import RequestContext
from glance.image.conversion_job import LeaseLost
from glance.registry import client, link, service_account
from glance.registry.db import api

ACCOUNT = authtoken.account_secret({"username": "glance", "password": "canary"})
PROOF = {client.SHARED_SECRET: ACCOUNT}
OWNER = RequestContext(user="u", tenant="owner", roles=["Member"])
OTHER = RequestContext(user="o", tenant="other")
ADMIN = RequestContext(user="a", tenant="a", roles=["admin"], is_admin=True)
READER = RequestContext(read_only=True)
IMAGE = {
    "name": "web",
    "status": "active",
    "disk_format": "raw",
    "container_format": "bare",
    "location": "file:///srv/canary",
    "size": 10,
}
RESULT = {"bytes_in": 10, "bytes_out": 20, "virtual_size": 30}
UNKNOWN = "0b5c9c64-6a0e-4d0c-b2d5-2f4f6f6d3f10"


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


class Served:
    """A registry on a port, and a link to it that sends the callers' identity."""

    def __init__(self, registry: Any):
        self.db = registry.db
        conf = {"auth_mode": "trusted-headers"}
        self.app = context.ContextMiddleware(registry.app, config.Conf(conf))
        self.lost = 0
        self._server = wsgiref.simple_server.make_server(
            "127.0.0.1", 0, self._call, handler_class=_Handler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        conf = config.Conf(
            {"registry_port": str(self._server.server_port), "send_identity_headers": "true"}
        )
        self.link = link.RegistryLink(conf)
        self.service = service_account.ServiceAccount(conf, self.link)
        self.source = str(api.image_create(self.db, ADMIN, {**IMAGE, "owner": "owner"})["id"])

    def _call(self, environ: dict[str, Any], start_response: Any) -> Any:
        found = self.app(environ, start_response)
        if self.lost:
            self.lost -= 1
            raise ConnectionResetError
        return found

    def lease(self, worker: str = "w", count: int = 1, **more: Any) -> Any:
        return self.service.call(self.link.lease_conversions, worker, count, **more)

    def create(self, caller: RequestContext = OWNER, **more: Any) -> Any:
        request = {"source_image_id": self.source, "disk_format": "qcow2", **more}
        return self.link.create_conversion(caller, request)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.link.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def served(registry: Any) -> Iterator[Served]:
    found = Served(registry)
    yield found
    found.stop()


@pytest.fixture
def guarded(new_registry: Callable[..., Any]) -> Any:
    """A registry behind a token filter, with the account of that filter."""
    return new_registry(auth_mode="keystone", **{authtoken.ACCOUNT_SECRET: ACCOUNT})


# -- the calls -----------------------------------------------------------------------------------


def test_a_conversion_by_the_calls_of_the_link(served: Served) -> None:
    assert served.lease(count=0) == []
    job, image, is_new = served.create(store="swift", properties={"K": "v"})
    assert is_new and (job["status"], job["owner"], job["error"]) == ("queued", "owner", None)
    assert (image["status"], image["owner"], image["name"]) == ("queued", "owner", "web (qcow2)")
    assert image["properties"]["k"] == "v"
    assert served.create(store="swift").is_new is False
    assert served.link.get_conversion(OWNER, job["id"].upper()) == job
    assert served.link.find_conversions(ADMIN, status="queued", image_id=job["image_id"]) == [job]
    assert served.link.find_conversions(OTHER) == []
    (work,) = served.lease(held=[])
    assert (work.job["id"], work.store, work.compress) == (job["id"], "swift", False)
    assert (work.source["location"], work.image["id"]) == ("file:///srv/canary", image["id"])
    (again,) = served.lease(held=[])
    assert again.job["id"] == job["id"]
    said = {"bytes_in": 5, "virtual_size": 30}
    call = served.service.call
    now = call(served.link.report_conversion, "w", job["id"], "converting", 50, **said)
    assert (now["phase"], now["progress"], now["bytes_in"]) == ("converting", 50, 5)
    with pytest.raises(LeaseLost, match="belongs to another worker"):
        call(served.link.report_conversion, "x", job["id"])
    with pytest.raises(exception.Invalid, match="has not succeeded"):
        call(served.link.end_conversion, "w", job["id"], "succeeded", result=RESULT)
    active = {"status": "active", "location": "file:///srv/2", "size": 20}
    call(served.link.update_image_metadata, image["id"], active)
    done = call(served.link.end_conversion, "w", job["id"], "succeeded", result=RESULT)
    assert (done["status"], done["virtual_size"], done["phase"]) == ("succeeded", 30, None)
    assert served.link.cancel_conversion(OWNER, job["id"]) is None
    for caller in (OWNER, ADMIN):
        with pytest.raises(exception.NotFound):
            served.link.get_conversion(caller, job["id"])


def test_a_job_is_cancelled_by_its_owner(served: Served) -> None:
    served.lease(count=0)
    job = served.create().job
    with pytest.raises(exception.NotFound):
        served.link.cancel_conversion(OTHER, job["id"])
    cancelled = served.link.cancel_conversion(OWNER, job["id"])
    assert cancelled is not None and cancelled["status"] == "cancelled"
    assert served.link.client_for(OWNER).cancel_conversion(job["id"]) == cancelled
    with pytest.raises(exception.NotFound):
        served.link.cancel_conversion(OTHER, job["id"])
    assert served.link.cancel_conversion(OWNER, job["id"]) is None


def test_refusals_keep_their_class(served: Served) -> None:
    with pytest.raises(exception.NoConverter):
        served.create()
    served.lease(count=0)
    limits = {"max_jobs": 0}
    for refused, more in (
        (exception.TooManyRequests, {"limits": limits}),
        (exception.NotFound, {"source_image_id": "77"}),
        (exception.NotFound, {"source_image_id": "x"}),
        (exception.NotFound, {"caller": OTHER}),
        (exception.Forbidden, {"caller": RequestContext(user="u")}),
        (exception.Forbidden, {"properties": {"Converted-From": "1"}}),
        (exception.Invalid, {"disk_format": "floppy"}),
        (exception.LimitExceeded, {"limits": {"max_input_size": 1}}),
    ):
        with pytest.raises(refused):
            served.create(**more)
    served.create(idempotency_key="k")
    with pytest.raises(exception.Conflict):
        served.create(idempotency_key="k", name="x")
    # Nobody has two converters wait for something that no registry is there to say.
    served.stop()
    with pytest.raises(exception.RegistryUnavailable):
        served.create()


def test_a_lost_response_to_a_creation_makes_no_second_job(served: Served) -> None:
    served.lease(count=0)
    once = link.OnceCall()
    request = {"source_image_id": served.source, "disk_format": "vdi"}
    served.lost = 1
    with pytest.raises(exception.RegistryUnavailable):
        served.link.create_conversion(OWNER, request, once.attempt)  # type: ignore[arg-type]
    made = served.link.create_conversion(OWNER, request, once.attempt, True)  # type: ignore[arg-type]
    assert made.is_new
    assert [made.job] == served.link.find_conversions(OWNER)
    served.link.withdraw_image(OWNER, once.attempt)
    assert served.link.get_conversion(OWNER, made.job["id"])["status"] == "cancelled"


# -- strangers -----------------------------------------------------------------------------------


def work_calls(job: str) -> list[tuple[str, str, dict[str, Any]]]:
    lease = {"worker": "w", "count": 1, "held": None, "retention": 0}
    return [
        ("POST", "/conversions/leases", {"lease": lease}),
        ("PUT", f"/conversions/{job}/progress", {"progress": {"worker": "w"}}),
        ("POST", f"/conversions/{job}/end", {"end": {"worker": "w", "outcome": "released"}}),
    ]


def test_only_the_service_works_on_jobs(guarded: Any) -> None:
    source = api.image_create(guarded.db, ADMIN, {**IMAGE, "owner": "owner"})["id"]
    lease = work_calls(UNKNOWN)[0]
    assert guarded.call(*lease, ADMIN, **PROOF).json == {"work": []}
    wanted = {"conversion": {"source_image_id": str(source), "disk_format": "vdi"}}
    refused = guarded.call("POST", "/conversions", wanted, OWNER)
    assert (refused.status_int, "canary" in refused.text) == (403, False)
    job = guarded.call("POST", "/conversions", wanted, OWNER, **PROOF).json["conversion"]
    for call in work_calls(job["id"]):
        for caller, sent in ((OWNER, {}), (OTHER, {}), (OWNER, PROOF), (READER, PROOF)):
            refused = guarded.call(*call, caller, **sent)
            assert refused.status_int == 403, (call, caller, refused.text)
            assert "canary" not in refused.text
    path = f"/conversions/{job['id']}"
    # What is the caller's own it may see, and end; no location is in it.
    shown = guarded.call("GET", path, context=OWNER)
    assert shown.json["conversion"] == job and "canary" not in shown.text
    for method in ("GET", "DELETE"):
        assert guarded.call(method, path, context=OTHER).status_int == 404
    assert guarded.call("DELETE", path, context=READER).status_int == 403
    assert guarded.call("GET", path, context=READER).status_int == 404
    assert guarded.call(*lease, ADMIN, **PROOF).json["work"][0]["source"]["location"]
    assert guarded.call("DELETE", path, context=OWNER).json["conversion"]["status"] == "cancelling"


# -- bad input -----------------------------------------------------------------------------------

GOOD = {"source_image_id": "1", "disk_format": "vdi"}
BAD_REQUESTS: list[Any] = [
    None,
    [],
    "x",
    {},
    {"disk_format": "vdi"},
    {**GOOD, "source_image_id": 1},
    {**GOOD, "disk_format": ""},
    {**GOOD, "disk_format": "raw\n"},
    {**GOOD, "name": "a\x00"},
    {**GOOD, "name": "x" * 256},
    {**GOOD, "name": "\ud800"},
    {**GOOD, "is_public": "yes"},
    {**GOOD, "compress": 1},
    {**GOOD, "store": ["s3"]},
    {**GOOD, "properties": []},
    {**GOOD, "properties": {"": "x"}},
    {**GOOD, "properties": {"a": "x" * 65536}},
    {**GOOD, "idempotency_key": ""},
    {**GOOD, "idempotency_key": "x" * 256},
    {**GOOD, "limits": {"max_jobs": -1}},
    {**GOOD, "limits": {"max_jobs": True}},
    {**GOOD, "limits": {"other": 1}},
    {**GOOD, "limits": {"dropped_properties": "ab"}},
    {**GOOD, "location": "file:///etc/passwd"},
]
WORKER = {"worker": "w"}
BAD_WORK: list[tuple[str, str, str, Any]] = [
    ("POST", "leases", "lease", {**WORKER, "count": 1}),
    ("POST", "leases", "lease", {**WORKER, "count": 1001, "retention": 1}),
    ("POST", "leases", "lease", {**WORKER, "count": "1", "retention": 1}),
    ("POST", "leases", "lease", {"worker": "a b", "count": 1, "retention": 1}),
    ("POST", "leases", "lease", {"worker": None, "count": 1, "retention": 1}),
    ("POST", "leases", "lease", {**WORKER, "count": 1, "retention": 1, "held": "x"}),
    ("POST", "leases", "lease", {**WORKER, "count": 1, "retention": 2**31}),
    ("PUT", "{id}/progress", "progress", {**WORKER, "phase": "dreaming"}),
    ("PUT", "{id}/progress", "progress", {**WORKER, "progress": 101}),
    ("PUT", "{id}/progress", "progress", {**WORKER, "bytes_in": 2**63}),
    ("PUT", "{id}/progress", "progress", {**WORKER, "status": "running"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "won"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "failed"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "failed", "code": "other"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "succeeded"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "succeeded", "result": {"bytes_in": 1}}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "released", "code": "timeout"}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": []}),
    ("POST", "{id}/end", "end", {**WORKER, "outcome": "failed", "code": []}),
]


@pytest.mark.parametrize("wanted", BAD_REQUESTS, ids=lambda value: repr(value)[:60])
def test_a_request_that_is_none_is_refused(registry: Any, wanted: Any) -> None:
    refused = registry.call("POST", "/conversions", {"conversion": wanted})
    assert refused.status_int == 400, refused.text
    assert registry.get("/conversions") == {"conversions": []}


def test_a_report_that_is_none_is_refused(registry: Any) -> None:
    for method, path, name, given in BAD_WORK:
        refused = registry.call(method, f"/conversions/{path.format(id=UNKNOWN)}", {name: given})
        assert refused.status_int == 400, (given, refused.text)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "status=odd", "marker=x", "marker=%00", "a=b",
     f"marker={UNKNOWN}", "limit=-1", "limit=%C2%B9"],
)  # fmt: skip
def test_a_list_with_odd_parameters_is_refused(registry: Any, query: str) -> None:
    assert registry.call("GET", f"/conversions?{query}").status_int == 400


def test_an_image_that_cannot_be_has_no_jobs(registry: Any) -> None:
    for number in ("x", "0", "01", str(2**31), str(2**80), "%00", UNKNOWN):
        assert registry.get(f"/conversions?source_image_id={number}") == {"conversions": []}


@pytest.mark.parametrize("name", ["1", "x", "%00", "%FF", UNKNOWN, "leases"])
def test_a_job_that_cannot_be_is_not_found(registry: Any, name: str) -> None:
    for method in ("GET", "DELETE"):
        status = registry.call(method, f"/conversions/{name}").status_int
        assert status == (405 if name == "leases" else 404)
    if name == "leases":
        return
    for method, path, body in work_calls(name)[1:]:
        status = registry.call(method, path, body).status_int
        assert status == (409 if name == UNKNOWN else 404)

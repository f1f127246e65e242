"""Abandoned uploads at the start of an API."""

import pytest

from glance import registry as registry_calls
from glance.api import recovery
from glance.common import config
from glance.identity import context
from glance.streaming.retry import Backoff
from tests.unit.api.conftest import PAYLOAD

URL = "/v1/images"
ADMIN = context.RequestContext(is_admin=True)


class Left:
    """An abandoned write that notes how it was settled."""

    def __init__(self, image_id, committed):
        self.image_id, self.committed, self.settled = str(image_id), committed, []

    def discard(self):
        self.settled.append("discard")

    def keep(self):
        self.settled.append("keep")

    def leave(self):
        self.settled.append("leave")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(recovery, "BACKOFF", Backoff.steady(0, retries=2))


@pytest.fixture
def service(api):
    from glance import api as api_package
    from glance import store

    conf = config.Conf(
        {"registry_port": str(api.registry.port), "filesystem_store_datadir": str(api.datadir)}
    )
    return api_package.ImageService(conf, store.create_stores(conf))


def settle(service, image_id, committed):
    left = Left(image_id, committed)
    recovery.settle(service, [left])
    return left.settled


@pytest.mark.parametrize("committed", [True, False])
def test_a_record_that_waits_for_its_data_is_killed(api, service, committed):
    api.add(id=5)
    registry_calls.update_image_metadata(service.conf, ADMIN, 5, {"status": "saving"})
    assert settle(service, 5, committed) == ["discard"]
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "killed"


def test_data_of_an_active_image_is_kept(api, service):
    api.add(PAYLOAD, id=5)
    assert settle(service, 5, True) == ["keep"]
    assert api("GET", URL + "/5").body == PAYLOAD


@pytest.mark.parametrize("committed", [True, False])
def test_data_of_a_queued_image_goes_and_the_image_stays(api, service, committed):
    api.add(id=5)
    assert settle(service, 5, committed) == ["discard"]
    assert api("HEAD", URL + "/5").headers["x-image-meta-status"] == "queued"


def test_data_without_a_record_goes(service):
    assert settle(service, 99, True) == ["discard"]


@pytest.mark.parametrize(("committed", "settled"), [(True, ["leave"]), (False, ["discard"])])
def test_without_the_registry_only_half_images_go(registry, service, committed, settled):
    registry.stop()
    assert settle(service, 5, committed) == settled

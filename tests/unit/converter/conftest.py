"""A converter in this process, over a real registry application, and with a tool that copies."""

import contextlib
import logging
import pathlib
import threading
import time

import pytest

from glance import converter
from glance.common import config
from glance.conversion import qemu, sandbox
from glance.converter import lease, work, worker
from glance.identity.context import RequestContext
from glance.registry.link import RegistryLink
from glance.streaming import retry
from tests.unit.api.conftest import Api, Registry
from tests.unit.api.conftest import template as template

PATIENCE = 30

OWNER = RequestContext(user="ann", tenant="acme", roles=("member",))
ADMIN = RequestContext(user="root", tenant="admins", roles=("admin",), is_admin=True)
CALLER = {"user_id": "ann", "tenant_id": "acme", "roles": "member"}


def until(condition):
    """Wait until something in the background has made `condition` true; return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.03)
    return found


class CopyingTool:
    """Stands for `qemu.Tool`: knows raw images only, and takes no process.

    It waits while there is the file `hold`, next to the work directory.
    """

    def __init__(self, conf, box, directory, check):
        self._directory, self._check = pathlib.Path(directory), check
        self._hold = self._directory.parent.parent / "hold"
        self.usage = qemu.Consumption()

    def size_of_disk(self, name, row):
        return (self._directory / name).stat().st_size

    def convert(self, source, target, size, *, compress=False, report=None):
        while self._hold.exists():
            self._check()
            time.sleep(0.01)
        (self._directory / "target").write_bytes((self._directory / "source").read_bytes())


class Shop:
    """An API, a registry and the settings of converters."""

    def __init__(self, registry, directory, **options):
        self.registry, self.directory = registry, directory
        self.api = Api(registry, directory, auth_mode="trusted-headers")
        self.hold = directory / "hold"
        settings = {
            "registry_host": "127.0.0.1",
            "registry_port": registry.port,
            "filesystem_store_datadir": self.api.datadir,
            "send_identity_headers": True,
            "conversion_enabled": True,
            "conversion_work_dir": directory / "work",
            "conversion_disk_reserve": 0,
            "conversion_qemu_img": "/bin/true",
            "conversion_sandbox": "none",
            "notification_extended_events": True,
            "notifier_strategy": "logging",
            "inspect_on_upload": "off",
            **options,
        }
        self.conf = config.Conf({name: str(value) for name, value in settings.items()})
        self.link = RegistryLink(self.conf)
        self.events = []

    def worker(self, *, checked=False):
        """Return a converter that has not begun; with `checked`, whose host was looked at."""
        with pytest.MonkeyPatch.context() as patch:
            if not checked:
                patch.setattr(qemu, "checked_sandbox", sandbox.Sandbox)
            made = converter.create(self.conf)

        def emit(event, who, payload, *, priority="INFO"):
            self.events.append((event, priority, payload))

        made.service.events.emit = emit
        return made

    @contextlib.contextmanager
    def working(self, made=None):
        """Have a converter work for the block; at the end it is stopped at once."""
        made = made or self.worker()
        thread = threading.Thread(target=made.run, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.stop(0)
            thread.join(PATIENCE)
            assert not thread.is_alive()

    # -- users -----------------------------------------------------------------------------------

    def put(self, data=b"data", **meta):
        """Make an active image of OWNER; return its record."""
        given = {"name": "source", "disk_format": "raw", "container_format": "bare", **meta}
        headers = {f"x-image-meta-{name}": str(value) for name, value in given.items()}
        headers["Content-Type"] = "application/octet-stream"
        said = self.api("POST", "/v1/images", headers, data, **CALLER)
        assert said.status_int == 201, said.text
        return said.json["image"]

    def order(self, source, **more):
        """Start a conversion, which some converter has to be seen for; return its job."""
        self.link.lease_conversions(ADMIN, "seen", 0)
        request = {"source_image_id": str(source["id"]), "disk_format": "raw", **more}
        return self.link.create_conversion(OWNER, request).job

    def job(self, job):
        return self.link.get_conversion(ADMIN, job["id"])

    def final(self, job):
        """Wait until a job has ended; return it."""
        ends = ("succeeded", "failed", "cancelled")
        return until(lambda: (now := self.job(job))["status"] in ends and now)

    def at(self, job, phase):
        """Wait until a job is at a phase."""
        until(lambda: self.job(job)["phase"] == phase)

    def image(self, job):
        """Return the record of the result of a job."""
        return self.link.get_image_metadata(ADMIN, job["image_id"])

    def data(self, job):
        return (self.api.datadir / job["image_id"]).read_bytes()

    def left(self, *kept):
        """Return what there is of jobs and uploads, and of data besides that of `kept` images."""
        names = {str(image["id"]) for image in kept}
        found = [*(self.directory / "work").glob("*"), *self.api.datadir.rglob("*")]
        return [path for path in found if not path.is_dir() and path.name not in names]


@pytest.fixture
def make(tmp_path, template, monkeypatch, caplog):
    """Return a function that makes the shop of a test."""
    monkeypatch.setattr(qemu, "Tool", CopyingTool)
    monkeypatch.setattr(worker, "IDLE", 0.05)
    monkeypatch.setattr(worker, "BACKOFF", retry.Backoff.steady(0.05))
    monkeypatch.setattr(work, "BACKOFF", retry.Backoff.steady(0.05))
    monkeypatch.setattr(lease, "BACKOFF", retry.Backoff.steady(0.05))
    monkeypatch.setattr(lease, "PAUSE", 0.05)
    monkeypatch.setattr(lease, "NEWS_PAUSE", 0.02)
    caplog.set_level(logging.INFO, "glance")
    registry = Registry(tmp_path, template, auth_mode="trusted-headers", owner_is_tenant="True")
    yield lambda **options: Shop(registry, pathlib.Path(tmp_path), **options)
    registry.stop()


@pytest.fixture
def shop(make):
    return make()

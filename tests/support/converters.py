"""Sites with converters: real daemons that convert what users ask for."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from glance.common import config
from glance.identity.context import RequestContext
from glance.image import types
from glance.registry.link import RegistryLink

from support import conversions, daemons, faults, rawhttp

OWNER = "acme"
USER = rawhttp.identity(OWNER)
FINAL = ("succeeded", "failed", "cancelled")
PATIENCE = 60


class Converter(daemons.Daemon):
    """One glance-converter; it listens nowhere, and says in its log that it is ready."""

    _begin = 0

    def __init__(self, site: ConvertingSite, name: str, options: Mapping[str, Any]):
        conf = site.directory / f"{name}.conf"
        super().__init__("glance-converter", conf, conf.with_suffix(".log"), 0, fresh=site.fresh)
        self.trace = site.directory / f"{name}.trace"
        self.holding = site.directory / f"{name}.hold"
        self.options = dict(options)

    def write(self, **held: Any) -> None:
        """Write the configuration; `held` are the settings of `support.held`."""
        factory = "tests.support.held" if held else "glance.converter"
        own = {"trace": self.trace, "holding": self.holding, **held} if held else {}
        parts = [("DEFAULT", self.options), ("app:glance-converter", own)]
        text = "".join(
            f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
            for section, values in parts
        )
        self.conf.write_text(f"{text}paste.app_factory = {factory}:app_factory\n")

    def start(self, *, wait: bool = True) -> None:
        self._begin = len(self.log())
        self.trace.unlink(missing_ok=True)
        super().start(wait=wait)

    def answers(self) -> bool:
        return "glance-converter is ready" in self.log()[self._begin :]

    def phases(self) -> list[str]:
        """Return the phases that have begun since the start, of all jobs."""
        return self.trace.read_text().split() if self.trace.exists() else []

    def wait_for(self, phase: str) -> None:
        """Wait until some job has begun a phase."""
        faults.until(lambda: phase in self.phases(), phase, PATIENCE)


class ConvertingSite(daemons.Site):
    """A registry, an API and converters, whose users are named by their headers."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        converters: int = 1,
        converter: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        api = {"conversion_enabled": True, "conversion_max_jobs_per_owner": 50}
        options["api"] = {**api, **options.get("api", {})}
        super().__init__(directory, auth_mode="trusted-headers", **options)
        self.work = directory / "work"
        settings = {
            "verbose": True,
            "registry_host": "127.0.0.1",
            "registry_port": self.registry_options["bind_port"],
            "send_identity_headers": True,
            "filesystem_store_datadir": self.data_dir,
            **self.store.options(),
            "conversion_enabled": True,
            "conversion_work_dir": self.work,
            "conversion_disk_reserve": 0,
            **(converter or {}),
        }
        self.converters = [
            Converter(self, f"glance-converter-{number}", settings) for number in range(converters)
        ]
        self.link = RegistryLink(
            config.Conf(
                {name: str(settings[name]) for name in settings if "regist" in name}
            ).merged({"send_identity_headers": "True"}, "tests")
        )

    @property
    def converter(self) -> Converter:
        return self.converters[0]

    def write(self) -> None:
        super().write()
        for each in self.converters:
            each.write()

    def start(self) -> ConvertingSite:
        super().start()
        for each in self.converters:
            each.start()
        return self

    def stop(self) -> None:
        try:
            for each in self.converters:
                each.stop()
        finally:
            super().stop()

    def kill(self) -> None:
        for each in self.converters:
            each.kill()
        super().kill()

    # -- what users do ---------------------------------------------------------------------------

    def put(self, data: Any, disk_format: str = "raw", **meta: Any) -> dict[str, Any]:
        """Upload an image of OWNER, bytes or a file; return its record."""
        given = {"name": "source", "disk_format": disk_format, "container_format": "bare", **meta}
        headers = {**USER, **rawhttp.meta_headers(**given)}
        headers["Content-Type"] = "application/octet-stream"
        reply = self.http.request("POST", "/v1/images", headers, data)
        assert reply.status == 201, reply.text
        return reply.json()["image"]

    @property
    def owner(self) -> RequestContext:
        return RequestContext(user="ann", tenant=OWNER, roles=("member",))

    @property
    def admin(self) -> RequestContext:
        return RequestContext(user="root", tenant="admins", roles=("admin",), is_admin=True)

    def order(self, source: Mapping[str, Any], disk_format: str, **more: Any) -> types.Conversion:
        """Start a conversion; return its job."""
        self.link.lease_conversions(self.admin, "seen", 0)
        request = {"source_image_id": str(source["id"]), "disk_format": disk_format, **more}
        return self.link.create_conversion(self.owner, request).job

    def job(self, job: types.Conversion) -> types.Conversion:
        return self.link.get_conversion(self.admin, job["id"])

    def final(self, job: types.Conversion) -> types.Conversion:
        """Wait until a job has ended; return it."""

        def ended() -> types.Conversion | None:
            now = self.job(job)
            return now if now["status"] in FINAL else None

        return faults.until(ended, f"the end of job {job['id']}", PATIENCE)

    def lapse(self) -> None:
        """Let all leases have lapsed, and what waits be due."""
        self.sql("UPDATE conversion_jobs SET leased_until = created_at WHERE status = 'running'")
        self.sql(
            "UPDATE conversion_jobs SET leased_until = created_at WHERE status = 'cancelling'"
        )
        self.sql("UPDATE conversion_jobs SET not_before = created_at WHERE not_before IS NOT NULL")

    def image(self, job: types.Conversion) -> types.ImageRecord:
        """Return the record of the result of a job."""
        return self.link.get_image_metadata(self.admin, job["image_id"])

    def data(self, image_id: object) -> bytes:
        reply = self.http.request("GET", f"/v1/images/{image_id}", USER)
        assert reply.status == 200, reply.text
        return reply.body

    def left(self, *kept: object) -> list[str]:
        """Return what there is of jobs, and in the store besides the data of `kept` images."""
        names = {str(each) for each in kept}
        found = [str(path) for path in self.work.glob("*")] if self.work.exists() else []
        held = [path.name for path in self.data_files()]
        return [
            *found,
            *(
                name
                for name in held
                if not names & {name, name.partition(".")[0].partition("-")[0]}
            ),
        ]

    def tools(self) -> set[int]:
        """Return the processes that work in a directory of a job."""
        return conversions.working_in(self.work) if self.work.exists() else set()

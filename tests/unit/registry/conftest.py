"""A registry in process: its application over a fresh database, called without sockets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import webob

from glance.common import config
from glance.registry import server
from glance.registry.context import RequestContext
from glance.registry.db import engine, migration

from support import databases

ADMIN = RequestContext(is_admin=True)


class Registry:
    """The registry application with a few words for talking to it."""

    def __init__(self, database: engine.Database, **settings: str):
        self.db = database
        conf = config.Conf({"sql_connection": database.url, **settings})
        self.app = server.RegistryAPI(conf, database)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        context: RequestContext = ADMIN,
        **headers: str,
    ) -> webob.Response:
        """Send a request; `body` is JSON unless it is bytes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = webob.Request.blank(path, method=method, headers=names)
        if body is not None:
            request.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.environ["glance.context"] = context
        response = request.get_response(self.app)
        assert len(response.headers.getall("Content-Type")) == (response.status_int != 204)
        return response

    def get(self, path: str, context: RequestContext = ADMIN) -> Any:
        response = self.call("GET", path, context=context)
        assert response.status_int == 200, response.text
        return response.json

    def create(self, context: RequestContext = ADMIN, **values: Any) -> dict[str, Any]:
        response = self.call("POST", "/images", {"image": values}, context)
        assert response.status_int == 200, response.text
        return response.json["image"]

    def update(
        self, image_id: int, context: RequestContext = ADMIN, purge: bool = False, **values: Any
    ) -> dict[str, Any]:
        response = self.call(
            "PUT",
            f"/images/{image_id}",
            {"image": values},
            context,
            X_Glance_Registry_Purge_Props="true" if purge else "false",
        )
        assert response.status_int == 200, response.text
        return response.json["image"]

    def listed(self, query: str = "", context: RequestContext = ADMIN) -> list[int]:
        return [image["id"] for image in self.get(f"/images?{query}", context)["images"]]

    def share(self, image_id: int, member: str, can_share: bool | None = None) -> None:
        body = None if can_share is None else {"member": {"can_share": can_share}}
        response = self.call("PUT", f"/images/{image_id}/members/{member}", body)
        assert response.status_int == 204, response.text

    def members(self, image_id: int, context: RequestContext = ADMIN) -> list[tuple[str, bool]]:
        found = self.get(f"/images/{image_id}/members", context)["members"]
        return [(entry["member_id"], entry["can_share"]) for entry in found]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file at the target version, to be copied."""
    path = tmp_path_factory.mktemp("registry") / "empty.sqlite"
    migration.db_sync(f"sqlite:///{path}")
    return path


@pytest.fixture
def new_database(migrated: Path, tmp_path: Path) -> Iterator[Callable[[], engine.Database]]:
    made: list[engine.Database] = []
    on_server = databases.Run.server is not None

    def make() -> engine.Database:
        if on_server:
            made.append(engine.Database(databases.borrow()))
            return made[-1]
        path = tmp_path / f"registry{len(made)}.sqlite"
        shutil.copy(migrated, path)
        made.append(engine.Database(f"sqlite:///{path}"))
        return made[-1]

    yield make
    for database in made:
        database.dispose()
        if on_server:
            databases.give_back(database.url)


@pytest.fixture
def database(new_database: Callable[[], engine.Database]) -> engine.Database:
    return new_database()


@pytest.fixture
def new_registry(new_database: Callable[[], engine.Database]) -> Callable[..., Registry]:
    """A factory of registries, each over a database of its own."""
    return lambda **settings: Registry(new_database(), **settings)


@pytest.fixture
def registry(new_registry: Callable[..., Registry]) -> Registry:
    return new_registry()

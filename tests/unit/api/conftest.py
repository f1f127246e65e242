"""An API application over a real registry application, both in this process.

The registry listens on loopback in a thread; the API is called as a WSGI application. Requests are
plain: `api("GET", "/images/1")` gives webob's response.
"""

import hashlib
import json
import shutil
import threading
import wsgiref.simple_server
from socketserver import ThreadingMixIn

import pytest
import webob

from glance.api import mounting, v1, v2
from glance.api.middleware import version_negotiation
from glance.common import exception
from glance.http import request_id
from glance.identity import context
from glance.registry import link
from glance.registry import server as registry_server
from glance.registry.db import migration
from glance.streaming import tasks

PAYLOAD = b"*" * 5120
CHECKSUM = hashlib.md5(PAYLOAD).hexdigest()


@pytest.fixture(autouse=True)
def _tasks_end_with_their_test(monkeypatch):
    """Keep work in the background from asking, and logging, while other tests run."""
    started = []
    spawn = tasks.spawn

    def noted(*args, **kwargs):
        started.append(spawn(*args, **kwargs))
        return started[-1]

    def refuse(*args):
        raise exception.Conflict("the test has ended")

    monkeypatch.setattr(tasks, "spawn", noted)
    yield
    monkeypatch.setattr(link.RegistryLink, "client_for", refuse)
    for task in started:
        task.join(5)


class _Server(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Registry:
    """The registry application behind a loopback port; `app` may be replaced to inject faults."""

    def __init__(self, tmp_path, template=None, **conf):
        self.path = tmp_path / "registry.sqlite"
        if template is not None:
            shutil.copy(template, self.path)
        conf = {
            "sql_connection": f"sqlite:///{tmp_path}/registry.sqlite",
            "context_class": "glance.registry.context.RequestContext",
            **conf,
        }
        real = registry_server.app_factory(conf)
        self.real = self.app = context.filter_factory(conf)(real)
        self.calls = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.set_app(self._call)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _call(self, environ, start_response):
        self.calls.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return self.app(environ, start_response)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Loader:
    """What paste is to a composite."""

    def get_app(self, name, global_conf):
        return {"v1": v1, "v2": v2}[name].app_factory(global_conf)


class Api:
    """The API as a caller sees it. Keyword arguments of a call are headers (`_` for `-`).

    It has version 1, and version 2 as well with `both`.
    """

    def __init__(self, registry, tmp_path, *, both=False, **conf):
        self.datadir = tmp_path / "images"
        self.registry = registry
        conf = {
            "registry_host": "127.0.0.1",
            "registry_port": str(registry.port),
            "filesystem_store_datadir": str(self.datadir),
            "http_store_allowed_hosts": "127.0.0.1",
            "send_identity_headers": "True",
            **conf,
        }
        if both:
            mounts = {"/v1": "v1", "/v2": "v2"}
            app = mounting.root_app_factory(_Loader(), conf, **mounts)
        else:
            app = v1.app_factory(conf)
        self.app = request_id.RequestId(
            version_negotiation.filter_factory(conf)(context.filter_factory(conf)(app))
        )

    def __call__(self, method, path, headers=None, body=None, **identity):
        request = webob.Request.blank(path, method=method, headers=headers or {})
        if body is not None:
            request.body = body
            request.headers.setdefault("Content-Type", "application/octet-stream")
        for name, value in identity.items():
            request.headers["X-" + name.title()] = value
        if identity:
            request.headers["X-Identity-Status"] = "Confirmed"
        return request.get_response(self.app)

    def add(self, body=None, headers=None, **meta):
        """Create an image and return its record; keyword arguments are image attributes."""
        sent = {f"x-image-meta-{name}": str(value) for name, value in meta.items()}
        response = self("POST", "/v1/images", {**sent, **(headers or {})}, body)
        assert response.status_int == 201, response.text
        return response.json["image"]

    def json(self, method, path, document=None, headers=None, media_type=None, **identity):
        """Send a JSON document, or bytes in its place; errors come back as JSON."""
        body = document
        if document is not None and not isinstance(document, bytes):
            body = json.dumps(document).encode()
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent.setdefault("Content-Type", media_type or "application/json")
        return self(method, path, sent, body, **identity)

    def create(self, _identity=None, **attributes):
        """Create an image by version 2 and return it."""
        response = self.json("POST", "/v2/images", attributes, **(_identity or {}))
        assert response.status_int == 201, response.text
        return response.json

    def patch(self, image, *operations, **identity):
        """Change an image by version 2: (op, path) or (op, path, value) each."""
        entries = [
            {"op": op, "path": path, **({"value": rest[0]} if rest else {})}
            for op, path, *rest in operations
        ]
        media_type = "application/openstack-images-v2.1-json-patch"
        path = f"/v2/images/{image['id']}"
        return self.json("PATCH", path, entries, media_type=media_type, **identity)

    def files(self):
        """Return the names of all files in the data directory, staged ones included."""
        return sorted(path.name for path in self.datadir.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An empty database at the newest version; copying it is quicker than migrating."""
    path = tmp_path_factory.mktemp("template") / "registry.sqlite"
    migration.db_sync(f"sqlite:///{path}")
    return path


@pytest.fixture
def registry(tmp_path, template):
    server = Registry(tmp_path, template)
    yield server
    server.stop()


@pytest.fixture
def api(registry, tmp_path):
    return Api(registry, tmp_path)


@pytest.fixture
def make_api(registry, tmp_path):
    """Make an API with other options over the same registry."""
    return lambda **conf: Api(registry, tmp_path, **conf)

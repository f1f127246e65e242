"""The layers of the package: an import points down, or sideways within its own package."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The longest prefix of a module's name decides. A new module of glance.common needs a line here.
LAYERS = {
    "glance": 0,
    "glance.version": 0,
    "glance.common": 0,
    "glance.common.body": 0,
    "glance.common.byterange": 0,
    "glance.common.cipher": 0,
    "glance.common.config": 0,
    "glance.common.digest": 0,
    "glance.common.disk": 0,
    "glance.common.exception": 0,
    "glance.common.httperror": 0,
    "glance.common.imagemeta": 0,
    "glance.common.lifecycle": 0,
    "glance.common.listing": 0,
    "glance.common.membership": 0,
    "glance.common.offload": 0,
    "glance.common.plugin": 0,
    "glance.common.utils": 0,
    "glance.common.auth": 1,
    "glance.common.client": 1,
    "glance.common.context": 1,
    "glance.common.deploy": 1,
    "glance.common.httppool": 1,
    "glance.common.httpproxy": 1,
    "glance.common.httpreply": 1,
    "glance.common.httpwire": 1,
    "glance.common.keystone": 1,
    "glance.common.log": 1,
    "glance.common.notifier": 1,
    "glance.common.oldkeystone": 1,
    "glance.common.payload": 1,
    "glance.common.policy": 1,
    "glance.common.request_id": 1,
    "glance.common.server": 1,
    "glance.common.tokenfilter": 1,
    "glance.common.wsgi": 1,
    "glance.registry.context": 2,
    "glance.registry.db": 2,
    "glance.store": 2,
    "glance.client": 3,
    "glance.image_cache": 3,
    "glance.registry": 3,
    "glance.registry.members": 4,
    "glance.registry.server": 4,
    "glance.api": 5,
    "glance.image_cache.prefetcher": 5,
    "glance.image_cache.pruner": 5,
    "glance.image_cache.reaper": 5,
    "glance.scrubber": 5,
    "glance.cli": 6,
    # Conformance suites for drivers, and the pages made from all tables, stand beside the layers.
    "glance.testing": 7,
    "glance.common.sampleconf": 7,
    # Old names that only hand on what has moved.
    "glance.utils": 7,
    "glance.store.scrubber": 7,
}

# Leaving eventlet must be a change to these and no others; the first is a package.
EVENTLET = ("glance.common.server", "glance.common.offload", "glance.cli.services")


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "glance").rglob("*.py"))}


def layer(name: str) -> int:
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return LAYERS[name]


def package(name: str) -> str:
    """Return the part of the product that a module belongs to: glance.store, glance.api ..."""
    return ".".join(name.split(".")[:2])


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> set[str]:
    """Return the full names of all modules that a module names in import statements."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} uses a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down_or_sideways(name):
    wrong = [
        target
        for target in sorted(imports(name))
        if target.partition(".")[0] == "glance"
        and (layer(target), package(target) != package(name)) > (layer(name), False)
    ]
    assert not wrong, f"{name} (layer {layer(name)}) imports {wrong}"


def test_every_common_module_has_a_layer():
    own = {name for name in MODULES if name.count(".") == 2 and package(name) == "glance.common"}
    assert own <= set(LAYERS), "give these modules a layer"


@pytest.mark.parametrize("name", MODULES)
def test_eventlet_is_named_in_three_places_only(name):
    texts = {
        node.value
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # Prose may speak of eventlet; a string that could be handed to an importer may not.
    named = {text for text in texts if text.split(".")[0] == "eventlet" and " " not in text}
    named |= {target for target in imports(name) if target.split(".")[0] == "eventlet"}
    assert not named or f"{name}.".startswith(tuple(f"{home}." for home in EVENTLET))


def test_only_the_services_patch_sockets():
    patching = {
        name
        for name in MODULES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute | ast.Name)
        and getattr(node, "attr", getattr(node, "id", "")) == "monkey_patch"
    }
    assert patching <= {"glance.cli.services"}


def loaded_by(module: str) -> set[str]:
    """Return the names of the modules that one import brings into a fresh interpreter."""
    code = f"import sys; had = set(sys.modules); import {module}; print(*set(sys.modules) - had)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_client_loads_no_server_code_and_nothing_beyond_the_standard_library():
    loaded = loaded_by("glance.client")
    ours = {name for name in loaded if name.startswith("glance.")}
    assert all(layer(name) <= 1 or name == "glance.client" for name in ours), sorted(ours)
    foreign = {
        "eventlet",
        "webob",
        "routes",
        "sqlalchemy",
        "paste",
        "boto",
        "swiftclient",
        "kombu",
        "keystoneauth1",
        "openstack",
        "requests",
    }
    assert not foreign & loaded


def test_the_broker_library_is_loaded_with_its_strategy_only():
    assert not {"kombu", "amqp"} & loaded_by("glance.api.v1")
    assert "kombu" in loaded_by("glance.common.notifier.rabbit")


def test_stores_are_loaded_without_the_libraries_of_remote_ones():
    assert not {"boto", "swiftclient"} & loaded_by("glance.store")

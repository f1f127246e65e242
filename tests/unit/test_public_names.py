"""Names that programs and configuration files outside this project use stay importable."""

import importlib

import pytest

MODULES = [
    "glance.client",
    "glance.common.auth",
    "glance.common.client",
    "glance.common.config",
    "glance.common.context",
    "glance.common.exception",
    "glance.common.notifier",
    "glance.common.policy",
    "glance.registry.client",
    "glance.registry.context",
    "glance.registry.db.api",
    "glance.registry.db.migration",
    "glance.registry.db.models",
    "glance.store.base",
    "glance.store.filesystem",
    "glance.store.http",
    "glance.store.location",
    "glance.utils",
    "glance.version",
]

CLIENT = ["BaseClient", "Body", "CHUNKSIZE", "ImageBodyIterator", "Progress", "image_reference"]

NAMES = [
    "glance.client:Client",
    "glance.client:V1Client",
    *(f"glance.common.client:{name}" for name in CLIENT),
    "glance.common.auth:BaseStrategy",
    "glance.common.auth:NoAuthStrategy",
    "glance.common.auth:KeystoneStrategy",
    "glance.common.auth:get_plugin_from_strategy",
    "glance.common.context:RequestContext",
    "glance.common.context:ContextMiddleware",
    "glance.common.policy:Policy",
    "glance.common.notifier:Notifier",
    "glance.common.notifier:NoopStrategy",
    "glance.common.notifier:LoggingStrategy",
    "glance.common.notifier:RabbitStrategy",
    "glance.registry:get_images_list",
    "glance.registry:get_images_detail",
    "glance.registry:get_image_metadata",
    "glance.registry:add_image_metadata",
    "glance.registry:update_image_metadata",
    "glance.registry:delete_image_metadata",
    "glance.registry:get_image_members",
    "glance.registry:get_member_images",
    "glance.registry:replace_members",
    "glance.registry:add_member",
    "glance.registry:delete_member",
    "glance.registry.client:RegistryClient",
    "glance.registry.context:RequestContext",
    "glance.registry.db.migration:db_sync",
    "glance.registry.db.migration:db_version",
    "glance.registry.db.migration:downgrade",
    "glance.registry.db.migration:upgrade",
    "glance.registry.db.migration:version_control",
    "glance.store:Stores",
    "glance.store:create_stores",
    "glance.store:delete_from_backend",
    "glance.store:get_from_backend",
    "glance.store.base:Store",
    "glance.store.location:Location",
    "glance.store.location:get_location_from_uri",
    "glance.testing.notifier_suite:NotifierSuite",
    "glance.testing.notifier_suite:RemoteNotifierSuite",
    "glance.testing.store_suite:StoreSuite",
]

FACTORIES = [
    "glance.api.v1:app_factory",
    "glance.api.versions:app_factory",
    "glance.registry.server:app_factory",
    "glance.common.context:filter_factory",
    "glance.identity.context:filter_factory",
    "glance.api.middleware.cache:filter_factory",
    "glance.api.middleware.cache_manage:filter_factory",
    "glance.api.middleware.image_cache:filter_factory",
    "glance.api.middleware.version_negotiation:filter_factory",
    "glance.image_cache.prefetcher:app_factory",
    "glance.image_cache.pruner:app_factory",
    "glance.image_cache.reaper:app_factory",
    "glance.store.scrubber:app_factory",
    "glance.converter:app_factory",
]

# The exceptions that programs written for Diablo's client catch.
EXCEPTIONS = [
    "BackendException",
    "BadInputError",
    "BadStoreUri",
    "ClientConnectionError",
    "Duplicate",
    "Error",
    "GlanceException",
    "Invalid",
    "InvalidNotifierStrategy",
    "MissingArgumentError",
    "NotAuthorized",
    "NotEmpty",
    "NotFound",
    "StoreAddDisabled",
    "UnknownScheme",
    "UnsupportedBackend",
]


@pytest.mark.parametrize("module", MODULES)
def test_public_modules_are_importable(module):
    importlib.import_module(module)


@pytest.mark.parametrize("path", NAMES)
def test_public_names_are_there(path):
    module, _, name = path.partition(":")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("glance.common.auth", "glance.identity.strategies"),
        ("glance.common.client", "glance.client.base"),
        ("glance.common.context", "glance.identity.context"),
        ("glance.common.notifier", "glance.notifier"),
        ("glance.common.policy", "glance.identity.policy"),
    ],
)
def test_old_names_are_the_things_themselves(old, new):
    alias, home = importlib.import_module(old), importlib.import_module(new)
    assert alias.__all__
    for name in alias.__all__:
        assert getattr(alias, name) is getattr(home, name)


def test_errors_caught_by_old_names_are_those_that_are_raised():
    client = importlib.import_module("glance.common.client")
    exception = importlib.import_module("glance.common.exception")
    with pytest.raises(exception.ClientConnectionError):
        client.BaseClient("127.0.0.1", 1, timeout=1).do_request("GET", "/")


@pytest.mark.parametrize("path", FACTORIES)
def test_paste_factories_are_callable(path):
    module, _, name = path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_of_old_clients_exist(name):
    exception = importlib.import_module("glance.common.exception")
    assert issubclass(getattr(exception, name), Exception)


def test_client_is_the_client_of_version_1():
    client = importlib.import_module("glance.client")
    assert issubclass(client.Client, client.V1Client)

"""An API with both versions over a real registry application; both know their callers.

A module that needs other options of the registry, or callers whom nobody knows, has a fixture
`registry_options` or `callers` of its own.
"""

import pytest

from tests.unit.api.conftest import Api, Registry
from tests.unit.api.v2.both import BothApi

TRUSTED = {"auth_mode": "trusted-headers", "allow_anonymous_access": "True"}


@pytest.fixture
def callers():
    """Options by which both know who is asking."""
    return TRUSTED


@pytest.fixture
def registry_options():
    return {}


@pytest.fixture
def make_registry(tmp_path, template, callers):
    """Make a registry with other options."""
    made = []

    def make(**conf):
        made.append(Registry(tmp_path, template, **callers, **conf))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def registry(make_registry, registry_options):
    return make_registry(**registry_options)


@pytest.fixture
def make_api(registry, tmp_path, callers):
    """Make an API with both versions and other options over the same or another registry."""

    def make(other=None, **conf):
        options = {**callers, "policy_choose_id": "anyone", **conf}
        return BothApi(other or registry, tmp_path, **options)

    return make


@pytest.fixture
def api(make_api):
    return make_api()


@pytest.fixture
def make_v1(registry, tmp_path, callers):
    """Make an API with version 1 alone, as a file of Diablo has it."""
    return lambda **conf: Api(registry, tmp_path, **{**callers, **conf})

"""An API with both versions over a real registry application; both know their callers."""

import pytest

from tests.unit.api.conftest import Api, Registry

TRUSTED = {"auth_mode": "trusted-headers", "allow_anonymous_access": "True"}


@pytest.fixture
def make_registry(tmp_path, template):
    """Make a registry with other options."""
    made = []

    def make(**conf):
        made.append(Registry(tmp_path, template, **TRUSTED, **conf))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def registry(make_registry):
    return make_registry()


@pytest.fixture
def make_api(registry, tmp_path):
    """Make an API with both versions and other options over the same or another registry."""

    def make(other=None, **conf):
        options = {**TRUSTED, "policy_choose_id": "anyone", **conf}
        return Api(other or registry, tmp_path, both=True, **options)

    return make


@pytest.fixture
def api(make_api):
    return make_api()


@pytest.fixture
def make_v1(registry, tmp_path):
    """Make an API with version 1 alone, as a file of Diablo has it."""
    return lambda **conf: Api(registry, tmp_path, **{**TRUSTED, **conf})

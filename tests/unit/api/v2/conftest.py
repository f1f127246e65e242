"""An API with both versions over a real registry application; both know their callers."""

import pytest

from tests.unit.api.conftest import Api, Registry

TRUSTED = {"auth_mode": "trusted-headers", "allow_anonymous_access": "True"}


@pytest.fixture
def registry(tmp_path, template):
    server = Registry(tmp_path, template, **TRUSTED)
    yield server
    server.stop()


@pytest.fixture
def make_api(registry, tmp_path):
    """Make an API with both versions and other options over the same registry."""

    def make(**conf):
        options = {**TRUSTED, "policy_choose_id": "anyone", **conf}
        return Api(registry, tmp_path, both=True, **options)

    return make


@pytest.fixture
def api(make_api):
    return make_api()


@pytest.fixture
def make_v1(registry, tmp_path):
    """Make an API with version 1 alone, as a file of Diablo has it."""
    return lambda **conf: Api(registry, tmp_path, **{**TRUSTED, **conf})

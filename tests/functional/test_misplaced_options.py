"""Options in the file of the daemon that does not read them: named at start, not ignored."""

import pytest

from support import daemons

API = {
    "user_storage_quota": 1,
    "image_property_quota": 1,
    "limit_param_default": 1,
    "sql_connection": "sqlite:////nonexistent/x",
    "image_tag_quota": 1,
    "qqqq": 1,
}
REGISTRY = {
    "registry_port": 1,
    "default_store": "s3",
    "image_size_cap": 1,
    "expose_location": "never",
    "scrub_time": 1,
    "qqqq": 1,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with daemons.Site(tmp_path_factory.mktemp("site"), api=API, registry=REGISTRY) as running:
        yield running


@pytest.mark.parametrize(
    "daemon, other, names",
    [
        ("api", "glance-registry", API),
        ("registry", "glance-api", REGISTRY),
    ],
)
def test_each_is_named_once_with_the_program_that_reads_it(site, daemon, other, names):
    text = getattr(site, daemon).log()
    for name in names:
        told = f"option {name} has no effect here: set it in the file of {other}"
        assert text.count(told) == (name != "qqqq"), name
    assert text.count("has no effect here") == len(names) - 1


def test_the_daemons_work_without_them(site):
    reply = site.http.add(b"12345", property_a="1", property_b="2")
    assert reply.status == 201

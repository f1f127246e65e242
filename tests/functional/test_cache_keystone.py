"""The tools of the image cache where callers are known by a real Keystone."""

import os

import pytest

from support import caching, identities, keystone, operators
from support.faults import until

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    running = identities.Tokens(tmp_path_factory.mktemp("cloud"), caching=True)
    yield running
    running.stop()


@pytest.fixture
def private(source):
    """The id of an image that its owner alone may see, and that is queued."""
    reply = source.site.http.add(os.urandom(1 << 20), source.caller("owner"), name="private")
    assert reply.status == 201
    image_id = reply.json()["image"]["id"]
    assert manage(source, "admin", "queue-image", image_id).returncode == 0
    return image_id


def manage(source, user, *words):
    """Run glance-cache-manage as somebody who signs in."""
    environ = {
        "OS_AUTH_URL": source.keystone.url,
        "OS_USERNAME": user,
        "OS_PASSWORD": keystone.PASSWORD,
        "OS_PROJECT_NAME": user,
    }
    site = source.site
    return operators.run(
        "glance-cache-manage", "--host", "127.0.0.1", "--port", site.port, *words,
        cwd=site.directory, env=environ,
    )  # fmt: skip


def prefetch(source, **options):
    site = source.site
    account = {
        "admin_user": "glance",
        "admin_password": keystone.PASSWORD,
        "admin_tenant_name": "service",
        "auth_url": source.keystone.url,
        **options,
    }
    conf = caching.write_conf(
        "glance-prefetcher", site, site.directory / "cache", verbose=True, **account
    )
    return operators.run("glance-cache-prefetcher", conf, cwd=site.directory)


def test_the_prefetcher_signs_in_and_fetches_what_is_not_its_own(source, private):
    done = prefetch(source)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 fetched" in done.stdout
    assert keystone.PASSWORD not in done.stdout
    hit = source.site.http.get(f"/v1/images/{private}", source.caller("owner"))
    assert hit.header("Cache-Status") == "glance; hit"
    assert source.site.http.get(f"/v1/images/{private}", source.caller("other")).status == 404


def test_a_prefetcher_that_is_not_let_in_leaves_the_queue_as_it_is(source, private):
    done = prefetch(source, admin_password="guessed")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ")
    assert "guessed" not in done.stdout + done.stderr
    listed = manage(source, "admin", "list-queued").stdout
    assert f"\n{private} " in listed
    assert manage(source, "admin", "delete-all-queued-images", "-f").returncode == 0


def test_the_cleaner_signs_in_too(source, private):
    assert prefetch(source).returncode == 0
    site = source.site
    assert site.http.delete(f"/v1/images/{private}", source.caller("owner")).status == 200
    conf = caching.write_conf(
        "glance-reaper",
        site,
        site.directory / "cache",
        admin_user="glance",
        admin_password=keystone.PASSWORD,
        admin_tenant_name="service",
        auth_url=source.keystone.url,
    )
    done = operators.run("glance-cache-cleaner", conf, cwd=site.directory)
    assert (done.returncode, done.stderr) == (0, "")
    until(
        lambda: f"\n{private} " not in manage(source, "admin", "list-cached").stdout,
        "the image leaves the cache",
    )


def test_who_is_no_administrator_may_not_look_into_the_cache(source):
    source.caller("other")
    done = manage(source, "other", "list-cached")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("glance-cache-manage: You are not allowed to do that")

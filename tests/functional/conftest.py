"""Fixtures of the functional tests: sites of real daemons, whose logs appear when a test fails.

With GLANCE_TEST_GREEN set, the tests run on eventlet's hub (see test_s3_green.py).
"""

import os

import pytest

if os.environ.get("GLANCE_TEST_GREEN"):
    import eventlet

    eventlet.monkey_patch()

from support import daemons, images, places, warm
from support.swift_node import SwiftNode


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for site in _sites_of(item):
            for program, text in site.logs():
                lines = text.splitlines()[-80:]
                report.sections.append((f"log of {program}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session", autouse=True)
def _store_of_the_run(request, tmp_path_factory):
    """Start what `--store` needs."""
    places.Run.kind = request.config.getoption("--store")
    if places.Run.kind == "file":
        yield
        return
    with SwiftNode(tmp_path_factory.mktemp("store")) as node:
        places.Run.node = node
        yield
    places.Run.node = None


@pytest.fixture(scope="session", autouse=True)
def _warm_starts():
    """End, with the run, the processes from which daemons are forked."""
    yield
    warm.stop()


@pytest.fixture(autouse=True)
def _files_only(request):
    if request.node.get_closest_marker("files") and places.Run.kind != "file":
        pytest.skip("looks into the files of the file store")


def _sites_of(item):
    values = list(getattr(item, "funcargs", {}).values())
    made = item.stash.get(_MADE, [])
    return [value for value in values if isinstance(value, daemons.Site)] + made


_MADE = pytest.StashKey()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both daemons without authentication, shared by the tests of a module."""
    with daemons.Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def trusted_site(tmp_path_factory):
    """Both daemons that believe identity headers, shared by the tests of a module."""
    directory = tmp_path_factory.mktemp("trusted")
    with daemons.Site(directory, auth_mode="trusted-headers") as running:
        yield running


@pytest.fixture
def make_site(tmp_path, request):
    """Return a function that starts daemons of this test's own; arguments as `daemons.Site`."""
    made = request.node.stash.setdefault(_MADE, [])

    def make(start=True, **options):
        new = daemons.Site(tmp_path / f"site{len(made)}", **options)
        made.append(new)
        if start:
            new.start()
        else:
            new.write()
        return new

    yield make
    for old in made:
        old.kill()


@pytest.fixture
def http(site):
    return site.http


@pytest.fixture(scope="session")
def disks(tmp_path_factory):
    """A bootable disk in five formats: disk_format -> path."""
    return images.make_disks(tmp_path_factory.mktemp("disks"))

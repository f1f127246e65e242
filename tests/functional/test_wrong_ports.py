"""Daemons that are taken for each other: what the caller and the operator read."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from support import daemons


def test_the_registrys_port_says_whose_it_is(tmp_path: pathlib.Path) -> None:
    with daemons.Site(tmp_path) as site:
        http = site.registry.http
        for method, path in (("GET", "/v1"), ("GET", "/versions"), ("POST", "/v2/images")):
            reply = http.request(method, path)
            assert reply.status == 404
            assert reply.body.startswith(b"This is the glance registry, not the image API.")
        assert http.get("/images").json() == {"images": []}
        assert http.get("/").json() == {"images": []}
        assert http.get("/v1/images").json() == {"images": []}


@pytest.mark.parametrize("command", [["index"], ["show", "1"], ["details"]])
def test_the_command_with_the_registrys_port_fails(
    tmp_path: pathlib.Path, command: list[str]
) -> None:
    with daemons.Site(tmp_path) as site:
        words = ["--host", "127.0.0.1", "--port", str(site.registry.port), *command]
        done = subprocess.run(
            [sys.executable, str(daemons.BIN / "glance"), *words],
            env=daemons.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if command != ["show", "1"]:  # whose HEAD has no body
        assert "This is the glance registry, not the image API." in done.stdout + done.stderr


def test_an_api_that_is_its_own_registry_fails_at_once(tmp_path: pathlib.Path) -> None:
    site = daemons.Site(tmp_path)
    site.api_options["registry_port"] = site.api.port
    site.write()
    try:
        site.api.start()
        reply = site.http.get("/v1/images/detail")
        created = site.http.add(b"data", name="x")
    finally:
        site.kill()
    assert (reply.status, created.status) == (503, 503)
    log = site.api.log()
    assert "This is the glance image API, not the registry. Check registry_host" in log
    # Each request that failed is told once by the link and once with its path; the API's own
    # question at its start once.
    assert log.count("This is the glance image API") <= 5, log

"""Options that pages print pass the check with which a daemon starts, and every name is known."""

import json
import os
import pwd
import subprocess
import sys

import pytest

from support import blocks, daemons, pages

# Some of the options need the drivers of databases.
pytestmark = pytest.mark.full

RUNS = {
    "conversion": {"On one host": "test_each_configuration_passes_the_check"},
    "databases": {"TLS": "test_each_configuration_passes_the_check"},
    "http-caching": {"Purging": "test_each_configuration_passes_the_check"},
    "image-cache": {"The programs": "test_each_configuration_passes_the_check"},
    "keystone": {"Choose policies": "test_each_configuration_passes_the_check"},
    "notifications": {"Turn them on": "test_each_configuration_passes_the_check"},
    "installing": {"Do without systemd": "test_each_configuration_passes_the_check"},
    "running-as-a-service": {"Turn on TLS": "test_each_configuration_passes_the_check"},
    "s3": {"Try it with a local server": "test_each_configuration_passes_the_check"},
}

#: Checks each file of a list as the daemon does that it is for; prints what is wrong with it.
CHECK = """
import importlib, json, logging, sys
from glance.cli.daemon import services, startup
from glance.common import exception
kinds = {"glance-api": services.API, "glance-registry": services.REGISTRY}
found = []
for program, path in json.load(sys.stdin):
    service = kinds[program]
    importlib.import_module(service.module)
    server = importlib.import_module("glance.http.server")
    problems = []
    try:
        startup.configure(program, path, startup.parse(service.declared, [path]),
                          service.prepare, server.check)
    except exception.ConfigError as err:
        problems = err.problems
    found.append(problems)
json.dump(found, sys.stderr)
"""


def configurations():
    """Return page and line of each block of options, with the block."""
    return [
        block
        for page, sections in RUNS.items()
        for block in blocks.of(pages.path(page))
        if block.excuse is None and block.text[0] != "$" and set(sections) & set(block.sections)
    ]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What the check says of each block, and what it logs."""
    top = tmp_path_factory.mktemp("files")
    authority = "/etc/ssl/certs/ca-certificates.crt"
    files = []
    for number, block in enumerate(configurations()):
        is_registry = "sql_connection" in block.text
        program = "glance-registry" if is_registry else "glance-api"
        text = (daemons.ROOT / "etc" / f"{program}.conf").read_text()
        text = text.replace("/var/log/glance", str(top)).replace("/var/lib/glance", str(top))
        names = {line.partition(" = ")[0] for line in block.text.splitlines() if " = " in line}
        kept = [line for line in text.splitlines() if line.partition(" = ")[0] not in names]
        options = block.text.removeprefix("[DEFAULT]\n").replace("/etc/glance/ca.pem", authority)
        options = options.replace("user = glance", f"user = {pwd.getpwuid(os.getuid()).pw_name}")
        path = top / f"{number}.conf"
        path.write_text("\n".join(kept).replace("[DEFAULT]", f"[DEFAULT]\n{options}", 1))
        files.append((program, str(path)))
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps(files),
        env=daemons.environment(),
        cwd=top,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    logged = "".join(path.read_text() for path in top.glob("*.log"))
    return json.loads(done.stderr.splitlines()[-1]), logged


def test_each_configuration_passes_the_check(checked):
    found = configurations()
    assert len(found) >= len(RUNS)
    places = [f"{block.page}:{block.line}" for block in found]
    assert dict(zip(places, checked[0], strict=True)) == {place: [] for place in places}


def test_each_name_is_known(checked):
    assert "Using the configuration file" in checked[1]
    assert "unknown" not in checked[1]

"""What a log for debugging shows of SQL: the text of statements, and no value of a tenant."""

import subprocess
import sys

import pytest

from support import daemons, rawhttp

EVERYTHING = """
[loggers]
keys = root, sql
[handlers]
keys = out
[formatters]
keys =
[logger_root]
level = DEBUG
handlers = out
[logger_sql]
level = DEBUG
handlers =
qualname = sqlalchemy.engine
[handler_out]
class = StreamHandler
args = (sys.stdout,)
"""


@pytest.mark.parametrize("way", ["debug", "log-config"])
def test_statements_are_logged_without_values(tmp_path, way):
    site = daemons.Site(tmp_path, auth_mode="trusted-headers", registry={"debug": way == "debug"})
    words = []
    if way != "debug":
        (tmp_path / "log.cnf").write_text(EVERYTHING)
        words = [f"--log-config={tmp_path / 'log.cnf'}"]
    site.write()
    with site.registry.output.open("wb") as output:
        registry = subprocess.Popen(
            [
                sys.executable,
                str(daemons.BIN / "glance-registry"),
                str(site.registry.conf),
                *words,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            env=daemons.environment(),
        )
    try:
        site.registry.process = registry
        site.registry.wait_until_ready()
        caller = rawhttp.identity("canary-tenant")
        site.api.start()
        made = site.http.add(b"data", caller, name="canary-name", property_kind="canary-value")
        assert made.status == 201
        for query in ("name=canary-name", "property-kind=canary-value"):
            assert site.http.get(f"/v1/images/detail?is_public=none&{query}", caller).json()[
                "images"
            ]
    finally:
        site.api.stop()
        registry.terminate()
        registry.wait()
    lines = [line for line in site.registry.log().splitlines() if "GET /images" not in line]
    assert any("SELECT" in line for line in lines)
    assert any("INSERT INTO" in line for line in lines)
    shown = [line for line in lines if "canary" in line or f"file://{site.data_dir}" in line]
    assert not shown

"""Images API v2 by gophercloud, the library of Packer and Terraform, where it is installed.

On Debian: `golang-go` and `golang-github-gophercloud-gophercloud-dev`.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from support import daemons

LIBRARY = pathlib.Path("/usr/share/gocode")
PROGRAM = pathlib.Path(daemons.ROOT) / "tests" / "support" / "gophercloud" / "main.go"

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not (shutil.which("go") and (LIBRARY / "src/github.com/gophercloud").exists()),
        reason="Go and gophercloud are not installed",
    ),
]


def test_an_image_lives_its_whole_life(tmp_path):
    program = tmp_path / "images"
    build = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(LIBRARY),
        "GOCACHE": str(tmp_path / "cache"),
    }
    command = ["go", "build", "-o", program, PROGRAM]
    subprocess.run(command, check=True, cwd=tmp_path, env=build)
    with daemons.Site(
        tmp_path / "site", api_pipeline="versionnegotiation context rootapp"
    ) as site:
        done = subprocess.run([program, site.url], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    told = {line["step"]: line["value"] for line in map(json.loads, done.stdout.splitlines())}
    made, shown, changed = (told.pop(step) for step in ("create", "get", "update"))
    assert made["id"] == "6b2c0a52-5c1b-4e0f-9f1e-0d6d2a6f3b11"
    assert (made["status"], shown["status"]) == ("queued", "active")
    assert (sorted(shown["tags"]), shown["min_disk"], shown["min_ram"]) == (["a", "b"], 1, 64)
    assert (changed["name"], changed["tags"], changed["min_disk"]) == ("renamed", ["c"], 2)
    assert told == {
        "list": 1,
        "update of nothing": True,
        "share": "pending",
        "accept": "accepted",
        "members": 1,
        "download": True,
        "gone": True,
    }

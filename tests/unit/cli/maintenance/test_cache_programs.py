"""The programs of the image cache, which share the configuration file of glance-api."""

import pathlib
import subprocess
import sys

import pytest

BIN = pathlib.Path(__file__).resolve().parents[4] / "bin"
#: Options that these programs do not know, with values that nobody may see.
FOREIGN = {
    "metadata_encryption_key": "c4nary0",
    "metadata_encryption_old_keys": "c4nary1 c4nary2",
    "swift_store_kye": "c4nary3",
    "rabbit_hosts": "guest:c4nary4@h:5672",
    "sql_connection": "host=db password=c4nary5",
}


@pytest.mark.parametrize("program", ["glance-cache-pruner", "glance-cache-cleaner"])
def test_the_debug_dump_shows_no_secret_of_the_shared_file(program, tmp_path):
    conf = tmp_path / "glance-api.conf"
    lines = [f"{name} = {value}" for name, value in FOREIGN.items()]
    lines.append(f"image_cache_dir = {tmp_path}/cache")
    conf.write_text("\n".join(["[DEFAULT]", "debug = True", *lines]))
    command = [sys.executable, "-W", "ignore", BIN / program, f"--config-file={conf}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0
    assert all(f"] {name} " in done.stdout for name in FOREIGN)
    assert "c4nary" not in done.stdout

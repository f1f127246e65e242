"""What the README prints works as printed, in a folder of its own."""

import os
import re
import subprocess

import pytest

from support import checkout, images, pages

pytestmark = [pytest.mark.slow, pytest.mark.peers]

RUNS = {
    "README": {"Try it": "test_the_readmes_python_runs"},
    "index": {"": "test_the_commands_of_the_start_page_run"},
}

START = "python3 bin/glance-quickstart"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = checkout.copy_to(tmp_path_factory.mktemp("checkout"))
    yield folder
    if (folder / ".venv").exists():
        shell(folder, f"{START} --stop")


@pytest.fixture(scope="module")
def told(folder):
    """What the README's first command prints."""
    images.need("python3", "cmp")
    return shell(folder, checkout.blocks(folder / "README.rst")[0])


@pytest.fixture(scope="module")
def port(told):
    return re.search(r"ready at http://127\.0\.0\.1:(\d+)", told)[1]


@pytest.fixture(scope="module")
def stored(folder, port):
    """What the last of the README's next commands prints; everything else comes after them."""
    for line in checkout.blocks(folder / "README.rst")[1].splitlines():
        answer = run_block(folder, line, port)
    return answer


def shell(folder, command):
    # The tools of this test environment must not be what makes a printed command work.
    environ = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environ["PATH"] = os.pathsep.join(
        part for part in environ["PATH"].split(os.pathsep) if "/.tox/" not in part
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_block(folder, block, port):
    block = block.replace("9292", port)
    if block.startswith("from "):
        script = folder / "block.py"
        script.write_text(block)
        return shell(folder, ".venv/bin/python block.py")
    return shell(folder, f"PATH=.venv/bin:$PATH\n{block}")


def test_the_readme_starts_with_the_command():
    assert checkout.blocks(checkout.daemons.ROOT / "README.rst")[0] == START


def test_the_next_three_commands_are_those_of_the_readme(folder, told, port):
    block = checkout.blocks(folder / "README.rst")[1]
    assert len(block.splitlines()) == 3
    for line in block.replace("9292", port).splitlines():
        assert f"  {line}\n" in told


def test_the_printed_commands_store_and_fetch_the_image(stored):
    assert "the same, bit for bit" in stored


@pytest.mark.usefixtures("stored")
def test_the_readmes_python_runs(folder, port):
    run_block(folder, checkout.blocks(folder / "README.rst")[2], port)


def test_the_commands_of_the_start_page_run(folder, told, port):
    (block,) = checkout.blocks(pages.path("index"))
    start, commands = block.split("\n", 1)
    assert start == START
    said = run_block(folder, commands, port)
    number = re.search(r"Added new image with ID: (\d+)", said)[1]
    assert re.search(rf"^ *{number} +hello ", said, re.MULTILINE)


def test_a_second_start_finds_the_first_one(folder, told, port):
    again = shell(folder, START)
    assert "running already" in again
    assert f"ready at http://127.0.0.1:{port}" in again


@pytest.mark.usefixtures("stored")
def test_stop_and_start_keep_the_images(folder, port):
    add = ".venv/bin/glance --port 9292 add name=kept is_public=true disk_format=raw < README.rst"
    run_block(folder, add, port)
    shell(folder, f"{START} --stop")
    again = re.search(r"ready at http://127\.0\.0\.1:(\d+)", shell(folder, START))[1]
    assert again == port
    assert "kept" in shell(folder, f".venv/bin/glance --port {port} index")

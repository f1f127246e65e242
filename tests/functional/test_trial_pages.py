"""What the pages about stores and the image cache print to try them works as printed."""

import pathlib
import random
import re
import shlex
import signal
import subprocess
import sys

import pytest

from support import checkout, daemons, pages, records

RUNS = {
    "image-cache": {"Turn it on": "test_the_cache_works_with_what_its_page_prints"},
    "swift": {"Try it": "test_the_trial_of_a_store_runs_as_printed"},
    "s3": {"Try it with a local server": "test_the_trial_of_a_store_runs_as_printed"},
}

DATA = b"an image" * 1000


def blocks(page, having):
    """Return the blocks of a page that hold a text, in order."""
    return checkout.blocks(pages.path(page), having=having)


# -- the image cache -----------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path):
    """Return a function that puts the directories of a block below the test's own."""
    return lambda text: text.replace("/var/lib/glance", str(tmp_path / "lib"))


def _cached_ids(site):
    return [entry["id"] for entry in site.http.get("/v1/cached_images").json()["cached_images"]]


def test_the_cache_works_with_what_its_page_prints(tmp_path, moved, monkeypatch):
    (turned_on,) = blocks("image-cache", "image_cache_enabled = True")
    without, behind_keystone = blocks("image-cache", "[pipeline:glance-api]")
    assert behind_keystone == without.replace(" context", " authtoken context")
    (filters,) = blocks("image-cache", "[filter:cache]")
    # The configuration of a site that has none of these sections.
    bare = daemons.API_PIPELINE.partition("[filter:cache]")[0]
    monkeypatch.setattr(daemons, "API_PIPELINE", bare)
    with daemons.Site(
        tmp_path / "site",
        api=checkout.options(moved(turned_on)),
        api_pipeline=without.partition("pipeline = ")[2],
        sections=filters,
    ) as site:
        image = site.http.add(DATA, name="cached").json()["image"]["id"]
        for _ in range(2):
            assert site.http.get(f"/v1/images/{image}").body == DATA
        records.eventually([image], lambda: _cached_ids(site))


# -- the stores ----------------------------------------------------------------------------------


def test_the_page_prints_the_key_of_the_swift_that_it_starts():
    server = (daemons.ROOT / "tests" / "support" / "swift_server.py").read_text()
    (key,) = re.findall(r"user_test_tester = (\S+) ", server)
    assert f"swift_store_key = {key}\n" in pages.text("swift")
    assert f"s3_store_secret_key = {key}\n" in pages.text("s3")


def start(commands, port, ready, folder):
    """Run the printed commands in a folder; return the last, a server, when it is ready."""
    (folder / "tests").symlink_to(daemons.ROOT / "tests")
    *before, server = (line[2:] for line in commands.splitlines() if line.startswith("$ "))
    for line in before:
        command = [part.replace("python3.11", sys.executable) for part in shlex.split(line)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    printed = re.search(r"(?<= )2599\d\b", server)[0]
    process = subprocess.Popen(
        shlex.split(server.replace(printed, str(port))),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if ready in line:
            return process
    raise AssertionError(f"{server} ended with {process.wait()}")


def goes_in_parts(site, port, folder):
    """Upload and download as the page about S3 prints."""
    (printed,) = blocks("s3", "Transfer-Encoding")
    (folder / "disk.img").write_bytes(random.Random(5).randbytes(30_000_000))
    uploaded, same, listed = re.split(r"^\$ ", printed, flags=re.MULTILINE)[1:]
    said = []
    for number, part in enumerate((uploaded, same, listed)):
        end = part.index("\n", part.index("9292/v1" if number < 2 else "25999/"))
        command = part[:end].replace("25999", str(port)).replace(":9292", f":{site.port}")
        command = command.replace("/images/1 ", "/images/2 ")
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert '"size": 30000000, "status": "active"' in said[0]
    assert '"location": "s3+http' not in said[0] or f":{port}/akeyglance/2" in said[0]
    assert said[1] == "same\n"
    assert "<Key>2</Key>" in said[2] and "<Size>30000000</Size>" in said[2]


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize(
    ("page", "server", "store", "ready"),
    [
        ("swift", "swift_server.py", "default_store = swift", "ready"),
        ("s3", "moto_server", "default_store = s3", "Running on"),
    ],
    ids=["swift", "s3"],
)
def test_the_trial_of_a_store_runs_as_printed(page, server, store, ready, tmp_path, moved):
    commands, printed = blocks(page, server)[0], blocks(page, store)[0]
    port = daemons.free_port()
    process = start(commands, port, ready, tmp_path)
    try:
        chosen = checkout.options(re.sub(r":2599\d\b", f":{port}", moved(printed)))
        for name, value in chosen.items():
            if name.endswith("_dir"):
                pathlib.Path(value).mkdir(parents=True)
        with daemons.Site(tmp_path / "site", api=chosen) as site:
            image = site.http.add(DATA, name="tried").json()["image"]
            assert image["status"] == "active"
            assert site.http.get(f"/v1/images/{image['id']}").body == DATA
            if page == "s3":
                goes_in_parts(site, port, tmp_path)
        if page == "swift":
            # Its gateway is the other server of the page about S3.
            (gateway,) = blocks("s3", ":25998")
            chosen = checkout.options(gateway.replace(":25998", f":{port}"))
            more = {
                "default_store": "s3",
                "s3_store_bucket": "trial",
                "s3_store_object_buffer_dir": tmp_path,
            }
            more["s3_store_create_bucket_on_put"] = True
            with daemons.Site(tmp_path / "gateway", api={**more, **chosen}) as site:
                image = site.http.add(DATA, name="tried").json()["image"]
                assert site.http.get(f"/v1/images/{image['id']}").body == DATA
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()

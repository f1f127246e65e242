"""A whole site is backed up, lost and restored with what the page prints: on a host of its own."""

import json
import re

import pytest

from support import checkout, host, images, pages

pytestmark = [pytest.mark.full, pytest.mark.peers]

RUNS = {
    "backup": {
        "Keep the data of deleted images for a while": (
            "test_a_restored_site_is_the_one_that_was_backed_up"
        ),
        "Back up": "test_a_restored_site_is_the_one_that_was_backed_up",
        "Restore": "test_a_restored_site_is_the_one_that_was_backed_up",
    }
}

PAGE = pages.path("backup")
API = "http://127.0.0.1:9292"


@pytest.fixture
def site(tmp_path):
    images.need("curl")
    shell = host.installed(tmp_path)
    try:
        shell.run("export PATH=/opt/glance/bin:$PATH")
        yield shell
        # Shown if the test fails.
        print(shell.ask("tail -n 50 /var/log/glance/*.log /run/units/*.log")[1])
    finally:
        shell.close()


def portrait(shell):
    program = f"{host.LENT}/checkout/tests/support/portrait.py"
    return json.loads(shell.run(f"/opt/glance/bin/python {program} {API}"))


def add(shell, name, data, *words):
    """Upload an image; return its number."""
    shell.run(f"printf %s {data} > data")
    said = shell.run(f"glance add name={name} {' '.join(words)} < data")
    return re.search(r"new image with ID: (\d+)", said)[1]


RIGHTS = "stat -c '%a %U %G %n' /etc/glance /etc/glance/* /var/lib/glance{,/images,/*.sqlite}"
RAW = ("disk_format=raw", "container_format=bare")


def fill(shell):
    """Make images of each kind; return the number of one that was deleted."""
    public = add(shell, "public", "one", *RAW, "is_public=true", "distro=Débian", "protected=true")
    shared = add(shell, "shared", "two", *RAW, "min_ram=512")
    shell.run(f"glance member-add --can-share {shared} acme")
    add(shell, "empty", "''", *RAW)
    shell.run(
        f"curl -sfS -X POST {API}/v2/images -H 'Content-Type: application/json' "
        """-d '{"name": "queued", "visibility": "community", "tags": ["ä", "b"], "CASE": "x"}'"""
    )
    gone = add(shell, "gone", "three", *RAW)
    shell.run(f"glance --force delete {gone}")
    assert public != shared
    return gone


def test_a_restored_site_is_the_one_that_was_backed_up(site):
    (kept,) = checkout.blocks(PAGE, "Keep the data of deleted images for a while")
    here = "/^\\[DEFAULT\\]/r /dev/stdin"
    site.run(f"sed -i '{here}' /etc/glance/glance-api.conf <<'END'\n{kept}\nEND")
    site.run("systemctl restart glance-api")
    gone = fill(site)
    # The first backup; the second one finds most of what it is to copy.
    (block,) = checkout.blocks(PAGE, "Back up")
    site.run(block)
    doomed = add(site, "doomed", "four", *RAW)
    before = portrait(site)
    assert {one["v1"]["status"] for one in before.values()} == {"active", "queued"}
    rights = site.run(RIGHTS)

    for line in block.splitlines():
        site.run(line)
        if " backup " in line:
            # Between the two copies, as while a large one is made.
            later = add(site, "later", "five", *RAW)
            site.run(f"glance --force delete {doomed}")
    assert site.run("stat -c %a /var/backups/glance") == "700\n"

    removal = checkout.blocks(pages.path("one-host"), "Remove")[0]
    for line in removal.splitlines():
        # What the host is lent for the programs stays.
        site.run(line.replace("rm -r /opt/glance ", "rm -r "))
    (commands,) = checkout.blocks(pages.path("one-host"), "From an empty host to running daemons")
    for line in commands.splitlines()[host.BRINGING : 6]:
        site.run(line)
    assert not site.run("ls /var/lib/glance/images")

    stop, put_back, last = checkout.blocks(PAGE, "Restore")
    sync, check, start = last.splitlines()
    for line in [stop, *put_back.splitlines(), sync]:
        site.run(line)
    # A copy without the data of an image is noticed before the daemons start.
    site.run("mv /var/lib/glance/images/1 kept")
    code, said = site.ask(check)
    assert code == 3 and "image 1 in file, 3 bytes: missing" in said, said
    site.run("mv kept /var/lib/glance/images/1")
    site.run(check)
    site.run(start)
    assert portrait(site) == before
    assert site.run(RIGHTS).split("\n") == rights.split("\n")
    # The number of the image whose record was not copied is given anew.
    assert add(site, "newer", "six", *RAW) == later
    assert portrait(site)["newer"]["v1"]["size"] == 3
    assert site.run(f"glance restore {gone} && glance show {gone}")
    assert "three" in site.run(f"curl -sfS {API}/v1/images/{gone}")
    site.run("glance-manage check --older-than=0")

"""Commands of several pages run on one host with running daemons, in the order of a story.

Where a page has the id of an image of its reader, the command gets that of an image here.
"""

import json
import pathlib
import re

import pytest

from support import blocks, checkout, host, images, pages

pytestmark = [pytest.mark.slow, pytest.mark.peers]

RUNS = {
    "caching-proxies": {
        "Setting one up": "test_a_proxy_is_put_in_front",
    },
    "conversion": {"On one host": "test_a_converter_starts"},
    "databases": {
        "Back up SQLite": "test_the_database_is_copied",
        "Move to another database": "test_the_database_is_copied",
    },
    "deleting-images": {
        "The scrubber": "test_a_pass_of_the_scrubber_is_told",
        "Restore an image": "test_deleted_images_come_back",
        "Find orphans": "test_what_does_not_fit_is_found",
        "Check everything": "test_what_does_not_fit_is_found",
        "Encrypt locations": "test_locations_are_rewritten",
        "Upgrade from older releases": "test_locations_are_rewritten",
    },
    "http-caching": {"Files": "test_an_image_gets_the_name_of_a_file"},
    "image-cache": {
        "The programs": "test_the_cache_is_managed",
        "Manage the cache": "test_the_cache_is_managed",
    },
    "images-api-v2": {
        "The glance command and the Python client": "test_images_are_shown_as_version_2_knows_them"
    },
    "monitoring": {"Switch the metrics on": "test_metrics_are_there"},
    "openapi": {"Fetch a document": "test_the_description_is_fetched"},
    "running-as-a-service": {
        "Read the logs": "test_the_lines_of_a_request_are_found",
    },
    "several-nodes": {"What a dead node leaves": "test_what_does_not_fit_is_found"},
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    images.need("curl")
    made = host.installed(tmp_path_factory.mktemp("top"))
    try:
        made.run("export PATH=/opt/glance/bin:$PATH")
        yield made
        # Shown if a test fails.
        print(made.ask("tail -n 50 /var/log/glance/*.log /run/units/*.log")[1])
    finally:
        made.close()


def lines(page, section):
    """Return the lines of the blocks of a section that are to be run."""
    found = blocks.read(pages.path(page), section, excused=False)
    assert found
    return "\n".join(found).splitlines()


def add(shell):
    said = shell.run(
        "echo data | glance add name=here disk_format=raw container_format=bare is_public=true"
    )
    return re.search(r"new image with ID: (\d+)", said)[1]


def delete(shell, number):
    """Delete an image whose data stays for a while, as with delayed_delete."""
    shell.run(f"glance --force delete {number}")


def set_options(shell, program, text):
    """Set options of a daemon, which is started again with them."""
    conf = f"/etc/glance/{program}.conf"
    shell.run(f"sed -i '/^.DEFAULT.$/r /dev/stdin' {conf} <<'END'\n{text}\nEND")
    shell.run(f"systemctl restart {program}")


def test_images_are_shown_as_version_2_knows_them(shell):
    number = add(shell)
    uuid = re.search(
        r"X-Openstack-Image-Uuid: (\S+)",
        shell.run(f"curl -sI http://127.0.0.1:9292/v1/images/{number}"),
        re.IGNORECASE,
    )[1]
    said = []
    for line in lines("images-api-v2", "The glance command and the Python client"):
        line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", uuid, line)
        said.append(shell.run(re.sub(r"=json \d+$", f"=json {number}", line)))
    assert len(said) == 3 and all(uuid in one for one in said)


def test_deleted_images_come_back(shell):
    set_options(shell, "glance-api", "delayed_delete = True\nscrub_time = 86400")
    asked, *commands = lines("deleting-images", "Restore an image")
    assert len(commands) == 3
    for command in commands:
        number = add(shell)
        delete(shell, number)
        assert re.search(rf"^{number}\b", shell.run(asked), re.MULTILINE)
        assert command.endswith(" 42")
        shell.run(command.replace(" 42", f" {number}"))
        assert "Status: active" in shell.run(f"glance show {number}")


def test_what_does_not_fit_is_found(shell):
    finding, removing = lines("deleting-images", "Find orphans")
    (check,) = lines("deleting-images", "Check everything")
    elsewhere = lines("several-nodes", "What a dead node leaves")[:2]
    for find, remove in ((finding, removing), elsewhere):
        # A day old, so that it belongs to no upload in progress.
        shell.run("echo x > /var/lib/glance/images/9999")
        shell.run("touch -d '2 days ago' /var/lib/glance/images/9999")
        assert shell.ask(find)[0] == 3
        shell.run(remove)
    shell.run(check)


def test_the_database_is_copied(shell):
    shell.run("mkdir -p /var/backups")
    (backup,) = lines("databases", "Back up SQLite")
    assert "no errors" in shell.run(backup)
    (copy,) = lines("databases", "Move to another database")
    url = "sqlite:////var/lib/glance/copy.sqlite"
    shell.run(f"printf '[DEFAULT]\\nsql_connection = {url}\\n' > /etc/glance/new-registry.conf")
    shell.run("systemctl stop glance-registry")
    shell.run(copy)
    shell.run("systemctl start glance-registry; test -s /var/lib/glance/copy.sqlite")


def test_locations_are_rewritten(shell):
    _, encrypt = lines("deleting-images", "Encrypt locations")
    assert "Decrypted 0 locations" in shell.run(encrypt)
    (adopt,) = lines("deleting-images", "Upgrade from older releases")
    shell.run("install -d -o glance /var/lib/glance/scrubber")
    assert "Imported 0 files" in shell.run(adopt)


def test_the_lines_of_a_request_are_found(shell):
    head = shell.run("curl -si http://127.0.0.1:9292/v1/images")
    request = re.search(r"X-Openstack-Request-Id: (req-[0-9a-f-]+)", head, re.IGNORECASE)[1]
    (search,) = lines("running-as-a-service", "Read the logs")
    said = shell.run(re.sub(r"req-\w+", request, search))
    assert "api.log" in said and "registry.log" in said


def test_the_cache_is_managed(shell):
    number = add(shell)
    turned_on, without, *_ = checkout.blocks(pages.path("image-cache"), "Turn it on")
    pipeline = without.partition("\n")[2]
    shell.run(
        f"sed -i 's/^pipeline = versionnegotiation.*/{pipeline}/' /etc/glance/glance-api.conf"
    )
    set_options(shell, "glance-api", turned_on)
    _, timers, crontab = checkout.blocks(pages.path("image-cache"), "The programs")
    shell.run(timers)
    assert set(re.findall(r"(glance-cache-\w+)\.timer", timers)) == {
        pathlib.PurePath(line.split()[-1]).name for line in crontab.splitlines()
    }
    for line in crontab.splitlines():
        *when, user, command = line.split()
        assert len(when) == 5
        shell.run(f"runuser -u {user} -- {command}")
    listed, queue, stats, removal = lines("image-cache", "Manage the cache")
    shell.run(listed)
    shell.run(re.sub(r"queue-image .*", f"queue-image {number}", queue))
    shell.run("runuser -u glance -- /opt/glance/bin/glance-cache-prefetcher")
    assert re.search(rf"^{number}\b", shell.run(listed), re.MULTILINE)
    shell.run(stats)
    # There is nobody to ask.
    shell.run(re.sub(r" \d+$", f" --force {number}", removal))
    assert not re.search(rf"^{number}\b", shell.run(listed), re.MULTILINE)


def test_metrics_are_there(shell):
    api, registry, look = checkout.blocks(pages.path("monitoring"), "Switch the metrics on")
    for program, block in (("glance-registry", registry), ("glance-api", api)):
        set_options(shell, program, block.partition("\n")[2])
    assert "glance_" in shell.run(look)


def test_the_description_is_fetched(shell):
    (fetch,) = lines("openapi", "Fetch a document")
    shell.run(fetch)
    assert json.loads(shell.run("cat images-api.json"))["openapi"].startswith("3.1")


def test_an_image_gets_the_name_of_a_file(shell):
    images.need("wget")
    number = add(shell)
    shell.run("echo 127.0.0.1 images.example.org >> /etc/hosts")
    for command in lines("http-caching", "Files"):
        assert command.endswith("/5")
        shell.run("rm -rf fetched && mkdir fetched && cd fetched")
        shell.run(f"{command[:-1]}{number}")
        assert shell.run("ls && cat * && cd ..") == "here.raw\ndata\n"


def test_a_pass_of_the_scrubber_is_told(shell):
    (printed,) = checkout.blocks(pages.path("deleting-images"), having="Pass done: ")
    shell.run("runuser -u glance -- /opt/glance/bin/glance-scrubber")
    said = shell.run("grep -o 'Pass done: .*' /var/log/glance/scrubber.log | tail -n 1").strip()
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "N", said) == re.sub(number, "N", printed)


def test_a_converter_starts(shell):
    images.need("qemu-img", "bwrap")
    install, option, start = checkout.blocks(pages.path("conversion"), "On one host")
    shell.run(install)
    shell.run(
        f"sed -i '/^.DEFAULT.$/r /dev/stdin' /etc/glance/glance-converter.conf <<< '{option}'"
    )
    # This host is itself in a sandbox, which lets nobody make another one.
    shell.run(
        "sed -i '/^.DEFAULT.$/a conversion_sandbox = none' /etc/glance/glance-converter.conf"
    )
    set_options(shell, "glance-api", option)
    for line in start.splitlines():
        shell.run(line)
    assert "glance-converter is ready" in shell.run("cat /var/log/glance/converter.log")
    shell.run("systemctl stop glance-converter")


def test_a_proxy_is_put_in_front(shell):
    images.need("nginx", "varnishd", "squid")
    number = add(shell)
    nginx, varnish, squid, see = checkout.blocks(pages.path("caching-proxies"), "Setting one up")
    shell.run("cd /opt/glance/share/glance/proxies && rm -f /etc/nginx/sites-enabled/*")
    place, directory, check = nginx.splitlines()
    shell.run(f"{place}; {directory}; {check.removesuffix(' && systemctl reload nginx')}")
    place, check, _ = varnish.splitlines()
    shell.run(place)
    assert shell.run(check) == "valid\n"
    place, check, prepare = squid.splitlines()
    shell.run(f"{place}; {check.removesuffix(' && systemctl stop squid')}")
    shell.run(prepare.removesuffix(" && systemctl start squid"))
    # As the page says: glance-api listens where only the proxy reaches it.
    set_port = "sed -i 's/^bind_port = .*/bind_port = {}/' /etc/glance/glance-api.conf"
    shell.run(f"{set_port.format(9393)}; systemctl restart glance-api; nginx; cd /root")
    try:
        shell.run("echo 127.0.0.1 images.example.org >> /etc/hosts; TOKEN=any")
        for _ in range(2):
            assert shell.run(see.replace("images/5", f"images/{number}")) == "200 5\n200 5\n"
        assert "HEAD /v1/images" in shell.run("tail -n 3 /var/log/glance/api.log")
    finally:
        shell.run(f"nginx -s quit; {set_port.format(9292)}; systemctl restart glance-api")

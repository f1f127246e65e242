"""What the pages about installing print works as printed: on a host of its own, as root."""

import contextlib
import re
import shutil
import subprocess
import sys

import pytest

from support import checkout, databases, host, images, pages

pytestmark = [pytest.mark.slow, pytest.mark.peers]

RUNS = {
    "backup": {"PostgreSQL": "test_postgresql_takes_five_lines"},
    "databases": {"Purge old records": "test_one_command_purges_old_records"},
    "installing": {
        "PostgreSQL in five lines": "test_postgresql_takes_five_lines",
        "Do without systemd": "test_the_daemons_run_without_systemd",
    },
    "one-host": {"": "test_few_commands_lead_to_running_daemons_and_a_removal_leaves_nothing"},
    "upgrading": {"On one host": "test_an_upgrade_keeps_images_and_configuration"},
}

NEWER = "1.0.1"
#: Lists what there is of glance, but for what stands in for systemd.
FOUND = """
find /etc /opt /run /srv /usr/local /var -xdev -iname '*glance*' -not -path '/run/units/*' \\
    -not -path '/var/tmp/*' | sort
cat /etc/passwd /etc/group
"""


def printed(section, page="one-host"):
    """Return the only block of a section of a page."""
    (found,) = checkout.blocks(pages.path(page), section)
    return found


def tarball(directory, version=None):
    """Make the tarball of the project, as another version if one is given."""
    source = checkout.copy_to(directory / "source")
    if version is not None:
        path = source / "glance" / "version.py"
        text = path.read_text(encoding="utf-8")
        assert text.count('"1.0.0"') == 1
        path.write_text(text.replace('"1.0.0"', f'"{version}"'), encoding="utf-8")
    made = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(directory)]
    subprocess.run(made, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    (found,) = directory.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Two tarballs, and the wheels that installing them takes, in one directory."""
    host.need()
    top = tmp_path_factory.mktemp("held")
    (top / "newer").mkdir()
    (top / "newest").mkdir()
    own = tarball(top / "newer")
    build = ("setuptools>=65,<81", "wheel>=0.38", "psycopg2-binary")
    wheels = host.wheels(top / "wheels", str(own), *build)
    for made in wheels.glob("glance-*.whl"):
        made.unlink()
    shutil.move(own, wheels)
    shutil.move(tarball(top / "newest", NEWER), wheels)
    return wheels


@pytest.fixture(scope="module")
def make(held, tmp_path_factory):
    """Return a function that makes an empty host, with the tarballs where root begins."""

    @contextlib.contextmanager
    def made():
        shell = host.start(tmp_path_factory.mktemp("host"), held)
        try:
            shell.run("cp /mnt/glance-*.tar.gz .")
            yield shell
            # Shown if the test fails.
            print(shell.ask("tail -n 50 /var/log/glance/*.log /run/units/*.log")[1])
        finally:
            shell.close()

    return made


@pytest.fixture
def empty(make):
    with make() as shell:
        yield shell


INSTALL = "From an empty host to running daemons"
#: How many of the commands only bring the programs to the host, which takes the longest.
PROGRAMS = 3


@pytest.fixture(scope="module")
def programs(make):
    """An archive of what the first commands make; the test of all commands is another one."""
    commands = printed(INSTALL)
    with make() as shell:
        for line in commands.splitlines()[:PROGRAMS]:
            shell.run(line)
        shell.run("tar -C / -cf /mnt/opt.tar opt/glance")


@pytest.fixture
def ready(programs, empty):
    """A host with the programs, but nothing beyond."""
    empty.run("tar -C / -xf /mnt/opt.tar")
    return empty


@pytest.fixture
def installed(ready):
    """A host on which the daemons run."""
    commands = printed(INSTALL)
    for line in commands.splitlines()[PROGRAMS:]:
        ready.run(line)
    return ready


def images_of(shell):
    """Return what the API lists; the two daemons and the database must work for that."""
    return shell.run("/opt/glance/bin/glance index")


def owners(shell):
    """Return the users whose processes are daemons of glance; there are some."""
    found = re.findall(
        r"^(\S+) +\S*python\S* \S*/glance-(?:api|registry) ",
        shell.run("ps -eo user:20=,args="),
        re.MULTILINE,
    )
    assert len(found) > 2
    return set(found)


def test_few_commands_lead_to_running_daemons_and_a_removal_leaves_nothing(empty):
    before = empty.run(FOUND)
    commands = printed(INSTALL)
    for line in commands.splitlines():
        empty.run(line)
    assert len(commands.splitlines()) == 8
    assert "These eight commands" in pages.text("one-host")
    assert "first" in empty.run(printed("Try it"))
    empty.run(printed("Start the scrubber"))
    active, ready, logs = printed("See how it goes").splitlines()
    empty.run(active)
    assert empty.run(ready) == "OK\n"
    assert "api.log" in empty.run(logs)
    empty.run(printed("Change the configuration"))
    images_of(empty)
    # Root alone writes the configuration, only the service reads it, and nobody else.
    rights = empty.run("stat -c '%U %G %a' /etc/glance /etc/glance/*.conf").split("\n")
    assert set(rights[1:-1]) == {"root glance 640"} and rights[0] == "root glance 750"
    assert owners(empty) == {"glance"}
    override = "/etc/systemd/system/glance-api.service.d/override.conf"
    empty.run(f"mkdir {override.rpartition('/')[0]}")
    empty.run(f"cat > {override} <<'END'\n{printed('What the units do')}\nEND")
    assert "WARNING" not in empty.run("cat /var/log/glance/*.log")
    # What the real systemd thinks of the units, now that all that they name is there.
    said = empty.run("systemd-analyze verify --man=no /etc/systemd/system/glance-*.service")
    assert "glance" not in said
    # It would have named a line of the override that it does not know.
    empty.run(f"sed -i s/ReadWritePaths/ReadWritePath/ {override}")
    assert "ReadWritePath" in empty.ask("systemd-analyze verify --man=no glance-api.service")[1]
    empty.run("test -L /etc/systemd/system/multi-user.target.wants/glance-api.service")
    empty.run(f"rm -r {override.rpartition('/')[0]}")
    for line in printed("Remove").splitlines():
        empty.run(line)
    assert "glance" not in empty.run("ps -e")
    assert empty.run(FOUND) == before


def test_an_upgrade_keeps_images_and_configuration(installed):
    installed.run(
        "echo kept | /opt/glance/bin/glance add name=kept disk_format=raw is_public=true"
    )
    installed.run("echo '# ours' >> /etc/glance/glance-api.conf")
    upgrade, compare, back = checkout.blocks(pages.path("upgrading"), "On one host")
    for line in upgrade.splitlines():
        installed.run(line)
    assert NEWER in installed.run("/opt/glance/bin/glance-api --version")
    assert "kept" in images_of(installed)
    assert installed.run("tail -n 1 /etc/glance/glance-api.conf") == "# ours\n"
    code, said = installed.ask(compare)
    assert (code, re.findall("^[-+][^-+].*$", said, re.MULTILINE)) == (1, ["-# ours"])
    for line in back.splitlines():
        installed.run(line)
    assert NEWER not in installed.run("/opt/glance/bin/glance-api --version")
    assert "kept" in images_of(installed)
    assert owners(installed) == {"glance"}


def test_one_command_purges_old_records(installed):
    assert "0" in installed.run(printed("Purge old records", "databases"))


#: A cluster as Debian's package makes it, with its users known by the socket.
CLUSTER = f"""
programs={databases.POSTGRES[-1] if databases.POSTGRES else "/none"}
install -d -m 2775 -o postgres -g postgres /run/postgresql
rm -rf /tmp/cluster && install -d -m 0700 -o postgres -g postgres /tmp/cluster
cd /tmp && runuser -u postgres -- $programs/initdb \\
    -D /tmp/cluster --auth=peer --locale=C > /dev/null
runuser -u postgres -- $programs/pg_ctl -w \\
    -D /tmp/cluster -l /tmp/cluster/log -o "-k /run/postgresql -c fsync=off" start > /dev/null
cd /root
"""


def test_postgresql_takes_five_lines(installed):
    if not databases.POSTGRES:
        images.without("PostgreSQL is not installed")
    installed.run(CLUSTER)
    lines, removal = checkout.blocks(pages.path("installing"), "PostgreSQL in five lines")
    assert len(lines.splitlines()) == 5
    for line in lines.splitlines():
        installed.run(line)
    installed.run(printed("Change the configuration"))
    installed.run("echo x | /opt/glance/bin/glance add name=té disk_format=raw is_public=true")
    assert "té" in images_of(installed)
    told = "runuser -u glance -- psql -h /run/postgresql -Atc 'select name from images'"
    assert installed.run(told).splitlines()[-1] == "té"
    # With what the page about backups prints.
    dump, restore = checkout.blocks(pages.path("backup"), "PostgreSQL")
    installed.run("install -d -m 0700 /var/backups/glance")
    installed.run(dump)
    installed.run("systemctl stop glance-api glance-registry")
    installed.run("runuser -u postgres -- dropdb glance")
    installed.run(lines.splitlines()[1])
    installed.run(restore)
    installed.run("systemctl start glance-registry glance-api")
    assert "té" in images_of(installed)
    installed.run("runuser -u glance -- /opt/glance/bin/glance-scrubber")
    installed.run("systemctl stop glance-api glance-registry")
    installed.run(removal)


def test_the_daemons_run_without_systemd(ready):
    commands = printed(INSTALL)
    ready.run(commands.splitlines()[PROGRAMS])
    lines, _ = checkout.blocks(pages.path("installing"), "Do without systemd")
    for line in lines.splitlines():
        ready.run(line)
    ready.run("echo x | /opt/glance/bin/glance add name=ours disk_format=raw is_public=true")
    assert "ours" in images_of(ready)
    assert owners(ready) == {"glance"}
    ready.run("runuser -u glance -- /opt/glance/bin/glance-control all stop")

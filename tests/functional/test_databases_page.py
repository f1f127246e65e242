"""What pages about databases print works with real servers: TLS, and copies with their tools."""

import os
import subprocess

import pytest
import sqlalchemy as sa

from support import certificates, checkout, daemons, databases, images, operators, pages

pytestmark = pytest.mark.peers

RUNS = {
    "databases": {"TLS": "test_the_registry_starts_with_the_url_of_the_page"},
    "backup": {"MariaDB and MySQL": "test_the_registry_starts_with_the_url_of_the_page"},
}

#: What an operator creates before: the account and the database that the URLs name.
CREATED = {
    "postgresql": ["CREATE DATABASE glance TEMPLATE template0"],
    "mysql": [
        "CREATE DATABASE glance",
        "CREATE USER glance IDENTIFIED BY 'secret'",
        "GRANT ALL ON glance.* TO glance",
    ],
}


@pytest.fixture(params=["postgresql", "mysql"])
def server(request, tmp_path):
    """The kind of a server that takes only TLS, its administrator's URL, port and authority."""
    authority = certificates.Authority(tmp_path / "authority")
    port = daemons.free_port()
    with getattr(databases, request.param)(tls=authority.issue("server"), port=port) as url:
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as conn:
            for statement in CREATED[request.param]:
                conn.execute(sa.text(statement))
        admin.dispose()
        yield request.param, url, port, authority.root


def names(site):
    return [image["name"] for image in site.http.get("/v1/images").json()["images"]]


def test_the_registry_starts_with_the_url_of_the_page(server, make_site, tmp_path):
    kind, admin, port, root = server
    (block,) = checkout.blocks(pages.path("databases"), "TLS", having=f" {kind}://")
    url = checkout.options(block)["sql_connection"]
    url = url.replace("db.example.com", f"127.0.0.1:{port}")
    url = url.replace("/etc/glance/db-ca.pem", str(root))
    done = operators.run("glance-manage", "--sql-connection", url, "db_sync", cwd="/")
    assert done.returncode == 0, done.stderr
    site = make_site(registry={"sql_connection": url})
    made = site.http.add(b"data", name="first", is_public=True)
    assert made.status == 201, made.text
    assert names(site) == ["first"]
    if kind == "mysql":
        site.stop()
        copied_with_its_tools(admin, tmp_path)
        site.start()
        assert names(site) == ["first"]


def copied_with_its_tools(admin, home):
    """Copy the database and make it anew from the copy, as the page about backups prints."""
    images.need("mysqldump", "mysql")
    (block,) = checkout.blocks(pages.path("backup"), "MariaDB and MySQL")
    dump, restore = block.replace("/var/backups/glance", str(home)).splitlines()
    url = sa.engine.make_url(admin)
    (home / ".my.cnf").write_text(
        f"[client]\nuser = {url.username}\nsocket = {url.query['unix_socket']}\n"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    subprocess.run(["sh", "-ec", dump], env=environ, check=True)
    engine = sa.create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        for statement in ("DROP DATABASE glance", "CREATE DATABASE glance"):
            conn.execute(sa.text(statement))
    engine.dispose()
    subprocess.run(["sh", "-ec", restore], env=environ, check=True)

"""What a node leaves that dies and does not return: the other nodes settle it, or an operator."""

import json
import os
import time

import pytest

from support import daemons, faults, operators
from support.faults import Upload, new_id
from support.swift_node import SwiftNode

pytestmark = pytest.mark.full

MIB = 1 << 20
DATA = os.urandom(4 * MIB)
SCRUBBER = """
[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    with SwiftNode(tmp_path_factory.mktemp("swift")) as node:
        yield node


class Nodes:
    """A registry and two APIs: that of `site`, which dies, and `other`."""

    def __init__(self, directory, api, other):
        self.site = daemons.Site(directory, api=api)
        self.other_options = {**self.site.api_options, "bind_port": daemons.free_port(), **other}
        conf = directory / "other-api.conf"
        self.other = daemons.Daemon(
            "glance-api", conf, directory / "other-api.log", self.other_options["bind_port"]
        )

    def __enter__(self):
        self.site.start()
        text = self.site.api.conf.read_text()
        sections = text[text.index("\n[") :]
        lines = "".join(f"{name} = {value}\n" for name, value in self.other_options.items())
        self.other.conf.write_text(f"[DEFAULT]\n{lines}{sections}")
        return self

    def __exit__(self, *exc_info):
        self.other.kill()
        self.site.kill()

    def die(self, image_id, begun):
        """Let the API die in the middle of an upload, after `begun` becomes true."""
        with Upload(self.site, image_id) as upload:
            upload.send(DATA)
            faults.until_status(self.site, image_id, "saving")
            faults.until(begun, "the upload has begun in the store")
            self.site.api.kill()

    def status(self, image_id):
        ((status,),) = self.site.sql("SELECT status FROM images WHERE id = :id", id=image_id)
        return status

    def scrub(self, **options):
        """Run glance-scrubber on the other node."""
        kept = ("registry_", "swift_", "filesystem_", "default_store")
        common = {
            name: value for name, value in self.other_options.items() if name.startswith(kept)
        }
        database = self.site.registry_options["sql_connection"]
        lines = "".join(
            f"{name} = {value}\n"
            for name, value in {**common, "sql_connection": database, **options}.items()
        )
        conf = self.site.directory / "glance-scrubber.conf"
        conf.write_text(f"[DEFAULT]\n{lines}{SCRUBBER}")
        done = operators.run("glance-scrubber", conf, cwd=self.site.directory)
        assert done.returncode == 0, done.stdout + done.stderr


def orphans(nodes, *words):
    done = operators.run(
        "glance-manage",
        f"--config-file={nodes.site.registry.conf}",
        f"--store-config-file={nodes.other.conf}",
        "orphans",
        "--format=json",
        "--older-than=0",
        *words,
        cwd=nodes.site.directory,
    )
    return [one["image_id"] for one in json.loads(done.stdout)["data_without_record"]]


@pytest.mark.parametrize("settler", ["an API that starts", "the scrubber"])
def test_staged_files_of_a_shared_directory_are_settled_by_any_node(tmp_path, settler):
    with Nodes(tmp_path, {}, {}) as nodes:
        image_id = new_id()
        nodes.die(image_id, lambda: faults.files_of(nodes.site, image_id))
        assert nodes.status(image_id) == "saving"
        if settler == "the scrubber":
            nodes.scrub()
        else:
            nodes.other.start()
        faults.until(lambda: nodes.status(image_id) == "killed", "the record is settled")
        faults.until_no_file(nodes.site, image_id)


def test_segments_in_swift_whose_journal_is_lost_with_the_node(tmp_path, swift):
    options = {
        "swift_store_large_object_size": 1,
        "swift_store_large_object_chunk_size": 1,
        "default_store": "swift",
    }
    mine = {**swift.store_options(tmp_path / "spool", swift_store_retries="0"), **options}
    theirs = {"swift_store_spool_dir": tmp_path / "other-spool"}
    for name in ("spool", "other-spool"):
        (tmp_path / name).mkdir()
    with Nodes(tmp_path, mine, theirs) as nodes:
        image_id = new_id()

        def segments():
            return [name for name in swift.names("glance") if str(image_id) in name]

        nodes.die(image_id, segments)
        nodes.other.start()
        nodes.scrub(upload_stall_timeout=3600)
        # The other nodes cannot know that it will not return.
        assert nodes.status(image_id) == "saving"
        assert orphans(nodes, "--delete") == []
        time.sleep(1.1)
        nodes.scrub(upload_stall_timeout=1)
        assert nodes.status(image_id) == "killed"
        assert segments() != []
        assert set(orphans(nodes, "--delete")) == {str(image_id)}
        assert segments() == []

"""Requests of version 2 as tools send them, byte by byte, and what each tool reads in a response.

Nova, Cinder and Horizon use python-glanceclient, Ansible uses openstacksdk, Packer and Terraform
use gophercloud; what they send was recorded, or read from their code. `test_v2_tools.py` and
`test_v2_gophercloud.py` have the libraries themselves. Callers are known by their tokens.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import urllib.parse

import pytest

from support import identities

DATA = os.urandom(100_000)
MD5, SHA256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
V21 = "application/openstack-images-v2.1-json-patch"

Reply = collections.namedtuple("Reply", "status headers body")

#: The header lines of each library, as it writes them.
GLANCECLIENT = (
    "Accept-Encoding: gzip, deflate",
    "Accept: */*",
    "Connection: keep-alive",
    "User-Agent: python-glanceclient",
)
SDK = (
    "User-Agent: openstacksdk/4.22.0 keystoneauth1/5.18.1 python-requests/2.34.2 CPython/3.11.7",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
)
GOPHERCLOUD = ("User-Agent: gophercloud/v2.13.0", "Accept: application/json")
TERRAFORM = (
    "User-Agent: HashiCorp Terraform/1.9 (+https://www.terraform.io) gophercloud/v2.13.0",
    "Accept: application/json",
)


class Tool:
    """A tool against one API: what it sends, and what it has read so far."""

    def __init__(self, source, lines, caller="owner"):
        self.port, self.lines = source.site.port, lines
        self.http, self.source, self.caller = source.site.http, source, caller

    def send(self, method, target, status, *lines, body=None, chunked=False, caller=None):
        """Send a request, with a JSON document or bytes as its body; return the response."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        # The caller's `Accept: ` takes the place of the library's.
        own = {line.partition(":")[0] for line in lines}
        common = [line for line in self.lines if line.partition(":")[0] not in own]
        token = self.source.caller(caller or self.caller)["X-Auth-Token"]
        head = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *common, *lines]
        head.append(f"X-Auth-Token: {token}")
        if chunked:
            head.append("Transfer-Encoding: chunked")
            pieces = [body[begin : begin + 65536] for begin in range(0, len(body), 65536)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces) + b"0\r\n\r\n"
        elif body is not None:
            head.append(f"Content-Length: {len(body)}")
        reply = self._exchange("\r\n".join([*head, "", ""]).encode() + (body or b""))
        assert reply.status == status, (method, target, reply)
        return reply

    def _exchange(self, data):
        # A second request on the connection shows that nothing of the first was left over; it asks
        # the server to close.
        last = b"OPTIONS /v2/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        token = self.source.caller("admin")["X-Auth-Token"].encode()
        answer = self.http.exchange(data + last + b"X-Auth-Token: " + token + b"\r\n\r\n")
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (one.partition(": ") for one in lines)
        }
        length = int(headers.get("content-length", 0))
        assert rest[length:].startswith(b"HTTP/1.1 200 "), rest[length:][:300]
        return Reply(int(first.split()[1]), headers, rest[:length])

    def json(self, *words, **more):
        reply = self.send(*words, **more)
        assert reply.headers["content-type"] == "application/json"
        return json.loads(reply.body)

    def member(self, name):
        return self.source.owner(name)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Where the daemons find the stage.
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[1]))
        running = identities.Stage(tmp_path_factory.mktemp("source"))
    yield running
    running.stop()


@pytest.fixture
def site(source):
    """The daemons, whose logs are shown with a failure."""
    return source.site


# -- what tools read -----------------------------------------------------------------------------

BASE = {
    *("id", "name", "status", "visibility", "protected", "os_hidden", "owner", "disk_format"),
    *("container_format", "min_disk", "min_ram", "size", "virtual_size", "checksum", "tags"),
    *("os_hash_algo", "os_hash_value", "created_at", "updated_at", "self", "file", "schema"),
}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def read_by_glanceclient(image):
    """Everything but base fields is text: or it could not change the image any more."""
    assert all(isinstance(value, str) for name, value in image.items() if name not in BASE)
    assert image.keys() >= BASE
    return image


def read_by_gophercloud(image):
    """Times have a zone; what else is text is a property of the user."""
    assert RFC_3339.fullmatch(image["created_at"]) and RFC_3339.fullmatch(image["updated_at"])
    assert isinstance(image["min_disk"], int) and isinstance(image["tags"], list)
    assert "metadata" not in image and "properties" not in image
    return image


def next_path(page):
    """Return path and query of the next page, as clients take them from the link, or None."""
    if "next" not in page:
        return None
    link = urllib.parse.urlsplit(page["next"])
    return urllib.parse.urlunsplit(("", "", link.path, link.query, ""))


# -- Nova ----------------------------------------------------------------------------------------

OCTETS = "Content-Type: application/octet-stream"
JSON = "Content-Type: application/json"
PATCH = f"Content-Type: {V21}"
LIKE_GET = (OCTETS,)


def test_nova(source):
    nova = Tool(source, GLANCECLIENT)
    # keystoneauth looks for version 2.
    found = nova.json("GET", "/", 300, "Accept: application/json")
    assert [one for one in found["versions"] if one["status"] == "CURRENT"][0]["id"] >= "v2."
    schema = nova.json("GET", "/v2/schemas/image", 200, *LIKE_GET)
    formats = schema["properties"]["disk_format"]["enum"]
    assert next(one for one in ("qcow2", "vhd", "vmdk", "raw") if one in formats) == "qcow2"
    base = {name for name, one in schema["properties"].items() if one.get("is_base", True)}
    assert base >= BASE and "instance_uuid" not in base
    # A snapshot: all properties as text.
    snapshot = {
        "name": "snap",
        "visibility": "private",
        "disk_format": "qcow2",
        "min_ram": 512,
        "min_disk": 1,
        "container_format": "bare",
        "image_type": "snapshot",
        "user_id": "u",
        "instance_uuid": "b6cc2d0c-5a8b-4c16-8b6c-a3b9d1fc1c0e",
        "base_image_ref": "",
    }
    made = read_by_glanceclient(nova.json("POST", "/v2/images", 201, JSON, body=snapshot))
    assert made["status"] == "queued"
    assert {name: made[name] for name in snapshot} == snapshot
    path = f"/v2/images/{made['id']}"
    # It would rather add a location; when it may not, it uploads.
    location = {"url": "rbd://fsid/pool/image/snap", "metadata": {}}
    add = [{"op": "add", "path": "/locations/-", "value": location}]
    nova.send("PATCH", path, 403, PATCH, body=add)
    nova.send("PUT", f"{path}/file", 204, OCTETS, body=DATA, chunked=True)
    image = read_by_glanceclient(nova.json("GET", path, 200, *LIKE_GET))
    assert (image["status"], image["size"], image["checksum"]) == ("active", len(DATA), MD5)
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha256", SHA256)
    nova.send("PATCH", path, 200, PATCH, body=[])
    got = nova.send("GET", f"{path}/file", 200, *LIKE_GET)
    assert got.body == DATA and got.headers["content-md5"] == MD5
    # One of an instance of somebody else is shared with them.
    other = {**snapshot, "visibility": "shared", "name": "snap of other"}
    shared = nova.json("POST", "/v2/images", 201, JSON, body=other)
    member = nova.json(
        "POST", f"{shared['self']}/members", 200, JSON, body={"member": nova.member("friend")}
    )
    assert member["status"] == "pending"
    # One of volumes has no data.
    empty = nova.json("POST", "/v2/images", 201, JSON, body={**snapshot, "name": "volumes"})
    nova.send("PUT", f"{empty['self']}/file", 204, OCTETS, body=b"")
    image = nova.json("GET", empty["self"], 200, *LIKE_GET)
    assert (image["status"], image["size"]) == ("active", 0)
    queries = (
        "limit=2&sort_key=created_at&sort_dir=desc&name=snap",
        "status=active&updated_at=gte:2011-01-01T00:00:00Z&name=snap",
        f"instance_uuid={snapshot['instance_uuid']}&visibility=private&name=snap",
        f"limit=1000&marker={empty['id']}&sort_key=created_at&sort_key=id&sort_dir=desc"
        "&sort_dir=desc&name=snap",
    )
    for query in queries:
        page = nova.json("GET", f"/v2/images?{query}", 200, *LIKE_GET)
        assert [one["id"] for one in page["images"]] == [made["id"]], query
    for one in (made, shared, empty):
        nova.send("DELETE", one["self"], 204, *LIKE_GET, body=b"")
    # It tells apart what is not there, and what is not its own.
    nova.send("GET", path, 404, *LIKE_GET)
    public = nova.json("POST", "/v2/images", 201, JSON, body={"visibility": "public"})
    nova.send("DELETE", public["self"], 403, *LIKE_GET, body=b"", caller="other")
    nova.send("DELETE", public["self"], 204, *LIKE_GET, body=b"")


# -- Cinder --------------------------------------------------------------------------------------


def test_cinder(source):
    cinder = Tool(source, GLANCECLIENT)
    cinder.json("GET", "/v2/schemas/image", 200, *LIKE_GET)
    values = {"name": "volume", "disk_format": "raw", "container_format": "bare", "min_disk": 1}
    made = cinder.json("POST", "/v2/images", 201, JSON, body=values)
    path = made["self"]
    # The type of a volume may name a store: one that is not there is refused before the data.
    store = "x-image-meta-store: fast"
    cinder.send("PUT", f"{path}/file", 400, OCTETS, store, body=b"x")
    store = "x-image-meta-store: file"
    cinder.send("PUT", f"{path}/file", 204, OCTETS, store, body=DATA, chunked=True)
    change = [
        {"op": "add", "path": "/signature_verified", "value": "False"},
        {"op": "replace", "path": "/tags", "value": []},
    ]
    changed = read_by_glanceclient(cinder.json("PATCH", path, 200, PATCH, body=change))
    assert (changed["signature_verified"], changed["status"]) == ("False", "active")
    # It asks for locations, and reads the data if there are none.
    cinder.send("GET", f"{path}/locations", 404, *LIKE_GET)
    image = cinder.json("GET", path, 200, *LIKE_GET)
    assert "locations" not in image and "direct_url" not in image
    got = cinder.send("GET", f"{path}/file", 200, *LIKE_GET)
    assert hashlib.sha256(got.body).hexdigest() == image["os_hash_value"]
    assert int(got.headers["content-length"]) == image["size"]
    cinder.send("DELETE", path, 204, *LIKE_GET, body=b"")


# -- Horizon -------------------------------------------------------------------------------------


def test_horizon(source):
    horizon = Tool(source, GLANCECLIENT)
    schema = horizon.json("GET", "/v2/schemas/image", 200, *LIKE_GET)
    assert {"raw", "qcow2", "iso"} <= {*schema["properties"]["disk_format"]["enum"]}
    paths = []
    for number in range(5):
        values = {"name": f"h{number}", "disk_format": "raw", "container_format": "bare"}
        more = {"visibility": "private", "protected": False, "min_disk": 0, "min_ram": 0}
        made = horizon.json("POST", "/v2/images", 201, JSON, body={**values, **more})
        paths.append(made["self"])
    horizon.send("PUT", f"{paths[0]}/file", 204, OCTETS, body=DATA, chunked=True)
    # A page and one image more tells whether there is another page; the one before is sought in
    # the other direction.
    page = "/v2/images?limit=3&sort_key=name&sort_dir={}&visibility=private&disk_format=raw"
    first = horizon.json("GET", page.format("asc"), 200, *LIKE_GET)
    assert [one["name"] for one in first["images"]] == ["h0", "h1", "h2"]
    marker = f"&marker={first['images'][1]['id']}"
    second = horizon.json("GET", page.format("asc") + marker, 200, *LIKE_GET)
    assert [one["name"] for one in second["images"]] == ["h2", "h3", "h4"]
    marker = f"&marker={second['images'][0]['id']}"
    before = horizon.json("GET", page.format("desc") + marker, 200, *LIKE_GET)
    assert [one["name"] for one in before["images"]] == ["h1", "h0"]
    owner = horizon.member("owner")
    for query in (f"owner={owner}&size_min=1", "status=active&name=h0", "os_hidden=False&name=h0"):
        page = horizon.json("GET", f"/v2/images?limit=21&{query}", 200, *LIKE_GET)
        assert "h0" in [one["name"] for one in page["images"]], query
    change = [
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/description", "value": "text"},
        {"op": "replace", "path": "/visibility", "value": "shared"},
    ]
    image = read_by_glanceclient(horizon.json("PATCH", paths[0], 200, PATCH, body=change))
    assert (image["name"], image["description"]) == ("new", "text")
    members = horizon.json("GET", f"{paths[0]}/members", 200, *LIKE_GET)
    assert members["members"] == []
    # What is not there costs it a part of its form.
    horizon.send("GET", "/v2/metadefs/namespaces?limit=20", 404, *LIKE_GET)
    horizon.send("GET", "/v2/info/import", 404, *LIKE_GET)
    for path in paths:
        horizon.send("DELETE", path, 204, *LIKE_GET, body=b"")


# -- Ansible -------------------------------------------------------------------------------------


def test_ansible(source):
    ansible = Tool(source, SDK)
    writes, reads = "Accept: */*", "Accept: application/json"

    def find(name):
        ansible.send("GET", f"/v2/images/{name}", 404, writes)
        found = ansible.json("GET", f"/v2/images?name={name}", 200, reads)["images"]
        hidden = ansible.json("GET", "/v2/images?os_hidden=True", 200, reads)["images"]
        return [one for one in found + hidden if one["name"] == name]

    assert find("deb-12") == []
    values = {
        "name": "deb-12",
        "disk_format": "qcow2",
        "container_format": "bare",
        "tags": ["a"],
        "is_public": "False",
        "owner_specified.openstack.md5": MD5,
        "os_distro": "debian",
        "owner_specified.openstack.sha256": "",
        "owner_specified.openstack.object": "images/x",
    }
    made = ansible.json("POST", "/v2/images", 201, JSON, writes, body=values)
    size = f"X-OpenStack-Image-Size: {len(DATA)}"
    ansible.send("PUT", f"{made['self']}/file", 204, OCTETS, "Accept: ", size, body=DATA)
    image = ansible.json("GET", made["self"], 200, writes)
    assert (image["status"], image["checksum"]) == ("active", MD5)
    assert [image[name] for name in values] == list(values.values())
    # The second run finds it and its digest, and changes nothing.
    (found,) = find("deb-12")
    assert found == image
    change = [{"op": "add", "path": "/min_disk", "value": 5}]
    assert (
        ansible.json("PATCH", made["self"], 200, PATCH, "Accept: ", body=change)["min_disk"] == 5
    )
    # Without another page, the library asks once more.
    page = ansible.json("GET", "/v2/images?name=deb-12", 200, reads)
    assert "next" not in page
    more = f"/v2/images?name=deb-12&marker={page['images'][-1]['id']}"
    assert ansible.json("GET", more, 200, reads)["images"] == []
    # state: inactive
    for action, status in (("deactivate", "deactivated"), ("reactivate", "active")):
        ansible.send("POST", f"{made['self']}/actions/{action}", 204, writes, body=b"")
        assert ansible.json("GET", made["self"], 200, writes)["status"] == status
    # state: absent
    ansible.send("DELETE", made["self"], 204, writes, body=b"")
    assert find("deb-12") == []
    ansible.send("GET", made["self"], 404, writes)


# -- gophercloud ---------------------------------------------------------------------------------


def test_packer(source):
    packer = Tool(source, GOPHERCLOUD)
    # Nova makes the image.
    values = {"name": "built", "disk_format": "raw", "container_format": "bare"}
    made = packer.json("POST", "/v2/images", 201, JSON, body=values)
    path = made["self"]
    packer.send("PUT", f"{path}/file", 204, OCTETS, body=DATA, chunked=True)
    image = read_by_gophercloud(packer.json("GET", path, 200))
    assert image["status"] == "active"
    for name, value in (("visibility", "shared"), ("tags", ["v1"]), ("min_disk", 4)):
        change = [{"op": "replace", "path": f"/{name}", "value": value}]
        changed = read_by_gophercloud(packer.json("PATCH", path, 200, PATCH, body=change))
        assert changed[name] == value
    friend = packer.member("friend")
    member = packer.json("POST", f"{path}/members", 200, JSON, body={"member": friend})
    assert (member["member_id"], member["status"]) == (friend, "pending")
    accept = {"status": "accepted"}
    # It accepts for the member: with the owner's token in vain, with an administrator's token.
    target = f"{path}/members/{friend}"
    packer.send("PUT", target, 403, JSON, body=accept)
    accepted = packer.json("PUT", target, 200, JSON, body=accept, caller="admin")
    assert accepted["status"] == "accepted" and RFC_3339.fullmatch(accepted["updated_at"])
    found = packer.json("GET", "/v2/images?name=built&sort=created_at:desc&status=active", 200)
    assert [one["id"] for one in found["images"]] == [made["id"]]
    assert packer.send("GET", f"{path}/file", 200).body == DATA
    packer.send("DELETE", path, 204)


def test_terraform(source):
    terraform = Tool(source, TERRAFORM)
    # One status that it does not know, and the whole document is an error to it.
    versions = terraform.json("GET", "/", 300)["versions"]
    assert all(re.fullmatch(r"v\d+\.\d+", one["id"]) for one in versions)
    assert {one["status"] for one in versions} <= {"CURRENT", "SUPPORTED", "DEPRECATED"}
    resource = {
        "name": "tf",
        "container_format": "bare",
        "disk_format": "raw",
        "min_disk_gb": "x",
        "min_disk": 1,
        "min_ram": 64,
        "protected": False,
        "visibility": "shared",
        "tags": ["a", "b"],
        "os_hidden": False,
        "id": "0d1c7f0a-9c4c-4b8a-9d6e-3f1a2b3c4d5e",
    }
    made = read_by_gophercloud(terraform.json("POST", "/v2/images", 201, JSON, body=resource))
    assert {name: made[name] for name in resource} == resource
    path = made["self"]
    terraform.send("PUT", f"{path}/file", 204, OCTETS, body=DATA, chunked=True)
    image = read_by_gophercloud(terraform.json("GET", path, 200))
    assert (image["status"], image["checksum"]) == ("active", MD5)
    # What it does not know would be a property that somebody has added, to be removed again.
    exempt = ("os_glance_", "stores", "direct_url")
    others = image.keys() - BASE - resource.keys()
    assert not [name for name in others if not name.startswith(exempt)]
    same = terraform.json("PATCH", path, 200, PATCH, body=[])
    assert same == image
    change = [
        {"op": "replace", "path": "/name", "value": "tf2"},
        {"op": "replace", "path": "/tags", "value": ["c"]},
        {"op": "add", "path": "/os_distro", "value": "debian"},
        {"op": "remove", "path": "/min_disk_gb"},
    ]
    changed = read_by_gophercloud(terraform.json("PATCH", path, 200, PATCH, body=change))
    assert (changed["name"], changed["tags"], changed["os_distro"]) == ("tf2", ["c"], "debian")
    # The data sources.
    owner = terraform.member("owner")
    for query in (
        f"name=tf2&sort=owner:asc,created_at:desc&status=active&owner={owner}",
        "name=tf2&visibility=shared&member_status=all&size_min=1&size_max=99999999",
        "name=tf2&tag=c&os_hidden=false&sort=name:asc,min_disk:desc,min_ram:asc",
        "name=tf2&container_format=bare&disk_format=raw&protected=false",
    ):
        page = terraform.json("GET", f"/v2/images?{query}", 200)
        assert [one["id"] for one in page["images"]] == [made["id"]], query
    names = []
    for number in range(3):
        one = terraform.json("POST", "/v2/images", 201, JSON, body={"name": f"p{number}"})
        names.append(one["self"])
    target, seen = "/v2/images?limit=1&sort=name:asc&status=queued", []
    while target is not None:
        page = terraform.json("GET", target, 200)
        seen += [one["self"] for one in page["images"]]
        target = next_path(page)
    assert [one for one in seen if one in names] == names
    # An access, and the other side of it.
    friend = terraform.member("friend")
    access = terraform.json("POST", f"{path}/members", 200, JSON, body={"member": friend})
    assert access["image_id"] == made["id"] and RFC_3339.fullmatch(access["created_at"])
    target = f"{path}/members/{friend}"
    body = {"status": "accepted"}
    accepted = terraform.json("PUT", target, 200, JSON, body=body, caller="friend")
    assert accepted["status"] == terraform.json("GET", target, 200)["status"] == "accepted"
    terraform.send("DELETE", target, 204)
    terraform.send("GET", target, 404)
    for one in (path, *names):
        terraform.send("DELETE", one, 204)
    terraform.send("GET", path, 404)

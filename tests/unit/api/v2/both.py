"""Both versions of the API, as tests of data, members, tags and actions need them."""

import hashlib

from tests.unit.api.conftest import PAYLOAD, Api
from tests.unit.api.v2.callers import ADMIN, ANONYMOUS, OWNER, STRANGER

OCTETS = {"Content-Type": "application/octet-stream"}
MEMBER = {**STRANGER, "tenant": "member"}
OTHER = {**STRANGER, "tenant": "other"}
#: An administrator who owns images, too.
OWNING_ADMIN = {**ADMIN, "tenant": OWNER["tenant"]}
CALLERS = {
    "owner": OWNER,
    "member": MEMBER,
    "other": OTHER,
    "stranger": STRANGER,
    "admin": ADMIN,
    "anonymous": ANONYMOUS,
}
#: A path of an image that does not exist.
UNKNOWN = "/v2/images/5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()


class BothApi(Api):
    """As `Api`, with version 2 beside version 1."""

    def __init__(self, registry, tmp_path, **conf):
        super().__init__(registry, tmp_path, both=True, **conf)

    def make(self, data=None, identity=None, **values):
        """Create an image by version 2, with data if there are some; return its entity."""
        values = {"disk_format": "raw", "container_format": "bare", **values}
        identity = identity or {}
        created = self.json("POST", "/v2/images", values, **identity)
        assert created.status_int == 201, created.text
        image = created.json
        if data is not None:
            put = self("PUT", image["file"], OCTETS, data, **identity)
            assert put.status_int == 204, put.text
            image = self("GET", image["self"], **identity).json
        return image

"""What schemathesis does not know of glance: its media types, and ids of images that exist.

It runs in an environment of its own, and imports this file by SCHEMATHESIS_HOOKS. The variable
GLANCE_TEST_KNOWN holds a JSON object: the variables of paths -> values that exist.
"""

import json
import os
import re
import zlib

import schemathesis

for _version in ("v2.0", "v2.1"):
    schemathesis.serializer.alias(
        f"application/openstack-images-{_version}-json-patch", "application/json"
    )

_ID = re.compile(r"[1-9][0-9]{0,18}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
KNOWN = json.loads(os.environ.get("GLANCE_TEST_KNOWN", "{}"))


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Let most paths name what exists; which one, the generated value decides."""
    if not isinstance(path_parameters, dict):
        return path_parameters
    changed = dict(path_parameters)
    for name, value in path_parameters.items():
        number = zlib.crc32(repr(value).encode("utf-8", "replace"))
        known = KNOWN.get(name)
        # What is wrong by intent stays so.
        is_right = _ID.fullmatch(str(value)) if name in ("id", "uuid") else len(str(value)) <= 255
        if known and is_right and number % 4:
            changed[name] = known[number // 4 % len(known)]
    return changed

#!/opt/glance/bin/python
"""What a site shows to an administrator, as JSON: each record by both APIs, members, checksums.

A program for a host of its own (`support.host`); the address of the API is its argument.
"""

import contextlib
import hashlib
import json
import sys
import urllib.error
import urllib.request


def get(path):
    with urllib.request.urlopen(f"{sys.argv[1]}{path}") as response:
        return response.read()


def portrait():
    """Return the images by their names; a name is given once, and data that cannot be had is not.

    Of a site that serves version 1 alone there is nothing of version 2.
    """
    found = {}
    for image in json.loads(get("/v1/images/detail?limit=1000&is_public=none"))["images"]:
        image["members"] = json.loads(get(f"/v1/images/{image['id']}/members"))["members"]
        if image["status"] == "active":
            with contextlib.suppress(urllib.error.HTTPError):
                image["data"] = hashlib.sha256(get(f"/v1/images/{image['id']}")).hexdigest()
        found[image["name"]] = {"v1": image}
    try:
        get("/versions")
    except urllib.error.HTTPError as err:
        assert err.code == 300  # version 1 alone
        return found
    every = "/v2/images?limit=1000&visibility=all&member_status=all"
    for image in json.loads(get(every))["images"]:
        found[image["name"]]["v2"] = image
    return found


if __name__ == "__main__":
    json.dump(portrait(), sys.stdout)

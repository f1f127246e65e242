"""The registry's HTTP API as Python calls; what `glance.registry` makes for each request.

Values are those of the registry's JSON: a record has the keys of
`glance.image.fields.DETAIL_KEYS`, `location` included, with times as ISO 8601 text. Which
error a broken registry becomes is decided in `glance.registry`, not here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glance.client import base
from glance.common import exception

#: Header that asks for lists as the public API shows them (no location), and confirms that it is
#: so: an older registry ignores the wish.
PUBLIC_SHAPE = "x-glance-registry-public-shape"
#: Header with the secret that the registry and its callers share.
SHARED_SECRET = "x-glance-registry-secret"

_JSON = {"content-type": "application/json"}
_JSON_PURGE = {**_JSON, "x-glance-registry-purge-props": "true"}


class RegistryClient(base.BaseClient):
    """One caller's view of a registry.

    `headers` go with every request (identity, request id; lower-case names). Errors are those of
    `BaseClient.do_request`.
    """

    DEFAULT_PORT = 9191
    USER_AGENT = None

    def __init__(self, host: str, *args: Any, headers: Mapping[str, str] | None = None, **kw: Any):
        super().__init__(host, *args, **kw)
        self._headers: Mapping[str, str] = headers or {}

    # -- images ----------------------------------------------------------------------------------

    def get_images(self, **kwargs: Any) -> list[dict[str, Any]]:
        """Return a page of short records.

        `kwargs` are filters, marker, limit, sort_key and sort_dir; others are dropped.
        """
        return self._list("/images", "images", base.listing_params(kwargs))

    def get_images_detailed(self, **kwargs: Any) -> list[dict[str, Any]]:
        """Return a page of full records; arguments as `get_images`."""
        return self._list("/images/detail", "images", base.listing_params(kwargs))

    def get_public_images(self, detail: bool, **kwargs: Any) -> bytes:
        """Return a page as the JSON document that the public API answers with.

        PERF: the registry writes it, and nobody decodes it on the way; the list row of tests/bench
        measures it. `detail` chooses full records; other arguments as `get_images`.
        """
        response = self._ask(
            "GET",
            "/images/detail" if detail else "/images",
            headers={PUBLIC_SHAPE: "true"},
            params=base.listing_params(kwargs),
        )
        if response.getheader(PUBLIC_SHAPE) == "true":
            return response.read()
        images = base.read_json(response, "images")
        shown = [{name: image[name] for name in image if name != "location"} for image in images]
        return json.dumps({"images": shown}).encode()

    def get_image(self, image_id: object) -> dict[str, Any]:
        """Return a full record, in whatever status the image is."""
        return self._image("GET", f"/images/{base.segment(image_id)}")

    def add_image(self, image_metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Create a record and return it; `status` defaults to active."""
        if "image" not in image_metadata:
            image_metadata = {"image": image_metadata}
        return self._image("POST", "/images", image_metadata, _JSON)

    def update_image(
        self,
        image_id: object,
        image_metadata: Mapping[str, Any],
        purge_props: bool = False,
        from_state: str | None = None,
    ) -> dict[str, Any]:
        """Change the given attributes and return the record.

        `purge_props` removes the properties that are not given. `from_state` makes the change
        only if the image has this status; Duplicate (409) is raised otherwise.
        """
        if "image" not in image_metadata:
            image_metadata = {"image": image_metadata}
        if from_state is not None:
            image_metadata = {**image_metadata, "from_state": from_state}
        headers = _JSON_PURGE if purge_props else _JSON
        return self._image("PUT", f"/images/{base.segment(image_id)}", image_metadata, headers)

    def delete_image(self, image_id: object) -> bool:
        """Delete an image's record."""
        self.remove_image(image_id)
        return True

    def remove_image(
        self, image_id: object, status: str | None = None, **waiting: int
    ) -> dict[str, Any]:
        """Delete a record, leaving it in `status`, and return it (empty from an old registry).

        `waiting` may have `due_in` and `lease`, both in seconds: when the data is due for its
        removal, and how long the caller means to remove it itself.
        """
        response = self._ask(
            "DELETE",
            f"/images/{base.segment(image_id)}",
            params={"status": status, **waiting},
        )
        # WIRE: a Diablo registry answers null.
        answer = base.read_json(response)
        return dict(answer["image"]) if isinstance(answer, dict) and "image" in answer else {}

    def postpone_scrub(
        self, image_id: object, error: str, *, dead: bool = False, location: str | None = None
    ) -> bool:
        """Hand data that could not be removed to the scrubber; True if the registry took it."""
        left = {"error": error, "dead": dead, "location": location}
        return self._done("POST", f"/images/{base.segment(image_id)}/scrub", {"scrub": left})

    # -- members ---------------------------------------------------------------------------------

    def get_image_members(self, image_id: object) -> list[dict[str, Any]]:
        """Return the live memberships of an image: `member_id` and `can_share` each."""
        return self._list(f"/images/{base.segment(image_id)}/members", "members")

    def get_member_images(self, member_id: object) -> list[dict[str, Any]]:
        """Return what is shared with a member: `image_id` and `can_share` each."""
        return self._list(f"/shared-images/{base.segment(member_id)}", "shared_images")

    def replace_members(self, image_id: object, member_data: Any) -> bool:
        """Make the members of an image exactly those given; True if the registry said 204.

        `member_data` is a list of memberships, one membership, or either under `memberships`.
        """
        if isinstance(member_data, list | tuple):
            member_data = {"memberships": list(member_data)}
        elif isinstance(member_data, Mapping) and "memberships" not in member_data:
            member_data = {"memberships": [member_data]}
        return self._done("PUT", f"/images/{base.segment(image_id)}/members", member_data)

    def add_member(
        self, image_id: object, member_id: object, can_share: bool | None = None
    ) -> bool:
        """Make or change one membership; without `can_share` an existing one stays as it is."""
        body = None if can_share is None else {"member": {"can_share": bool(can_share)}}
        return self._done("PUT", _member(image_id, member_id), body)

    def delete_member(self, image_id: object, member_id: object) -> bool:
        """End one membership; True also if there was none."""
        return self._done("DELETE", _member(image_id, member_id))

    # -- the exchange ----------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        action: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> base.Response:
        data = None if body is None else json.dumps(body).encode()
        fields = {**self._headers, **headers} if headers else self._headers
        return self.do_request(method, action, data, fields, params)

    def _list(
        self, action: str, key: str, params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        answer = base.read_json(self._ask("GET", action, params=params), key)
        if not isinstance(answer, list):
            raise exception.ClientConnectionError("The registry's response contains no list")
        return answer

    def _image(
        self,
        method: str,
        action: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        answer = base.read_json(self._ask(method, action, body, headers), "image")
        if not isinstance(answer, dict):
            raise exception.ClientConnectionError("The registry's response contains no image")
        return answer

    def _done(self, method: str, action: str, body: Any = None) -> bool:
        with self._ask(method, action, body, _JSON if body is not None else None) as response:
            response.read()
            return response.status == 204


def _member(image_id: object, member_id: object) -> str:
    return f"/images/{base.segment(image_id)}/members/{base.segment(member_id)}"

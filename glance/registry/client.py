"""The registry's HTTP API as Python calls; `glance.registry` creates a client per request.

Values are those of the registry's JSON: a record has the keys of
`glance.image.fields.DETAIL_KEYS`, including `location`, with times as ISO 8601 text.
`glance.registry`, not this module, decides which error a broken registry causes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from glance.client import base
from glance.common import exception, numbers
from glance.image import entity, search, types

#: Header that requests lists as the public API shows them (without location), and confirms it in
#: the response: an older registry ignores the header.
PUBLIC_SHAPE = "x-glance-registry-public-shape"
#: Header of a list of version 2 in that shape: the uuid of its last image, if others follow.
LAST = "x-glance-registry-last"
#: Header of the response to an upload in progress: how many bytes the image may have.
ROOM = "x-glance-registry-room"
#: Header of a change that removes the custom properties which it does not name, if it is true.
PURGE_PROPERTIES = "x-glance-registry-purge-props"
#: Header with the secret that the registry and its callers share.
SHARED_SECRET = "x-glance-registry-secret"

_JSON = {"content-type": "application/json"}
_JSON_PURGE = {**_JSON, PURGE_PROPERTIES: "true"}


class RegistryClient(base.BaseClient):
    """A registry as one caller sees it.

    `headers` are sent with every request (identity, request id; lower-case names). Errors are
    those of `BaseClient.do_request`.
    """

    DEFAULT_PORT = 9191
    #: An image API recognises a request by it that was meant for a registry.
    USER_AGENT = "glance-registry-client"

    def __init__(self, host: str, *args: Any, headers: Mapping[str, str] | None = None, **kw: Any):
        super().__init__(host, *args, **kw)
        self._headers: Mapping[str, str] = headers or {}

    # -- images ----------------------------------------------------------------------------------

    def get_images(self, **kwargs: Any) -> list[types.BriefImage]:
        """Return a page of short records.

        `kwargs` are filters, marker, limit, sort_key and sort_dir; others are ignored.
        """
        return self._list("/images", "images", base.listing_params(kwargs))

    def get_images_detailed(self, **kwargs: Any) -> list[types.ImageRecord]:
        """Return a page of full records; arguments as for `get_images`."""
        return self._list("/images/detail", "images", base.listing_params(kwargs))

    def get_public_images(self, detail: bool, **kwargs: Any) -> bytes:
        """Return a page as the JSON document of the public API's response.

        PERF: the registry writes it, and it is not decoded on the way; the list row of tests/bench
        measures it. `detail` selects full records; other arguments are as for `get_images`.
        """
        response = self._request(
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

    def get_image(self, image_id: object) -> types.ImageRecord:
        """Return a full record, whatever the status of the image."""
        return self._image("GET", f"/images/{base.segment(image_id)}")

    def add_image(
        self,
        image_metadata: Mapping[str, Any],
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> types.ImageRecord:
        """Create a record and return it; `status` defaults to active.

        A call with an `attempt`, 32 hexadecimal digits, may be repeated with `is_repeated`: it
        then returns the record that the call before may have created.
        """
        if "image" not in image_metadata:
            image_metadata = {"image": image_metadata}
        if attempt is not None:
            image_metadata = {**image_metadata, "attempt": attempt, "repeated": is_repeated}
        return self._image("POST", "/images", image_metadata, _JSON)

    def update_image(
        self,
        image_id: object,
        image_metadata: Mapping[str, Any],
        purge_props: bool = False,
        from_state: str | None = None,
        attempt: str | None = None,
    ) -> types.ImageRecord:
        """Change the given attributes and return the record.

        `purge_props` removes the properties that are not given. With `from_state` the change is
        made only if the image has this status; otherwise Duplicate (409) is raised, unless a call
        with the same `attempt` has made it.
        """
        document = _change(image_metadata, from_state, attempt)
        headers = _JSON_PURGE if purge_props else _JSON
        return self._image("PUT", f"/images/{base.segment(image_id)}", document, headers)

    def report_upload(
        self,
        image_id: object,
        image_metadata: Mapping[str, Any],
        from_state: str,
        attempt: str | None = None,
    ) -> int | None:
        """Change a record as `update_image` does, to status saving or while it is that.

        Returns how many bytes the image may have, None for any number. Raises LimitExceeded when
        the owner's quota has no room for its size.
        """
        document = _change(image_metadata, from_state, attempt)
        path = f"/images/{base.segment(image_id)}"
        with self._request("PUT", path, document, _JSON) as response:
            response.read()
            return numbers.whole(response.getheader(ROOM) or "")

    def withdraw_image(self, attempt: str) -> types.ImageRecord:
        """Delete the record that an attempt created, unless it is used; return it.

        Raises NotFound if there is none.
        """
        return self._image("DELETE", f"/attempts/{base.segment(attempt)}")

    def delete_image(self, image_id: object) -> bool:
        """Delete an image's record."""
        self.remove_image(image_id)
        return True

    def remove_image(
        self, image_id: object, status: str | None = None, **waiting: int
    ) -> dict[str, Any]:
        """Delete a record, set its `status`, and return it (empty from an old registry).

        `waiting` may have `due_in` and `lease`, both in seconds: when the data is due for removal,
        and how long the caller reserves it in order to remove it itself.
        """
        response = self._request(
            "DELETE",
            f"/images/{base.segment(image_id)}",
            params={"status": status, **waiting},
        )
        # WIRE: a Diablo registry returns null.
        document = base.read_json(response)
        return (
            dict(document["image"]) if isinstance(document, dict) and "image" in document else {}
        )

    def restorable_image(self, image_id: object) -> types.ImageRecord:
        """Return the record of an image that may be deleted. Raises NotFound without one."""
        return self._image("GET", f"/images/{base.segment(image_id)}/restore")

    def restore_image(self, image_id: object) -> types.ImageRecord:
        """Make a deleted image active again and return its record.

        Raises NotFound without one, and Duplicate if it is in another state.
        """
        return self._image("POST", f"/images/{base.segment(image_id)}/restore")

    def postpone_scrub(
        self, image_id: object, error: str, *, dead: bool = False, location: str | None = None
    ) -> bool:
        """Leave data that could not be removed to the scrubber; True if the registry agreed."""
        left = {"error": error, "dead": dead, "location": location}
        return self._done("POST", f"/images/{base.segment(image_id)}/scrub", {"scrub": left})

    # -- images by uuid, as version 2 of the Images API needs them -------------------------------

    def find_records(self, query: search.SearchQuery) -> types.Page:
        """Return one page of full records."""
        return _page(self._request("GET", "/v2/images", params={"q": query.to_wire()}))

    def find_public_records(self, query: search.SearchQuery) -> types.PublicPage:
        """Return one page as the public API shows it.

        PERF: as for `get_public_images`.
        """
        response = self._request(
            "GET", "/v2/images", headers={PUBLIC_SHAPE: "true"}, params={"q": query.to_wire()}
        )
        if response.getheader(PUBLIC_SHAPE) == "true":
            return types.PublicPage(response.read(), response.getheader(LAST))
        page = _page(response)
        shown = json.dumps([entity.to_json(record) for record in page.images]).encode()
        last = page.images[-1]["uuid"] if page.has_more and page.images else None
        return types.PublicPage(shown, last)

    def get_record(self, uuid: str) -> types.FullRecord:
        """Return a full record."""
        return self._full("GET", _of_uuid(uuid))

    def create_record(
        self,
        values: Mapping[str, Any],
        tags: Iterable[str] = (),
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> types.FullRecord:
        """Create a queued record; Duplicate for a uuid that is or was in use.

        `attempt` and `is_repeated` as for `add_image`.
        """
        document: dict[str, Any] = {"image": {**values, "tags": list(tags)}}
        if attempt is not None:
            document.update(attempt=attempt, repeated=is_repeated)
        return self._full("POST", "/v2/images", document)

    def patch_record(
        self, uuid: str, change: types.Change, is_repeated: bool = False
    ) -> types.FullRecord:
        """Apply a delta, which the call before may have applied if this one `is_repeated`."""
        body = {**change, "repeated": True} if is_repeated else change
        return self._full("PATCH", _of_uuid(uuid), body)

    def delete_record(
        self, uuid: str, status: str | None = None, **waiting: int
    ) -> types.FullRecord:
        """Delete a record; arguments as for `remove_image`."""
        return self._full("DELETE", _of_uuid(uuid), params={"status": status, **waiting})

    def set_state(
        self, uuid: str, from_states: Iterable[str], to: str, values: Mapping[str, Any] | None
    ) -> types.FullRecord:
        """Make a step of the status."""
        state = {"from": list(from_states), "to": to, "values": dict(values or {})}
        return self._full("POST", f"{_of_uuid(uuid)}/state", {"state": state})

    def get_record_members(self, uuid: str) -> list[types.MemberRecord]:
        """Return the memberships that the caller may see, oldest first."""
        return self._list(f"{_of_uuid(uuid)}/members", "members")

    def get_record_member(self, uuid: str, member: str) -> types.MemberRecord:
        """Return one membership."""
        return self._member("GET", _of_member(uuid, member))

    def add_record_member(self, uuid: str, member: str) -> types.MemberRecord:
        """Add a member, who is pending."""
        return self._member("POST", f"{_of_uuid(uuid)}/members", {"member": member})

    def set_member_status(self, uuid: str, member: str, status: str) -> types.MemberRecord:
        """Set the status of a membership."""
        return self._member("PUT", _of_member(uuid, member), {"status": status})

    def remove_record_member(self, uuid: str, member: str) -> None:
        """End a membership."""
        self._done("DELETE", _of_member(uuid, member))

    def add_tag(self, uuid: str, tag: str) -> None:
        """Give an image a tag."""
        self._done("PUT", f"{_of_uuid(uuid)}/tags/{base.segment(tag)}")

    def remove_tag(self, uuid: str, tag: str) -> None:
        """Take a tag from an image."""
        self._done("DELETE", f"{_of_uuid(uuid)}/tags/{base.segment(tag)}")

    # -- conversions -----------------------------------------------------------------------------

    def create_conversion(
        self,
        request: types.ConversionRequest,
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> dict[str, Any]:
        """Start a conversion; return the document with the job and the record of its result.

        Raises NoConverter if no converter runs.
        """
        document: dict[str, Any] = {"conversion": request}
        if attempt is not None:
            document.update(attempt=attempt, repeated=is_repeated)
        response = self._request("POST", "/conversions", document, _JSON)
        made = base.read_json(response)
        if isinstance(made, dict) and made.get("no_converter") is True:
            raise exception.NoConverter()
        return _object(made, "conversion", "image")

    def find_conversions(self, **params: Any) -> list[types.Conversion]:
        """Return jobs, newest first; parameters that are None are left out."""
        return self._list("/conversions", "conversions", params)

    def get_conversion(self, job_id: str) -> types.Conversion:
        """Return a job."""
        return self._job("GET", _of_job(job_id))

    def cancel_conversion(self, job_id: str) -> types.Conversion:
        """Cancel a job, unless it has ended, and return it."""
        return self._job("DELETE", _of_job(job_id))

    def forget_conversion(self, job_id: str) -> None:
        """Forget a job that has ended; Duplicate (409) if it has not."""
        params = {"forget": "true"}
        with self._request("DELETE", _of_job(job_id), params=params) as response:
            response.read()

    def lease_conversions(self, lease: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Lease jobs and return a document for each."""
        response = self._request("POST", "/conversions/leases", {"lease": lease}, _JSON)
        work = base.read_json(response, "work")
        if not isinstance(work, list):
            raise exception.ClientConnectionError("The registry's response contains no list")
        return [_object(each, "conversion", "source", "image") for each in work]

    def report_conversion(self, job_id: str, progress: Mapping[str, Any]) -> types.Conversion:
        """Report what a job is at and return it."""
        return self._job("PUT", f"{_of_job(job_id)}/progress", {"progress": progress})

    def end_conversion(self, job_id: str, end: Mapping[str, Any]) -> types.Conversion:
        """End the work on a job and return it."""
        return self._job("POST", f"{_of_job(job_id)}/end", {"end": end})

    # -- members ---------------------------------------------------------------------------------

    def get_image_members(self, image_id: object) -> list[types.Member]:
        """Return the live memberships of an image: `member_id` and `can_share` each."""
        return self._list(f"/images/{base.segment(image_id)}/members", "members")

    def get_member_images(self, member_id: object) -> list[types.SharedImage]:
        """Return the images shared with a member: `image_id` and `can_share` each."""
        return self._list(f"/shared-images/{base.segment(member_id)}", "shared_images")

    def replace_members(self, image_id: object, member_data: Any) -> bool:
        """Replace the members of an image by those given; return True if the status was 204.

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
        """Add or change one membership; without `can_share` an existing one is unchanged."""
        body = None if can_share is None else {"member": {"can_share": bool(can_share)}}
        return self._done("PUT", _member(image_id, member_id), body)

    def delete_member(self, image_id: object, member_id: object) -> bool:
        """Remove one membership; return True also if there was none."""
        return self._done("DELETE", _member(image_id, member_id))

    # -- requests --------------------------------------------------------------------------------

    def _request(
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

    def _list(self, action: str, key: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        document = base.read_json(self._request("GET", action, params=params), key)
        if not isinstance(document, list):
            raise exception.ClientConnectionError("The registry's response contains no list")
        return document

    def _image(
        self,
        method: str,
        action: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> types.ImageRecord:
        document = base.read_json(self._request(method, action, body, headers), "image")
        if not isinstance(document, dict):
            raise exception.ClientConnectionError("The registry's response contains no image")
        return cast(types.ImageRecord, document)

    def _full(
        self,
        method: str,
        action: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> types.FullRecord:
        headers = None if body is None else _JSON
        response = self._request(method, action, body, headers, params)
        document = base.read_json(response, "image")
        if not isinstance(document, dict):
            raise exception.ClientConnectionError("The registry's response contains no image")
        return cast(types.FullRecord, document)

    def _member(self, method: str, action: str, body: Any = None) -> types.MemberRecord:
        headers = None if body is None else _JSON
        document = base.read_json(self._request(method, action, body, headers), "member")
        if not isinstance(document, dict):
            raise exception.ClientConnectionError("The registry's response contains no member")
        return cast(types.MemberRecord, document)

    def _job(self, method: str, action: str, body: Any = None) -> types.Conversion:
        headers = None if body is None else _JSON
        return _conversion(base.read_json(self._request(method, action, body, headers)))

    def _done(self, method: str, action: str, body: Any = None) -> bool:
        with self._request(method, action, body, _JSON if body is not None else None) as response:
            response.read()
            return response.status == 204


def _change(
    image_metadata: Mapping[str, Any], from_state: str | None, attempt: str | None
) -> Mapping[str, Any]:
    """Return the document that changes a record; `image_metadata` may be one already."""
    document = image_metadata if "image" in image_metadata else {"image": image_metadata}
    more = {"from_state": from_state, "attempt": attempt}
    return {**document, **{name: value for name, value in more.items() if value is not None}}


def _page(response: base.Response) -> types.Page:
    document = base.read_json(response)
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise exception.ClientConnectionError("The registry's response contains no list")
    return types.Page(document["images"], document.get("has_more") is True)


def _object(document: Any, *keys: str) -> dict[str, Any]:
    """Return a JSON document that has objects under these keys."""
    is_whole = isinstance(document, dict) and all(
        isinstance(document.get(key), dict) for key in keys
    )
    if not is_whole:
        raise exception.ClientConnectionError("The registry's response contains no conversion")
    return cast("dict[str, Any]", document)


def _conversion(document: Any) -> types.Conversion:
    return cast(types.Conversion, _object(document, "conversion")["conversion"])


def _of_job(job_id: str) -> str:
    return f"/conversions/{base.segment(job_id)}"


def _of_uuid(uuid: str) -> str:
    return f"/v2/images/{base.segment(uuid)}"


def _of_member(uuid: str, member: str) -> str:
    return f"{_of_uuid(uuid)}/members/{base.segment(member)}"


def _member(image_id: object, member_id: object) -> str:
    return f"/images/{base.segment(image_id)}/members/{base.segment(member_id)}"
